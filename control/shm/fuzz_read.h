// SPDX-License-Identifier: Apache-2.0
/* control/shm/fuzz_read.h: reads all of a generation and asks it everything, for the fuzz targets. */
#pragma once

#include "control/shm/policy_private.h"

#include <stdlib.h>

/* Looks at every byte of a range, so that a sanitizer sees a range that is not there. */
static inline unsigned fuzz_touch(const void *at, size_t n)
{
	unsigned sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += ((const volatile uint8_t *)at)[i];
	return sum;
}

static inline void fuzz_ask(const struct policy *policy, struct bytes a, struct bytes b)
{
	static const uint8_t four[4] = {192, 0, 2, 1};
	struct policy_client client = {b, addr_from_ipv4(four), a};
	struct policy_in in;
	struct policy_out first, second;
	struct policy_route route;
	policy_resolve_connect(policy, &client, &in);
	if (strlen(in.rule_id) == 0 || in.profile.level > TLS_LEVEL_SECURE)
		abort();
	policy_resolve_mail(policy, &client, a, b, &in);
	policy_resolve_out(policy, a, b, BYTES_NONE, NULL, &first);
	policy_resolve_out(policy, b, a, b, &client.addr, &second);
	if (policy_stricter(&first, &second)->profile.level < first.profile.level)
		abort();
	if (!policy_find_route(policy, b, &route))
		return;
	if (route.host_count > POLICY_HOSTS_MAX || (!route.is_mx && route.host_count == 0))
		abort();
	for (uint32_t i = 0; i < route.host_count; i++)
		if (strlen(route.hosts[i].host) == 0 || route.hosts[i].port == 0)
			abort();
}

static inline void fuzz_read_all(const struct policy *policy, struct bytes text)
{
	static const char *const asked[] = {"", "example.test", "x@example.test", "mx.example.test",
		"a.b.example.test.", "[192.0.2.1]", "x@[IPv6:2001:db8::1]", "*", "@", "postmaster", "smtp",
		"xn--bcher-kva.example.test"};
	size_t profiles;
	struct bytes id, chain, key;
	const struct tls_profile *profile = policy_profiles(policy, &profiles);
	for (size_t i = 0; i < profiles; i++) {
		struct bytes ca = policy_profile_ca_pem(policy, i);
		fuzz_touch(ca.at, ca.n);
		for (const char *name = profile[i].names; *name != '\0'; name += strlen(name) + 1)
			fuzz_touch(name, strlen(name));
	}
	for (size_t i = 0; i < policy_cert_count(policy); i++) {
		policy_cert(policy, i, &id, &chain, &key);
		fuzz_touch(id.at, id.n);
		fuzz_touch(chain.at, chain.n);
		fuzz_touch(key.at, key.n);
	}
	fuzz_touch(policy_ca_pem(policy).at, policy_ca_pem(policy).n);
	for (size_t i = 0; i < sizeof asked / sizeof *asked; i++) {
		for (size_t j = 0; j < sizeof asked / sizeof *asked; j++)
			fuzz_ask(policy, bytes_of_string(asked[i]), bytes_of_string(asked[j]));
		fuzz_ask(policy, bytes_of_string(asked[i]), text);
		fuzz_ask(policy, text, bytes_of_string(asked[i]));
	}
}
