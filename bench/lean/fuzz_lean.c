// SPDX-License-Identifier: Apache-2.0
/* Bytes of a server into the lean client. The first byte says how: bit 0: TLS 1.2; bit 1: a few
 * bytes at a time; bit 2: with no room for our answers; bit 3: they are messages that come after a
 * good ServerHello, as if out of protected records; bit 4: the handshake is done already. */
#include "bench/lean/lean_private.h"

#include <assert.h>

#include "tls/lab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct lean *leans[2];

static void make_leans(void)
{
	char error[256];
	leans[0] = lean_create(
		&(struct lean_config){TLS_1_3, "X25519", "mx.example.test", true}, error);
	leans[1] = lean_create(
		&(struct lean_config){TLS_1_2, "X25519:P-256", "mx.example.test", true}, error);
	assert(leans[0] != NULL && leans[1] != NULL);
}

static bool is_left(const struct lab_wire *w)
{
	return w->head < w->tail;
}

static void feed_records(
	struct lean_slot *s, struct lab_link *link, const uint8_t *data, size_t size)
{
	static uint8_t room[2 * LEAN_READ_BYTES];
	size_t unread, n;
	lab_wire_write(&link->down, data, size);
	do {
		unread = link->down.tail - link->down.head;
		if (lean_handshake(s) == TLS_FAIL ||
			lean_read(s, room, sizeof room, &n) == TLS_FAIL)
			break;
		lean_flush(s);
	} while (is_left(&link->down) && link->down.tail - link->down.head < unread);
}

static void say_hello(struct lean_slot *s, bool is_12)
{
	static const uint8_t share_13[] = {0, 43, 0, 2, 3, 4, 0, 51, 0, 36, 0, 29, 0, 32};
	uint8_t hello[160] = {LEAN_SERVER_HELLO}, *at = hello + 4;
	at = lean_put(at, 0x0303, 2) + 32;
	if (!is_12) {
		*at++ = 32;
		memcpy(at, s->hello + LEAN_HEADER_BYTES + 6 + 33, 32);
		at += 32;
	} else {
		*at++ = 0;
	}
	at = lean_put(lean_put(at, is_12 ? 0xc02f : 0x1301, 2), 0, 1);
	at = lean_put(at, is_12 ? 0 : sizeof share_13 + 32, 2);
	if (!is_12) {
		memcpy(at, share_13, sizeof share_13);
		memset(at + sizeof share_13, 5, 32);
		at += sizeof share_13 + 32;
	}
	lean_put(hello + 1, (size_t)(at - hello) - 4, 3);
	assert(lean_messages(s, bytes_of(hello, (size_t)(at - hello))));
}

static void feed_messages(struct lean_slot *s, const uint8_t *data, size_t size, uint8_t how)
{
	assert(lean_handshake(s) == TLS_AGAIN);
	say_hello(s, how & 1);
	if (how & 16)
		s->state = LEAN_AT_OPEN;
	for (size_t step; size != 0; data += step, size -= step) {
		step = how & 2 ? 1 + size % 3 : size;
		if (step > size)
			step = size;
		if (!lean_messages(s, bytes_of(data, step)))
			break;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (leans[0] == NULL)
		make_leans();
	if (size == 0)
		return 0;
	uint8_t how = data[0];
	struct lean_slot *s = lean_slot_create(leans[how & 1]);
	struct tls_verdict verdict;
	for (int again = 0; again < 2;
		again++) { /* the second time with what the first left: a ticket */
		struct lab_link link;
		lab_link_init(&link);
		link.down.read_most = how & 2 ? 3 : SIZE_MAX;
		link.up.room = how & 4 ? 2 : SIZE_MAX;
		lean_open(s, lab_client_io(&link));
		if (how & 8)
			feed_messages(s, data + 1, size - 1, how);
		else
			feed_records(s, &link, data + 1, size - 1);
		lean_get_verdict(s, &verdict);
		lean_close(s);
		lab_link_fini(&link);
	}
	lean_slot_destroy(s);
	return 0;
}
