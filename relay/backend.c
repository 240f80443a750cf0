// SPDX-License-Identifier: Apache-2.0
/* relay/backend.c: where new handshakes do their asymmetric work: chosen at start (tls.offload), changed by an operator
 * while the relay runs. Main thread. */
#include "relay/relay.h"
#include "relay/worker.h"

#include <errno.h>
#include <stdio.h>

#include "base/log.h"

#define NONE -1

/* What the name stands for; NONE: nothing. */
static int backend_of(const char *name)
{
	static const enum tls_backend all[] = {
#define _(id, text) TLS_BACKEND_##id,
		TLS_BACKENDS(_)
#undef _
	};
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		if (strcmp(tls_backend_name(all[i]), name) == 0)
			return (int)all[i];
	return NONE;
}

/* The engine's thread is started when it is first wanted, and stays: sessions may still wait for it when another back
 * end has been chosen. */
static bool has_crypto_thread(const struct relay *relay, struct tls_error *error)
{
	char running[64];
	const struct tls_crypto_config config = {.engine = relay->config->tls.engine,
		.hardware_algorithms = relay->config->tls.engine_hardware,
		.software_algorithms = relay->config->tls.engine_software};
	tls_crypto_describe(running, sizeof running);
	return running[0] != '\0' || tls_crypto_start(&config, error);
}

/* NULL, or why not, which may be in `room`. All cores are of one kind, so the first one's word is everybody's. */
static const char *unusable(const struct relay *relay, enum tls_backend backend, struct tls_error *room)
{
	if (backend == TLS_BACKEND_ENGINE && !has_crypto_thread(relay, room))
		return room->text;
	return tls_backend_unusable(relay->workers[0]->tls_lib, backend);
}

int backend_choose(struct relay *relay, char error[256])
{
	const char *name = relay->config->tls.offload;
	bool is_auto = strcmp(name, "auto") == 0; /* the best that asks for nothing but a processor */
	enum tls_backend wanted = is_auto ? TLS_BACKEND_MB : (enum tls_backend)backend_of(name);
	struct tls_error room = {.text = ""};
	const char *why = unusable(relay, wanted, &room);
	if (why != NULL && !is_auto && strcmp(relay->config->tls.offload_missing, "refuse") == 0) {
		snprintf(error, 256, "tls.offload: %s cannot be used: %s", name, why);
		return -ENOTSUP;
	}
	relay->backend = why == NULL ? wanted : TLS_BACKEND_INLINE;
	if (why == NULL)
		snprintf(relay->backend_why, sizeof relay->backend_why, "%s", is_auto ? "auto" : "as configured");
	else
		snprintf(relay->backend_why, sizeof relay->backend_why, "%s cannot be used: %s",
			tls_backend_name(wanted), why);
	if (why != NULL && !is_auto)
		log_warn("relay", "TLS handshakes are not offloaded", "wanted=%s why=\"%s\"", name, why);
	else
		log_info("relay", "where TLS handshakes do their asymmetric work", "offload=%s why=\"%s\"",
			tls_backend_name(relay->backend), relay->backend_why);
	return 0;
}

int backend_change(struct relay *relay, const char *name, char error[512])
{
	int backend = backend_of(name);
	struct tls_error room = {.text = ""};
	const char *why = backend == NONE ? NULL : unusable(relay, (enum tls_backend)backend, &room);
	enum tls_backend before = relay->backend;
	if (backend == NONE || why != NULL) {
		snprintf(error, 512, "%.32s cannot be used: %s", name, why == NULL ? "there is no such back end" : why);
		return -EINVAL;
	}
	relay->backend = (enum tls_backend)backend;
	int rc = generation_renew(relay, error);
	if (rc != 0) {
		relay->backend = before;
		return rc;
	}
	snprintf(relay->backend_why, sizeof relay->backend_why, "by an operator");
	log_info("relay", "new TLS handshakes do their asymmetric work elsewhere", "offload=%s before=%s", name,
		tls_backend_name(before));
	return 0;
}
