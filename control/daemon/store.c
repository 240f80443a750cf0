// SPDX-License-Identifier: Apache-2.0
/* control/daemon/store.c: documents and certificates in SQLite. */
#include "control/daemon/control.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <sqlite3.h>

struct store {
	sqlite3 *db;
	uint64_t generation;
};

static const char *const kinds[] = {"profiles", "in_rules", "out_rules", "routes"};
#define KINDS (sizeof kinds / sizeof *kinds)

static const char schema[] =
	/* Exclusive: a second control must not work on the same store. */
	"PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;"
	"CREATE TABLE IF NOT EXISTS documents ("
	" kind TEXT NOT NULL, id TEXT NOT NULL, position INTEGER NOT NULL, json TEXT NOT NULL,"
	" PRIMARY KEY (kind, id));"
	"CREATE TABLE IF NOT EXISTS certs ("
	" id TEXT PRIMARY KEY, chain TEXT NOT NULL, key TEXT NOT NULL, active INTEGER NOT NULL,"
	" is_default INTEGER NOT NULL);"
	"CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);";

static int fail(struct store *s, const char *what, char error[512])
{
	snprintf(error, 512, "the store: %s: %s", what,
		s->db == NULL ? "out of memory" : sqlite3_errmsg(s->db));
	return -EIO;
}

static int run(struct store *s, const char *sql, char error[512])
{
	return sqlite3_exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK
		? 0
		: fail(s, "cannot write", error);
}

/* A prepared statement with text parameters bound in order; NULL: failed. */
static sqlite3_stmt *prepare(struct store *s, const char *sql, const char *const *texts, int count)
{
	sqlite3_stmt *st;
	if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
		return NULL;
	for (int i = 0; i < count; i++)
		sqlite3_bind_text(st, i + 1, texts[i], -1, SQLITE_TRANSIENT);
	return st;
}

static int step_once(
	struct store *s, const char *sql, const char *const *texts, int count, char error[512])
{
	sqlite3_stmt *st = prepare(s, sql, texts, count);
	int rc = st == NULL ? SQLITE_ERROR : sqlite3_step(st);
	sqlite3_finalize(st);
	return rc == SQLITE_DONE ? 0 : fail(s, "cannot write", error);
}

static int set_meta(struct store *s, const char *name, const char *value, char error[512])
{
	const char *const texts[] = {name, value};
	return step_once(s, "INSERT OR REPLACE INTO meta VALUES (?, ?)", texts, 2, error);
}

/* From the heap; NULL: not set. */
static char *get_meta(struct store *s, const char *name)
{
	sqlite3_stmt *st = prepare(s, "SELECT value FROM meta WHERE name = ?", &name, 1);
	char *value = NULL;
	if (st != NULL && sqlite3_step(st) == SQLITE_ROW)
		value = strdup((const char *)sqlite3_column_text(st, 0));
	sqlite3_finalize(st);
	return value;
}

int store_open(const char *path, struct store **store, char error[512])
{
	struct store *s = calloc(1, sizeof *s);
	if (s == NULL)
		return -ENOMEM;
	mode_t mask = umask(077); /* it holds private keys */
	int rc = sqlite3_open(path, &s->db);
	umask(mask);
	if (rc != SQLITE_OK || run(s, schema, error) != 0) {
		rc = s->db == NULL ? SQLITE_NOMEM : sqlite3_errcode(s->db);
		snprintf(error, 512, "cannot open the store %s: %s (paths.store)", path,
			rc == SQLITE_BUSY ? "another hikyaku-control has it open"
					  : sqlite3_errstr(rc));
		store_close(s);
		return -EIO;
	}
	char *generation = get_meta(s, "generation");
	s->generation = generation == NULL ? 0 : strtoull(generation, NULL, 10);
	free(generation);
	*store = s;
	return 0;
}

void store_close(struct store *s)
{
	if (s == NULL)
		return;
	sqlite3_close(s->db);
	free(s);
}

uint64_t store_generation(const struct store *s)
{
	return s->generation;
}

/* ---- documents ---- */

static bool add_kind(struct store *s, yyjson_mut_doc *doc, const char *kind)
{
	yyjson_mut_val *list = yyjson_mut_obj_add_arr(doc, yyjson_mut_doc_get_root(doc), kind);
	sqlite3_stmt *st =
		prepare(s, "SELECT json FROM documents WHERE kind = ? ORDER BY position", &kind, 1);
	int rc = SQLITE_ERROR;
	while (st != NULL && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		const char *json = (const char *)sqlite3_column_text(st, 0);
		yyjson_doc *one = yyjson_read(json, strlen(json), 0);
		if (one != NULL)
			yyjson_mut_arr_append(
				list, yyjson_val_mut_copy(doc, yyjson_doc_get_root(one)));
		yyjson_doc_free(one);
	}
	sqlite3_finalize(st);
	return rc == SQLITE_DONE;
}

char *store_documents(struct store *s, char error[512])
{
	yyjson_mut_doc *doc = yyjson_mut_doc_new(NULL);
	yyjson_mut_doc_set_root(doc, yyjson_mut_obj(doc));
	bool ok = true;
	for (size_t i = 0; i < KINDS; i++)
		ok &= add_kind(s, doc, kinds[i]);
	char *ca = get_meta(s, "ca_pem");
	yyjson_mut_obj_add_strcpy(
		doc, yyjson_mut_doc_get_root(doc), "ca_pem", ca == NULL ? "" : ca);
	free(ca);
	char *json = ok ? yyjson_mut_write(doc, YYJSON_WRITE_PRETTY, NULL) : NULL;
	yyjson_mut_doc_free(doc);
	if (json == NULL)
		fail(s, "cannot read the documents", error);
	return json;
}

static int save_kind(struct store *s, const char *kind, yyjson_val *list, char error[512])
{
	size_t i, n;
	yyjson_val *item;
	int rc = 0;
	yyjson_arr_foreach(list, i, n, item)
	{
		char position[24];
		const char *id = yyjson_get_str(yyjson_obj_get(item, "id"));
		char *json = yyjson_val_write(item, 0, NULL);
		snprintf(position, sizeof position, "%zu", i);
		const char *const texts[] = {
			kind, id == NULL ? "" : id, position, json == NULL ? "{}" : json};
		rc = step_once(s, "INSERT INTO documents VALUES (?, ?, CAST(? AS INTEGER), ?)",
			texts, 4, error);
		free(json);
		if (rc != 0)
			return rc;
	}
	return 0;
}

static int save_all(struct store *s, yyjson_val *root, char error[512])
{
	int rc = run(s, "DELETE FROM documents", error);
	for (size_t i = 0; rc == 0 && i < KINDS; i++)
		rc = save_kind(s, kinds[i], yyjson_obj_get(root, kinds[i]), error);
	const char *ca = yyjson_get_str(yyjson_obj_get(root, "ca_pem"));
	return rc != 0 ? rc : set_meta(s, "ca_pem", ca == NULL ? "" : ca, error);
}

/* Ends a transaction in which the generation's number is part of what is kept. */
static int end(struct store *s, int rc, uint64_t generation, char error[512])
{
	char text[24];
	snprintf(text, sizeof text, "%llu", (unsigned long long)generation);
	if (rc == 0)
		rc = set_meta(s, "generation", text, error);
	if (rc == 0)
		rc = run(s, "COMMIT", error);
	if (rc == 0)
		s->generation = generation;
	else
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	return rc;
}

int store_save_documents(struct store *s, const char *json, uint64_t generation, char error[512])
{
	yyjson_doc *doc = yyjson_read(json, strlen(json), 0);
	if (doc == NULL) {
		snprintf(error, 512, "the documents are not JSON");
		return -EINVAL;
	}
	int rc = run(s, "BEGIN IMMEDIATE", error);
	if (rc == 0)
		rc = end(s, save_all(s, yyjson_doc_get_root(doc), error), generation, error);
	yyjson_doc_free(doc);
	return rc;
}

/* ---- certificates ---- */

void store_free_certs(struct store_cert *certs, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		if (certs[i].key_pem != NULL)
			explicit_bzero(certs[i].key_pem, strlen(certs[i].key_pem));
		free(certs[i].key_pem);
		free(certs[i].chain_pem);
	}
	free(certs);
}

int store_certs(struct store *s, struct store_cert **certs, size_t *count, char error[512])
{
	sqlite3_stmt *st = prepare(s,
		"SELECT id, chain, key, active, is_default FROM certs ORDER BY is_default DESC, id",
		NULL, 0);
	struct store_cert *list = NULL;
	size_t n = 0;
	int rc = SQLITE_ERROR;
	while (st != NULL && (rc = sqlite3_step(st)) == SQLITE_ROW) {
		struct store_cert *grown = realloc(list, (n + 1) * sizeof *list);
		if (grown == NULL)
			break;
		list = grown;
		struct store_cert *cert = &list[n++];
		snprintf(cert->id, sizeof cert->id, "%s", (const char *)sqlite3_column_text(st, 0));
		cert->chain_pem = strdup((const char *)sqlite3_column_text(st, 1));
		cert->key_pem = strdup((const char *)sqlite3_column_text(st, 2));
		cert->is_active = sqlite3_column_int(st, 3) != 0;
		cert->is_default = sqlite3_column_int(st, 4) != 0;
	}
	sqlite3_finalize(st);
	if (rc != SQLITE_DONE) {
		store_free_certs(list, n);
		return fail(s, "cannot read the certificates", error);
	}
	*certs = list;
	*count = n;
	return 0;
}

int store_put_cert(
	struct store *s, const struct store_cert *cert, uint64_t generation, char error[512])
{
	const char *const texts[] = {cert->id, cert->chain_pem, cert->key_pem,
		cert->is_active ? "1" : "0", cert->is_default ? "1" : "0"};
	int rc = run(s, "BEGIN IMMEDIATE", error);
	if (rc != 0)
		return rc;
	if (cert->is_default)
		rc = run(s, "UPDATE certs SET is_default = 0", error);
	if (rc == 0)
		rc = step_once(s,
			"INSERT OR REPLACE INTO certs VALUES (?, ?, ?, CAST(? AS INTEGER), CAST(? "
			"AS INTEGER))",
			texts, 5, error);
	return end(s, rc, generation, error);
}

int store_remove_cert(struct store *s, const char *id, uint64_t generation, char error[512])
{
	int rc = run(s, "BEGIN IMMEDIATE", error);
	if (rc != 0)
		return rc;
	rc = step_once(s, "DELETE FROM certs WHERE id = ?", &id, 1, error);
	return end(s, rc, generation, error);
}
