// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_private.h: what the files of this folder ask of each other. What they work on is in tcp_conn.h. */
#pragma once

#include "dataplane/tcp/tcp_conn.h"

/* ---- tcp_memory.c ---- */
/* Zeroed and aligned to a page; NULL: no memory. */
void *tcp_memory_take(size_t count, size_t size);
void tcp_memory_give(void *p, size_t count, size_t size);
/* In the order in which they are given up; in eighths of buffer_bytes_max. */
enum tcp_memory_use { TCP_MEMORY_NEW = 5, TCP_MEMORY_WINDOWS = 6, TCP_MEMORY_STALLED = 7 };
bool tcp_memory_is_short_for(const struct tcp_stack *s, enum tcp_memory_use use);
void tcp_memory_tick(struct tcp_stack *s);

/* ---- tcp_table.c ---- */
bool tcp_table_init(struct tcp_table *t, uint32_t entries);
void tcp_table_fini(struct tcp_table *t);
uint64_t tcp_tuple_hash(const struct tcp_stack *s, const struct tcp_tuple *tuple);
tcp_ref tcp_table_find(const struct tcp_stack *s, const struct tcp_tuple *tuple, uint64_t hash);
void tcp_table_insert(struct tcp_stack *s, uint64_t hash, tcp_ref ref);
/* The low half of the hash is enough. */
void tcp_table_remove(struct tcp_stack *s, uint32_t hash, tcp_ref ref);
static inline enum tcp_kind tcp_ref_kind(tcp_ref ref)
{
	return (enum tcp_kind)(ref >> 30);
}
static inline uint32_t tcp_ref_slot(tcp_ref ref)
{
	return (ref & 0x3fffffff) - 1;
}
static inline tcp_ref tcp_ref_make(enum tcp_kind kind, size_t slot)
{
	return (tcp_ref)kind << 30 | ((tcp_ref)slot + 1);
}

/* ---- tcp_segment.c: the header, in and out ---- */
/* Reads the header; TCP_DROP_NONE if the segment can be looked at further. `seg->m` is `m` in any case. */
enum tcp_drop tcp_segment_parse(struct tcp_segment *seg, struct rte_mbuf *m, const struct tcp_arrival *a);
struct tcp_header {
	const struct tcp_tuple *tuple;
	uint32_t seq, ack;
	uint8_t flags;
	uint16_t window;
	bool has_ts, has_wscale, has_sack_ok;
	uint8_t wscale;
	uint16_t mss; /* 0: no option */
	uint32_t tsval, tsecr;
	uint8_t sack_count;
	struct tcp_range sack[TCP_SACK_BLOCKS];
};
unsigned tcp_header_size(const struct tcp_header *h);
/* Writes the header in front of the mbuf's `text` bytes at its start and fills the checksum of all of it; with
 * RTE_MBUF_F_TX_TCP_CKSUM on it, only the sum of the pseudo-header. */
void tcp_header_prepend(const struct tcp_header *h, struct rte_mbuf *m);

/* ---- tcp_state.c ---- */
/* The one writer of c->state. */
void tcp_enter(struct tcp_conn *c, enum tcp_state next);
static inline bool tcp_is_synchronized(const struct tcp_conn *c)
{
	return c->state >= TCP_ESTABLISHED;
}
struct tcp_conn *tcp_conn_get(struct tcp_stack *s, const struct tcp_tuple *tuple, uint64_t hash);
/* Nothing more will be sent or received; the user is told `end` as the reason. The handle lives until then. */
void tcp_conn_end(struct tcp_conn *c, enum tcp_end end);
void tcp_conn_put(struct tcp_conn *c);
void tcp_event(struct tcp_conn *c, uint32_t events);
void tcp_dirty(struct tcp_conn *c);
/* The handshake is done. */
void tcp_conn_established(struct tcp_conn *c);
/* Both sides are done and we closed first, or both at once: a small record stays. */
void tcp_conn_time_wait(struct tcp_conn *c);
/* May one more challenge ACK go out on this connection (or half of one)? */
bool tcp_may_reply(struct tcp_stack *s, struct tcp_replies *replies);

/* ---- tcp_open.c: listeners, active opens ---- */
uint32_t tcp_isn(const struct tcp_stack *s, const struct tcp_tuple *tuple);
uint32_t tcp_ts_offset(const struct tcp_stack *s, const struct tcp_tuple *tuple);
/* What the peer's MSS option says; 0: it has none. */
static inline uint16_t tcp_peer_mss(const struct tcp_tuple *tuple, uint16_t option)
{
	return option != 0 ? option : addr_is_ipv4(&tuple->remote) ? TCP_MSS_DEFAULT_V4 : TCP_MSS_DEFAULT_V6;
}
uint16_t tcp_mss_to_announce(const struct tcp_stack *s, const struct tcp_tuple *tuple);
/* Sets c->mss from the peer's MSS, the path's MTU and the options of each segment. */
void tcp_mss_update(struct tcp_conn *c, uint32_t mtu);
struct tcp_listener *tcp_listener_find(struct tcp_stack *s, const struct addr *local, uint16_t port);

/* ---- tcp_half_open.c: segments to nobody, passive opens ---- */
/* A segment to a 4-tuple nobody has. `iss_least` is 0, or what our ISN has to be beyond (RFC 6191). */
enum tcp_drop tcp_nobody_arrives(struct tcp_stack *s, struct tcp_segment *seg, uint32_t iss_least);
enum tcp_drop tcp_half_open_arrives(struct tcp_stack *s, struct tcp_half_open *h, struct tcp_segment *seg);
void tcp_half_open_end(struct tcp_stack *s, struct tcp_half_open *h);
/* Sends SYN-ACKs again, or gives up. */
void tcp_half_open_expire(struct tcp_stack *s);
uint64_t tcp_half_open_due_us(const struct tcp_stack *s);

/* ---- tcp_cookie.c ---- */
/* Makes `h`, which is nowhere stored, one whose SYN-ACK says all that is needed to make it again; returns the
 * SYN-ACK's TSval. */
uint32_t tcp_cookie_make(struct tcp_stack *s, struct tcp_half_open *h);
/* Does the ACK answer a cookie of ours? Then `h` is what tcp_cookie_make() was given, as far as it is known, and
 * `seg` starts behind the SYN. */
bool tcp_cookie_check(struct tcp_stack *s, struct tcp_segment *seg, struct tcp_half_open *h);

/* ---- tcp_time_wait.c ---- */
void tcp_time_wait_add(struct tcp_stack *s, const struct tcp_conn *c);
enum tcp_drop tcp_time_wait_arrives(struct tcp_stack *s, struct tcp_time_wait *w, struct tcp_segment *seg);
void tcp_time_wait_expire(struct tcp_stack *s);
uint64_t tcp_time_wait_due_us(const struct tcp_stack *s);

/* ---- tcp_in.c ---- */
enum tcp_drop tcp_segment_arrives(struct tcp_conn *c, struct tcp_segment *seg);
void tcp_window_of_syn(struct tcp_conn *c, const struct tcp_segment *seg);

/* ---- tcp_ack.c: fifth, check the ACK field ---- */
void tcp_ack_arrives(struct tcp_conn *c, const struct tcp_segment *seg);
void tcp_rtt_sample(struct tcp_conn *c, uint64_t rtt_us);

/* ---- tcp_scoreboard.c ---- */
/* The blocks of an acceptable ACK. */
void tcp_sack_arrives(struct tcp_conn *c, const struct tcp_segment *seg, struct tcp_acked *a);
/* Bytes in the network, as far as is known (RFC 6675 pipe). */
uint32_t tcp_pipe(const struct tcp_conn *c);
/* A record was sent, for the first time or again. */
void tcp_scoreboard_sent(struct tcp_conn *c, struct rte_mbuf *m, bool is_new);
/* The first record is acknowledged and leaves the queue. */
void tcp_scoreboard_leaves(struct tcp_conn *c, struct rte_mbuf *m);
void tcp_scoreboard_lost(struct tcp_conn *c, struct rte_mbuf *m);
void tcp_scoreboard_all_lost(struct tcp_conn *c);
void tcp_scoreboard_none_lost(struct tcp_conn *c);
/* The first record that is to be sent again; NULL: none, or not found yet: then output is asked for again soon. */
struct rte_mbuf *tcp_scoreboard_next_lost(struct tcp_conn *c);
struct rte_mbuf *tcp_scoreboard_next(const struct tcp_conn *c, struct rte_mbuf *m);
/* Which of the flight's sums the record is in. */
uint32_t *tcp_scoreboard_account(struct tcp_flight *f, const struct tcp_mark *mark);

/* ---- tcp_rack.c ---- */
void tcp_rack_delivered(struct tcp_conn *c, const struct tcp_mark *mark, struct tcp_acked *a);
void tcp_rack_dsack(struct tcp_conn *c);
void tcp_rack_recovered(struct tcp_conn *c);
/* true: something was found lost. */
bool tcp_rack_detect(struct tcp_conn *c);
void tcp_loss_timeout(struct tcp_conn *c);
void tcp_probe_schedule(struct tcp_conn *c);
void tcp_probe_sent(struct tcp_conn *c, bool is_again);
bool tcp_probe_has_mended(struct tcp_conn *c, const struct tcp_acked *a);

/* ---- tcp_recovery.c ---- */
void tcp_recovery_acked(struct tcp_conn *c, struct tcp_acked *a);
void tcp_recovery_timer(struct tcp_conn *c);
void tcp_recovery_sent(struct tcp_conn *c, uint32_t bytes, bool is_new);
/* The retransmission timer has fired. */
void tcp_rto_recover(struct tcp_conn *c);

/* ---- tcp_cc.c ---- */
void tcp_cc_init(struct tcp_conn *c);
void tcp_cc_idle(struct tcp_conn *c); /* nothing was sent for an RTO */
void tcp_slow_start(struct tcp_conn *c, uint32_t bytes, uint32_t rtt_us);

/* ---- tcp_out.c ---- */
static inline uint32_t tcp_departures_room(const struct tcp_stack *s)
{
	return TCP_DEPARTURES - (s->departures_tail - s->departures_head);
}
/* Hands the mbuf on to tcp_take(); frees it if there is no room. */
void tcp_depart(struct tcp_stack *s, struct rte_mbuf *m, const struct tcp_tuple *tuple, uint8_t ecn);
/* A segment without text, from the control pool. false: there was no mbuf or no room; counted. */
bool tcp_send_control(struct tcp_stack *s, const struct tcp_header *h);
/* RST in answer to a segment (RFC 9293 3.10.7.1). */
void tcp_send_reset_to(struct tcp_stack *s, const struct tcp_segment *seg);
bool tcp_send_syn(struct tcp_conn *c);
bool tcp_send_ack(struct tcp_conn *c, uint32_t seq, uint8_t flags);
/* The sequence number for a pure ACK: SND.MAX, or the right edge where the peer has shrunk its window behind it
 * (RFC 9293 3.8.6): beyond its edge the segment would not be acceptable, and neither would its ACK be heard. */
uint32_t tcp_ack_seq(const struct tcp_conn *c);
uint32_t tcp_receive_space(const struct tcp_conn *c);
bool tcp_window_update_is_due(const struct tcp_conn *c);
bool tcp_window_is_held(const struct tcp_conn *c);

/* ---- tcp_trace.c: only while tcp_is_traced() ---- */
static inline bool tcp_is_traced(const struct tcp_stack *s)
{
	return __builtin_expect(s->trace != NULL, 0);
}
void tcp_trace_arrival(struct tcp_stack *s, const struct tcp_segment *seg);
/* What became of the segment that has arrived. */
void tcp_trace_verdict(struct tcp_stack *s, const struct tcp_segment *seg, enum tcp_drop drop);
void tcp_trace_departure(struct tcp_stack *s, const struct rte_mbuf *m, const struct tcp_tuple *tuple);
void tcp_trace_state(struct tcp_conn *c, unsigned next);
void tcp_trace_timer(struct tcp_conn *c, enum tcp_timer timer);

/* ---- tcp_keepalive.c ---- */
/* The connection is established: waits, if that is wanted. */
void tcp_keepalive_start(struct tcp_conn *c);
void tcp_keepalive_timeout(struct tcp_conn *c);

/* ---- tcp_path.c ---- */
/* A trusted ICMP error; `mtu` 0: it does not say. */
void tcp_path_too_big(struct tcp_conn *c, uint32_t mtu);
/* The retransmission timer has fired `backoff` times in a row: may that be a matter of size? */
void tcp_path_timeout(struct tcp_conn *c);
void tcp_path_progress(struct tcp_conn *c);
/* New data was acknowledged. */
static inline void tcp_path_acked(struct tcp_conn *c)
{
	c->has_soft_error = false;
	if (c->is_path_narrow || c->has_tried_smaller || c->mss_tried_from != 0)
		tcp_path_progress(c);
}

/* ---- tcp_timer.c ---- */
void tcp_timers_init(struct tcp_conn *c);
void tcp_timer_set(struct tcp_conn *c, enum tcp_timer timer, uint64_t due_us);
static inline void tcp_timer_stop(struct tcp_conn *c, enum tcp_timer timer)
{
	c->due_us[timer] = UINT64_MAX;
}
static inline bool tcp_timer_is_set(const struct tcp_conn *c, enum tcp_timer timer)
{
	return c->due_us[timer] != UINT64_MAX;
}
void tcp_timers_fini(struct tcp_conn *c);
/* What a pool or a limit refused is tried again soon; asking more often makes it no later. */
void tcp_try_again(struct tcp_conn *c);
/* Starts the retransmission timer anew, with the backoff as it is. */
void tcp_rto_restart(struct tcp_conn *c);

/* ---- tcp_queue.c: mbufs held by connections ---- */
/* May so many more bytes of mbufs be held? */
bool tcp_hold_fits(const struct tcp_stack *s, const struct rte_mbuf *m);
void tcp_queue_append(struct tcp_stack *s, struct tcp_queue *q, struct rte_mbuf *m);
struct rte_mbuf *tcp_queue_pop(struct tcp_stack *s, struct tcp_queue *q);
void tcp_queue_free(struct tcp_stack *s, struct tcp_queue *q);
void tcp_hold(struct tcp_stack *s, const struct rte_mbuf *m);
void tcp_release(struct tcp_stack *s, struct rte_mbuf *m);

/* ---- tcp_send.c: the send queue ---- */
/* An empty data mbuf with its mark; NULL: none, or too much held. */
struct rte_mbuf *tcp_send_mbuf(struct tcp_conn *c);
/* Cuts the record so that it has `len` bytes; false: no mbuf. */
bool tcp_send_split(struct tcp_conn *c, struct rte_mbuf *m, uint16_t len);
/* Drops what `ack` acknowledges. */
void tcp_send_acked(struct tcp_conn *c, uint32_t ack, struct tcp_acked *a);
/* Gives c->flight back, if the queue is empty. */
void tcp_flight_end(struct tcp_conn *c);

/* ---- tcp_receive.c ---- */
/* Seventh, process the segment text. Takes seg->m if it keeps any of it. */
enum tcp_drop tcp_text_arrives(struct tcp_conn *c, struct tcp_segment *seg);
/* Copies the text of `m` behind that of `tail`, if it fits and the buffer is ours alone. */
bool tcp_receive_can_join(struct tcp_stack *s, struct rte_mbuf *tail, struct rte_mbuf *m);
void tcp_receive_release(struct tcp_conn *c, struct rte_mbuf *m);

/* ---- tcp_reassembly.c ---- */
/* Takes an mbuf with text beyond rcv_nxt, unless it says why not. */
enum tcp_drop tcp_reassembly_insert(struct tcp_conn *c, struct rte_mbuf *m);
/* What the text up to rcv_nxt has made contiguous: removed and returned, from rcv_nxt on; empty: nothing. */
struct tcp_queue tcp_reassembly_pull(struct tcp_conn *c);
/* Where the last island ends; rcv_nxt if there is none. */
uint32_t tcp_reassembly_end(const struct tcp_conn *c);
void tcp_reassembly_free(struct tcp_conn *c);
/* The peer has sent this twice. */
void tcp_note_duplicate(struct tcp_conn *c, uint32_t start, uint32_t end);
/* The blocks of the next SACK option, at most `most`; a D-SACK block among them is told once. */
uint8_t tcp_sack_blocks(struct tcp_conn *c, struct tcp_range *blocks, unsigned most);

/* ---- tcp_stack.c ---- */
static inline void *tcp_slab_get(struct tcp_slab *slab) /* as it was left; NULL: none */
{
	void *piece = slab->free;
	if (piece != NULL)
		memcpy(&slab->free, piece, sizeof slab->free);
	else if (slab->used < slab->count)
		piece = (uint8_t *)slab->memory + slab->used++ * slab->size;
	return piece;
}
static inline void tcp_slab_put(struct tcp_slab *slab, void *piece)
{
	memcpy(piece, &slab->free, sizeof slab->free);
	slab->free = piece;
}
