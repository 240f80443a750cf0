// SPDX-License-Identifier: Apache-2.0
/* tls/cache.c: the sessions a core's clients may resume, by destination and policy.
 *
 * Kept as DER, which is some KiB where a live SSL_SESSION with its parsed certificates is ten times that. The key
 * is a digest of all that must be the same; whoever differs in anything finds nothing. The sessions' thread only. */
#include "tls/tls_private.h"

#include <stdlib.h>
#include <time.h>

enum {
	KEY_BYTES = 32,
	SESSION_BYTES_MAX = 16 * 1024, /* a larger one is not kept: a ticket alone may have 64 KiB */
	SESSION_BYTES_USUAL = 4 * 1024,
	OF_A_KEY_MAX = 4, /* a server may give several tickets; each serves one connection */
	SMALL_TICKET_BYTES_MAX = 512,
};

struct kept {
	uint8_t key[KEY_BYTES];
	uint8_t *der;
	uint32_t n;
	uint32_t next_in_bucket;
	uint32_t older, newer; /* in the order of keeping; free: `newer` is the next free one */
	bool is_single_use;
	int64_t began, ends; /* seconds since 1970: the first handshake; when it is good for nothing any more */
};

enum { NONE = UINT32_MAX };

struct tls_cache {
	uint32_t mask;
	uint32_t first_free, newest, oldest;
	size_t bytes, bytes_max;
	unsigned lifetime_seconds;
	EVP_MD *sha256;
	uint32_t *buckets;
	struct kept at[];
};

/* ---- the table ---- */

static uint32_t *bucket(struct tls_cache *cache, const uint8_t key[KEY_BYTES])
{
	uint32_t hash; /* the key is a digest: any of its bits are as good */
	memcpy(&hash, key, sizeof hash);
	return &cache->buckets[hash & cache->mask];
}

static void list_unlink(struct tls_cache *cache, struct kept *k)
{
	*(k->newer == NONE ? &cache->newest : &cache->at[k->newer].older) = k->older;
	*(k->older == NONE ? &cache->oldest : &cache->at[k->older].newer) = k->newer;
}

static void forget(struct tls_cache *cache, struct kept *k)
{
	uint32_t index = (uint32_t)(k - cache->at), *link = bucket(cache, k->key);
	while (*link != index)
		link = &cache->at[*link].next_in_bucket;
	*link = k->next_in_bucket;
	list_unlink(cache, k);
	cache->bytes -= k->n;
	OPENSSL_clear_free(k->der, k->n);
	k->der = NULL;
	k->newer = cache->first_free;
	cache->first_free = index;
}

/* The next of the bucket from `index` on that has the key; NULL: none. Newer ones come first. */
static struct kept *with_key(struct tls_cache *cache, uint32_t index, const uint8_t key[KEY_BYTES])
{
	for (; index != NONE; index = cache->at[index].next_in_bucket)
		if (memcmp(cache->at[index].key, key, KEY_BYTES) == 0)
			return &cache->at[index];
	return NULL;
}

/* Leaves the `most` newest of the key. */
static void forget_older(struct tls_cache *cache, const uint8_t key[KEY_BYTES], unsigned most)
{
	struct kept *next, *k = with_key(cache, *bucket(cache, key), key);
	for (; k != NULL; k = next) {
		next = with_key(cache, k->next_in_bucket, key);
		if (most > 0)
			most--;
		else
			forget(cache, k);
	}
}

static struct kept *take_place(struct tls_cache *cache, const uint8_t key[KEY_BYTES], uint32_t n)
{
	while (cache->oldest != NONE && (cache->first_free == NONE || cache->bytes + n > cache->bytes_max))
		forget(cache, &cache->at[cache->oldest]);
	uint32_t index = cache->first_free, *link = bucket(cache, key);
	struct kept *k = &cache->at[index];
	cache->first_free = k->newer;
	memcpy(k->key, key, KEY_BYTES);
	k->n = n;
	k->next_in_bucket = *link;
	*link = index;
	k->newer = NONE;
	k->older = cache->newest;
	*(cache->newest == NONE ? &cache->oldest : &cache->at[cache->newest].newer) = index;
	cache->newest = index;
	cache->bytes += n;
	return k;
}

/* ---- what is kept ---- */

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When its certificate ends, as far as anybody looked at it; else never. */
static int64_t certificate_left(SSL_SESSION *session, const SSL *ssl)
{
	int days, seconds;
	X509 *leaf = SSL_SESSION_get0_peer(session);
	if (leaf == NULL || SSL_get_verify_result(ssl) != X509_V_OK ||
		ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(leaf)) != 1)
		return INT64_MAX;
	return (int64_t)days * 24 * 60 * 60 + seconds;
}

/* Seconds for which a session may be resumed; below 1: not at all. */
static int64_t seconds_left(const struct tls *tls, SSL_SESSION *session, int64_t now)
{
	int64_t left = tls->set->lib->cache->lifetime_seconds;
	int64_t hint = (int64_t)SSL_SESSION_get_ticket_lifetime_hint(session);
	/* RFC 5077 3.3: 0 is no word about it; RFC 8446 4.6.1: it is for nothing. */
	if (hint != 0 || SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION)
		left = least(left, hint);
	left = least(left, tls->session_began + TLS_RESUMED_SECONDS_MAX - now);
	return least(left, certificate_left(session, tls->ssl));
}

static void keep(struct tls *tls, SSL_SESSION *session)
{
	struct tls_cache *cache = tls->set->lib->cache;
	int64_t now = (int64_t)time(NULL), left = seconds_left(tls, session, now);
	bool is_single_use = SSL_SESSION_get_protocol_version(session) >= TLS1_3_VERSION;
	uint8_t *der = NULL;
	if (left < 1 || SSL_SESSION_is_resumable(session) != 1)
		return;
	int n = i2d_SSL_SESSION(session, &der);
	if (n <= 0 || n > SESSION_BYTES_MAX) {
		OPENSSL_clear_free(der, n < 0 ? 0 : (size_t)n);
		return;
	}
	forget_older(cache, tls->session_key, is_single_use ? OF_A_KEY_MAX - 1 : 0);
	struct kept *k = take_place(cache, tls->session_key, (uint32_t)n);
	k->der = der;
	k->is_single_use = is_single_use;
	k->began = tls->session_began;
	k->ends = now + left;
}

/* OpenSSL's callback for a session that can be resumed; TLS 1.2 has it before the handshake is done and judged. */
static int session_made(SSL *ssl, SSL_SESSION *session)
{
	struct tls *tls = tls_of_ssl(ssl);
	if (tls->has_destination && tls->is_done && tls->failure == TLS_FAILURE_NONE)
		keep(tls, session);
	return 0; /* no reference was taken */
}

void tls_cache_handshake_done(struct tls *tls)
{
	if (!tls->has_destination)
		return;
	/* A full handshake is where trust begins. */
	if (SSL_session_reused(tls->ssl) != 1)
		tls->session_began = (int64_t)time(NULL);
	if (SSL_version(tls->ssl) < TLS1_3_VERSION)
		keep(tls, SSL_get0_session(tls->ssl));
}

/* ---- offering one ---- */

static bool digest_text(EVP_MD_CTX *md, const char *text)
{
	return EVP_DigestUpdate(md, text, strlen(text) + 1) == 1; /* with its NUL, so that two texts do not run together */
}

/* At SECURE the certificate was perhaps good for the domain alone; below, its name is only noted. */
static bool make_key(struct tls *tls, struct bytes destination)
{
	const struct tls_set *set = tls->set;
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	bool is_made = md != NULL && EVP_DigestInit_ex2(md, set->lib->cache->sha256, NULL) == 1 &&
		EVP_DigestUpdate(md, set->policies[tls->profile - set->profiles], TLS_POLICY_BYTES) == 1 &&
		digest_text(md, tls->host) &&
		digest_text(md, tls->profile->level == TLS_LEVEL_SECURE ? tls->domain : "") &&
		EVP_DigestUpdate(md, destination.at, destination.n) == 1 &&
		EVP_DigestFinal_ex(md, tls->session_key, NULL) == 1;
	EVP_MD_CTX_free(md);
	return is_made;
}

static bool offer(struct tls *tls, const struct kept *k)
{
	const uint8_t *at = k->der, *ticket;
	size_t n = 0;
	struct tls_lib *lib = tls->set->lib;
	SSL_SESSION *session = d2i_SSL_SESSION_ex(NULL, &at, (long)k->n, lib->openssl, NULL);
	if (session != NULL)
		SSL_SESSION_get0_ticket(session, &ticket, &n);
	bool is_offered = session != NULL && !(tls->is_hello_small && n > SMALL_TICKET_BYTES_MAX) &&
		SSL_set_session(tls->ssl, session) == 1;
	SSL_SESSION_free(session);
	return is_offered;
}

void tls_set_destination(struct tls *tls, struct bytes destination)
{
	struct tls_cache *cache = tls->set->lib->cache;
	int64_t now = (int64_t)time(NULL);
	if (cache == NULL || tls->set->is_server)
		return;
	tls->session_began = now;
	tls->has_destination = make_key(tls, destination);
	struct kept *k = NULL;
	if (tls->has_destination)
		k = with_key(cache, *bucket(cache, tls->session_key), tls->session_key);
	if (k != NULL && k->ends <= now) /* the others of this key are older still */
		forget_older(cache, tls->session_key, 0);
	else if (k != NULL && offer(tls, k)) {
		tls->has_offered = true;
		tls->session_began = k->began;
		if (k->is_single_use) /* RFC 8446 C.4 */
			forget(cache, k);
	}
	tls_errors_clear();
}

bool tls_is_session_suspect(const struct tls *tls)
{
	bool is_refused = tls->failure != TLS_FAILURE_NONE && tls->failure != TLS_FAILURE_HANDSHAKE;
	return tls->has_offered && (!is_refused || SSL_session_reused(tls->ssl) == 1);
}

void tls_cache_closed(struct tls *tls)
{
	if (tls->has_offered && (!tls->is_done || tls->failure != TLS_FAILURE_NONE))
		forget_older(tls->set->lib->cache, tls->session_key, 0);
}

/* ---- making and freeing ---- */

void tls_cache_enable(SSL_CTX *ctx)
{
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, session_made);
}

static uint32_t power_of_two(uint32_t least_one)
{
	uint32_t n = 1;
	while (n < least_one)
		n *= 2;
	return n;
}

bool tls_lib_keep_sessions(struct tls_lib *lib, uint32_t count, unsigned lifetime_seconds)
{
	if (count == 0 || lifetime_seconds == 0)
		return true;
	struct tls_cache *cache = calloc(1, sizeof *cache + count * sizeof cache->at[0]);
	if (cache == NULL)
		return false;
	cache->mask = power_of_two(count) - 1;
	cache->buckets = malloc((cache->mask + 1) * sizeof *cache->buckets);
	cache->sha256 = EVP_MD_fetch(lib->openssl, "SHA256", NULL);
	if (cache->buckets == NULL || cache->sha256 == NULL) {
		EVP_MD_free(cache->sha256);
		free(cache->buckets);
		free(cache);
		return false;
	}
	memset(cache->buckets, 0xff, (cache->mask + 1) * sizeof *cache->buckets);
	cache->bytes_max = (size_t)count * SESSION_BYTES_USUAL;
	if (cache->bytes_max < SESSION_BYTES_MAX)
		cache->bytes_max = SESSION_BYTES_MAX;
	cache->lifetime_seconds = lifetime_seconds;
	cache->newest = cache->oldest = NONE;
	for (uint32_t i = 0; i < count; i++)
		cache->at[i].newer = i + 1 < count ? i + 1 : NONE;
	lib->cache = cache;
	return true;
}

void tls_cache_destroy(struct tls_cache *cache)
{
	if (cache == NULL)
		return;
	while (cache->oldest != NONE)
		forget(cache, &cache->at[cache->oldest]);
	EVP_MD_free(cache->sha256);
	free(cache->buckets);
	free(cache);
}
