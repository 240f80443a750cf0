// SPDX-License-Identifier: Apache-2.0
#include "dataplane/tcp/tcp_rig.h"

bool rig_is_ipv6;
static struct rte_mempool *data_pool, *control_pool;

struct rte_mempool *rig_pool(bool is_control)
{
	return is_control ? control_pool : data_pool;
}

static bool is_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	const struct rig *rig = user;
	return rig->owned_modulo == 0 || lp % rig->owned_modulo == 0;
}

static uint16_t mtu(void *user, const struct addr *l, const struct addr *r)
{
	return ((struct rig *)user)->mtu;
}

struct tcp_config rig_config(void)
{
	return (struct tcp_config){
		.connections_max = 8,
		.half_open_max = 4,
		.time_wait_max = 4,
		.receive_bytes_max = 16384,
		.send_bytes_max = 16384,
		.buffer_bytes_max = 1 << 20,
		.pool = data_pool,
		.control_pool = control_pool,
		.secret = {1, 2, 3},
		.is_ours = is_ours,
		.mtu = mtu,
	};
}

void rig_start(struct rig *r, const struct tcp_config *config)
{
	struct tcp_config c = *config;
	*r = (struct rig){
		.now_us = 1000000000,
		.local_port = RIG_PORT,
		.remote_port = 40000,
		.seq = 0xfffffff0, /* everything wraps soon */
		.window = 60000,
		.mss = 1460,
		.wscale = -1,
		.mtu = 1500,
		.in_use = {rte_mempool_in_use_count(data_pool), rte_mempool_in_use_count(control_pool)},
	};
	addr_parse(rig_is_ipv6 ? "2001:db8::1" : "192.0.2.1", &r->local);
	addr_parse(rig_is_ipv6 ? "2001:db8:1::9" : "198.51.100.9", &r->remote);
	c.user = r;
	r->s = tcp_stack_create(&c, r->now_us);
	assert_non_null(r->s);
}

void rig_end(struct rig *r)
{
	tcp_stack_destroy(r->s);
	assert_int_equal(rte_mempool_in_use_count(data_pool), r->in_use[0]);
	assert_int_equal(rte_mempool_in_use_count(control_pool), r->in_use[1]);
}

void rig_in_raw(struct rig *r, const struct kit_segment *seg)
{
	uint8_t b[2048];
	size_t n = kit_encode(seg, &r->remote, &r->local, b);
	struct rte_mbuf *m = kit_mbuf(data_pool, bytes_of(b, n), 0);
	const struct tcp_arrival a = {r->local, r->remote, false, r->ecn};
	assert_non_null(m);
	tcp_input(r->s, m, &a, r->now_us);
}

void rig_in(struct rig *r, uint8_t flags, uint32_t seq, uint32_t ack, const char *text)
{
	struct kit_segment seg = {
		.from = r->remote_port,
		.to = r->local_port,
		.seq = seq,
		.ack = ack,
		.flags = flags,
		.window = r->window,
		.mss = flags & KIT_SYN ? r->mss : 0,
		.wscale = flags & KIT_SYN ? r->wscale : -1,
		.has_ts = r->has_ts,
		.tsval = r->tsval,
		.tsecr = r->tsecr,
		.has_sack_ok = flags & KIT_SYN && r->has_sack,
		.sack_count = r->sack_count,
		.text = bytes_of_string(text),
	};
	memcpy(seg.sack, r->sack, sizeof seg.sack);
	r->sack_count = 0;
	rig_in_raw(r, &seg);
}

void rig_text(struct rig *r, const char *text)
{
	rig_in(r, KIT_ACK | KIT_PSH, r->seq, r->ack, text);
	r->seq += (uint32_t)strlen(text);
}

bool rig_out(struct rig *r)
{
	struct tcp_departure d;
	tcp_output(r->s, r->now_us);
	if (tcp_take(r->s, &d, 1) == 0)
		return false;
	assert_true(addr_equal(&d.local, &r->local));
	assert_true(addr_equal(&d.remote, &r->remote));
	assert_int_equal(d.m->nb_segs, 1);
	r->got_ecn = d.ecn;
	assert_true(rte_pktmbuf_headroom(d.m) >= 14 + 40);
	assert_true(kit_decode(&r->got, &r->local, &r->remote,
		bytes_of(rte_pktmbuf_mtod(d.m, void *), d.m->data_len)));
	rte_pktmbuf_free(d.m);
	return true;
}

void rig_expect(struct rig *r, uint8_t flags, uint32_t seq, uint32_t ack, const char *text)
{
	assert_true(rig_out(r));
	assert_int_equal(r->got.flags & ~KIT_PSH, flags);
	assert_int_equal(r->got.seq, seq);
	assert_int_equal(r->got.ack, ack);
	assert_int_equal(r->got.text.n, strlen(text));
	assert_memory_equal(r->got.text.at, text, strlen(text));
	assert_int_equal(r->got.from, r->local_port);
	assert_int_equal(r->got.to, r->remote_port);
}

void rig_expect_nothing(struct rig *r)
{
	assert_false(rig_out(r));
}

void rig_wait(struct rig *r, uint64_t us)
{
	const uint64_t end = r->now_us + us;
	for (;;) {
		tcp_output(r->s, r->now_us);
		uint64_t due = tcp_next_due_us(r->s);
		if (due <= r->now_us) /* segments wait to be taken */
			due = r->now_us + 1000;
		if (due > end)
			break;
		r->now_us = due;
		tcp_tick(r->s, r->now_us);
	}
	r->now_us = end;
	tcp_tick(r->s, r->now_us);
}

uint32_t rig_events(struct rig *r)
{
	struct tcp_conn *c;
	uint32_t events;
	while ((c = tcp_next_event(r->s, &events)) != NULL) {
		if (r->c == NULL && events & TCP_EVENT_ACCEPTED)
			r->c = c;
		if (c != r->c)
			continue;
		r->events |= events;
		if (events & TCP_EVENT_ENDED)
			r->end = tcp_end_reason(c), r->c = NULL;
	}
	return r->events;
}

void rig_listen(struct rig *r)
{
	assert_int_equal(tcp_listen(r->s, &r->local, RIG_PORT, RIG_TAG), 0);
}

void rig_accept(struct rig *r)
{
	rig_listen(r);
	rig_in(r, KIT_SYN, r->seq++, 0, "");
	assert_true(rig_out(r));
	assert_int_equal(r->got.flags, KIT_SYN | KIT_ACK);
	assert_int_equal(r->got.ack, r->seq);
	r->ack = r->got.seq + 1;
	rig_in(r, KIT_ACK, r->seq, r->ack, "");
	assert_int_equal(rig_events(r), TCP_EVENT_ACCEPTED);
	assert_non_null(r->c);
	assert_int_equal(tcp_tag(r->c), RIG_TAG);
	r->events = 0;
	rig_expect_nothing(r);
}

void rig_connect(struct rig *r)
{
	int error;
	r->remote_port = RIG_PORT;
	r->c = tcp_connect(r->s, &r->local, &r->remote, RIG_PORT, r, &error, r->now_us);
	assert_non_null(r->c);
	assert_ptr_equal(tcp_user(r->c), r);
	assert_true(rig_out(r));
	assert_int_equal(r->got.flags, KIT_SYN);
	r->local_port = r->got.from;
	r->ack = r->got.seq + 1;
}

size_t rig_write(struct rig *r, const char *text)
{
	return tcp_write(r->c, bytes_of_string(text));
}

void rig_expect_read(struct rig *r, const char *text)
{
	size_t n = strlen(text);
	while (n > 0) {
		struct bytes b = bytes_first(tcp_peek(r->c), n);
		assert_true(b.n > 0);
		assert_memory_equal(b.at, text, b.n);
		tcp_consume(r->c, b.n);
		text += b.n;
		n -= b.n;
	}
	assert_int_equal(tcp_peek(r->c).n, 0);
}

char rig_big[65536];

void rig_make_big(void)
{
	for (size_t i = 0; i + 1 < sizeof rig_big; i++)
		rig_big[i] = (char)('!' + (i * i / 7 + i) % 90);
}

void rig_begin(struct rig *r)
{
	struct tcp_config config = rig_config();
	rig_start(r, &config);
	rig_accept(r);
}

struct tcp_info rig_info(const struct rig *r)
{
	struct tcp_info i;
	tcp_get_info(r->c, &i);
	return i;
}

void rig_write_big(struct rig *r, size_t n)
{
	assert_int_equal(tcp_write(r->c, bytes_of(rig_big, n)), n);
}

unsigned rig_take_all(struct rig *r, uint32_t from)
{
	unsigned n = 0;
	while (rig_out(r)) {
		assert_int_equal(r->got.seq, from);
		from += (uint32_t)r->got.text.n;
		n++;
	}
	return n;
}

void rig_ack(struct rig *r, uint32_t to)
{
	rig_in(r, KIT_ACK, r->seq, to, "");
}

const char *rig_state(struct rig *r)
{
	struct tcp_info info;
	tcp_get_info(r->c, &info);
	return info.state;
}

uint64_t rig_drops(struct rig *r, const char *name)
{
	struct tcp_stats stats;
	tcp_get_stats(r->s, &stats);
	for (unsigned i = 0; i < tcp_drop_count(); i++)
		if (strcmp(tcp_drop_name(i), name) == 0)
			return stats.drops[i];
	fail_msg("no drop reason '%s'", name);
	return 0;
}

int rig_main(const struct CMUnitTest *tests, size_t count)
{
	int failed = 0;
	rig_make_big();
	kit_start();
	data_pool = kit_pool("data", 1023);
	control_pool = kit_pool("control", 255);
	for (unsigned v6 = 0; v6 < 2; v6++) {
		rig_is_ipv6 = v6;
		failed += _cmocka_run_group_tests(v6 ? "over IPv6" : "over IPv4", tests, count, NULL, NULL);
	}
	kit_stop();
	return failed;
}
