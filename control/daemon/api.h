// SPDX-License-Identifier: Apache-2.0
/* control/daemon/api.h: control's HTTP/JSON API on its unix socket (paths.api_socket), which hikyakuctl speaks.
 *
 * Answers are JSON; an error is {"error": "a sentence", "field": "…", "document": "…"} (the last two where the
 * compiler names them) with the status that fits: 400 wrong request or document (also an unknown parameter of
 * the query), 404 no such thing, 405 another method (Allow says which), 409 exists already or still in use, 413 a
 * body of more than 4 MiB (a PEM: 256 KiB), 503 no relay is attached or none answered in time (5 s). Every change
 * of policy or certificates is one generation, compiled (and tried with OpenSSL as a relay will) before it is
 * kept: what does not compile changes nothing. A change answers when all attached relays have it in force, or
 * after 5 s: {"generation": 8, "applied": ["main"], "pending": [], "refused": [{"instance","error"}]}. What
 * changes nothing (an apply of what is there, the activation of what is active) is no new generation.
 *
 *   GET    /v1/status                       {"control":{version,pid,uptime,generation,hostname},
 *                                            "relays":[{instance,pid,generation,uptime,cores,connections,queue,spool}],
 *                                            "warnings":["certificate X ends in 5 days", …]}
 *                                            a relay that did not answer has "error" for what it would have told
 *   GET    /v1/documents/KIND[?full=1]      KIND: profiles in_rules out_rules routes -> {"generation", "documents":[…]}
 *                                            in order, built-in defaults last, marked "builtin": true;
 *                                            full: with the defaults of fields that are left out
 *   GET    /v1/documents/KIND/ID
 *   POST   /v1/documents/KIND[?before=ID]   adds (rules: before ID, else before the built-in default); 409 if the id exists
 *   PATCH  /v1/documents/KIND/ID            merges the given fields into the document (null takes a field out);
 *                                            a built-in profile becomes one of the store's by it
 *   POST   /v1/documents/KIND/ID/move?before=ID|last
 *   DELETE /v1/documents/KIND/ID            409 while a rule names the profile
 *   GET    /v1/export                       the whole store but keys: {"profiles":…,"in_rules":…,"out_rules":…,"routes":…,
 *                                            "ca_pem":…}
 *   POST   /v1/apply[?dry_run=1]            replaces the whole by such a document; adds "changes":
 *                                            [{"kind","id","change":"added|changed|removed|moved"}] (kind
 *                                            also "ca_pem"); dry_run: only these, "dry_run": true and the generation
 *                                            that stays
 *   POST   /v1/explain                      {"listener","client","client_name","sender","recipient","domain","mx","address"},
 *                                            each may lack -> {"inbound":{"connect":{rule,action,profile:{…}},"mail":{…}|null,
 *                                            "looked_at":[{"stage","rule","matched":bool,"why":"client 192.0.2.9 is not in 198.51.100.0/24"}]},
 *                                            "outbound":{"route":{…}|null,"rule","stage","profile":{…},"looked_at":[…]}|null}
 *                                            stages: connect mail; route (the domain is known), host (mx or address
 *                                            is too), of which the stricter counts; "<>" or "" is the null sender
 *   GET    /v1/config[?full=1]              text/yaml
 *   GET    /v1/certs                        {"certs":[{id,active,default,names,subject,issuer,not_before,not_after,
 *                                            key_type,fingerprint,serial,self_signed,days_left}]}
 *   GET    /v1/certs/ID                     the same for one, with "chain":[{subject,issuer,not_after},…]
 *                                            (a new certificate is active; its answer has "cert" too)
 *   POST   /v1/certs                        {"id","names":[…],"days":825,"key":"ecdsa|rsa","default":bool}: self-signed
 *   POST   /v1/certs/import?id=ID[&default=1][&replace=1]  body: one PEM with key, leaf, intermediates, root in any order
 *   POST   /v1/certs/ID/activate[?default=1] | /deactivate   409: the only active one
 *   DELETE /v1/certs/ID                     409 while active
 *   GET    /v1/queue?domain=&reason=&sender=&state=&queue_id=&after=&limit=   as queue.list of control/link.h of all relays
 *                                            (or &instance=), by queue id, each with "instance"; limit: 100, at most
 *                                            200; relays that did not answer: "errors":[{"instance","error"}]
 *   GET    /v1/queue/ID/content?offset=     as queue.content
 *   POST   /v1/queue/retry|hold|release|remove?…   a selection as above (an empty one needs all=1) -> {"changed": n}
 *   GET    /v1/log?lines=N[&follow=1]       the last N records (JSON lines); follow: the stream goes on, past a rotation
 *                                            too; 404 where they go to the journal
 *   GET    /v1/connections?state=&peer=&port=&direction=in|out&after=&limit=&all=   a page of the TCP connections, as
 *                                            connections.list of control/link.h, each with "instance"; "next": what the
 *                                            next page has as its `after`, where there is more (all of one relay, then
 *                                            the next relay's, or &instance=)
 *   DELETE /v1/connections/ID[?instance=]   ends it with RST; 400: there is no such connection
 *   POST   /v1/trace, /v1/capture           {…} as trace.start, capture.start of control/link.h, on the one relay or
 *                                            ?instance= -> {"id"}
 *   GET    /v1/trace/ID, /v1/capture/ID     what has come since, as trace.read, capture.read; who does not read for 10 s
 *                                            has lost it
 *   DELETE /v1/trace/ID, /v1/capture/ID
 *   POST   /v1/offload/BACKEND              inline, mb or engine, for new TLS handshakes of the one relay or ?instance=, until
 *                                            it ends -> {"offload","instance"}; 400: it cannot be used there, and why
 *   GET    /v1/counters[?instance=]         {"counters":[{"name","help","type":"counter|gauge","values":[{"instance",
 *                                            "core":"0",…,"value"}]}]}: every counter of the relays, named as in /metrics
 *   GET    /metrics                         OpenMetrics
 *
 * Keys never leave through it. The socket is 0660, owned by root and the group of the socket's folder: who may
 * open it may change the policy. */
#pragma once
