// SPDX-License-Identifier: Apache-2.0
/* What profiles and certificates do to a handshake: trust, names, versions, grades, SNI. */
#include "tls/meeting.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- verification by level ---- */

static void each_level_enforces_what_it_says_and_records_the_rest(void **state)
{
	enum asks {
		MAY,
		ENCRYPT,
		VERIFY,
		VERIFY_NAME,
		VERIFY_BELOW,
		VERIFY_OTHER,
		SECURE,
		ASKS_COUNT
	};
	static const struct tls_profile profiles[ASKS_COUNT] = {
		[MAY] = {"may", .level = TLS_LEVEL_MAY},
		[ENCRYPT] = {"encrypt", .level = TLS_LEVEL_ENCRYPT},
		[VERIFY] = {"verify", .level = TLS_LEVEL_VERIFY},
		[VERIFY_NAME] = {"name", .level = TLS_LEVEL_VERIFY,
			 .names = "nothing.example.test\0MX.example.test\0"},
		[VERIFY_BELOW] = {"below", .level = TLS_LEVEL_VERIFY, .names = ".example.test\0"},
		[VERIFY_OTHER] = {"other", .level = TLS_LEVEL_VERIFY,
			 .names = "other.example.test\0.mx.example.test\0"},
		[SECURE] = {"secure", .level = TLS_LEVEL_SECURE},
	};
	/* By certificate: what comes of each level: o: goes, u: untrusted, n: for another name. */
	static const struct {
		enum which which;
		const char outcome[ASKS_COUNT + 1];
		const char *word, *message; /* as recorded where nothing is enforced */
	} cases[] = {
		{RIGHT,	"ooooono", "OK",	 ""					   },
		{MX_RSA,	 "ooooono", "OK",	  ""					    },
		{SELF_SIGNED,  "oouuuuu", "FAIL", "self-signed certificate"		  },
		{UNKNOWN_ROOT, "oouuuuu", "FAIL", "unable to get local issuer certificate"},
		{EXPIRED,	  "oouuuuu", "FAIL", "certificate has expired"		      },
		{NOT_YET,	  "oouuuuu", "FAIL", "certificate is not yet valid"	   },
		{WRONG_NAME,   "ooononn", "OK",
			"certificate is for another name than mx.example.test"		      },
		{NO_ALT_NAME,  "ooonnnn", "OK",
			"certificate is for another name than mx.example.test"		      },
		{DOMAIN,	 "ooonnno", "OK",	  ""					    },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (int asks = 0; asks < ASKS_COUNT; asks++) {
			struct meeting m = meeting_of(&cases[i].which, 1, may, profiles[asks]);
			char outcome = cases[i].outcome[asks];
			const char *text;
			meet(&m, "mx.example.test", "example.test");
			enum tls_failure_kind kind = tls_failure(m.client, &text);
			char found = m.at_client == TLS_OK	? 'o'
				: kind == TLS_FAILURE_UNTRUSTED ? 'u'
				: kind == TLS_FAILURE_NAME	? 'n'
								: '?';
			if (found != outcome)
				fail_msg("%s at %s: %c, not %c: %s", m.of_client.cert_subject,
					profiles[asks].id, found, outcome, text);
			assert_int_equal(m.of_client.is_tls, outcome == 'o');
			assert_int_equal(m.at_server == TLS_OK, outcome == 'o');
			assert_memory_equal(m.of_client.cert_subject, "CN=", 3);
			if (asks <= ENCRYPT) {
				assert_string_equal(
					tls_verify_name(m.of_client.verify), cases[i].word);
				assert_string_equal(m.of_client.verify_message, cases[i].message);
			}
			if (asks > ENCRYPT)
				assert_string_equal(tls_verify_name(m.of_client.verify),
					outcome == 'o' ? "OK" : "FAIL");
			meeting_end(&m);
		}
}

static void a_refused_server_is_told_by_alert_and_the_reason_is_in_words(void **state)
{
	static const struct {
		enum which which;
		const char *client_text, *server_text;
	} cases[] = {
		{SELF_SIGNED, "the server's certificate is not trusted: self-signed certificate",
			"TLS handshake failed: tlsv1 alert unknown ca"											},
		{EXPIRED,	  "the server's certificate is not trusted: certificate has expired",
			"TLS handshake failed: ssl/tls alert certificate expired"										 },
		{WRONG_NAME,
			"the server's certificate is not for mx.example.test nor for example.test",	"TLS handshake failed: ssl/tls alert bad certificate"},
	};
	const struct tls_profile secure = {"secure", .level = TLS_LEVEL_SECURE};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct meeting m = meeting_of(&cases[i].which, 1, may, secure);
		const char *text;
		meet(&m, "mx.example.test", "example.test");
		tls_failure(m.client, &text);
		assert_string_equal(text, cases[i].client_text);
		assert_int_equal(tls_failure(m.server, &text), TLS_FAILURE_HANDSHAKE);
		assert_string_equal(text, cases[i].server_text);
		meeting_end(&m);
	}
}

static void secure_takes_host_or_domain_or_address(void **state)
{
	static const struct {
		enum which which;
		const char *host, *domain;
		bool goes;
		const char *sni;
	} cases[] = {
		{RIGHT,	"mx.example.test.",	    "",		true,  "mx.example.test"      },
		{RIGHT,	"MX.Example.TEST",	   "",		       true,  "MX.Example.TEST"      },
		{RIGHT,	"",			    "",		false, ""			 },
		{RIGHT,	"elsewhere.example.test", "mx.example.test", true,
			"elsewhere.example.test"							     },
		{DOMAIN,	 "mx.example.test",	    "",		false, "mx.example.test"	},
		{WILDCARD, "a.wild.example.test",	  "",		      true,  "a.wild.example.test"	 },
		{WILDCARD, "a.b.wild.example.test",  "",		false, "a.b.wild.example.test"},
		{WILDCARD, "wild.example.test",	"",		    false, "wild.example.test"    },
		{ADDRESS,  "192.0.2.25",		"",		    true,  ""			    },
		{ADDRESS,  "192.0.2.26",		"",		    false, ""		     },
		{RIGHT,	"192.0.2.25",	      "mx.example.test", true,  ""			 },
	};
	const struct tls_profile secure = {"secure", .level = TLS_LEVEL_SECURE};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct meeting m = meeting_of(&cases[i].which, 1, may, secure);
		meet(&m, cases[i].host, cases[i].domain);
		if ((m.at_client == TLS_OK) != cases[i].goes)
			fail_msg("host '%s', domain '%s'", cases[i].host, cases[i].domain);
		if (m.at_server == TLS_OK)
			assert_string_equal(m.of_server.sni, cases[i].sni);
		meeting_end(&m);
	}
}

/* ---- which certificate a client gets ---- */

static void sni_chooses_the_chain(void **state)
{
	static const enum which which[] = {RIGHT, WILDCARD, OTHER_RSA, MX_RSA, WILDCARD_RSA};
	static const struct {
		const char *sni, *subject;
	} cases[] = {
		{"mx.example.test",	    "CN=mx"	   },
		{"MX.EXAMPLE.test",	    "CN=mx"	   },
		{"",		      "CN=mx"	    },
		{"unknown.example.test",	 "CN=mx"	},
		{"a.wild.example.test",	"CN=wild"	 },
		{"A.Wild.example.test",	"CN=wild"	 },
		{"a.b.wild.example.test", "CN=mx"	 },
		{"wild.example.test",     "CN=mx"	     },
		{".wild.example.test",    "CN=mx"	      },
		{"other.example.test",    "CN=other-rsa"},
	};
	struct meeting m = meeting_of(which, 5, may, may);
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		meet(&m, cases[i].sni, "");
		assert_int_equal(m.at_client, TLS_OK);
		if (strcmp(m.of_client.cert_subject, cases[i].subject) != 0)
			fail_msg("'%s' got %s", cases[i].sni, m.of_client.cert_subject);
		assert_string_equal(m.of_client.verify_message[0] == 'u' ? "no chain" : "", "");
		part(&m);
	}
	meet(&m, "", "");
	meeting_end(&m);
}

static void a_client_that_can_do_both_gets_ecdsa_and_others_rsa(void **state)
{
	static const enum which orders[][4] = {
		{RIGHT,	MX_RSA, WILDCARD,	  WILDCARD_RSA},
		 {MX_RSA, RIGHT,	 WILDCARD_RSA, WILDCARD    }
	};
	static const struct {
		int protocol;
		const char *sigalgs, *sni, *subject;
	} cases[] = {
		{TLS1_3_VERSION, "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256", "mx.example.test",
			"mx"											   },
		{TLS1_2_VERSION, "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256", "mx.example.test",
			"mx"											   },
		{TLS1_3_VERSION, "rsa_pss_rsae_sha256",			"mx.example.test",	   "rsa"	},
		{TLS1_2_VERSION, "rsa_pkcs1_sha256",			     "mx.example.test",	"rsa"     },
		{TLS1_3_VERSION, "rsa_pss_rsae_sha256",			NULL,		      "rsa"	   },
		{TLS1_3_VERSION, "ecdsa_secp256r1_sha256",			   NULL,			 "mx"	     },
		{TLS1_3_VERSION, "rsa_pss_rsae_sha256",			"a.wild.example.test", "wild-rsa"},
		{TLS1_2_VERSION, "rsa_pss_rsae_sha256:ecdsa_secp256r1_sha256",
			"a.wild.example.test",							       "wild"    },
	};
	for (size_t order = 0; order < 2; order++) {
		struct tls_server_set *servers = servers_of(orders[order], 4, &may);
		for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
			struct lab_link link;
			SSL_CTX *ctx = NULL;
			enum tls_result at_server;
			char name[64];
			lab_link_init(&link);
			struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
			struct lab_raw raw = raw_client(&ctx, &link, cases[i].sni);
			SSL_set_max_proto_version(raw.ssl, cases[i].protocol);
			assert_int_equal(SSL_set1_sigalgs_list(raw.ssl, cases[i].sigalgs), 1);
			assert_true(lab_raw_shake(&raw, server, &at_server));
			X509_NAME_get_text_by_NID(
				X509_get_subject_name(SSL_get0_peer_certificate(raw.ssl)),
				NID_commonName, name, sizeof name);
			assert_string_equal(name, cases[i].subject);
			tls_close(server);
			lab_raw_free(&raw);
			SSL_CTX_free(ctx);
			lab_link_fini(&link);
		}
		tls_server_set_put(servers);
	}
}

/* ---- versions, grades, groups ---- */

static void versions_meet_where_both_profiles_allow(void **state)
{
	static const struct {
		uint16_t server_lowest, server_highest, client_lowest, client_highest, agreed;
	} cases[] = {
		{0,	    0,       0,	  0,	     TLS_1_3},
		{0,	    TLS_1_2, 0,	0,	   TLS_1_2},
		{0,	    0,       0,	  TLS_1_2, TLS_1_2},
		{TLS_1_3, 0,	     0,	TLS_1_2, 0	  },
		{0,	    0,       TLS_1_3, 0,	   TLS_1_3},
		{0,	    0,       TLS_1_0, TLS_1_1, 0	  },
		{TLS_1_0, 0,	     TLS_1_0, TLS_1_0, TLS_1_0},
		{TLS_1_0, 0,	     TLS_1_0, TLS_1_1, TLS_1_1},
		{TLS_1_1, 0,	     TLS_1_0, TLS_1_0, 0	},
		{TLS_1_0, 0,	     0,	0,	   TLS_1_3},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (enum which which = RIGHT; which <= MX_RSA; which += MX_RSA - RIGHT) {
			struct tls_profile s = {"s", .level = TLS_LEVEL_MAY,
				.protocol_lowest = cases[i].server_lowest,
				.protocol_highest = cases[i].server_highest};
			struct tls_profile c = {"c", .level = TLS_LEVEL_MAY,
				.protocol_lowest = cases[i].client_lowest,
				.protocol_highest = cases[i].client_highest};
			struct meeting m = meeting_of(&which, 1, s, c);
			meet(&m, "mx.example.test", "");
			assert_int_equal(m.at_client == TLS_OK, cases[i].agreed != 0);
			assert_int_equal(m.of_server.protocol, cases[i].agreed);
			assert_int_equal(m.of_client.protocol, cases[i].agreed);
			if (cases[i].agreed == 0)
				assert_int_equal(
					tls_failure(m.server, NULL), TLS_FAILURE_HANDSHAKE);
			meeting_end(&m);
		}
}

static void grades_take_the_suites_they_name(void **state)
{
	static const struct {
		const char *suites;    /* of a TLS 1.2 client */
		const char outcome[4]; /* by grade: medium, high, modern */
		uint16_t bits_least;
		const char *agreed;
	} cases[] = {
		{"ECDHE-ECDSA-AES128-GCM-SHA256",				  "ooo", 0,
			"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"								       },
		{"ECDHE-ECDSA-CHACHA20-POLY1305",				  "ooo", 0,
			"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"								       },
		{"ECDHE-ECDSA-AES128-SHA256",				      "oo-", 0,	"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256"},
		{"ECDHE-ECDSA-AES256-SHA",				   "oo-", 0,   "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"   },
		{"ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-GCM-SHA384",	 "ooo", 0,
			"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"								       },
		{"ECDHE-ECDSA-AES128-GCM-SHA256",				  "---", 256, ""					},
		{"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-SHA384", "oo-", 256,
			"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384"								       },
		{"AES128-SHA:AES256-GCM-SHA384",				 "---", 0,   ""					     },
		{"DHE-RSA-AES256-GCM-SHA384",				      "---", 0,	""					  },
		{"AECDH-AES256-SHA:ADH-AES256-GCM-SHA384",		   "---", 0,   ""				       },
		{"ECDHE-ECDSA-NULL-SHA:NULL-SHA256",			     "---", 0,   ""					 },
	};
	static const enum which which[] = {RIGHT};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (int grade = TLS_GRADE_MEDIUM; grade <= TLS_GRADE_MODERN; grade++) {
			struct tls_profile s = {"s", .level = TLS_LEVEL_MAY,
				.grade = (uint8_t)grade, .bits_least = cases[i].bits_least};
			struct tls_server_set *servers = servers_of(which, 1, &s);
			struct lab_link link;
			SSL_CTX *ctx = NULL;
			struct tls_verdict verdict;
			enum tls_result at_server;
			lab_link_init(&link);
			struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
			struct lab_raw raw = raw_client(&ctx, &link, "mx.example.test");
			SSL_set_max_proto_version(raw.ssl, TLS1_2_VERSION);
			assert_int_equal(SSL_set_cipher_list(raw.ssl, cases[i].suites), 1);
			bool goes = lab_raw_shake(&raw, server, &at_server);
			assert_int_equal(goes, cases[i].outcome[grade] == 'o');
			assert_int_equal(at_server, goes ? TLS_OK : TLS_FAIL);
			tls_get_verdict(server, &verdict);
			assert_string_equal(verdict.cipher, goes ? cases[i].agreed : "");
			tls_close(server);
			lab_raw_free(&raw);
			SSL_CTX_free(ctx);
			lab_link_fini(&link);
			tls_server_set_put(servers);
		}
}

/* What OpenSSL's own client, whose first choice is AES-256, gets of `profile`. */
static void expect_suite(const struct tls_profile *profile, int protocol, const char *offered, const char *agreed)
{
	static const enum which which[] = {RIGHT};
	struct tls_server_set *servers = servers_of(which, 1, profile);
	struct lab_link link;
	SSL_CTX *ctx = NULL;
	struct tls_verdict verdict;
	enum tls_result at_server;
	lab_link_init(&link);
	struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
	struct lab_raw raw = raw_client(&ctx, &link, "mx.example.test");
	SSL_set_max_proto_version(raw.ssl, protocol);
	assert_true(offered == NULL || SSL_set_ciphersuites(raw.ssl, offered) == 1);
	assert_true(lab_raw_shake(&raw, server, &at_server));
	tls_get_verdict(server, &verdict);
	assert_string_equal(verdict.cipher, agreed);
	tls_close(server);
	lab_raw_free(&raw);
	SSL_CTX_free(ctx);
	lab_link_fini(&link);
	tls_server_set_put(servers);
}

static void aes_128_comes_first_unless_256_bits_are_asked_for_or_a_client_prefers_chacha(void **state)
{
	for (uint8_t grade = TLS_GRADE_MEDIUM; grade <= TLS_GRADE_MODERN; grade++) {
		struct tls_profile usual = {"s", .level = TLS_LEVEL_MAY, .grade = grade}, strong = usual;
		strong.bits_least = 256;
		expect_suite(&usual, TLS1_3_VERSION, NULL, "TLS_AES_128_GCM_SHA256");
		expect_suite(&strong, TLS1_3_VERSION, NULL, "TLS_AES_256_GCM_SHA384");
		expect_suite(&usual, TLS1_3_VERSION, "TLS_AES_256_GCM_SHA384", "TLS_AES_256_GCM_SHA384");
		expect_suite(&usual, TLS1_3_VERSION, "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256",
			"TLS_CHACHA20_POLY1305_SHA256");
		expect_suite(&usual, TLS1_2_VERSION, NULL, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
		expect_suite(&strong, TLS1_2_VERSION, NULL, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384");
	}
}

static void grades_differ_in_the_keys_they_take_of_a_server(void **state)
{
	/* A server of OpenSSL's own, since ours refuses to use such a key. */
	struct lab_cert weak = lab_cert_make(
		(struct lab_spec){.name = "weak", .key = LAB_RSA_1024, .issuer = &ca});
	static const bool goes[] = {[TLS_GRADE_MEDIUM] = true, [TLS_GRADE_HIGH] = false};
	for (int grade = TLS_GRADE_MEDIUM; grade <= TLS_GRADE_HIGH; grade++) {
		struct tls_profile c = {"c", .level = TLS_LEVEL_VERIFY, .grade = (uint8_t)grade};
		struct tls_client_set *clients = clients_of(&c);
		SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
		struct lab_link link;
		uint8_t block[4096];
		size_t n;
		SSL_CTX_set_security_level(ctx, 0);
		SSL_CTX_use_cert_and_key(ctx, weak.cert, weak.key, NULL, 1);
		SSL *server = SSL_new(ctx);
		SSL_set_bio(server, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
		SSL_set_accept_state(server);
		lab_link_init(&link);
		struct tls *client = tls_open_client(clients, 0, lab_client_io(&link), "weak", "");
		enum tls_result at_client = TLS_AGAIN;
		for (int turns = 0; turns < 4; turns++) {
			at_client = tls_handshake(client);
			while ((n = lab_wire_read(&link.up, block, sizeof block)) != 0)
				BIO_write(SSL_get_rbio(server), block, (int)n);
			SSL_do_handshake(server);
			int got;
			while ((got = BIO_read(SSL_get_wbio(server), block, sizeof block)) > 0)
				lab_wire_write(&link.down, block, (size_t)got);
		}
		const char *text;
		assert_int_equal(at_client, goes[grade] ? TLS_OK : TLS_FAIL);
		assert_int_equal(
			tls_failure(client, &text), goes[grade] ? 0 : TLS_FAILURE_UNTRUSTED);
		assert_true(goes[grade] || strstr(text, "key too weak") != NULL);
		tls_close(client);
		lab_link_fini(&link);
		SSL_free(server);
		SSL_CTX_free(ctx);
		tls_client_set_put(clients);
	}
	lab_cert_free(&weak);
}

static void groups_are_the_profiles_or_the_usual_ones(void **state)
{
	static const struct {
		const char *server, *client, *agreed;
	} cases[] = {
		{"",	     "",		 "X25519MLKEM768"},
		{"",	     "X25519",       "x25519"	       },
		{"",	     "P-256",	      "secp256r1"	 },
		{"",	     "P-384",	      "secp384r1"	 },
		{"",	     "P-521",	      ""		},
		{"P-384",	  "",	      "secp384r1"	 }, /* by another round: the client sent no share for it */
		{"X25519:P-256", "P-256:X25519", "secp256r1"	    },
	};
	static const enum which which[] = {RIGHT};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct tls_profile s = may, c = may;
		snprintf(s.groups, sizeof s.groups, "%s", cases[i].server);
		snprintf(c.groups, sizeof c.groups, "%s", cases[i].client);
		struct meeting m = meeting_of(which, 1, s, c);
		meet(&m, "mx.example.test", "");
		assert_int_equal(m.at_client == TLS_OK, cases[i].agreed[0] != '\0');
		assert_string_equal(m.of_server.group, cases[i].agreed);
		meeting_end(&m);
	}
}

static void what_was_agreed_can_be_counted_on_both_sides(void **state)
{
	static const struct {
		enum which chain;
		uint16_t protocol;
		const char *groups, *group, *key;
	} cases[] = {
		{RIGHT, TLS_1_3, "", "X25519MLKEM768", "ecdsa"},
		{RIGHT, TLS_1_3, "X25519", "X25519", "ecdsa"},
		{MX_RSA, TLS_1_3, "P-256", "P-256", "rsa"},
		{MX_RSA, TLS_1_2, "P-384", "P-384", "rsa"},
		{RIGHT, TLS_1_2, "X25519:P-256", "X25519", "ecdsa"}, /* P-256: its certificate's */
		{RIGHT, TLS_1_3, "P-521", "other", "ecdsa"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tls_profile p = may;
		p.protocol_highest = cases[i].protocol;
		snprintf(p.groups, sizeof p.groups, "%s", cases[i].groups);
		struct meeting m = meeting_of(&cases[i].chain, 1, p, p);
		meet(&m, "mx.example.test", "");
		for (int side = 0; side < 2; side++) {
			struct tls_agreement a = tls_get_agreement(side == 0 ? m.server : m.client);
			assert_int_equal(a.protocol, cases[i].protocol);
			assert_string_equal(tls_group_name(a.group), cases[i].group);
			assert_string_equal(tls_key_name(a.key), cases[i].key);
			assert_false(a.is_resumed);
		}
		meeting_end(&m);
	}
	/* As far as it got: nothing before the first message, the signature where the client then refuses. */
	static const enum which rsa[] = {MX_RSA};
	struct tls_profile picky = may;
	picky.level = TLS_LEVEL_SECURE;
	struct meeting m = meeting_of(rsa, 1, may, picky);
	lab_link_init(&m.link);
	m.server = tls_open_server(m.servers, 0, lab_server_io(&m.link));
	struct tls_agreement a = tls_get_agreement(m.server);
	assert_int_equal(a.protocol, 0);
	assert_int_equal(a.key, TLS_KEY_NONE);
	assert_int_equal(a.group, TLS_GROUP_NONE);
	m.client = tls_open_client(m.clients, 0, lab_client_io(&m.link), "other.example.test", "");
	lab_shake(m.client, m.server, &m.at_client, &m.at_server);
	assert_int_equal(m.at_client, TLS_FAIL);
	assert_int_equal(tls_get_agreement(m.server).key, TLS_KEY_RSA);
	assert_int_equal(tls_get_agreement(m.client).key, TLS_KEY_NONE); /* refused before it was looked at */
	meeting_end(&m);
}

/* ---- client certificates ---- */

static void client_certificates_are_asked_for_and_judged(void **state)
{
	static const enum which which[] = {RIGHT};
	enum { NOBODY = -1 };
	static const struct {
		uint8_t asks, level;
		const char *names;
		int client;
		enum tls_failure_kind failure;
		const char *word;
	} cases[] = {
		{TLS_CLIENT_CERT_NONE,    TLS_LEVEL_ENCRYPT, "",		      CLIENT,      0,			 "NOT" },
		{TLS_CLIENT_CERT_ASK,     TLS_LEVEL_ENCRYPT, "",		     CLIENT,	     0,			"OK"  },
		{TLS_CLIENT_CERT_ASK,     TLS_LEVEL_ENCRYPT, "",		     NOBODY,	     0,			"NO"  },
		{TLS_CLIENT_CERT_ASK,     TLS_LEVEL_ENCRYPT, "",		     SELF_SIGNED, 0,		     "FAIL"},
		{TLS_CLIENT_CERT_ASK,     TLS_LEVEL_ENCRYPT, "",		     EXPIRED,     0,			 "FAIL"},
		{TLS_CLIENT_CERT_REQUIRE, TLS_LEVEL_ENCRYPT, "",			 CLIENT,	 0,			    "OK"	},
		{TLS_CLIENT_CERT_REQUIRE, TLS_LEVEL_ENCRYPT, "",			 NOBODY,	 TLS_FAILURE_NO_CERT,   "NO"  },
		{TLS_CLIENT_CERT_REQUIRE, TLS_LEVEL_ENCRYPT, "",			 SELF_SIGNED, TLS_FAILURE_UNTRUSTED,
			"FAIL"												       },
		{TLS_CLIENT_CERT_REQUIRE, TLS_LEVEL_ENCRYPT, "",			 EXPIRED,	  TLS_FAILURE_UNTRUSTED,
			"FAIL"												       },
		{TLS_CLIENT_CERT_NONE,    TLS_LEVEL_VERIFY,	 "",		     NOBODY,	     TLS_FAILURE_NO_CERT,	  "NO"  },
		{TLS_CLIENT_CERT_NONE,    TLS_LEVEL_VERIFY,	 "",		     CLIENT,	     0,			"OK"  },
		{TLS_CLIENT_CERT_ASK,     TLS_LEVEL_VERIFY,	"client.example.test", CLIENT,      0,			  "OK"  },
		{TLS_CLIENT_CERT_ASK,     TLS_LEVEL_VERIFY,	".example.test",	 CLIENT,	 0,			    "OK"	},
		{TLS_CLIENT_CERT_ASK,     TLS_LEVEL_VERIFY,	"other.example.test",  CLIENT,
			TLS_FAILURE_NAME,										      "FAIL"},
		{TLS_CLIENT_CERT_ASK,     TLS_LEVEL_SECURE,	"",		    CLIENT,	    0,		       "OK"  },
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		for (int protocol = TLS1_2_VERSION; protocol <= TLS1_3_VERSION; protocol++) {
			struct tls_profile s = {
				"s", .level = cases[i].level, .client_cert = cases[i].asks};
			snprintf(s.names, sizeof s.names, "%s", cases[i].names);
			struct tls_server_set *servers = servers_of(which, 1, &s);
			struct lab_link link;
			SSL_CTX *ctx = NULL;
			struct tls_verdict verdict;
			enum tls_result at_server;
			const char *text;
			lab_link_init(&link);
			struct tls *server = tls_open_server(servers, 0, lab_server_io(&link));
			struct lab_raw raw = raw_client(&ctx, &link, "mx.example.test");
			SSL_set_max_proto_version(raw.ssl, protocol);
			STACK_OF(X509) *rest = sk_X509_new_null();
			sk_X509_push(rest, middle.cert);
			if (cases[i].client != NOBODY)
				SSL_use_cert_and_key(raw.ssl, leaf[cases[i].client].cert,
					leaf[cases[i].client].key, rest, 1);
			sk_X509_free(rest);
			lab_raw_shake(&raw, server, &at_server);
			tls_get_verdict(server, &verdict);
			enum tls_failure_kind kind = tls_failure(server, &text);
			if (kind != cases[i].failure)
				fail_msg("case %zu: %d, not %d: %s", i, kind, cases[i].failure,
					text);
			assert_int_equal(at_server, kind == TLS_FAILURE_NONE ? TLS_OK : TLS_FAIL);
			assert_string_equal(tls_verify_name(verdict.verify), cases[i].word);
			if (cases[i].client == CLIENT && cases[i].word[0] == 'O')
				assert_string_equal(verdict.cert_subject, "CN=client");
			tls_close(server);
			lab_raw_free(&raw);
			SSL_CTX_free(ctx);
			lab_link_fini(&link);
			tls_server_set_put(servers);
		}
}

/* ---- a stricter profile later ---- */

static void a_session_is_checked_against_another_profile(void **state)
{
	static const enum which which[] = {RIGHT};
	struct tls_profile tls12 = {"tls12", .level = TLS_LEVEL_MAY, .protocol_highest = TLS_1_2};
	struct meeting m = meeting_of(which, 1, tls12, may);
	char why[TLS_WHY_BYTES];
	meet(&m, "mx.example.test", "");
	assert_int_equal(m.at_server, TLS_OK);
	static const struct {
		struct tls_profile profile;
		enum tls_failure_kind kind;
		const char *why;
	} cases[] = {
		{{"a", .level = TLS_LEVEL_ENCRYPT},			    TLS_FAILURE_NONE,    ""},
		{{"b", .level = TLS_LEVEL_ENCRYPT, .grade = TLS_GRADE_MODERN}, TLS_FAILURE_NONE,
			""										   },
		{{"c", .protocol_lowest = TLS_1_3},			    TLS_FAILURE_WEAK,
			"TLSv1.2 was agreed, TLSv1.3 is the least"						  },
		{{"d", .bits_least = 257},					   TLS_FAILURE_WEAK,
			"a cipher of 128 bits was agreed, 257 is the least"				   },
		{{"e", .level = TLS_LEVEL_VERIFY},				   TLS_FAILURE_NO_CERT,
			"the client sent no certificate"							},
		{{"f", .client_cert = TLS_CLIENT_CERT_REQUIRE},		TLS_FAILURE_NO_CERT,
			"the client sent no certificate"							},
	};
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		assert_int_equal(tls_check(m.server, &cases[i].profile, why), cases[i].kind);
		assert_string_equal(why, cases[i].why);
	}
	/* The client's side: the certificate it saw is judged anew. */
	struct tls_profile named = {"may", .level = TLS_LEVEL_VERIFY, .names = "other.example.test"};
	assert_int_equal(tls_check(m.client, &named, why), TLS_FAILURE_NAME);
	snprintf(named.names, sizeof named.names, "mx.example.test");
	assert_int_equal(tls_check(m.client, &named, why), TLS_FAILURE_NONE);
	meeting_end(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_level_enforces_what_it_says_and_records_the_rest),
		cmocka_unit_test(a_refused_server_is_told_by_alert_and_the_reason_is_in_words),
		cmocka_unit_test(secure_takes_host_or_domain_or_address),
		cmocka_unit_test(sni_chooses_the_chain),
		cmocka_unit_test(a_client_that_can_do_both_gets_ecdsa_and_others_rsa),
		cmocka_unit_test(versions_meet_where_both_profiles_allow),
		cmocka_unit_test(grades_take_the_suites_they_name),
		cmocka_unit_test(aes_128_comes_first_unless_256_bits_are_asked_for_or_a_client_prefers_chacha),
		cmocka_unit_test(grades_differ_in_the_keys_they_take_of_a_server),
		cmocka_unit_test(groups_are_the_profiles_or_the_usual_ones),
		cmocka_unit_test(what_was_agreed_can_be_counted_on_both_sides),
		cmocka_unit_test(client_certificates_are_asked_for_and_judged),
		cmocka_unit_test(a_session_is_checked_against_another_profile),
	};
	return cmocka_run_group_tests(tests, make_certificates, free_certificates);
}
