// SPDX-License-Identifier: Apache-2.0
/* control/ctl/ctl.h: what the commands of hikyakuctl share: the options for all, requests to the
 * daemon, and how answers, errors and changes are told. One thread; ends with the codes of
 * sysexits.h. */
#pragma once

#include "base/bytes.h"

#include <stdio.h>
#include <sysexits.h>
#include <yyjson.h>

#include "control/ctl/grammar.h"

struct ctl {
	const char *socket; /* of the daemon's API */
	bool is_json, is_quiet;
	unsigned width;		  /* of the terminal in columns; 0: no terminal, nothing is cut */
	double now;		  /* seconds since 1970, for "in 5 min" */
	unsigned timeout_seconds; /* of a whole request */
};
#define CTL_TIMEOUT_SECONDS 60

/* What the API's default socket is (paths.api_socket of the settings). */
const char *ctl_default_socket(void);

/* ---- telling (output.c) ---- */

/* A line to standard error, made safe for a terminal; returns `code`. */
int ctl_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A line to standard output, made safe; nothing with --quiet. */
void ctl_say(const struct ctl *ctl, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The value as JSON, readable, safe for a terminal (what a terminal must not get stands as \uNNNN);
 * EX_OK, or EX_IOERR. `is_line`: on one line. */
int ctl_print_json(yyjson_val *value, bool is_line, FILE *to);
/* A member as text: a string as it is, numbers and booleans written, anything else "". From the
 * heap. */
char *ctl_member(yyjson_val *object, const char *name);
/* The string member, or "" (the document's). */
const char *ctl_string(yyjson_val *object, const char *name);
/* "name   value" lines. `value` is from the heap and freed; nothing is said where it is NULL or "". */
void ctl_fact(const char *name, char *value);
/* A time of the API: seconds since 1970 or "2026-11-21T18:59:25Z"; false: none. */
bool ctl_get_time(yyjson_val *object, const char *name, double *when);
/* The same as a person reads it, from the heap; NULL: none. */
char *ctl_format_time(const struct ctl *ctl, yyjson_val *object, const char *name);
/* The number behind an option or key, `otherwise` where it is not given; false: told what is wrong. */
bool ctl_number(const struct args *args, const char *name, uint64_t least, uint64_t most,
	uint64_t otherwise, uint64_t *value);
/* Reads a file, or standard input for "-", of `most` bytes at most, into a string from the heap;
 * its exit code. It is to be wiped by the caller if it may hold a key. */
int ctl_read_file(const char *path, size_t most, char **text, size_t *n);
/* What is behind "after a change": in force, pending, refused. Its exit code. */
int ctl_report_change(const struct ctl *ctl, yyjson_val *answer);

/* ---- requests (http.c) ---- */

struct url {
	char text[4096];
	size_t n;
	bool has_query, is_too_long;
};
void url_init(struct url *url, const char *path);
/* "/SEGMENT" and "?name=value" or "&name=value", whatever stands in them. A `value` of NULL adds
 * nothing. */
void url_segment(struct url *url, const char *segment);
void url_query(struct url *url, const char *name, const char *value);

struct reply {
	char *body; /* with a NUL behind it */
	size_t n;
	yyjson_doc *doc; /* NULL where the answer is no JSON */
	yyjson_val *root;
};
/* One request. EX_OK with `reply` filled in, or the exit code, the error told; in both cases freed
 * by reply_fini(). An answer that is no JSON where it should be is an error, unless `is_text`. */
int api_call(const struct ctl *ctl, const char *method, const struct url *url, struct bytes body,
	struct reply *reply);
int api_get_text(const struct ctl *ctl, const struct url *url, struct reply *reply);
/* A request whose body is the document (freed). */
int api_send(const struct ctl *ctl, const char *method, const struct url *url, yyjson_mut_doc *doc,
	struct reply *reply);
/* A GET whose answer is handed on in lines as they come, for as long as it takes. */
int api_follow(const struct ctl *ctl, const struct url *url,
	void (*line)(void *user, struct bytes line), void *user);
void reply_fini(struct reply *reply);

/* ---- the commands, by file ---- */
typedef int ctl_command(struct ctl *ctl, const struct args *args);
ctl_command ctl_status, offload_set, ctl_metrics;
ctl_command counters_show;
ctl_command connections_list, connections_end;
ctl_command trace_show, capture_run;
ctl_command document_list, document_show, document_add, document_set, document_move,
	document_enable, document_disable, document_remove, document_refuse;
ctl_command policy_export, policy_apply, policy_explain_in, policy_explain_out;
ctl_command settings_show, settings_check, settings_reference;
ctl_command cert_list, cert_show, cert_create, cert_import, cert_activate, cert_deactivate,
	cert_remove;
ctl_command queue_list_mails, queue_show_mail, queue_retry_mails, queue_hold_mails,
	queue_release_mails, queue_remove_mails;
ctl_command log_show;
ctl_command help_show, help_reference;
ctl_command completion_bash, completion_words;
