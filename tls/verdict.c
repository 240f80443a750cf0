// SPDX-License-Identifier: Apache-2.0
/* tls/verdict.c: what was agreed and found, in words for records, and whether it is enough. */
#include "tls/tls_private.h"

#include <stdio.h>

const char *tls_protocol_name(uint16_t protocol)
{
	switch (protocol) {
	case TLS_1_0: return "TLSv1";
	case TLS_1_1: return "TLSv1.1";
	case TLS_1_2: return "TLSv1.2";
	case TLS_1_3: return "TLSv1.3";
	default: return "";
	}
}

const char *tls_verify_name(enum tls_verify verify)
{
	static const char *const names[] = {
#define _(id) #id,
		TLS_VERIFY_WORDS(_)
#undef _
	};
	return (size_t)verify < sizeof names / sizeof names[0] ? names[verify] : "";
}

/* ---- the peer's certificate ---- */

static X509 *peer_leaf(const struct tls *tls)
{
	return tls->refused_leaf != NULL ? tls->refused_leaf : SSL_get0_peer_certificate(tls->ssl);
}

/* What is known of the peer's chain: found in this handshake, or in the one that is resumed. */
struct finding {
	X509 *leaf;
	int trust_error;
	enum tls_name_state name_state;
};

static struct finding find(const struct tls *tls, const struct tls_profile *profile)
{
	struct finding found = {.leaf = peer_leaf(tls), .trust_error = tls->trust_error};
	if (!tls->has_verified)
		found.trust_error = (int)SSL_get_verify_result(tls->ssl);
	if (found.leaf != NULL)
		found.name_state = tls_name_check(
			found.leaf, profile, tls->set->is_server, tls->host, tls->domain);
	return found;
}

static void describe_certificate(
	const struct tls *tls, const struct finding *found, struct tls_verdict *verdict)
{
	tls_name_text(X509_get_subject_name(found->leaf), verdict->cert_subject,
		sizeof verdict->cert_subject);
	tls_name_text(X509_get_issuer_name(found->leaf), verdict->cert_issuer,
		sizeof verdict->cert_issuer);
	bool is_other = found->name_state == TLS_NAME_DIFFERS;
	bool is_good = found->trust_error == X509_V_OK &&
		!(is_other && tls_profile_enforces_name(tls->profile, tls->set->is_server));
	verdict->verify = is_good ? TLS_VERIFY_OK : TLS_VERIFY_FAIL;
	if (found->trust_error != X509_V_OK)
		snprintf(verdict->verify_message, sizeof verdict->verify_message, "%s",
			X509_verify_cert_error_string(found->trust_error));
	else if (is_other)
		snprintf(verdict->verify_message, sizeof verdict->verify_message,
			"certificate is for another name%s%s", tls->host[0] == '\0' ? "" : " than ",
			tls->host);
}

static void describe_verification(const struct tls *tls, struct tls_verdict *verdict)
{
	struct finding found = find(tls, tls->profile);
	if (found.leaf != NULL)
		describe_certificate(tls, &found, verdict);
	else if (!tls->is_done)
		verdict->verify = tls->failure == TLS_FAILURE_NONE ? TLS_VERIFY_NONE
			: tls->failure == TLS_FAILURE_NO_CERT	   ? TLS_VERIFY_NO
								   : TLS_VERIFY_SOFTWARE;
	else if (SSL_get_verify_mode(tls->ssl) == SSL_VERIFY_NONE)
		verdict->verify = TLS_VERIFY_NOT;
	else
		verdict->verify = TLS_VERIFY_NO;
}

/* ---- what was agreed ---- */

const char *tls_agreed_group(const struct tls *tls)
{
	const char *group = tls->is_done ? SSL_get0_group_name((SSL *)tls->ssl) : NULL;
	return group == NULL ? "" : group;
}

static void describe_agreement(const struct tls *tls, struct tls_verdict *verdict)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
	int total = 0;
	verdict->is_tls = true;
	verdict->protocol = (uint16_t)SSL_version(tls->ssl);
	verdict->is_resumed = SSL_session_reused(tls->ssl) == 1;
	if (cipher != NULL) {
		bytes_to_string(bytes_of_string(SSL_CIPHER_standard_name(cipher)), verdict->cipher,
			sizeof verdict->cipher);
		verdict->bits = (uint16_t)SSL_CIPHER_get_bits(cipher, &total);
		verdict->bits_total = (uint16_t)total;
	}
	bytes_to_string(
		bytes_of_string(tls_agreed_group(tls)), verdict->group, sizeof verdict->group);
}

void tls_get_verdict(const struct tls *tls, struct tls_verdict *verdict)
{
	*verdict = (struct tls_verdict){.verify = TLS_VERIFY_NONE};
	if (tls == NULL)
		return;
	const char *sni = SSL_get_servername(tls->ssl, TLSEXT_NAMETYPE_host_name);
	if (tls->set->is_server && sni != NULL)
		bytes_to_string(bytes_of_string(sni), verdict->sni, sizeof verdict->sni);
	if (tls->is_done)
		describe_agreement(tls, verdict);
	describe_verification(tls, verdict);
}

const char *tls_agreed(const struct tls *tls, uint16_t *protocol)
{
	if (!tls->is_done)
		return NULL;
	*protocol = (uint16_t)SSL_version(tls->ssl);
	return SSL_CIPHER_standard_name(SSL_get_current_cipher(tls->ssl));
}

/* ---- the same to be counted by ---- */

const char *tls_group_name(enum tls_group group)
{
	static const char *const names[] = {
#define _(id, name) name,
		TLS_GROUPS(_)
#undef _
	};
	return (size_t)group < TLS_GROUP_COUNT ? names[group] : "";
}

const char *tls_key_name(enum tls_key key)
{
	static const char *const names[] = {
#define _(id, name) name,
		TLS_KEYS(_)
#undef _
	};
	return (size_t)key < TLS_KEY_COUNT ? names[key] : "";
}

/* OpenSSL's number for it; of a group without an object identifier, a bit and the TLS number. */
static enum tls_group group_of(int id)
{
	switch (id) {
	case TLSEXT_nid_unknown | 0x11ec: return TLS_GROUP_X25519MLKEM768; /* its code point */
	case NID_X25519: return TLS_GROUP_X25519;
	case NID_X9_62_prime256v1: return TLS_GROUP_P256;
	case NID_secp384r1: return TLS_GROUP_P384;
	case NID_undef: return TLS_GROUP_NONE;
	default: return TLS_GROUP_OTHER;
	}
}

static enum tls_key key_of(int nid)
{
	switch (nid) {
	case EVP_PKEY_EC: return TLS_KEY_ECDSA;
	case EVP_PKEY_RSA:
	case EVP_PKEY_RSA_PSS: return TLS_KEY_RSA;
	case NID_undef: return TLS_KEY_NONE;
	default: return TLS_KEY_OTHER;
	}
}

struct tls_agreement tls_get_agreement(const struct tls *tls)
{
	int signature = NID_undef;
	struct tls_agreement a = {.group = TLS_GROUP_NONE, .key = TLS_KEY_NONE};
	if (SSL_get_current_cipher(tls->ssl) == NULL && !SSL_is_init_finished(tls->ssl))
		return a;
	a.protocol = (uint16_t)SSL_version(tls->ssl);
	a.is_resumed = SSL_session_reused(tls->ssl) == 1;
	a.group = (uint8_t)group_of(SSL_get_negotiated_group(tls->ssl));
	if (tls->set->is_server)
		SSL_get_signature_type_nid(tls->ssl, &signature);
	else
		SSL_get_peer_signature_type_nid(tls->ssl, &signature);
	a.key = (uint8_t)key_of(signature);
	if (tls->set->is_server && a.key != TLS_KEY_NONE)
		a.key_bits = (uint16_t)EVP_PKEY_get_bits(SSL_get_privatekey(tls->ssl));
	return a;
}

/* ---- is it enough? ---- */

static enum tls_failure_kind check_strength(
	const struct tls *tls, const struct tls_profile *p, char why[TLS_WHY_BYTES])
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(tls->ssl);
	int bits = cipher == NULL ? 0 : SSL_CIPHER_get_bits(cipher, NULL);
	uint16_t protocol = (uint16_t)SSL_version(tls->ssl);
	uint16_t lowest = p->protocol_lowest == 0 ? TLS_1_2 : p->protocol_lowest;
	int bits_least = p->grade >= TLS_GRADE_HIGH && p->bits_least < 128 ? 128 : p->bits_least;
	if (protocol < lowest)
		snprintf(why, TLS_WHY_BYTES, "%s was agreed, %s is the least",
			tls_protocol_name(protocol), tls_protocol_name(lowest));
	else if (p->protocol_highest != 0 && protocol > p->protocol_highest)
		snprintf(why, TLS_WHY_BYTES, "%s was agreed, %s is the most",
			tls_protocol_name(protocol), tls_protocol_name(p->protocol_highest));
	else if (bits < bits_least)
		snprintf(why, TLS_WHY_BYTES, "a cipher of %d bits was agreed, %d is the least",
			bits, bits_least);
	else if (p->grade == TLS_GRADE_MODERN && SSL_CIPHER_is_aead(cipher) != 1)
		snprintf(why, TLS_WHY_BYTES, "%s was agreed, grade modern asks for AEAD",
			SSL_CIPHER_standard_name(cipher));
	else
		return TLS_FAILURE_NONE;
	return TLS_FAILURE_WEAK;
}

static enum tls_failure_kind check_peer(
	const struct tls *tls, const struct tls_profile *p, char why[TLS_WHY_BYTES])
{
	bool is_server = tls->set->is_server;
	if (!tls_profile_enforces_trust(p, is_server))
		return TLS_FAILURE_NONE;
	const char *peer = is_server ? "client" : "server";
	struct finding found = find(tls, p);
	if (found.leaf == NULL) {
		snprintf(why, TLS_WHY_BYTES, "the %s sent no certificate", peer);
		return TLS_FAILURE_NO_CERT;
	}
	int trust_error = tls_trust_by_profile(tls, found.leaf, found.trust_error, p->id);
	if (trust_error != X509_V_OK) {
		snprintf(why, TLS_WHY_BYTES, "the %s's certificate is not trusted: %s", peer,
			X509_verify_cert_error_string(trust_error));
		return TLS_FAILURE_UNTRUSTED;
	}
	if (found.name_state == TLS_NAME_DIFFERS && tls_profile_enforces_name(p, is_server)) {
		snprintf(why, TLS_WHY_BYTES, "the %s's certificate has none of the names asked for",
			peer);
		return TLS_FAILURE_NAME;
	}
	return TLS_FAILURE_NONE;
}

enum tls_failure_kind tls_check(
	const struct tls *tls, const struct tls_profile *profile, char why[TLS_WHY_BYTES])
{
	why[0] = '\0';
	if (!tls->is_done) {
		snprintf(why, TLS_WHY_BYTES, "the TLS handshake is not done");
		return TLS_FAILURE_HANDSHAKE;
	}
	enum tls_failure_kind kind = check_strength(tls, profile, why);
	return kind != TLS_FAILURE_NONE ? kind : check_peer(tls, profile, why);
}
