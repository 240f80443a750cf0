// SPDX-License-Identifier: Apache-2.0
#include "tests/wire/packet.h"

uint8_t *packet_put(uint8_t *p, uint32_t v, unsigned bytes)
{
	while (bytes-- > 0)
		*p++ = (uint8_t)(v >> (8 * bytes));
	return p;
}

uint32_t packet_get(const uint8_t *p, unsigned bytes)
{
	uint32_t v = 0;
	while (bytes-- > 0)
		v = v << 8 | *p++;
	return v;
}

static uint64_t sum_of(struct bytes b)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < b.n; i++)
		sum += i % 2 ? b.at[i] : (uint64_t)b.at[i] << 8;
	return sum;
}

/* The Internet checksum of TCP (or another protocol), 0 over a range whose sum is right. By the book: the 12 bytes of
 * IPv4's pseudo-header or the 40 of IPv6's. */
static uint16_t sum_with_header(const struct addr *source, const struct addr *destination, uint8_t protocol, struct bytes b)
{
	uint8_t pseudo[40], *p = pseudo;
	if (addr_is_ipv4(source)) {
		memcpy(p, addr_ipv4(source), 4);
		memcpy(p + 4, addr_ipv4(destination), 4);
		p = packet_put(packet_put(p + 8, protocol, 2), (uint32_t)b.n, 2);
	} else {
		memcpy(p, source->b, 16);
		memcpy(p + 16, destination->b, 16);
		p = packet_put(packet_put(p + 32, (uint32_t)b.n, 4), protocol, 4);
	}
	uint64_t sum = sum_of(bytes_of(pseudo, (size_t)(p - pseudo))) + sum_of(b);
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

size_t packet_encode(const struct packet *s, uint8_t *to)
{
	uint8_t *p = packet_put(packet_put(to, s->from, 2), s->to, 2);
	p = packet_put(packet_put(p, s->seq, 4), s->ack, 4);
	const unsigned words = 5 + (s->options_size + 3) / 4;
	p = packet_put(p, (s->offset >= 0 ? (unsigned)s->offset : words) << 4 | s->reserved, 1);
	p = packet_put(p, s->flags, 1);
	p = packet_put(packet_put(packet_put(p, s->window, 2), 0, 2), s->urgent, 2);
	memset(p, 0, words * 4 - 20); /* what options leave of their last word is End of Option List */
	memcpy(p, s->options, s->options_size);
	p = to + words * 4;
	if (s->text.n > 0)
		memcpy(p, s->text.at, s->text.n);
	size_t n = words * 4 + s->text.n;
	n -= s->cut < n ? s->cut : n;
	if (n >= 18) {
		uint16_t sum = sum_with_header(&s->source, &s->destination, 6, bytes_of(to, n));
		packet_put(to + 16, (uint16_t)(sum + s->is_sum_wrong), 2);
	}
	return n;
}

const char *packet_decode(
	struct packet *s, const struct addr *source, const struct addr *destination, struct bytes from)
{
	const uint8_t *p = from.at;
	*s = (struct packet){.source = *source, .destination = *destination, .offset = -1};
	if (from.n < 20)
		return "shorter than a header";
	if (sum_with_header(source, destination, 6, from) != 0)
		return "wrong checksum";
	const size_t header = (p[12] >> 4) * 4u;
	if (header < 20 || header > from.n)
		return "wrong data offset";
	s->from = (uint16_t)packet_get(p, 2);
	s->to = (uint16_t)packet_get(p + 2, 2);
	s->seq = packet_get(p + 4, 4);
	s->ack = packet_get(p + 8, 4);
	s->reserved = p[12] & 15;
	s->flags = p[13];
	s->window = (uint16_t)packet_get(p + 14, 2);
	s->urgent = (uint16_t)packet_get(p + 18, 2);
	s->options_size = (unsigned)header - 20;
	memcpy(s->options, p + 20, s->options_size);
	s->text = bytes_skip(from, header);
	return s->reserved != 0 ? "reserved bits are set" : NULL; /* RFC 9293 3.1 */
}

bool packet_option(const struct packet *p, unsigned *at, struct option *option)
{
	const uint8_t *o = p->options;
	while (*at < p->options_size && o[*at] == 1)
		++*at;
	const unsigned left = p->options_size - *at;
	if (left < 2 || o[*at] == 0 || o[*at + 1] < 2 || o[*at + 1] > left)
		return false;
	*option = (struct option){o[*at], bytes_of(o + *at + 2, o[*at + 1] - 2u)};
	*at += o[*at + 1];
	return true;
}

static const struct {
	char letter;
	uint8_t flag;
} letters[] = {
	{'S', FLAG_SYN},
	{'F', FLAG_FIN},
	{'R', FLAG_RST},
	{'P', FLAG_PSH},
	{'U', FLAG_URG},
	{'E', FLAG_ECE},
	{'W', FLAG_CWR},
	{'.', FLAG_ACK},
};

const char *packet_flags(uint8_t flags, char text[10])
{
	char *p = text;
	for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
		if (flags & letters[i].flag)
			*p++ = letters[i].letter;
	if (p == text)
		*p++ = '-';
	*p = '\0';
	return text;
}

bool packet_parse_flags(const char *text, size_t n, uint8_t *flags)
{
	*flags = 0;
	if (n == 1 && *text == '-')
		return true;
	for (size_t k = 0; k < n; k++) {
		size_t i = 0;
		while (i < sizeof letters / sizeof *letters && letters[i].letter != text[k])
			i++;
		if (i == sizeof letters / sizeof *letters)
			return false;
		*flags |= letters[i].flag;
	}
	return n > 0;
}
