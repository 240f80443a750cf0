// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_icmp.c: ICMP errors, as far as they can be trusted (RFC 5927, RFC 1191, RFC 8201).
 *
 * Anybody can send one, so it counts only if the sequence number it quotes is in flight. A hard error ends only
 * what is not yet established (RFC 5927 5.2); a smaller path lowers the segment size, to a floor. */
#include "dataplane/tcp/tcp_private.h"

/* Where the router does not say how large (RFC 1191 7): the next plateau down, those below ours left out. */
static uint32_t guess_mtu(const struct tcp_conn *c)
{
	static const uint16_t plateaus[] = {32000, 17914, 8166, 4352, 2002, 1492, 1280, 1006, TCP_PACKET_MIN_V4};
	const uint32_t now = c->mss + 40u + (c->has_ts ? 12 : 0);
	for (unsigned i = 0; i < RTE_DIM(plateaus); i++)
		if (plateaus[i] < now)
			return plateaus[i];
	return TCP_PACKET_MIN_V4;
}

static void too_big(struct tcp_conn *c, uint32_t mtu)
{
	const uint32_t least = addr_is_ipv4(&c->tuple.remote) ? TCP_PACKET_MIN_V4 : TCP_PACKET_MIN_V6;
	const uint16_t before = c->mss;
	if (mtu == 0)
		mtu = guess_mtu(c);
	if (c->stack->config.learn_path_mtu != NULL)
		c->stack->config.learn_path_mtu(c->stack->config.user, &c->tuple.remote, mtu);
	tcp_mss_update(c, max_u32(mtu, least));
	if (c->mss >= before) {
		c->mss = before; /* never up */
		return;
	}
	if (c->flight != NULL && c->phase == TCP_OPEN) {
		tcp_scoreboard_all_lost(c); /* all of it may be, but not to congestion */
		tcp_dirty(c);
	}
}

static bool is_in_flight(const struct tcp_conn *c, uint32_t seq)
{
	return seq_leq(c->snd_una, seq) && seq_lt(seq, c->snd_max);
}

void tcp_icmp_error(struct tcp_stack *s, const struct addr *local, const struct addr *remote,
	struct bytes quoted, enum tcp_icmp kind, uint32_t mtu, uint64_t now_us)
{
	s->now_us = now_us;
	if (quoted.n < 8) {
		tcp_drop_count_one(s, TCP_DROP_icmp_unmatched);
		return;
	}
	const uint8_t *q = quoted.at;
	const struct tcp_tuple t = {*local, *remote, (uint16_t)(q[0] << 8 | q[1]), (uint16_t)(q[2] << 8 | q[3])};
	const uint32_t seq = (uint32_t)q[4] << 24 | (uint32_t)q[5] << 16 | (uint32_t)q[6] << 8 | q[7];
	const tcp_ref ref = tcp_table_find(s, &t, tcp_tuple_hash(s, &t));
	if (tcp_ref_kind(ref) == TCP_HALF_OPEN) {
		struct tcp_half_open *h = &s->half_opens[tcp_ref_slot(ref)];
		if (seq == h->iss && kind == TCP_ICMP_HARD) {
			tcp_half_open_end(s, h);
			return;
		}
	} else if (tcp_ref_kind(ref) == TCP_CONN) {
		struct tcp_conn *c = &s->conns[tcp_ref_slot(ref)];
		if (is_in_flight(c, seq)) {
			if (kind == TCP_ICMP_HARD && !tcp_is_synchronized(c))
				tcp_conn_end(c, TCP_END_UNREACHABLE);
			else if (kind == TCP_ICMP_TOO_BIG)
				too_big(c, mtu);
			return;
		}
	}
	tcp_drop_count_one(s, TCP_DROP_icmp_unmatched);
}
