// SPDX-License-Identifier: Apache-2.0
/* tests/sim/sim_watch.c: what must be true of every segment that leaves a stack, by what was written and by what has reached it,
 * not by what it believes. */
#include "tests/sim/sim.h"

static void trace_segment(struct sim *s, unsigned from, const struct half *h, const struct kit_segment *seg)
{
	const struct half *peer = h == NULL ? NULL : &h->talk->half[!from];
	if (s->trace == NULL)
		return;
	sim_trace(s, "%u %u>%u %s%s%s%s%s%s%s seq %u (%u) ack %u (%u) win %u text %zu ts %u %u", from, seg->from, seg->to,
		seg->flags & KIT_SYN ? "S" : "", seg->flags & KIT_FIN ? "F" : "", seg->flags & KIT_RST ? "R" : "",
		seg->flags & KIT_PSH ? "P" : "", seg->flags & KIT_ECE ? "E" : "", seg->flags & KIT_CWR ? "W" : "",
		seg->flags & KIT_ACK ? "." : "", seg->seq,
		h == NULL ? 0 : seg->seq - h->iss, seg->ack, peer == NULL ? 0 : seg->ack - peer->iss,
		seg->window, seg->text.n, seg->tsval, seg->tsecr);
}

static void note_syn(struct half *h, const struct kit_segment *seg)
{
	if (h->has_iss && h->iss == seg->seq)
		return;
	h->has_iss = true;
	h->iss = seg->seq;
	h->sent_max = seg->seq + 1;
	h->has_acked = h->has_edge = false;
	h->tsval = seg->tsval;
}

/* What is sent is what was written, at its place, and within the window that the other side offered. */
static void watch_text(struct sim *s, struct half *h, const struct kit_segment *seg)
{
	const uint32_t at = seg->seq - h->iss - 1, n = (uint32_t)seg->text.n;
	if (!h->has_iss)
		sim_fail(s, "side %u sends text before a SYN", h->side);
	if (at > h->written || n > h->written - at)
		sim_fail(s, "side %u sends bytes %u to %u of %u", h->side, at, at + n, h->written);
	for (uint32_t done = 0; done < n;) {
		const struct bytes want = bytes_first(sim_stream(h, at + done), n - done);
		if (memcmp(want.at, seg->text.at + done, want.n) != 0)
			sim_fail(s, "side %u sends wrong bytes at %u", h->side, at + done);
		done += (uint32_t)want.n;
	}
	if (n != 0 && h->has_peer_edge && seq_gt(seg->seq + n, h->peer_edge))
		sim_fail(s, "side %u sends %u bytes beyond the window", h->side, seg->seq + n - h->peer_edge);
	if (h->mss != 0 && n > max_u32(h->mss, TCP_MSS_MIN))
		sim_fail(s, "side %u sends %u bytes, and the other side takes %u", h->side, n, h->mss);
	if (seg->flags & KIT_FIN && (!h->closed || at + n != h->to_write))
		sim_fail(s, "side %u sends FIN at %u of %u", h->side, at + n, h->to_write);
}

static void watch_numbers(struct sim *s, struct half *h, const struct kit_segment *seg)
{
	const struct half *peer = &h->talk->half[!h->side];
	const uint32_t end = seg->seq + (uint32_t)seg->text.n + !!(seg->flags & KIT_FIN);
	if (h->has_iss && seq_gt(end, h->sent_max))
		h->sent_max = end;
	if (seg->flags & KIT_ACK && h->conn != NULL) {
		if (peer->has_iss && seq_gt(seg->ack, peer->sent_max))
			sim_fail(s, "side %u acknowledges %u bytes never sent", h->side, seg->ack - peer->sent_max);
		if (h->has_acked && seq_lt(seg->ack, h->acked))
			sim_fail(s, "side %u takes back an ACK", h->side);
		h->has_acked = true;
		h->acked = seg->ack;
	}
	if (seg->has_ts && h->conn != NULL) {
		if (h->tsval != 0 && seq_lt(seg->tsval, h->tsval))
			sim_fail(s, "side %u: its timestamps go back", h->side);
		h->tsval = seg->tsval;
	}
}

/* The right edge only moves right, a SYN's apart, which cannot say more than 65535; rounding by the scale may hide
 * less than a unit of it. */
static void watch_window(struct sim *s, struct half *h, const struct kit_segment *seg, struct flight *f)
{
	const bool is_syn = seg->flags & KIT_SYN;
	if (!(seg->flags & KIT_ACK) || (h->conn == NULL && !is_syn))
		return; /* before and after the connection nobody here knows the scale */
	const unsigned scale = is_syn ? 0 : h->conn->rcv_wscale;
	f->has_edge = true;
	f->edge = seg->ack + ((uint32_t)seg->window << scale);
	if (h->has_edge && !is_syn && seq_lt(f->edge + (1u << scale) - 1, h->edge))
		sim_fail(s, "side %u takes back %u bytes of its window", h->side, h->edge - f->edge);
	if (!h->has_edge || seq_gt(f->edge, h->edge))
		h->edge = f->edge;
	h->has_edge = true;
}

/* RFC 3168: marked as capable is only new text, and only where both sides want it and nobody has interfered. */
static void watch_ecn(struct sim *s, const struct half *h, const struct kit_segment *seg, const struct tcp_departure *d)
{
	if (d->ecn == 0)
		return;
	if (d->ecn != TCP_ECN_ECT0 || s->o.ecn != 3 || s->o.bleach)
		sim_fail(s, "side %u sends ECN bits %u", h->side, d->ecn);
	if (seg->text.n == 0 || seg->flags & KIT_SYN || seq_lt(seg->seq, h->sent_max))
		sim_fail(s, "side %u marks as capable what is not new text", h->side);
}

void sim_watch_departure(struct sim *s, struct half *h, const struct tcp_departure *d, struct flight *f)
{
	struct kit_segment seg;
	const unsigned from = !f->to;
	if (d->m->nb_segs != 1 || d->m->pkt_len != d->m->data_len)
		sim_fail(s, "side %u sends chained mbufs", from);
	if (!kit_decode(&seg, &d->local, &d->remote, bytes_of(rte_pktmbuf_mtod(d->m, void *), d->m->data_len)))
		sim_fail(s, "side %u sends a segment that is wrong in itself", from);
	trace_segment(s, from, h, &seg);
	const uint32_t header = s->o.ipv6 ? 40 : 20, mtu = from == 0 ? s->o.mtu0 : s->o.mtu1;
	const uint32_t least = s->o.ipv6 ? TCP_PACKET_MIN_V6 : TCP_PACKET_MIN_V4;
	if (d->m->data_len + header > max_u32(mtu, least))
		sim_fail(s, "side %u sends %u bytes over an MTU of %u", from, d->m->data_len + header, mtu);
	if (h == NULL || seg.flags & KIT_RST)
		return;
	watch_ecn(s, h, &seg, d);
	if (seg.flags & KIT_SYN)
		note_syn(h, &seg);
	else if (seg.text.n != 0 || seg.flags & KIT_FIN)
		watch_text(s, h, &seg);
	watch_numbers(s, h, &seg);
	watch_window(s, h, &seg, f);
}

void sim_watch_arrival(struct sim *s, struct half *h, const struct flight *f)
{
	s->marks[f->to] += f->ecn == TCP_ECN_CE && f->is_intact;
	if (h == NULL || !f->has_edge || !f->is_intact)
		return;
	if (!h->has_peer_edge || seq_gt(f->edge, h->peer_edge))
		h->peer_edge = f->edge;
	h->has_peer_edge = true;
}
