// SPDX-License-Identifier: Apache-2.0
#include "relay/worker_lab.h"

#include <stdio.h>

#include "dataplane/tcp/tcp_kit.h"
#include "smtp/envelope.h"
#include "tls/lab.h"

static struct lab *the_lab;
static struct rte_mempool *pools[4];

/* ---- the data plane's place ---- */

struct dp_core *dp_get_core(struct dp *dp, unsigned core)
{
	return (struct dp_core *)the_lab;
}

struct tcp_stack *dp_core_tcp(struct dp_core *core)
{
	return ((struct lab *)core)->near;
}

bool dp_source_for(struct dp_core *core, const struct addr *remote, struct addr *local)
{
	*local = ((struct lab *)core)->near_addr;
	return true;
}

void dp_core_run(struct dp_core *core, const struct dp_core_user *user)
{
	((struct lab *)core)->user = *user;
}

static bool is_ours(void *user, const struct addr *l, uint16_t lp, const struct addr *r, uint16_t rp)
{
	return true;
}

static uint16_t mtu(void *user, const struct addr *l, const struct addr *r)
{
	return 1500;
}

/* ---- the far end ---- */

static size_t peer_io_read(void *user, uint8_t *to, size_t room)
{
	struct peer *p = user;
	struct bytes b = bytes_first(bytes_of(p->in, p->n), room);
	if (p->tls != NULL && !p->is_secure && b.n != 0) { /* had come before TLS was opened */
		memcpy(to, b.at, b.n);
		memmove(p->in, p->in + b.n, p->n - b.n + 1);
		p->n -= b.n;
		return b.n;
	}
	b = bytes_first(tcp_peek(p->conn), room);
	if (b.n != 0)
		memcpy(to, b.at, b.n);
	tcp_consume(p->conn, b.n);
	return b.n;
}

static size_t peer_io_write(void *user, const uint8_t *from, size_t n)
{
	return tcp_write(((struct peer *)user)->conn, bytes_of(from, n));
}

static struct peer *peer_new(struct lab *lab, struct tcp_conn *conn)
{
	assert_in_range(lab->peer_count, 0, LAB_PEERS - 1);
	struct peer *p = &lab->peers[lab->peer_count++];
	*p = (struct peer){.lab = lab, .conn = conn, .is_reading = true};
	if (conn != NULL)
		tcp_set_user(conn, p);
	return p;
}

static void peer_read(struct peer *p)
{
	size_t room = sizeof p->in - 1 - p->n, n = 0;
	if (p->conn == NULL || !p->is_reading || (p->tls != NULL && !p->is_secure))
		return;
	if (p->tls == NULL)
		n = peer_io_read(p, (uint8_t *)p->in + p->n, room);
	else if (tls_read(p->tls, (uint8_t *)p->in + p->n, room, &n) == TLS_EOF)
		p->has_fin = true;
	p->n += n;
	p->in[p->n] = '\0';
	if (n != 0)
		peer_read(p);
}

static void far_turn(struct lab *lab)
{
	uint32_t events;
	for (struct tcp_conn *c; (c = tcp_next_event(lab->far, &events)) != NULL;) {
		struct peer *p = events & TCP_EVENT_ACCEPTED ? peer_new(lab, c) : tcp_user(c);
		if (p == NULL)
			continue;
		peer_read(p);
		p->has_fin |= (events & TCP_EVENT_FIN) != 0;
		if (events & TCP_EVENT_ENDED) {
			p->has_ended = true;
			p->end = tcp_end_reason(c);
			p->conn = NULL;
		}
	}
	for (unsigned i = 0; i < lab->peer_count; i++)
		peer_read(&lab->peers[i]);
}

/* ---- the wire ---- */

static bool carry(struct lab *lab, struct tcp_stack *from, struct tcp_stack *to, struct rte_mempool *pool)
{
	struct tcp_departure d;
	bool any = false;
	tcp_output(from, lab->now_us);
	for (; tcp_take(from, &d, 1) == 1; any = true) {
		uint8_t b[4096];
		size_t n = 0;
		for (struct rte_mbuf *m = d.m; m != NULL; m = m->next) {
			memcpy(b + n, rte_pktmbuf_mtod(m, uint8_t *), m->data_len);
			n += m->data_len;
		}
		rte_pktmbuf_free(d.m);
		const struct tcp_arrival a = {.local = d.remote, .remote = d.local};
		tcp_input(to, kit_mbuf(pool, bytes_of(b, n), 0), &a, lab->now_us);
	}
	return any;
}

/* ---- the spool's place ---- */

void lab_verdict(struct lab *lab, bool is_durable)
{
	struct mail *mail = lab->committed;
	assert_non_null(mail);
	lab->committed = NULL;
	assert_true(ring_push_spsc(&lab->w->from_spool,
		verdict_pack(mail->waiter_slot, mail->waiter_generation, is_durable)));
	mail_return(mail, MAIL_RETURN_SPOOL);
}

static void spool_turn(struct lab *lab)
{
	for (uintptr_t word; (word = (uintptr_t)ring_pop_spsc(&lab->w->to_spool)) != 0;) {
		struct mail *mail = (struct mail *)(word & ~SPOOL_OP_MASK);
		assert_non_null(ring_pop_spsc(&lab->w->to_spool));
		if ((word & SPOOL_OP_MASK) == SPOOL_OP_ABORT) {
			lab->aborts++;
			mail_return(mail, MAIL_RETURN_SPOOL);
		} else if ((word & SPOOL_OP_MASK) == SPOOL_OP_COMMIT) {
			lab->commits++;
			assert_null(lab->committed);
			lab->committed = mail;
			if (lab->spool != LAB_SPOOL_SILENT)
				lab_verdict(lab, lab->spool == LAB_SPOOL_GOOD);
		}
	}
}

/* ---- time ---- */

static bool turn(struct lab *lab)
{
	bool any = lab->user.turn(lab->user.user, lab->near, lab->now_us);
	any |= carry(lab, lab->near, lab->far, pools[2]);
	spool_turn(lab);
	far_turn(lab);
	any |= carry(lab, lab->far, lab->near, pools[0]);
	mail_pool_collect(lab->w->mails);
	return any;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void empty_rings(struct lab *lab)
{
	struct record *r;
	generation_collect(&lab->relay);
	while ((r = ring_pop_spsc(&lab->w->records.full)) != NULL) {
		if (r->disposition == RECORD_REJECTED)
			lab->rejected = *r;
		if (r->disposition == RECORD_ACCEPTED) {
			lab->accepted = *r;
			lab->accepted_count++;
		}
		ring_push_spsc(&lab->w->records.empty, r);
	}
}

void lab_run(struct lab *lab, uint64_t us)
{
	uint64_t until = lab->now_us + us;
	for (;;) {
		unsigned busy = 0;
		while (turn(lab))
			assert_in_range(++busy, 0, 10000); /* a core that never sleeps */
		empty_rings(lab);
		if (lab->now_us >= until)
			return;
		uint64_t due = min_u64(tcp_next_due_us(lab->near), tcp_next_due_us(lab->far));
		due = min_u64(min_u64(due, lab->user.next_due_us(lab->user.user)), until);
		lab->now_us = due > lab->now_us + 100 ? due : lab->now_us + 100;
		tcp_tick(lab->near, lab->now_us);
		tcp_tick(lab->far, lab->now_us);
	}
}

/* ---- peers ---- */

struct peer *lab_connect(struct lab *lab, uint16_t port)
{
	int error;
	struct peer *p = peer_new(lab, NULL);
	lab->taken = lab->peer_count;
	p->conn = tcp_connect(lab->far, &lab->far_addr, &lab->near_addr, port, p, &error, lab->now_us);
	assert_non_null(p->conn);
	lab_run(lab, 1000);
	return p;
}

bool lab_has_accepted(struct lab *lab)
{
	return lab->taken < lab->peer_count;
}

struct peer *lab_accepted(struct lab *lab)
{
	for (int i = 0; i < 1000 && !lab_has_accepted(lab); i++)
		lab_run(lab, 1000);
	if (!lab_has_accepted(lab))
		fail_msg("the worker has opened no connection");
	return &lab->peers[lab->taken++];
}

void lab_say(struct peer *p, const char *text)
{
	size_t n = 0;
	assert_non_null(p->conn);
	if (p->tls != NULL)
		assert_int_equal(tls_write(p->tls, bytes_of_string(text), &n), TLS_OK);
	else
		n = tcp_write(p->conn, bytes_of_string(text));
	assert_int_equal(n, strlen(text));
	lab_run(p->lab, 1000);
}

void lab_expect(struct peer *p, const char *text)
{
	char *at = NULL;
	for (int i = 0; i < 2000 && (at = strstr(p->in, text)) == NULL; i++)
		lab_run(p->lab, 1000);
	if (at == NULL)
		fail_msg("expected \"%s\", have \"%s\"%s%s", text, p->in, p->has_fin ? " FIN" : "",
			p->has_ended ? " ended" : "");
	size_t used = (size_t)(at - p->in) + strlen(text);
	memmove(p->in, p->in + used, p->n - used + 1);
	p->n -= used;
}

void lab_expect_end(struct peer *p)
{
	for (int i = 0; i < 2000 && !p->has_fin && !p->has_ended; i++)
		lab_run(p->lab, 1000);
	assert_true(p->has_fin || p->has_ended);
}

const char lab_open_to_all[] =
	"{\"in_rules\":[{\"id\":\"friends\",\"sender\":\"@friend.example.test\",\"action\":\"relay\"}],"
	"\"routes\":[{\"id\":\"here\",\"domain\":\"here.example.test\",\"inbound\":true},"
	"{\"id\":\"world\",\"domain\":\"*\"}]}";

struct peer *lab_greeted(struct lab *lab)
{
	struct peer *p = lab_connect(lab, LAB_MAIL_PORT);
	lab_expect(p, "220 relay.example.test");
	lab_say(p, "EHLO client.example.test\r\n");
	lab_expect(p, "250 ");
	lab_expect(p, "\r\n");
	return p;
}

void lab_begin_data(struct peer *p)
{
	lab_say(p, "MAIL FROM:<a@example.test>\r\nRCPT TO:<b@here.example.test>\r\nDATA\r\n");
	lab_expect(p, "354 ");
}

void lab_say_mail(struct peer *p)
{
	lab_begin_data(p);
	lab_say(p, "Subject: x\r\n\r\nhello\r\n.\r\n");
}

static size_t nothing_comes(void *user, uint8_t *to, size_t room)
{
	return 0;
}

static size_t keep_hello(void *user, const uint8_t *from, size_t n)
{
	struct peer *p = user;
	assert_true(n <= sizeof p->hello - p->hello_bytes);
	memcpy(p->hello + p->hello_bytes, from, n);
	p->hello_bytes += n;
	return n;
}

size_t lab_say_hello(struct peer *p, size_t n)
{
	if (p->hello_bytes == 0) {
		struct tls *tls = tls_open_client(p->lab->client, 0,
			(struct tls_io){.read = nothing_comes, .write = keep_hello, .user = p}, "relay.example.test", "");
		assert_int_equal(tls_handshake(tls), TLS_AGAIN);
		tls_close(tls);
	}
	size_t said = tcp_write(p->conn, bytes_first(bytes_of(p->hello + p->hello_said, p->hello_bytes - p->hello_said), n));
	p->hello_said += said;
	lab_run(p->lab, 1000);
	return said;
}

void lab_secure(struct peer *p, bool is_server)
{
	const struct tls_io io = {.read = peer_io_read, .write = peer_io_write, .user = p};
	p->tls = is_server ? tls_open_server(p->lab->server, 0, io)
			   : tls_open_client(p->lab->client, 0, io, "relay.example.test", "");
	assert_non_null(p->tls);
	if (!is_server)
		p->n = 0; /* the rest of the 220; a client's first bytes may have come already */
	for (int i = 0; i < 200; i++) {
		enum tls_result result = tls_handshake(p->tls);
		assert_int_not_equal(result, TLS_FAIL);
		if (result == TLS_OK)
			break;
		lab_run(p->lab, 1000);
	}
	p->is_secure = true;
	lab_run(p->lab, 1000);
}

/* ---- jobs ---- */

struct lab_job *lab_job_new(struct lab *lab, const char *domain, unsigned targets, size_t content)
{
	struct policy_out out;
	struct lab_job *j = calloc(1, sizeof *j);
	static uint64_t id = 5000;
	struct mail *mail = mail_get(lab->bodies, ++id);
	assert_true(envelope_begin(mail));
	envelope_end(mail);
	assert_true(mail_append(mail, BYTES_LITERAL("Subject: test\r\n\r\n")));
	while (mail->size - mail->envelope_size < content)
		assert_true(mail_append(mail, BYTES_LITERAL("a line of the body, to make it longer\r\n")));
	snprintf(j->recipient, sizeof j->recipient, "b@%s", domain);
	j->recipients[0] = bytes_of_string(j->recipient);
	const struct view *view = lab->w->views.current;
	policy_resolve_out(view->policy, BYTES_LITERAL("a@example.test"), bytes_of_string(domain), BYTES_NONE, NULL, &out);
	j->route.profile = out.profile;
	j->route.generation = view->number;
	j->route.target_count = targets;
	for (unsigned i = 0; i < targets; i++) {
		j->route.targets[i] = (struct queue_target){.addr = lab->far_addr, .port = LAB_HOST_PORT};
		snprintf(j->route.targets[i].host, QUEUE_HOST_MAX, "mx.example.test");
	}
	j->job = (struct queue_job){.mail = mail, .sender = BYTES_LITERAL("a@example.test"),
		.recipients = j->recipients, .recipient_count = 1, .route = &j->route, .outcomes = j->outcomes};
	return j;
}

void lab_job_free(struct lab_job *j)
{
	mail_put((struct mail *)j->job.mail);
	free(j);
}

void lab_job_start(struct lab *lab, struct lab_job *j, const struct lab_job *kept, uint32_t mails_left)
{
	j->job.mails_left = mails_left;
	if (kept != NULL) {
		j->job.connection_slot = kept->job.kept_slot;
		j->job.connection_generation = kept->job.kept_generation;
	}
	assert_true(ring_push_spsc(&lab->w->jobs, &j->job));
}

bool lab_job_is_home(struct lab *lab)
{
	return ring_count(&lab->w->finished_jobs) != 0;
}

void lab_job_expect(struct lab *lab, struct lab_job *j, uint64_t within_us)
{
	uint64_t until = lab->now_us + within_us;
	while (!lab_job_is_home(lab) && lab->now_us < until)
		lab_run(lab, min_u64(LAB_SECOND / 100, until - lab->now_us));
	if (!lab_job_is_home(lab))
		fail_msg("the job has not come home");
	assert_ptr_equal(ring_pop_spsc(&lab->w->finished_jobs), &j->job);
	assert_int_not_equal(j->outcomes[0].code, 0);
}

void lab_serve(struct peer *p)
{
	lab_expect(p, "DATA\r\n");
	lab_say(p, "250 2.1.0 sender\r\n250 2.1.5 recipient\r\n354 go on\r\n");
	lab_expect(p, "\r\n.\r\n");
	lab_say(p, "250 2.0.0 taken\r\n");
}

/* ---- the making of it ---- */

static void set_config(struct lab *lab)
{
	lab->listeners[0] = (struct config_listener){.name = "in", .address = "", .tcp_port = LAB_MAIL_PORT, .enabled = true};
	lab->listeners[1] = (struct config_listener){
		.name = "tls", .address = "", .tcp_port = 465, .enabled = true, .implicit_tls = true};
	struct config *c = &lab->config;
	c->node.hostname = "relay.example.test";
	c->node.instance = "lab";
	c->listeners = lab->listeners;
	c->listeners_count = 2;
	c->limits.connections = 16;
	c->limits.connections_per_client = 12;
	c->limits.handshakes = 8;
	c->limits.client_handshakes = 6000;
	c->limits.client_handshakes_burst = 300;
	c->limits.mail_memory_mb = 1;
	c->tls.offload_deadline_us = 200;
	c->limits.message_bytes = 50 << 20;
	c->limits.recipients = 100;
	c->limits.line_bytes = 2048;
	c->limits.header_bytes = 100000;
	c->limits.received = 100;
	c->limits.errors_per_session = 20;
	c->limits.commands_per_session = 1000;
	c->limits.mails_per_session = 1000;
	c->limits.min_bytes_per_second = 100;
	c->timeouts.server_command = c->timeouts.server_content = 300;
	c->timeouts.server_session = 4 * 3600;
	c->timeouts.handshake = c->timeouts.connect = 30;
	c->timeouts.greeting = c->timeouts.command = c->timeouts.mail = c->timeouts.rcpt = 300;
	c->timeouts.data = 120;
	c->timeouts.block = 180;
	c->timeouts.end = 600;
	c->timeouts.idle = c->timeouts.client_name = 5;
}

static struct tcp_stack *make_stack(struct lab *lab, unsigned i)
{
	const struct tcp_config config = {.connections_max = 64, .half_open_max = 16, .time_wait_max = 64,
		.receive_bytes_max = 65536, .send_bytes_max = 65536, .buffer_bytes_max = 1 << 22, .pool = pools[2 * i],
		.control_pool = pools[2 * i + 1], .secret = {1, 2, (uint8_t)i}, .is_ours = is_ours, .mtu = mtu};
	struct tcp_stack *stack = tcp_stack_create(&config, lab->now_us);
	assert_non_null(stack);
	return stack;
}

static struct tls_key_pair make_pair(enum lab_key key)
{
	struct lab_cert cert = lab_cert_make((struct lab_spec){
		.name = "relay.example.test", .alt = "DNS:relay.example.test", .key = key});
	const struct lab_cert *certs[] = {&cert};
	struct tls_key_pair pair = lab_pair(certs, 1);
	lab_cert_free(&cert);
	return pair;
}

static void make_far_tls(struct lab *lab, const struct tls_key_pair *pair)
{
	struct tls_error error;
	static const struct tls_profile profile = {.id = "far", .level = TLS_LEVEL_MAY, .protocol_lowest = TLS_1_2};
	lab->tls_lib = tls_lib_create();
	lab->server = tls_server_set_create(lab->tls_lib,
		&(struct tls_server_set_config){.pairs = pair, .pair_count = 1, .profiles = &profile, .profile_count = 1},
		&error);
	lab->client = tls_client_set_create(lab->tls_lib,
		&(struct tls_client_set_config){.profiles = &profile, .profile_count = 1, .ca_pem = pair->chain_pem}, &error);
	assert_non_null(lab->server);
	assert_non_null(lab->client);
}

void lab_policy(struct lab *lab, const char *documents, uint64_t number, bool has_certs)
{
	char error[512];
	int policy_fd, keys_fd;
	struct tls_key_pair pair = make_pair(lab->key);
	const struct policy_cert cert = {.id = "c", .chain_pem = pair.chain_pem, .key_pem = pair.key_pem};
	if (lab->tls_lib == NULL)
		make_far_tls(lab, &pair);
	if (policy_compile(bytes_of_string(documents), &cert, has_certs, number, &policy_fd, &keys_fd, error) != 0 ||
		generation_offer(&lab->relay, policy_fd, keys_fd, error) != 0)
		fail_msg("%s", error);
	lab_pair_free(&pair);
	lab_run(lab, LAB_SECOND);
}

struct lab *lab_new(const char *documents, void (*change)(struct config *config))
{
	char error[256];
	if (pools[0] == NULL) {
		kit_start();
		for (unsigned i = 0; i < 4; i++)
			pools[i] = kit_pool((const char *[]){"near", "near control", "far", "far control"}[i], 2047);
	}
	struct lab *lab = the_lab = calloc(1, sizeof *lab);
	lab->now_us = 1000 * LAB_SECOND;
	addr_parse("192.0.2.25", &lab->near_addr);
	addr_parse("198.51.100.7", &lab->far_addr);
	lab->near = make_stack(lab, 0);
	lab->far = make_stack(lab, 1);
	set_config(lab);
	if (change != NULL)
		change(&lab->config);
	lab->relay.config = &lab->config;
	lab->relay.cores = 1;
	atomic_store(&lab->relay.queue.has_room, true);
	assert_true(ring_init(&lab->relay.queue.views.returned, VIEW_RETURNED_RING));
	lab->w = lab->relay.workers[0] = worker_create(&lab->relay, 0, error);
	if (lab->w == NULL)
		fail_msg("%s", error);
	assert_int_equal(worker_start(lab->w), 0); /* tells who the user of the core is, and ends */
	pthread_join(lab->w->thread, NULL);
	lab->bodies = mail_pool_create(512, 32, 63);
	assert_int_equal(tcp_listen(lab->far, &lab->far_addr, LAB_HOST_PORT, 0), 0);
	lab_policy(lab, documents, 1, true);
	return lab;
}

static void check_nothing_is_left(struct lab *lab)
{
	assert_int_equal(lab->w->conn_count, 0);
	assert_int_equal(lab->w->handshakes, 0);
	assert_int_equal(ring_count(&lab->w->finished_jobs), 0);
	assert_int_equal(stream_pool_free_count(lab->w->streams), 2 * lab->w->conn_max + 2);
	for (int i = 0; i < DEADLINE_CLASSES; i++)
		assert_int_equal(lab->w->deadlines[i].first, CONN_NONE);
	assert_null(lab->committed);
	assert_int_equal(mail_pool_free_chunks(lab->w->mails), mail_pool_chunks(lab->w->mails));
}

static void view_box_free(struct view_box *box)
{
	view_refresh(box);
	box->current->next = box->retired;
	box->retired = box->current;
	view_collect(box);
	assert_null(box->retired);
}

static void worker_free(struct worker *w)
{
	stream_pool_destroy(w->streams);
	mail_pool_destroy(w->mails);
	ring_fini(&w->to_spool), ring_fini(&w->from_spool), ring_fini(&w->jobs), ring_fini(&w->finished_jobs);
	ring_fini(&w->views.returned), ring_fini(&w->records.full), ring_fini(&w->records.empty);
	tls_lib_destroy(w->tls_lib);
	free(w->records.slots);
	name_lane_fini(&w->names);
	free(w->clients.places);
	budget_fini(&w->budget);
	free(w->aborts);
	free(w->slab);
	free(w);
}

/* All peers go; then nothing may be left of anything. */
void lab_free(struct lab *lab)
{
	for (unsigned i = 0; i < lab->peer_count; i++) {
		tls_close(lab->peers[i].tls);
		lab->peers[i].tls = NULL;
		if (lab->peers[i].conn != NULL)
			tcp_abort(lab->peers[i].conn);
	}
	lab_run(lab, LAB_SECOND);
	check_nothing_is_left(lab);
	view_box_free(&lab->relay.queue.views);
	view_box_free(&lab->w->views);
	generation_collect(&lab->relay);
	ring_fini(&lab->relay.queue.views.returned);
	worker_free(lab->w);
	tls_server_set_put(lab->server);
	tls_client_set_put(lab->client);
	tls_lib_destroy(lab->tls_lib);
	mail_pool_destroy(lab->bodies);
	tcp_stack_destroy(lab->near);
	tcp_stack_destroy(lab->far);
	free(lab);
}
