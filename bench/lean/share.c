// SPDX-License-Identifier: Apache-2.0
#include "bench/lean/share.h"

#include <openssl/evp.h>
#include <stdlib.h>

enum {
	X25519_BYTES = 32,
	P256_BYTES = 65,	   /* uncompressed (RFC 8446 4.2.8.2) */
	MLKEM_VECTOR_BYTES = 1152, /* ByteEncode12 of 3 polynomials */
	MLKEM_KEY_BYTES = 1184,	   /* and the matrix's seed */
	MLKEM_U_BYTES = 960,	   /* of a ciphertext: 3 polynomials, 10 bits each coefficient */
	MLKEM_CIPHERTEXT_BYTES = 1088,
	MLKEM_SECRET_BYTES = 32,
};

static const struct group_row {
	uint16_t group;
	const char *name, *also;
} groups[] = {
	{LEAN_X25519, "X25519", "x25519"},
	{LEAN_P256, "P-256", "secp256r1"},
	{LEAN_X25519MLKEM768, "X25519MLKEM768", "x25519mlkem768"},
};
#define GROUPS (sizeof groups / sizeof groups[0])

uint16_t lean_group_find(struct bytes name)
{
	for (size_t i = 0; i < GROUPS; i++)
		if (bytes_equal_nocase(name, bytes_of_string(groups[i].name)) ||
			bytes_equal_nocase(name, bytes_of_string(groups[i].also)))
			return groups[i].group;
	return 0;
}

const char *lean_group_name(uint16_t group)
{
	for (size_t i = 0; i < GROUPS; i++)
		if (groups[i].group == group)
			return groups[i].name;
	return "";
}

/* SEC 2, 2.4.2 */
static const uint8_t p256_generator[P256_BYTES] = {0x04, 0x6b, 0x17, 0xd1, 0xf2, 0xe1, 0x2c, 0x42,
	0x47, 0xf8, 0xbc, 0xe6, 0xe5, 0x63, 0xa4, 0x40, 0xf2, 0x77, 0x03, 0x7d, 0x81, 0x2d, 0xeb,
	0x33, 0xa0, 0xf4, 0xa1, 0x39, 0x45, 0xd8, 0x98, 0xc2, 0x96, 0x4f, 0xe3, 0x42, 0xe2, 0xfe,
	0x1a, 0x7f, 0x9b, 0x8e, 0xe7, 0xeb, 0x4a, 0x7c, 0x0f, 0x9e, 0x16, 0x2b, 0xce, 0x33, 0x57,
	0x6b, 0x31, 0x5e, 0xce, 0xcb, 0xb6, 0x40, 0x68, 0x37, 0xbf, 0x51, 0xf5};

struct lean_shares {
	EVP_MD *sha3_512;
	EVP_MD_CTX *digest;
	uint8_t hybrid[MLKEM_KEY_BYTES + X25519_BYTES]; /* ends in the X25519 share */
	uint8_t key_hash[32];				/* H(ek) */
};

struct lean_shares *lean_shares_create(void)
{
	struct lean_shares *s = calloc(1, sizeof *s);
	if (s == NULL)
		return NULL;
	for (size_t i = MLKEM_VECTOR_BYTES; i < MLKEM_KEY_BYTES; i++)
		s->hybrid[i] = (uint8_t)i;
	s->hybrid[MLKEM_KEY_BYTES] = 9; /* the base point (RFC 7748 4.1) */
	s->sha3_512 = EVP_MD_fetch(NULL, "SHA3-512", NULL);
	s->digest = EVP_MD_CTX_new();
	if (s->sha3_512 == NULL || s->digest == NULL ||
		EVP_DigestInit_ex2(s->digest, s->sha3_512, NULL) != 1 ||
		EVP_Q_digest(NULL, "SHA3-256", NULL, s->hybrid, MLKEM_KEY_BYTES, s->key_hash,
			NULL) != 1) {
		lean_shares_destroy(s);
		return NULL;
	}
	return s;
}

void lean_shares_destroy(struct lean_shares *s)
{
	if (s == NULL)
		return;
	EVP_MD_CTX_free(s->digest);
	EVP_MD_free(s->sha3_512);
	free(s);
}

struct bytes lean_share(const struct lean_shares *s, uint16_t group)
{
	switch ((enum lean_group)group) {
	case LEAN_X25519: return bytes_of(s->hybrid + MLKEM_KEY_BYTES, X25519_BYTES);
	case LEAN_P256: return bytes_of(p256_generator, P256_BYTES);
	case LEAN_X25519MLKEM768: return bytes_of(s->hybrid, sizeof s->hybrid);
	}
	return BYTES_NONE;
}

/* With t = 0 a coefficient of v is e2 + m·⌈q/2⌋, and |e2| is at most 2: 0 or 8 of the 16 steps that
 * it is rounded to; two coefficients stand in a byte, the lower first. */
static bool decapsulate(
	struct lean_shares *s, const uint8_t *ciphertext, uint8_t to[MLKEM_SECRET_BYTES])
{
	uint8_t message[32] = {0}, digest[64];
	for (unsigned i = 0; i < 256; i++) {
		unsigned pair = ciphertext[MLKEM_U_BYTES + i / 2];
		unsigned v = i % 2 == 0 ? pair & 15 : pair >> 4;
		message[i / 8] |= (uint8_t)((v >> 3) << i % 8);
	}
	if (EVP_DigestInit_ex2(s->digest, NULL, NULL) != 1 ||
		EVP_DigestUpdate(s->digest, message, sizeof message) != 1 ||
		EVP_DigestUpdate(s->digest, s->key_hash, sizeof s->key_hash) != 1 ||
		EVP_DigestFinal_ex(s->digest, digest, NULL) != 1)
		return false;
	memcpy(to, digest, MLKEM_SECRET_BYTES);
	return true;
}

size_t lean_secret(
	struct lean_shares *s, uint16_t group, struct bytes server, uint8_t to[LEAN_SECRET_MAX])
{
	switch ((enum lean_group)group) {
	case LEAN_X25519:
		if (server.n != X25519_BYTES)
			return 0;
		memcpy(to, server.at, X25519_BYTES);
		return X25519_BYTES;
	case LEAN_P256:
		if (server.n != P256_BYTES || server.at[0] != 4)
			return 0;
		memcpy(to, server.at + 1, 32);
		return 32;
	case LEAN_X25519MLKEM768:
		if (server.n != MLKEM_CIPHERTEXT_BYTES + X25519_BYTES ||
			!decapsulate(s, server.at, to))
			return 0;
		memcpy(to + MLKEM_SECRET_BYTES, server.at + MLKEM_CIPHERTEXT_BYTES, X25519_BYTES);
		return MLKEM_SECRET_BYTES + X25519_BYTES;
	}
	return 0;
}
