// SPDX-License-Identifier: Apache-2.0
#include "dataplane/reassembly.h"

#include "dataplane/tcp/tcp_hash.h"

#include <rte_cksum.h>
#include <stdlib.h>
#include <sys/queue.h>

#define ETHER_HEADER	14
#define IP6_HEADER	40
#define FRAGMENT_HEADER 8
#define HEADS		256 /* of hash chains */
#define ECN_CE		3

#define ICMP_TIME	11
#define ICMP6_TIME	3
#define CODE_REASSEMBLY 1

struct range {
	uint16_t first, end;
};

struct datagram {
	TAILQ_ENTRY(datagram) by_age;
	struct datagram *next; /* in the chain, or of the free ones */
	struct addr local, remote;
	uint32_t id;
	uint8_t protocol;
	uint8_t ecn_seen; /* a bit for each value of the field (RFC 3168 5.3) */
	uint8_t count;
	bool is_refused; /* what else comes of it is dropped; holds no buffer */
	uint16_t chain;
	uint16_t headers; /* bytes before the fragmented part, Ethernet's included; 0: the first
			     fragment has not come */
	uint16_t bytes;	  /* that have come */
	uint16_t total;	  /* 0: the last fragment has not come */
	uint16_t next_at;
	uint64_t since_us;
	struct rte_mbuf *m; /* the fragmented part at its place, the headers right before it */
	struct range ranges[FRAGMENTS_MAX];
};
TAILQ_HEAD(datagram_list, datagram);

struct reassembly {
	struct datagram_list by_age; /* oldest first */
	struct datagram *heads[HEADS], *free;
	struct datagram datagrams[DATAGRAMS_MAX];
};

struct reassembly *reassembly_create(void)
{
	struct reassembly *r = calloc(1, sizeof *r);
	if (r == NULL)
		return NULL;
	TAILQ_INIT(&r->by_age);
	for (unsigned i = 0; i < DATAGRAMS_MAX; i++) {
		r->datagrams[i].next = r->free;
		r->free = &r->datagrams[i];
	}
	return r;
}

void reassembly_destroy(struct reassembly *r)
{
	struct datagram *d;
	if (r == NULL)
		return;
	TAILQ_FOREACH(d, &r->by_age, by_age)
	rte_pktmbuf_free(d->m);
	free(r);
}

/* ---- datagrams ---- */

static uint16_t chain_of(
	const struct dp_core *core, const struct packet *p, const struct fragment *f)
{
	uint64_t words[5];
	memcpy(words, p->local.b, 16);
	memcpy(words + 2, p->remote.b, 16);
	words[4] = (uint64_t)f->id << 8 | f->protocol;
	return (uint16_t)(siphash(core->dp->secret, words, 5, 1, 3) % HEADS);
}

static bool is_of(const struct datagram *d, const struct packet *p, const struct fragment *f)
{
	return d->id == f->id && d->protocol == f->protocol && addr_equal(&d->remote, &p->remote) &&
		addr_equal(&d->local, &p->local);
}

static void put_datagram(struct reassembly *r, struct datagram *d)
{
	struct datagram **link = &r->heads[d->chain];
	while (*link != d)
		link = &(*link)->next;
	*link = d->next;
	TAILQ_REMOVE(&r->by_age, d, by_age);
	rte_pktmbuf_free(d->m);
	d->m = NULL;
	d->next = r->free;
	r->free = d;
}

static void evict_oldest(struct dp_core *core)
{
	count(core, COUNT_drop_fragment_full);
	put_datagram(core->reassembly, TAILQ_FIRST(&core->reassembly->by_age));
}

static struct rte_mbuf *get_buffer(struct dp_core *core)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(core->fragment_pool);
	if (m == NULL)
		return NULL;
	m->port = 0;
	m->data_off = FRAGMENT_HEADERS;
	return m;
}

/* NULL: no buffer; the packets above hold them all. */
static struct datagram *get_datagram(
	struct dp_core *core, const struct packet *p, const struct fragment *f, uint16_t chain)
{
	struct reassembly *r = core->reassembly;
	if (r->free == NULL)
		evict_oldest(core);
	struct rte_mbuf *m = get_buffer(core);
	struct datagram *d = r->free;
	if (m == NULL)
		return NULL;
	r->free = d->next;
	*d = (struct datagram){.next = r->heads[chain],
		.local = p->local,
		.remote = p->remote,
		.id = f->id,
		.protocol = f->protocol,
		.chain = chain,
		.since_us = p->now_us,
		.m = m};
	m->port = (uint16_t)p->port;
	r->heads[chain] = d;
	TAILQ_INSERT_TAIL(&r->by_age, d, by_age);
	return d;
}

static struct datagram *find_or_get(
	struct dp_core *core, const struct packet *p, const struct fragment *f)
{
	const uint16_t chain = chain_of(core, p, f);
	for (struct datagram *d = core->reassembly->heads[chain]; d != NULL; d = d->next)
		if (is_of(d, p, f))
			return d;
	return get_datagram(core, p, f, chain);
}

/* RFC 5722 4: the whole of it, with what is still to come; and no word to the sender. The place is
 * kept until its time is over. */
static enum dp_counter refuse(struct datagram *d, enum dp_counter reason)
{
	rte_pktmbuf_free(d->m);
	d->m = NULL;
	d->is_refused = true;
	return reason;
}

/* ---- a fragment ---- */

/* Does it say again what is there? RFC 8200 4.5 lets us take that for the network's doing. */
static bool is_duplicate(const struct datagram *d, const struct range *old, const struct range *new,
	struct bytes part)
{
	return old->first == new->first &&
		old->end ==
		new->end &&memcmp(
			rte_pktmbuf_mtod_offset(d->m, uint8_t *, new->first), part.at, part.n) == 0;
}

/* COUNT_END: it can be put in. */
static enum dp_counter check_against(
	struct datagram *d, const struct range *new, bool has_more, struct bytes part)
{
	for (unsigned i = 0; i < d->count; i++) {
		const struct range *old = &d->ranges[i];
		if (has_more == (d->total != new->end) && is_duplicate(d, old, new, part))
			return COUNT_drop_fragment_duplicate;
		if (new->first < old->end && old->first < new->end)
			return refuse(d, COUNT_drop_fragment_overlap);
		if (!has_more && old->end > new->end)
			return refuse(d, COUNT_drop_fragment_overlap);
	}
	if (d->total != 0 && (!has_more || new->end > d->total))
		return refuse(d, COUNT_drop_fragment_overlap);
	if (d->count == FRAGMENTS_MAX)
		return refuse(d, COUNT_drop_fragment_too_many);
	return COUNT_END;
}

static enum dp_counter put_in(struct datagram *d, const struct packet *p, const struct fragment *f)
{
	const size_t end = f->offset + p->body.n;
	const uint8_t *start = rte_pktmbuf_mtod(p->m, const uint8_t *);
	const size_t headers = (size_t)(p->body.at - start);
	if (d->is_refused)
		return COUNT_drop_fragment_refused;
	if (end > rte_pktmbuf_tailroom(d->m) || (f->offset == 0 && headers > FRAGMENT_HEADERS))
		return refuse(d, COUNT_drop_fragment_too_long);
	const struct range range = {f->offset, (uint16_t)end};
	enum dp_counter reason = check_against(d, &range, f->has_more, p->body);
	if (reason != COUNT_END)
		return reason;
	uint8_t *part = rte_pktmbuf_mtod(d->m, uint8_t *);
	memcpy(part + f->offset, p->body.at, p->body.n);
	if (f->offset == 0) {
		memcpy(part - headers, start, headers);
		d->headers = (uint16_t)headers;
		d->next_at = f->next_at;
	}
	d->ranges[d->count++] = range;
	d->bytes = (uint16_t)(d->bytes + p->body.n);
	d->ecn_seen |= (uint8_t)(1 << p->ecn);
	if (!f->has_more)
		d->total = range.end;
	return COUNT_END;
}

/* ---- the whole ---- */

/* RFC 3168 5.3: congestion met by one fragment was met by all; together with one that said it could
 * not have been told, something is wrong. */
static bool join_ecn(const struct datagram *d, bool *is_congested)
{
	*is_congested = d->ecn_seen & 1 << ECN_CE;
	return !(*is_congested && d->ecn_seen & 1);
}

static void finish_ip4(struct datagram *d, uint8_t *ip, bool is_congested)
{
	const size_t header = d->headers - ETHER_HEADER;
	put_be16(ip + 2, (uint16_t)(header + d->total));
	put_be16(ip + 6, 0);
	if (is_congested)
		ip[1] |= ECN_CE;
	memset(ip + 10, 0, 2);
	uint16_t sum = (uint16_t)~rte_raw_cksum(ip, header);
	memcpy(ip + 10, &sum, 2);
}

/* The fragment header, last of the headers, goes; what pointed at it points behind it. */
static uint8_t *finish_ip6(struct datagram *d, uint8_t *ip, bool is_congested)
{
	const size_t rest = d->headers - ETHER_HEADER - IP6_HEADER - FRAGMENT_HEADER;
	ip[d->next_at] = ip[IP6_HEADER + rest];
	put_be16(ip + 4, (uint16_t)(rest + d->total));
	if (is_congested)
		ip[1] |= ECN_CE << 4;
	uint8_t *start = ip - ETHER_HEADER;
	memmove(start + FRAGMENT_HEADER, start, ETHER_HEADER + IP6_HEADER + rest);
	rte_pktmbuf_adj(d->m, FRAGMENT_HEADER);
	return ip + FRAGMENT_HEADER;
}

/* Makes the buffer's data the frame as far as it is there: all of `part` bytes. */
static uint8_t *frame_of(struct datagram *d, uint16_t part)
{
	d->m->data_len = part;
	d->m->pkt_len = part;
	return (uint8_t *)rte_pktmbuf_prepend(d->m, d->headers);
}

static void complete(struct dp_core *core, const struct packet *last, struct datagram *d)
{
	bool is_congested, is_ip4 = addr_is_ipv4(&d->remote);
	if (!join_ecn(d, &is_congested)) {
		count(core, refuse(d, COUNT_drop_fragment_ecn));
		return;
	}
	uint8_t *ip = frame_of(d, d->total) + ETHER_HEADER;
	if (is_ip4)
		finish_ip4(d, ip, is_congested);
	else
		ip = finish_ip6(d, ip, is_congested);
	struct packet whole = {.m = d->m,
		.port = last->port,
		.now_us = last->now_us,
		.is_reassembled = true,
		.network = bytes_of(ip, d->m->data_len - ETHER_HEADER)};
	memcpy(whole.source_mac, ip - ETHER_HEADER + 6, 6);
	d->m = NULL;
	put_datagram(core->reassembly, d);
	count(core, COUNT_reassembled);
	if (is_ip4)
		ip4_input(core, &whole);
	else
		ip6_input(core, &whole);
}

void reassembly_input(struct dp_core *core, struct packet *p, const struct fragment *f)
{
	enum dp_counter reason = COUNT_drop_fragment_bad;
	struct datagram *d = NULL;
	count(core, COUNT_fragments_in);
	if (p->body.n > 0 && !(f->has_more && p->body.n % 8 != 0)) {
		d = find_or_get(core, p, f);
		reason = d == NULL ? COUNT_drop_fragment_no_buffer : put_in(d, p, f);
	}
	if (reason != COUNT_END) {
		packet_drop(core, p, reason);
		return;
	}
	rte_pktmbuf_free(p->m);
	p->m = NULL;
	if (d->headers != 0 && d->total != 0 && d->bytes == d->total)
		complete(core, p, d);
}

/* ---- time ---- */

/* RFC 792, RFC 1122 3.3.2; RFC 4443 3.3: only about a datagram whose first fragment is there. Takes
 * the buffer. */
static void tell_sender(struct dp_core *core, struct datagram *d, uint64_t now_us)
{
	uint16_t first = 0;
	for (unsigned i = 0; i < d->count; i++)
		if (d->ranges[i].first == 0)
			first = d->ranges[i].end;
	struct packet p = {.m = d->m,
		.port = d->m->port,
		.now_us = now_us,
		.local = d->local,
		.remote = d->remote};
	p.network = bytes_of(
		frame_of(d, first) + ETHER_HEADER, (size_t)d->headers - ETHER_HEADER + first);
	d->m = NULL;
	if (addr_is_ipv4(&d->remote))
		icmp4_error(core, &p, ICMP_TIME, CODE_REASSEMBLY, COUNT_drop_fragment_timeout);
	else
		icmp6_error(core, &p, ICMP6_TIME, CODE_REASSEMBLY, 0, COUNT_drop_fragment_timeout);
}

static void expire(struct dp_core *core, struct datagram *d, uint64_t now_us)
{
	if (d->headers != 0 && !d->is_refused)
		tell_sender(core, d, now_us);
	else if (!d->is_refused)
		count(core, COUNT_drop_fragment_timeout);
	put_datagram(core->reassembly, d);
}

void reassembly_tick(struct dp_core *core, uint64_t now_us)
{
	struct datagram *d = TAILQ_FIRST(&core->reassembly->by_age);
	while (d != NULL) {
		struct datagram *younger = TAILQ_NEXT(d, by_age);
		uint64_t age_us = now_us - d->since_us;
		if (age_us > (addr_is_ipv4(&d->remote) ? REASSEMBLY_US_IP4 : REASSEMBLY_US_IP6))
			expire(core, d, now_us);
		d = younger;
	}
}
