# SPDX-License-Identifier: Apache-2.0
"""Mails of real clients cross the relay and arrive at a real Postfix byte for byte.

delivery_test.py [CORES] [CASE...]
"""

import json
import sys

from cases import case, expect, expect_in, main
from clients import arrived, content_of, mail, s_client, send, try_send
import lab
from lab import DOMAIN, RELAY_V4, RELAY_V6, Lab, wait_for

POLICY = {
    "profiles": [{"id": "open", "level": "may"}],
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay", "profile": "open"},
                 {"id": "customers6", "client": "2001:db8:0:2::/64", "action": "relay", "profile": "open"}],
    "out_rules": [],
    "routes": [{"id": "dest", "domain": DOMAIN, "via": "hosts", "hosts": [{"host": lab.RECEIVER_V4, "port": 25}]},
               {"id": "dest6", "domain": "six.example.test", "via": "hosts",
                "hosts": [{"host": lab.RECEIVER_V6, "port": 25}]},
               {"id": "alternate", "domain": "alternate.example.test", "via": "hosts",
                "hosts": [{"host": lab.RECEIVER_V4, "port": 2525}, {"host": "198.51.100.1", "port": 25},
                          {"host": lab.RECEIVER_V4, "port": 25}]},
               {"id": "implicit", "domain": "implicit.example.test", "via": "hosts",
                "hosts": [{"host": lab.RECEIVER_V4, "port": 465, "tls": "smtps"}]}],
}
DOMAINS = f"{DOMAIN} six.example.test alternate.example.test implicit.example.test"


def crosses(l, name, body_lines, **job):
    content = mail(name, b"\r\n".join(body_lines))
    send(l, content, **job)
    found = arrived(l, name)
    expect(len(found) == 1, "arrived", len(found), "times")
    expect(content_of(found[0]) == content, "changed:\n", content_of(found[0])[:2000], "\n---\n", content[:2000])


@case
def swaks_in_clear_arrives(l):
    done = l.swaks("--header", "X-Marker: swaks-clear")
    expect(done.returncode == 0, done.stdout)
    expect_in("Subject: test", arrived(l, "swaks-clear")[0].decode())


@case
def swaks_with_starttls_arrives_and_received_tells_of_tls(l):
    done = l.swaks("--tls", "--header", "X-Marker: swaks-starttls")
    expect(done.returncode == 0, done.stdout)
    received = arrived(l, "swaks-starttls")[0].decode()
    expect_in("with ESMTPS", received)
    expect_in("tls TLS_AES_128_GCM_SHA256", received)


@case
def swaks_with_implicit_tls_arrives(l):
    done = l.swaks("--tls-on-connect", "--port", "465", "--header", "X-Marker: swaks-implicit")
    expect(done.returncode == 0, done.stdout)
    arrived(l, "swaks-implicit")


@case
def swaks_over_ipv6_arrives(l):
    done = l.swaks("--tls", "--header", "X-Marker: swaks-six", "--to", "bob@six.example.test", server=RELAY_V6)
    expect(done.returncode == 0, done.stdout)
    expect_in("[IPv6:2001:db8:0:2::10]", arrived(l, "swaks-six")[0].decode())


@case
def smtplib_content_arrives_byte_for_byte(l):
    crosses(l, "smtplib", [b"plain", b".", b"..", b".dot", b"", b"trailing ", b"\ttab", b"x" * 900])


@case
def eight_bit_content_arrives_byte_for_byte(l):
    crosses(l, "eight-bit", ["grüße ✉".encode(), bytes(range(0x80, 0x100))], options=["body=8bitmime"], tls=True)


@case
def large_mail_arrives_byte_for_byte(l):
    crosses(l, "large", [b"%07d " % i + b"y" * 60 for i in range(70000)], tls=True)


@case
def empty_body_arrives(l):
    send(l, b"Subject: empty\r\nX-Marker: empty\r\n\r\n")
    arrived(l, "empty")


@case
def every_recipient_gets_it_once(l):
    to = [f"user{i}@{DOMAIN}" for i in range(25)] + [f"user{i}@six.example.test" for i in range(5)]
    send(l, mail("many"), to=to, tls=True)
    found = arrived(l, "many", 30)
    got = sorted(line.split(b": ")[1].decode() for b in found for line in b.splitlines()
                 if line.startswith(b"X-Original-To"))
    expect(got == sorted(to), got)


@case
def alternate_host_is_used_when_the_first_ones_are_down(l):
    send(l, mail("alternate"), to=["bob@alternate.example.test"])
    arrived(l, "alternate", seconds=60)


@case
def smtps_route_is_delivered_over_implicit_tls(l):
    send(l, mail("implicit"), to=["bob@implicit.example.test"])
    arrived(l, "implicit")
    record = l.wait_for_records(disposition="delivered", dest_port=465)[-1]
    expect(record["via_tls"], record)


@case
def openssl_s_client_can_speak_to_it(l):
    lines = ["!greeting", "!EHLO client.example.test", "!MAIL FROM:<a@sender.example.test>", f"!RCPT TO:<bob@{DOMAIN}>",
             "!DATA", "Subject: s_client", "X-Marker: s-client", "", "hello", "!.", "!QUIT"]
    expect_in("queued as", s_client(l, f"-connect {RELAY_V4}:465", lines))
    arrived(l, "s-client")


@case
def relaying_is_refused_to_strangers_and_domains_without_a_route(l):
    expect_in("550 5.1.2", l.swaks("--to", "someone@elsewhere.example.test").stdout)
    expect_in("554, b'5.7.1", try_send(l, mail("stranger"), ns="receiver").stderr)


@case
def both_legs_are_in_the_records_under_one_session(l):
    done = l.swaks("--tls", "--header", "X-Marker: records")
    queue_id = [x.rsplit(" ", 1)[-1] for x in done.stdout.splitlines() if "queued as" in x][0]
    arrived(l, "records")
    accepted, delivered = (l.wait_for_records(queue_id=queue_id, disposition=d)[0] for d in ("accepted", "delivered"))
    expect(accepted["session_id"] == delivered["session_id"], accepted, delivered)
    expect(accepted["via_tls"] and accepted["tls_version"] == "TLSv1.3" and accepted["rule_id"] == "customers", accepted)
    expect(delivered["via_tls"] and delivered["relay"] and delivered["reply"].startswith("250"), delivered)


@case
def a_thousand_mails_on_one_connection_all_arrive(l):
    send(l, mail("bulk", b"z" * 70), tls=True, times=1000, timeout=300)
    found = arrived(l, "bulk", 1000, seconds=180)
    expect(len(found) == 1000, len(found))
    wait_for("the queue to be empty", 20, lambda: not l.ctl_json("queue", "list")["items"])


def run():
    cores = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1
    with Lab(cores=cores) as l:
        l.make_network()
        l.certs = lab.Certs(l.folder / "ca")
        l.start_postfix(pem=l.certs.make("mx", [lab.MX]), domains=DOMAINS)
        l.write_config()
        l.start_control()
        l.ctl("apply", "-", stdin=json.dumps(POLICY))
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run())
