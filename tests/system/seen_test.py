# SPDX-License-Identifier: Apache-2.0
"""What an operator at a shell sees of a running relay's TCP.

seen_test.py [CORES] [CASE...]
"""

import contextlib
import json
import sys
import time

from cases import case, expect, expect_in, main
import lab
from lab import RELAY_V4, RELAY_V6, SENDER_V4, SENDER_V6, Lab, wait_for
from peers import Client, metrics, tls_context

POLICY = {
    "profiles": [{"id": "open", "level": "may"}],
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay", "profile": "open"},
                 {"id": "customers6", "client": "2001:db8:0:2::/64", "action": "relay", "profile": "open"}],
    "routes": [{"id": "dest", "domain": "dest.example.test", "via": "hosts", "hosts": [{"host": lab.RECEIVER_V4, "port": 25}]}],
}
CORES = 1


def connections(l, *filters):
    return l.ctl_json("connections", *filters)["items"]


@contextlib.contextmanager
def clients(l, count, host=RELAY_V4, **options):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(Client(l, host=host, **options)) for _ in range(count)]


# ---- counters ----

@case
def every_counter_has_a_name_a_sentence_and_the_name_of_the_metrics(l):
    counters = {c["name"]: c for c in l.ctl_json("counters")["counters"]}
    told = metrics(l)
    for name, counter in counters.items():
        expect(counter["help"], name, "has no sentence")
        expect(name in told, name, "is not in /metrics")
    for name in ("hikyaku_net_rx_packets", "hikyaku_net_drop_ip4_checksum", "hikyaku_tcp_segments_in",
                 "hikyaku_tcp_drop_bad_checksum", "hikyaku_tcp_drop_no_connection", "hikyaku_mails_accepted"):
        expect(len(counters[name]["values"]) == CORES, name, counters[name])


@case
def a_dropped_segment_is_counted_under_its_reason(l):
    def count():
        values = l.ctl_json("counters", "tcp_drop_no_connection")["counters"][0]["values"]
        return sum(v["value"] for v in values)
    before = count()
    with contextlib.suppress(ConnectionRefusedError):
        Client(l, port=2626).close()
    wait_for("the drop to be counted", 5, lambda: count() > before)
    expect_in("tcp_drop_no_connection", l.ctl("counters", "--nonzero", "tcp_drop_*"))


# ---- connections ----

@case
def open_connections_are_listed_with_what_is_known_of_them(l):
    with clients(l, 3) as three, clients(l, 2, host=RELAY_V6) as two:
        for c in (*three, *two):
            c.send(b"EHLO client.example.test\r\n")
            c.reply()
        items = wait_for("all to be acknowledged", 5, lambda: (got := connections(l)) and
                         not any(i["send_queue"] for i in got) and got)
        expect(len(items) == 5, items)
        local = {c.sock.getsockname()[:2] for c in (*three, *two)}
        expect({(i["remote"], i["remote_port"]) for i in items} == local, items, local)
        for i in items:
            expect((i["state"], i["direction"], i["local_port"], i["listener"], i["phase"], i["name"]) ==
                   ("ESTABLISHED", "in", 25, "smtp", "command", "client.example.test"), i)
            expect(i["local"] == (RELAY_V6 if ":" in i["remote"] else RELAY_V4), i)
            expect(1400 <= i["mss"] <= 1460 and i["cwnd"] >= i["mss"], i)
            expect(0 < i["rtt_us"] < 500000 and i["rto_us"] >= 200000, i)
            expect(i["bytes_in"] == 26 and i["bytes_out"] > 50 and i["send_queue"] == 0, i)
            expect(0 <= i["core"] < CORES and 0 <= i["age"] < 60 and "tls" not in i, i)
        if CORES == 2:
            with clients(l, 30):
                expect({i["core"] for i in connections(l)} == {0, 1}, "one core has all")
        expect(len({i["id"] for i in items}) == 5)
    wait_for("the list to be empty", 10, lambda: not connections(l))


@case
def tls_and_filters(l):
    with clients(l, 1, port=465, implicit=tls_context()), clients(l, 2), clients(l, 1, host=RELAY_V6):
        secure = connections(l, "--port", "465")
        expect(len(secure) == 1 and secure[0]["tls"] == "TLSv1.3" and secure[0]["cipher"].startswith("TLS_"), secure)
        expect(secure[0]["listener"] == "smtps", secure)
        for filters, count in ((("--peer", SENDER_V4), 3), (("--peer", "2001:db8::/32"), 1), (("--peer", "192.0.2.0/24"), 0),
                               (("--direction", "in"), 4), (("--direction", "out"), 0), (("--state", "established"), 4),
                               (("--state", "FIN-WAIT-1"), 0), (("--limit", "2"), 2), (("--sort", "age", "--limit", "3"), 3)):
            expect(len(connections(l, *filters)) == count, filters, count)
        ages = [i["age"] for i in connections(l, "--sort", "age")]
        expect(len(ages) == 4 and ages == sorted(ages, reverse=True), ages)
        table = l.ctl("connections", "--long")
        expect_in("smtps command", table)
        expect_in("4 shown; of all: 4 open", table)
        for wrong in (("--state", "OPEN"), ("--peer", "1.2.3"), ("--port", "0"), ("--sort", "x"), ("--direction", "up")):
            expect(l.ctl("connections", *wrong, check=False).returncode != 0, wrong)


@case
def an_operator_ends_a_connection(l):
    with clients(l, 2) as (one, two):
        port = one.sock.getsockname()[1]
        victim = connections(l, "--port", str(port))[0]
        l.ctl("connections", "end", victim["id"])
        try:
            rest = one.sock.recv(100)
            raise AssertionError(f"not reset: {rest!r}")
        except ConnectionResetError:
            pass
        left = connections(l)
        expect([i["remote_port"] for i in left] == [two.sock.getsockname()[1]], left)
        done = l.ctl("connections", "end", victim["id"], check=False)
        expect(done.returncode == 65 and "no such connection" in done.stderr, done.stderr)
        two.send(b"NOOP\r\n")
        expect(two.reply()[0] == 250)


def run():
    global CORES
    CORES = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1
    with Lab(cores=CORES) as l:
        l.make_network()
        l.write_config()
        l.start_control()
        l.ctl("apply", "-", stdin=json.dumps(POLICY))
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run())
