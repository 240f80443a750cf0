# SPDX-License-Identifier: Apache-2.0
"""What an operator at a shell sees of a running relay's TCP.

seen_test.py [CORES] [CASE...]
"""

import collections
import contextlib
import json
import signal
import struct
import subprocess
import sys
import tempfile
import time

from cases import case, expect, expect_in, main
import lab
from lab import PATIENCE, RELAY_V4, RELAY_V6, SENDER_V4, Lab, wait_for
from peers import Client, add_address, all_gone, api, metrics, tls_context

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
    all_gone(l)
    with clients(l, 3) as three, clients(l, 2, host=RELAY_V6) as two:
        for c in (*three, *two):
            c.send(b"EHLO client.example.test\r\n")
            c.reply()
        items = wait_for("all to be acknowledged", 5, lambda: len(got := connections(l)) == 5 and
                         not any(i["send_queue"] for i in got) and got)
        expect(len(items) == 5, items)
        local = {c.sock.getsockname()[:2] for c in (*three, *two)}
        expect({(i["remote"], i["remote_port"]) for i in items} == local, items, local)
        for i in items:
            expect((i["state"], i["direction"], i["local_port"], i["listener"], i["phase"], i["name"]) ==
                   ("ESTABLISHED", "in", 25, "smtp", "command", "client.example.test"), i)
            expect(i["local"] == (RELAY_V6 if ":" in i["remote"] else RELAY_V4), i)
            expect(1400 <= i["mss"] <= 1460 and i["cwnd"] >= i["mss"], i)
            expect(0 < i["rtt_us"] < 10000000 and i["rto_us"] >= 200000, i)
            expect(i["bytes_in"] == 26 and i["bytes_out"] > 50 and i["send_queue"] == 0, i)
            expect(0 <= i["core"] < CORES and 0 <= i["age"] < 600 and "tls" not in i, i)
        if CORES == 2:
            with clients(l, 30):
                expect({i["core"] for i in connections(l)} == {0, 1}, "one core has all")
        expect(len({i["id"] for i in items}) == 5)
    all_gone(l)


@case
def tls_and_filters(l):
    all_gone(l)
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


SYN = """
import random, socket, struct, sys
source, target, port = socket.inet_aton(sys.argv[1]), socket.inet_aton(sys.argv[2]), int(sys.argv[3])
def checksum(data):
    total = sum(struct.unpack(f'>{len(data) // 2}H', data))
    while total >> 16: total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff
tcp = struct.pack('>HHIIHHHH', port, 25, random.getrandbits(32), 0, 0x5002, 65535, 0, 0)
total = checksum(source + target + struct.pack('>HH', 6, len(tcp)) + tcp)
tcp = tcp[:16] + struct.pack('>H', total) + tcp[18:]
ip = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 0, 0, 0, 64, 6, 0, source, target)
socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).sendto(ip + tcp, (sys.argv[2], 0))
"""


@case
def half_open_ones_and_those_in_time_wait_are_counted_and_listed_if_asked(l):
    port = talk(l)  # the relay closes first
    l.python("sender", SYN, "198.51.100.99", RELAY_V4, "4321")  # nobody has that address: the last ACK never comes
    wait_for("both to be there", 10, lambda: {(i["state"], i["remote"], i["remote_port"])
             for i in connections(l, "--all")} >= {("TIME-WAIT", SENDER_V4, port), ("SYN-RECEIVED", "198.51.100.99", 4321)})
    all_gone(l)  # they are no connections
    for i in connections(l, "--all"):
        expect("id" not in i and 0 < i["until"] <= 60, i)
    expect({i["state"] for i in connections(l, "--all", "--state", "SYN-RECEIVED")} == {"SYN-RECEIVED"})
    expect([i["remote_port"] for i in connections(l, "--all", "--port", str(port))] == [port])
    counts = l.ctl_json("connections")
    expect(counts["half_open"] == 1 and counts["time_wait"] >= 1, counts)
    # Page by page too, each once; unless one has gone meanwhile.
    def whole():
        return sorted((i["remote"], i["remote_port"]) for i in connections(l, "--all", "--limit", "1000"))

    def by_pages():
        before, after, got = whole(), None, []
        while after != "":
            page = api(l, "GET", "/v1/connections?all=1&limit=1" + (f"&after={after}" if after else ""))
            got += [(i["remote"], i["remote_port"]) for i in page["items"]]
            after = page.get("next", "")
        return whole() == before and (before, sorted(got))
    before, got = wait_for("a list that stands still", PATIENCE, by_pages)
    expect(got == before and len(got) >= 2, got, before)


@case
def a_thousand_connections_are_listed_each_once(l):
    all_gone(l)
    sources = [f"198.51.100.{n}" for n in (11, 12, 13)]
    for source in sources:
        add_address(l, "sender", source)
    with contextlib.ExitStack() as stack:
        local = set()
        for source in sources:
            for _ in range(340):
                c = stack.enter_context(Client(l, source=source, greeted=False))
                local.add(c.sock.getsockname())
        def all_of_them():
            began, listed = time.monotonic(), l.ctl_json("connections", "--limit", "100000")
            print(f"    {len(listed['items'])} connections in {time.monotonic() - began:.2f} s", flush=True)
            return len(listed["items"]) >= 1020 and listed
        listed = wait_for("the last one's handshake to be over", PATIENCE, all_of_them)
        got = [(i["remote"], i["remote_port"]) for i in listed["items"]]
        expect(set(got) == local and len(got) == len(local) == 1020, len(got), len(set(got)), len(local))
        expect(listed["connections"] == 1020, listed["connections"])
        best = connections(l, "--sort", "age", "--limit", "10")
        oldest = sorted((i["age"] for i in listed["items"]), reverse=True)[9]
        expect(len(best) == 10 and all(i["age"] >= oldest for i in best), best, oldest)
        expect(len(connections(l, "--peer", sources[1], "--limit", "5000")) == 340)
        expect(len(connections(l, "--limit", "700")) == 700)
        wait_for("the metrics to count them", 30, lambda: metrics(l)["hikyaku_tcp_state"] == 1020)
    all_gone(l)


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


# ---- what is watched ----

@contextlib.contextmanager
def running(l, *args, **options):
    """hikyakuctl beside what the test does; its process, with output and errors as text once it has ended."""
    out, is_text = tempfile.TemporaryFile(), options.get("text", True)  # a pipe would be full before it is read
    process = subprocess.Popen([l.bin / "control" / "ctl" / "hikyakuctl", "--socket", l.api, *map(str, args)],
                               stdout=out, stderr=subprocess.PIPE, text=is_text)
    try:
        line = process.stderr.readline()
        expect("listening" in str(line), line)
        yield process
        _, process.err = process.communicate(timeout=2 * PATIENCE)
        out.seek(0)
        process.out = out.read().decode() if is_text else out.read()
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    expect(process.returncode == options.get("code", 0), process.returncode, process.out, process.err)


def is_watched(l, path, body):
    """Is a trace or capture under way? Then a second one is refused."""
    answer = api(l, "POST", path, body, expect_status=None)
    if "id" in answer:
        api(l, "DELETE", f"{path}/{answer['id']}", expect_status=None)
    return "another" in answer.get("error", "")


def talk(l, host=RELAY_V4, **options):
    """A short dialog; the client's port."""
    with Client(l, host=host, **options) as c:
        c.send(b"EHLO client.example.test\r\n")
        c.reply()
        c.send(b"QUIT\r\n")
        c.reply()
        expect(c.sock.recv(10) == b"")
        return c.sock.getsockname()[1]


@case
def a_trace_tells_of_a_connection_from_syn_to_fin(l):
    all_gone(l)
    with running(l, "--json", "trace", "--peer", SENDER_V4, "--port", 25, "--seconds", 600) as ctl:
        port = talk(l)
        talk(l, host=RELAY_V6)
        talk(l, port=465, implicit=tls_context())
        all_gone(l)
        ctl.send_signal(signal.SIGINT)
    events = [json.loads(line) for line in ctl.out.splitlines()]
    expect_in(", 0 lost", ctl.err)
    expect({e["remote_port"] for e in events} == {port}, "others are told of", events)
    expect(len({e["core"] for e in events}) == 1, events)
    segments = [(e["event"], e["flags"]) for e in events if e["event"] in ("in", "out")]
    expect(segments[0] == ("in", "S") and segments[1] == ("out", "S."), segments)
    expect(("out", "FP.") in segments or ("out", "F.") in segments, segments)
    expect(any("F" in flags for way, flags in segments if way == "in"), segments)
    states = [e["to"] for e in events if e["event"] == "state"]
    expect(states[:2] == ["SYN-RECEIVED", "ESTABLISHED"] and states[-1] == "CLOSED", states)
    came = {e["seq"]: e["length"] for e in events if e["event"] == "in"}  # once, though the client may have sent it twice
    expect(sum(came.values()) == len("EHLO client.example.test\r\nQUIT\r\n"), events)
    expect(any(e["event"] == "cc" and e["cwnd"] > 1000 for e in events), events)
    times = [e["time_us"] for e in events]
    expect(times == sorted(times) and abs(times[0] / 1e6 - time.time()) < 600, times)


@case
def a_trace_is_bounded_and_one_at_a_time(l):
    all_gone(l)
    with running(l, "trace", "--peer", SENDER_V4, "--count", 5, "--seconds", 3600) as ctl:  # ends by its count
        refused = l.ctl("trace", "--count", "1", check=False)
        expect(refused.returncode != 0 and "another" in refused.stderr, refused.stderr)
        talk(l)
    lines = ctl.out.splitlines()
    expect(len(lines) == 5, ctl.out)
    expect_in(f"{RELAY_V4}.25 {SENDER_V4}.", lines[0])
    expect_in("[S] seq ", lines[0])
    with running(l, "trace", "--peer", "203.0.113.0/24", "--seconds", 1) as ctl:  # ends by its time
        pass
    expect(ctl.out == "", ctl.out)


@case
def a_reader_that_goes_away_leaves_nothing_on(l):
    with running(l, "trace", "--seconds", 600, code=-signal.SIGKILL) as ctl:
        expect(is_watched(l, "/v1/trace", {"count": 1}))
        ctl.kill()
    wait_for("the trace to be forgotten", 20, lambda: not is_watched(l, "/v1/trace", {"count": 1}))
    with running(l, "trace", "--seconds", 600) as ctl:
        ctl.send_signal(signal.SIGINT)  # ends in order
    expect_in("events, 0 lost", ctl.err)


@case
def what_is_sent_again_is_counted_and_told_with_its_reason(l):
    l.start_bridge(loss="10%", seed=3)
    try:
        with running(l, "--json", "trace", "--port", 25, "--seconds", 600, "--count", 100000) as ctl, contextlib.ExitStack() as stack:
            open_ones = [stack.enter_context(Client(l, timeout=60)) for _ in range(4)]
            listed = None
            for _ in range(60):
                for c in open_ones:
                    c.send(b"EHLO client.example.test\r\n")
                for c in open_ones:
                    c.reply()
                listed = connections(l, "--sort", "retransmits")
                if listed[0]["retransmits"] > 1:
                    break
            expect(listed and listed[0]["retransmits"] > 1, "nothing was lost", listed)
            ctl.send_signal(signal.SIGINT)
        again = [e for e in map(json.loads, ctl.out.splitlines()) if "again" in e]
        mine = [e for e in again if e["remote_port"] == listed[0]["remote_port"] and e["length"]]
        expect(len(mine) >= listed[0]["retransmits"] > 0, listed[0], mine)
        words = {e["again"] for e in again}
        expect(words <= {"handshake", "timeout", "recovery", "probe", "tail-probe", "again"}, words)
    finally:
        l.stop_bridge()


# ---- capture ----

def read_pcap(data):
    """Frames of a pcap file of tcpdump's."""
    expect(data[:4] == b"\xd4\xc3\xb2\xa1", data[:4])
    at, frames = 24, []
    while at + 16 <= len(data):
        kept = struct.unpack_from("<8xII", data, at)[0]
        if at + 16 + kept > len(data):  # is being written
            break
        frames.append(data[at + 16:at + 16 + kept])
        at += 16 + kept
    return frames


def read_pcapng(data):
    """(frames as (is_out, length, bytes), statistics), having checked the blocks."""
    at, frames, statistics, kinds = 0, [], None, []
    while at < len(data):
        kind, length = struct.unpack_from("<II", data, at)
        expect(length % 4 == 0 and struct.unpack_from("<I", data, at + length - 4)[0] == length, kind, length)
        body = data[at + 8:at + length - 4]
        kinds.append(kind)
        if kind == 6:
            kept, whole = struct.unpack_from("<12xII", body)
            options = body[20 + (kept + 3) // 4 * 4:]
            expect(options[:4] == b"\2\0\4\0", options)
            frames.append((options[4] & 3 == 2, whole, body[20:20 + kept]))
        elif kind == 5:
            statistics = struct.unpack_from("<12x4xQ4xQ", body)
        at += length
    expect(kinds[:2] == [0x0a0d0d0a, 1] and kinds[-1] == 5, kinds)
    return frames, statistics


@contextlib.contextmanager
def kernel_sees(l, expression):
    """What tcpdump sees meanwhile on the kernel's side of the tap, in a list of frames. Its buffer is divided into places for
    packets of the largest size asked for, and by default there are some thirty."""
    path, frames = l.folder / "kernel.pcap", []
    process = subprocess.Popen(l.in_ns("node", "tcpdump", "-i", "hktap0", "-U", "--immediate-mode", "-s", "2048", "-B", "8192",
                                       "-w", path, "-Z", "root", "--", expression), stderr=subprocess.PIPE, text=True)
    line = process.stderr.readline()
    while "listening on" not in line:
        expect(line, "tcpdump did not start")
        line = process.stderr.readline()
    try:
        yield frames
        last = {talk(l)}  # what came before it has been seen when it is
        wait_for("tcpdump to see it", PATIENCE, lambda: [f for f in read_pcap(path.read_bytes()) if is_of(f, last)])
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=PATIENCE)
    frames += read_pcap(path.read_bytes())


def is_of(frame, ports):
    """Is it a segment from or to one of the clients' ports?"""
    tcp = frame[54:] if frame[12:14] == b"\x86\xdd" else frame[34:]
    return not ports.isdisjoint(struct.unpack_from(">HH", tcp))


@case
def a_capture_has_the_bytes_that_the_kernel_has_seen(l):
    path = l.folder / "capture.pcapng"
    all_gone(l)
    with kernel_sees(l, "tcp port 25") as seen:
        with running(l, "capture", "--port", "lan0", "--seconds", 600, "-w", path, "tcp", "port", 25) as ctl:
            ports = {talk(l, host=host) for host in (RELAY_V4, RELAY_V6) * 3}
            secure = talk(l, port=465, implicit=tls_context())  # not of the filter
            all_gone(l)
            ctl.send_signal(signal.SIGINT)
    frames, statistics = read_pcapng(path.read_bytes())
    expect(statistics == (len(frames), 0), statistics, len(frames))
    expect_in(f"{len(frames)} packets, 0 lost", ctl.err)
    mine = [f for f in frames if is_of(f[2], ports)]
    seen = [f for f in seen if is_of(f, ports)]  # not what an earlier connection still had to say
    expect(collections.Counter(f for _, _, f in mine) == collections.Counter(seen),
           f"{len(mine)} captured, {len(seen)} seen by the kernel")
    expect(len(mine) > 50 and all(length == len(f) for _, length, f in frames))
    expect(not any(is_of(f, {secure}) for _, _, f in frames))
    relay_mac = next(f for is_out, _, f in frames if is_out)[6:12]
    for is_out, _, f in frames:
        expect((f[6:12] if is_out else f[:6]) == relay_mac, is_out, f)
    told = lab.run("tcpdump", "-nn", "-r", path).stdout
    expect(told.count("\n") == len(frames), told)
    expect_in(b"220 relay.example.test", path.read_bytes())


@case
def a_capture_is_bounded_by_count_and_by_bytes(l):
    with running(l, "capture", "--port", "lan0", "--count", 7, "--seconds", 3600, "--snaplen", 60, "-w", "-", "tcp",
                 text=False) as ctl:
        talk(l)
    frames, statistics = read_pcapng(ctl.out)
    expect(len(frames) == 7 and statistics[0] == 7, len(frames), statistics)
    expect(all(len(f) == min(60, length) for _, length, f in frames), frames)
    done = subprocess.run(["tcpdump", "-nn", "-r", "-"], input=ctl.out, capture_output=True, check=True, timeout=PATIENCE)
    expect(done.stdout.count(b"\n") == 7, done.stdout)


@case
def a_capture_is_printed_a_line_a_packet(l):
    all_gone(l)
    with running(l, "capture", "--port", "lan0", "--count", 3, "--seconds", 3600, "tcp", "port", 25, "and", "host",
                 SENDER_V4) as ctl:
        talk(l, host=RELAY_V6)
        talk(l)
    lines = ctl.out.splitlines()
    expect(len(lines) == 3, ctl.out)
    expect_in(f"in  IP {SENDER_V4}.", lines[0])
    expect_in(f"> {RELAY_V4}.25: tcp [S] seq ", lines[0])
    expect_in(f"out IP {RELAY_V4}.25 > {SENDER_V4}.", lines[1])
    expect_in("tcp [S.] seq ", lines[1])


@case
def what_cannot_be_captured_is_refused(l):
    for args, words in ((("--port", "wan9"), "port"), (("--port", "lan0", "tcp", "porf", "25"), "filter"), ((), "--port"),
                        (("--port", "lan0", "--snaplen", "13"), "--snaplen"), (("--port", "lan0", "--count", "0"), "--count"),
                        (("--port", "lan0", "-w", "/nowhere/x"), "/nowhere/x")):
        done = l.ctl("capture", *args, check=False)
        expect(done.returncode != 0 and words in done.stderr, args, done.stderr)
    for bad in ([[5, 0, 0, 4294967295], [6, 0, 0, 1]], [[1]], "x" * 10, [[6, 0, 0, 1]] * 513):
        answer = api(l, "POST", "/v1/capture", {"port": "lan0", "filter": bad}, expect_status=None)
        expect("filter" in answer.get("error", "") or bad == "x" * 10, answer)
        if "id" in answer:
            api(l, "DELETE", f"/v1/capture/{answer['id']}")
    with clients(l, 1) as (c,):  # and nothing has come to harm
        c.send(b"NOOP\r\n")
        expect(c.reply()[0] == 250)


def run():
    global CORES
    CORES = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1
    with Lab(cores=CORES, settings={"limits": {"commands_per_session": 1000, "connections": 2500}}) as l:
        l.make_network()
        l.write_config()
        l.start_control()
        l.ctl("apply", "-", stdin=json.dumps(POLICY))
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run())
