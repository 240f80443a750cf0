// SPDX-License-Identifier: Apache-2.0
#include "tls/lab.h"

#include "tls/tls_private.h"

#undef NDEBUG
#include <assert.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdlib.h>

/* ---- certificates ---- */

/* An RSA key takes long to make, so that all certificates share one of each size. */
static EVP_PKEY *rsa_key(unsigned bits, EVP_PKEY **kept)
{
	if (*kept == NULL)
		*kept = EVP_RSA_gen(bits);
	assert(*kept != NULL);
	EVP_PKEY_up_ref(*kept);
	return *kept;
}

static EVP_PKEY *new_key(enum lab_key kind)
{
	static EVP_PKEY *rsa_2048, *rsa_1024, *rsa_3072;
	switch (kind) {
	case LAB_RSA: return rsa_key(2048, &rsa_2048);
	case LAB_RSA_3072: return rsa_key(3072, &rsa_3072);
	case LAB_RSA_1024: return rsa_key(1024, &rsa_1024);
	case LAB_ED25519: return EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	case LAB_ECDSA: break;
	}
	return EVP_EC_gen("P-256");
}

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	assert(extension != NULL && X509_add_ext(cert, extension, -1) == 1);
	X509_EXTENSION_free(extension);
}

struct lab_cert lab_cert_make(struct lab_spec spec)
{
	static long serial = 1000;
	struct lab_cert made = {X509_new(), new_key(spec.key)};
	const struct lab_cert *issuer = spec.issuer != NULL ? spec.issuer : &made;
	bool is_usual = spec.from_days == 0 && spec.to_days == 0;
	assert(made.cert != NULL && made.key != NULL);
	X509_set_version(made.cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(made.cert), ++serial);
	X509_time_adj_ex(X509_getm_notBefore(made.cert), is_usual ? -1 : spec.from_days, 0, NULL);
	X509_time_adj_ex(X509_getm_notAfter(made.cert), is_usual ? 30 : spec.to_days, 0, NULL);
	X509_set_pubkey(made.cert, made.key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(made.cert), "CN", MBSTRING_UTF8,
		(const unsigned char *)spec.name, -1, -1, 0);
	X509_set_issuer_name(made.cert, X509_get_subject_name(issuer->cert));
	add_extension(made.cert, issuer->cert, NID_basic_constraints,
		spec.is_ca ? "critical,CA:TRUE" : "critical,CA:FALSE");
	if (spec.is_ca)
		add_extension(
			made.cert, issuer->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
	/* Clients that take RFC 5280 4.2.1.1 strictly look for both. */
	add_extension(made.cert, issuer->cert, NID_subject_key_identifier, "hash");
	add_extension(made.cert, issuer->cert, NID_authority_key_identifier, "keyid");
	if (spec.alt != NULL)
		add_extension(made.cert, issuer->cert, NID_subject_alt_name, spec.alt);
	const EVP_MD *digest = EVP_PKEY_is_a(issuer->key, "ED25519") ? NULL : EVP_sha256();
	assert(X509_sign(made.cert, issuer->key, digest) > 0);
	return made;
}

void lab_cert_free(struct lab_cert *cert)
{
	X509_free(cert->cert);
	EVP_PKEY_free(cert->key);
	*cert = (struct lab_cert){0};
}

static struct bytes take_text(BIO *memory)
{
	char *text;
	long n = BIO_get_mem_data(memory, &text);
	uint8_t *copy = malloc((size_t)n + 1);
	assert(copy != NULL);
	memcpy(copy, text, (size_t)n);
	copy[n] = '\0';
	BIO_free(memory);
	return bytes_of(copy, (size_t)n);
}

struct bytes lab_certs_pem(const struct lab_cert *const *certs, size_t count)
{
	BIO *memory = BIO_new(BIO_s_mem());
	for (size_t i = 0; i < count; i++)
		assert(PEM_write_bio_X509(memory, certs[i]->cert) == 1);
	return take_text(memory);
}

struct bytes lab_key_pem(const struct lab_cert *cert)
{
	BIO *memory = BIO_new(BIO_s_mem());
	assert(PEM_write_bio_PrivateKey(memory, cert->key, NULL, NULL, 0, NULL, NULL) == 1);
	return take_text(memory);
}

struct tls_key_pair lab_pair(const struct lab_cert *const *certs, size_t count)
{
	return (struct tls_key_pair){lab_certs_pem(certs, count), lab_key_pem(certs[0])};
}

void lab_pair_free(struct tls_key_pair *pair)
{
	free((void *)pair->chain_pem.at);
	free((void *)pair->key_pem.at);
	*pair = (struct tls_key_pair){0};
}

/* ---- wires ---- */

size_t lab_wire_write(struct lab_wire *wire, const uint8_t *from, size_t n)
{
	size_t held = wire->tail - wire->head;
	size_t room = wire->room > held ? wire->room - held : 0;
	n = n < room ? n : room;
	if (wire->tail + n > wire->size) {
		memmove(wire->at, wire->at + wire->head, n == 0 && held == 0 ? 0 : held);
		wire->head = 0;
		wire->tail = held;
	}
	if (held + n > wire->size) {
		wire->size = (held + n) * 2;
		wire->at = realloc(wire->at, wire->size);
		assert(wire->at != NULL);
	}
	if (n != 0)
		memcpy(wire->at + wire->tail, from, n);
	wire->tail += n;
	return n;
}

size_t lab_wire_read(struct lab_wire *wire, uint8_t *to, size_t room)
{
	size_t n = wire->tail - wire->head;
	n = n < room ? n : room;
	n = n < wire->read_most ? n : wire->read_most;
	n = n < wire->cut - wire->passed ? n : wire->cut - wire->passed;
	if (n != 0)
		memcpy(to, wire->at + wire->head, n);
	wire->head += n;
	wire->passed += n;
	return n;
}

static void wire_init(struct lab_wire *wire)
{
	*wire = (struct lab_wire){.at = malloc(4096),
		.size = 4096,
		.room = SIZE_MAX,
		.read_most = SIZE_MAX,
		.cut = SIZE_MAX};
	assert(wire->at != NULL);
}

void lab_link_init(struct lab_link *link)
{
	wire_init(&link->up);
	wire_init(&link->down);
}

void lab_link_fini(struct lab_link *link)
{
	free(link->up.at);
	free(link->down.at);
}

static size_t read_up(void *user, uint8_t *to, size_t room)
{
	return lab_wire_read(&((struct lab_link *)user)->up, to, room);
}

static size_t write_up(void *user, const uint8_t *from, size_t n)
{
	return lab_wire_write(&((struct lab_link *)user)->up, from, n);
}

static size_t read_down(void *user, uint8_t *to, size_t room)
{
	return lab_wire_read(&((struct lab_link *)user)->down, to, room);
}

static size_t write_down(void *user, const uint8_t *from, size_t n)
{
	return lab_wire_write(&((struct lab_link *)user)->down, from, n);
}

struct tls_io lab_client_io(struct lab_link *link)
{
	return (struct tls_io){read_down, write_up, link};
}

struct tls_io lab_server_io(struct lab_link *link)
{
	return (struct tls_io){read_up, write_down, link};
}

/* One turn of one side; true while it may come to something more. */
static enum tls_result turn(struct tls *tls)
{
	tls_flush(tls);
	enum tls_result result = tls_handshake(tls);
	tls_flush(tls);
	return result;
}

void lab_shake(struct tls *client, struct tls *server, enum tls_result *at_client,
	enum tls_result *at_server)
{
	/* Most turns are taken by wires of one byte; a handshake is some thousand bytes. */
	for (int turns = 0; turns < 50000; turns++) {
		*at_client = turn(client);
		*at_server = turn(server);
		if (*at_client == TLS_WAIT || *at_server == TLS_WAIT) {
			tls_lib_poll(client->set->lib, 0, true);
			tls_lib_poll(server->set->lib, 0, true);
			continue;
		}
		bool is_out = !tls_has_output(client) && !tls_has_output(server);
		if (*at_client != TLS_AGAIN && *at_server != TLS_AGAIN && is_out)
			return;
	}
}

/* ---- a client of OpenSSL's own ---- */

struct lab_raw lab_raw_client(SSL_CTX *ctx, struct lab_link *link, const char *sni)
{
	struct lab_raw raw = {SSL_new(ctx), link};
	assert(raw.ssl != NULL);
	SSL_set_bio(raw.ssl, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
	BIO_set_mem_eof_return(SSL_get_rbio(raw.ssl), -1);
	SSL_set_connect_state(raw.ssl);
	if (sni != NULL)
		SSL_set_tlsext_host_name(raw.ssl, sni);
	return raw;
}

void lab_raw_free(struct lab_raw *raw)
{
	SSL_free(raw->ssl);
	raw->ssl = NULL;
}

void lab_raw_pump(struct lab_raw *raw)
{
	uint8_t block[4096];
	size_t n;
	int got;
	while ((n = lab_wire_read(&raw->link->down, block, sizeof block)) != 0)
		assert(BIO_write(SSL_get_rbio(raw->ssl), block, (int)n) == (int)n);
	while ((got = BIO_read(SSL_get_wbio(raw->ssl), block, sizeof block)) > 0)
		assert(lab_wire_write(&raw->link->up, block, (size_t)got) == (size_t)got);
}

bool lab_raw_shake(struct lab_raw *raw, struct tls *server, enum tls_result *at_server)
{
	int done = 0;
	for (int turns = 0; turns < 20; turns++) {
		done = done == 1 ? 1 : SSL_do_handshake(raw->ssl);
		lab_raw_pump(raw);
		*at_server = turn(server);
		lab_raw_pump(raw);
		ERR_clear_error();
	}
	return done == 1;
}
