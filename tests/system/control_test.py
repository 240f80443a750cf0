# SPDX-License-Identifier: Apache-2.0
"""The control plane and the relay, each without the other for a while; changes of the policy and what is said of them;
routes by DNS; counters and records.
"""

import json
import os
import re
import signal
import socket
import sys
import time

from cases import case, expect, expect_in, main
from peers import Client, Dns, Sink, add_address, api, metrics, submit
import lab
from lab import HOSTNAME, PATIENCE, RELAY_V4, Lab, LabError, run, wait_for

SENDER = "alice@sender.example.test"
FIRST, SECOND, V4, V6, STATIC = ("203.0.113.41", "203.0.113.42", "203.0.113.43", "2001:db8:0:3::44", "203.0.113.45")
ZONE = {
    ("pref.example.test", "MX"): ["20 second.example.test.", "10 first.example.test."],
    ("first.example.test", "A"): [FIRST], ("second.example.test", "A"): [SECOND],
    ("families.example.test", "MX"): ["10 both.example.test."],
    ("both.example.test", "A"): [V4], ("both.example.test", "AAAA"): [V6],
    ("six.example.test", "MX"): ["10 six-host.example.test."], ("six-host.example.test", "AAAA"): [V6],
    ("bare.example.test", "A"): [FIRST],
    ("nullmx.example.test", "MX"): ["0 ."],
    ("fails.example.test", "MX"): "SERVFAIL",
    ("silent.example.test", "MX"): "SILENCE",
    ("nohost.example.test", "MX"): ["10 missing.example.test."],
    ("loop.example.test", "MX"): [f"10 {HOSTNAME}."], (HOSTNAME, "A"): [RELAY_V4],
    ("looped.example.test", "MX"): ["10 alias.example.test."], ("alias.example.test", "A"): [RELAY_V4],
    ("backup.example.test", "MX"): [f"20 {HOSTNAME}.", "10 first.example.test.", "30 second.example.test."],
    ("known.example.test", "MX"): ["10 first.example.test."],
}
POLICY = {
    "profiles": [{"id": "strict", "level": "encrypt"}],
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay"}],
    "out_rules": [{"id": "partner", "domain": ".partner.example.test", "profile": "strict"}],
    "routes": [{"id": "static", "domain": "static.example.test", "via": "hosts", "hosts": [{"host": STATIC}]},
               {"id": "world", "domain": "*", "via": "mx"}],
}


def tries(l, queue_id, count=1, **match):
    return l.wait_for_records(count, queue_id=queue_id, direction="out", **match)


def arrives(sink, marker, seconds=20):
    return wait_for(f"{marker} at {sink.address}", seconds, lambda: sink.bearing(marker))[0]


def status(l):
    return api(l, "GET", "/v1/status")


def attached(l, generation=None):
    """The relay as control sees it, once it has that generation (or control's own) in force."""
    def look():
        s = status(l)
        want = s["control"]["generation"] if generation is None else generation
        return next((r for r in s["relays"] if r["generation"] == want), None)
    return wait_for("the relay to be attached with the generation in force", 15, look)


# ---- routes by DNS ----

@case
def the_preferred_mx_is_used_and_the_next_one_when_it_is_down(l):
    queue_id = submit(l, "bob@pref.example.test", "pref-1", SENDER)
    arrives(l.first, "pref-1")
    record = tries(l, queue_id)[0]
    expect(record["relay"] == "first.example.test" and record["dest_ip"] == FIRST, record)
    l.first.stop()
    submit(l, "bob@pref.example.test", "pref-2", SENDER)
    arrives(l.second, "pref-2")
    l.first = Sink(l, FIRST)


@case
def addresses_of_both_families_are_tried(l):
    v6 = Sink(l, V6)
    submit(l, "bob@six.example.test", "six", SENDER)
    arrives(v6, "six")
    submit(l, "bob@families.example.test", "families-1", SENDER)
    arrives(v6, "families-1")
    v6.stop()
    v4 = Sink(l, V4)
    submit(l, "bob@families.example.test", "families-2", SENDER)
    arrives(v4, "families-2")


@case
def a_domain_without_mx_is_its_own_host(l):
    submit(l, "bob@bare.example.test", "bare", SENDER)
    arrives(l.first, "bare")


@case
def a_backup_mx_sends_only_to_better_ones(l):
    submit(l, "bob@backup.example.test", "backup", SENDER)
    arrives(l.first, "backup")
    expect(not l.second.bearing("backup"))


@case
def domains_that_cannot_take_mail_bounce_with_their_reason(l):
    for domain, reason in (("nullmx", "5.1.10 "), ("missing-domain", "5.1.2 "), ("nohost", "5.1.2 "),
                           ("loop", "5.4.6 "), ("looped", "5.4.6 ")):
        record = tries(l, submit(l, f"bob@{domain}.example.test", domain, SENDER))[0]
        expect(record["disposition"] == "bounced" and record["reason"].startswith(reason), domain, record)
    dsn = arrives(l.static_sender, "nullmx")["content"].decode()
    for part in ("Status: 5.1.10", "Action: failed", "null MX"):
        expect_in(part, dsn)


@case
def a_failing_or_silent_dns_server_defers_and_the_mail_goes_when_it_answers(l):
    for domain in ("fails", "silent"):
        queue_id = submit(l, f"bob@{domain}.example.test", domain, SENDER)
        record = tries(l, queue_id)[0]
        expect(record["disposition"] == "deferred" and record["reason"].startswith("4.4.3 "), domain, record)
        l.dns.zone[(f"{domain}.example.test", "MX")] = ["10 first.example.test."]
        arrives(l.first, domain, 60)


# ---- one without the other ----

@case
def without_control_mail_goes_on_and_what_is_not_known_waits(l):
    submit(l, "bob@known.example.test", "known-1", SENDER)
    arrives(l.first, "known-1")
    before = status(l)["control"]
    l.control.kill()
    l.control.wait()
    for to, sink in (("known", l.first), ("static", l.static)):
        submit(l, f"bob@{to}.example.test", f"alone-{to}", SENDER)
        arrives(sink, f"alone-{to}")
    l.dns.zone[("unknown.example.test", "MX")] = ["10 second.example.test."]
    queue_id = submit(l, "bob@unknown.example.test", "alone-unknown", SENDER)
    record = tries(l, queue_id)[0]
    expect(record["disposition"] == "deferred" and record["reason"].startswith("4.4.3 "), record)
    l.start_control()
    relay = attached(l)
    expect(relay["pid"] == l.relay.pid and status(l)["control"]["generation"] == before["generation"], status(l))
    arrives(l.second, "alone-unknown", 60)


@case
def a_restarted_relay_has_the_same_generation_in_force(l):
    before = status(l)
    l.kill_relay()
    wait_for("control to see it go", 10, lambda: not status(l)["relays"])
    l.start_relay()
    relay = attached(l)
    expect(relay["generation"] == before["control"]["generation"] and relay["pid"] == l.relay.pid, relay)
    expect(status(l)["control"]["pid"] == before["control"]["pid"])
    submit(l, "bob@static.example.test", "restarted", SENDER)
    arrives(l.static, "restarted")


@case
def a_second_control_or_relay_beside_the_first_is_refused(l):
    for name, binary in (("control", l.bin / "control/daemon/hikyaku-control"), ("relay", l.bin / "relay/hikyaku-relay")):
        done = run(*l.in_ns("node", binary, "--config", l.config), check=False)
        expect(done.returncode != 0 and done.stderr, name, done)
    submit(l, "bob@static.example.test", "undisturbed", SENDER)
    arrives(l.static, "undisturbed")
    expect(status(l)["relays"][0]["pid"] == l.relay.pid)


@case
def a_wrong_configuration_is_refused_with_file_line_and_what_was_expected(l):
    bad = l.folder / "bad.yaml"
    bad.write_text("node:\n  hostname: x.example.test\nlimits:\n  recipients: many\n")
    for binary in (l.bin / "control/daemon/hikyaku-control", l.bin / "relay/hikyaku-relay"):
        done = run(binary, "--config", bad, check=False)
        expect(done.returncode == 78, done.returncode)
        for part in (f"{bad}:4", "many", "whole number"):
            expect_in(part, done.stderr)
    expect(run(l.bin / "control/ctl/hikyakuctl", "config", "check", bad, check=False).returncode == 78)
    expect(run(l.bin / "control/ctl/hikyakuctl", "config", "check", l.config, check=False).returncode == 0)


# ---- changes ----

@case
def explain_tells_the_rule_and_profile_that_count(l):
    text = l.ctl("explain", "in", "client=198.51.100.10")
    for part in ("customers", "relay", "default-in"):
        expect_in(part, text)
    expect_in("default", l.ctl("explain", "in", "client=203.0.113.9"))
    answer = api(l, "POST", "/v1/explain", {"domain": "x.partner.example.test"})["outbound"]
    expect(answer["rule"] == "partner" and answer["profile"]["level"] == "encrypt", answer)
    expect(answer["route"]["id"] == "world", answer)
    answer = api(l, "POST", "/v1/explain", {"client": "203.0.113.9"})["inbound"]["connect"]
    expect(answer["rule"] == "default" and answer["action"] == "inbound", answer)


@case
def a_dry_run_tells_the_changes_and_makes_none(l):
    before = json.loads(l.ctl("export"))
    generation = status(l)["control"]["generation"]
    same = api(l, "POST", "/v1/apply?dry_run=1", before)
    expect(same["changes"] == [], same)
    after = json.loads(json.dumps(before))
    after["routes"].append({"id": "more", "domain": "more.example.test", "via": "mx"})
    after["profiles"][0]["level"] = "verify"
    after["out_rules"] = []
    changes = api(l, "POST", "/v1/apply?dry_run=1", after)["changes"]
    seen = {(c["kind"], c["id"]): c["change"] for c in changes}
    expect(seen == {("routes", "more"): "added", ("profiles", "strict"): "changed", ("out_rules", "partner"): "removed"}, seen)
    expect(status(l)["control"]["generation"] == generation and json.loads(l.ctl("export")) == before)
    file = l.folder / "after.json"
    file.write_text(json.dumps(after))
    l.ctl("apply", file)
    expect(json.loads(l.ctl("export"))["profiles"][0]["level"] == "verify")
    attached(l, generation + 1)
    api(l, "POST", "/v1/apply", before)
    expect(json.loads(l.ctl("export")) == before)


@case
def what_does_not_compile_is_refused_and_changes_nothing(l):
    generation = status(l)["control"]["generation"]
    for document, parts in (
            ({"profiles": [{"id": "x", "level": "sometimes"}]}, ("x", "level", "sometimes")),
            ({"in_rules": [{"id": "r", "client": "198.51.100.0/99"}]}, ("r", "client")),
            ({"out_rules": [{"id": "o", "profile": "nosuch"}]}, ("o", "profile", "nosuch")),
            ({"routes": [{"id": "a", "domain": "a.example.test", "via": "hosts", "hosts": [{"host": "h", "port": 0}]}]},
             ("a", "port"))):
        answer = api(l, "POST", "/v1/apply", document, 400)
        for part in parts:
            expect_in(part, json.dumps(answer))
    for method, path, body, code in (("POST", "/v1/apply", "{", 400), ("POST", "/v1/apply", "[]", 400),
                                     ("GET", "/v1/nothing", None, 404), ("DELETE", "/v1/status", None, 405),
                                     ("GET", "/v1/documents/routes/none", None, 404),
                                     ("POST", "/v1/queue/remove", None, 400),
                                     ("POST", "/v1/documents/routes", {"id": "static", "domain": "q.example.test"}, 409),
                                     ("DELETE", "/v1/documents/profiles/strict", None, 409),
                                     ("POST", "/v1/certs/import?id=x", "no certificate", 400)):
        answer = api(l, method, path, body, code)
        expect(answer["error"], answer)
    expect(status(l)["control"]["generation"] == generation)


@case
def what_openssl_does_not_know_is_refused_before_it_is_kept(l):
    generation = attached(l)["generation"]
    answer = api(l, "POST", "/v1/documents/profiles", {"id": "odd", "groups": "no-such-group"}, 400)
    for part in ("odd", "groups", "no-such-group"):
        expect_in(part, answer["error"])
    expect(status(l)["control"]["generation"] == generation)


def memory_with(data):
    fd = os.memfd_create("generation")
    os.write(fd, data)
    return fd


def next_about_a_generation(link):
    """A mail that is tried again meanwhile makes the relay ask other things, too."""
    while (message := json.loads(link.recv(65536)))["type"] not in ("applied", "refused"):
        pass
    return message


@case
def a_generation_the_relay_refuses_leaves_the_last_one_in_force(l):
    """The test stands in for control, to say what control never would."""
    generation = attached(l)["generation"]
    l.stop(l.control)
    path = l.folder / "control.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(PATIENCE)
        link, _ = listener.accept()
        link.settimeout(PATIENCE)
        hello, fds, _, _ = socket.recv_fds(link, 65536, 2)
        # Its counters, and the ticket keys that the last control gave it.
        expect(json.loads(hello)["instance"] == "main" and len(fds) == 2, hello)
        expect(os.pread(fds[1], 8, 0) == b"hkyatkt1")
        socket.send_fds(link, [b'{"type":"tickets"}'], [memory_with(b"garbage" * 100)])
        for number, data in ((generation + 50, b""), (generation + 51, b"garbage" * 1000), (generation + 52, bytes(1 << 20))):
            mine = [memory_with(data), memory_with(data)]
            socket.send_fds(link, [json.dumps({"type": "generation", "number": number}).encode()], mine)
            for fd in [*mine, *fds]:
                os.close(fd)
            fds = []
            answer = next_about_a_generation(link)
            expect(answer["type"] == "refused" and answer["number"] == number and answer["error"], answer)
        for message in (b"{", b"[]", b"null", b'{"type":7}', b'{"type":"generation","number":99}', b'{"type":"resolved"}', b'{"type":"tickets"}',
                        b'{"type":"resolved","token":1e300,"targets":{}}', b'{"type":"request","op":"nothing","token":3}'):
            link.send(message)
        submit(l, "bob@static.example.test", "under-the-last", SENDER)
        arrives(l.static, "under-the-last")
        link.close()
    l.start_control()
    expect(attached(l)["generation"] == generation)
    expect(l.relay.poll() is None)


@case
def a_change_is_in_force_when_the_command_returns(l):
    for i in range(5):
        l.ctl("rule", "in", "add", f"no{i}", "client=198.51.100.10/32", "action=reject", "before=customers")
        with Client(l) as c:
            expect(c.greeting == (554, f"554 5.7.1 <{lab.SENDER_V4}>: Client host rejected: Access denied"), c.greeting)
        l.ctl("rule", "in", "remove", f"no{i}")
        with Client(l) as c:
            expect(c.greeting[0] == 220, c.greeting)


@case
def a_clients_confirmed_name_decides_where_a_rule_asks_for_it(l):
    def pointer(last):
        return (f"{last}.100.51.198.in-addr.arpa", "PTR")
    for last in (77, 78, 79):
        add_address(l, "sender", f"198.51.100.{last}")
    l.dns.zone.update({pointer(77): ["MX.named.example.test."], pointer(78): ["mx.named.example.test."], pointer(79): "SILENCE",
                       ("mx.named.example.test", "A"): ["198.51.100.77"]})
    l.ctl("rule", "in", "add", "named", "client_name=.named.example.test", "client=198.51.100.64/26", "action=reject", "before=customers")
    try:
        with Client(l, source="198.51.100.77") as c:
            expect(c.greeting[0] == 554, c.greeting)
        wait_for("the record", 10, lambda: l.read_records(client_name="mx.named.example.test", rule_id="named", disposition="rejected"))
        for source in ("198.51.100.78", "198.51.100.79"):  # somebody else's name; no answer in time
            with Client(l, source=source) as c:
                expect(c.greeting[0] == 220, source, c.greeting)
        with Client(l) as c:  # no rule for it asks
            expect(c.greeting[0] == 220)
        expect([kind for name, kind in l.dns.asked if name == "10.100.51.198.in-addr.arpa"] == [])
    finally:
        l.ctl("rule", "in", "remove", "named")


# ---- counters and records ----

@case
def metrics_are_openmetrics(l):
    text = api(l, "GET", "/metrics")
    expect(text.endswith("\n# EOF\n"), text[-100:])
    types, series = {}, set()
    for line in text.splitlines()[:-1]:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            expect(name not in types, "two families", name)
            types[name] = kind
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-z_0-9:]+)(\{([a-z_]+="[^"\\]*",?)*\})? [0-9.e+-]+', line)
            expect(match, line)
            key = line.rsplit(" ", 1)[0]
            expect(key not in series, "twice", key)
            series.add(key)
            name = match.group(1)
            family = name if name in types else re.sub("_(total|info)$", "", name)
            expect(family in types, "no TYPE", line)
            expect((types[family] == "info") == name.endswith("_info"), line)
            expect((types[family] == "counter") == name.endswith("_total"), line)
        else:
            expect(re.match(r"# (HELP|UNIT) [a-z_0-9:]+ ", line), line)
    m = metrics(l)
    submit(l, "bob@static.example.test", "counted", SENDER)
    arrives(l.static, "counted")
    for name in ("hikyaku_mails_accepted", "hikyaku_recipients_delivered", "hikyaku_accepted_connections"):
        wait_for(f"{name} to move", 5, lambda: metrics(l)[name] > m[name])


@case
def sighup_opens_the_record_file_again(l):
    for process in (l.relay, l.control):
        old = l.folder / f"old-{process.pid}.jsonl"
        l.records.rename(old)
        queue_id = submit(l, "bob@static.example.test", "still-old", SENDER)
        wait_for("the record in the old file", 10, lambda: queue_id in old.read_text())
        expect(not l.records.exists())
        process.send_signal(signal.SIGHUP)
        wait_for("the new file", 10, l.records.exists)
        queue_id = submit(l, "bob@static.example.test", "new", SENDER)
        wait_for("the record in the new file", 10, lambda: queue_id in l.records.read_text())
        expect(queue_id not in old.read_text())
    expect_in(queue_id, l.ctl("log", "--lines", "10"))


@case
def every_record_is_a_json_object_with_the_known_fields(l):
    known = set("""time session_id queue_id direction listener client_ip client_name helo proto from to relay dest_ip
        dest_port class disposition stage rule_id profile generation via_tls tls_level tls_version cipher bits group resumed small_hello
        verify verify_message cert_subject cert_issuer first_tried last_tried tries delay_us size reply reason""".split())
    for path in l.folder.glob("*.jsonl"):
        whole, _, _ = path.read_text().rpartition("\n")  # one may be being written
        for line in whole.splitlines():
            record = json.loads(line)
            expect(set(record) <= known, set(record) - known)
            expect(record["direction"] in ("in", "out") and record["time"].endswith("Z"), record)


# ---- the end ----

@case
def sigterm_drains(l):
    idle, busy = Client(l), Client(l)
    for c in (idle, busy):
        c.ehlo()
    for command in (f"MAIL FROM:<{SENDER}>", "RCPT TO:<bob@static.example.test>", "DATA"):
        busy.cmd(command)
    l.relay.send_signal(signal.SIGTERM)
    expect(idle.reply() == (421, f"421 4.3.2 {HOSTNAME} Service shutting down"))
    busy.send(b"X-Marker: last\r\n\r\nhello\r\n.\r\n")
    expect(busy.reply()[0] == 250, "the mail that had begun is taken")
    expect(busy.reply()[0] == 421)
    idle.close()
    busy.close()
    expect(l.relay.wait(2 * PATIENCE) == 0)
    l.start_relay()
    arrives(l.static, "last")


def run_all():
    settings = {"dns": {"server": "127.0.0.1@5353", "dnssec": False, "timeout": "2s"},
                "queue": {"retry_first": "1s", "retry_most": "3s"}, "timeouts": {"idle": "1s", "client_name": "4s"}}
    with Lab(settings=settings) as l:
        l.make_network()
        for address in (FIRST, SECOND, V4, V6, STATIC, "203.0.113.46"):
            add_address(l, "receiver", address)
        l.first, l.second, l.static = Sink(l, FIRST), Sink(l, SECOND), Sink(l, STATIC)
        l.static_sender = Sink(l, "203.0.113.46")
        ZONE[("sender.example.test", "A")] = ["203.0.113.46"]
        l.dns = Dns(l, ZONE, ttl=600)  # what was known once is known for the whole test
        l.write_config()
        l.start_control()
        api(l, "POST", "/v1/apply", POLICY)
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run_all())
