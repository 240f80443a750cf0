// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_path.c: how large a segment the path takes: what ICMP says (RFC 1191, RFC 8201), what silence
 * says (RFC 2923 2.1, in the spirit of RFC 8899), and larger again.
 *
 * Too big: the router's word, once tcp_icmp.c trusts it, lowers the MSS, and all is sent again at once.
 *
 * A black hole: a router drops what is too big and its word never comes. Where the timer has fired three times in
 * a row for one segment, smaller ones are tried, a step at a time: Ethernet, the IPv6 minimum, and with IPv4 what
 * every host takes. If one gets through, that is the path from here on, and other connections to the same host hear
 * of it. If none does, it was no matter of size: the old one is back, for as long as nothing gets through.
 *
 * Ten minutes later the connection asks anew and may try larger segments (RFC 1191 6.3, RFC 8201 4); if they are
 * still too big, it goes down again by either way. */
#include "dataplane/tcp/tcp_private.h"

static uint16_t now_s(const struct tcp_conn *c)
{
	return (uint16_t)(c->stack->now_us / 1000000);
}

static uint32_t mtu_of(const struct tcp_conn *c, uint32_t mss)
{
	return mss + (addr_is_ipv4(&c->tuple.remote) ? 20 + 20 : 40 + 20) + (c->has_ts ? 12 : 0);
}

/* Larger segments, for which the windows have to have room: they count bytes, but one segment may always go, and
 * two are the least after a loss (RFC 5681 3.1, equation 4), also after one of smaller segments. */
static void widen(struct tcp_conn *c, uint16_t mss)
{
	c->mss = mss;
	c->cwnd = max_u32(c->cwnd, mss);
	c->ssthresh = max_u32(c->ssthresh, 2u * mss);
}

static void note_narrow(struct tcp_conn *c)
{
	c->is_path_narrow = true;
	c->narrow_since_s = now_s(c);
}

static void learn(struct tcp_conn *c, uint32_t mtu)
{
	const struct tcp_config *config = &c->stack->config;
	if (config->learn_path_mtu != NULL)
		config->learn_path_mtu(config->user, &c->tuple.remote, mtu);
}

/* ---- the router says so ---- */

/* Where it does not say how large (RFC 1191 7): the next plateau down, those below ours left out. */
static uint32_t guess_mtu(const struct tcp_conn *c)
{
	static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1280, 1006, TCP_PACKET_MIN_V4};
	for (unsigned i = 0; i < RTE_DIM(plateaus); i++)
		if (plateaus[i] < mtu_of(c, c->mss))
			return plateaus[i];
	return TCP_PACKET_MIN_V4;
}

void tcp_path_too_big(struct tcp_conn *c, uint32_t mtu)
{
	const uint32_t least = addr_is_ipv4(&c->tuple.remote) ? TCP_PACKET_MIN_V4 : TCP_PACKET_MIN_V6;
	const uint16_t before = c->mss;
	if (mtu == 0)
		mtu = guess_mtu(c);
	learn(c, mtu);
	tcp_mss_update(c, max_u32(mtu, least));
	if (c->mss >= before) {
		c->mss = before; /* never up */
		return;
	}
	tcp_count(c->stack, path_too_big);
	note_narrow(c);
	c->mss_tried_from = 0; /* no black hole: it speaks */
	if (c->flight != NULL && c->phase == TCP_OPEN) {
		tcp_scoreboard_all_lost(c); /* all of it may be, but not to congestion */
		tcp_dirty(c);
	}
}

/* ---- nobody says anything ---- */

/* Makes segments one step smaller, and smaller than `len`; false: they are as small as they get. */
static bool step_down(struct tcp_conn *c, uint16_t len)
{
	static const uint16_t steps[] = {1500, TCP_PACKET_MIN_V6, TCP_PACKET_MIN_V4};
	const uint16_t before = c->mss;
	const unsigned count = addr_is_ipv4(&c->tuple.remote) ? 3 : 2;
	for (unsigned i = 0; i < count; i++) {
		tcp_mss_update(c, steps[i]);
		if (c->mss < before && c->mss < len)
			return true;
	}
	c->mss = before;
	return false;
}

void tcp_path_timeout(struct tcp_conn *c)
{
	const uint16_t before = c->mss;
	if (c->backoff < TCP_BLACK_HOLE_TIMEOUTS || (c->backoff - TCP_BLACK_HOLE_TIMEOUTS) % TCP_BLACK_HOLE_STEP != 0 ||
		c->has_tried_smaller || c->send.head == NULL)
		return;
	if (step_down(c, tcp_mark(c->stack, c->send.head)->len)) {
		tcp_count(c->stack, path_black_holes);
		if (c->mss_tried_from == 0)
			c->mss_tried_from = before;
	} else if (c->mss_tried_from != 0) {
		tcp_count(c->stack, path_no_black_holes);
		widen(c, c->mss_tried_from);
		c->mss_tried_from = 0;
		c->has_tried_smaller = true;
	}
}

/* ---- something got through ---- */

void tcp_path_progress(struct tcp_conn *c)
{
	c->has_tried_smaller = false;
	if (c->mss_tried_from != 0) {
		c->mss_tried_from = 0;
		note_narrow(c);
		learn(c, mtu_of(c, c->mss));
	}
	if (c->is_path_narrow && (uint16_t)(now_s(c) - c->narrow_since_s) >= TCP_PATH_AGE_S) {
		const uint16_t before = c->mss;
		tcp_mss_update(c, UINT16_MAX); /* as far as others have not been told the same since */
		if (c->mss > before) {
			widen(c, c->mss);
			tcp_count(c->stack, path_widened);
		}
		c->narrow_since_s = now_s(c);
	}
}
