// SPDX-License-Identifier: Apache-2.0
/* tests/wire/packetdrill/driver_test.c: loads the shared object and uses its table as packetdrill does: packets by
 * netdev_send and netdev_receive, time by usleep and gettimeofday, blocking calls from a second thread. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/wire/packet.h"
#include "tests/wire/packetdrill/interface.h"

static const char *library;
static struct packetdrill_table t;
static bool is_ipv6;
static struct addr local, remote;
static uint8_t received[2048];
static struct packet got;
static uint16_t port; /* the stack's */

#define CALL(name, ...) t.name(t.userdata, __VA_ARGS__)

/* ---- packets ---- */

static size_t wrap(uint8_t *ip, struct bytes tcp, uint8_t protocol)
{
	memset(ip, 0, 40);
	if (is_ipv6) {
		ip[0] = 0x60;
		packet_put(ip + 4, (uint32_t)tcp.n, 2);
		ip[6] = protocol;
		ip[7] = 64;
		memcpy(ip + 8, remote.b, 16);
		memcpy(ip + 24, local.b, 16);
		memcpy(ip + 40, tcp.at, tcp.n);
		return 40 + tcp.n;
	}
	ip[0] = 0x45;
	packet_put(ip + 2, (uint32_t)(20 + tcp.n), 2);
	ip[8] = 64;
	ip[9] = protocol;
	memcpy(ip + 12, addr_ipv4(&remote), 4);
	memcpy(ip + 16, addr_ipv4(&local), 4);
	uint32_t sum = 0;
	for (unsigned i = 0; i < 20; i += 2)
		sum += packet_get(ip + i, 2);
	packet_put(ip + 10, ~((sum & 0xffff) + (sum >> 16)), 2);
	memcpy(ip + 20, tcp.at, tcp.n);
	return 20 + tcp.n;
}

static void put_in(uint8_t flags, uint32_t seq, uint32_t ack, const char *text)
{
	uint8_t tcp[1600], ip[1700];
	const struct packet p = {.source = remote, .destination = local, .from = 40000, .to = port, .seq = seq, .ack = ack,
		.flags = flags, .window = 50000, .text = bytes_of_string(text), .offset = -1};
	const size_t n = wrap(ip, bytes_of(tcp, packet_encode(&p, tcp)), 6);
	assert_int_equal(CALL(netdev_send, ip, n), 0);
}

/* As packetdrill waits for a packet: until there is one. Returns when it was sent. */
static long long take_out(void)
{
	long long at = 0;
	size_t n = 0;
	for (unsigned i = 0; n == 0 && i < 100000; i++) {
		n = sizeof received;
		assert_int_equal(CALL(netdev_receive, received, &n, &at), 0);
	}
	assert_true(n > 0);
	const size_t header = is_ipv6 ? 40 : 20;
	assert_int_equal(received[0] >> 4, is_ipv6 ? 6 : 4);
	assert_int_equal(received[is_ipv6 ? 6 : 9], 6);
	assert_memory_equal(received + (is_ipv6 ? 8 : 12), is_ipv6 ? local.b : addr_ipv4(&local), is_ipv6 ? 16 : 4);
	assert_null(packet_decode(&got, &local, &remote, bytes_of(received + header, n - header)));
	return at;
}

static void expect_out(uint8_t flags, uint32_t seq, uint32_t ack, const char *text)
{
	take_out();
	assert_int_equal(got.flags & ~FLAG_PSH, flags);
	assert_int_equal(got.seq, seq);
	assert_int_equal(got.ack, ack);
	assert_int_equal(got.text.n, strlen(text));
	assert_memory_equal(got.text.at, text, got.text.n);
}

static long long now(void)
{
	struct timeval tv;
	assert_int_equal(CALL(gettimeofday, &tv, NULL), 0);
	return tv.tv_sec * 1000000ll + tv.tv_usec;
}

/* ---- sockets ---- */

static socklen_t address(const struct addr *a, uint16_t p, struct sockaddr_storage *to)
{
	memset(to, 0, sizeof *to);
	if (is_ipv6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)to;
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(p);
		memcpy(&in6->sin6_addr, a->b, 16);
		return sizeof *in6;
	}
	struct sockaddr_in *in = (struct sockaddr_in *)to;
	in->sin_family = AF_INET;
	in->sin_port = htons(p);
	memcpy(&in->sin_addr, addr_ipv4(a), 4);
	return sizeof *in;
}

static int new_socket(void)
{
	const int fd = CALL(socket, is_ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM, IPPROTO_TCP), on = 1;
	assert_true(fd > 0);
	assert_int_equal(CALL(setsockopt, fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on), 0);
	return fd;
}

static int new_listener(void)
{
	struct sockaddr_storage to;
	const int fd = new_socket();
	port = 8080;
	const socklen_t n = address(&local, port, &to);
	assert_int_equal(CALL(bind, fd, (struct sockaddr *)&to, n), 0);
	assert_int_equal(CALL(listen, fd, 1), 0);
	return fd;
}

static void set_nonblocking(int fd)
{
	const int flags = CALL(fcntl, fd, F_GETFL, 0);
	assert_int_equal(CALL(fcntl, fd, F_SETFL, flags | O_NONBLOCK), 0);
	assert_true(CALL(fcntl, fd, F_GETFL, 0) & O_NONBLOCK);
}

/* A connection by the peer; numbers are 1 on its side, `*iss` + 1 on ours. */
static int accepted(int listener, uint32_t *iss)
{
	struct sockaddr_storage peer;
	socklen_t n = sizeof peer;
	put_in(FLAG_SYN, 0, 0, "");
	take_out();
	assert_int_equal(got.flags, FLAG_SYN | FLAG_ACK);
	*iss = got.seq;
	put_in(FLAG_ACK, 1, *iss + 1, "");
	const int fd = CALL(accept, listener, (struct sockaddr *)&peer, &n);
	assert_true(fd > 0);
	assert_int_equal(peer.ss_family, is_ipv6 ? AF_INET6 : AF_INET);
	return fd;
}

static void open_table(void)
{
	void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (handle == NULL)
		fail_msg("%s", dlerror());
	void (*init)(const char *, struct packetdrill_table *);
	*(void **)&init = dlsym(handle, "packetdrill_interface_init");
	assert_non_null(init);
	init("", &t);
	void *const *calls = (void *const *)&t;
	for (size_t i = 0; i < sizeof t / sizeof *calls; i++)
		assert_non_null(calls[i]);
	addr_parse(is_ipv6 ? "2001:db8::1" : "192.0.2.1", &local);
	addr_parse(is_ipv6 ? "2001:db8:1::9" : "198.51.100.9", &remote);
}

static int before(void **state)
{
	open_table();
	return 0;
}

static int after(void **state)
{
	t.free(t.userdata);
	return 0;
}

/* ---- tests ---- */

static void a_peer_opens_and_text_goes_both_ways(void **state)
{
	uint32_t iss;
	char text[20];
	const int listener = new_listener();
	set_nonblocking(listener);
	assert_int_equal(CALL(accept, listener, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);
	const int fd = accepted(listener, &iss);
	set_nonblocking(fd);
	assert_int_equal(CALL(read, fd, text, sizeof text), -1);
	assert_int_equal(errno, EAGAIN);
	put_in(FLAG_ACK | FLAG_PSH, 1, iss + 1, "hello");
	expect_out(FLAG_ACK, iss + 1, 6, "");
	assert_int_equal(CALL(recv, fd, text, sizeof text, MSG_PEEK), 5);
	assert_int_equal(CALL(read, fd, text, sizeof text), 5);
	assert_memory_equal(text, "hello", 5);
	assert_int_equal(CALL(write, fd, "world!", 6), 6);
	expect_out(FLAG_ACK, iss + 1, 6, "world!");
	put_in(FLAG_ACK, 6, iss + 7, "");
	assert_int_equal(CALL(shutdown, fd, SHUT_WR), 0);
	expect_out(FLAG_ACK | FLAG_FIN, iss + 7, 6, "");
	assert_int_equal(CALL(write, fd, "more", 4), -1);
	assert_int_equal(errno, EPIPE);
	put_in(FLAG_ACK | FLAG_FIN, 6, iss + 8, "");
	expect_out(FLAG_ACK, iss + 8, 7, "");
	assert_int_equal(CALL(read, fd, text, sizeof text), 0);
	assert_int_equal(CALL(close, fd), 0);
	assert_int_equal(CALL(close, fd), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(CALL(close, listener), 0);
}

static void what_is_lost_is_sent_again_in_virtual_time(void **state)
{
	uint32_t iss;
	const int fd = accepted(new_listener(), &iss);
	assert_int_equal(CALL(write, fd, "text", 4), 4);
	const long long first = take_out(), second = take_out(), third = take_out();
	assert_true(second - first >= 200000 && second - first < 1010000);
	assert_true(third - second > (second - first) * 19 / 10 && third - second < (second - first) * 21 / 10);
	assert_true(now() >= third);
	put_in(FLAG_ACK, 1, iss + 5, "");
	assert_int_equal(CALL(close, fd), 0);
	expect_out(FLAG_ACK | FLAG_FIN, iss + 5, 1, "");
}

static void time_moves_by_usleep_and_by_looking(void **state)
{
	const long long start = now();
	assert_int_equal(CALL(usleep, 250000), 0);
	const long long later = now();
	assert_true(later > start + 250000 && later < start + 250010);
	for (unsigned i = 0; i < 20; i++)
		now();
	assert_true(now() >= later + 20);
}

static void we_open_and_are_refused_or_not(void **state)
{
	struct sockaddr_storage to;
	int error = 1;
	socklen_t n = sizeof error;
	const socklen_t size = address(&remote, 40000, &to);
	for (unsigned refused = 0; refused < 2; refused++) {
		const int fd = new_socket();
		set_nonblocking(fd);
		assert_int_equal(CALL(connect, fd, (struct sockaddr *)&to, size), -1);
		assert_int_equal(errno, EINPROGRESS);
		take_out();
		assert_int_equal(got.flags, FLAG_SYN);
		port = got.from;
		const uint32_t iss = got.seq;
		struct pollfd p = {.fd = fd, .events = POLLIN | POLLOUT};
		assert_int_equal(CALL(poll, &p, 1, 0), 0);
		put_in(refused ? FLAG_RST | FLAG_ACK : FLAG_SYN | FLAG_ACK, 0, iss + 1, "");
		assert_int_equal(CALL(poll, &p, 1, 0), 1);
		assert_true(p.revents & POLLOUT);
		assert_int_equal(!!(p.revents & POLLERR), refused);
		assert_int_equal(CALL(getsockopt, fd, SOL_SOCKET, SO_ERROR, &error, &n), 0);
		assert_int_equal(error, refused ? ECONNREFUSED : 0);
		if (!refused)
			expect_out(FLAG_ACK, iss + 1, 1, "");
		assert_int_equal(CALL(close, fd), 0);
		if (!refused)
			expect_out(FLAG_ACK | FLAG_FIN, iss + 1, 1, "");
	}
}

static void a_reset_is_an_error_once_and_closing_with_text_unread_is_one(void **state)
{
	uint32_t iss;
	char text[20];
	const int listener = new_listener();
	int fd = accepted(listener, &iss);
	put_in(FLAG_RST, 1, 0, "");
	assert_int_equal(CALL(read, fd, text, sizeof text), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(CALL(read, fd, text, sizeof text), 0);
	assert_int_equal(CALL(write, fd, "x", 1), -1);
	assert_int_equal(errno, EPIPE);
	CALL(close, fd);
	fd = accepted(listener, &iss);
	put_in(FLAG_ACK, 1, iss + 1, "unread");
	CALL(close, fd);
	expect_out(FLAG_RST | FLAG_ACK, iss + 1, 7, "");
}

struct caller {
	pthread_t thread;
	int listener, fd;
	char text[20];
	ssize_t n;
};

static void *block(void *of)
{
	struct caller *c = of;
	c->fd = CALL(accept, c->listener, NULL, NULL);
	c->n = CALL(read, c->fd, c->text, sizeof c->text);
	return NULL;
}

static void blocking_calls_wait_on_a_second_thread(void **state)
{
	struct caller c = {.listener = new_listener()};
	assert_int_equal(pthread_create(&c.thread, NULL, block, &c), 0);
	CALL(usleep, 1000);
	put_in(FLAG_SYN, 0, 0, "");
	take_out();
	const uint32_t iss = got.seq;
	put_in(FLAG_ACK, 1, iss + 1, "");
	CALL(usleep, 100000);
	put_in(FLAG_ACK | FLAG_PSH, 1, iss + 1, "late");
	assert_int_equal(pthread_join(c.thread, NULL), 0);
	assert_int_equal(c.n, 4);
	assert_memory_equal(c.text, "late", 4);
	assert_int_equal(CALL(close, c.fd), 0);
}

static void epoll_tells_of_what_is_ready(void **state)
{
	uint32_t iss;
	struct epoll_event event = {.events = EPOLLIN, .data.u32 = 77}, out[4];
	const int listener = new_listener(), epoll = CALL(epoll_create, 1);
	const int fd = accepted(listener, &iss);
	assert_true(epoll > 0);
	assert_int_equal(CALL(epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &event), 0);
	assert_int_equal(CALL(epoll_ctl, epoll, EPOLL_CTL_ADD, fd, &event), -1);
	assert_int_equal(errno, EEXIST);
	assert_int_equal(CALL(epoll_wait, epoll, out, 4, 0), 0);
	put_in(FLAG_ACK | FLAG_PSH, 1, iss + 1, "x");
	assert_int_equal(CALL(epoll_wait, epoll, out, 4, 0), 1);
	assert_int_equal(out[0].data.u32, 77);
	assert_int_equal(out[0].events, EPOLLIN);
	assert_int_equal(CALL(epoll_ctl, epoll, EPOLL_CTL_DEL, fd, NULL), 0);
	assert_int_equal(CALL(epoll_wait, epoll, out, 4, 0), 0);
}

static void options_are_told_or_not_known(void **state)
{
	uint32_t iss, info[30] = {0};
	socklen_t n = sizeof info;
	const int fd = accepted(new_listener(), &iss);
	assert_int_equal(CALL(getsockopt, fd, IPPROTO_TCP, 11, info, &n), 0);
	assert_int_equal(n, 104);
	assert_int_equal(info[0] & 0xff, 1); /* established */
	assert_int_equal(info[2 + 18], 10);  /* cwnd, in segments */
	assert_int_equal(CALL(setsockopt, fd, SOL_SOCKET, SO_KEEPALIVE, &n, sizeof n), -1);
	assert_int_equal(errno, ENOPROTOOPT);
	int fds[2];
	assert_int_equal(CALL(pipe, fds), -1);
	assert_int_equal(errno, ENOSYS);
}

static void an_icmp_error_reaches_its_connection(void **state)
{
	uint32_t iss;
	uint8_t icmp[600] = {0}, ip[700], quoted[1700];
	static char text[1400];
	const int fd = accepted(new_listener(), &iss);
	memset(text, 'x', sizeof text - 1);
	assert_int_equal(CALL(write, fd, text, sizeof text - 1), sizeof text - 1);
	take_out();
	const size_t first = got.text.n;
	memcpy(quoted, received, sizeof quoted);
	icmp[0] = is_ipv6 ? 2 : 3;
	icmp[1] = is_ipv6 ? 0 : 4;
	packet_put(icmp + (is_ipv6 ? 4 : 6), is_ipv6 ? 1280 : 576, is_ipv6 ? 4 : 2);
	memcpy(icmp + 8, quoted, 100);
	assert_int_equal(CALL(netdev_send, ip, wrap(ip, bytes_of(icmp, 108), is_ipv6 ? 58 : 1)), 0);
	int mss = 0;
	socklen_t n = sizeof mss;
	assert_int_equal(CALL(getsockopt, fd, IPPROTO_TCP, 2, &mss, &n), 0);
	assert_int_equal(mss, is_ipv6 ? 1220 : 536);
	assert_true(first >= (size_t)mss);
}

static void what_is_no_packet_is_refused(void **state)
{
	uint8_t ip[60] = {0};
	assert_int_equal(CALL(netdev_send, ip, sizeof ip), -1);
	assert_int_equal(CALL(netdev_send, ip, 0), -1);
	ip[0] = 0x45;
	assert_int_equal(CALL(netdev_send, ip, sizeof ip), -1);
	ip[0] = 0x60;
	ip[5] = 21;
	assert_int_equal(CALL(netdev_send, ip, sizeof ip), -1);
}

int main(int argc, char **argv)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, before, after)
	const struct CMUnitTest tests[] = {
		TEST(a_peer_opens_and_text_goes_both_ways),
		TEST(what_is_lost_is_sent_again_in_virtual_time),
		TEST(time_moves_by_usleep_and_by_looking),
		TEST(we_open_and_are_refused_or_not),
		TEST(a_reset_is_an_error_once_and_closing_with_text_unread_is_one),
		TEST(blocking_calls_wait_on_a_second_thread),
		TEST(epoll_tells_of_what_is_ready),
		TEST(options_are_told_or_not_known),
		TEST(an_icmp_error_reaches_its_connection),
		TEST(what_is_no_packet_is_refused),
	};
	int failures = 0;
	if (argc != 2)
		return 2;
	library = argv[1];
	for (unsigned v6 = 0; v6 < 2; v6++) {
		is_ipv6 = v6;
		failures += cmocka_run_group_tests_name(v6 ? "over IPv6" : "over IPv4", tests, NULL, NULL);
	}
	return failures;
}
