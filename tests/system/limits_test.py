# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, many, malformed or malicious meet a limit and its reply; behind all of them the relay takes
and delivers mail as before, has counted what happened, and has not grown.
"""

import os
import random
import re
import select
import socket
import ssl
import sys
import threading
import time

from cases import case, expect, expect_in, main
from peers import Client, Sink, add_address, all_gone, api, labelled, metrics, socket_in, submit, tls_context
import lab
from lab import HOSTNAME, RELAY_V4, Lab, wait_for

TO = f"bob@{lab.DOMAIN}"
PER_CLIENT, CONNECTIONS, HANDSHAKES, RECIPIENTS = 20, 300, 15, 1000
NORMALISED = "198.51.100.66"
CROWD = [f"198.51.100.{n}" for n in range(100, 117)]
CROWD_NETWORK = "198.51.100.96/27"
POLICY = {
    "in_rules": [{"id": "normalised", "client": f"{NORMALISED}/32", "action": "relay", "normalise_bare_lf": True},
                 {"id": "customers", "client": "198.51.100.0/24", "action": "relay"}],
    "routes": [{"id": "dest", "domain": lab.DOMAIN, "via": "hosts", "hosts": [{"host": lab.RECEIVER_V4}]}],
}


def still_serves(l, marker):
    submit(l, TO, marker)
    return wait_for(f"the mail {marker}", 20, lambda: l.sink.bearing(marker))[0]


def drip(client, data, seconds):
    """Sends a byte at a time until the server speaks or closes."""
    client.sock.settimeout(seconds)
    for i in range(len(data)):
        try:
            client.send(data[i:i + 1])
            return client.reply()
        except TimeoutError:
            continue
        except (ConnectionError, EOFError):
            return None
    return None


@case
def a_command_a_byte_a_second_gets_421(l):
    with Client(l) as c:
        expect(drip(c, b"EHLO client.example.test" * 4, 0.3) == (421, f"421 4.4.2 {HOSTNAME} Error: timeout exceeded"))
        expect(c.ends() in (b"", b"RST"))


@case
def content_a_byte_a_second_gets_421_and_is_not_delivered(l):
    with Client(l) as c:
        c.ehlo()
        for command in ("MAIL FROM:<a@sender.example.test>", f"RCPT TO:<{TO}>", "DATA"):
            c.cmd(command)
        got = drip(c, b"X-Marker: slow\r\n\r\n" + b"x" * 200, 0.3)
        expect(got == (421, f"421 4.4.2 {HOSTNAME} Error: timeout exceeded"), got)
    expect(not l.sink.bearing("slow"))


@case
def a_client_that_never_says_anything_gets_421(l):
    with Client(l) as c:
        expect(c.reply()[0] == 421)


@case
def clients_that_never_read_hold_nobody_up_and_are_cut(l):
    stuck = [Client(l, source=CROWD[i // 5], room=4096) for i in range(25)]
    for c in stuck:
        c.send(b"HELP\r\n" * 990)  # 85 KB of replies: more than the relay sends ahead
    still_serves(l, "beside-the-stuck")
    busy = cpu_seconds(l)
    time.sleep(1)
    busy = cpu_seconds(l) - busy
    expect(busy < 0.5, "waiting for them costs", busy, "s of a processor in a second")
    all_gone(l, "--peer", CROWD_NETWORK)
    for c in stuck:
        rest = c.ends()
        expect(rest.endswith(b"RST") and rest.count(b"214") < 980, rest[-80:], rest.count(b"214"))


@case
def too_many_connections_of_one_client_get_421_and_others_none(l):
    all_gone(l)
    clients = [Client(l) for _ in range(2 * PER_CLIENT)]
    greetings = [c.greeting for c in clients]
    want = (421, f"421 4.7.0 {HOSTNAME} Error: too many connections from {lab.SENDER_V4}")
    expect(greetings[:PER_CLIENT] == [(220, f"220 {HOSTNAME} ESMTP")] * PER_CLIENT, greetings)
    expect(greetings[PER_CLIENT:] == [want] * PER_CLIENT, greetings)
    with Client(l, source=CROWD[0]) as c:
        expect(c.greeting[0] == 220, "another client")
    for c in clients:
        c.close()
    wait_for("room for the client again", 10, lambda: Client(l).greeting[0] == 220, 0.3)
    l.wait_for_records(stage="connect", reason="connections per client")


def connecting(l, source):
    """A socket that has begun to."""
    sock = socket_in(l, "sender")
    sock.bind((source, 0))
    sock.setblocking(False)
    sock.connect_ex((RELAY_V4, 25))
    return sock


@case
def all_connections_taken_leaves_the_rest_unanswered_and_comes_back(l):
    all_gone(l)
    clients = [Client(l, source=CROWD[i // PER_CLIENT]) for i in range(CONNECTIONS)]
    expect(all(c.greeting[0] == 220 for c in clients))
    more = [connecting(l, CROWD[-1]) for _ in range(10)]
    expect(select.select(more, more, [], 0.5) == ([], [], []), "more than all")
    for sock in more:
        sock.close()
    for c in clients:
        c.close()
    wait_for("a new connection", 10, lambda: quietly(lambda: Client(l, timeout=1).greeting[0] == 220), 0.3)
    still_serves(l, "after-the-crowd")


def quietly(function):
    try:
        return function()
    except (OSError, EOFError):
        return None


@case
def an_over_long_line_gets_500_and_an_endless_one_421(l):
    with Client(l) as c:
        c.ehlo()
        expect(c.cmd("NOOP " + "x" * 4000) == (500, "500 5.5.6 Error: line too long"))
        expect(c.cmd("NOOP")[0] == 250)
        try:
            c.send(b"x" * 200000)
        except ConnectionError:
            pass
        expect_in(b"421 4.7.0", c.ends())


@case
def a_huge_header_gets_552(l):
    for body in (b"".join(b"X-%d: %s\r\n" % (i, b"y" * 100) for i in range(400)) + b"\r\nhello\r\n",
                 b"X-Long: " + b"z" * 40000 + b"\r\n\r\nhello\r\n"):
        with Client(l) as c:
            c.ehlo()
            for command in ("MAIL FROM:<a@sender.example.test>", f"RCPT TO:<{TO}>", "DATA"):
                c.cmd(command)
            c.send(body + b".\r\n")
            expect(c.reply() == (552, "552 5.3.4 Header section exceeds fixed limit"))
            expect(c.mail(TO, "behind-the-header")[0] == 250, "and the session goes on")


@case
def a_message_larger_than_the_limit_gets_552(l):
    with Client(l) as c:
        c.ehlo()
        expect(c.cmd(f"MAIL FROM:<a@sender.example.test> SIZE={200 * 1024}")[1].startswith("552 5.3.4"))
        for command in ("MAIL FROM:<a@sender.example.test>", f"RCPT TO:<{TO}>", "DATA"):
            c.cmd(command)
        c.send(b"Subject: x\r\n\r\n" + (b"w" * 78 + b"\r\n") * 2000 + b".\r\n")
        expect(c.reply() == (552, "552 5.3.4 Message size exceeds fixed limit"))


@case
def a_thousand_recipients_are_taken_and_one_more_gets_452(l):
    with Client(l) as c:
        c.ehlo()
        to = [f"user{i}@{lab.DOMAIN}" for i in range(RECIPIENTS + 3)]
        c.send(b"MAIL FROM:<a@sender.example.test>\r\n" + b"".join(f"RCPT TO:<{t}>\r\n".encode() for t in to))
        replies = [c.reply() for _ in range(len(to) + 1)]
        expect(all(code == 250 for code, _ in replies[:-3]))
        expect(replies[-3:] == [(452, "452 4.5.3 Error: too many recipients")] * 3, replies[-3:])
        c.cmd("DATA")
        c.send(b"X-Marker: thousand\r\n\r\nhello\r\n.\r\n")
        expect(c.reply()[0] == 250)

    def all_of_them():
        got = [t for m in l.sink.bearing("thousand") for t in m["to"]]
        return len(got) >= RECIPIENTS and got
    got = wait_for("the mail for all", 30, all_of_them)
    expect(sorted(got) == sorted(to[:RECIPIENTS]), len(got))


SMUGGLING = [b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r"]
SECOND = b"MAIL FROM:<evil@sender.example.test>\r\nRCPT TO:<" + TO.encode() + b">\r\nDATA\r\nX-Marker: smuggled\r\n\r\nx"


@case
def bare_line_ends_are_refused_and_smuggle_nothing(l):
    for vector in SMUGGLING:
        with Client(l) as c:
            c.ehlo()
            for command in ("MAIL FROM:<a@sender.example.test>", f"RCPT TO:<{TO}>", "DATA"):
                c.cmd(command)
            c.send(b"X-Marker: bare\r\n\r\nhello" + vector + SECOND + b"\r\n.\r\n")
            expect(c.reply() == (550, "550 5.5.2 Error: bare <CR> or <LF> in message"), vector)
    with Client(l) as c:
        c.send(b"EHLO client.example.test\n")
        expect_in(b"521 5.5.2", c.ends())
    time.sleep(0.5)
    expect(not l.sink.bearing("bare") and not l.sink.bearing("smuggled"))


@case
def bare_line_ends_are_normalised_for_the_client_that_may_and_smuggle_nothing(l):
    for i, vector in enumerate(SMUGGLING):
        with Client(l, source=NORMALISED) as c:
            c.ehlo()
            for command in ("MAIL FROM:<a@sender.example.test>", f"RCPT TO:<{TO}>", "DATA"):
                c.cmd(command)
            c.send(f"X-Marker: mended-{i}\r\n\r\none\ntwo\rthree".encode() + vector + SECOND + b"\r\n.\r\n")
            code, text = c.reply()
            expect(code == 250, vector, text)
        body = wait_for("the mail", 10, lambda: l.sink.bearing(f"mended-{i}"))[0]["content"]
        expect_in(b"one\r\ntwo\r\nthree\r\n", body)
        expect(not re.search(b"[^\r]\n|\r[^\n]", body), body)
    expect(not [m for m in l.sink.mails if "evil" in m["from"]])


@case
def bytes_in_clear_behind_starttls_end_the_session(l):
    for behind in (b"NOOP\r\n", b"MAIL FROM:<a@sender.example.test>\r\nRCPT TO:<%s>\r\n" % TO.encode()):
        with Client(l) as c:
            c.ehlo()
            c.send(b"STARTTLS\r\n" + behind)
            rest = c.ends()
            expect(b"250" not in rest, rest)
    with Client(l) as c:  # and just before the handshake
        c.ehlo()
        expect(c.cmd("STARTTLS")[0] == 220)
        c.send(b"NOOP\r\n")
        rest = c.ends()
        expect(b"250" not in rest, rest)


@case
def a_client_that_talks_before_its_turn_is_refused(l):
    with Client(l) as c:
        c.ehlo()
        c.send(f"MAIL FROM:<a@sender.example.test>\r\nRCPT TO:<{TO}>\r\nDATA\r\nX-Marker: early\r\n\r\nx\r\n.\r\n".encode())
        expect(c.reply()[0] == 250 and c.reply()[0] == 250)
        expect(c.reply() == (554, "554 5.5.0 Error: SMTP protocol synchronization"), "DATA with content behind it")
        expect(c.ends() in (b"", b"RST"))
    with Client(l) as c:
        c.send(b"EHLO client.example.test\r\nMAIL FROM:<a@sender.example.test>\r\n")
        expect(c.reply() == (554, "554 5.5.0 Error: SMTP protocol synchronization"), "EHLO ends a group")


@case
def a_reset_in_the_middle_of_data_leaves_nothing_behind(l):
    for i in range(50):
        c = Client(l)
        c.ehlo()
        for command in ("MAIL FROM:<a@sender.example.test>", f"RCPT TO:<{TO}>", "DATA"):
            c.cmd(command)
        c.send(b"X-Marker: reset\r\n\r\n" + b"r" * 1000 * (i + 1))
        c.reset()
    still_serves(l, "after-the-resets")
    expect(not l.sink.bearing("reset"))


def client_hello():
    out = ssl.MemoryBIO()
    shaking = tls_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname=HOSTNAME)
    try:
        shaking.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def stuck_after(l, said):
    stuck = []
    for i in range(HANDSHAKES):
        c = Client(l, port=465, greeted=False, source=CROWD[i % 5])
        c.send(said)
        stuck.append(c)
    return stuck


def each_times_out(l, stuck, reason):
    for c in stuck:
        c.ends()
        c.close()
    found = l.wait_for_records(len(stuck), stage="tls", reason=reason)
    expect(len(found) == len(stuck), "each once", found)


def failures(l, reason):
    return labelled(l, "hikyaku_tls_handshake_failures", side="server", reason=reason)


@case
def half_open_handshakes_are_bounded_and_time_out(l):
    before, timed_out = failures(l, "in_flight"), failures(l, "timed_out")
    stuck = stuck_after(l, client_hello())
    for c in stuck:
        expect(c.sock.recv(1, socket.MSG_PEEK) == b"\x16", "its handshake is under way")
    with Client(l) as c:
        c.ehlo()
        expect(c.cmd("STARTTLS") == (454, "454 4.7.0 TLS not available due to temporary reason"))
    with Client(l, port=465, greeted=False) as c:
        expect(c.ends() in (b"", b"RST"), "implicit TLS has no words for it")
    refused = l.wait_for_records(2, reason="handshakes in flight")
    expect(len(refused) == 2, refused)
    each_times_out(l, stuck, "handshake timed out")
    wait_for("the counter", 5, lambda: failures(l, "in_flight") == before + 2)
    wait_for("the other counter", 5, lambda: failures(l, "timed_out") == timed_out + HANDSHAKES)
    with Client(l) as c:
        c.ehlo()
        c.starttls()
        expect(c.ehlo()[0] == 250)


@case
def clients_without_a_whole_client_hello_keep_nobody_from_tls(l):
    before = failures(l, "timed_out")
    stuck = stuck_after(l, client_hello()[:-1])
    with Client(l) as c:
        c.ehlo()
        c.starttls()
        expect(c.ehlo()[0] == 250)
    each_times_out(l, stuck, "no ClientHello came in time")
    wait_for("the counter", 5, lambda: failures(l, "timed_out") == before + HANDSHAKES)


@case
def a_client_hello_may_come_in_any_pieces(l):
    hello = client_hello()
    with Client(l, port=465, greeted=False) as c:
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(hello) - 1):
            if i % 100 == 0:
                time.sleep(0.005)
            c.send(hello[i:i + 1])
        c.sock.settimeout(0.5)
        try:
            expect(False, f"an answer to half a ClientHello: {c.sock.recv(100)}")
        except TimeoutError:
            pass
        c.sock.settimeout(10)
        c.send(hello[-1:])
        expect(c.sock.recv(1) == b"\x16", "a ServerHello")


@case
def garbage_instead_of_a_client_hello_ends_the_connection(l):
    rng = random.Random(25)
    for i in range(40):
        junk = rng.randbytes(rng.choice((1, 5, 17, 300, 5000)))
        with Client(l, port=465, greeted=False) as c:
            quietly(lambda: c.send(b"\x16\x03\x01" + junk if i % 2 else junk))
            quietly(lambda: c.sock.shutdown(socket.SHUT_WR))
            expect(b"220" not in c.ends())
    with Client(l) as c:
        c.ehlo()
        c.cmd("STARTTLS")
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        expect(b"250" not in c.ends())


@case
def garbage_instead_of_commands_ends_in_an_error(l):
    rng = random.Random(5321)
    for i in range(20):
        with Client(l) as c:
            quietly(lambda: c.send(rng.randbytes(20000)))
            quietly(lambda: c.sock.shutdown(socket.SHUT_WR))
            rest = c.ends()
            expect(rest[:1] in (b"", b"5", b"4", b"R"), rest[:100])
    with Client(l) as c:
        c.ehlo()
        for i in range(30):
            code, text = c.cmd("XYZZY")
            if code == 421:
                break
            lines = c.buffer
            if b"421" in lines:
                break
        expect(i == 20, "errors of a session are bounded", i)


@case
def bdat_of_odd_sizes_gets_its_error(l):
    for size in ("", "-1", "+5", "1e3", "0x10", "99999999999999999999999", "4294967296", "5 FIRST", "5 LAST LAST", "five"):
        with Client(l) as c:
            c.ehlo()
            c.cmd("MAIL FROM:<a@sender.example.test>")
            c.cmd(f"RCPT TO:<{TO}>")
            code, text = c.cmd(f"BDAT {size}".rstrip())
            expect(code in (501, 552), size, text)
    expect(not l.sink.bearing("odd"))


@case
def bdat_in_many_chunks_arrives_byte_for_byte(l):
    content = b"X-Marker: chunks\r\n\r\n.\r\n..\r\n" + bytes(range(0x20, 0x7f)) + b"\r\n.\r\nQUIT\r\n"
    with Client(l) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@sender.example.test>")
        c.cmd(f"RCPT TO:<{TO}>")
        for i in range(len(content)):
            c.send(b"BDAT 1\r\n" + content[i:i + 1])
        for i in range(len(content)):
            expect(c.reply() == (250, "250 2.0.0 Ok: 1 bytes"), i)
        expect(c.cmd("BDAT 0 LAST")[0] == 250)
    got = wait_for("the mail", 10, lambda: l.sink.bearing("chunks"))[0]["content"]
    expect(got.endswith(content), got)


@case
def no_address_is_taken_apart(l):
    for local in ("bob%elsewhere.example.test", "elsewhere.example.test!bob", '"bob@elsewhere.example.test"', "bob+x=y"):
        to = f"{local}@{lab.DOMAIN}"
        submit(l, to, "whole")
        wait_for(to, 10, lambda: [m for m in l.sink.bearing("whole") if m["to"] == [to]])
    with Client(l) as c:
        c.ehlo()
        c.cmd("MAIL FROM:<a@sender.example.test>")
        code, text = c.cmd(f"RCPT TO:<bob%{lab.DOMAIN}@elsewhere.example.test>")
        expect(code == 550, text)


@case
def many_handshakes_and_sessions_do_not_grow_it(l):
    def settled_kb():
        nothing_is_left(l)
        return resident_kb(l)

    context = tls_context()

    def round_of(n):
        for i in range(n):
            with Client(l) as c:
                c.ehlo()
                c.starttls(context)
                c.ehlo()
                c.mail(TO, "growth")
            c = Client(l)
            c.ehlo()
            c.cmd("STARTTLS")
            c.send(b"\x16\x03\x01\x00\x05hello")
            c.reset()
    round_of(60)
    before = settled_kb()
    round_of(300)
    grown = settled_kb() - before
    expect(grown < 4096, "grown by", grown, "KB")


def cpu_seconds(l):
    with open(f"/proc/{l.relay.pid}/stat") as f:
        fields = f.read().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_kb(l):
    with open(f"/proc/{l.relay.pid}/status") as f:
        return int(re.search(r"VmRSS:\s+(\d+)", f.read()).group(1))


def nothing_is_left(l):
    all_gone(l)
    wait_for("the queue to be empty", 20, lambda: metrics(l)["hikyaku_queue_mails"] == 0)


@case
def after_all_of_it_it_serves_has_counted_and_has_not_grown(l):
    still_serves(l, "in-the-end")
    nothing_is_left(l)
    expect(l.relay.poll() is None and l.started == l.relay.pid, "the same process")
    grown = resident_kb(l) - l.rss_at_start
    expect(grown < 100 * 1024, "grown by", grown, "KB")
    m = metrics(l)
    for name, least in (("hikyaku_accepted_connections", 700), ("hikyaku_refused_connections", PER_CLIENT),
                        ("hikyaku_server_handshakes", 300), ("hikyaku_server_handshake_failures", 300),
                        ("hikyaku_mails_accepted", 300), ("hikyaku_commands_refused", 50), ("hikyaku_timeouts", 3),
                        ("hikyaku_recipients_delivered", 1300)):
        expect(m.get(name, 0) >= least, name, m.get(name), "expected at least", least)
    expect(m.get("hikyaku_records_lost", 0) == 0)
    wait_for("no connection to be counted", 30, lambda: metrics(l)["hikyaku_connections"] == 0)


def run_all():
    settings = {
        "limits": {"connections": CONNECTIONS, "delivery_percent": 0, "connections_per_client": PER_CLIENT, "handshakes": HANDSHAKES,
                   "client_handshakes": 60000,
                   "header_bytes": "16K", "tcp_send_bytes": "16K", "message_bytes": "128K", "recipients": RECIPIENTS},
        # Long enough for what a case does meanwhile: before the first of a crowd is timed out, the last is there.
        "timeouts": {"server_command": "7s", "server_content": "4s", "handshake": "6s", "idle": "1s"}}
    with Lab(settings=settings) as l:
        l.make_network()
        for address in [NORMALISED, *CROWD]:
            add_address(l, "sender", address)
        l.sink = Sink(l, lab.RECEIVER_V4)
        l.write_config()
        l.start_control()
        api(l, "POST", "/v1/apply", POLICY)
        l.start_relay()
        l.started = l.relay.pid
        still_serves(l, "at-the-start")
        l.rss_at_start = resident_kb(l)
        return main(l)


if __name__ == "__main__":
    sys.exit(run_all())
