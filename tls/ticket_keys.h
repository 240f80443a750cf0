// SPDX-License-Identifier: Apache-2.0
/* tls/ticket_keys.h: the keys of session tickets (RFC 5077 4, RFC 8446 4.6.1) and their times. Plain data, as
 * control hands it to relays.
 *
 * Which key encrypts is chosen by time, so that all cores and processes that have the same keys change at the
 * same moment without a word, and so that a key that nobody replaces ends all the same:
 *
 *      previous  |== encrypts ==|-- accepted --|
 *      current                  |== encrypts ==|-- accepted --|
 *      next                                    |== encrypts ==|-- accepted --|
 *                from           until          end
 */
#pragma once

#include <stdint.h>
#include <time.h>

/* Three generations, and those of a control or relay that came back with keys of its own. */
#define TLS_TICKET_KEYS_MAX 8

struct tls_ticket_key {
	uint8_t name[16];   /* key_name (RFC 5077 4): random, in the ticket in clear */
	uint8_t cipher[32]; /* AES-256-CBC */
	uint8_t mac[32];    /* HMAC-SHA256 */
	/* Seconds of tls_ticket_now(): */
	uint64_t from, until; /* encrypts from `from` on and before `until` */
	uint64_t end;	      /* decrypts before it, also before `from`: others' clocks may be ahead */
};

struct tls_ticket_keys {
	uint32_t count;
	uint32_t lifetime_seconds; /* how long after its ticket was made a session may be resumed */
	struct tls_ticket_key at[TLS_TICKET_KEYS_MAX];
};

/* Seconds since the machine was started. Keys are kept in memory alone, so they never outlive that; and this clock
 * is nobody's to set. */
static inline uint64_t tls_ticket_now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec;
}
