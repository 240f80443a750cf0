// SPDX-License-Identifier: Apache-2.0
/* dataplane/tcp/tcp.h: TCP (RFC 9293) as a library: segments in, effects out.
 *
 * A stack belongs to one core and shares nothing. It has no globals, reads no clock (every call is given the
 * time), and does no I/O: segments to send are put on a list that the caller takes, events for the user are
 * popped. `rte_mbuf` is its buffer type; the caller gives the pools. Knows IP only as addresses: checksums
 * are of the pseudo-header (RFC 9293 3.1, RFC 8200 8.1). */
#pragma once

#include <rte_mbuf.h>

#include "base/addr.h"

struct tcp_stack;
struct tcp_conn;

/* ---- a stack ---- */
struct tcp_config {
	uint32_t connections_max;     /* established and half-open; at the limit SYNs get no answer */
	uint32_t inbound_max;	      /* of them, opened by peers, half-open ones too; 0: all */
	uint32_t half_open_max;	      /* of them, not yet established by a peer; at the limit stale ones make
					 room, and where there are none SYN cookies are sent */
	uint32_t time_wait_max;	      /* small records; the oldest is recycled at the limit */
	uint32_t receive_bytes_max;   /* per connection: the largest window; it starts at 64 KB at most */
	uint32_t send_bytes_max;      /* per connection: unsent and unacknowledged; no more than two congestion
					 windows, or 64 KB, are taken */
	uint64_t buffer_bytes_max;    /* all connections' received and unacknowledged data together; an mbuf
					 counts with its whole buffer, however little is in it, so that this
					 bounds how many mbufs of the pool (and of the ports' pools) are held.
					 At 5/8 SYNs get no answer, at 6/8 windows grow no more, at 7/8 the idlest
					 connections that hold data are reset */
	struct rte_mempool *pool;     /* data segments; headroom for Ethernet, IPv6 and TCP headers */
	struct rte_mempool *control_pool; /* ACK, RST, SYN-ACK: never starved by data */
	/* Each 0: by default */
	uint64_t user_timeout_us;	/* without progress the connection ends; 5 minutes (RFC 9293 3.8.3) */
	uint64_t keepalive_idle_us;	/* of silence before the first probe; 2 hours */
	uint64_t keepalive_interval_us; /* between probes; 75 s */
	uint32_t keepalive_probes;	/* unanswered, and the connection ends; 9, 255 at most */
	bool is_keepalive_on;		/* for each new connection (RFC 9293 MUST-25: off) */
	bool ecn; /* offer and accept ECN (RFC 3168) */
	enum { TCP_CUBIC, TCP_NEWRENO } congestion_control; /* RFC 9438, or RFC 5681 */
	uint8_t secret[16];	      /* keys ISNs, timestamp offsets and the table's hash (RFC 6528, 7323) */
	/* Does this core own the 4-tuple? Used to choose a source port for active opens. */
	bool (*is_ours)(void *user, const struct addr *local, uint16_t local_port,
		const struct addr *remote, uint16_t remote_port);
	/* The largest IP packet that the link towards `remote` takes, bytes (1500 on Ethernet). */
	uint16_t (*mtu)(void *user, const struct addr *local, const struct addr *remote);
	/* What is remembered of the path beyond it (RFC 1191, RFC 8201): the largest packet, 0 for nothing;
	 * and to be told that larger ones than `mtu` do not reach `remote`, on the word of an ICMP error
	 * about what is in flight. Either may be NULL. */
	uint16_t (*path_mtu)(void *user, const struct addr *remote);
	void (*learn_path_mtu)(void *user, const struct addr *remote, uint32_t mtu);
	/* Segments with text get RTE_MBUF_F_TX_TCP_CKSUM, l4_len and only the sum of the pseudo-header: who takes
	 * them, or a port, does the rest. */
	bool leaves_checksum;
	void *user;
};
/* NULL: no memory, or a configuration that cannot work (a limit of 0 but for half_open_max and time_wait_max,
 * no pool or callback, data rooms below 664 and 128 bytes). Everything is taken here, nothing later. Needs the
 * EAL: it registers a dynamic field of 24 bytes in mbufs. */
struct tcp_stack *tcp_stack_create(const struct tcp_config *config, uint64_t now_us);
/* Frees all, segments in flight too; sends nothing. */
void tcp_stack_destroy(struct tcp_stack *stack);

/* ---- from and to the wire ---- */
/* A TCP segment has arrived; takes the mbuf. Its data starts at the TCP header and holds the whole segment,
 * which may be chained. The IP layer has checked length and fragments; `is_checksum_good` if the port or
 * somebody has checked the TCP checksum, else it is checked here. */
struct tcp_arrival {
	struct addr local, remote; /* destination and source */
	bool is_checksum_good;
	uint8_t ecn; /* the two ECN bits of the IP header */
};
void tcp_input(struct tcp_stack *stack, struct rte_mbuf *m, const struct tcp_arrival *arrival,
	uint64_t now_us);
/* An ICMP error quotes one of our segments (RFC 5927). `quoted` starts at its TCP header and has 8 bytes at
 * least. `mtu` is 0 but for "fragmentation needed" and "packet too big". */
enum tcp_icmp { TCP_ICMP_SOFT, TCP_ICMP_HARD, TCP_ICMP_TOO_BIG };
void tcp_icmp_error(struct tcp_stack *stack, const struct addr *local, const struct addr *remote,
	struct bytes quoted, enum tcp_icmp kind, uint32_t mtu, uint64_t now_us);

/* Runs the timers that are due. */
void tcp_tick(struct tcp_stack *stack, uint64_t now_us);
/* When tcp_tick() has something to do next; UINT64_MAX: never, as things are. May be early, never late. */
uint64_t tcp_next_due_us(const struct tcp_stack *stack);

/* Builds what is to be sent now (ACKs, data, probes) of connections that changed; call once after a burst,
 * timers and the user's writes. Then take the segments: each mbuf starts at its TCP header, checksum
 * filled with the pseudo-header's included; the receiver of it owns it (prepends IP, may chain). A data
 * segment's payload may be shared with the retransmit queue: only prepend, never write behind the header. */
void tcp_output(struct tcp_stack *stack, uint64_t now_us);
struct tcp_departure {
	struct rte_mbuf *m;
	struct addr local, remote;
	uint8_t ecn; /* the two ECN bits for the IP header: 2, ECT(0), on new text where both sides have ECN */
};
/* Up to `count` segments, in order; returns how many. */
unsigned tcp_take(struct tcp_stack *stack, struct tcp_departure *departures, unsigned count);

/* ---- opening ---- */
/* Accepts connections to `local` (unspecified: any of the family of it; see addr_is_unspecified) and `port`;
 * accepted connections carry `tag`. 0; -EINVAL: port 0; -EADDRINUSE; -ENOSPC: more than 64 listeners. */
int tcp_listen(struct tcp_stack *stack, const struct addr *local, uint16_t port, uint32_t tag);
/* Stops answering SYNs; accepted connections stay. */
void tcp_unlisten(struct tcp_stack *stack, const struct addr *local, uint16_t port);
/* Opens actively from `local` and a port that this core owns. NULL and `*error` -ENOBUFS (limit),
 * -EADDRNOTAVAIL (no port free). CONNECTED or ENDED follows. */
struct tcp_conn *tcp_connect(struct tcp_stack *stack, const struct addr *local,
	const struct addr *remote, uint16_t remote_port, void *user, int *error, uint64_t now_us);

/* ---- events ---- */
enum {
	TCP_EVENT_ACCEPTED = 1 << 0,  /* new by a peer; set its user pointer now */
	TCP_EVENT_CONNECTED = 1 << 1, /* tcp_connect() succeeded */
	TCP_EVENT_READABLE = 1 << 2,  /* there is more to read */
	TCP_EVENT_WRITABLE = 1 << 3,  /* room again, after a write took less than asked */
	TCP_EVENT_FIN = 1 << 4,	      /* the peer sends no more; what came can still be read */
	TCP_EVENT_ENDED = 1 << 5,     /* the connection is no more (reason: tcp_end_reason()); after this
					 event the handle is invalid and TCP keeps nothing for the user */
};
/* The next connection something happened on, its events gathered; NULL: none. With ENDED the handle can be
 * used (read what is left, tcp_end_reason()) until the next call of this. What ends before its ACCEPTED was
 * taken is not told at all. */
struct tcp_conn *tcp_next_event(struct tcp_stack *stack, uint32_t *events);

enum tcp_end {
	TCP_END_CLOSED,	   /* both sides closed in order */
	TCP_END_RESET,	   /* by the peer */
	TCP_END_REFUSED,   /* RST to our SYN */
	TCP_END_TIMEOUT,   /* retransmissions or the user timeout gave up */
	TCP_END_UNREACHABLE, /* ICMP hard error while opening; any, and then no progress until it was given up */
	TCP_END_ABORTED,   /* by us */
	TCP_END_NO_MEMORY, /* reset by us: the core ran short of it and this connection had moved nothing for longest */
};
enum tcp_end tcp_end_reason(const struct tcp_conn *conn); /* while handling ENDED */
const char *tcp_end_name(enum tcp_end end);

/* ---- a connection ---- */
void *tcp_user(const struct tcp_conn *conn);
void tcp_set_user(struct tcp_conn *conn, void *user);
uint32_t tcp_tag(const struct tcp_conn *conn); /* of the listener */
void tcp_endpoints(const struct tcp_conn *conn, struct addr *local, uint16_t *local_port,
	struct addr *remote, uint16_t *remote_port);

/* The next readable range, valid until tcp_consume() or the next tcp_input(); empty: nothing now. Bytes not
 * consumed stay and close the window. */
struct bytes tcp_peek(struct tcp_conn *conn);
void tcp_consume(struct tcp_conn *conn, size_t n);
/* Both at once: copies up to `room` bytes; returns how many, 0 where there are none now. */
size_t tcp_read(struct tcp_conn *conn, uint8_t *to, size_t room);
/* How many bytes there are to be read, and a copy of `n` of them from `offset` on: to know what has come before any
 * of it is consumed. The copy walks the segments before it, so it is not for every arrival; false: they are not all
 * there. */
size_t tcp_readable(const struct tcp_conn *conn);
bool tcp_peek_at(struct tcp_conn *conn, size_t offset, uint8_t *to, size_t n);
/* Copies into the send queue; returns the bytes taken, less than `b.n` where the queue is full. Small writes
 * before a tcp_output() share segments. */
size_t tcp_write(struct tcp_conn *conn, struct bytes b);
/* How much tcp_write() would take now. */
size_t tcp_write_space(const struct tcp_conn *conn);
/* Bytes written and not yet acknowledged. */
size_t tcp_unacked(const struct tcp_conn *conn);
/* Sends FIN behind what is written; ENDED follows when the other side has closed too (or has been silent for
 * the 60 s of FIN_WAIT_2, or has kept its window shut for 5 minutes). Reading goes on, and has to: unread data
 * closes the window and the peer's FIN may not fit. While SYN_SENT: ends at once, as aborted. */
void tcp_close(struct tcp_conn *conn);
/* Probes the peer while it is silent, with the stack's times, or does not (RFC 9293 3.8.4). */
void tcp_set_keepalive(struct tcp_conn *conn, bool is_on);
/* How long data, FIN or SYN are sent again without progress before the connection ends; 0: as the stack has it,
 * but 3 minutes for a SYN. 18 hours at most. */
void tcp_set_user_timeout(struct tcp_conn *conn, uint32_t seconds);
/* Sends RST; ENDED follows. */
void tcp_abort(struct tcp_conn *conn);

/* ---- to be seen ---- */
/* Every counter is in dataplane/tcp/counters.def; every dropped segment has a reason of dataplane/tcp/drops.def. */
struct tcp_stats {
#define TCP_COUNTER(name, help) uint64_t name;
#define TCP_GAUGE(name, help)	uint64_t name;
#include "dataplane/tcp/counters.def"
#undef TCP_COUNTER
#undef TCP_GAUGE
	uint64_t drops[64]; /* by enum tcp_drop */
};
/* Any thread, at any time: each number is whole, but they need not be of one moment. */
void tcp_get_stats(const struct tcp_stack *stack, struct tcp_stats *stats);
unsigned tcp_counter_count(void);
const char *tcp_counter_name(unsigned counter); /* "segments_in" */
const char *tcp_counter_help(unsigned counter);
bool tcp_counter_is_gauge(unsigned counter);
uint64_t tcp_counter(const struct tcp_stats *stats, unsigned counter);
unsigned tcp_drop_count(void);
const char *tcp_drop_name(unsigned drop); /* "bad_checksum" */
const char *tcp_drop_help(unsigned drop); /* the sentence of the table */
/* The RFC 9293 names of the states, from 0 on; NULL: there are no more. */
const char *tcp_state_name(unsigned state);
struct tcp_info {
	const char *state; /* tcp_state_name(state_number) */
	unsigned state_number;
	bool is_active; /* opened by us */
	uint64_t sent_us; /* when we last sent text, on the clock of now_us; 0: never */
	uint32_t srtt_us, rttvar_us, rto_us, cwnd, ssthresh, snd_wnd, rcv_wnd, mss;
	uint64_t retransmits, bytes_in, bytes_out;
	size_t send_queue, receive_queue;
};
void tcp_get_info(const struct tcp_conn *conn, struct tcp_info *info);
/* Looks at `places` places of the stack from `*cursor` (0 at first) on, and hands each connection there to `each`,
 * until that returns false (it has had the last one then). false: there are no more places. So all connections
 * are seen in steps of a bounded length; what opens and ends meanwhile is seen or not, and nothing twice. */
bool tcp_walk(struct tcp_stack *stack, uint32_t *cursor, uint32_t places,
	bool (*each)(void *user, struct tcp_conn *conn), void *user);
/* The same for what is no connection yet or any more: "SYN-RECEIVED", opened by a peer that has not said the last
 * word, and "TIME-WAIT". `until_us`: when it ends by itself at the latest. */
struct tcp_remnant {
	struct addr local, remote;
	uint16_t local_port, remote_port;
	unsigned state_number;
	uint64_t until_us;
};
bool tcp_walk_remnants(struct tcp_stack *stack, uint32_t *cursor, uint32_t places,
	bool (*each)(void *user, const struct tcp_remnant *remnant), void *user);
/* Names a connection for its life: one that gets its place later has another name. */
uint64_t tcp_conn_id(const struct tcp_conn *conn);
/* NULL: it is no more. */
struct tcp_conn *tcp_conn_by_id(struct tcp_stack *stack, uint64_t id);
