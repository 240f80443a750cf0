# SPDX-License-Identifier: Apache-2.0
"""What testssl.sh and sslscan find at the relay, by STARTTLS and with implicit TLS: nothing of severity LOW or worse.

At the grade `medium`, the default, they find its CBC suites and nothing else; at `modern` nothing.
"""

import json
import sys
import xml.etree.ElementTree

from cases import case, expect, main
from peers import api
import lab
from lab import HOSTNAME, RELAY_V4, Lab

LISTENERS = {  # name: port, implicit TLS, grade
    "smtp": (25, False, "medium"),
    "smtps": (465, True, "medium"),
    "modern": (2525, False, "modern"),
    "moderns": (2465, True, "modern"),
}
POLICY = {
    "profiles": [{"id": grade, "level": "may", "grade": grade} for grade in ("medium", "modern")],
    "in_rules": [{"id": name, "listener": name, "action": "relay", "profile": grade}
                 for name, (_, _, grade) in LISTENERS.items()],
}

# ---- testssl.sh ----

WORSE = ("LOW", "MEDIUM", "HIGH", "CRITICAL", "FATAL")  # beside OK, INFO, DEBUG, and WARN of testssl.sh about itself
# What is said of the lab, not of the relay: its CA publishes no revocation list and answers no OCSP, and no DNS server
# has a CAA record for it. That the chain is trusted is looked at (--add-ca).
OF_THE_LAB = ("cert_revocation", "DNS_CAArecord")
# The CBC suites of TLS 1.2, which `medium` and `high` take on purpose: a client that has nothing else would go on in
# clear text, since the level is `may` (RFC 7435 3). LUCKY13 is said wherever there is CBC; OpenSSL looks at padding
# and MAC in constant time since 1.0.1d, and does encrypt-then-MAC (RFC 7366) with all who can.
OF_CBC = {"cipherlist_OBSOLETED", "LUCKY13"}
# It takes its time: each of these some seconds of bash. What -f and -P would add, sslscan's case looks at.
CHECKS = {"modern": ("-p", "-s", "-U", "-S"),  # protocols, suites by strength, weaknesses with names, certificates
          "smtps": ("-p", "-s", "-U")}


def start_testssl(l, name, checks):
    port, is_implicit, _ = LISTENERS[name]
    out = l.folder / f"testssl-{name}.json"
    options = ["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", RELAY_V4,
               "--disable-rating", "--add-ca", l.certs.ca, "--jsonfile", out]
    starttls = [] if is_implicit else ["--starttls", "smtp"]
    return l.start("sender", f"testssl-{name}", "testssl", *options, *starttls, *checks, f"{HOSTNAME}:{port}"), out


def findings(l, name, process, out):
    """What it found, by id; all of it, if something says that it came to its end."""
    process.wait(1500)  # bash, which a busy machine makes slow
    found = json.loads(out.read_text())
    ids = {f["id"] for f in found}
    expect("scanTime" in ids and "RC4" in ids, l.log_tail(f"testssl-{name}", 40))
    return found


def worse(found):
    return {f["id"]: f"{f['severity']}: {f['finding']}" for f in found
            if f["severity"] in WORSE and f["id"].split(" ")[0] not in OF_THE_LAB}


def severity(found, id):
    return {f["severity"] for f in found if f["id"] == id}


@case
def testssl_finds_nothing_at_grade_modern_nor_but_cbc_at_medium(l):
    running = {name: start_testssl(l, name, checks) for name, checks in CHECKS.items()}
    found = {name: findings(l, name, *run) for name, run in running.items()}
    expect(worse(found["modern"]) == {}, worse(found["modern"]))
    expect(set(worse(found["smtps"])) == OF_CBC, worse(found["smtps"]))
    for f in found.values():  # it did look, and at our TLS
        expect(severity(f, "TLS1_3") == severity(f, "TLS1_2") == severity(f, "CCS") == {"OK"}, f)
    trusted = [f["finding"] for f in found["modern"] if f["id"].startswith("cert_chain_of_trust")]
    expect(trusted == ["passed."] * 2, "both chains", trusted)


# ---- sslscan ----

def sslscan(l, name):
    port, is_implicit, _ = LISTENERS[name]
    done = lab.run(*l.in_ns("sender", "sslscan", "--xml=-", "--no-colour", "--sni-name=" + HOSTNAME,
                            *([] if is_implicit else ["--starttls-smtp"]), f"{RELAY_V4}:{port}"), timeout=300)
    return xml.etree.ElementTree.fromstring(done.stdout).find("ssltest")


@case
def sslscan_finds_two_protocols_strong_suites_and_no_old_weakness(l):
    for name, (_, _, grade) in LISTENERS.items():
        found = sslscan(l, name)
        on = {p.get("type") + p.get("version") for p in found.iter("protocol") if p.get("enabled") != "0"}
        expect(on == {"tls1.2", "tls1.3"}, name, on)
        ciphers = {c.get("cipher"): c.get("strength") for c in found.iter("cipher")}
        want = {"strong"} if grade == "modern" else {"strong", "acceptable"}
        expect(set(ciphers.values()) == want, name, ciphers)
        expect(all("SHA" in c and "GCM" not in c for c, s in ciphers.items() if s == "acceptable"), name, ciphers)
        expect(all(int(c.get("bits")) >= 128 for c in found.iter("cipher")), name, ciphers)
        expect(next(found.iter("fallback")).get("supported") == "1", name, "TLS_FALLBACK_SCSV (RFC 7507)")
        expect(next(found.iter("compression")).get("supported") == "0", name)
        expect(next(found.iter("renegotiation")).get("supported") == "0", name)
        expect([h.get("vulnerable") for h in found.iter("heartbleed")] == ["0", "0"], name)
        groups = {g.get("name").split(" ")[0] for g in found.iter("group")}
        expect(groups == {"x25519", "secp256r1", "secp384r1"}, name, groups)


def make_certificates(l):
    for key in ("ec", "rsa"):
        pem = l.certs.make("relay-" + key, [HOSTNAME], key=key, days=300)
        default = "&default=1" if key == "ec" else ""
        api(l, "POST", f"/v1/certs/import?id=relay-{key}{default}", pem.read_bytes())


def run_all():
    # A scanner opens hundreds of connections; what a client may do is limits_test's.
    settings = {"limits": {"client_handshakes": 0},
                "listeners": [{"name": name, "port": port, "implicit_tls": is_implicit}
                              for name, (port, is_implicit, _) in LISTENERS.items()]}
    with Lab(settings=settings) as l:
        l.make_network()
        l.certs = lab.Certs(l.folder / "ca")
        l.write_config()
        l.start_control()
        make_certificates(l)
        api(l, "POST", "/v1/apply", POLICY)
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run_all())
