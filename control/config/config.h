// SPDX-License-Identifier: Apache-2.0
/* control/config/config.h: the start-time facts of a node, from one YAML file.
 *
 * Both processes read the same file: ports, cores, limits, paths and listeners stand only here; rules,
 * profiles, routes and certificates only in the store. Every setting is one row of settings.def (name, type,
 * default, range, sentence), from which the parser, `hikyakuctl config show --full` and docs/settings.md are made. */
#pragma once

#include "base/addr.h"

#include <stdio.h>

#define CONFIG_PATH_DEFAULT "/etc/hikyaku/hikyaku.yaml"

struct config_port {
	char *name, *device;
	char *offloads; /* what the port is to do: dp_offloads_parse() */
	unsigned mtu;
	char **addresses; /* "192.0.2.25/24", "2001:db8::25/64" (host bits are the address) */
	unsigned addresses_count;
};
struct config_route {
	char *to, *via, *port; /* the port's name, always filled in; "default", "0.0.0.0/0", "2001:db8:1::/48"; via "" on the link */
};
struct config_listener {
	char *name;
	char *address;	    /* "" or "*": every local address of both families */
	unsigned tcp_port;
	bool implicit_tls, enabled;
};

struct config {
	struct {
		char *hostname; /* greeting, EHLO, Received, reporting MTA */
		char *instance;
	} node;
	struct {
		char *spool, *store, *control_socket, *api_socket, *records;
	} paths;
	struct {
		unsigned cores;
		char *hugepages; /* auto yes no */
		unsigned memory_mb, mbufs_per_core, sleep_us_max;
		struct config_port *ports;
		unsigned ports_count;
		struct config_route *routes;
		unsigned routes_count;
	} dataplane;
	struct config_listener *listeners;
	unsigned listeners_count;
	struct {
		unsigned connections;		 /* per core */
		unsigned delivery_percent;	 /* of connections, not for clients */
		unsigned connections_per_client; /* per address, per core */
		unsigned tcp_keepalive_probes;
		unsigned handshakes;		 /* in flight, per core */
		unsigned client_handshakes;	 /* of one client to a core, per minute; 0: no limit */
		unsigned client_handshakes_burst; /* of them, at once */
		unsigned tcp_receive_bytes, tcp_send_bytes;
		unsigned tcp_buffer_mb;		 /* per core */
		unsigned mail_memory_mb;	 /* chunks of accepted mail, per core */
		unsigned message_bytes, recipients, line_bytes, header_bytes, received;
		unsigned errors_per_session, commands_per_session, mails_per_session;
		unsigned min_bytes_per_second;	 /* of content, averaged over a minute; slower clients get 421 */
	} limits;
	struct { /* seconds */
		unsigned server_command, server_content, server_session, client_name, handshake;
		unsigned connect, greeting, command, mail, rcpt, data, block, end, idle;
		unsigned tcp_user, tcp_keepalive, tcp_keepalive_interval; /* tcp_keepalive 0: off */
	} timeouts;
	struct {
		unsigned mails, retry_first, retry_factor_percent, retry_most, lifetime, dsn_lifetime,
			delay_warning, connections_per_site, mails_per_connection;
	} queue;
	struct {
		unsigned segment_mb, disk_mb; /* disk_mb 0: until the disk is full */
		unsigned reload_memory_mb;
	} spool;
	struct {
		char *server; /* "" : the system's resolver; else "address" or "address@port" */
		unsigned timeout;
		bool dnssec;
	} dns;
	struct {
		bool ecn;
		char *congestion_control; /* cubic newreno */
	} tcp;
	struct {
		unsigned ticket_lifetime, ticket_rotation; /* seconds; lifetime 0: no tickets */
		char *offload;	       /* auto inline mb engine */
		char *offload_missing; /* inline refuse */
		unsigned offload_deadline_us;
		char *engine;
		unsigned engine_hardware, engine_software; /* qatengine's bits */
		unsigned client_sessions, client_session_lifetime; /* per core; seconds */
	} tls;
	struct {
		char *level; /* error warn info debug */
		bool journal; /* records go to the journal instead of paths.records */
		bool syslog;  /* and to syslog, as text */
	} log;
};

/* Reads and checks the file. 0; or -EINVAL, -ENOENT … with `error` saying file, line, what was found and what
 * was expected. The result is freed by config_free(). */
int config_load(const char *path, struct config **config, char error[512]);
void config_free(struct config *config);
/* Takes "192.0.2.25/24" apart: the address, and the network it is in. false: not that. */
bool config_parse_interface(const char *text, struct addr *addr, struct prefix *network);
/* The prefix ("default" is 0 bits of the family of `via`) and the next router (unspecified: on the link) of a
 * route. false: the families differ, or "default" without `via`. Of a loaded configuration it is true. */
bool config_parse_route(const struct config_route *route, struct prefix *to, struct addr *via);
/* Writes the configuration in force as YAML: what differs from the defaults; with `full` every setting, with
 * its default and its sentence as a comment. */
void config_print(const struct config *config, bool full, FILE *to);
/* Writes the reference of settings (Markdown), from the same table. */
void config_print_reference(FILE *to);
