// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_icmp.c: ICMP errors, as far as they can be trusted (RFC 5927, RFC 1191, RFC 8201).
 *
 * Anybody can send one, so it counts only if the sequence number it quotes is in flight. A hard error ends only
 * what is not yet established (RFC 5927 5.2); a smaller path is tcp_path.c's matter. */
#include "dataplane/tcp/tcp_private.h"

static bool is_in_flight(const struct tcp_conn *c, uint32_t seq)
{
	return seq_leq(c->snd_una, seq) && seq_lt(seq, c->snd_max);
}

/* Ends nothing, but says why if the connection is given up (RFC 9293 MUST-56, MUST-47). */
static void soft_error(struct tcp_conn *c)
{
	c->has_soft_error = true;
	tcp_count(c->stack, icmp_soft);
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
		if (seq == h->iss) {
			if (kind == TCP_ICMP_HARD)
				tcp_half_open_end(s, h);
			else
				tcp_count(s, icmp_soft);
			return;
		}
	} else if (tcp_ref_kind(ref) == TCP_CONN) {
		struct tcp_conn *c = &s->conns[tcp_ref_slot(ref)];
		if (is_in_flight(c, seq)) {
			if (kind == TCP_ICMP_HARD && !tcp_is_synchronized(c))
				tcp_conn_end(c, TCP_END_UNREACHABLE);
			else if (kind == TCP_ICMP_TOO_BIG)
				tcp_path_too_big(c, mtu);
			else
				soft_error(c);
			return;
		}
	}
	tcp_drop_count_one(s, TCP_DROP_icmp_unmatched);
}
