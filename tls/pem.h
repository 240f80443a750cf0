// SPDX-License-Identifier: Apache-2.0
/* tls/pem.h: certificates as files, for the control plane: take a PEM file apart, describe, make
 * one.
 *
 * No session and no context is involved; every function may be called on any thread, may take
 * milliseconds (an RSA key: some hundred) and allocates. What comes out is plain text; errors are
 * words for the operator who gave the file. A text that holds a private key is wiped when it is
 * freed. */
#pragma once

#include "tls/tls.h"

enum {
	PEM_FILE_BYTES_MAX = 256 * 1024, /* a long chain is 10 KiB */
	PEM_CERTS_MAX = 32,
	PEM_NAMES_MAX = 100,	    /* of a certificate made here */
	PEM_NAMES_BYTES_MAX = 4096, /* in a description */
	PEM_DAYS_MAX = 3650,
};

/* PEM texts of one certificate, on the heap, NUL-terminated: pem_pair_fini. */
struct pem_pair {
	char *key;   /* PKCS#8, not encrypted; `key_n` bytes */
	char *chain; /* leaf first, then each one's issuer; without the root, unless the leaf is
			self-signed */
	size_t key_n, chain_n;
	unsigned chain_count;
	unsigned unused_count; /* certificates of the file that do not belong to the leaf's chain */
	bool has_dropped_root;
};

/* Takes apart a file with a key, its certificate, intermediates and perhaps the root, in any order;
 * text around the blocks is ignored. 0, or -EINVAL with `error` saying what is wrong with the file:
 * not PEM, no key, a key with a password, two keys, no certificate, none that belongs to the key, a
 * damaged block, too weak a key. `pair` needs pem_pair_fini only after 0. */
int pem_import(struct bytes file, struct pem_pair *pair, struct tls_error *error);
/* Wipes and frees. */
void pem_pair_fini(struct pem_pair *pair);

/* What a person or a rule wants to know of a certificate. */
struct pem_certificate {
	char subject[256], issuer[256];	 /* RFC 2253: "CN=mx.example.test,O=Example" */
	char names[PEM_NAMES_BYTES_MAX]; /* subjectAltName, DNS names and addresses: NUL-separated,
					    ended by an empty one */
	bool has_more_names;		 /* than fit */
	int64_t not_before, not_after;	 /* seconds since 1970 */
	char not_before_text[24], not_after_text[24]; /* "2026-11-21T18:30:00Z" */
	char key_type[16];			      /* "ECDSA", "RSA", "ED25519" … */
	char key_group[24];			      /* of an ECDSA key: "P-256"; else "" */
	unsigned key_bits;
	char sha256[96];	    /* fingerprint of the whole: "AB:CD:…" */
	char serial[64];	    /* hexadecimal digits */
	bool is_ca, is_self_signed; /* signed with its own key */
};

/* Describes the certificate number `index` (0: the first) of a PEM text. 0; -ENOENT: the text has
 * not so many, `error` untouched; -EINVAL with `error`: a damaged block or no PEM at all. */
int pem_describe(struct bytes pem, size_t index, struct pem_certificate *certificate,
	struct tls_error *error);

enum pem_key { PEM_KEY_ECDSA_P256, PEM_KEY_RSA_2048 };

/* Makes a new key and a certificate signed with it, for `names` (DNS names; "*.example.test" too;
 * the first is also the common name where it fits), valid from an hour before `now` (seconds since
 * 1970; clocks differ) for `days`. 0, or -EINVAL with `error`: a name that is none, no name, too
 * many, days not in 1..PEM_DAYS_MAX; -ENOMEM. */
int pem_make_self_signed(const char *const *names, size_t count, unsigned days, enum pem_key kind,
	int64_t now, struct pem_pair *pair, struct tls_error *error);
