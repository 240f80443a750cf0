// SPDX-License-Identifier: Apache-2.0
#include "control/ctl/pcapng.h"

enum { SECTION = 0x0a0d0d0a, INTERFACE = 1, STATISTICS = 5, PACKET = 6 };
enum { LINKTYPE_ETHERNET = 1 };
enum {
	IF_NAME = 2,
	IF_TSRESOL = 9,
	SHB_USERAPPL = 4,
	EPB_FLAGS = 2,
	ISB_IFRECV = 4,
	ISB_IFDROP = 5
};

/* A block is put together here: its options are short, its packet is written behind. */
struct block {
	uint8_t bytes[512];
	size_t n;
};

static void put(struct block *b, const void *from, size_t n)
{
	if (b->n + n <= sizeof b->bytes)
		memcpy(b->bytes + b->n, from, n);
	b->n += n;
}

static void put16(struct block *b, uint16_t v)
{
	put(b, &v, sizeof v);
}

static void put32(struct block *b, uint32_t v)
{
	put(b, &v, sizeof v);
}

static void pad(struct block *b)
{
	static const uint8_t zeros[4];
	put(b, zeros, -b->n & 3);
}

static void put_option(struct block *b, uint16_t code, const void *value, size_t n)
{
	put16(b, code);
	put16(b, (uint16_t)n);
	put(b, value, n);
	pad(b);
}

static void put_time(struct block *b, uint64_t us)
{
	put32(b, (uint32_t)(us >> 32));
	put32(b, (uint32_t)us);
}

/* type, length, `head`, data padded to 4, `tail`, length again: in the writer's byte order. */
static bool write_block(FILE *to, uint32_t type, const struct block *head, struct bytes data,
	const struct block *tail)
{
	static const uint8_t zeros[4];
	const size_t padding = -data.n & 3;
	const uint32_t length = (uint32_t)(12 + head->n + data.n + padding + tail->n);
	return fwrite(&type, 4, 1, to) == 1 && fwrite(&length, 4, 1, to) == 1 &&
		fwrite(head->bytes, 1, head->n, to) == head->n &&
		fwrite(data.at, 1, data.n, to) == data.n &&
		fwrite(zeros, 1, padding, to) == padding &&
		fwrite(tail->bytes, 1, tail->n, to) == tail->n && fwrite(&length, 4, 1, to) == 1;
}

static const struct block nothing;

bool pcapng_begin(FILE *to, const char *interface, uint32_t snaplen)
{
	static const char us[] = "hikyakuctl";
	const uint8_t microseconds = 6;
	struct block section = {}, port = {};
	put32(&section, 0x1a2b3c4d);
	put16(&section, 1); /* version 1.0 */
	put16(&section, 0);
	put32(&section, UINT32_MAX), put32(&section, UINT32_MAX); /* a length that is not known */
	put_option(&section, SHB_USERAPPL, us, sizeof us - 1);
	put_option(&section, 0, "", 0);
	put16(&port, LINKTYPE_ETHERNET);
	put16(&port, 0);
	put32(&port, snaplen);
	put_option(&port, IF_NAME, interface, strnlen(interface, 64));
	put_option(&port, IF_TSRESOL, &microseconds, 1);
	put_option(&port, 0, "", 0);
	return write_block(to, SECTION, &section, BYTES_NONE, &nothing) &&
		write_block(to, INTERFACE, &port, BYTES_NONE, &nothing);
}

bool pcapng_packet(FILE *to, uint64_t time_us, bool is_out, struct bytes packet, uint32_t length)
{
	const uint32_t flags = is_out ? 2 : 1;
	struct block head = {}, options = {};
	put32(&head, 0);
	put_time(&head, time_us);
	put32(&head, (uint32_t)packet.n);
	put32(&head, length);
	put_option(&options, EPB_FLAGS, &flags, sizeof flags);
	put_option(&options, 0, "", 0);
	return write_block(to, PACKET, &head, packet, &options);
}

bool pcapng_end(FILE *to, uint64_t time_us, uint64_t received, uint64_t lost)
{
	struct block b = {};
	put32(&b, 0);
	put_time(&b, time_us);
	put_option(&b, ISB_IFRECV, &received, sizeof received);
	put_option(&b, ISB_IFDROP, &lost, sizeof lost);
	put_option(&b, 0, "", 0);
	return write_block(to, STATISTICS, &b, BYTES_NONE, &nothing) && fflush(to) == 0;
}
