// SPDX-License-Identifier: Apache-2.0
#include "relay/handshakes.h"

#include <stdio.h>

static const char *const versions[HANDSHAKE_VERSIONS] = {"TLSv1.2", "TLSv1.3", "other"};

static const char *failure_name(enum handshake_failure failure)
{
	static const char *const names[] = {
#define _(id, name) name,
		HANDSHAKE_FAILURES(_)
#undef _
	};
	return names[failure];
}

enum handshake_failure handshake_failure_of(enum tls_failure_kind kind)
{
	switch (kind) {
	case TLS_FAILURE_NONE: return HANDSHAKE_CLOSED; /* nothing was wrong with what had come */
	case TLS_FAILURE_UNTRUSTED: return HANDSHAKE_UNTRUSTED;
	case TLS_FAILURE_NAME: return HANDSHAKE_NAME;
	case TLS_FAILURE_WEAK: return HANDSHAKE_WEAK;
	case TLS_FAILURE_NO_CERT: return HANDSHAKE_NO_CERT;
	case TLS_FAILURE_HANDSHAKE:
	case TLS_FAILURE_PEER:
	case TLS_FAILURE_FLOOD: break;
	}
	return HANDSHAKE_HANDSHAKE;
}

static void add_one(_Atomic uint64_t *counter)
{
	atomic_store_explicit(
		counter, atomic_load_explicit(counter, memory_order_relaxed) + 1, memory_order_relaxed);
}

void handshake_count(struct handshake_side *side, struct tls_agreement a)
{
	unsigned version = a.protocol == TLS_1_2 ? 0 : a.protocol == TLS_1_3 ? 1 : 2;
	add_one(&side->done[version][a.group][a.key][a.is_resumed]);
}

void handshake_count_failure(struct handshake_side *side, enum handshake_failure failure)
{
	add_one(&side->failed[failure]);
}

/* ---- to be seen ---- */

static void visit_done(const struct handshake_side *side, const char *name, handshake_visit_fn *visit, void *user)
{
	static const char help[] = "TLS handshakes completed, by what was agreed";
	char labels[HANDSHAKE_LABEL_MAX];
	for (unsigned v = 0; v < HANDSHAKE_VERSIONS; v++)
		for (unsigned g = 0; g < TLS_GROUP_COUNT; g++)
			for (unsigned k = 0; k < TLS_KEY_COUNT; k++)
				for (unsigned r = 0; r < 2; r++) {
					snprintf(labels, sizeof labels,
						"side=\"%s\",version=\"%s\",group=\"%s\",key=\"%s\",resumed=\"%s\"", name,
						versions[v], tls_group_name(g), tls_key_name(k), r ? "yes" : "no");
					visit(user, "hikyaku_tls_handshakes", labels, help, true,
						atomic_load_explicit(&side->done[v][g][k][r], memory_order_relaxed));
				}
}

static void visit_failed(const struct handshake_side *side, const char *name, handshake_visit_fn *visit, void *user)
{
	static const char help[] = "TLS handshakes refused or failed, by reason";
	char labels[HANDSHAKE_LABEL_MAX];
	for (unsigned f = 0; f < HANDSHAKE_FAILURE_COUNT; f++) {
		snprintf(labels, sizeof labels, "side=\"%s\",reason=\"%s\"", name, failure_name(f));
		visit(user, "hikyaku_tls_handshake_failures", labels, help, false,
			atomic_load_explicit(&side->failed[f], memory_order_relaxed));
	}
}

void handshake_visit(const struct handshake_counters *counters, handshake_visit_fn *visit, void *user)
{
	visit_done(&counters->server, "server", visit, user);
	visit_done(&counters->client, "client", visit, user);
	visit_failed(&counters->server, "server", visit, user);
	visit_failed(&counters->client, "client", visit, user);
}
