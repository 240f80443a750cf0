# SPDX-License-Identifier: Apache-2.0
"""control/daemon/resolver_test.py: where mail goes (RFC 5321 5.1), asked by a relay of a name server of ours."""

import ipaddress
import sys

from lab import HOSTNAME, Control, NameServer, wait_for
from cases import case, expect, main


def reverse(address):
    return ipaddress.ip_address(address).reverse_pointer


TABLE = {
    ("order.example.test", "MX"): ["20 b.example.test.", "10 a.example.test.", "30 c.example.test."],
    ("a.example.test", "A"): ["192.0.2.101", "192.0.2.102"],
    ("a.example.test", "AAAA"): ["2001:db8::101"],
    ("b.example.test", "A"): ["192.0.2.111"],
    ("c.example.test", "AAAA"): ["2001:db8::121"],
    ("implicit.example.test", "A"): ["198.51.100.7"],
    ("implicit.example.test", "AAAA"): ["2001:db8:1::7"],
    ("null.example.test", "MX"): ["0 ."],
    ("null.example.test", "A"): ["198.51.100.8"],
    ("partly-null.example.test", "MX"): ["0 .", "10 b.example.test."],
    ("empty.example.test", "TXT"): ['"no host"'],
    ("dangling.example.test", "MX"): ["10 gone.example.test."],
    ("half.example.test", "MX"): ["10 gone.example.test.", "20 b.example.test."],
    ("broken.example.test", "MX"): "SERVFAIL",
    ("refused.example.test", "MX"): "REFUSED",
    ("broken-host.example.test", "MX"): ["10 sick.example.test."],
    ("sick.example.test", "A"): "SERVFAIL",
    ("sick.example.test", "AAAA"): "SERVFAIL",
    ("half-broken.example.test", "MX"): ["10 sick.example.test.", "20 b.example.test."],
    ("loop.example.test", "MX"): [f"20 {HOSTNAME}.", "10 b.example.test.", "20 a.example.test.", "30 c.example.test."],
    ("loop-first.example.test", "MX"): [f"10 {HOSTNAME}.", "20 b.example.test."],
    ("loop-address.example.test", "MX"): ["10 alias.example.test.", "20 b.example.test."],
    ("alias.example.test", "A"): ["192.0.2.25"],
    (HOSTNAME, "A"): ["192.0.2.25"],
    ("many.example.test", "MX"): [f"{100 - i} h{i}.example.test." for i in range(30)],
    **{(f"h{i}.example.test", "A"): [f"203.0.113.{i + 1}"] for i in range(30)},
    ("silent.example.test", "MX"): None,
    ("mute.example.test", "MX"): None,
    ("only6.example.test", "AAAA"): ["2001:db8:2::6"],
    ("nowhere.example.test", "A"): ["0.0.0.0"],
    ("9.2.0.192.in-addr.arpa", "PTR"): ["Client.Example.TEST."],
    ("client.example.test", "A"): ["192.0.2.7", "192.0.2.9"],
    (reverse("2001:db8::9"), "PTR"): ["client6.example.test."],
    ("client6.example.test", "AAAA"): ["2001:db8::9"],
    ("10.2.0.192.in-addr.arpa", "PTR"): ["liar.example.test."],  # somebody else's
    ("liar.example.test", "A"): ["198.51.100.1"],
    ("11.2.0.192.in-addr.arpa", "PTR"): ["z.example.test.", "liar.example.test.", "y.example.test.", "x.example.test."],
    ("x.example.test", "A"): ["198.51.100.1"],
    ("y.example.test", "A"): ["192.0.2.11"],
    ("z.example.test", "A"): ["192.0.2.11"],
    ("12.2.0.192.in-addr.arpa", "PTR"): "SERVFAIL",
    ("13.2.0.192.in-addr.arpa", "PTR"): None,
    ("14.2.0.192.in-addr.arpa", "PTR"): ["broken-a.example.test.", "good-a.example.test."],
    ("broken-a.example.test", "A"): "SERVFAIL",
    ("good-a.example.test", "A"): ["192.0.2.14"],
    ("15.2.0.192.in-addr.arpa", "PTR"): [r"a\(b\032c.example.test.", "."],
    ("16.2.0.192.in-addr.arpa", "PTR"): [f"p{i:02}.example.test." for i in range(40)],
    **{(f"p{i:02}.example.test", "A"): ["192.0.2.16"] for i in range(40)},
    ("17.2.0.192.in-addr.arpa", "PTR"): ["mute-a.example.test.", "quick-a.example.test."],
    ("mute-a.example.test", "A"): None,
    ("quick-a.example.test", "A"): ["192.0.2.17"],
}


def targets(answer):
    return [(t["host"], t["address"]) for t in answer["targets"]]


def expect_failure(answer, outcome, code, enhanced):
    expect((answer["outcome"], answer["code"], answer["enhanced"]) == (outcome, code, enhanced), answer)


@case
def hosts_come_in_order_of_preference_ipv6_first(control, relay):
    answer = relay.resolve(domain="order.example.test")
    expect(answer["outcome"] == "ok" and answer["ttl"] <= 300, answer)
    expect(targets(answer)[0] == ("a.example.test", "2001:db8::101"), answer)
    expect(sorted(targets(answer)[1:3]) == [("a.example.test", "192.0.2.101"), ("a.example.test", "192.0.2.102")], answer)
    expect(targets(answer)[3:] == [("b.example.test", "192.0.2.111"), ("c.example.test", "2001:db8::121")], answer)
    expect([t["preference"] for t in answer["targets"]] == [10, 10, 10, 20, 30], answer)


@case
def without_mx_the_domain_is_the_host(control, relay):
    answer = relay.resolve(domain="implicit.example.test")
    expect(targets(answer) == [("implicit.example.test", "2001:db8:1::7"), ("implicit.example.test", "198.51.100.7")], answer)


@case
def a_null_mx_is_final(control, relay):
    expect_failure(relay.resolve(domain="null.example.test"), "fail", 556, "5.1.10")


@case
def a_null_mx_beside_others_is_left_out(control, relay):
    expect(targets(relay.resolve(domain="partly-null.example.test")) == [("b.example.test", "192.0.2.111")])


@case
def what_does_not_exist_is_final(control, relay):
    for domain in ("nxdomain.example.test", "empty.example.test", "dangling.example.test", "a..b", "x" * 300, "y" * 64 + ".test"):
        expect_failure(relay.resolve(domain=domain), "fail", 550, "5.1.2")


@case
def a_host_that_exists_is_enough(control, relay):
    expect(targets(relay.resolve(domain="half.example.test")) == [("b.example.test", "192.0.2.111")])
    expect(targets(relay.resolve(domain="half-broken.example.test")) == [("b.example.test", "192.0.2.111")])


@case
def a_failing_server_defers(control, relay):
    for domain in ("broken.example.test", "refused.example.test", "broken-host.example.test"):
        expect_failure(relay.resolve(domain=domain), "defer", 451, "4.4.3")


@case
def hosts_not_preferred_to_ourselves_are_dropped(control, relay):
    expect(targets(relay.resolve(domain="loop.example.test")) == [("b.example.test", "192.0.2.111")])


@case
def mail_that_would_come_back_is_final(control, relay):
    for domain in ("loop-first.example.test", "loop-address.example.test", HOSTNAME):
        expect_failure(relay.resolve(domain=domain), "fail", 554, "5.4.6")


@case
def of_many_hosts_the_best_are_taken(control, relay):
    answer = relay.resolve(domain="many.example.test")
    expect(targets(answer) == [(f"h{i}.example.test", f"203.0.113.{i + 1}") for i in range(29, 13, -1)], answer)


@case
def a_host_is_asked_for_its_addresses_only(control, relay):
    expect(targets(relay.resolve(host="b.example.test")) == [("b.example.test", "192.0.2.111")])
    # Of a route's host, even our own name is what the operator wrote.
    expect(targets(relay.resolve(host=HOSTNAME)) == [(HOSTNAME, "192.0.2.25")])


@case
def a_routes_host_that_does_not_exist_defers(control, relay):
    expect_failure(relay.resolve(host="gone.example.test"), "defer", 451, "4.4.4")


@case
def an_unspecified_address_is_nowhere_to_go(control, relay):
    expect_failure(relay.resolve(domain="nowhere.example.test"), "defer", 451, "4.4.4")


def name_of(relay, address):
    answer = relay.resolve(address=address)
    expect(answer["type"] == "named", answer)
    return answer["name"]


@case
def a_client_has_the_name_that_points_back_to_it(control, relay):
    expect(name_of(relay, "192.0.2.9") == "client.example.test")
    expect(name_of(relay, "::ffff:192.0.2.9") == "client.example.test")
    expect(name_of(relay, "2001:db8::9") == "client6.example.test")


@case
def a_name_that_does_not_point_back_is_none(control, relay):
    expect(name_of(relay, "192.0.2.10") == "")
    expect(name_of(relay, "192.0.2.200") == "" and name_of(relay, "2001:db8::200") == "")


@case
def of_several_names_the_first_in_order_counts(control, relay):
    expect(name_of(relay, "192.0.2.11") == "y.example.test")


@case
def what_fails_or_is_no_host_name_leaves_a_client_without(control, relay):
    expect(name_of(relay, "192.0.2.12") == "")
    expect(name_of(relay, "192.0.2.14") == "good-a.example.test")
    expect(name_of(relay, "192.0.2.15") == "")


@case
def names_of_one_address_are_bounded(control, relay):
    expect(name_of(relay, "192.0.2.16").startswith("p"))
    expect(len({name for name, kind in control.names.asked if kind == "A" and name[0] == "p"}) == 10)


@case
def a_name_that_takes_too_long_is_none(control, relay):
    expect(name_of(relay, "192.0.2.13") == "")
    expect(name_of(relay, "192.0.2.17") == "quick-a.example.test", "what is confirmed by then counts")


@case
def questions_at_once_are_all_answered(control, relay):
    for i in range(1000, 1200):
        relay.send({"type": "resolve", "token": i, "port": 25, "domain": f"many{i}.example.test" if i % 2 else "order.example.test"})
    relay.wait("200 answers", lambda r: all(i in r.resolved for i in range(1000, 1200)))
    expect(all(relay.resolved[i]["outcome"] == ("fail" if i % 2 else "ok") for i in range(1000, 1200)))


@case
def questions_that_are_none_hurt_nobody(control, relay):
    for question in ({}, {"domain": 5}, {"host": None}, {"domain": ""}, {"domain": "\x00\x01 \"{"}, {"address": 5}, {"address": "here"}, {"address": "192.0.2.13"}):
        relay.send({"type": "resolve", "token": 9000, **question})
    expect(relay.resolve(domain="implicit.example.test")["outcome"] == "ok")


@case
def a_relay_may_go_while_its_question_is_out(control, relay):
    other = control.relay("other")
    other.send({"type": "resolve", "token": 1, "domain": "mute.example.test"})
    other.close()
    expect(relay.resolve(domain="implicit.example.test")["outcome"] == "ok")


@case
def silence_defers_when_the_time_is_over(control, relay):
    # The library gives up by itself only after several tries.
    names = NameServer(TABLE)
    other = Control(dns={"server": f"127.0.0.1@{names.port}", "timeout": 1})
    try:
        answer = other.relay().resolve(domain="silent.example.test")
        expect_failure(answer, "defer", 451, "4.4.3")
        expect("in time" in answer["text"], answer)
    finally:
        other.close()
        names.close()


@case
def a_node_without_ipv6_reaches_only_ipv4(control, relay):
    names = NameServer(TABLE)
    other = Control(addresses=["192.0.2.25/24", "fe80::25/64"], dns={"server": f"127.0.0.1@{names.port}"})
    try:
        asking = other.relay()
        expect(targets(asking.resolve(domain="implicit.example.test")) == [("implicit.example.test", "198.51.100.7")])
        # It exists: mail to it must not bounce because of what this node lacks.
        expect_failure(asking.resolve(domain="only6.example.test"), "defer", 451, "4.4.4")
    finally:
        other.close()
        names.close()


@case
def the_answers_are_counted(control, relay):
    text = control.get("/metrics").body.decode()
    counts = {line.split()[0]: int(line.split()[1]) for line in text.splitlines() if line.startswith("hikyaku_control_names")}
    expect(counts["hikyaku_control_names_asked_total"] >= 200, counts)
    # That of the relay that went may still be out.
    expect(0 <= 2 * counts["hikyaku_control_names_asked_total"] - sum(counts.values()) <= 1, counts)


def run():
    names = NameServer(TABLE)
    control = Control(dns={"server": f"127.0.0.1@{names.port}", "timeout": 10})
    control.names = names
    try:
        return main(control, control.relay())
    finally:
        control.close()
        names.close()


sys.exit(run())
