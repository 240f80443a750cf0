# SPDX-License-Identifier: Apache-2.0
"""control/daemon/api_test.py: every endpoint of control/daemon/api.h and every error it has, over the socket."""

import contextlib
import http.client
import json
import os
import re
import socket
import stat
import subprocess
import sys
import threading

from lab import BINARY, HOSTNAME, PATIENCE, Answer, Control, UnixHTTP, wait_for
from api_cases import case, check, check_error, empty, ids, item, run
from cases import expect, expect_in


# ---- HTTP ----

@case
def an_unknown_path_is_404_and_a_wrong_method_405(control):
    for path in ("/", "/v1", "/v1/", "/v1/nothing", "/v1/status/", "//v1/status", "/v1/documents", "/v1/certs/a/b/c", "/metrics/x",
                 "/v1/queue//content", "/v1/documents/profiles/", "/v1/a/b/c/d/e/f/g/h/i/j/k"):
        check_error(control.get(path), 404, "no")
    for method, path, allowed in (("DELETE", "/v1/status", "GET"), ("PUT", "/v1/certs", "GET, POST"),
                                  ("GET", "/v1/apply", "POST"), ("GET", "/v1/explain", "POST"),
                                  ("POST", "/v1/documents/profiles/x", "GET, PATCH, DELETE"), ("BREW", "/metrics", "GET")):
        answer = control.request(method, path)
        check_error(answer, 405, method)
        expect(answer.headers["Allow"] == allowed, answer.headers["Allow"])
    expect(control.request("HEAD", "/v1/status").body == b"")


@case
def parameters_are_checked(control):
    check_error(control.get("/v1/status?x=1"), 400, "'x'")
    check_error(control.post("/v1/apply?dryrun=1", {}), 400, "'dryrun'", "dry_run")
    for bad in ("-1", "x", "", "1e3", "99999999999999999999", "10001"):
        check_error(control.get(f"/v1/log?lines={bad}"), 400, "lines")
    check_error(control.get("/v1/queue?limit=201"), 400, "limit")
    for path in ("/v1/%ff", "/v1/certs/%c3", "/v1/documents/profiles/%ed%a0%80", "/v1/queue?domain=%ff", "/v1/queue?%ff=1"):
        check_error(control.get(path), 400, "UTF-8")
    check_error(control.get("/v1/documents/profiles/%c3%bc%22%0a"), 404, '\u00fc"\n')
    check_error(control.get("/v1/documents/profiles/a%2fb"), 404, "a/b")
    check_error(control.get("/v1/certs/self-signed%00x"), 404)


@case
def a_body_that_is_no_object_is_refused(control):
    for body, words in (("", "none"), ("{", "JSON"), ("[]", "object"), ("null", "object"), ('{"a":1} x', "JSON"), ("\x00", "JSON"),
                        ('{"a":' + "[" * 17 + "]" * 17 + "}", "nested"), ("[" * 100000, "nested"), ('"\\', "JSON")):
        for path in ("/v1/apply", "/v1/explain", "/v1/certs", "/v1/documents/profiles"):
            check_error(control.post(path, body), 400, words)


@case
def a_body_that_is_too_long_is_413(control):
    # By its length it is refused before it is read; without one it is found out as it comes.
    for body, headers in ((b"x" * (4 * 1024 * 1024 + 1), {}), (iter([b"x" * 65536] * 65), {"Transfer-Encoding": "chunked"})):
        connection = UnixHTTP(control.api)
        with contextlib.suppress(ConnectionError):
            connection.request("POST", "/v1/apply", body, headers, encode_chunked=bool(headers))
        check_error(Answer(connection.getresponse()), 413, "longer")
        connection.close()
    check_error(control.post("/v1/apply", b" " * (4 * 1024 * 1024)), 400, "JSON")
    check(control.get("/v1/status"), 200)


@case
def a_long_path_and_rubbish_hurt_nobody(control):
    expect(control.get("/v1/" + "x" * 600).status == 414)
    for rubbish in (b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"EHLO x\r\n", b"GET /v1/status HTTP/9.9\r\n\r\n", b"\x00" * 1000,
                    b"POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(PATIENCE)
            s.connect(str(control.api))
            s.sendall(rubbish)
            s.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):
                while s.recv(4096):
                    pass
    check(control.get("/v1/status"), 200)


@case
def a_connection_is_used_again(control):
    connection = UnixHTTP(control.api)
    for path, status in (("/v1/status", 200), ("/v1/nothing", 404), ("/metrics", 200)):
        connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        expect(response.status == status)
    connection.close()


# ---- status and settings ----

@case
def status_tells_of_control_and_warns_without_a_relay(control):
    got = check(control.get("/v1/status"), 200, relays=[])
    own = got["control"]
    expect(own["pid"] == control.process.pid and own["hostname"] == HOSTNAME and own["version"], own)
    expect(own["generation"] >= 1 and own["uptime"] >= 0, own)
    expect_in("no relay is attached", got["warnings"])


@case
def status_asks_each_relay(control):
    said = {"generation": 1, "uptime": 17, "cores": 2, "connections": 3, "draining": False, "queue": {"mails": 4}, "spool": {"bytes": 5}}
    control.relay("one", ops={"status": said})
    silent_socket = control.relay("two", ops={"status": {"ok": False, "error": "busy"}})
    wait_for("both relays", lambda: len(control.get("/v1/status").json["relays"]) == 2)
    got = control.get("/v1/status").json
    one, two = sorted(got["relays"], key=lambda r: r["instance"])
    expect((one["uptime"], one["cores"], one["connections"], one["queue"], one["spool"]) == (17, 2, 3, {"mails": 4}, {"bytes": 5}), one)
    expect(one["generation"] == got["control"]["generation"] and one["pid"] == os.getpid(), one)
    expect(two["error"] == "busy" and "relay two: busy" in got["warnings"], got)
    silent_socket.close()
    control.relays[0].close()
    wait_for("both to be gone", lambda: control.get("/v1/status").json["relays"] == [])


@case
def the_configuration_is_shown_as_yaml(control):
    import yaml
    answer, full = control.get("/v1/config"), control.get("/v1/config?full=1")
    expect(answer.headers["Content-Type"].startswith("text/yaml"), answer.headers)
    expect(yaml.safe_load(answer.body)["node"]["hostname"] == HOSTNAME)
    expect(len(full.body) > 2 * len(answer.body) and "timeouts" in yaml.safe_load(full.body))


# ---- documents ----

@case
def lists_end_in_what_is_built_in(control):
    for kind, builtin in (("profiles", ["default-in", "default-out"]), ("in_rules", ["default"]), ("out_rules", ["default"]), ("routes", [])):
        got = check(control.get(f"/v1/documents/{kind}"), 200)
        expect([d["id"] for d in got["documents"]] == builtin and all(d["builtin"] for d in got["documents"]), got)
    full = control.get("/v1/documents/profiles/default-in?full=1").json
    expect((full["level"], full["protocol"], full["remember"], full["names"]) == ("may", {"lowest": "TLSv1.2", "highest": ""}, 3600, []), full)
    check_error(control.get("/v1/documents/apples"), 404, "apples", "in_rules")
    check_error(control.get("/v1/documents/routes/x"), 404, "routes", "x")


@case
def documents_are_added_in_their_place(control):
    before = control.get("/v1/status").json["control"]["generation"]
    got = check(control.post("/v1/documents/in_rules", {"id": "b", "client": "192.0.2.0/24"}), 200, applied=[], pending=[], refused=[])
    expect(got["generation"] == before + 1, got)
    check(control.post("/v1/documents/in_rules", {"id": "c", "action": "reject"}), 200)
    check(control.post("/v1/documents/in_rules?before=b", {"id": "a", "action": "relay"}), 200)
    check(control.post("/v1/documents/in_rules?before=default", {"id": "d"}), 200)
    expect(ids(control, "in_rules") == ["a", "b", "c", "d", "default"])
    check(control.get("/v1/documents/in_rules/a"), 200, id="a", action="relay")
    check_error(control.post("/v1/documents/in_rules", {"id": "a"}), 409, "in_rules", "'a'")
    check_error(control.post("/v1/documents/in_rules", {"id": "default"}), 409, "built in")
    check_error(control.post("/v1/documents/in_rules?before=zz", {"id": "e"}), 404, "zz")
    expect(ids(control, "in_rules") == ["a", "b", "c", "d", "default"])


@case
def what_does_not_compile_changes_nothing(control):
    check(control.post("/v1/documents/profiles", {"id": "p"}), 200)
    before, generation = control.get("/v1/export").json, control.get("/v1/status").json["control"]["generation"]
    for kind, document, error in (
            ("profiles", {"id": "q", "level": "high"}, {"document": "q", "field": "level"}),
            ("profiles", {"id": "q", "groups": "no-such-group"}, {}),
            ("profiles", {"id": "q", "ca_pem": "no PEM text"}, {}),
            ("profiles", {"id": "q", "protocol": {"lowest": "TLSv1.3", "highest": "TLSv1.2"}}, {"document": "q"}),
            ("profiles", {"level": "may"}, {}),
            ("profiles", {"id": 5}, {}),
            ("profiles", {"id": "../q"}, {}),
            ("in_rules", {"id": "r", "client": "192.0.2.1/24"}, {"document": "r", "field": "client"}),
            ("in_rules", {"id": "r", "profile": "nobody"}, {"document": "r", "field": "profile"}),
            ("in_rules", {"id": "r", "colour": "red"}, {"document": "r"}),
            ("out_rules", {"id": "o", "destination": "x"}, {"document": "o", "field": "destination"}),
            ("routes", {"id": "t"}, {"document": "t"}),
            ("routes", {"id": "t", "domain": "example.test", "via": "hosts"}, {"document": "t", "field": "hosts"})):
        check_error(control.post(f"/v1/documents/{kind}", document), 400, **error)
    check_error(control.request("PATCH", "/v1/documents/profiles/p", {"level": "x"}), 400, document="p", field="level")
    check_error(control.post("/v1/apply", {"ca_pem": "-----BEGIN CERTIFICATE-----\nrubbish\n-----END CERTIFICATE-----\n"}), 400)
    check_error(control.post("/v1/apply", {"profile": []}), 400, "profile")
    expect(control.get("/v1/export").json == before)
    expect(control.get("/v1/status").json["control"]["generation"] == generation)


@case
def a_patch_merges_and_null_takes_out(control):
    check(control.post("/v1/documents/profiles", {"id": "p", "level": "verify", "names": ["a.example.test"], "protocol": {"lowest": "TLSv1.2"}}), 200)
    check(control.request("PATCH", "/v1/documents/profiles/p", {"names": None, "protocol": {"highest": "TLSv1.3"}, "bits": 128}), 200)
    expect(control.get("/v1/documents/profiles/p").json ==
           {"id": "p", "level": "verify", "protocol": {"lowest": "TLSv1.2", "highest": "TLSv1.3"}, "bits": 128})
    check_error(control.request("PATCH", "/v1/documents/profiles/p", {"id": "q"}), 400, "id")
    check_error(control.request("PATCH", "/v1/documents/profiles/p", {"id": None}), 400, "id")
    check_error(control.request("PATCH", "/v1/documents/profiles/q", {"level": "may"}), 404, "q")
    check_error(control.request("PATCH", "/v1/documents/in_rules/default", {"action": "relay"}), 409, "built in")
    # A built-in profile that is changed is the store's from then on, until it is removed.
    check(control.request("PATCH", "/v1/documents/profiles/default-out", {"level": "encrypt"}), 200)
    check(control.get("/v1/documents/profiles/default-out"), 200, level="encrypt")
    expect("builtin" not in control.get("/v1/documents/profiles/default-out").json)
    check(control.request("DELETE", "/v1/documents/profiles/default-out"), 200)
    check(control.get("/v1/documents/profiles/default-out"), 200, builtin=True)


@case
def rules_are_moved(control):
    check(control.post("/v1/apply", {"out_rules": [{"id": i} for i in "abcd"]}), 200)
    for where, order in (("d/move?before=a", "dabc"), ("d/move?before=last", "abcd"), ("a/move?before=c", "bacd"), ("b/move?before=default", "acdb")):
        check(control.post(f"/v1/documents/out_rules/{where}"), 200)
        expect(ids(control, "out_rules") == [*order, "default"], where)
    check_error(control.post("/v1/documents/out_rules/a/move"), 400, "before")
    check_error(control.post("/v1/documents/out_rules/a/move?before=a"), 400, "before itself")
    check_error(control.post("/v1/documents/out_rules/a/move?before=z"), 404, "z")
    check_error(control.post("/v1/documents/out_rules/z/move?before=a"), 404, "z")
    check_error(control.post("/v1/documents/out_rules/default/move?before=a"), 409, "built in")
    check_error(control.post("/v1/documents/routes/a/move?before=z"), 400, "no order", "the most specific domain counts")
    check_error(control.post("/v1/documents/profiles/a/move?before=z"), 400, "no order", "rules name them")


@case
def a_profile_in_use_stays(control):
    check(control.post("/v1/apply", {"profiles": [{"id": "p"}], "out_rules": [{"id": "r", "profile": "p", "enabled": False}]}), 200)
    check_error(control.request("DELETE", "/v1/documents/profiles/p"), 409, "'p'", "'r'")
    check(control.request("DELETE", "/v1/documents/out_rules/r"), 200)
    check(control.request("DELETE", "/v1/documents/profiles/p"), 200)
    check_error(control.request("DELETE", "/v1/documents/profiles/p"), 404, "p")
    check_error(control.request("DELETE", "/v1/documents/profiles/default-in"), 409, "built in")


@case
def apply_tells_what_it_changes_and_a_dry_run_only_tells(control):
    check(control.post("/v1/apply", {"profiles": [{"id": "p"}, {"id": "old"}], "in_rules": [{"id": i} for i in "abcd"],
                                     "routes": [{"id": "r", "domain": "a.example.test"}]}), 200)
    wanted = {"profiles": [{"id": "new"}, {"id": "p", "level": "encrypt"}], "in_rules": [{"id": i} for i in "dabc"],
              "routes": [{"domain": "a.example.test", "id": "r"}]}
    changes = [{"kind": "profiles", "id": "old", "change": "removed"}, {"kind": "profiles", "id": "new", "change": "added"},
               {"kind": "profiles", "id": "p", "change": "changed"}, {"kind": "in_rules", "id": "d", "change": "moved"}]
    before = control.get("/v1/export").json
    trial = check(control.post("/v1/apply?dry_run=1", wanted), 200, changes=changes, dry_run=True)
    expect(control.get("/v1/export").json == before)
    real = check(control.post("/v1/apply", wanted), 200, changes=changes)
    expect(real["generation"] == trial["generation"] + 1, trial, real)
    # What is there already is no new generation.
    check(control.post("/v1/apply", wanted), 200, changes=[], generation=real["generation"])
    check(control.post("/v1/apply", control.get("/v1/export").body), 200, changes=[], generation=real["generation"])
    check_error(control.post("/v1/apply?dry_run=1", {"profiles": [{"id": "x"}, {"id": "x"}]}), 400, "twice")


@case
def a_ca_set_is_kept_and_exported(control):
    # A certificate of our own makes a CA set as good as any.
    pem = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "/dev/null",
                          "-subj", "/CN=Test CA"], capture_output=True, text=True, check=True).stdout
    check(control.post("/v1/apply", {"ca_pem": pem}), 200, changes=[{"kind": "ca_pem", "id": "", "change": "added"}])
    expect(control.get("/v1/export").json["ca_pem"] == pem)
    # A change of one document leaves it alone.
    check(control.post("/v1/documents/profiles", {"id": "p"}), 200)
    expect(control.get("/v1/export").json["ca_pem"] == pem)
    # A profile may have its own.
    check(control.post("/v1/documents/profiles", {"id": "own", "ca_pem": pem}), 200)
    kept = {p["id"]: p.get("ca_pem", "") for p in control.get("/v1/export").json["profiles"]}
    expect(kept["own"] == pem and kept["p"] == "")


@case
def changes_at_once_are_made_one_after_the_other(control):
    before = control.get("/v1/status").json["control"]["generation"]
    answers = []

    def add(i):
        answers.append(control.post("/v1/documents/in_rules", {"id": f"r{i}"}))
    threads = [threading.Thread(target=add, args=(i % 20,)) for i in range(24)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    made = [a.json["generation"] for a in answers if a.status == 200]
    expect(sorted(made) == list(range(before + 1, before + 21)), made)
    expect(sorted(a.status for a in answers) == [200] * 20 + [409] * 4)
    expect(sorted(ids(control, "in_rules")) == sorted([f"r{i}" for i in range(20)] + ["default"]))
    empty(control)


# ---- relays and generations ----

@case
def a_relay_gets_the_generation_and_a_change_waits_for_it(control):
    relay = control.relay()
    relay.wait("a generation", lambda r: r.generations)
    expect(relay.generations == [control.get("/v1/status").json["control"]["generation"]], relay.generations)
    expect(relay.objects[0][:8] == b"hpolicy1"[:0] + (0x317963696c6f7068).to_bytes(8, "little") and b"PRIVATE KEY" in relay.objects[1])
    expect(b"PRIVATE KEY" not in relay.objects[0])
    got = check(control.post("/v1/documents/profiles", {"id": "p"}), 200, applied=["main"], pending=[], refused=[])
    expect(relay.generations[-1] == got["generation"])
    relay.close()


@case
def what_a_relay_refuses_is_told(control):
    relay, good = control.relay("bad", takes="no such thing \"here\""), control.relay("good")
    relay.wait("a generation", lambda r: r.generations)
    good.wait("a generation", lambda r: r.generations)
    check(control.post("/v1/documents/profiles", {"id": "p"}), 200, applied=["good"], pending=[],
          refused=[{"instance": "bad", "error": 'no such thing "here"'}])
    warnings = wait_for("the warning", lambda: [w for w in control.get("/v1/status").json["warnings"] if "refused" in w])
    expect_in("relay bad refused generation", warnings[0])
    relay.close()
    good.close()


@case
def relays_of_another_version_and_rubbish_are_sent_away(control):
    for hello in ({"type": "hello", "version": 2, "instance": "x", "pid": 1}, {"type": "hello", "version": 1, "pid": 1}, {"type": "applied"},
                  {"type": "hello", "version": 1, "instance": "", "pid": 1}, {"type": "hello", "version": 1, "instance": "x" * 64},
                  b"rubbish", b"[]", {"type": 7}):
        relay = control.relay("x", hello=hello)
        relay.wait("to be sent away", lambda r: r.is_gone)
    expect(control.get("/v1/status").json["relays"] == [])


@case
def a_relay_that_comes_anew_takes_the_place_of_the_old(control):
    old, new = control.relay(), control.relay()
    old.wait("to be sent away", lambda r: r.is_gone)
    new.wait("a generation", lambda r: r.generations)
    expect(len(control.get("/v1/status").json["relays"]) == 1)
    new.close()


@case
def more_relays_than_fit_are_sent_away(control):
    relays = [control.relay(f"r{i}") for i in range(16)]
    for relay in relays:
        relay.wait("a generation", lambda r: r.generations)
    extra = control.relay("extra")
    extra.wait("to be sent away", lambda r: r.is_gone)
    check(control.post("/v1/documents/profiles", {"id": "p"}), 200, pending=[], refused=[], applied=[f"r{i}" for i in range(16)])
    for relay in relays:
        relay.close()
    empty(control)


# ---- explain ----

POLICY = {
    "profiles": [{"id": "strict", "level": "encrypt"}, {"id": "sure", "level": "secure", "grade": "modern"}],
    "in_rules": [{"id": "off", "enabled": False, "action": "reject"},
                 {"id": "bad", "client": "198.51.100.0/24", "action": "reject"},
                 {"id": "own", "listener": "submission", "client": "192.0.2.0/24", "action": "relay", "profile": "strict"},
                 {"id": "off-too", "enabled": False, "recipient": "nobody@example.test"},
                 {"id": "boss", "sender": "boss@example.test", "profile": "sure"}],
    "out_rules": [{"id": "bank", "domain": ".bank.example.test", "profile": "strict"},
                  {"id": "host", "mx": "mx.big.example.test", "profile": "sure"}],
    "routes": [{"id": "all", "domain": "*"}, {"id": "in", "domain": "example.test", "inbound": True, "via": "hosts",
                                             "hosts": [{"host": "mx.example.test", "port": 2525}, {"host": "192.0.2.9", "tls": "smtps"}]}],
}


@case
def explain_tells_which_rule_counts_and_why_not_the_others(control):
    check(control.post("/v1/apply", POLICY), 200)
    got = check(control.post("/v1/explain", {"listener": "submission", "client": "192.0.2.9", "sender": "boss@example.test",
                                             "recipient": "x@example.test"}), 200)
    inbound = got["inbound"]
    expect((inbound["connect"]["rule"], inbound["connect"]["action"], inbound["connect"]["profile"]["id"]) == ("own", "relay", "strict"), inbound)
    expect((inbound["mail"]["rule"], inbound["mail"]["profile"]["level"], inbound["mail"]["profile"]["grade"]) == ("boss", "secure", "modern"))
    expect([(l["stage"], l["rule"], l["matched"]) for l in inbound["looked_at"]] ==
           [("connect", "off", False), ("connect", "bad", False), ("connect", "own", True), ("mail", "off-too", False), ("mail", "boss", True)], inbound["looked_at"])
    expect(inbound["looked_at"][0]["why"] == "it is disabled", inbound["looked_at"])
    expect(inbound["looked_at"][1]["why"] == "client 192.0.2.9 is not in 198.51.100.0/24", inbound["looked_at"])
    outbound = got["outbound"]
    expect(outbound["route"] == {"id": "in", "domain": "example.test", "inbound": True, "via": "hosts", "hosts": [
        {"host": "mx.example.test", "port": 2525, "tls": "smtp"}, {"host": "192.0.2.9", "port": 465, "tls": "smtps"}]}, outbound)
    expect((outbound["rule"], outbound["profile"]["id"]) == ("default", "default-out"), outbound)
    expect([l["why"] for l in outbound["looked_at"]] == ["domain example.test is not below .bank.example.test",
           "it wants host mx.big.example.test, and none is known", "all its criteria fit"], outbound["looked_at"])


@case
def a_disabled_route_is_passed_over_and_told(control):
    routes = [{"id": "old", "domain": "example.test", "enabled": False}, {"id": "new", "domain": "example.test"},
              {"id": "below", "domain": ".example.test", "enabled": False}, {"id": "all", "domain": "*", "enabled": False}]
    check(control.post("/v1/apply", {"routes": routes}), 200)
    for domain, route, disabled in (("Example.test.", "new", ["old", "all"]), ("a.example.test", None, ["below", "all"]),
                                    ("notexample.test", None, ["all"])):
        got = control.post("/v1/explain", {"domain": domain}).json["outbound"]
        expect((got["route"] or {}).get("id") == route and [r["id"] for r in got["disabled_routes"]] == disabled, got)
    check_error(control.request("PATCH", "/v1/documents/routes/old", {"enabled": True}), 400, "another than route 'old' has", document="new", field="domain")
    check(control.request("PATCH", "/v1/documents/routes/below", {"enabled": True}), 200)
    got = control.post("/v1/explain", {"domain": "a.example.test"}).json["outbound"]
    expect(got["route"]["id"] == "below" and [r["id"] for r in got["disabled_routes"]] == ["all"], got)


@case
def explain_takes_the_stricter_of_route_and_host(control):
    check(control.post("/v1/apply", POLICY), 200)
    got = control.post("/v1/explain", {"domain": "a.bank.example.test", "mx": "MX.big.example.test", "address": "203.0.113.1"}).json["outbound"]
    expect((got["rule"], got["stage"], got["route"]["id"], got["route"]["via"]) == ("bank", "route", "all", "mx"), got)
    got = control.post("/v1/explain", {"domain": "x.example.test", "mx": "mx.big.example.test"}).json["outbound"]
    expect((got["rule"], got["stage"], got["profile"]["id"]) == ("host", "host", "sure"), got)


@case
def explain_of_nothing_is_the_defaults(control):
    got = check(control.post("/v1/explain", {}), 200, outbound=None)
    expect(got["inbound"]["connect"]["rule"] == "default" and got["inbound"]["mail"] is None, got)
    expect(control.post("/v1/explain", {"recipient": "a@b.example.test"}).json["outbound"]["route"] is None)


@case
def explain_refuses_what_it_does_not_understand(control):
    for body, words in (({"client": "here"}, ("client", "here")), ({"address": "192.0.2"}, ("address",)), ({"listener": "x25"}, ("listener", "x25")),
                        ({"sender": 5}, ("sender", "text")), ({"colour": "red"}, ("colour", "listener")), ({"mx": "a\x00b"}, ("mx",))):
        check_error(control.post("/v1/explain", body), 400, *words)


# ---- certificates ----

def openssl(*args, stdin=None):
    return subprocess.run(["openssl", *args], input=stdin, capture_output=True, text=True, check=True).stdout


def make_chain(folder, name="mx.example.test", days="20"):
    """A key, its certificate, and the CA that signed it, as texts."""
    ca, key = folder / "ca.key", folder / "leaf.key"
    root = openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", ca, "-subj", "/CN=Test CA")
    (folder / "ca.pem").write_text(root)
    request = openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-subj", f"/CN={name}",
                      "-addext", f"subjectAltName=DNS:{name}")
    leaf = openssl("x509", "-req", "-CA", folder / "ca.pem", "-CAkey", ca, "-days", days, "-copy_extensions", "copy", stdin=request)
    return key.read_text(), leaf, root


@case
def the_first_certificate_is_our_own(control):
    certs = check(control.get("/v1/certs"), 200)["certs"]
    expect(len(certs) == 1 and certs[0]["id"] == "self-signed" and certs[0]["active"] and certs[0]["default"], certs)
    expect(certs[0]["names"] == [HOSTNAME] and certs[0]["key_type"] == "ECDSA P-256" and certs[0]["days_left"] in (824, 825), certs)
    one = check(control.get("/v1/certs/self-signed"), 200, id="self-signed")
    expect(len(one["chain"]) == 1 and one["chain"][0]["subject"] == one["subject"], one)
    check_error(control.get("/v1/certs/none"), 404, "none")


@case
def certificates_are_made(control):
    relay = control.relay()
    relay.wait("a generation", lambda r: r.generations)
    got = check(control.post("/v1/certs", {"id": "rsa", "names": ["a.example.test", "*.b.example.test"], "days": 10, "key": "rsa", "default": True}),
                200, applied=["main"])
    expect(got["cert"]["key_type"] == "RSA 2048" and got["cert"]["default"] and got["cert"]["names"] == ["a.example.test", "*.b.example.test"], got)
    expect(relay.objects[1].count(b"BEGIN PRIVATE KEY") == 2)
    check_error(control.post("/v1/certs", {"id": "rsa"}), 409, "rsa")
    relay.close()
    expect([(c["id"], c["default"]) for c in control.get("/v1/certs").json["certs"]] == [("rsa", True), ("self-signed", False)])
    warnings = control.get("/v1/status").json["warnings"]
    expect(any(re.fullmatch("certificate rsa ends in (9|10) days", w) for w in warnings), warnings)
    for body, word in (({}, "id"), ({"id": ""}, "id"), ({"id": "a b"}, "id"), ({"id": ".x"}, "id"), ({"id": "x" * 64}, "id"), ({"id": "x", "days": 0}, "days"),
                       ({"id": "x", "days": 4000}, "days"), ({"id": "x", "days": "9"}, "days"), ({"id": "x", "key": "dsa"}, "key"), ({"id": "x", "key": 1}, "key"),
                       ({"id": "x", "names": []}, "names"), ({"id": "x", "names": "a"}, "names"), ({"id": "x", "names": [1]}, "names"),
                       ({"id": "x", "names": ["a..b"]}, "a..b"), ({"id": "x", "names": ["a"] * 101}, "names"), ({"id": "x", "color": 1}, "color")):
        check_error(control.post("/v1/certs", body), 400, word)


@case
def a_pem_in_any_order_is_imported(control):
    key, leaf, root = make_chain(control.folder)
    got = check(control.post("/v1/certs/import?id=mx", "some text\n" + root + leaf + key), 200)
    expect(got["cert"]["issuer"] == "CN=Test CA" and got["cert"]["active"] and not got["cert"]["default"], got)
    warnings = control.get("/v1/status").json["warnings"]
    expect(any(re.fullmatch("certificate mx ends in (19|20) days", w) for w in warnings), warnings)
    check_error(control.post("/v1/certs/import?id=mx", leaf + key), 409, "mx")
    # A new one in the place of the old, as for a renewal.
    key2, leaf2, _ = make_chain(control.folder)
    got = check(control.post("/v1/certs/import?id=mx&replace=1&default=1", leaf2 + key2), 200)
    expect(got["cert"]["default"], got)
    check(control.get("/v1/certs/mx"), 200, fingerprint=got["cert"]["fingerprint"], default=True, active=True)
    for body, word in (("", ""), ("rubbish", ""), (leaf, "key"), (key, "certificate"), (leaf + key2, ""), (key + key2 + leaf, ""),
                       (leaf.replace("MII", "AAA", 1) + key, "")):
        check_error(control.post("/v1/certs/import?id=other", body), 400, word)
    check_error(control.post("/v1/certs/import", leaf + key), 400, "id")
    check_error(control.post("/v1/certs/import?id=other", "x" * 300000), 413, "PEM")
    check_error(control.get("/v1/certs/other"), 404, "other")


@case
def certificates_are_switched_and_removed(control):
    check(control.post("/v1/certs", {"id": "second"}), 200)
    check_error(control.request("DELETE", "/v1/certs/second"), 409, "second", "deactivate")
    check(control.post("/v1/certs/self-signed/deactivate"), 200)
    expect([(c["id"], c["active"], c["default"]) for c in control.get("/v1/certs").json["certs"]] ==
           [("second", True, True), ("self-signed", False, False)])
    check_error(control.post("/v1/certs/second/deactivate"), 409, "only active")
    got = check(control.post("/v1/certs/self-signed/activate?default=1"), 200)
    check(control.post("/v1/certs/self-signed/activate"), 200, generation=got["generation"])  # nothing new
    check(control.get("/v1/certs/self-signed"), 200, default=True)
    check(control.post("/v1/certs/second/deactivate"), 200)
    check(control.request("DELETE", "/v1/certs/second"), 200)
    for method, path in (("POST", "/v1/certs/second/activate"), ("POST", "/v1/certs/second/deactivate"), ("DELETE", "/v1/certs/second")):
        check_error(control.request(method, path), 404, "second")


@case
def an_expired_certificate_is_told(control):
    key, leaf, root = make_chain(control.folder)
    request = openssl("req", "-new", "-key", control.folder / "leaf.key", "-subj", "/CN=old.example.test")
    old = openssl("x509", "-req", "-CA", control.folder / "ca.pem", "-CAkey", control.folder / "ca.key", "-not_before", "20200101000000Z",
                  "-not_after", "20210101000000Z", stdin=request)
    got = check(control.post("/v1/certs/import?id=old", old + key), 200)
    expect(got["cert"]["days_left"] < -1000, got)
    expect_in("certificate old ended on 2021-01-01T00:00:00Z", control.get("/v1/status").json["warnings"])


@case
def keys_never_leave(control):
    key, leaf, root = make_chain(control.folder)
    check(control.post("/v1/certs/import?id=mx", leaf + key), 200)
    secret = "".join(key.splitlines()[1:-1])[20:60]
    for path in ("/v1/status", "/v1/export", "/v1/certs", "/v1/certs/mx", "/v1/config?full=1", "/metrics", "/v1/documents/profiles"):
        body = control.get(path).body.decode()
        expect("PRIVATE" not in body and secret not in body.replace("\n", "").replace("\\n", ""), path)
    expect("PRIVATE" not in control.log())
    expect(stat.S_IMODE(control.store.stat().st_mode) == 0o600)
    for extra in control.folder.glob("store.db?*"):
        expect(stat.S_IMODE(extra.stat().st_mode) == 0o600, extra)
    empty(control)


# ---- queue ----

@case
def without_a_relay_the_queue_is_503(control):
    for method, path in (("GET", "/v1/queue"), ("GET", "/v1/queue/0000000000001/content"), ("POST", "/v1/queue/retry?all=1")):
        check_error(control.request(method, path), 503, "no relay")
    check_error(control.get("/v1/queue?instance=x"), 503, "x")


@case
def queues_of_all_relays_are_joined(control):
    one = control.relay("one", ops={"queue.list": {"items": [item(1), item(4)], "more": False}, "queue.hold": {"changed": 2}})
    two = control.relay("two", ops={"queue.list": {"items": [item(2), item(3)], "more": True}, "queue.hold": {"changed": 3}})
    for relay in (one, two):
        relay.wait("a generation", lambda r: r.generations)
    # Relay two may have more behind its last item, before relay one's: it is not passed over.
    got = check(control.get("/v1/queue?domain=b.example.test&reason=4.4.3&sender=a@example.test&state=waiting&after=0000000000000&limit=50"), 200, more=True)
    expect([(i["instance"], int(i["queue_id"])) for i in got["items"]] == [("one", 1), ("two", 2), ("two", 3)], got)
    expect(got["next"] == "0000000000003.0", got)
    asked = one.requests[-1]
    expect({k: v for k, v in asked.items() if k not in ("type", "token")} ==
           {"op": "queue.list", "domain": "b.example.test", "reason": "4.4.3", "sender": "a@example.test", "state": "waiting",
            "after": "0000000000000", "limit": 50}, asked)
    got = check(control.get("/v1/queue?limit=3"), 200, more=True)
    expect([int(i["queue_id"]) for i in got["items"]] == [1, 2, 3], got)
    # A page may end within a mail; the next one goes on there.
    two.ops["queue.list"] = {"items": [item(2), {**item(2), "item": 7}, item(3)], "more": False}
    got = check(control.get("/v1/queue?limit=2"), 200, more=True, next="0000000000002.0")
    expect([int(i["queue_id"]) for i in got["items"]] == [1, 2], got)
    check(control.get("/v1/queue?limit=3"), 200, more=True, next="0000000000002.7")
    check(control.get("/v1/queue?limit=3&after=0000000000002.0"), 200)
    expect(one.requests[-1]["after"] == "0000000000002.0", one.requests[-1])
    got = check(control.get("/v1/queue?limit=5"), 200, more=False)
    expect("next" not in got, got)
    got = check(control.get("/v1/queue?instance=one"), 200, more=False)
    expect([int(i["queue_id"]) for i in got["items"]] == [1, 4], got)
    check(control.post("/v1/queue/hold?domain=b.example.test"), 200, changed=5)
    check_error(control.post("/v1/queue/hold"), 400, "all=1")
    check(control.post("/v1/queue/hold?all=1&instance=two"), 200, changed=3)
    check_error(control.post("/v1/queue/eat?all=1"), 404, "eat", "retry")
    one.close()
    two.close()


@case
def what_a_relay_says_is_passed_on(control):
    def content(request):
        if request["queue_id"] == "0000000000001":
            return {"data": "QUJD", "offset": request["offset"], "size": 3, "content_size": 10}
        return {"ok": False, "error": "the mail is not in the spool any more"}
    relay = control.relay(ops={"queue.content": content, "queue.list": {"ok": False, "error": "state: expected routing, ready"},
                               "queue.retry": {"ok": False, "error": "queue_id: not a queue id"}})
    relay.wait("a generation", lambda r: r.generations)
    expect(control.get("/v1/queue/0000000000001/content?offset=7").json ==
           {"data": "QUJD", "offset": 7, "size": 3, "content_size": 10, "instance": "main"})
    check_error(control.get("/v1/queue/0000000000002/content"), 404, "0000000000002", "spool")
    check_error(control.get("/v1/queue/0000000000001/content?offset=x"), 400, "offset")
    check_error(control.get("/v1/queue?state=x"), 400, "state")
    check_error(control.post("/v1/queue/retry?queue_id=x"), 400, "queue_id")
    relay.close()


# ---- log ----

@case
def the_last_records_are_shown(control):
    expect(control.get("/v1/log").body == b"")
    lines = [json.dumps({"n": i, "text": "x" * 50}) for i in range(500)]
    control.records.write_text("\n".join(lines) + "\n{\"half")
    for count in (0, 1, 10, 499, 500, 501, 10000):
        got = control.get(f"/v1/log?lines={count}").body.decode().splitlines()
        expect(got == (lines[-count:] if count else []), count, len(got))
    expect(len(control.get("/v1/log").body.splitlines()) == 10)
    control.records.unlink()


@case
def of_a_huge_file_only_the_end_is_read(control):
    line = json.dumps({"text": "x" * 9990})
    control.records.write_text((line + "\n") * 1000)
    got = control.get("/v1/log?lines=10000").body.decode().splitlines()
    expect(0 < len(got) < 1000 and all(g == line for g in got), len(got))
    control.records.unlink()


def read_line(response):
    return response.readline().decode().strip()


@case
def records_are_followed_also_past_a_rotation(control):
    control.records.write_text('{"n":1}\n{"n":2}\n')
    connection = UnixHTTP(control.api)
    connection.request("GET", "/v1/log?lines=1&follow=1")
    response = connection.getresponse()
    expect(response.status == 200 and read_line(response) == '{"n":2}')
    with open(control.records, "a") as f:
        f.write('{"n":3}\n')
    expect(read_line(response) == '{"n":3}')
    control.records.rename(control.folder / "records.old")
    control.records.write_text('{"n":4, "longer": "than what comes in its place"}\n')
    expect(json.loads(read_line(response))["n"] == 4)
    control.records.write_text('{"n":5}\n')
    expect(read_line(response) == '{"n":5}')
    connection.close()
    control.records.unlink()


@case
def followers_that_go_give_their_threads_back(control):
    def threads():
        return len(os.listdir(f"/proc/{control.process.pid}/task"))
    connections = [UnixHTTP(control.api) for _ in range(20)]
    for c in connections:
        c.request("GET", "/v1/log?follow=1")
    wait_for("20 followers", lambda: threads() > 20)
    for c in connections:
        c.close()
    wait_for("their threads to end", lambda: threads() < 10)


# ---- metrics ----

def parse_openmetrics(text):
    """A checker of what OpenMetrics 1.0 asks of a text; family -> (type, {labels: value})."""
    expect(text.endswith("# EOF\n") and text.count("# EOF") == 1)
    families, name = {}, None
    for line in text.splitlines()[:-1]:
        if m := re.fullmatch(r"# TYPE ([a-zA-Z_:][\w:]*) (counter|gauge|info)", line):
            name = m[1]
            expect(name not in families, f"family {name} twice")
            families[name] = (m[2], {})
        elif m := re.fullmatch(r"# HELP (\S+) (.*)", line):
            expect(m[1] == name and not families[name][1], line)
            expect(re.fullmatch(r'(?:[^\\"\n]|\\[\\"n])*', m[2]), line)
        else:
            m = re.fullmatch(r'([a-zA-Z_:][\w:]*)(?:\{((?:[a-z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)+)\})? (-?[0-9.e+]+)', line)
            expect(m, f"not a sample: {line}")
            expect(m[1] == name + {"counter": "_total", "gauge": "", "info": "_info"}[families[name][0]], line)
            expect(m[2] not in families[name][1], f"sample twice: {line}")
            families[name][1][m[2]] = float(m[3])
    return families


@case
def metrics_are_openmetrics_with_all_relays(control):
    series = [("hikyaku_mails_total", "", "Mails.", 0, 5), ("hikyaku_tcp_segments_in", 'core="0"', "Segments \"in\".\nMore \\.", 0, 7),
              ("hikyaku_queue_mails", "", "", 1, 3), ("hikyaku_tcp_segments_in", 'core="1"', "", 0, 2**63),
              ("bad name", "", "", 0, 1), ("hikyaku_bad", 'core="0', "", 0, 1), ("hikyaku_bad", 'a="b"} 1\nx{c="d"', "", 0, 1),
              ("hikyaku_bad", 'instance="x"', "", 0, 1)]
    one, two = control.relay("one", series=series), control.relay("two", series=series[:3] + [("hikyaku_queue_mails2", "", "", 0, 1)])
    for relay in (one, two):
        relay.wait("a generation", lambda r: r.generations)
    answer = control.get("/metrics")
    expect(answer.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8")
    families = wait_for("both generations in force", lambda: (f := parse_openmetrics(control.get("/metrics").body.decode()))
                        and all(f["hikyaku_control_relay_generation"][1].values()) and f)
    expect(families["hikyaku_mails"] == ("counter", {'instance="one"': 5, 'instance="two"': 5}), families["hikyaku_mails"])
    expect(families["hikyaku_tcp_segments_in"][1] == {'instance="one",core="0"': 7, 'instance="one",core="1"': 2**63, 'instance="two",core="0"': 7})
    expect(families["hikyaku_queue_mails"] == ("gauge", {'instance="one"': 3, 'instance="two"': 3}))
    expect("hikyaku_bad" not in families)
    generation = control.get("/v1/status").json["control"]["generation"]
    expect(families["hikyaku_control_generation"][1][None] == generation)
    expect(families["hikyaku_control_relay_generation"][1] == {'instance="one"': generation, 'instance="two"': generation})
    expect(families["hikyaku_control_relay_counted_seconds"][1]['instance="one"'] == 1_700_000_000)
    expect(list(families["hikyaku_control_certificate_end_seconds"][1]) == ['id="self-signed"'])
    expect(families["hikyaku_control_build"][0] == "info")
    one.close()
    two.close()
    parse_openmetrics(control.get("/metrics").body.decode())


@case
def counters_are_told_as_json_by_family(control):
    check_error(control.get("/v1/counters"), 503, "no relay")
    series = [("hikyaku_tcp_segments_in", 'core="0"', "Segments in.", 0, 7), ("hikyaku_queue_items", 'state="held"', "", 1, 3),
              ("hikyaku_tcp_segments_in", 'core="1"', "", 0, 2**63), ("hikyaku_bad", 'core="0', "", 0, 1)]
    one, two = control.relay("one", series=series), control.relay("two", series=series[:1])
    for relay in (one, two):
        relay.wait("a generation", lambda r: r.generations)
    got = check(control.get("/v1/counters"), 200)["counters"]
    expect(got == [
        {"name": "hikyaku_queue_items", "help": "", "type": "gauge", "values": [{"instance": "one", "state": "held", "value": 3}]},
        {"name": "hikyaku_tcp_segments_in", "help": "Segments in.", "type": "counter", "values": [
            {"instance": "one", "core": "0", "value": 7}, {"instance": "one", "core": "1", "value": 2**63},
            {"instance": "two", "core": "0", "value": 7}]}], got)
    got = check(control.get("/v1/counters?instance=two"), 200)["counters"]
    expect([v["instance"] for c in got for v in c["values"]] == ["two"], got)
    check_error(control.get("/v1/counters?instance=three"), 503)
    one.close()
    two.close()


# ---- connections ----

@case
def connections_come_page_by_page_and_relay_by_relay(control):
    check_error(control.get("/v1/connections"), 503, "no relay")
    asked = []

    def pages(request):
        asked.append({k: v for k, v in request.items() if k not in ("type", "token", "op")})
        if "after" in request:
            return {"items": [{"id": "0.300.1"}]}
        return {"items": [{"id": "0.1.1"}], "next": "0.2", "counts": [{"core": 0, "connections": 2}]}
    two, one = control.relay("two", ops={"connections.list": pages}), control.relay("one", ops={
        "connections.list": {"items": [{"id": "0.1.1"}], "counts": []}})
    wait_for("both relays", lambda: len(control.get("/v1/status").json["relays"]) == 2)
    got, after = [], ""
    while after is not None:
        page = check(control.get("/v1/connections?port=25&state=ESTABLISHED&limit=1" + (after and "&after=" + after)), 200)
        got += [(i["instance"], i["id"]) for i in page["items"]]
        after = page.get("next")
    expect(got == [("one", "0.1.1"), ("two", "0.1.1"), ("two", "0.300.1")], got)
    expect(asked == [{"state": "ESTABLISHED", "limit": 1, "port": 25},
                     {"after": "0.2", "state": "ESTABLISHED", "limit": 1, "port": 25}], asked)
    page = check(control.get("/v1/connections?instance=one"), 200)
    expect("next" not in page and len(page["items"]) == 1, page)
    for query in ("port=65536", "port=x", "limit=-1", "after=x", "after=" + 70 * "x" + "/", "colour=red"):
        check_error(control.get("/v1/connections?" + query), 400)
    check_error(control.get("/v1/connections?instance=three"), 503, "three")
    check_error(control.get("/v1/connections?after=three/0.1"), 503, "three")
    one.close()
    two.close()


@case
def a_connection_is_ended_on_the_relay_that_is_meant(control):
    ended = []

    def end(request):
        ended.append(request["id"])
        return {} if request["id"] == "0.1.2" else {"ok": False, "error": "there is no such connection (any more)"}
    one = control.relay("one", ops={"connections.end": end})
    one.wait("a generation", lambda r: r.generations)
    check(control.request("DELETE", "/v1/connections/0.1.2"), 200, instance="one")
    check_error(control.request("DELETE", "/v1/connections/0.1.3"), 400, "no such connection")
    two = control.relay("two")
    two.wait("a generation", lambda r: r.generations)
    check_error(control.request("DELETE", "/v1/connections/0.1.2"), 400, "several")
    check(control.request("DELETE", "/v1/connections/0.1.2?instance=one"), 200)
    expect(ended == ["0.1.2", "0.1.3", "0.1.2"], ended)
    one.close()
    two.close()


@case
def watching_is_passed_on_to_the_one_relay(control):
    got = []

    def take(request):
        got.append({k: v for k, v in request.items() if k not in ("token", "type")})
        return {"id": 3} if request["op"].endswith("start") else {"events": [], "over": True}
    one = control.relay("one", ops={f"{kind}.{op}": take for kind in ("trace", "capture") for op in ("start", "read", "stop")})
    one.wait("a generation", lambda r: r.generations)
    for kind in ("trace", "capture"):
        got.clear()
        expect(check(control.post(f"/v1/{kind}", {"port": "lan0", "op": "queue.remove", "token": 1}), 200) == {
            "id": 3, "instance": "one"})
        check(control.get(f"/v1/{kind}/3"), 200, over=True)
        check(control.request("DELETE", f"/v1/{kind}/3"), 200)
        expect(got == [{"port": "lan0", "op": f"{kind}.start"}, {"id": 3, "op": f"{kind}.read"}, {"id": 3, "op": f"{kind}.stop"}], got)
        check_error(control.post(f"/v1/{kind}", "x"), 400, "JSON")
    two = control.relay("two")
    two.wait("a generation", lambda r: r.generations)
    check_error(control.post("/v1/trace", {}), 400, "several")
    check(control.post("/v1/trace?instance=one", {}), 200)
    one.close()
    two.close()


# ---- the life of the process ----

@case
def the_sockets_are_for_those_who_may(control):
    expect(stat.S_IMODE(control.api.stat().st_mode) == 0o660 and stat.S_IMODE(control.link.stat().st_mode) == 0o600)
    expect(control.api.stat().st_gid == control.folder.stat().st_gid)


@case
def the_socket_is_of_its_folders_group(control):
    folder = control.folder / "run"
    folder.mkdir()
    os.chown(folder, 0, 4242)
    config = control.folder / "other.yaml"
    control.write_config(config, paths={"store": str(control.folder / "other.db"), "control_socket": str(folder / "c.sock"), "api_socket": str(folder / "a.sock")})
    other = control.spawn(config)
    wait_for("its API", (folder / "a.sock").exists)
    wait_for("its group", lambda: (folder / "a.sock").stat().st_gid == 4242 and stat.S_IMODE((folder / "a.sock").stat().st_mode) == 0o660)
    other.terminate()
    expect(other.wait(PATIENCE) == 0 and not (folder / "a.sock").exists() and not (folder / "c.sock").exists())


@case
def a_second_control_is_refused(control):
    def refused(**paths):
        config = control.folder / "second.yaml"
        control.write_config(config, paths=paths)
        before = len(control.log())
        expect(control.spawn(config).wait(PATIENCE) == 78)
        return control.log()[before:]
    other = {name: str(control.folder / f"second.{name}") for name in ("store", "control_socket", "api_socket")}
    expect_in("another hikyaku-control has it open (paths.store)", refused(**{**other, "store": str(control.store)}))
    expect_in("another hikyaku-control is running there", refused(**{**other, "control_socket": str(control.link)}))
    expect_in("another hikyaku-control is running there", refused(**{**other, "api_socket": str(control.api)}))
    (control.folder / "file").write_text("")
    expect_in("File exists", refused(**{**other, "api_socket": str(control.folder / "file")}))
    expect_in("No such file", refused(**{**other, "api_socket": str(control.folder / "none" / "a.sock")}))
    expect_in("cannot open the store", refused(**{**other, "store": str(control.folder / "none" / "s.db")}))
    check(control.get("/v1/status"), 200)


@case
def a_store_that_is_none_is_refused(control):
    (control.folder / "bad.db").write_bytes(b"this is no database" * 100)
    config = control.folder / "bad.yaml"
    control.write_config(config, paths={"store": str(control.folder / "bad.db"), "control_socket": str(control.folder / "b.sock"),
                                        "api_socket": str(control.folder / "ba.sock")})
    expect(control.spawn(config).wait(PATIENCE) == 78)
    expect_in("bad.db", control.log())


@case
def the_command_line_answers(control):
    def run(*args):
        return subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=PATIENCE)
    expect(run("--version").stdout.startswith("hikyaku-control 0."))
    expect("usage" in run("--help").stdout)
    expect(run("--nothing").returncode == 64)
    expect(run("--config", str(control.config), "--check").returncode == 0)
    bad = run("--config", str(control.folder / "missing.yaml"))
    expect(bad.returncode == 78 and "missing.yaml" in bad.stderr, bad)


@case
def a_killed_control_comes_back_with_all_it_had(control):
    import signal
    check(control.post("/v1/apply", POLICY), 200)
    check(control.post("/v1/certs", {"id": "kept", "default": True}), 200)

    def all_of_it():
        certs = [{k: v for k, v in c.items() if k != "days_left"} for c in control.get("/v1/certs").json["certs"]]
        return control.get("/v1/export").json, certs, control.get("/v1/status").json["control"]["generation"]
    before = all_of_it()
    relay = control.relay()
    relay.wait("a generation", lambda r: r.generations)
    objects = relay.objects
    control.stop(signal.SIGKILL)
    relay.wait("the end", lambda r: r.is_gone)
    control.start()
    expect(all_of_it() == before)
    again = control.relay()
    again.wait("a generation", lambda r: r.generations)
    expect(again.generations == [before[2]] and again.objects == objects)
    again.close()


@case
def a_change_is_there_once_it_is_answered_whatever_comes(control):
    import signal
    for i in range(5):
        check(control.post("/v1/documents/profiles", {"id": f"p{i}"}), 200)
        control.stop(signal.SIGKILL)
        control.start()
    expect(ids(control, "profiles") == [f"p{i}" for i in range(5)] + ["default-in", "default-out"])


@case
def hangup_makes_relays_open_their_records_again(control):
    import signal
    relay = control.relay()
    relay.wait("a generation", lambda r: r.generations)
    control.process.send_signal(signal.SIGHUP)
    relay.wait("to be told", lambda r: any(q["op"] == "records.reopen" for q in r.requests))
    relay.close()


@case
def it_stops_also_while_requests_wait(control):
    relay = control.relay("slow", takes=False)
    relay.wait("a generation", lambda r: r.generations)
    follower = UnixHTTP(control.api)
    follower.request("GET", "/v1/log?follow=1")

    def wait_in_vain():
        with contextlib.suppress(OSError, http.client.HTTPException):
            control.post("/v1/documents/profiles", {"id": "p"})
    waiting = threading.Thread(target=wait_in_vain)
    waiting.start()
    relay.wait("the change", lambda r: len(r.generations) == 2)
    expect(control.stop() == 0)
    waiting.join()
    follower.close()
    relay.close()
    expect(not control.api.exists() and not control.link.exists())
    control.start()
    expect("p" in ids(control, "profiles"))


sys.exit(run(Control()))
