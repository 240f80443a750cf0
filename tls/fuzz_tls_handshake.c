// SPDX-License-Identifier: Apache-2.0
/* Bytes of a peer into a handshake. The first byte says how they come: bit 0: we are the client;
 * bit 1: at most a few at a time; bit 2: with no room for our answers. */
#include "tls/lab.h"

#include <assert.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct tls_server_set *servers;
static struct tls_client_set *clients;

static void make_sets(void)
{
	static const struct tls_profile server = {"s", .level = TLS_LEVEL_MAY,
		.client_cert = TLS_CLIENT_CERT_ASK, .protocol_lowest = TLS_1_0};
	static const struct tls_profile client = {
		"c", .level = TLS_LEVEL_MAY, .protocol_lowest = TLS_1_0};
	struct lab_cert ecdsa = lab_cert_make((struct lab_spec){"mx", "DNS:mx.example.test"});
	struct lab_cert rsa =
		lab_cert_make((struct lab_spec){"mx", "DNS:*.example.test", .key = LAB_RSA});
	struct tls_key_pair pairs[] = {lab_pair((const struct lab_cert *const[]){&ecdsa}, 1),
		lab_pair((const struct lab_cert *const[]){&rsa}, 1)};
	struct tls_lib *lib = tls_lib_create();
	struct tls_error error;
	servers = tls_server_set_create(lib,
		&(struct tls_server_set_config){pairs, 2, &server, 1, pairs[0].chain_pem}, &error);
	clients = tls_client_set_create(
		lib, &(struct tls_client_set_config){&client, 1, pairs[0].chain_pem}, &error);
	assert(servers != NULL && clients != NULL);
	lab_pair_free(&pairs[0]);
	lab_pair_free(&pairs[1]);
	lab_cert_free(&ecdsa);
	lab_cert_free(&rsa);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (servers == NULL)
		make_sets();
	if (size == 0)
		return 0;
	bool is_client = data[0] & 1;
	struct lab_link link;
	struct tls_verdict verdict;
	uint8_t in[512];
	size_t n;
	lab_link_init(&link);
	struct lab_wire *from_peer = is_client ? &link.down : &link.up;
	struct lab_wire *to_peer = is_client ? &link.up : &link.down;
	from_peer->read_most = data[0] & 2 ? 3 : SIZE_MAX;
	to_peer->room = data[0] & 4 ? 2 : SIZE_MAX;
	lab_wire_write(from_peer, data + 1, size - 1);
	struct tls *tls = is_client
		? tls_open_client(clients, 0, lab_client_io(&link), "mx.example.test", "")
		: tls_open_server(servers, 0, lab_server_io(&link));
	size_t unread;
	do {
		unread = from_peer->tail - from_peer->head;
		if (tls_handshake(tls) == TLS_FAIL)
			break;
		tls_read(tls, in, sizeof in, &n);
	} while (from_peer->tail - from_peer->head < unread);
	tls_get_verdict(tls, &verdict);
	tls_shutdown(tls);
	tls_close(tls);
	lab_link_fini(&link);
	return 0;
}
