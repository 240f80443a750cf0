// SPDX-License-Identifier: Apache-2.0
#include "dataplane/capture.h"

#include "base/clock.h"
#include "dataplane/private.h"

#include <errno.h>
#include <pcap/pcap.h>
#include <rte_mbuf.h>

struct dp_capture {
	struct tape *tape;
	unsigned port;
	uint32_t bytes_most;
	unsigned count; /* of the filter */
	struct bpf_insn filter[DP_CAPTURE_FILTER_MAX];
};

static_assert(sizeof(struct dp_filter) == sizeof(struct bpf_insn) &&
	offsetof(struct dp_filter, k) == offsetof(struct bpf_insn, k));

/* ---- the watcher's ---- */

/* bpf_filter() aborts at any other. */
static bool is_known(uint16_t code)
{
	static const uint8_t codes[] = {0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x80, 0x00, 0x60, /* LD */
		0x01, 0x61, 0x81, 0xb1, 0x02, 0x03,					      /* LDX ST STX */
		0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54, 0x5c,	      /* ALU */
		0x64, 0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac,			      /* ALU */
		0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x06, 0x16, 0x07, 0x87}; /* JMP RET MISC */
	return code <= UINT8_MAX && memchr(codes, code, sizeof codes) != NULL;
}

/* Valid: it ends, and it reads and writes nothing but the packet and its own memory. libpcap's own check trusts its
 * compiler: it passes unknown instructions, shifts beyond a word, and a jump backwards (by running over), which
 * would keep a core for ever. */
static bool is_valid_filter(const struct bpf_insn *filter, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		const struct bpf_insn *f = &filter[i];
		const bool is_jump = f->code == (BPF_JMP | BPF_JA);
		const bool is_shift = f->code == (BPF_ALU | BPF_LSH | BPF_K) || f->code == (BPF_ALU | BPF_RSH | BPF_K);
		if (!is_known(f->code) || (is_jump && f->k >= count - i - 1) || (is_shift && f->k >= 32))
			return false;
	}
	return count == 0 || bpf_validate(filter, (int)count);
}

int dp_capture_create(struct dp_capture **capture, unsigned port, uint32_t bytes_most, const struct dp_filter *filter,
	unsigned count, size_t tape_bytes)
{
	struct dp_capture *c = calloc(1, sizeof *c);
	*capture = c;
	if (c == NULL)
		return -ENOMEM;
	c->port = port;
	c->bytes_most = bytes_most < DP_CAPTURE_BYTES_MAX ? bytes_most : DP_CAPTURE_BYTES_MAX;
	c->count = count;
	bool is_valid = count <= DP_CAPTURE_FILTER_MAX;
	if (is_valid && count != 0)
		memcpy(c->filter, filter, count * sizeof *filter);
	is_valid = is_valid && is_valid_filter(c->filter, count);
	if (is_valid && (c->tape = tape_create(tape_bytes)) != NULL)
		return 0;
	free(c);
	*capture = NULL;
	return is_valid ? -ENOMEM : -EINVAL;
}

void dp_capture_destroy(struct dp_capture *c)
{
	if (c != NULL)
		free(c->tape);
	free(c);
}

struct tape *dp_capture_tape(struct dp_capture *c)
{
	return c->tape;
}

/* ---- the core's ---- */

void dp_core_set_capture(struct dp_core *core, struct dp_capture *capture)
{
	core->capture = capture;
}

static bool is_wanted(const struct dp_capture *c, const struct rte_mbuf *m)
{
	return c->count == 0 ||
		bpf_filter(c->filter, rte_pktmbuf_mtod(m, const uint8_t *), m->pkt_len, m->data_len) != 0;
}

static void copy(struct dp_capture *c, const struct rte_mbuf *m, bool is_out, uint64_t now_us)
{
	uint32_t kept = m->pkt_len < c->bytes_most ? m->pkt_len : c->bytes_most;
	const struct dp_captured head = {.at_us = now_us, .length = m->pkt_len, .kept = kept, .is_out = is_out};
	uint8_t *to = tape_reserve(c->tape, sizeof head + kept);
	if (to == NULL)
		return;
	memcpy(to, &head, sizeof head);
	to += sizeof head;
	for (; kept > 0; m = m->next) {
		uint32_t n = m->data_len < kept ? m->data_len : kept;
		memcpy(to, rte_pktmbuf_mtod(m, const uint8_t *), n);
		to += n;
		kept -= n;
	}
	tape_commit(c->tape);
}

void capture_packets(struct dp_core *core, unsigned port, struct rte_mbuf *const *m, unsigned count, bool is_out)
{
	struct dp_capture *c = core->capture;
	if (c->port != port)
		return;
	uint64_t now_us = time_monotonic_us();
	for (unsigned i = 0; i < count; i++)
		if (is_wanted(c, m[i]))
			copy(c, m[i], is_out, now_us);
}
