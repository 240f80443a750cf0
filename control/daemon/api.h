// SPDX-License-Identifier: Apache-2.0
/* control/daemon/api.h: control's HTTP/JSON API on its unix socket (paths.api_socket), which hikyakuctl speaks.
 *
 * Answers are JSON; an error is {"error": "a sentence", "field": "…", "document": "…"} with the status that fits:
 * 400 wrong request or document, 404 no such thing, 409 exists already or still in use, 503 no relay is attached
 * or it did not answer in time (5 s). Every change of policy or certificates is one generation, compiled before
 * it is kept: what does not compile changes nothing. A change answers when all attached relays have it in force,
 * or after 5 s: {"generation": 8, "applied": ["main"], "pending": [], "refused": [{"instance","error"}]}.
 *
 *   GET    /v1/status                       {"control":{version,pid,uptime,generation,hostname},
 *                                            "relays":[{instance,pid,generation,uptime,cores,connections,queue,spool}],
 *                                            "warnings":["certificate X ends in 5 days", …]}
 *   GET    /v1/documents/KIND               KIND: profiles in_rules out_rules routes -> {"generation", "documents":[…]}
 *                                            in order, built-in defaults last, marked "builtin": true
 *   GET    /v1/documents/KIND/ID
 *   POST   /v1/documents/KIND[?before=ID]   adds (rules: before ID, else before the built-in default); 409 if the id exists
 *   PATCH  /v1/documents/KIND/ID            merges the given fields into the document (null takes a field out)
 *   POST   /v1/documents/KIND/ID/move?before=ID|last
 *   DELETE /v1/documents/KIND/ID            409 while a rule names the profile
 *   GET    /v1/export                       the whole store but keys: {"profiles":…,"in_rules":…,"out_rules":…,"routes":…,
 *                                            "ca_pem":…}
 *   POST   /v1/apply[?dry_run=1]            replaces the whole by such a document; adds "changes":
 *                                            [{"kind","id","change":"added|changed|removed|moved"}]
 *   POST   /v1/explain                      {"listener","client","client_name","sender","recipient","domain","mx","address"},
 *                                            each may lack -> {"inbound":{"connect":{rule,action,profile:{…}},"mail":{…}|null,
 *                                            "looked_at":[{"rule","matched":bool,"why":"client 192.0.2.9 is not in 198.51.100.0/24"}]},
 *                                            "outbound":{"route":{…},"rule","profile":{…},"looked_at":[…]}}
 *   GET    /v1/config[?full=1]              text/yaml
 *   GET    /v1/certs                        {"certs":[{id,active,default,names,subject,issuer,not_before,not_after,
 *                                            key_type,fingerprint,days_left}]}
 *   GET    /v1/certs/ID                     the same for one, with "chain":[{subject,issuer,not_after},…]
 *   POST   /v1/certs                        {"id","names":[…],"days":825,"key":"ecdsa|rsa","default":bool}: self-signed
 *   POST   /v1/certs/import?id=ID[&default=1]  body: one PEM with key, leaf, intermediates, root in any order
 *   POST   /v1/certs/ID/activate | /deactivate
 *   DELETE /v1/certs/ID                     409 while active
 *   GET    /v1/queue?domain=&reason=&sender=&state=&queue_id=&after=&limit=   as queue.list of control/link.h, with "instance"
 *   GET    /v1/queue/ID/content?offset=     as queue.content
 *   POST   /v1/queue/retry|hold|release|remove?…   a selection as above (an empty one needs all=1) -> {"changed": n}
 *   GET    /v1/log?lines=N[&follow=1]       the last N records (JSON lines); follow: the stream goes on
 *   GET    /metrics                         OpenMetrics
 *
 * Keys never leave through it. The socket is 0660, owned by root and the group of the socket's folder: who may
 * open it may change the policy. */
#pragma once
