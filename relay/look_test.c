// SPDX-License-Identifier: Apache-2.0
/* What an operator sees of a worker's connections, and that looking does not disturb it. */
#include "relay/worker_lab.h"

#include "relay/look.h"

static struct look_list list;
static unsigned turns; /* that it took */

static void run_errand(struct lab *lab, struct errand *errand)
{
	turns = 0;
	assert_true(worker_lend(lab->w, errand));
	assert_false(worker_lend(lab->w, errand));
	for (; !worker_is_back(lab->w) && turns < 10000; turns++)
		lab->user.turn(lab->user.user, lab->near, lab->now_us);
	assert_true(worker_is_back(lab->w));
}

static const struct look_filter any = {.state = UINT32_MAX};

static unsigned look(struct lab *lab, struct look_filter filter)
{
	list = (struct look_list){.errand = {look_list_step}, .filter = filter, .limit = LOOK_ROWS};
	run_errand(lab, &list.errand);
	return list.count;
}

static void a_client_is_seen_with_all_that_is_known_of_it(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	assert_int_equal(look(lab, any), 0);
	struct peer *p = lab_greeted(lab);
	lab_run(lab, 5 * LAB_SECOND);
	assert_int_equal(look(lab, any), 1);
	const struct look_row *row = &list.rows[0];
	assert_string_equal(row->tcp.state, "ESTABLISHED");
	assert_false(row->tcp.is_active);
	assert_true(addr_equal(&row->local, &lab->near_addr) && addr_equal(&row->remote, &lab->far_addr));
	assert_int_equal(row->local_port, LAB_MAIL_PORT);
	assert_string_equal(row->listener, lab->listeners[0].name);
	assert_string_equal(row->phase, "command");
	assert_string_equal(row->name, "client.example.test");
	assert_null(row->tls);
	assert_true(row->age_us >= 5 * LAB_SECOND && row->idle_us >= 4 * LAB_SECOND);
	assert_true(row->tcp.cwnd > 0 && row->tcp.bytes_in == strlen("EHLO client.example.test\r\n"));
	lab_begin_data(p);
	look(lab, any);
	assert_string_equal(row->phase, "content");
	lab_free(lab);
}

static void tls_is_told_by_version_and_cipher(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_greeted(lab);
	lab_say(p, "STARTTLS\r\n");
	lab_expect(p, "220 ");
	look(lab, any);
	assert_string_equal(list.rows[0].phase, "handshake");
	assert_null(list.rows[0].tls);
	lab_secure(p, false);
	look(lab, any);
	assert_string_equal(list.rows[0].tls, "TLSv1.3");
	assert_memory_equal(list.rows[0].cipher, "TLS_", 4);
	lab_free(lab);
}

static void what_we_have_opened_is_seen_with_its_destination(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct lab_job *job = lab_job_new(lab, "dest.example.test", 1, 100);
	lab_job_start(lab, job, NULL, 0);
	struct peer *host = lab_accepted(lab);
	assert_int_equal(look(lab, any), 1);
	assert_true(list.rows[0].tcp.is_active);
	assert_int_equal(list.rows[0].remote_port, LAB_HOST_PORT);
	assert_string_equal(list.rows[0].phase, "greeting");
	assert_string_equal(list.rows[0].domain, "dest.example.test");
	assert_true(list.rows[0].name[0] != '\0' && strchr(list.rows[0].name, '[') == NULL);
	assert_null(list.rows[0].listener);
	lab_say(host, "554 no\r\n");
	lab_job_expect(lab, job, LAB_SECOND);
	lab_job_free(job);
	lab_free(lab);
}

static void filters_leave_out_what_does_not_fit(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	lab_greeted(lab);
	const struct {
		const char *peer;
		unsigned state;
		uint16_t port;
		uint8_t direction;
		unsigned count;
	} cases[] = {
		{"198.51.100.7", UINT32_MAX, 0, LOOK_BOTH, 1},
		{"198.51.100.0/24", UINT32_MAX, LAB_MAIL_PORT, LOOK_IN, 1},
		{"198.51.100.8", UINT32_MAX, 0, LOOK_BOTH, 0},
		{"2001:db8::/32", UINT32_MAX, 0, LOOK_BOTH, 0},
		{NULL, UINT32_MAX, 26, LOOK_BOTH, 0},
		{NULL, UINT32_MAX, 0, LOOK_OUT, 0},
		{NULL, 1, 0, LOOK_BOTH, 0}, /* SYN-SENT */
		{NULL, 3, 0, LOOK_BOTH, 1}, /* ESTABLISHED */
	};
	assert_string_equal(tcp_state_name(3), "ESTABLISHED");
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct look_filter f = {.state = cases[i].state, .port = cases[i].port, .direction = cases[i].direction};
		assert_true(cases[i].peer == NULL || prefix_parse(cases[i].peer, &f.peer));
		assert_int_equal(look(lab, f), cases[i].count);
	}
	lab_free(lab);
}

static void many_connections(struct config *config)
{
	config->limits.connections = config->limits.connections_per_client = 2 * LAB_PEERS;
}

/* Some a turn, page by page, and each once. */
static void a_list_takes_bounded_steps_and_has_each_connection_once(void **state)
{
	uint64_t seen[LAB_PEERS];
	unsigned n = 0;
	struct lab *lab = lab_new(lab_open_to_all, many_connections);
	for (unsigned i = 0; i < LAB_PEERS; i++)
		lab_greeted(lab);
	list = (struct look_list){.errand = {look_list_step}, .filter = any, .has_more = true};
	while (list.has_more) {
		list.limit = 20;
		list.count = 0;
		run_errand(lab, &list.errand);
		assert_true(list.count <= 20 && list.count <= turns * LOOK_COPIES);
		for (unsigned i = 0; i < list.count; i++)
			seen[n++] = list.rows[i].id;
	}
	assert_int_equal(n, LAB_PEERS);
	assert_int_equal(list.stats.connections, LAB_PEERS);
	for (unsigned i = 0; i < n; i++)
		for (unsigned k = 0; k < i; k++)
			assert_true(seen[i] != seen[k]);
	lab_free(lab);
}

static bool end(struct lab *lab, uint64_t id)
{
	struct look_end e = {.errand = {look_end_step}, .id = id};
	run_errand(lab, &e.errand);
	return e.is_found;
}

static void an_ended_connection_is_reset_and_its_name_is_not_used_again(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct peer *p = lab_greeted(lab);
	look(lab, any);
	uint64_t id = list.rows[0].id;
	assert_false(end(lab, id ^ 1) || end(lab, id + (1ull << 32)) || end(lab, UINT64_MAX));
	assert_true(end(lab, id));
	lab_run(lab, LAB_SECOND);
	assert_true(p->has_ended);
	assert_int_equal(p->end, TCP_END_RESET);
	assert_int_equal(look(lab, any), 0);
	lab_greeted(lab);
	assert_int_equal(look(lab, any), 1);
	assert_int_equal(list.rows[0].id >> 32, id >> 32);
	assert_false(end(lab, id));
	lab_free(lab);
}

/* Wherever it stands, its job comes home and is tried elsewhere or later. */
static void an_ended_delivery_comes_home(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	struct lab_job *job = lab_job_new(lab, "dest.example.test", 1, 100);
	lab_job_start(lab, job, NULL, 0);
	struct peer *host = lab_accepted(lab);
	lab_say(host, "220 host.example.test\r\n");
	lab_expect(host, "EHLO ");
	look(lab, any);
	assert_true(end(lab, list.rows[0].id));
	lab_job_expect(lab, job, LAB_SECOND);
	assert_int_equal(job->outcomes[0].code / 100, 4);
	lab_job_free(job);
	lab_free(lab);
}

static void a_census_counts_states_and_round_trips(void **state)
{
	struct lab *lab = lab_new(lab_open_to_all, NULL);
	for (unsigned i = 0; i < 5; i++)
		lab_greeted(lab);
	struct look_census census = {.errand = {look_census_step}};
	run_errand(lab, &census.errand);
	uint32_t rtts = 0;
	for (unsigned i = 0; i < LOOK_RTTS; i++)
		rtts += census.rtts[i];
	assert_int_equal(census.states[3], 5);
	assert_true(rtts <= 5);
	lab_free(lab);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_client_is_seen_with_all_that_is_known_of_it),
		cmocka_unit_test(tls_is_told_by_version_and_cipher),
		cmocka_unit_test(what_we_have_opened_is_seen_with_its_destination),
		cmocka_unit_test(filters_leave_out_what_does_not_fit),
		cmocka_unit_test(a_list_takes_bounded_steps_and_has_each_connection_once),
		cmocka_unit_test(an_ended_connection_is_reset_and_its_name_is_not_used_again),
		cmocka_unit_test(an_ended_delivery_comes_home),
		cmocka_unit_test(a_census_counts_states_and_round_trips),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
