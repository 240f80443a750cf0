// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_cookie.c: SYN cookies (RFC 4987 3.6): a passive open of which nothing is kept.
 *
 * Sent only where the SYN cache is full of entries that may still be answered. Everything the connection needs is
 * in the SYN-ACK, and comes back in the ACK of it:
 *
 *   ISN    29 bits of SipHash over 4-tuple, peer's ISN and period; 3 bits: which of eight segment sizes
 *   TSval  the low 6 bits, if the peer sent timestamps: window scale (15: none), SACK permitted, ECN; else
 *          there is no window scale, no SACK and no ECN
 *
 * A period is 64 s and has a key of its own, made from the stack's secret; those of this period and the one
 * before are good. Two blind ACKs in 2^29 are let through, and only while cookies are out: at other times an ACK
 * to a listener is not looked at. With timestamps the echo must be one of ours from that time as well.
 *
 * The price: nothing is sent again. A client whose SYN-ACK was lost sends its SYN again; but one whose ACK was
 * lost takes itself for connected, and in SMTP the server speaks first, so it would wait for its own time-out.
 * Three things keep that rare: stale entries make room in the cache first, so that it takes a flood that fills
 * the cache within the 3 s until they are stale; the cookie is also accepted from whatever the client sends next,
 * be it text or a keepalive probe with the sequence number before it (RFC 9293 3.8.4), for two minutes; and what
 * comes later is answered with RST, so that the client need not wait any longer. */
#include "dataplane/tcp/tcp_private.h"

#include "dataplane/tcp/tcp_hash.h"

#define COOKIE_PURPOSE 4 /* beside those of tcp_open.c */
#define OPTION_BITS    6
#define OPTION_MASK    ((1u << OPTION_BITS) - 1)
#define WSCALE_NONE    15u
#define SACK_BIT       16u
#define ECN_BIT	       32u

/* Those of Ethernet, PPPoE, tunnels and the IPv6 minimum, and what every path carries. */
static const uint16_t sizes[8] = {TCP_MSS_MIN, 536, 1220, 1360, 1400, 1440, 1452, 1460};

static uint64_t period_of(const struct tcp_stack *s)
{
	return s->now_us / TCP_COOKIE_PERIOD_US;
}

static const uint8_t *key_of(struct tcp_stack *s, uint64_t period)
{
	struct tcp_cookie_key *k = &s->cookie_keys[period % 2];
	if (k->period != period + 1) {
		for (uint64_t half = 0; half < 2; half++) {
			const uint64_t words[3] = {COOKIE_PURPOSE, period, half};
			const uint64_t part = siphash(s->config.secret, words, 3, 2, 4);
			memcpy(k->key + 8 * half, &part, sizeof part);
		}
		k->period = period + 1;
	}
	return k->key;
}

static uint32_t isn_of(struct tcp_stack *s, const struct tcp_tuple *tuple, uint32_t irs, uint64_t period,
	unsigned size_index)
{
	uint64_t words[5];
	static_assert(sizeof *tuple + sizeof irs == sizeof words);
	memcpy(words, tuple, sizeof *tuple);
	memcpy((uint8_t *)words + sizeof *tuple, &irs, sizeof irs);
	const uint64_t mac = siphash(key_of(s, period), words, 5, 2, 4);
	return (uint32_t)mac ^ size_index;
}

static unsigned size_index(const struct tcp_half_open *h)
{
	const uint32_t wanted = tcp_peer_mss(&h->tuple, h->peer_mss);
	unsigned i = RTE_DIM(sizes) - 1;
	while (i > 0 && sizes[i] > wanted)
		i--;
	return i;
}

static uint32_t option_bits(const struct tcp_half_open *h)
{
	return (h->has_wscale ? h->snd_wscale : WSCALE_NONE) | (h->has_sack ? SACK_BIT : 0) |
		(h->has_ecn ? ECN_BIT : 0);
}

static void set_options(struct tcp_half_open *h, uint32_t bits)
{
	h->has_wscale = (bits & 15) != WSCALE_NONE;
	h->snd_wscale = (uint8_t)(h->has_wscale ? bits & 15 : 0);
	h->has_sack = bits & SACK_BIT;
	h->has_ecn = bits & ECN_BIT;
}

uint32_t tcp_cookie_make(struct tcp_stack *s, struct tcp_half_open *h)
{
	const uint64_t period = period_of(s);
	const uint32_t now = tcp_ts_now(s, tcp_ts_offset(s, &h->tuple));
	if (!h->has_ts)
		set_options(h, WSCALE_NONE);
	h->iss = isn_of(s, &h->tuple, h->irs, period, size_index(h));
	s->cookies_until_us = (period + 2) * TCP_COOKIE_PERIOD_US;
	/* Never in the future, or the connection's own clock would seem to go back (PAWS). */
	const uint32_t tsval = (now & ~OPTION_MASK) | option_bits(h);
	return seq_gt(tsval, now) ? tsval - (1u << OPTION_BITS) : tsval;
}

/* With what the segment would be if the peer's ISN was `irs`. */
static bool is_ours(struct tcp_stack *s, const struct tcp_segment *seg, uint32_t irs, struct tcp_half_open *h)
{
	const uint32_t iss = seg->ack - 1;
	for (uint64_t back = 0; back < 2 && back <= period_of(s); back++) {
		const uint32_t difference = isn_of(s, &seg->tuple, irs, period_of(s) - back, 0) ^ iss;
		if (difference < RTE_DIM(sizes)) {
			h->irs = irs;
			h->iss = iss;
			h->peer_mss = sizes[difference];
			return true;
		}
	}
	return false;
}

/* What the peer echoes must have been sent as long ago as a cookie is good. */
static bool is_echo_possible(const struct tcp_stack *s, const struct tcp_segment *seg)
{
	const uint32_t age = tcp_ts_now(s, tcp_ts_offset(s, &seg->tuple)) - seg->tsecr;
	return age <= 2 * TCP_COOKIE_PERIOD_US / 1000 + (1u << OPTION_BITS);
}

bool tcp_cookie_check(struct tcp_stack *s, struct tcp_segment *seg, struct tcp_half_open *h)
{
	*h = (struct tcp_half_open){.tuple = seg->tuple, .snd_wnd = seg->window, .has_ts = seg->has_ts};
	if (s->now_us >= s->cookies_until_us || (seg->has_ts && !is_echo_possible(s, seg)))
		return false;
	if (!is_ours(s, seg, seg->seq - 1, h)) {
		if (seg->text > 1 || !is_ours(s, seg, seg->seq, h))
			return false;
		/* a keepalive probe */
		seg->seq++;
		seg->skip += seg->text;
		seg->text = 0;
	}
	h->ts_recent = seg->tsval;
	set_options(h, seg->has_ts ? seg->tsecr & OPTION_MASK : WSCALE_NONE);
	return true;
}
