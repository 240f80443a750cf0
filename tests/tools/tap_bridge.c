// SPDX-License-Identifier: Apache-2.0
/* tests/tools/tap_bridge.c: a bad network between the relay's tap interface and the machine's own IP.
 *
 *   relay ── net_tap ── hktap0 ═ AF_PACKET ═ lanes ═ tap ── hkrouter ── the kernel's IP
 *
 * Without it the kernel's addresses are on hktap0 itself. With it they are on a second tap, and whole Ethernet
 * frames are carried between the two, each way through a lane (lane.h) that loses, delays, reorders, duplicates,
 * marks and corrupts them. The relay's interface goes and comes back with the relay; the bridge waits for it. Ends on
 * SIGTERM or SIGINT with its counts as one line of JSON. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "tests/tools/lane.h"

#define BURST	      64    /* frames of a side before the other has its turn */
#define LOOK_MS	      10    /* between looks for a relay interface that is not there */
#define SOCKET_BUFFER (8 << 20)

struct side { /* what its file did; beside the counts of the lane that leads to it */
	int fd;	  /* -1: not there */
	uint64_t send_failed; /* frames that its interface did not take */
	uint64_t missed;      /* frames that came faster than we read, as the kernel counts them */
};

struct bridge {
	const char *relay_name, *router_name;
	struct side relay, router;
	struct lane *to_relay, *from_relay;
	uint64_t relay_came; /* how often the relay's interface appeared */
};

static volatile sig_atomic_t is_stopped;

static void on_signal(int number)
{
	is_stopped = 1;
}

static int fail(const char *what, const char *of)
{
	fprintf(stderr, "tap_bridge: %s %s: %s\n", what, of, strerror(errno));
	return -1;
}

/* ---- interfaces ---- */

static bool set_flags(const char *name, short set)
{
	struct ifreq r = {0};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	bool ok = s >= 0 && ioctl(s, SIOCGIFFLAGS, &r) == 0;
	r.ifr_flags |= set;
	ok = ok && ioctl(s, SIOCSIFFLAGS, &r) == 0;
	close(s);
	return ok;
}

/* The kernel's own IP shall not answer on the relay's interface, only on the router's. */
static void mute(const char *name)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/sys/net/ipv6/conf/%s/disable_ipv6", name);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (write(fd, "1", 1) != 1)
			fail("cannot write", path);
		close(fd);
	}
}

/* The address is always the same, so that a bridge that is started again is no new neighbour to the relay. */
static int open_router(const char *name)
{
	static const uint8_t address[ETH_ALEN] = {0x02, 0x68, 0x6b, 0, 0, 1};
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI};
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", name);
	int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return fail("cannot open", "/dev/net/tun");
	/* No offloads: the kernel then hands over only whole frames with their checksums done. */
	if (ioctl(fd, TUNSETIFF, &r) < 0 || ioctl(fd, TUNSETOFFLOAD, 0) < 0)
		return fail("cannot make", name);
	r.ifr_hwaddr.sa_family = 1; /* ARPHRD_ETHER */
	memcpy(r.ifr_hwaddr.sa_data, address, sizeof address);
	if (ioctl(fd, SIOCSIFHWADDR, &r) < 0)
		return fail("cannot address", name);
	return fd;
}

static int bind_packet_socket(int fd, int index)
{
	const int one = 1, room = SOCKET_BUFFER;
	const struct packet_mreq promiscuous = {.mr_ifindex = index, .mr_type = PACKET_MR_PROMISC};
	const struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = index};
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof room);
	if (setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one) < 0 ||
		setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof promiscuous) < 0)
		return -1;
	return bind(fd, (const struct sockaddr *)&at, sizeof at);
}

static int open_relay(const char *name)
{
	unsigned index = if_nametoindex(name);
	if (index == 0)
		return -1;
	mute(name);
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd >= 0 && set_flags(name, IFF_UP | IFF_NOARP) && bind_packet_socket(fd, (int)index) == 0)
		return fd;
	if (errno != ENODEV && errno != ENETDOWN && errno != ENXIO) /* gone again already */
		fail("cannot listen on", name);
	close(fd);
	return -1;
}

static void note_missed(struct side *s)
{
	struct tpacket_stats stats = {0};
	socklen_t n = sizeof stats;
	if (s->fd >= 0 && getsockopt(s->fd, SOL_PACKET, PACKET_STATISTICS, &stats, &n) == 0)
		s->missed += stats.tp_drops;
}

/* ---- carrying ---- */

/* false: the interface has gone. */
static bool take(struct side *from, struct lane *lane)
{
	uint8_t frame[65536];
	for (int i = 0; i < BURST; i++) {
		ssize_t n = read(from->fd, frame, sizeof frame);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR || errno == ENOBUFS;
		lane_push(lane, bytes_of(frame, (size_t)n), time_monotonic_us());
	}
	return true;
}

static void give(struct lane *lane, struct side *to)
{
	struct bytes frame;
	for (int i = 0; i < BURST && lane_pop(lane, time_monotonic_us(), &frame); i++)
		if (to->fd < 0 || write(to->fd, frame.at, frame.n) != (ssize_t)frame.n)
			to->send_failed++;
}

static void look_for_relay(struct bridge *b)
{
	if (b->relay.fd < 0 && (b->relay.fd = open_relay(b->relay_name)) >= 0)
		b->relay_came++;
}

static void lose_relay(struct bridge *b)
{
	note_missed(&b->relay);
	close(b->relay.fd);
	b->relay.fd = -1;
}

static struct timespec wait_of(const struct bridge *b)
{
	uint64_t now = time_monotonic_us(), due = lane_due_us(b->to_relay), other = lane_due_us(b->from_relay);
	uint64_t most = b->relay.fd < 0 ? LOOK_MS * USEC_PER_MSEC : USEC_PER_SEC;
	due = other < due ? other : due;
	uint64_t us = due <= now ? 0 : due - now;
	us = us < most ? us : most;
	return (struct timespec){.tv_sec = (time_t)(us / USEC_PER_SEC), .tv_nsec = (long)(us % USEC_PER_SEC * 1000)};
}

static void run(struct bridge *b)
{
	sigset_t none;
	sigemptyset(&none);
	while (!is_stopped) {
		look_for_relay(b);
		struct pollfd p[2] = {{b->router.fd, POLLIN, 0}, {b->relay.fd, POLLIN, 0}};
		const struct timespec wait = wait_of(b);
		if (ppoll(p, 2, &wait, &none) > 0) {
			if (p[0].revents != 0)
				take(&b->router, b->to_relay);
			if (p[1].revents != 0 && !take(&b->relay, b->from_relay))
				lose_relay(b);
		}
		give(b->to_relay, &b->relay);
		give(b->from_relay, &b->router);
	}
}

/* ---- the command line and the end ---- */

static void print_lane(const char *name, const struct lane *l, const struct side *from, const struct side *to)
{
	const struct lane_counts *c = lane_counts(l);
	printf("\"%s\":{", name);
#define _(field, help) printf("\"" #field "\":%llu,", (unsigned long long)c->field);
	LANE_COUNTS(_)
#undef _
	printf("\"under_way\":%u,\"missed\":%llu,\"send_failed\":%llu}", lane_under_way(l),
		(unsigned long long)from->missed, (unsigned long long)to->send_failed);
}

static void print(struct bridge *b)
{
	note_missed(&b->relay);
	printf("{");
	print_lane("to_relay", b->to_relay, &b->router, &b->relay);
	printf(",");
	print_lane("from_relay", b->from_relay, &b->relay, &b->router);
	printf(",\"relay_came\":%llu}\n", (unsigned long long)b->relay_came);
}

static void usage(FILE *to)
{
	fputs("usage: tap_bridge [OPTION]...\n"
	      "A bad network between the relay's tap interface and a second one for the kernel's addresses.\n"
	      "  --relay NAME        the relay's interface (hktap0); may come and go\n"
	      "  --router NAME       the interface to make (hkrouter)\n"
	      "  --direction WHICH   both, to-relay or from-relay: where the following apply (both)\n"
	      "  --loss SHARE        of the frames, as 1% or 0.01\n"
	      "  --duplicate SHARE\n"
	      "  --mark SHARE        of what ECN may mark: CE\n"
	      "  --corrupt SHARE     one bit of the frame is turned, behind the Ethernet header\n"
	      "  --reorder SHARE     held back until later frames have gone\n"
	      "  --reorder-gap N     so many of them, 1 to N (3)\n"
	      "  --reorder-ms MS     but no longer than this (20)\n"
	      "  --delay-ms MS       each way\n"
	      "  --rate-mbit MBIT    a second, each way; 0: no limit\n"
	      "  --queue-kb KB       that wait for their turn at that rate (128)\n"
	      "  --seed N            decides what happens to which frame (1)\n"
	      "SIGTERM ends it; then it prints its counts as JSON.\n",
		to);
}

static bool is_share(const char *text, double *share)
{
	char *end;
	*share = strtod(text, &end);
	if (*end == '%') {
		*share /= 100;
		end++;
	}
	return end != text && *end == '\0' && *share >= 0 && *share <= 1;
}

static bool is_number(const char *text, double *number)
{
	char *end;
	*number = strtod(text, &end);
	return end != text && *end == '\0' && *number >= 0 && *number < 1e9;
}

/* Shares first, then numbers, then the rest: read_command_line() goes by the order. */
enum {
	LOSS,
	DUPLICATE,
	CORRUPT,
	MARK,
	REORDER,
	GAP,
	REORDER_MS,
	DELAY,
	RATE,
	QUEUE,
	SEED,
	RELAY,
	ROUTER,
	DIRECTION,
	HELP
};
static const struct option long_options[] = {
	{"relay", 1, NULL, RELAY}, {"router", 1, NULL, ROUTER}, {"direction", 1, NULL, DIRECTION},
	{"loss", 1, NULL, LOSS}, {"duplicate", 1, NULL, DUPLICATE}, {"corrupt", 1, NULL, CORRUPT}, {"mark", 1, NULL, MARK},
	{"reorder", 1, NULL, REORDER}, {"reorder-gap", 1, NULL, GAP}, {"reorder-ms", 1, NULL, REORDER_MS},
	{"delay-ms", 1, NULL, DELAY}, {"rate-mbit", 1, NULL, RATE}, {"queue-kb", 1, NULL, QUEUE},
	{"seed", 1, NULL, SEED}, {"help", 0, NULL, HELP}, {0}};

struct command_line {
	struct lane_config lanes[2]; /* to the relay, from the relay */
	bool applies[2];
};

/* One that takes a number; false: it is none. */
static bool set_number(struct lane_config *c, int option, const char *text)
{
	double v;
	if (option <= REORDER ? !is_share(text, &v) : !is_number(text, &v))
		return false;
	switch (option) {
	case LOSS: c->loss = v; break;
	case DUPLICATE: c->duplicate = v; break;
	case CORRUPT: c->corrupt = v; break;
	case MARK: c->mark = v; break;
	case REORDER: c->reorder = v; break;
	case GAP: c->reorder_gap = (unsigned)v; break;
	case REORDER_MS: c->reorder_us = (uint64_t)(v * 1000); break;
	case DELAY: c->delay_us = (uint64_t)(v * 1000); break;
	case RATE: c->rate_bits = (uint64_t)(v * 1e6); break;
	case QUEUE: c->queue_bytes = (uint64_t)(v * 1000); break;
	case SEED: c->seed = (uint64_t)v; break;
	}
	return true;
}

static bool set_direction(struct command_line *line, const char *which)
{
	line->applies[0] = strcmp(which, "from-relay") != 0;
	line->applies[1] = strcmp(which, "to-relay") != 0;
	return strcmp(which, "both") == 0 || !line->applies[0] || !line->applies[1];
}

static bool read_command_line(struct bridge *b, struct command_line *line, int argc, char **argv)
{
	for (int o; (o = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
		bool ok = true;
		if (o == HELP) {
			usage(stdout);
			exit(EX_OK);
		} else if (o == RELAY) {
			b->relay_name = optarg;
		} else if (o == ROUTER) {
			b->router_name = optarg;
		} else if (o == DIRECTION) {
			ok = set_direction(line, optarg);
		} else if (o <= SEED) {
			for (int i = 0; i < 2; i++)
				ok = ok && (!line->applies[i] || set_number(&line->lanes[i], o, optarg));
		} else {
			ok = false;
		}
		if (!ok) {
			if (o != '?')
				fprintf(stderr, "tap_bridge: --%s: '%s' is not usable\n", long_options[o].name, optarg);
			return false;
		}
	}
	return optind == argc;
}

static void take_signals(void)
{
	const struct sigaction action = {.sa_handler = on_signal};
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigprocmask(SIG_BLOCK, &set, NULL); /* but while ppoll() waits */
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
}

int main(int argc, char **argv)
{
	struct bridge b = {.relay_name = "hktap0", .router_name = "hkrouter", .relay.fd = -1, .router.fd = -1};
	const struct lane_config none = {.reorder_gap = 3, .reorder_us = 20000, .queue_bytes = 128000, .seed = 1};
	struct command_line line = {.lanes = {none, none}, .applies = {true, true}};
	if (!read_command_line(&b, &line, argc, argv)) {
		usage(stderr);
		return EX_USAGE;
	}
	line.lanes[1].seed = ~line.lanes[1].seed; /* the same seed, but not the same fates both ways */
	b.to_relay = lane_create(&line.lanes[0]);
	b.from_relay = lane_create(&line.lanes[1]);
	b.router.fd = open_router(b.router_name);
	if (b.to_relay == NULL || b.from_relay == NULL || b.router.fd < 0)
		return EX_OSERR;
	take_signals();
	if (!set_flags(b.router_name, IFF_UP))
		return fail("cannot bring up", b.router_name), EX_OSERR;
	run(&b);
	print(&b);
	lane_destroy(b.to_relay);
	lane_destroy(b.from_relay);
	return EX_OK;
}
