// SPDX-License-Identifier: Apache-2.0
#include "tls/pem.h"

#include "tls/tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what a file holds ---- */

struct contents {
	EVP_PKEY *key;
	X509 *certs[PEM_CERTS_MAX];
	size_t count;
};

static void contents_fini(struct contents *contents)
{
	EVP_PKEY_free(contents->key);
	for (size_t i = 0; i < contents->count; i++)
		X509_free(contents->certs[i]);
}

/* One block as PEM has it: kind, headers, decoded bytes. */
struct block {
	char *kind, *headers;
	unsigned char *data;
	long n;
};

static void block_fini(struct block *block)
{
	OPENSSL_free(block->kind);
	OPENSSL_free(block->headers);
	OPENSSL_clear_free(block->data, block->n > 0 ? (size_t)block->n : 0);
	*block = (struct block){0};
}

static bool is_one_of(const char *kind, const char *const *kinds)
{
	for (; *kinds != NULL; kinds++)
		if (strcmp(kind, *kinds) == 0)
			return true;
	return false;
}

static const char *take_key(struct contents *contents, const struct block *block)
{
	const unsigned char *at = block->data;
	/* The three forms: PKCS#8, and the traditional ones of RSA and EC; nothing may follow
	 * within. */
	EVP_PKEY *key = d2i_AutoPrivateKey(NULL, &at, block->n);
	if (key == NULL || at != block->data + block->n) {
		EVP_PKEY_free(key);
		return "its private key is damaged";
	}
	if (contents->key != NULL) {
		EVP_PKEY_free(key);
		return "it has more than one private key";
	}
	contents->key = key;
	return NULL;
}

static const char *take_certificate(struct contents *contents, const struct block *block)
{
	const unsigned char *at = block->data;
	if (contents->count == PEM_CERTS_MAX)
		return "it has too many certificates (at most 32)";
	X509 *x = strcmp(block->kind, PEM_STRING_X509_TRUSTED) == 0
		? d2i_X509_AUX(NULL, &at, block->n)
		: d2i_X509(NULL, &at, block->n);
	if (x == NULL || at != block->data + block->n || X509_get0_pubkey(x) == NULL) {
		X509_free(x);
		return "one of its certificates is damaged";
	}
	contents->certs[contents->count++] = x;
	return NULL;
}

static const char *take_block(struct contents *contents, const struct block *block)
{
	static const char *const keys[] = {
		"PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", NULL};
	static const char *const certs[] = {
		"CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE", NULL};
	/* Some tools write these beside a key; they say nothing that the key does not. */
	static const char *const ignored[] = {"EC PARAMETERS", "DH PARAMETERS", "PUBLIC KEY", NULL};
	static const char encrypted[] = "its private key is encrypted: take the password off first "
					"(openssl pkey -in FILE)";
	if (strcmp(block->kind, "ENCRYPTED PRIVATE KEY") == 0 ||
		strstr(block->headers, "ENCRYPTED") != NULL)
		return encrypted;
	if (is_one_of(block->kind, keys))
		return take_key(contents, block);
	if (is_one_of(block->kind, certs))
		return take_certificate(contents, block);
	if (is_one_of(block->kind, ignored))
		return NULL;
	if (strstr(block->kind, "CERTIFICATE REQUEST") != NULL)
		return "it holds a certificate request: import the certificate that the CA made of "
		       "it";
	return "it has a block that is neither a certificate nor an ECDSA or RSA key";
}

static const char *not_pem(struct bytes file)
{
	if (file.n == 0)
		return "it is empty";
	if (file.at[0] == 0x30) /* an ASN.1 SEQUENCE */
		return "it is binary (DER or PKCS#12), not PEM: convert it with openssl x509, pkey "
		       "or pkcs12";
	return "it has no PEM block (a line -----BEGIN CERTIFICATE----- and so on)";
}

/* Reads all blocks; NULL, or what is wrong. */
static const char *contents_read(struct contents *contents, struct bytes file)
{
	const char *what = NULL;
	size_t blocks = 0;
	if (file.n > PEM_FILE_BYTES_MAX)
		return "it is larger than 256 KiB";
	ERR_clear_error();
	BIO *from = file.n == 0 ? NULL : BIO_new_mem_buf(file.at, (int)file.n);
	if (from == NULL)
		return not_pem(file);
	for (; what == NULL; blocks++) {
		struct block block = {0};
		if (PEM_read_bio(from, &block.kind, &block.headers, &block.data, &block.n) == 1)
			what = take_block(contents, &block);
		else if (ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
			what = "one of its blocks is damaged or cut off";
		else
			break;
		block_fini(&block);
	}
	BIO_free(from);
	ERR_clear_error();
	return what == NULL && blocks == 0 ? not_pem(file) : what;
}

/* ---- describing ---- */

static int64_t time_text(const ASN1_TIME *time, char text[24])
{
	struct tm tm = {0};
	text[0] = '\0';
	if (ASN1_TIME_to_tm(time, &tm) != 1)
		return 0;
	strftime(text, 24, "%Y-%m-%dT%H:%M:%SZ", &tm);
	return timegm(&tm);
}

static void key_text(EVP_PKEY *key, struct pem_certificate *to)
{
	char group[64] = "";
	const char *type = EVP_PKEY_get0_type_name(key);
	bool is_ec = EVP_PKEY_is_a(key, "EC");
	snprintf(to->key_type, sizeof to->key_type, "%s",
		is_ec		       ? "ECDSA"
			: type == NULL ? "unknown"
				       : type);
	to->key_bits = (unsigned)EVP_PKEY_get_bits(key);
	if (!is_ec || EVP_PKEY_get_group_name(key, group, sizeof group, NULL) != 1)
		return;
	const char *nist = EC_curve_nid2nist(OBJ_sn2nid(group));
	snprintf(to->key_group, sizeof to->key_group, "%s", nist != NULL ? nist : group);
}

static void fingerprint_text(const X509 *x, char to[96])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned int n = 0;
	to[0] = '\0';
	if (X509_digest(x, EVP_sha256(), digest, &n) != 1)
		return;
	for (unsigned int i = 0; i < n; i++)
		snprintf(to + 3 * i, 4, "%02X%s", digest[i], i + 1 < n ? ":" : "");
}

static void serial_text(const X509 *x, char *to, size_t size)
{
	BIGNUM *number = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
	char *text = number == NULL ? NULL : BN_bn2hex(number);
	snprintf(to, size, "%s", text != NULL ? text : "");
	OPENSSL_free(text);
	BN_free(number);
}

/* A DNS name or an address as text; empty: of another kind, or with a byte that no name has. */
static void alt_name_text(const GENERAL_NAME *name, char *to, size_t size)
{
	to[0] = '\0';
	if (name->type == GEN_IPADD) {
		const unsigned char *a = ASN1_STRING_get0_data(name->d.iPAddress);
		int n = ASN1_STRING_length(name->d.iPAddress);
		for (int i = 0; (n == 4 || n == 16) && i < n; i += n == 4 ? 1 : 2)
			if (n == 4)
				snprintf(to + strlen(to), size - strlen(to), "%s%u", i ? "." : "",
					a[i]);
			else
				snprintf(to + strlen(to), size - strlen(to), "%s%x", i ? ":" : "",
					a[i] << 8 | a[i + 1]);
		return;
	}
	if (name->type != GEN_DNS)
		return;
	const unsigned char *at = ASN1_STRING_get0_data(name->d.dNSName);
	int n = ASN1_STRING_length(name->d.dNSName);
	for (int i = 0; i < n; i++)
		if (at[i] <= ' ' || at[i] >= 0x7f)
			return;
	if ((size_t)n < size)
		bytes_to_string(bytes_of(at, (size_t)n), to, size);
}

static void names_text(const X509 *x, struct pem_certificate *to)
{
	GENERAL_NAMES *alt = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
	size_t used = 0;
	for (int i = 0; i < sk_GENERAL_NAME_num(alt); i++) {
		char name[256];
		alt_name_text(sk_GENERAL_NAME_value(alt, i), name, sizeof name);
		size_t n = strlen(name);
		if (n == 0)
			continue;
		if (used + n + 2 > sizeof to->names) {
			to->has_more_names = true;
			break;
		}
		memcpy(to->names + used, name, n + 1);
		used += n + 1;
	}
	GENERAL_NAMES_free(alt);
}

static bool is_self_signed(X509 *x)
{
	return X509_self_signed(x, 1) == 1;
}

static void describe(X509 *x, struct pem_certificate *to)
{
	*to = (struct pem_certificate){0};
	tls_name_text(X509_get_subject_name(x), to->subject, sizeof to->subject);
	tls_name_text(X509_get_issuer_name(x), to->issuer, sizeof to->issuer);
	names_text(x, to);
	to->not_before = time_text(X509_get0_notBefore(x), to->not_before_text);
	to->not_after = time_text(X509_get0_notAfter(x), to->not_after_text);
	key_text(X509_get0_pubkey(x), to);
	fingerprint_text(x, to->sha256);
	serial_text(x, to->serial, sizeof to->serial);
	to->is_ca = X509_check_ca(x) == 1;
	to->is_self_signed = is_self_signed(x);
	ERR_clear_error();
}

int pem_describe(struct bytes pem, size_t index, struct pem_certificate *certificate,
	struct tls_error *error)
{
	struct contents contents = {0};
	const char *what = contents_read(&contents, pem);
	int result = what != NULL ? -EINVAL : index >= contents.count ? -ENOENT : 0;
	if (result == -EINVAL)
		tls_error_set(error, "the file is not usable: %s", what);
	else if (result == 0)
		describe(contents.certs[index], certificate);
	contents_fini(&contents);
	return result;
}

/* ---- importing ---- */

/* Of several certificates of one key (a renewal, a CA's beside a self-signed one) the longest
 * valid. */
static X509 *find_leaf(const struct contents *contents)
{
	X509 *leaf = NULL;
	for (size_t i = 0; i < contents->count; i++) {
		X509 *x = contents->certs[i];
		if (EVP_PKEY_eq(X509_get0_pubkey(x), contents->key) != 1)
			continue;
		if (leaf == NULL ||
			ASN1_TIME_compare(X509_get0_notAfter(x), X509_get0_notAfter(leaf)) > 0)
			leaf = x;
	}
	return leaf;
}

static X509 *find_issuer(const struct contents *contents, X509 *of)
{
	X509 *root = NULL;
	for (size_t i = 0; i < contents->count; i++) {
		X509 *x = contents->certs[i];
		if (x == of || X509_check_issued(x, of) != X509_V_OK ||
			X509_verify(of, X509_get0_pubkey(x)) != 1)
			continue;
		if (!is_self_signed(x))
			return x; /* cross-signed: the way on, where the file has it */
		root = x;
	}
	return root;
}

static bool is_in(X509 *const *chain, unsigned count, const X509 *x)
{
	for (unsigned i = 0; i < count; i++)
		if (chain[i] == x)
			return true;
	return false;
}

static unsigned order_chain(const struct contents *contents, X509 *leaf, X509 *chain[PEM_CERTS_MAX],
	struct pem_pair *pair)
{
	unsigned count = 0;
	for (X509 *x = leaf; x != NULL && !is_in(chain, count, x); x = find_issuer(contents, x)) {
		bool is_root = is_self_signed(x);
		pair->has_dropped_root = is_root && x != leaf;
		if (!pair->has_dropped_root)
			chain[count++] = x;
		if (is_root)
			break;
	}
	pair->unused_count = (unsigned)contents->count - count - pair->has_dropped_root;
	ERR_clear_error();
	return count;
}

static char *take_text(BIO *memory, size_t *n)
{
	char *at, *text = NULL;
	long size = BIO_get_mem_data(memory, &at);
	if (size > 0 && (text = malloc((size_t)size + 1)) != NULL)
		bytes_to_string(bytes_of(at, (size_t)size), text, (size_t)size + 1);
	*n = text == NULL ? 0 : (size_t)size;
	return text;
}

static bool write_pair(EVP_PKEY *key, X509 *const *chain, unsigned count, struct pem_pair *pair)
{
	/* A memory BIO wipes what it held when it is freed. */
	BIO *key_text = BIO_new(BIO_s_mem()), *chain_text = BIO_new(BIO_s_mem());
	bool is_written = key_text != NULL && chain_text != NULL &&
		PEM_write_bio_PKCS8PrivateKey(key_text, key, NULL, NULL, 0, NULL, NULL) == 1;
	for (unsigned i = 0; is_written && i < count; i++)
		is_written = PEM_write_bio_X509(chain_text, chain[i]) == 1;
	if (is_written) {
		pair->key = take_text(key_text, &pair->key_n);
		pair->chain = take_text(chain_text, &pair->chain_n);
		pair->chain_count = count;
		is_written = pair->key != NULL && pair->chain != NULL;
	}
	BIO_free(key_text);
	BIO_free(chain_text);
	ERR_clear_error();
	return is_written;
}

void pem_pair_fini(struct pem_pair *pair)
{
	if (pair->key != NULL)
		OPENSSL_cleanse(pair->key, pair->key_n);
	free(pair->key);
	free(pair->chain);
	*pair = (struct pem_pair){0};
}

/* Says which key and which certificate do not go together. */
static void mismatch_text(const struct contents *contents, struct tls_error *error)
{
	struct pem_certificate first, key = {0};
	describe(contents->certs[0], &first);
	key_text(contents->key, &key);
	if (contents->count == 1 && !first.is_ca)
		tls_error_set(error,
			"the key does not belong to the certificate: the key is %s of %u bits, the "
			"certificate "
			"(%.100s) is for another key (%s of %u bits)",
			key.key_type, key.key_bits, first.subject, first.key_type, first.key_bits);
	else
		tls_error_set(error,
			"the file has no certificate for its key (%s of %u bits): none of its %zu "
			"certificates, the first being %.100s, belongs to the key; is the leaf "
			"missing?",
			key.key_type, key.key_bits, contents->count, first.subject);
}

/* Does the private half belong to the public one beside it? A damaged file may decode all the same.
 */
static bool is_whole_key(EVP_PKEY *key)
{
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_pkey(NULL, key, NULL);
	bool is_whole = ctx != NULL && EVP_PKEY_pairwise_check(ctx) == 1;
	EVP_PKEY_CTX_free(ctx);
	return is_whole;
}

static int import(const struct contents *contents, struct pem_pair *pair, struct tls_error *error)
{
	X509 *chain[PEM_CERTS_MAX];
	const char *what = contents->key == NULL ? "it has no private key"
		: contents->count == 0		 ? "it has a key but no certificate"
						 : tls_key_unusable(contents->key);
	if (what == NULL && !is_whole_key(contents->key))
		what = "its private key is damaged";
	if (what != NULL) {
		tls_error_set(error, "the file is not usable: %s", what);
		return -EINVAL;
	}
	X509 *leaf = find_leaf(contents);
	if (leaf == NULL) {
		mismatch_text(contents, error);
		return -EINVAL;
	}
	unsigned count = order_chain(contents, leaf, chain, pair);
	if (write_pair(contents->key, chain, count, pair))
		return 0;
	pem_pair_fini(pair);
	tls_error_set(error, "no memory for a certificate");
	return -ENOMEM;
}

int pem_import(struct bytes file, struct pem_pair *pair, struct tls_error *error)
{
	struct contents contents = {0};
	int result = -EINVAL;
	*pair = (struct pem_pair){0};
	error->text[0] = '\0';
	const char *what = contents_read(&contents, file);
	if (what != NULL)
		tls_error_set(error, "the file is not usable: %s", what);
	else
		result = import(&contents, pair, error);
	contents_fini(&contents);
	ERR_clear_error();
	return result;
}

/* ---- making one ---- */

/* A DNS name as RFC 1123 2.1 has them, its first label perhaps "*". */
static bool is_dns_name(const char *name)
{
	size_t n = strlen(name), label = 0;
	if (n == 0 || n > 253)
		return false;
	if (strncmp(name, "*.", 2) == 0)
		name += 2;
	for (const char *c = name; *c != '\0'; c++) {
		bool is_alnum = (*c >= '0' && *c <= '9') ||
			(byte_lower((uint8_t)*c) >= 'a' && byte_lower((uint8_t)*c) <= 'z');
		if (*c == '.' ? label == 0 || c[-1] == '-'
			      : !is_alnum && !(*c == '-' && label != 0))
			return false;
		label = *c == '.' ? 0 : label + 1;
		if (label > 63)
			return false;
	}
	return label != 0 && name[strlen(name) - 1] != '-';
}

static bool add_extension(X509 *x, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool is_added = extension != NULL && X509_add_ext(x, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return is_added;
}

static bool add_names(X509 *x, const char *const *names, size_t count)
{
	GENERAL_NAMES *alt = GENERAL_NAMES_new();
	bool is_added = alt != NULL;
	for (size_t i = 0; is_added && i < count; i++) {
		GENERAL_NAME *name = GENERAL_NAME_new();
		ASN1_IA5STRING *text = ASN1_IA5STRING_new();
		is_added = name != NULL && text != NULL && ASN1_STRING_set(text, names[i], -1) == 1;
		if (is_added) {
			GENERAL_NAME_set0_value(name, GEN_DNS, text);
			text = NULL;
			is_added = sk_GENERAL_NAME_push(alt, name) != 0;
		}
		if (!is_added)
			GENERAL_NAME_free(name);
		ASN1_IA5STRING_free(text);
	}
	is_added = is_added && X509_add1_ext_i2d(x, NID_subject_alt_name, alt, 0, 0) == 1;
	GENERAL_NAMES_free(alt);
	return is_added;
}

static bool set_serial(X509 *x)
{
	/* 159 random bits: positive, and unlike any other (CA/Browser Forum BR 7.1 asks for 64). */
	BIGNUM *number = BN_new();
	bool is_set = number != NULL &&
		BN_rand(number, 159, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
		BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x)) != NULL;
	BN_free(number);
	return is_set;
}

static bool set_subject(X509 *x, const char *name)
{
	X509_NAME *subject = X509_get_subject_name(x);
	/* ub-common-name is 64 (RFC 5280 A.1); a longer one is in subjectAltName only. */
	const char *common = strlen(name) <= 64 ? name : "self-signed";
	return X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_ASC,
		       (const unsigned char *)common, -1, -1, 0) == 1 &&
		X509_set_issuer_name(x, subject) == 1;
}

static X509 *make_certificate(EVP_PKEY *key, const char *const *names, size_t count, unsigned days,
	int64_t now, bool is_rsa)
{
	X509 *x = X509_new();
	time_t start = (time_t)now - 3600;
	bool is_made = x != NULL && X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
		X509_time_adj_ex(X509_getm_notBefore(x), 0, 0, &start) != NULL &&
		X509_time_adj_ex(X509_getm_notAfter(x), (int)days, 3600, &start) != NULL &&
		set_subject(x, names[0]) && X509_set_pubkey(x, key) == 1 &&
		add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
		add_extension(x, NID_key_usage,
			is_rsa ? "critical,digitalSignature,keyEncipherment"
			       : "critical,digitalSignature") &&
		add_extension(x, NID_ext_key_usage, "serverAuth,clientAuth") &&
		add_extension(x, NID_subject_key_identifier, "hash") &&
		add_names(x, names, count) && X509_sign(x, key, EVP_sha256()) > 0;
	if (is_made)
		return x;
	X509_free(x);
	return NULL;
}

static int refuse_names(
	const char *const *names, size_t count, unsigned days, struct tls_error *error)
{
	if (count == 0 || count > PEM_NAMES_MAX) {
		tls_error_set(
			error, "a certificate needs 1 to %d names, not %zu", PEM_NAMES_MAX, count);
		return -EINVAL;
	}
	if (days == 0 || days > PEM_DAYS_MAX) {
		tls_error_set(error, "a certificate is made for 1 to %d days, not %u", PEM_DAYS_MAX,
			days);
		return -EINVAL;
	}
	for (size_t i = 0; i < count; i++)
		if (!is_dns_name(names[i])) {
			tls_error_set(error, "'%.100s' is not a DNS name", names[i]);
			return -EINVAL;
		}
	return 0;
}

int pem_make_self_signed(const char *const *names, size_t count, unsigned days, enum pem_key kind,
	int64_t now, struct pem_pair *pair, struct tls_error *error)
{
	*pair = (struct pem_pair){0};
	error->text[0] = '\0';
	if (refuse_names(names, count, days, error) != 0)
		return -EINVAL;
	bool is_rsa = kind == PEM_KEY_RSA_2048;
	EVP_PKEY *key = is_rsa ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256");
	X509 *x = key == NULL ? NULL : make_certificate(key, names, count, days, now, is_rsa);
	bool is_made = x != NULL && write_pair(key, &x, 1, pair);
	X509_free(x);
	EVP_PKEY_free(key);
	if (is_made)
		return 0;
	pem_pair_fini(pair);
	tls_error_set(
		error, "a certificate could not be made: %s", tls_openssl_reason("no memory"));
	return -ENOMEM;
}
