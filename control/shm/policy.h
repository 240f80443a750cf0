// SPDX-License-Identifier: Apache-2.0
/* control/shm/policy.h: a generation of the policy, compiled: what relays read.
 *
 * A generation is one memory object (memfd), immutable and sealed, position-independent (offsets, never
 * pointers): control makes it and passes it over its socket, a relay maps it read-only and checks it once.
 * The kernel counts who holds it, so no slot is ever used again under a reader. Private keys are in a second
 * object, so that a reader of the policy does not hold keys. Layout: control/shm/layout.h. All functions
 * that read are callable on any thread without locks, and neither allocate nor make system calls. */
#pragma once

#include "base/addr.h"
#include "tls/profile.h"

struct policy; /* a mapped generation */

/* ---- making one (control) ---- */
/* A certificate as kept in the store: PEM texts. */
struct policy_cert {
	const char *id;
	struct bytes chain_pem, key_pem;
	bool is_default; /* for clients without SNI; the first if none is marked */
};
/* Compiles the documents (JSON, the form `export` writes: {"profiles": [...], "in_rules": [...],
 * "out_rules": [...], "routes": [...]}, every field in control/shm/documents.def) into two sealed
 * memory objects. 0, or -EINVAL with `error` naming the document, the field, what was found and what was
 * expected. */
int policy_compile(struct bytes documents_json, const struct policy_cert *certs, size_t cert_count,
	uint64_t generation, int *policy_fd, int *keys_fd, char error[512]);

/* ---- reading one (relay, and control's explain) ---- */
/* Maps and checks every offset once; 0, or -EPROTO (another layout version), -EBADMSG (damaged). `keys_fd`
 * may be -1. The descriptors stay the caller's. */
int policy_map(int policy_fd, int keys_fd, struct policy **policy);
void policy_unmap(struct policy *policy);
uint64_t policy_generation(const struct policy *policy);

const struct tls_profile *policy_profiles(const struct policy *policy, size_t *count);
/* The CA set, PEM, of the profiles that have none of their own (empty: the system's). */
struct bytes policy_ca_pem(const struct policy *policy);
/* The CA set of one, by its place among policy_profiles(); empty: none of its own. */
struct bytes policy_profile_ca_pem(const struct policy *policy, size_t profile);
size_t policy_cert_count(const struct policy *policy);
/* The default first. `key_pem` is empty where the keys were not mapped. */
void policy_cert(const struct policy *policy, size_t index, struct bytes *id, struct bytes *chain_pem,
	struct bytes *key_pem);

enum policy_action {
	POLICY_INBOUND, /* may send to domains of routes marked inbound */
	POLICY_RELAY,	/* may send anywhere */
	POLICY_REJECT,	/* 554 at connection, or 550 at the mail stage */
};
struct policy_in {
	char rule_id[64];
	enum policy_action action;
	bool normalises_bare_lf;
	struct tls_profile profile;
};
struct policy_client {
	struct bytes listener;
	struct addr addr;
	struct bytes name; /* confirmed reverse DNS, or empty */
};
/* Does some rule, of either stage, that could count for this client ask for its name? */
bool policy_wants_client_name(const struct policy *policy, const struct policy_client *client);
/* Connect stage: the first enabled rule without mail criteria that matches; the default last always does. */
void policy_resolve_connect(
	const struct policy *policy, const struct policy_client *client, struct policy_in *in);
/* Mail stage: the first enabled rule with mail criteria that matches; false: none (the connect stage's
 * stands). `recipient` empty at MAIL. */
bool policy_resolve_mail(const struct policy *policy, const struct policy_client *client,
	struct bytes sender, struct bytes recipient, struct policy_in *in);

struct policy_out {
	char rule_id[64];
	struct tls_profile profile;
};
/* `mx_host` and `addr` empty and NULL before connecting. */
void policy_resolve_out(const struct policy *policy, struct bytes sender, struct bytes domain,
	struct bytes mx_host, const struct addr *addr, struct policy_out *out);
/* Of two resolutions of one delivery, the stricter (level, grade, protocol floor, bits; then `a`). */
const struct policy_out *policy_stricter(const struct policy_out *a, const struct policy_out *b);

/* Why a rule counted or did not (control's explain; not for worker cores). The same comparisons as above. */
enum policy_criterion {
	POLICY_MATCHES,
	POLICY_LISTENER,
	POLICY_CLIENT,
	POLICY_CLIENT_NAME,
	POLICY_SENDER,
	POLICY_RECIPIENT,
	POLICY_DOMAIN,
	POLICY_MX,
	POLICY_DESTINATION,
};
#define POLICY_WANTED_MAX 640 /* a local part, "@" and a domain */
struct policy_look {
	char rule_id[64];
	enum policy_criterion differs; /* the first criterion that does not fit; POLICY_MATCHES: the rule counts */
	char wanted[POLICY_WANTED_MAX]; /* the criterion as the rule has it: "192.0.2.0/24", "@example.test" */
};
/* The next rule that policy_resolve_connect() looks at; `*at` is 0 at first and kept by the caller. false: it
 * looked at no more, since the last one matched or was the last. */
bool policy_explain_connect(const struct policy *policy, const struct policy_client *client, uint32_t *at,
	struct policy_look *look);
bool policy_explain_mail(const struct policy *policy, const struct policy_client *client,
	struct bytes sender, struct bytes recipient, uint32_t *at, struct policy_look *look);
bool policy_explain_out(const struct policy *policy, struct bytes sender, struct bytes domain,
	struct bytes mx_host, const struct addr *addr, uint32_t *at, struct policy_look *look);

#define POLICY_HOSTS_MAX 16
struct policy_host {
	char host[256]; /* a name or an address */
	uint16_t port;
	bool implicit_tls;
};
struct policy_route {
	char id[64];
	bool is_inbound;     /* mail to it is taken from any client */
	bool is_mx;	     /* by DNS; else `hosts` in order */
	uint16_t mx_port;    /* 25 */
	uint32_t host_count;
	struct policy_host hosts[POLICY_HOSTS_MAX];
};
/* Exact domain, then the longest ".suffix", then "*". false: no route. `domain` may be an address literal in
 * brackets. */
bool policy_find_route(const struct policy *policy, struct bytes domain, struct policy_route *route);
/* Whether a route of `route_domain`, as the document has it, is one for `domain`: for disabled ones, which a
 * generation does not find (control's explain). */
bool policy_route_fits(const char *route_domain, struct bytes domain);
