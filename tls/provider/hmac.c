// SPDX-License-Identifier: Apache-2.0
#include "tls/provider/hmac.h"

#include <openssl/crypto.h>
#include <strings.h>

struct hmac_digest {
	const char *names[4];
	uint8_t bytes, block_bytes;
	bool is_wide; /* 64-bit words: SHA512_CTX */
	uint8_t of_nothing[HMAC_DIGEST_BYTES_MAX];
};

const struct hmac_digest hmac_sha256 = {
	{"SHA2-256", "SHA256", "SHA-256", "2.16.840.1.101.3.4.2.1"},
	SHA256_DIGEST_LENGTH, SHA256_CBLOCK, false,
	{0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9,
		0x24, 0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78,
		0x52, 0xb8, 0x55},
};

const struct hmac_digest hmac_sha384 = {
	{"SHA2-384", "SHA384", "SHA-384", "2.16.840.1.101.3.4.2.2"},
	SHA384_DIGEST_LENGTH, SHA512_CBLOCK, true,
	{0x38, 0xb0, 0x60, 0xa7, 0x51, 0xac, 0x96, 0x38, 0x4c, 0xd9, 0x32, 0x7e, 0xb1, 0xb1, 0xe3,
		0x6a, 0x21, 0xfd, 0xb7, 0x11, 0x14, 0xbe, 0x07, 0x43, 0x4c, 0x0c, 0xc7, 0xbf, 0x63,
		0xf6, 0xe1, 0xda, 0x27, 0x4e, 0xde, 0xbf, 0xe7, 0x6f, 0x65, 0xfb, 0xd5, 0x1a, 0xd2,
		0xf1, 0x48, 0x98, 0xb9, 0x5b},
};

static bool has_name(const struct hmac_digest *digest, const char *name)
{
	for (size_t i = 0; i < sizeof digest->names / sizeof digest->names[0]; i++)
		if (strcasecmp(digest->names[i], name) == 0)
			return true;
	return false;
}

const struct hmac_digest *hmac_digest_find(const char *name)
{
	return has_name(&hmac_sha256, name) ? &hmac_sha256
		: has_name(&hmac_sha384, name) ? &hmac_sha384
					       : NULL;
}

size_t hmac_digest_bytes(const struct hmac_digest *digest)
{
	return digest->bytes;
}

size_t hmac_digest_block_bytes(const struct hmac_digest *digest)
{
	return digest->block_bytes;
}

const char *hmac_digest_name(const struct hmac_digest *digest)
{
	return digest->names[0];
}

struct bytes hmac_digest_of_nothing(const struct hmac_digest *digest)
{
	return bytes_of(digest->of_nothing, digest->bytes);
}

/* ---- one digest ---- */

static void begin(union hmac_state *s, const struct hmac_digest *digest)
{
	if (digest->is_wide)
		SHA384_Init(&s->sha512);
	else
		SHA256_Init(&s->sha256);
}

static void update(union hmac_state *s, const struct hmac_digest *digest, struct bytes in)
{
	if (digest->is_wide)
		SHA384_Update(&s->sha512, in.at, in.n);
	else
		SHA256_Update(&s->sha256, in.at, in.n);
}

static void end(union hmac_state *s, const struct hmac_digest *digest, uint8_t *to)
{
	if (digest->is_wide)
		SHA384_Final(to, &s->sha512);
	else
		SHA256_Final(to, &s->sha256);
}

/* ---- HMAC ---- */

union block {
	uint8_t bytes[HMAC_BLOCK_BYTES_MAX];
	uint64_t words[HMAC_BLOCK_BYTES_MAX / 8];
};

static void begin_with_pad(union hmac_state *s, const struct hmac_digest *digest,
	union block *block, uint64_t pad)
{
	for (size_t i = 0; i < digest->block_bytes / 8; i++)
		block->words[i] ^= pad;
	begin(s, digest);
	update(s, digest, bytes_of(block->bytes, digest->block_bytes));
}

void hmac_init(struct hmac *h, const struct hmac_digest *digest, struct bytes key)
{
	/* RFC 2104 2 */
	const uint64_t inner_pad = 0x3636363636363636, outer_pad = 0x5c5c5c5c5c5c5c5c;
	union block block = {};
	h->digest = digest;
	if (key.n > digest->block_bytes) {
		begin(&h->inner, digest);
		update(&h->inner, digest, key);
		end(&h->inner, digest, block.bytes);
	} else if (key.n != 0) {
		memcpy(block.bytes, key.at, key.n);
	}
	begin_with_pad(&h->inner, digest, &block, inner_pad);
	begin_with_pad(&h->outer, digest, &block, inner_pad ^ outer_pad);
	OPENSSL_cleanse(&block, sizeof block);
}

void hmac_update(struct hmac *h, struct bytes in)
{
	if (in.n != 0)
		update(&h->inner, h->digest, in);
}

void hmac_final(struct hmac *h, uint8_t *to)
{
	uint8_t of_inner[HMAC_DIGEST_BYTES_MAX];
	end(&h->inner, h->digest, of_inner);
	update(&h->outer, h->digest, bytes_of(of_inner, h->digest->bytes));
	end(&h->outer, h->digest, to);
	OPENSSL_cleanse(of_inner, sizeof of_inner);
	OPENSSL_cleanse(h, sizeof *h);
}
