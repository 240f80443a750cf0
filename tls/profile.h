// SPDX-License-Identifier: Apache-2.0
/* tls/profile.h: what a connection's TLS must be, resolved from the rules. Plain data: a session copies
 * the profile that was resolved for it and holds no pointer into a generation, which may be gone before it. */
#pragma once

#include "base/bytes.h"

/* In order of strictness: a larger level never allows what a smaller one forbids. */
#define TLS_LEVELS(_)                                                                               \
	_(NONE, "none")       /* clear text only; STARTTLS is neither offered nor used */           \
	_(MAY, "may")         /* opportunistic (RFC 7435): TLS if the peer can, unauthenticated */  \
	_(ENCRYPT, "encrypt") /* never without TLS; the peer's certificate does not matter */       \
	_(VERIFY, "verify")   /* trusted by the CA set; with `names`, also one of these names */    \
	_(SECURE, "secure")   /* trusted, and naming the MX host or the next-hop domain */

enum tls_level {
#define _(id, text) TLS_LEVEL_##id,
	TLS_LEVELS(_)
#undef _
};

#define TLS_GRADES(_)                                                                               \
	_(MEDIUM, "medium") /* forward secrecy, CBC suites on TLS 1.2 too */                        \
	_(HIGH, "high")     /* forward secrecy, 128 bits and more, of OpenSSL's HIGH */             \
	_(MODERN, "modern") /* AEAD only */

enum tls_grade {
#define _(id, text) TLS_GRADE_##id,
	TLS_GRADES(_)
#undef _
};

/* Protocol versions as on the wire (RFC 8446 4.2.1), so that they compare. */
enum { TLS_1_0 = 0x0301, TLS_1_1 = 0x0302, TLS_1_2 = 0x0303, TLS_1_3 = 0x0304 };

enum tls_client_cert { TLS_CLIENT_CERT_NONE, TLS_CLIENT_CERT_ASK, TLS_CLIENT_CERT_REQUIRE };
/* What an opportunistic delivery does after a failed handshake. */
enum tls_fallback { TLS_FALLBACK_CLEAR, TLS_FALLBACK_NEXT_HOST, TLS_FALLBACK_DEFER };
/* How a peer that does not meet the profile is answered: 4yz and later again, or 5yz at once. */
enum tls_on_failure { TLS_FAIL_TEMPORARY, TLS_FAIL_PERMANENT };

#define TLS_PROFILE_NAME_MAX 64
#define TLS_NAMES_BYTES_MAX  512
#define TLS_GROUPS_MAX	     128

struct tls_profile {
	char id[TLS_PROFILE_NAME_MAX]; /* the profile's own name, for records */
	uint32_t index;		       /* its place in the generation: which contexts to use */
	uint8_t level;		       /* enum tls_level */
	uint8_t grade;		       /* enum tls_grade */
	uint8_t client_cert;	       /* enum tls_client_cert */
	uint8_t fallback;	       /* enum tls_fallback */
	uint8_t on_failure;	       /* enum tls_on_failure */
	uint16_t protocol_lowest, protocol_highest; /* TLS_1_x; highest 0: no bound */
	uint16_t bits_least;			    /* of the cipher's strength; 0: no bound */
	uint32_t remember_seconds;		    /* how long a host's broken TLS is remembered */
	char groups[TLS_GROUPS_MAX]; /* OpenSSL's list; empty: X25519MLKEM768:X25519:P-256:P-384 */
	char names[TLS_NAMES_BYTES_MAX]; /* for VERIFY: NUL-separated, ended by an empty one;
					    ".example.test" is any host below example.test */
};

static inline const char *tls_level_name(enum tls_level level)
{
	static const char *const names[] = {
#define _(id, text) text,
		TLS_LEVELS(_)
#undef _
	};
	return names[level];
}

static inline const char *tls_grade_name(enum tls_grade grade)
{
	static const char *const names[] = {
#define _(id, text) text,
		TLS_GRADES(_)
#undef _
	};
	return names[grade];
}
