// SPDX-License-Identifier: Apache-2.0
/* tls_bench: what TLS handshakes and sessions cost on this machine, in memory, on one core, beside OpenSSL alone.
 *
 *     nice -n -5 build/tls/tls_bench                            # all, some minutes
 *     build/tls/tls_bench --only "TLSv1.3 ECDSA-P256 X25519 full" --seconds 5 --no-memory
 *     build/tls/tls_bench --json > tls.json
 *
 * Handshakes: each row is a version, a certificate, a group, full or resumed, and each line of it a
 * server. "openssl" is the ceiling: OpenSSL in its default library context, nothing of ours, with the same
 * certificate and parameters, jemalloc under it as under the relay. The client is OpenSSL's in every
 * line. Servers take turns of 16 handshakes, or as many as are in flight; only the processor time of
 * the server's own calls is counted, from SSL_new to SSL_free. Printed are the median of the turns with
 * its quartiles, and the median of the ratio ceiling/server of turns that follow each other: above 1,
 * the server is cheaper than OpenSSL alone. `n` is how many handshakes are in flight at once.
 *
 * For one function's share: valgrind --tool=callgrind --collect-atstart=no --toggle-collect='server_*'
 * build/tls/tls_bench --server inline --only … --no-memory.
 *
 * Memory: bytes a session of ours holds, of 10,000 at the same time (--sessions).
 *
 * JSON: {"handshakes": [...], "memory": [...]}, one object a line of the tables. Numbers, no judgement; not a test. */
#include "tls/bench/bench.h"

#include "base/heap.h"

#undef NDEBUG
#include <assert.h>
#include <getopt.h>
#include <stdlib.h>
#include <time.h>

extern const char *malloc_conf; /* jemalloc's, under the ceiling too */
const char *malloc_conf = HEAP_CONF;

struct tls_key_pair bench_pairs[BENCH_CERTIFICATES];
struct bytes bench_roots;
struct tls_lib *bench_lib;

uint64_t bench_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void make_certificates(void)
{
	static const enum lab_key keys[] = {LAB_ECDSA, LAB_RSA, LAB_RSA_3072};
	struct lab_cert ca = lab_cert_make((struct lab_spec){.name = "Bench CA", .is_ca = true});
	for (int i = 0; i < BENCH_CERTIFICATES; i++) {
		struct lab_cert leaf = lab_cert_make((struct lab_spec){
			"mx", "DNS:mx.example.test", &ca, .key = keys[i]});
		bench_pairs[i] = lab_pair((const struct lab_cert *const[]){&leaf}, 1);
		lab_cert_free(&leaf);
	}
	bench_roots = lab_certs_pem((const struct lab_cert *const[]){&ca}, 1);
	lab_cert_free(&ca);
}

static void free_certificates(void)
{
	for (int i = 0; i < BENCH_CERTIFICATES; i++)
		lab_pair_free(&bench_pairs[i]);
	free((void *)bench_roots.at);
}

static int usage(void)
{
	fprintf(stderr,
		"usage: tls_bench [--seconds S] [--only TEXT] [--server NAME] [--aes 128|256]\n"
		"                 [--sessions N] [--no-memory] [--no-handshakes] [--json]\n"
		"  --seconds S   processor time for each row and server (default 0.5)\n"
		"  --only TEXT   rows with TEXT in them: \"TLSv1.3 ECDSA-P256 X25519 full\"\n"
		"  --server NAME one server alone; ratios are then to itself\n"
		"  --aes BITS    the client offers AES-GCM with such a key: 128 (default) or 256\n"
		"  --sessions N  held at the same time to count memory (default 10000)\n");
	return 64;
}

static bool parse_options(int argc, char **argv, struct bench_options *o)
{
	static const struct option known[] = {
		{"seconds",	required_argument, NULL, 's'},
		{"only",		 required_argument, NULL, 'o'},
		{"server",	   required_argument, NULL, 'b'},
		{"aes",		required_argument, NULL, 'a'},
		{"sessions",	     required_argument, NULL, 'n'},
		{"no-memory",     no_argument,       NULL, 'm'},
		{"no-handshakes", no_argument,	   NULL, 'h'},
		{"json",		 no_argument,	    NULL, 'j'},
		{},
	};
	int option;
	*o = (struct bench_options){
		.seconds = 0.5, .aes_bits = 128, .sessions = 10000, .has_handshakes = true, .has_memory = true};
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
		switch (option) {
		case 's': o->seconds = atof(optarg); break;
		case 'o': o->only = optarg; break;
		case 'a': o->aes_bits = (unsigned)atoi(optarg); break;
		case 'b': o->server = optarg; break;
		case 'n': o->sessions = (unsigned)atoi(optarg); break;
		case 'm': o->has_memory = false; break;
		case 'h': o->has_handshakes = false; break;
		case 'j': o->is_json = true; break;
		default: return false;
		}
	return optind == argc && o->seconds > 0 && o->seconds <= 600 && o->sessions > 1 &&
		o->sessions <= 100000;
}

int main(int argc, char **argv)
{
	struct bench_options options;
	if (!parse_options(argc, argv, &options))
		return usage();
	bench_lib = tls_lib_create();
	assert(bench_lib != NULL);
	make_certificates();
	if (options.is_json)
		printf("{\"openssl\":\"%s\",\"handshakes\":[", OpenSSL_version(OPENSSL_VERSION));
	if (options.has_handshakes)
		bench_handshakes(&options);
	printf(options.is_json ? "],\n\"memory\":[" : "\n");
	if (options.has_memory)
		bench_memory(&options);
	if (options.is_json)
		printf("]}\n");
	free_certificates();
	tls_lib_destroy(bench_lib);
	return 0;
}
