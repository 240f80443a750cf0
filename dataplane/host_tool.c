// SPDX-License-Identifier: Apache-2.0
/* dataplane_host: what a virtual machine's host is to its network card, for the system tests.
 *
 *   our port (net_virtio_user) ═ unix socket, shared rings ═ net_vhost ── here ── tap ── the kernel
 *
 * Whatever the port leaves to its host, sums and the cutting of large packets, goes on to the kernel
 * as it came, for the kernel to do, and what was asked for is checked against the packet. Prints
 * "ready", and at the end what went through, as one JSON object. */
#include "dataplane/packet.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/if_tun.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <poll.h>
#include <rte_cksum.h>
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#define BUFFERS	  4096
#define RING	  256
#define PARTS_MAX 64 /* buffers of one packet */
#define FRAME_MAX 2048
#define POLL_MS	  1
#define TCP_FLAGS 13 /* octets of the TCP header */
#define TCP_SUM	  16
#define UDP_SUM	  6

static const char usage[] =
	"dataplane_host --socket PATH --tap NAME [--no-tso] [--unsummed]\n"
	"  --socket PATH  a port with net_virtio_user0,path=PATH finds us here\n"
	"  --tap NAME     of the interface to make\n"
	"  --no-tso       cut nothing for the port\n"
	"  --unsummed     give the port packets whose checksums the kernel has left undone\n";

static struct {
	const char *socket, *tap;
	bool has_tso, is_unsummed;
	int fd;
	uint16_t port;
	struct rte_mempool *pool;
} host = {.has_tso = true};

#define COUNTS(_)                                                                                  \
	_(packets)  /* from the port */                                                            \
	_(unsummed) /* of them, without their checksum */                                          \
	_(large)    /* of them, to be cut */                                                       \
	_(parts)    /* what those are cut into */                                                  \
	_(largest)  /* bytes of one */                                                             \
	_(wrong)    /* of the large ones, whose order to cut does not fit the packet */            \
	_(refused)  /* by the kernel */                                                            \
	_(to_port)                                                                                 \
	_(to_port_unsummed)

static struct {
#define _(name) uint64_t name;
	COUNTS(_)
#undef _
} counts;

static volatile sig_atomic_t is_stopped;

static void on_signal(int number)
{
	is_stopped = 1;
}

/* ---- from the port to the kernel ---- */

struct headers {
	uint8_t at[192]; /* a copy of the packet's first octets */
	bool is_ip4, is_tcp;
	unsigned l4, end; /* where TCP's or UDP's begins, and where TCP's ends */
};

static bool read_headers(const struct rte_mbuf *m, struct headers *h)
{
	unsigned n = m->pkt_len < sizeof h->at ? m->pkt_len : (unsigned)sizeof h->at;
	const void *at = rte_pktmbuf_read(m, 0, n, h->at);
	if (at == NULL || n < 14 + 20 + 8)
		return false;
	if (at != h->at)
		memcpy(h->at, at, n);
	h->is_ip4 = get_be16(h->at + 12) == 0x0800;
	h->l4 = h->is_ip4 ? 14 + (h->at[14] & 15) * 4u : 14 + 40;
	h->is_tcp = h->at[h->is_ip4 ? 23 : 20] == IPPROTO_TCP;
	if (h->l4 + (h->is_tcp ? 20 : 8) > n)
		return false;
	h->end = h->l4 + (h->is_tcp ? (h->at[h->l4 + 12] >> 4) * 4u : 8);
	return h->end <= n;
}

/* What virtio leaves in the field: the pseudo-header's sum, of a large packet too with the length of the whole. */
static uint16_t pseudo_sum(const struct headers *h, uint32_t length)
{
	uint8_t pseudo[40] = {[39] = h->is_tcp ? IPPROTO_TCP : IPPROTO_UDP};
	memcpy(pseudo, h->at + (h->is_ip4 ? 26 : 22), h->is_ip4 ? 8 : 32);
	put_be32(pseudo + 32, length);
	return rte_raw_cksum(pseudo, sizeof pseudo);
}

/* Is a large packet such that its parts will be segments that TCP could have sent itself? */
static bool is_right(const struct rte_mbuf *m, const struct headers *h)
{
	uint16_t sum;
	memcpy(&sum, h->at + h->l4 + TCP_SUM, sizeof sum);
	uint32_t ip_bytes = m->pkt_len - 14;
	uint16_t said = h->is_ip4 ? get_be16(h->at + 16) : (uint16_t)(get_be16(h->at + 18) + 40);
	bool has_ip_sum = !h->is_ip4 || rte_raw_cksum(h->at + 14, h->l4 - 14) == 0xffff;
	return h->is_tcp && m->tso_segsz > 0 && said == ip_bytes && has_ip_sum &&
		m->pkt_len - h->end > m->tso_segsz && h->end - 14 + m->tso_segsz <= 1500 &&
		(h->at[h->l4 + TCP_FLAGS] & ~0x19) == 0 && /* ACK, PSH, FIN */
		sum == pseudo_sum(h, m->pkt_len - h->l4);
}

static void order_to_cut(const struct rte_mbuf *m, const struct headers *h, struct virtio_net_hdr *order)
{
	order->gso_type = h->is_ip4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
	order->gso_size = m->tso_segsz;
	order->hdr_len = (uint16_t)h->end;
	counts.large++;
	counts.parts += (m->pkt_len - h->end + m->tso_segsz - 1) / (m->tso_segsz > 0 ? m->tso_segsz : 1u);
	counts.largest = m->pkt_len > counts.largest ? m->pkt_len : counts.largest;
	counts.wrong += !is_right(m, h);
}

static void to_kernel(const struct rte_mbuf *m)
{
	struct headers h;
	struct virtio_net_hdr order = {0};
	struct iovec parts[PARTS_MAX] = {{&order, sizeof order}};
	int n = 1;
	counts.packets++;
	if ((m->ol_flags & RTE_MBUF_F_RX_L4_CKSUM_MASK) == RTE_MBUF_F_RX_L4_CKSUM_NONE && read_headers(m, &h)) {
		order.flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
		order.csum_start = (uint16_t)h.l4;
		order.csum_offset = h.is_tcp ? TCP_SUM : UDP_SUM;
		counts.unsummed++;
		if (m->ol_flags & RTE_MBUF_F_RX_LRO)
			order_to_cut(m, &h, &order);
	}
	for (const struct rte_mbuf *part = m; part != NULL && n < PARTS_MAX; part = part->next)
		parts[n++] = (struct iovec){rte_pktmbuf_mtod(part, void *), part->data_len};
	counts.refused += writev(host.fd, parts, n) < 0;
}

static bool take_from_port(void)
{
	struct rte_mbuf *m[BURST];
	uint16_t n = rte_eth_rx_burst(host.port, 0, m, BURST);
	for (uint16_t i = 0; i < n; i++) {
		to_kernel(m[i]);
		rte_pktmbuf_free(m[i]);
	}
	return n > 0;
}

/* ---- from the kernel to the port ---- */

static void leave_unsummed(struct rte_mbuf *m, const struct virtio_net_hdr *order)
{
	bool is_ip4 = get_be16(rte_pktmbuf_mtod_offset(m, uint8_t *, 12)) == 0x0800;
	m->l2_len = 14;
	m->l3_len = (uint16_t)(order->csum_start - 14);
	m->ol_flags = is_ip4 ? RTE_MBUF_F_TX_IPV4 : RTE_MBUF_F_TX_IPV6;
	m->ol_flags |= order->csum_offset == TCP_SUM ? RTE_MBUF_F_TX_TCP_CKSUM : RTE_MBUF_F_TX_UDP_CKSUM;
	counts.to_port_unsummed++;
}

/* false: nothing there. */
static bool give_to_port(void)
{
	struct virtio_net_hdr order;
	struct rte_mbuf *m = rte_pktmbuf_alloc(host.pool);
	if (m == NULL)
		return false;
	struct iovec parts[2] = {{&order, sizeof order}, {rte_pktmbuf_mtod(m, void *), FRAME_MAX}};
	ssize_t n = readv(host.fd, parts, 2);
	if (n <= (ssize_t)sizeof order) {
		rte_pktmbuf_free(m);
		return false;
	}
	m->pkt_len = m->data_len = (uint16_t)((size_t)n - sizeof order);
	if (order.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)
		leave_unsummed(m, &order);
	if (rte_eth_tx_burst(host.port, 0, &m, 1) == 0)
		rte_pktmbuf_free(m); /* the port's end is not there yet, or slow */
	counts.to_port++;
	return true;
}

/* ---- setting up ---- */

static int fail(const char *what)
{
	fprintf(stderr, "dataplane_host: %s: %s\n", what, strerror(errno));
	return -1;
}

static int open_tap(void)
{
	struct ifreq r = {.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR};
	snprintf(r.ifr_name, sizeof r.ifr_name, "%s", host.tap);
	host.fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (host.fd < 0 || ioctl(host.fd, TUNSETIFF, &r) < 0 ||
		ioctl(host.fd, TUNSETOFFLOAD, host.is_unsummed ? TUN_F_CSUM : 0) < 0)
		return fail("cannot make the tap");
	return 0;
}

static int start_eal(void)
{
	static char device[512], prefix[32];
	snprintf(device, sizeof device, "net_vhost0,iface=%s,queues=1,tso=%d,legacy-ol-flags=0", host.socket,
		host.has_tso);
	snprintf(prefix, sizeof prefix, "host%d", (int)getpid());
	static char *argv[] = {"dataplane_host", "--no-pci", "--no-huge", "--no-shconf", "--no-telemetry", "-m", "64",
		"--log-level=error", "--file-prefix", prefix, "--vdev", device, NULL};
	return rte_eal_init(RTE_DIM(argv) - 1, argv);
}

/* Without these the driver would sum and check itself. */
static int open_port(void)
{
	const struct rte_eth_conf conf = {
		.rxmode.offloads = RTE_ETH_RX_OFFLOAD_TCP_CKSUM | RTE_ETH_RX_OFFLOAD_UDP_CKSUM,
		.txmode.offloads = RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
			RTE_ETH_TX_OFFLOAD_MULTI_SEGS,
	};
	host.pool = rte_pktmbuf_pool_create("host", BUFFERS, 0, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (host.pool == NULL || rte_eth_dev_get_port_by_name("net_vhost0", &host.port) != 0 ||
		rte_eth_dev_configure(host.port, 1, 1, &conf) != 0 ||
		rte_eth_rx_queue_setup(host.port, 0, RING, SOCKET_ID_ANY, NULL, host.pool) != 0 ||
		rte_eth_tx_queue_setup(host.port, 0, RING, SOCKET_ID_ANY, NULL) != 0)
		return fail("cannot set the port up");
	return rte_eth_dev_start(host.port);
}

static void run(void)
{
	while (!is_stopped) {
		bool did = take_from_port();
		for (int i = 0; i < BURST && give_to_port(); i++)
			did = true;
		struct pollfd p = {host.fd, POLLIN, 0};
		if (!did)
			poll(&p, 1, POLL_MS);
	}
}

static void print_counts(void)
{
	printf("{\"host\":\"%s\"", host.tap);
#define _(name) printf(",\"" #name "\":%llu", (unsigned long long)counts.name);
	COUNTS(_)
#undef _
	printf("}\n");
}

static bool parse(int argc, char **argv)
{
	static const struct option longs[] = {{"socket", 1, NULL, 's'}, {"tap", 1, NULL, 't'}, {"no-tso", 0, NULL, 'n'},
		{"unsummed", 0, NULL, 'u'}, {0}};
	for (int o; (o = getopt_long(argc, argv, "", longs, NULL)) != -1;)
		switch (o) {
		case 's': host.socket = optarg; break;
		case 't': host.tap = optarg; break;
		case 'n': host.has_tso = false; break;
		case 'u': host.is_unsummed = true; break;
		default: return false;
		}
	return optind == argc && host.socket != NULL && host.tap != NULL;
}

int main(int argc, char **argv)
{
	if (!parse(argc, argv)) {
		fputs(usage, stderr);
		return 64;
	}
	signal(SIGTERM, on_signal);
	signal(SIGINT, on_signal);
	if (open_tap() < 0 || start_eal() < 0 || open_port() < 0)
		return 69;
	printf("ready\n");
	fflush(stdout);
	run();
	print_counts();
	rte_eth_dev_stop(host.port);
	rte_eth_dev_close(host.port);
	return 0; /* no rte_eal_cleanup(): a thread of vhost's goes on using what that unmaps */
}
