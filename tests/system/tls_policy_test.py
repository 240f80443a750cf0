# SPDX-License-Identifier: Apache-2.0
"""The TLS policy, both ways, as its rules say: towards receivers with every kind of certificate and none, and
from clients with every kind of TLS and none. What must not go in clear never does: the receivers keep what they saw.
"""

import hashlib
import ssl
import sys
import time

from cases import case, expect, expect_in, main
from peers import Client, Dns, Sink, add_address, api, submit, tls_context
import lab
from lab import RELAY_V4, Lab, run, wait_for

HOSTS = {name: f"203.0.113.{31 + i}" for i, name in enumerate((
    "right", "wrong", "selfsigned", "expired", "plain", "garbage", "refuse", "close", "implicit", "inject", "tls12",
    "bymx", "byprefix", "domainname", "remember", "remembernot", "down"))}
# Outbound rules choose by the sender: a mail from x@LEVEL.example.test goes by this profile.
PROFILES = {
    "none": {"level": "none"},
    "may": {"level": "may"},
    "may-next": {"level": "may", "fallback": "next-host"},
    "may-defer": {"level": "may", "fallback": "defer"},
    "may-brief": {"level": "may", "remember": 3},
    "encrypt": {"level": "encrypt"},
    "encrypt-clear": {"level": "encrypt", "fallback": "clear"},
    "encrypt-final": {"level": "encrypt", "on_failure": "permanent"},
    "floor": {"level": "encrypt", "protocol": {"lowest": "TLSv1.3"}},
    "verify": {"level": "verify"},
    "verify-names": {"level": "verify", "names": ["right.example.test", ".elsewhere.example.test"]},
    "verify-final": {"level": "verify", "on_failure": "permanent"},
    "secure": {"level": "secure"},
}
LISTENERS = {  # name: port, profile
    "must": (2525, {"level": "encrypt"}),
    "never": (2526, {"level": "none"}),
    "floor": (2527, {"level": "encrypt", "protocol": {"lowest": "TLSv1.3"}}),
    "modern": (2528, {"level": "encrypt", "grade": "modern"}),
    "medium": (2529, {"level": "encrypt", "grade": "medium"}),
    "ask": (2530, {"level": "may", "client_cert": "ask"}),
    "require": (2531, {"level": "encrypt", "client_cert": "require"}),
}


def policy(l, **more):
    profiles = [{"id": f"out-{k}", **v} for k, v in PROFILES.items()]
    profiles += [{"id": f"in-{k}", **v} for k, (_, v) in LISTENERS.items()]
    profiles += [{"id": "sender-encrypt", "level": "encrypt"}, {"id": "sender-verify", "level": "verify"},
                 {"id": "sender-verify-final", "level": "verify", "on_failure": "permanent"},
                 {"id": "sender-none", "level": "none"}]
    mail_stage = [("secret", "sender-encrypt"), ("certified", "sender-verify"),
                  ("certified-final", "sender-verify-final"), ("public", "sender-none")]
    return {
        "profiles": profiles,
        "in_rules": [{"id": f"stage-{s}", "sender": f"@{s}.example.test", "action": "relay", "profile": p}
                     for s, p in mail_stage]
        + [{"id": f"listener-{k}", "listener": k, "action": "relay", "profile": f"in-{k}"} for k in LISTENERS]
        + [{"id": "customers", "client": "198.51.100.0/24", "action": "relay"}],
        "out_rules": [{"id": f"from-{k}", "sender": f"@{k}.example.test", "profile": f"out-{k}"} for k in PROFILES]
        + [{"id": "by-domain", "domain": ".strict.example.test", "profile": "out-encrypt"},
           {"id": "by-mx", "mx": "bymx.example.test", "profile": "out-encrypt"},
           {"id": "by-prefix", "destination": HOSTS["byprefix"] + "/32", "profile": "out-secure"}],
        "routes": [{"id": k, "domain": f"{k}.example.test", "via": "hosts",
                    "hosts": [{"host": f"{k}.mx.example.test" if k == "domainname" else f"{k}.example.test",
                               **({"tls": "smtps"} if k == "implicit" else {})}]} for k in HOSTS]
        + [{"id": "strict", "domain": ".strict.example.test", "via": "hosts", "hosts": [{"host": "plain.example.test"}]},
           {"id": "two", "domain": "two.example.test", "via": "hosts",
            "hosts": [{"host": "garbage.example.test"}, {"host": "right.example.test"}]},
           {"id": "postfix", "domain": lab.DOMAIN, "via": "hosts", "hosts": [{"host": lab.MX}]}],
        "ca_pem": l.certs.ca.read_text(),
        **more,
    }


def send(l, level, kind, marker=None):
    """A mail of that level to that kind of receiver; its queue id."""
    return submit(l, f"bob@{kind}.example.test", marker or f"{level}-{kind}", f"alice@{level}.example.test")


def outcome(l, queue_id):
    """The first record of a try of the mail."""
    return l.wait_for_records(queue_id=queue_id, direction="out")[0]


def host(kind):
    return f"{kind}.example.test[{HOSTS[kind]}]"


CLEAR, TLS = "in clear", "over TLS"
NOT_OFFERED = "4.7.4 TLS is required, but was not offered by host {}"
REFUSED = "4.7.4 TLS is required, but host {} refused to start TLS: 454 4.7.0 TLS not available"
HANDSHAKE = "4.7.5 Cannot start TLS: handshake failure"
UNTRUSTED = "4.7.5 Server certificate not trusted"
MISMATCH = "4.7.5 Server certificate name mismatch"
MATRIX = [  # level, receiver, how it goes or the reason it waits, word of `verify` in the record
    ("none", "right", CLEAR, None),
    ("none", "plain", CLEAR, None),
    ("none", "garbage", CLEAR, None),
    ("may", "right", TLS, "OK"),
    ("may", "wrong", TLS, "OK"),
    ("may", "selfsigned", TLS, "FAIL"),
    ("may", "expired", TLS, "FAIL"),
    ("may", "plain", CLEAR, None),
    ("may", "refuse", CLEAR, None),
    ("may", "garbage", CLEAR, None),
    ("may", "close", CLEAR, None),
    ("may", "implicit", TLS, "OK"),
    ("may-next", "garbage", HANDSHAKE, None),
    ("may-next", "refuse", CLEAR, None),
    ("may-next", "two", TLS, "OK"),
    ("may-defer", "two", HANDSHAKE, None),
    ("encrypt", "right", TLS, "OK"),
    ("encrypt", "wrong", TLS, "OK"),
    ("encrypt", "selfsigned", TLS, "FAIL"),
    ("encrypt", "expired", TLS, "FAIL"),
    ("encrypt", "plain", NOT_OFFERED, None),
    ("encrypt", "refuse", REFUSED, None),
    ("encrypt", "garbage", HANDSHAKE, None),
    ("encrypt", "close", HANDSHAKE, None),
    ("encrypt", "two", TLS, "OK"),
    ("encrypt", "implicit", TLS, "OK"),
    ("encrypt", "tls12", TLS, "OK"),
    ("encrypt-clear", "garbage", HANDSHAKE, None),
    ("encrypt-final", "plain", NOT_OFFERED, None),
    ("floor", "tls12", HANDSHAKE, None),
    ("floor", "right", TLS, "OK"),
    ("verify", "right", TLS, "OK"),
    ("verify", "wrong", TLS, "OK"),
    ("verify", "selfsigned", UNTRUSTED, "FAIL"),
    ("verify", "expired", UNTRUSTED, "FAIL"),
    ("verify", "plain", NOT_OFFERED, None),
    ("verify", "garbage", HANDSHAKE, None),
    ("verify-final", "selfsigned", UNTRUSTED, "FAIL"),
    ("verify-names", "right", TLS, "OK"),
    ("verify-names", "wrong", MISMATCH, "FAIL"),
    ("secure", "right", TLS, "OK"),
    ("secure", "domainname", TLS, "OK"),
    ("secure", "wrong", MISMATCH, "FAIL"),
    ("secure", "selfsigned", UNTRUSTED, "FAIL"),
    ("secure", "expired", UNTRUSTED, "FAIL"),
    ("secure", "plain", NOT_OFFERED, None),
    ("secure", "implicit", TLS, "OK"),
]


def check_delivered(record, level, kind, want, verify):
    what = f"{level} to {kind}: {record}"
    expect(record["disposition"] == "delivered", what)
    expect(record["via_tls"] == (want == TLS), what)
    expect(record["tls_level"] == PROFILES[level]["level"] and record["profile"] == f"out-{level}", what)
    expect(record["rule_id"] == f"from-{level}", what)
    if want == TLS:
        expect(record["tls_version"] in ("TLSv1.2", "TLSv1.3") and record["cipher"].startswith("TLS_"), what)
        expect(record["verify"] == verify, what)
        expect("bits" in record and "group" in record and record["cert_subject"], what)
    else:
        expect("cipher" not in record and "tls_version" not in record, what)


def check_failed(record, level, kind, want, verify):
    what = f"{level} to {kind}: {record}"
    final = level.endswith("-final")
    expect(record["disposition"] == ("bounced" if final else "deferred"), what)
    last = "right" if kind == "two" and level != "may-defer" else "garbage" if kind == "two" else kind
    reason = want.format(host(last))
    expect(record["reason"].startswith(reason.replace("4.", "5.", 1) if final else reason), what)
    expect(not record["via_tls"], what)
    if verify:
        expect(record["verify"] == verify and record["cert_subject"], what)


@case
def every_level_goes_as_it_says_with_every_kind_of_receiver(l):
    sent = [(*cell, send(l, cell[0], cell[1])) for cell in MATRIX]
    wrong = []
    for level, kind, want, verify, queue_id in sent:
        try:
            record = outcome(l, queue_id)
            (check_delivered if want in (CLEAR, TLS) else check_failed)(record, level, kind, want, verify)
        except Exception as e:
            wrong.append(f"{level} to {kind}, wanted {want!r}: {e}")
    expect(not wrong, "\n".join(wrong))


@case
def nothing_of_a_mail_went_in_clear_where_the_level_forbids_it(l):
    for level, profile in PROFILES.items():
        if profile["level"] not in ("none", "may"):
            for name, sink in l.sinks.items():
                said = [line for line in sink.clear_lines() if f"@{level}.example.test" in line]
                expect(not said, level, "at", name, "in clear:", said)
    for level, kind, want, _ in MATRIX:
        at = [(name, m["tls"]) for name, sink in l.sinks.items() for m in sink.bearing(f"{level}-{kind}")]
        expect(len(at) == (want in (CLEAR, TLS)), level, kind, "arrived at", at)
        expect(all(is_tls == (want == TLS) for _, is_tls in at), level, kind, at)


@case
def sni_is_the_host_name(l):
    expect_in("right.example.test", l.sinks["right"].snis)


@case
def bytes_behind_the_220_of_starttls_end_the_try(l):
    record = outcome(l, send(l, "encrypt", "inject"))
    expect(record["disposition"] == "deferred", record)
    expect(record["reason"].startswith(("4.7.5", "4.7.0")), record)
    expect(not [x for x in l.sinks["inject"].clear_lines() if x.startswith("MAIL")])


@case
def secure_is_met_by_a_real_postfix(l):
    queue_id = submit(l, f"bob@{lab.DOMAIN}", "postfix", "alice@secure.example.test")
    record = outcome(l, queue_id)
    expect(record["disposition"] == "delivered" and record["verify"] == "OK" and record["tls_level"] == "secure", record)
    expect_in(b"X-Marker: postfix\n", wait_for("the mail", 10, lambda: l.mailbox())[0][1])


@case
def rules_by_domain_mx_host_and_destination_prefix_count(l):
    for to, rule, at, reason in (
            ("bob@very.strict.example.test", "by-domain", "plain", NOT_OFFERED),
            ("bob@bymx.example.test", "by-mx", "bymx", NOT_OFFERED),
            ("bob@byprefix.example.test", "by-prefix", "byprefix", UNTRUSTED)):
        record = outcome(l, submit(l, to, rule))
        expect(record["disposition"] == "deferred" and record["rule_id"] == rule, record)
        expect(record["reason"].startswith(reason.format(host(at))), record)
        expect(not l.sinks[at].bearing(rule), rule)


@case
def a_broken_host_is_remembered_for_the_time_the_profile_says(l):
    sink = l.sinks["remember"]
    for i in range(2):
        expect(outcome(l, send(l, "may", "remember", f"remember-{i}"))["disposition"] == "delivered")
        wait_for("the connection to be closed", 15, lambda: sum(x == "QUIT" for _, x in sink.lines) == i + 1)
    asked = [x for x in sink.clear_lines() if x == "STARTTLS"]
    expect(len(asked) == 1 and sink.connections == 3, sink.connections, sink.lines)
    # A level that must have TLS does not believe it, nor is it told to.
    expect_in(HANDSHAKE, outcome(l, send(l, "encrypt", "remember", "remember-not"))["reason"])
    sink = l.sinks["remembernot"]
    for i in range(2):
        expect(outcome(l, send(l, "may-brief", "remembernot", f"brief-{i}"))["disposition"] == "delivered")
        wait_for("the connection to be closed", 15, lambda: sum(x == "QUIT" for _, x in sink.lines) == i + 1)
        time.sleep(3.1)
    expect(len([x for x in sink.clear_lines() if x == "STARTTLS"]) == 2, sink.lines)


# ---- inbound ----

def handshake_fails(attempt):
    try:
        attempt()
    except (ssl.SSLError, ConnectionError, EOFError):
        return True
    return False


@case
def listener_with_encrypt_refuses_everything_in_clear_but_what_rfc_3207_lets_pass(l):
    with Client(l, port=2525) as c:
        expect_in("250-STARTTLS", c.ehlo()[1])
        for command in ("MAIL FROM:<a@sender.example.test>", "RCPT TO:<bob@right.example.test>", "DATA", "VRFY x"):
            expect(c.cmd(command) == (530, "530 5.7.0 Must issue a STARTTLS command first"), command)
        for command, code in (("NOOP", 250), ("RSET", 250), ("HELP", 214), ("EHLO client.example.test", 250)):
            expect(c.cmd(command)[0] == code, command)
        c.starttls()
        expect(c.cmd("MAIL FROM:<a@sender.example.test>")[0] == 503, "the session begins anew after STARTTLS")
        code, text = c.ehlo()
        expect("STARTTLS" not in text, text)
        expect(c.cmd("STARTTLS") == (554, "554 5.5.1 Error: TLS already active"))
        expect(c.mail("bob@right.example.test", "in-must")[0] == 250)
    record = l.wait_for_records(listener="must", disposition="accepted")[0]
    expect(record["via_tls"] and record["rule_id"] == "listener-must" and record["profile"] == "in-must", record)
    l.wait_for_records(listener="must", disposition="rejected", reply="530 5.7.0 Must issue a STARTTLS command first")


@case
def listener_with_none_does_not_offer_starttls(l):
    with Client(l, port=2526) as c:
        expect("STARTTLS" not in c.ehlo()[1])
        code, text = c.cmd("STARTTLS")
        expect(code >= 500, text)
        expect(c.mail("bob@right.example.test", "in-never")[0] == 250)


@case
def mail_stage_rule_by_sender_asks_for_tls(l):
    with Client(l) as c:
        c.ehlo()
        sender = "alice@secret.example.test"
        expect(c.cmd(f"MAIL FROM:<{sender}>") == (530, f"530 5.7.0 <{sender}>: Sender address rejected: Must use TLS"))
        expect(c.cmd("MAIL FROM:<alice@sender.example.test>")[0] == 250, "other senders may")
        c.cmd("RSET")
        c.starttls()
        c.ehlo()
        expect(c.cmd(f"MAIL FROM:<{sender}>")[0] == 250)
    l.wait_for_records(disposition="rejected", stage="mail")


@case
def mail_stage_rule_by_sender_can_forbid_tls(l):
    with Client(l) as c:
        c.ehlo()
        c.starttls()
        c.ehlo()
        sender = "alice@public.example.test"
        code, text = c.cmd(f"MAIL FROM:<{sender}>")
        expect((code, text) == (421, f"421 4.7.0 <{sender}>: Sender address rejected: Must not use TLS"), text)
        expect(c.ends() == b"", "421 closes the connection")


@case
def protocol_floor_refuses_tls_1_2(l):
    for listener, works in ((2527, False), (2529, True)):
        with Client(l, port=listener) as c:
            c.ehlo()
            failed = handshake_fails(lambda: c.starttls(tls_context(highest=ssl.TLSVersion.TLSv1_2)))
            expect(failed != works, listener)
    with Client(l, port=2527) as c:
        c.ehlo()
        c.starttls()
        expect(c.sock.version() == "TLSv1.3")
    l.wait_for_records(listener="floor", stage="tls")


@case
def grade_modern_refuses_cbc(l):
    for ciphers, listener, works in (("ECDHE+AES128+SHA256:!AESGCM:@SECLEVEL=0", 2528, False),
                                     ("ECDHE+AES128+SHA256:!AESGCM:@SECLEVEL=0", 2529, True),
                                     ("ECDHE+AESGCM", 2528, True)):
        with Client(l, port=listener) as c:
            c.ehlo()
            context = tls_context(highest=ssl.TLSVersion.TLSv1_2, ciphers=ciphers)
            expect(handshake_fails(lambda: c.starttls(context)) != works, ciphers, listener)


@case
def client_certificates_are_asked_for_and_required(l):
    good, bad = l.certs.make("client", ["client.example.test"]), l.selfsigned
    for port, pem, works in ((2530, None, True), (2530, good, True), (2530, bad, True), (2531, None, False),
                             (2531, bad, False), (2531, good, True)):
        with Client(l, port=port) as c:
            c.ehlo()
            marker = f"client-cert-{port}-{'none' if pem is None else pem.stem}"

            def go():
                c.starttls(tls_context(pem=pem))
                c.ehlo()
                expect(c.mail("bob@right.example.test", marker, f"{marker}@sender.example.test")[0] == 250)
            expect(handshake_fails(go) != works, marker)
    for stem, verify, subject in (("none", "NO", False), ("client", "OK", True), (bad.stem, "FAIL", True)):
        sender = f"client-cert-2530-{stem}@sender.example.test"
        record = l.wait_for_records(disposition="accepted", **{"from": sender})[0]
        expect(record["verify"] == verify and ("cert_subject" in record) == subject, record)


@case
def mail_stage_rule_by_sender_asks_for_a_verified_client_certificate(l):
    for name, pem, want in (
            ("certified", l.certs.folder / "client.pem", "250 2.1.0 Ok"),
            ("certified", None, "421 4.7.1 <{}>: Sender address rejected: Unverified client certificate"),
            ("certified", l.selfsigned, "421 4.7.1 <{}>: Sender address rejected: Unverified client certificate"),
            ("certified-final", None, "554 5.7.1 <{}>: Sender address rejected: Unverified client certificate")):
        with Client(l, port=2530) as c:
            c.ehlo()
            c.starttls(tls_context(pem=pem))
            c.ehlo()
            sender = f"alice@{name}.example.test"
            expect(c.cmd(f"MAIL FROM:<{sender}>")[1] == want.format(sender), name, pem)


def digest(pem):
    text = pem.read_text()
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT"):text.index(
        "-----END CERT") + 26])).hexdigest()


def shown(l, name=None, port=465, **how):
    with Client(l, port=port, implicit=tls_context(**how), name=name) as c:
        return hashlib.sha256(c.sock.getpeercert(True)).hexdigest()


RSA_ONLY = {"highest": ssl.TLSVersion.TLSv1_2, "ciphers": "ECDHE-RSA-AES128-GCM-SHA256"}


@case
def sni_chooses_among_certificates_ecdsa_and_rsa_chain_of_one_name(l):
    pems = {(name, key): l.certs.make(f"{name}-{key}", [f"{name}.example.test"], key=key)
            for name in ("relay", "shop") for key in ("ec", "rsa")}
    for (name, key), pem in pems.items():
        api(l, "POST", f"/v1/certs/import?id={name}-{key}" + ("&default=1" if (name, key) == ("relay", "ec") else ""),
            pem.read_bytes())
    for name in ("relay", "shop"):
        expect(shown(l, f"{name}.example.test") == digest(pems[name, "ec"]), name, "ECDSA by SNI")
        expect(shown(l, f"{name}.example.test", **RSA_ONLY) == digest(pems[name, "rsa"]), name, "RSA by SNI")
    expect(shown(l) == digest(pems["relay", "ec"]), "the default without SNI")
    expect(shown(l, "unknown.example.test") == digest(pems["relay", "ec"]), "the default with an unknown name")
    expect(shown(l, **RSA_ONLY) == digest(pems["relay", "rsa"]), "the default's RSA chain")


@case
def a_certificate_is_replaced_while_a_session_lives(l):
    with Client(l, port=465, implicit=tls_context()) as c:
        before = hashlib.sha256(c.sock.getpeercert(True)).hexdigest()
        c.ehlo()
        expect(c.cmd("MAIL FROM:<alice@sender.example.test>")[0] == 250)
        pem = l.certs.make("replacement", ["relay.example.test"])
        api(l, "POST", "/v1/certs/import?id=replacement&default=1", pem.read_bytes())
        wait_for("a new session to show the new certificate", 5, lambda: shown(l) == digest(pem))
        expect(before != digest(pem))
        expect(c.cmd("RCPT TO:<bob@right.example.test>")[0] == 250, "the session goes on, in the middle of its mail")
        c.cmd("DATA")
        c.send(b"X-Marker: replaced\r\n\r\nhello\r\n.\r\n")
        expect(c.reply()[0] == 250)
    wait_for("the mail", 10, lambda: l.sinks["right"].bearing("replaced"))


def make_receivers(l):
    certs = l.certs
    l.selfsigned = l.folder / "selfsigned.pem"
    run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
        l.folder / "selfsigned.key", "-out", l.selfsigned, "-days", "30", "-subj", "/CN=selfsigned.example.test",
        "-addext", "subjectAltName=DNS:selfsigned.example.test,DNS:byprefix.example.test")
    l.selfsigned.write_text((l.folder / "selfsigned.key").read_text() + l.selfsigned.read_text())
    pems = {kind: certs.make(kind, [f"{kind}.example.test"]) for kind in ("right", "implicit", "tls12", "domainname")}
    pems["wrong"] = certs.make("wrong", ["other.example.test"])
    pems["expired"] = certs.make("expired", ["expired.example.test"], start=("20200101000000Z", "20210101000000Z"))
    pems["selfsigned"] = pems["byprefix"] = l.selfsigned
    how = {kind: {"starttls": kind} for kind in ("garbage", "refuse", "close", "inject")}
    how |= {"remember": {"starttls": "garbage"}, "remembernot": {"starttls": "garbage"},
            "implicit": {"implicit": True, "port": 465}, "tls12": {"highest": ssl.TLSVersion.TLSv1_2}}
    l.sinks = {}
    for kind, address in HOSTS.items():
        if kind != "down":
            add_address(l, "receiver", address)
            l.sinks[kind] = Sink(l, address, pem=pems.get(kind), **how.get(kind, {}))


def run_all():
    listeners = [{"name": "smtp", "port": 25}, {"name": "smtps", "port": 465, "implicit_tls": True}]
    listeners += [{"name": k, "port": port} for k, (port, _) in LISTENERS.items()]
    settings = {"dns": {"server": "127.0.0.1@5353", "dnssec": False}, "listeners": listeners,
                "queue": {"retry_first": "5m"}, "timeouts": {"idle": "1s"}}
    with Lab(settings=settings) as l:
        l.make_network()
        l.certs = lab.Certs(l.folder / "ca")
        make_receivers(l)
        zone = {(f"{k}.example.test", "A"): [v] for k, v in HOSTS.items()}
        zone[("domainname.mx.example.test", "A")] = [HOSTS["domainname"]]
        zone[(lab.MX, "A")] = [lab.RECEIVER_V4]
        l.dns = Dns(l, zone)
        l.start_postfix(pem=l.certs.make("mx", [lab.MX]), extra={"inet_interfaces": f"127.0.0.1, {lab.RECEIVER_V4}"})
        l.write_config()
        l.start_control()
        api(l, "POST", "/v1/apply", policy(l))
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run_all())
