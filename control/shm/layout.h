// SPDX-License-Identifier: Apache-2.0
/* control/shm/layout.h: a generation of the policy as bytes. Private to control/shm.
 *
 * Two memory objects, written once by policy_compile.c, sealed, and read by policy_map.c. Offsets count
 * from the start of the object; integers are the machine's own (the seam does not leave the machine).
 *
 *   policy object                                    keys object
 *   0      +--------------------------+              0  +--------------------------+
 *          | layout_header            |                 | layout_keys_header       |
 *          |  magic version size      |                 |  magic version size      |
 *          |  generation              |                 |  generation count        |
 *          |  sections[8] {at, count} |                 +--------------------------+
 *   at --> +--------------------------+                 | layout_text[count]       |
 *          | tls_profile[]            |                 +--------------------------+
 *          | layout_text[]  CA sets   |                 | key PEM texts, NUL after |
 *          | layout_in_rule[]         |                 | each                     |
 *          | layout_out_rule[]        |                 +--------------------------+
 *          | layout_domain[]  sorted  |
 *          | layout_route[]           |
 *          | layout_host[]            |              The keys are those of the certificates, in
 *          | layout_cert[]            |              the same order; both objects carry the same
 *          +--------------------------+              generation number.
 *          | texts, NUL after each    |
 *   size   +--------------------------+
 *
 * Domains are in lower case and without a final dot. A text of length 0 is an absent criterion. Disabled
 * rules are left out, and the domains of disabled routes; the last rule of each list has no criteria and so always matches. The CA sets are as
 * many as the profiles and in their order; one of length 0 is none of its own. Equal CA sets share a text.
 *
 * Any change here, and any in struct tls_profile, is a new LAYOUT_VERSION. */
#pragma once

#include "tls/profile.h"

#include <assert.h>

#define LAYOUT_POLICY_MAGIC 0x31796369'6c6f7068ull /* "hpolicy1" */
#define LAYOUT_KEYS_MAGIC   0x31737965'6b796b68ull /* "hkykeys1" */
#define LAYOUT_VERSION	    2
#define LAYOUT_ALIGN	    8

/* Far above what anybody writes, and small enough that no sum below overflows 32 bits. */
#define LAYOUT_SIZE_MAX	  (1u << 30)
#define LAYOUT_ROWS_MAX	  (1u << 20)
#define LAYOUT_ID_MAX	  63  /* bytes of a rule's, route's or profile's id */
#define LAYOUT_PEM_MAX	  (1u << 20) /* bytes of one certificate chain, key or profile's CA set */
#define LAYOUT_DOMAIN_MAX 255 /* bytes of a domain in text form (RFC 1035 2.3.4), or of a pattern of one */

struct layout_section {
	uint32_t at; /* a multiple of LAYOUT_ALIGN */
	uint32_t count;
};

#define LAYOUT_SECTIONS(_)                  \
	_(PROFILES, struct tls_profile)     \
	_(PROFILE_CAS, struct layout_text)  \
	_(IN_RULES, struct layout_in_rule)  \
	_(OUT_RULES, struct layout_out_rule) \
	_(DOMAINS, struct layout_domain)    \
	_(ROUTES, struct layout_route)      \
	_(HOSTS, struct layout_host)        \
	_(CERTS, struct layout_cert)

enum layout_section_id {
#define _(id, type) LAYOUT_##id,
	LAYOUT_SECTIONS(_)
#undef _
	LAYOUT_SECTION_COUNT
};

struct layout_text {
	uint32_t at;
	uint32_t n; /* a NUL follows the n bytes; none is among them */
};

struct layout_header {
	uint64_t magic;
	uint32_t version;
	uint32_t size; /* of the whole object */
	uint64_t generation;
	struct layout_section sections[LAYOUT_SECTION_COUNT];
	struct layout_text ca_pem;
};

/* How a domain, host name or address is compared. The same words for addresses, where the local part
 * of EXACT_ADDRESS must match too. */
enum layout_match_kind {
	LAYOUT_ANY,	      /* no criterion */
	LAYOUT_DOMAIN,	      /* the domain is `ascii` or `utf8` */
	LAYOUT_SUFFIX,	      /* the domain ends in `ascii` or `utf8`, which begin with a dot */
	LAYOUT_ADDRESS,	      /* local part and domain */
	LAYOUT_NULL_SENDER,   /* "<>" */
	LAYOUT_MATCH_KINDS
};
struct layout_match {
	uint32_t kind;
	struct layout_text local; /* ADDRESS: the local part, in lower case */
	struct layout_text ascii; /* with A-labels (RFC 5890), in lower case */
	struct layout_text utf8;  /* with U-labels, where it has any */
};

struct layout_prefix {
	uint8_t addr[16]; /* as struct addr */
	uint8_t bits;	  /* of the 128 */
	uint8_t is_set, is_ipv4;
	uint8_t reserved;
};

struct layout_in_rule {
	struct layout_text id;
	struct layout_text listener;
	struct layout_match client_name;
	struct layout_match sender, recipient;
	struct layout_prefix client;
	uint32_t profile;
	uint8_t action; /* enum policy_action */
	uint8_t normalises_bare_lf;
	uint8_t is_mail_stage;
	uint8_t reserved;
};

struct layout_out_rule {
	struct layout_text id;
	struct layout_match sender, domain, mx;
	struct layout_prefix destination;
	uint32_t profile;
};

/* One way to name a route: its domain, ".suffix" or "*", sorted by bytes (a shorter one before what it
 * begins); a domain with U-labels stands here twice. */
struct layout_domain {
	struct layout_text name;
	uint32_t route;
};

struct layout_route {
	struct layout_text id;
	uint32_t first_host, host_count; /* in HOSTS */
	uint16_t mx_port;
	uint8_t is_inbound, is_mx;
};

struct layout_host {
	struct layout_text name;
	uint16_t port;
	uint8_t implicit_tls, reserved;
};

struct layout_cert {
	struct layout_text id, chain_pem;
};

struct layout_keys_header {
	uint64_t magic;
	uint32_t version;
	uint32_t size;
	uint64_t generation;
	uint32_t count; /* of the layout_text that follow */
	uint32_t reserved;
};

static_assert(sizeof(struct layout_header) == 96);
static_assert(sizeof(struct layout_match) == 28);
static_assert(sizeof(struct layout_prefix) == 20);
static_assert(sizeof(struct layout_in_rule) == 128);
static_assert(sizeof(struct layout_out_rule) == 116);
static_assert(sizeof(struct layout_domain) == 12);
static_assert(sizeof(struct layout_route) == 20);
static_assert(sizeof(struct layout_host) == 12);
static_assert(sizeof(struct layout_cert) == 16);
static_assert(sizeof(struct layout_keys_header) == 32);
/* The profile is part of the layout as it stands. */
static_assert(sizeof(struct tls_profile) == 724);
static_assert(offsetof(struct tls_profile, index) == 64);
static_assert(offsetof(struct tls_profile, level) == 68);
static_assert(offsetof(struct tls_profile, protocol_lowest) == 74);
static_assert(offsetof(struct tls_profile, bits_least) == 78);
static_assert(offsetof(struct tls_profile, remember_seconds) == 80);
static_assert(offsetof(struct tls_profile, groups) == 84);
static_assert(offsetof(struct tls_profile, names) == 212);
