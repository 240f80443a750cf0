# SPDX-License-Identifier: Apache-2.0
"""Mails cross a network that loses, reorders, duplicates and corrupts packets, byte for byte and once.

lossy_test.py [CORES] [CASE...]

The network is tests/tools/tap_bridge, before the relay, so that what it does hits both the clients' connections
and the relay's own to Postfix, each way.
"""

import json
import sys

from cases import case, expect, expect_in, main
from clients import arrived, s_client
from crowd import Crowd, Mailbox
import lab
from lab import DOMAIN, RELAY_V4, RELAY_V6, Lab, wait_for
from peers import metrics

HOST = {4: {"host": lab.RECEIVER_V4, "port": 25}, 6: {"host": lab.RECEIVER_V6, "port": 25}}
POLICY = {
    "profiles": [{"id": "open", "level": "may"}, {"id": "sure", "level": "encrypt"}, {"id": "clear", "level": "none"}],
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay", "profile": "open"},
                 {"id": "customers6", "client": "2001:db8:0:2::/64", "action": "relay", "profile": "open"}],
    "out_rules": [{"id": "clear4", "domain": "clear4.example.test", "profile": "clear"},
                  {"id": "clear6", "domain": "clear6.example.test", "profile": "clear"},
                  {"id": "rest", "profile": "sure"}],
    "routes": [{"id": f"{way}{family}", "domain": f"{way}{family}.example.test", "via": "hosts", "hosts": [HOST[family]]}
               for way in ("tls", "clear") for family in (4, 6)] +
              [{"id": "dest", "domain": DOMAIN, "via": "hosts", "hosts": [HOST[4]]}],
}
DOMAINS = f"{DOMAIN} tls4.example.test tls6.example.test clear4.example.test clear6.example.test"
SMALL, LARGE, LARGEST = 2000, 1000000, 5000000


def streams(name, sizes, ways=("none", "starttls", "implicit")):
    """For each family and each kind of TLS one client that sends a mail of each size on one connection."""
    return [{"name": f"{name}-{tls}-{family}", "host": {4: RELAY_V4, 6: RELAY_V6}[family], "tls": tls,
             "to": f"bob@{'clear' if tls == 'none' else 'tls'}{family}.example.test", "sizes": sizes,
             "count": len(sizes), "per_connection": len(sizes), "timeout": 90}
            for family in (4, 6) for tls in ways]


def cross(l, plan, happened, **options):
    """All the plan's mails arrive once and unchanged, and each thing of `happened` did happen, each way; the bridge's
    counts."""
    mailbox = Mailbox(l)
    l.start_bridge(**options)
    try:
        crowd = Crowd(l, plan)
        crowd.wait(500)
        expect(not crowd.lost, "not acknowledged:", crowd.lost)
        expect(len(crowd.acknowledged) == sum(p["count"] for p in plan), len(crowd.acknowledged))
        mailbox.wait_for(crowd.acknowledged, 120)
    finally:
        counts = l.stop_bridge()
        print(f"    {options}: " + "; ".join(
            f"{way} {counts[way]['in']} frames, " +
            ", ".join(f"{counts[way][k]} {k}" for k in happened) for way in ("to_relay", "from_relay")), flush=True)
    mailbox.check_content(crowd.sizes)
    twice = [m for m in crowd.sizes if len(mailbox.copies.get(m, ())) > 1]
    expect(not twice, "arrived more than once:", twice)
    for way in ("to_relay", "from_relay"):
        c = counts[way]
        expect(c["in"] + c["duplicated"] == c["out"] + c["lost"] + c["queue_full"] + c["no_room"] + c["too_long"] +
               c["under_way"], "counts that do not add up:", c)
        expect(c["missed"] == 0 and c["no_room"] == 0 and c["too_long"] == 0, "the bridge itself lost frames:", c)
        for what in happened:
            expect(c[what] > 0, "nothing was", what, "so nothing was shown:", c)
    return counts


def lossy_case(seed):
    def test(l):
        cross(l, streams(f"lossy{seed}", [SMALL, LARGE, LARGEST]), ("lost", "overtaken"),
              loss="1%", reorder="1%", delay_ms=1, seed=seed)
    test.__name__ = f"all_sizes_cross_loss_and_reordering_seed_{seed}"
    case(test)


for seed in (1, 2, 3):
    lossy_case(seed)


@case
def a_long_way_with_loss_is_crossed(l):
    cross(l, streams("long", [LARGE], ways=("none", "starttls")), ("lost", "overtaken"),
          loss="1%", reorder="2%", delay_ms=20, seed=4)


@case
def heavy_loss_only_delays(l):
    cross(l, [{**p, "timeout": 200} for p in streams("heavy", [SMALL, 100000])], ("lost",), loss="5%", seed=5)


@case
def duplicated_packets_duplicate_nothing(l):
    cross(l, streams("duplicated", [SMALL, LARGE]), ("duplicated", "overtaken"), duplicate="5%", reorder="5%", seed=6)


@case
def corrupted_packets_are_caught_by_their_checksums(l):
    def caught():
        m = metrics(l)
        return m["hikyaku_tcp_drop_bad_checksum"] + m["hikyaku_net_drop_ip4_checksum"]
    before = caught()
    counts = cross(l, streams("corrupted", [SMALL, LARGE, LARGE]), ("corrupted",), corrupt="1%", seed=7)
    # Not all: a bit of ARP, of a length or of IPv6's hop limit is caught elsewhere, or does no harm.
    by_relay = caught() - before
    expect(by_relay > counts["to_relay"]["corrupted"] / 2, by_relay, counts)


@case
def a_narrow_link_that_drops_what_it_cannot_hold_is_shared(l):
    cross(l, streams("narrow", [LARGE], ways=("starttls",)), ("queue_full",), rate_mbit=10, queue_kb=16, delay_ms=5,
          seed=8)


@case
def everything_at_once(l):
    cross(l, streams("all", [SMALL, LARGE]), ("lost", "overtaken", "duplicated", "corrupted"),
          loss="1%", reorder="2%", duplicate="1%", corrupt="0.5%", delay_ms=3, seed=9)


@case
def many_short_connections_open_and_close_over_loss(l):
    plan = [{**p, "count": 25, "per_connection": 1} for p in streams("short", [SMALL])]
    cross(l, plan, ("lost", "overtaken"), loss="2%", reorder="2%", seed=10)


@case
def swaks_crosses_loss_and_reordering(l):
    l.start_bridge(loss="1%", reorder="2%", seed=11)
    try:
        for i in range(12):
            way = ([], ["--tls"], ["--tls-on-connect", "--port", "465"])[i % 3]
            family = (4, 6)[i % 2]
            done = l.swaks(*way, "--header", f"X-Marker: swaks-{i}", "--to", f"bob@tls{family}.example.test",
                           server={4: RELAY_V4, 6: RELAY_V6}[family])
            expect(done.returncode == 0, done.stdout, done.stderr)
        for i in range(12):
            expect(len(arrived(l, f"swaks-{i}")) == 1)
    finally:
        l.stop_bridge()


@case
def openssl_s_client_crosses_loss_and_reordering(l):
    l.start_bridge(loss="2%", reorder="2%", seed=12)
    try:
        ways = ([f"-connect {RELAY_V4}:465", "!greeting"], [f"-starttls smtp -connect [{RELAY_V6}]:25"])
        for i, (arguments, *greeting) in enumerate(ways):
            lines = [*greeting, "!EHLO client.example.test", "!MAIL FROM:<a@sender.example.test>",
                     f"!RCPT TO:<bob@{DOMAIN}>", "!DATA", f"X-Marker: s-client-{i}", "", *["text " + "x" * 70] * 500,
                     "!.", "!QUIT"]
            expect_in("queued as", s_client(l, arguments, lines))
            expect(arrived(l, f"s-client-{i}")[0].count(b"text xxx") == 500)
    finally:
        l.stop_bridge()


def run():
    cores = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1
    with Lab(cores=cores, settings={"queue": {"retry_first": 5}, "limits": {"mail_memory_mb": 128}}) as l:
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
