// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp_conn.h: what a stack and its connections are made of, in the names of RFC 9293.
 *
 * A 4-tuple is known to a stack as one of three things, found through one table: a connection (struct
 * tcp_conn), a half-open passive one (struct tcp_half_open: small, so that SYNs cost little) or one in
 * TIME-WAIT (struct tcp_time_wait: small, since most of a server's life is spent there). */
#pragma once

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#include <rte_tcp.h>

#include "dataplane/tcp/tcp.h"
#include "dataplane/timer_wheel.h"

/* ---- limits, each with its reason ---- */
/* Ethernet with a VLAN tag, IPv6 and TCP with options (18 + 40 + 60) fit before the payload; aligned. */
#define TCP_PAYLOAD_OFFSET 128
#define TCP_MSS_MIN	   64	/* a smaller MSS asked for is taken as this: mbufs are spent per segment */
#define TCP_MSS_DEFAULT_V4 536	/* RFC 9293 MUST-15 */
#define TCP_MSS_DEFAULT_V6 1220
#define TCP_PACKET_MIN_V4  576	/* ICMP cannot push us below: 68 is the letter, and an attack (RFC 5927 7) */
#define TCP_PACKET_MIN_V6  1280 /* RFC 8200 5 */
#define TCP_LISTENERS_MAX  64
#define TCP_DEPARTURES	   1024 /* segments waiting for tcp_take(); a power of two */
#define TCP_BURST_SEGMENTS 32	/* of one connection before another's turn */
#define TCP_REPLIES_PER_S  10	/* challenge ACKs of one connection (RFC 5961 7) */
#define TCP_PORT_FIRST	   10000 /* source ports of active opens: this to 65535 (RFC 6056 3.2) */
#define TCP_PORT_TRIES	   4096	 /* bounds the walk; at 16 cores 256 of them are ours */
#define TCP_WSCALE_MAX	   14
#define TCP_BLACK_HOLE_TIMEOUTS 3 /* in a row, and smaller segments are tried: congestion rarely takes as many */
#define TCP_BLACK_HOLE_STEP	2 /* more of them for each further step */
#define TCP_IDLE_LOOKS	   128	 /* connections looked at in a turn for the idlest: some 10 us, cold */
#define TCP_IDLE_LEAST_MS  5000	 /* twice and thrice a lost segment may have been sent again by then */
#define TCP_SACK_BLOCKS	   4  /* as many as fit into an option of 40 bytes (RFC 2018 3) */
#define TCP_WALK_MAX	   256 /* records an ACK may visit (tcp_scoreboard.c): some µs */
#define TCP_CWND_MAX	   (1u << 30) /* keeps sums of windows far from half of sequence space (RFC 7323 2.3) */
#define TCP_WINDOW_START   65536 /* a window or queue at first; it grows where it is used (tcp_receive.c) */
#define TCP_ISLANDS_MAX	   64 /* out of order: bounds the walk to a segment's place; 64 gaps are 5 % of 1.8 MB */

/* ---- times ---- */
#define TCP_RTO_INITIAL_US	1000000u  /* RFC 6298 2.1 */
#define TCP_RTO_VARIANCE_MIN_US 200000u	  /* the least of 4*RTTVAR: covers the peer's delayed ACK */
#define TCP_RTO_MAX_US		60000000u /* RFC 6298 2.5 */
#define TCP_USER_TIMEOUT_US	300000000u /* by default: no progress for so long ends a connection (RFC 9293 3.8.3) */
#define TCP_KEEPALIVE_IDLE_US	(7200ull * 1000000) /* by default, if on: two hours (RFC 9293 MUST-28) */
#define TCP_KEEPALIVE_INTERVAL_US 75000000u /* by default: between probes */
#define TCP_KEEPALIVE_PROBES	9	  /* by default: in vain, and the peer is gone */
#define TCP_PATH_AGE_S		600	  /* RFC 1191 6.3, RFC 8201 4: then larger segments are tried */
#define TCP_SYN_TIMEOUT_US	180000000u /* RFC 9293 3.8.3: at least 3 minutes for a SYN */
#define TCP_SYN_ACK_SENDS	5	  /* at 0, 1, 3, 7, 15 s; given up at 31 s */
#define TCP_SYN_ACK_STALE	3	  /* sent so often without an answer, it makes room for a new SYN */
#define TCP_COOKIE_PERIOD_US	64000000u /* a SYN cookie is good for this to twice this */
#define TCP_DELAYED_ACK_US	40000u	  /* at most 500 ms (RFC 9293 3.8.6.3); short helps dialogs */
#define TCP_FIN_WAIT_2_US	60000000u /* nothing from the peer for so long */
#define TCP_TIME_WAIT_US	60000000u /* 2 MSL of 30 s, what practice has settled on */
#define TCP_STARVED_US		10000u	  /* the next try after a pool was empty */
#define TCP_HELD_US		100000u	  /* the next try after a window could not grow: there may be many */
#define TCP_TS_RECENT_MAX_S	(24u * 24 * 3600) /* RFC 7323 5.5: older than 24 days is void */

enum tcp_drop {
#define TCP_DROP(name, help) TCP_DROP_##name,
#include "dataplane/tcp/drops.def"
#undef TCP_DROP
	TCP_DROP_NONE /* last: their count */
};

/* ---- sequence numbers (RFC 9293 3.4) ---- */
static inline bool seq_lt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) < 0;
}
static inline bool seq_leq(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) <= 0;
}
static inline bool seq_gt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}
static inline bool seq_geq(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) >= 0;
}
static inline uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}
static inline uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}
static inline uint32_t max_u32(uint32_t a, uint32_t b)
{
	return a > b ? a : b;
}

/* ---- who ---- */
struct tcp_tuple {
	struct addr local, remote;
	uint16_t local_port, remote_port; /* host order */
};
static_assert(sizeof(struct tcp_tuple) == 36, "hashed and compared as bytes");

/* Challenge ACKs sent in this second. */
struct tcp_replies {
	uint16_t second; /* the low half */
	uint16_t count;
};

enum tcp_kind { TCP_NOBODY, TCP_CONN, TCP_HALF_OPEN, TCP_TIME_WAITING };
typedef uint32_t tcp_ref; /* kind in the top two bits, slot + 1 below; 0: nobody */

struct tcp_range { /* of sequence numbers; `end` is the first behind it */
	uint32_t start, end;
};

/* ---- what is known of a segment that has arrived ---- */
struct tcp_segment {
	struct rte_mbuf *m; /* NULL once taken */
	struct tcp_tuple tuple;
	uint64_t hash;
	uint32_t seq, ack;
	uint32_t text;	  /* bytes of it that count, after trimming */
	uint32_t skip;	  /* of the mbuf, before those: header and what was trimmed */
	uint32_t tsval, tsecr;
	uint16_t window; /* as it stands in the header */
	uint16_t mss;	 /* 0: no option */
	uint8_t flags;
	uint8_t wscale;
	bool has_wscale, has_ts, has_sack_ok;
	uint8_t ecn; /* of the IP header */
	uint8_t sack_count;
	struct tcp_range sack[TCP_SACK_BLOCKS]; /* as they came: not checked */
};
#define TCP_ECN_FLAGS (RTE_TCP_ECE_FLAG | RTE_TCP_CWR_FLAG)
#define TCP_ECN_ECT0  2 /* of the IP header */
#define TCP_ECN_CE    3

/* SEG.LEN: text and the controls that take a sequence number */
static inline uint32_t tcp_segment_len(const struct tcp_segment *seg)
{
	return seg->text + !!(seg->flags & RTE_TCP_SYN_FLAG) + !!(seg->flags & RTE_TCP_FIN_FLAG);
}

/* ---- what a queue knows of an mbuf it holds; kept in the mbuf, as a dynamic field ---- */
struct tcp_mark {
	struct rte_mbuf *next; /* ours: mbuf.next would be followed by a driver that still sends it */
	uint64_t sent_us : 56; /* of the first of a run (an island of tcp_reassembly.c): the last, tcp_run_last() */
	uint64_t is_retransmitted : 1;
	uint64_t is_sacked : 1, is_lost : 1; /* neither: in flight, if it was sent (tcp_scoreboard.c) */
	uint32_t seq;
	uint16_t offset; /* of the first byte that counts, from buf_addr */
	uint16_t len;
};
struct tcp_queue {
	struct rte_mbuf *head, *tail;
};

/* ---- text out of order; a connection has it only while there is some (tcp_reassembly.c) ---- */
struct tcp_reassembly {
	struct rte_mbuf *head;		  /* the first mbuf of the first island */
	struct rte_mbuf *last_island;	  /* the first mbuf of the last */
	uint32_t recent[TCP_SACK_BLOCKS]; /* sequence numbers received, the latest first (RFC 2018 4) */
	uint8_t recent_count;
	uint8_t islands;
};

/* ---- what is sent and not acknowledged; a connection has it only while it holds something to send ---- */
enum tcp_place {
	TCP_AT_SACK, /* the run that grew last */
	TCP_AT_TOP,  /* the highest run */
	TCP_AT_LOST, /* nothing before it is lost */
	TCP_AT_RACK, /* where the walk for losses goes on */
	TCP_PLACES
};
struct tcp_flight {
	/* tcp_scoreboard.c: bytes of records sent, by what they are */
	uint32_t pipe, sacked, lost;
	uint32_t dupacks; /* without SACK: each for a segment that has left the network */
	struct rte_mbuf *at[TCP_PLACES]; /* in the queue; not inside a run; NULL: its head */
	struct rte_mbuf *last_sent;	 /* the highest record sent; NULL: it is acknowledged */
	/* tcp_rack.c: RACK.xmit_ts, end_seq, rtt, fack, dsack_round */
	uint64_t rack_sent_us;
	uint32_t rack_end, rack_rtt_us, fack, dsack_round;
	bool has_rack : 1, has_dsack_round : 1;
	bool is_reorder_timer : 1; /* what TCP_TIMER_LOSS is for, if it is set; else the tail probe */
	bool has_resent : 1;
	bool is_round : 1;
	/* tcp_recovery.c: PRR; and what to go back to (prior_cwnd 0: nothing) */
	uint32_t prr_delivered, prr_out, recover_fs;
	uint32_t prior_cwnd, prior_ssthresh, prior_w_max;
	uint32_t undo_una, resent, resent_tsval;
	/* congestion avoidance */
	uint32_t cc_rest; /* of bytes that did not make a whole step */
	float w_est;
	uint32_t cwnd_prior;
	uint32_t k_us;
	uint64_t epoch_us; /* 0: none */
	/* HyStart++ */
	uint32_t round_end, round_rtt_us, round_last_us, css_baseline_us;
	uint8_t round_samples, css_rounds; /* css_rounds 0: not in conservative slow start */
};

/* What an ACK says. */
struct tcp_acked {
	uint32_t bytes;	    /* SND.UNA has moved by */
	uint32_t sacked;    /* newly, by blocks */
	uint32_t delivered; /* newly, of either kind */
	uint32_t rtt_us;    /* the least of segments sent once; 0: none */
	uint32_t tsecr;
	bool has_ece;	   /* the peer has seen a CE mark */
	bool has_ts;
	bool is_ambiguous; /* something of it was sent twice, and may have kept the rest from being acknowledged */
	bool has_dsack;
	bool has_lost;	   /* something was found lost */
	bool is_duplicate; /* nothing new in it */
	struct tcp_range dsack;
};

/* tcp_recovery.c */
enum tcp_phase { TCP_OPEN, TCP_RECOVERY, TCP_LOSS, TCP_CWR };

/* Pieces of one size, taken at start. */
struct tcp_slab {
	void *memory;
	void *free; /* that were used: each begins with the next one's address */
	size_t used, count, size; /* those up to `used` were used at some time: no memory is touched before */
};

/* ---- states: one list; tcp_state.c says what may follow what ---- */
#define TCP_STATES(_)                                                                  \
	_(CLOSED, "CLOSED")	      /* ended; the user has not been told yet */      \
	_(SYN_SENT, "SYN-SENT")	      /* active open, SYN sent */                      \
	_(SYN_RECEIVED, "SYN-RECEIVED") /* both SYNs seen, ours not acknowledged */    \
	_(ESTABLISHED, "ESTABLISHED")                                                  \
	_(FIN_WAIT_1, "FIN-WAIT-1")   /* our FIN queued or sent */                     \
	_(FIN_WAIT_2, "FIN-WAIT-2")   /* our FIN acknowledged */                       \
	_(CLOSE_WAIT, "CLOSE-WAIT")   /* their FIN received */                         \
	_(CLOSING, "CLOSING")	      /* both FINs seen, ours not acknowledged */      \
	_(LAST_ACK, "LAST-ACK")	      /* theirs, then ours; ours not acknowledged */   \
	_(TIME_WAIT, "TIME-WAIT")     /* for an instant: struct tcp_time_wait follows */

enum tcp_state {
#define STATE(name, text) TCP_##name,
	TCP_STATES(STATE)
#undef STATE
};

/* One wheel node a connection, armed for the earliest of these or earlier (tcp_timer.c). */
enum tcp_timer {
	TCP_TIMER_LOSS, /* before RETRANSMIT, which it puts off: reordering window or tail probe (tcp_rack.c) */
	TCP_TIMER_RETRANSMIT, /* SYN, retransmission or, while is_persisting, window probe */
	TCP_TIMER_DELAYED_ACK,
	TCP_TIMER_QUIET,      /* keepalive; in FIN-WAIT-2 the end of the wait for their FIN */
	TCP_TIMER_STARVED, /* a pool was empty, the user waits for room that no ACK will make, or work was left */
	TCP_TIMERS
};

struct tcp_conn;

/* What congestion controls differ in; tcp_cc.c has what is common, tcp_recovery.c says when. */
struct tcp_cc {
	const char *name;
	void (*acked)(struct tcp_conn *c, uint32_t bytes);   /* in congestion avoidance: the window grows */
	void (*reduce)(struct tcp_conn *c, uint32_t flight); /* sets ssthresh: of so many bytes some were lost */
};
extern const struct tcp_cc tcp_cc_cubic, tcp_cc_newreno;

struct tcp_conn {
	/* First line: what finds it and what every segment reads. */
	alignas(64) struct tcp_tuple tuple;
	uint8_t state;
	uint8_t phase;	      /* enum tcp_phase */
	uint8_t backoff;      /* retransmissions or probes in a row */
	uint8_t text_unacked; /* segments with text since our last ACK */
	bool is_persisting : 1;
	bool is_active : 1;    /* opened by us */
	bool is_announced : 1; /* the user knows it */
	bool has_ts : 1, has_wscale : 1, has_sack : 1;
	bool fin_queued : 1;   /* tcp_close() was called */
	bool fin_received : 1; /* and everything before it */
	bool fin_seen : 1;     /* maybe with text missing before it; at fin_seq */
	bool fin_lost : 1;     /* ours, and nothing else was in flight */
	bool ack_now : 1;      /* an ACK is due at the next output */
	bool syn_due : 1;      /* SYN or SYN-ACK is to be sent */
	bool syn_again : 1;    /* it was sent more than once */
	bool cwnd_limited : 1; /* the last output stopped because of cwnd */
	bool probe_due : 1;    /* the persist timer wants a probe or a forced send */
	bool write_waits : 1;  /* a write took less than asked */
	bool is_dirty : 1;     /* on the list of tcp_output() */
	bool has_keepalive : 1;
	bool has_soft_error : 1; /* an ICMP error has come since something was last acknowledged */
	bool is_path_narrow : 1;   /* the MSS was lowered, at narrow_since_s */
	bool has_tried_smaller : 1; /* segments, in vain, since something was last acknowledged */
	bool tail_probe_due : 1;
	bool is_probing : 1;	 /* a tail loss probe is out, and what it has done is not known yet: TLP.end_seq ... */
	bool probe_is_again : 1; /* TLP.is_retrans */
	bool is_reordering : 1;	 /* RACK.reordering_seen */
	bool has_ecn : 1;
	bool ece_due : 1; /* CE was seen: ACKs say so until the peer has lowered its window */
	bool cwr_due : 1; /* the next new text says that we have */
	uint32_t rcv_nxt;
	uint32_t rcv_adv; /* RCV.NXT + RCV.WND as last advertised */
	uint32_t snd_una;
	uint32_t snd_max; /* SND.NXT: what is sent again does not move it back */
	uint32_t snd_wnd; /* scaled */

	/* Second line: ACK processing. */
	uint32_t snd_wl1, snd_wl2;
	uint32_t max_snd_wnd;
	uint32_t send_end; /* the sequence number of the next byte written, or of our FIN */
	uint32_t ts_recent;
	uint32_t ts_recent_s; /* when ts_recent was set, in seconds */
	uint32_t ts_offset;
	uint32_t last_ack_sent;
	uint32_t cwnd, ssthresh;
	uint32_t recover; /* SND.NXT when the phase began (RFC 6582, RFC 6675 RecoveryPoint) */
	uint32_t srtt_us, rttvar_us, rto_us; /* srtt 0: no sample yet */
	uint32_t min_rtt_us;
	uint16_t mss;	   /* text bytes of a segment we send: options and path taken into account */
	uint16_t peer_mss; /* of its option, or the default */

	/* Third line: the queues. */
	struct rte_mbuf *send_next;   /* the first record that was never sent; NULL: none */
	struct tcp_queue send;	      /* unacknowledged and unsent */
	struct tcp_queue receive;     /* in order, not read */
	struct tcp_reassembly *reassembly; /* out of order; NULL: nothing */
	struct tcp_flight *flight;    /* NULL: the send queue is empty */
	struct tcp_stack *stack;

	/* Then timers and the rest. */
	uint64_t due_us[TCP_TIMERS];
	uint64_t armed_us; /* what the node is armed for */
	uint32_t send_bytes, receive_bytes;
	uint32_t receive_mbufs; /* in order and out of order */
	uint16_t send_mbufs;
	uint8_t snd_wscale, rcv_wscale;

	struct timer_node node;
	uint64_t progress_us; /* the peer last acknowledged something, or there was nothing to; our first SYN */
	uint64_t last_send_us;
	union {
		void *user;
		struct tcp_conn *free_next;
	};

	TAILQ_ENTRY(tcp_conn) dirty_link, event_link;
	uint32_t iss, irs;
	uint32_t fin_seq; /* if fin_seen */
	uint32_t tag;
	struct tcp_range dsack; /* came twice, and the peer has not been told (RFC 2883); empty: none */
	struct tcp_replies replies;
	uint8_t events;
	uint8_t end;	      /* enum tcp_end */
	uint8_t dup_acks_due; /* segments that came out of order since rcv_nxt last moved or we sent their ACKs */
	uint8_t reo_wnd_more; /* RACK.reo_wnd_mult - 1 */

	uint64_t bytes_in, bytes_out;
	uint32_t retransmits;
	uint32_t hash;	    /* the low half */
	uint32_t w_max;	    /* RFC 9438 */
	uint32_t probe_end; /* TLP.end_seq */
	uint32_t moved_ms;  /* data was last acknowledged or received in order, or first sent after a rest */
	uint32_t heard_ms;  /* an acceptable segment last came */
	uint16_t user_timeout_s; /* 0: the stack's */
	uint16_t mss_tried_from; /* a black hole is suspected: what the MSS was before; 0: none is */
	uint16_t narrow_since_s; /* the low half */
	uint8_t keepalive_probes; /* unanswered */
	uint8_t reo_wnd_persist;
	uint32_t rcv_window;	/* the largest that is offered as yet */
	uint32_t read_seq;	/* what the user had read, a round trip ago at most, */
	uint32_t read_ms;	/* at this time */
};
/* With its share of the table a connection that is idle takes no more than 512 bytes; it holds no buffer and has no
 * struct tcp_flight or tcp_reassembly. */
static_assert(sizeof(struct tcp_conn) <= 448);
TAILQ_HEAD(tcp_conn_list, tcp_conn);

/* A passive open from SYN to the ACK of our SYN-ACK: an entry of the SYN cache (RFC 4987 3.5). */
struct tcp_half_open {
	TAILQ_ENTRY(tcp_half_open) link; /* of those sent as often, in the order of due_us, or of the free ones */
	uint64_t due_us;
	struct tcp_tuple tuple;
	uint32_t hash;	  /* the low half */
	uint32_t iss, irs;
	uint32_t ts_recent;
	uint32_t tag;
	uint32_t sent_us; /* the first SYN-ACK; the low half: an entry lives for 31 s */
	struct tcp_replies replies;
	uint16_t peer_mss, snd_wnd;
	uint8_t snd_wscale : 4;
	uint8_t sends : 4; /* of the SYN-ACK */
	bool has_ts : 1, has_wscale : 1, has_sack : 1, has_ecn : 1;
};
static_assert(sizeof(struct tcp_half_open) <= 96, "a SYN costs a peer nothing; it must cost us little");
TAILQ_HEAD(tcp_half_open_list, tcp_half_open);

/* The key of SYN cookies in one period (tcp_cookie.c). */
struct tcp_cookie_key {
	uint64_t period; /* + 1; 0: not made yet */
	uint8_t key[16];
};

struct tcp_time_wait {
	TAILQ_ENTRY(tcp_time_wait) link; /* in the order of due_ms, or of the free ones */
	struct tcp_tuple tuple;
	uint32_t hash;	 /* the low half */
	uint32_t due_ms; /* the low half: it is a minute away at most */
	uint32_t snd_nxt, rcv_nxt;
	uint32_t ts_recent;
	struct tcp_replies replies;
	uint16_t window; /* as it stands in the header */
	bool has_ts;
};
static_assert(sizeof(struct tcp_time_wait) <= 80, "a server's connections spend most of their lives as one");
TAILQ_HEAD(tcp_time_wait_list, tcp_time_wait);

/* Open addressing by buckets of one cache line. A look-up ends at the first bucket over which no entry has
 * been pushed on. */
struct tcp_bucket {
	alignas(64) uint32_t tags[7];
	tcp_ref refs[7];
	uint32_t overflow; /* entries that belong here or before and lie behind */
};
struct tcp_table {
	struct tcp_bucket *buckets;
	uint32_t mask;
};

struct tcp_listener {
	struct addr local;
	uint16_t port; /* 0: not used */
	uint32_t tag;
};

struct tcp_stack {
	struct tcp_config config;
	uint64_t now_us;
	struct tcp_trace *trace; /* NULL: nobody watches (trace.h) */
	int mark_offset; /* of struct tcp_mark in an mbuf */
	uint8_t rcv_wscale;
	uint32_t receive_mbufs_max; /* per connection: beyond it none is kept out of order */
	uint16_t send_mbufs_max;    /* per connection */
	uint16_t payload_max; /* of a data mbuf */
	struct tcp_table table;
	struct timer_wheel wheel;
	struct tcp_conn_list dirty, eventful;
	struct tcp_conn *told; /* its ENDED was popped last; freed at the next tcp_next_event() */
	struct tcp_departure *departures;
	uint32_t departures_head, departures_tail;
	struct tcp_conn *conns, *conns_free;
	uint32_t conns_fresh, half_opens_fresh, time_waits_fresh; /* slots ever used */
	uint32_t inbound_used; /* connections that peers have opened */
	struct tcp_conn *idlest; /* of those looked at so far; NULL: none (tcp_memory.c) */
	uint32_t idlest_ms, idle_at;
	struct tcp_half_open *half_opens;
	struct tcp_half_open_list half_open_sent[TCP_SYN_ACK_SENDS]; /* by how often but one */
	struct tcp_half_open_list half_opens_free;
	struct tcp_cookie_key cookie_keys[2]; /* by period */
	uint64_t cookies_until_us;	      /* the last one sent is good until then */
	struct tcp_slab reassemblies, flights;
	const struct tcp_cc *cc;
	struct tcp_time_wait *time_waits;
	struct tcp_time_wait_list time_waiting, time_waits_free;
	uint32_t conns_used;
	uint32_t connects; /* counts active opens: spreads source ports */
	struct tcp_listener listeners[TCP_LISTENERS_MAX];
	struct tcp_stats stats;
};

static inline struct tcp_mark *tcp_mark(const struct tcp_stack *s, struct rte_mbuf *m)
{
	return RTE_PTR_ADD(m, s->mark_offset);
}
static inline const uint8_t *tcp_marked_bytes(struct rte_mbuf *m, const struct tcp_mark *mark)
{
	return (const uint8_t *)m->buf_addr + mark->offset;
}
/* A run of neighbouring mbufs is known by its first, which knows its last. */
static inline struct rte_mbuf *tcp_run_last(const struct tcp_stack *s, struct rte_mbuf *first)
{
	return (struct rte_mbuf *)(uintptr_t)tcp_mark(s, first)->sent_us;
}
static inline void tcp_run_set_last(const struct tcp_stack *s, struct rte_mbuf *first, struct rte_mbuf *last)
{
	tcp_mark(s, first)->sent_us = (uintptr_t)last;
}
static inline uint32_t tcp_mark_end(const struct tcp_mark *mark)
{
	return mark->seq + mark->len;
}
static inline void tcp_mark_skip(struct tcp_mark *mark, uint32_t n) /* the first n bytes count no more */
{
	mark->seq += n;
	mark->offset = (uint16_t)(mark->offset + n);
	mark->len = (uint16_t)(mark->len - n);
}
/* Only the stack's thread writes a counter, any may read it (tcp_get_stats): relaxed loads and stores say so, and
 * cost what plain ones do. */
static inline void tcp_counter_add(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, __atomic_load_n(counter, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}
#define tcp_count_add(s, name, n) tcp_counter_add(&(s)->stats.name, (uint64_t)(n))
#define tcp_count(s, name)	  tcp_count_add(s, name, 1)
static inline void tcp_drop_count_one(struct tcp_stack *s, enum tcp_drop drop)
{
	tcp_counter_add(&s->stats.drops[drop], 1);
}
/* The clock of our timestamps: milliseconds, shifted for each connection (RFC 7323 5.4). */
static inline uint32_t tcp_ts_now(const struct tcp_stack *s, uint32_t offset)
{
	return (uint32_t)(s->now_us / 1000) + offset;
}

static inline uint32_t tcp_now_ms(const struct tcp_stack *s)
{
	return (uint32_t)(s->now_us / 1000);
}
