// SPDX-License-Identifier: Apache-2.0
/* tls/lab.h: certificates and wires in memory, for tests, fuzzing and benchmarks of TLS. Not in the
 * product. Everything asserts: a lab that cannot be built is a failed test. */
#pragma once

#include "tls/tls.h"

#include <openssl/ssl.h>

/* ---- certificates ---- */
enum lab_key { LAB_ECDSA, LAB_RSA, LAB_RSA_1024, LAB_RSA_3072, LAB_ED25519 };

struct lab_cert {
	X509 *cert;
	EVP_PKEY *key;
};

struct lab_spec {
	const char *name;	       /* common name */
	const char *alt;	       /* "DNS:a.example.test,IP:192.0.2.1"; NULL: none */
	const struct lab_cert *issuer; /* NULL: self-signed */
	enum lab_key key;
	bool is_ca;
	int from_days, to_days; /* validity around now; both 0: -1 to 30 */
};

struct lab_cert lab_cert_make(struct lab_spec spec);
void lab_cert_free(struct lab_cert *cert);
/* PEM texts, on the heap: free() `at`. */
struct bytes lab_certs_pem(const struct lab_cert *const *certs, size_t count);
struct bytes lab_key_pem(const struct lab_cert *cert);
/* A pair of `certs` (leaf first) and the leaf's key. */
struct tls_key_pair lab_pair(const struct lab_cert *const *certs, size_t count);
void lab_pair_free(struct tls_key_pair *pair);

/* ---- wires ---- */
/* One direction of a connection. */
struct lab_wire {
	uint8_t *at;
	size_t head, tail, size;
	size_t room;	  /* the most it holds unread; at first no bound */
	size_t read_most; /* the most one read gives; at first no bound */
	size_t cut;	  /* bytes after which nothing comes out any more; at first no bound */
	size_t passed;	  /* bytes read so far */
};

struct lab_link {
	struct lab_wire up, down; /* client to server, server to client */
};

void lab_link_init(struct lab_link *link);
void lab_link_fini(struct lab_link *link);
struct tls_io lab_client_io(struct lab_link *link);
struct tls_io lab_server_io(struct lab_link *link);
size_t lab_wire_write(struct lab_wire *wire, const uint8_t *from, size_t n);
size_t lab_wire_read(struct lab_wire *wire, uint8_t *to, size_t room);

/* Turns both handshakes until both are decided or nothing moves. */
void lab_shake(struct tls *client, struct tls *server, enum tls_result *at_client,
	enum tls_result *at_server);

/* ---- a client of OpenSSL's own, to offer what ours never does ---- */
struct lab_raw {
	SSL *ssl;
	struct lab_link *link;
};

struct lab_raw lab_raw_client(SSL_CTX *ctx, struct lab_link *link, const char *sni);
void lab_raw_free(struct lab_raw *raw);
/* Moves bytes between its BIOs and the wire. */
void lab_raw_pump(struct lab_raw *raw);
/* As lab_shake; true if the raw client's handshake is done. */
bool lab_raw_shake(struct lab_raw *raw, struct tls *server, enum tls_result *at_server);
