#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The dataplane against a real kernel: system_test.py PATH-OF-dataplane_echo PATH-OF-dataplane_host

Makes two network namespaces of its own: in one runs dataplane_echo with a net_tap port, whose kernel side is
moved into the other, where this program plays the peer. Needs root. Leaves nothing behind.
"""
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

OURS4, OURS4_2, OURS6 = "192.0.2.1", "192.0.2.2", "2001:db8::1"
PEER4, PEER6 = "192.0.2.99", "2001:db8::99"
FAR4, FAR6 = "198.51.100.25", "2001:db8:ffff::25"
TAP = "hktap%d" % (os.getpid() % 100000)
BEHIND4, BEHIND6 = "203.0.113.9", "2001:db8:9::9"
NS_OURS, NS_PEER = "hk-dp-%d" % os.getpid(), "hk-peer-%d" % os.getpid()
NS_BEHIND = "hk-behind-%d" % os.getpid()
ECHO_PORT = 7
MEGABYTE = 1 << 20


def run(*command):
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


class Tool:
    """dataplane_echo in a namespace of its own; `with` starts and stops it."""

    def __init__(self, *arguments, tap=True):
        self.arguments, self.tap = arguments, tap

    def __enter__(self):
        device = ["--device", "net_tap0,iface=" + TAP] if self.tap else []
        addrs = ["--addr", OURS4 + "/24", "--addr", OURS4_2 + "/24", "--addr", OURS6 + "/64",
                 "--via", PEER4, "--via", PEER6] if self.tap else []
        self.process = subprocess.Popen(
            ["ip", "netns", "exec", NS_OURS, TOOL, *device, *addrs, *self.arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.reports = []
        try:
            line = self.process.stdout.readline()
            assert line == "ready\n", "dataplane_echo did not start: %r" % line
            if self.tap:
                self.connect_tap()
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise
        return self

    def connect_tap(self):
        run("ip", "-n", NS_OURS, "link", "set", TAP, "netns", NS_PEER)
        self.address_tap()
        self.wait_for_ipv6()

    def wait_for_ipv6(self):
        """Usable a second after the start (duplicate address detection). A client waits by itself."""
        if "--connect" not in self.arguments:
            wait_for(lambda: ping(OURS6, count=1), "an answer over IPv6")

    @staticmethod
    def address_tap():
        for addr in (PEER4 + "/24", FAR4 + "/32"):
            run("ip", "-n", NS_PEER, "addr", "add", addr, "dev", TAP)
        for addr in (PEER6 + "/64", FAR6 + "/128"):
            run("ip", "-n", NS_PEER, "addr", "add", addr, "dev", TAP, "nodad")
        run("ip", "-n", NS_PEER, "link", "set", TAP, "up", "mtu", "1500")

    def wait(self):
        """Until it ends by itself; the status."""
        out, _ = self.process.communicate(timeout=300)
        self.reports = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        self.port = dict(part.split("=", 1) for line in out.splitlines() if line.startswith("port=")
                         for part in line.split())
        return self.process.returncode

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.wait()
        assert status == 0, "dataplane_echo ended with %d" % status

    def __exit__(self, *_):
        try:
            if self.process.poll() is None:
                self.stop()
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()

    def sum(self, counter):
        return sum(report.get(counter, 0) for report in self.reports)


def wait_for(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain for " + what
        time.sleep(0.05)


def ping(address, count=3, size=56):
    return subprocess.run(["ping", "-q", "-c", str(count), "-i", "0.05", "-W", "2", "-s", str(size), address],
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def pattern(n, seed):
    block = bytes((i * 7 + seed) % 251 for i in range(251 * 64))
    return (block * (n // len(block) + 1))[:n]


def echo(address, n, source=None, seed=0):
    """Sends n bytes and reads them back at the same time; True if they are the same, FIN included."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sent, back, data = 0, bytearray(), pattern(n, seed)
    with socket.socket(family, socket.SOCK_STREAM) as s:
        if source:
            s.bind((source, 0))
        s.settimeout(60)
        s.connect((address, ECHO_PORT))
        s.setblocking(False)
        if n == 0:
            s.shutdown(socket.SHUT_WR)
        while True:
            readable, writable, _ = select.select([s], [s] if sent < n else [], [], 60)
            assert readable or writable, "no progress at %d sent, %d back" % (sent, len(back))
            if writable:
                sent += s.send(data[sent:sent + 65536])
                if sent == n:
                    s.shutdown(socket.SHUT_WR)
            if readable:
                part = s.recv(1 << 18)
                if not part:
                    break
                back += part
    return bytes(back) == data


def many_echoes(address, connections, n):
    results = [False] * connections

    def one(i):
        results[i] = echo(address, n, seed=i)
    threads = [threading.Thread(target=one, args=(i,)) for i in range(connections)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return all(results)


class OnVeth(Tool):
    """dataplane_echo on one end of a veth pair, the peer's kernel on the other."""

    def __init__(self, driver, *arguments, queues=""):
        device = "net_%s0,iface=hkours%s" % (driver, queues)
        super().__init__("--device", device, "--addr", OURS4 + "/24", "--addr", OURS6 + "/64",
                         "--via", PEER4, "--via", PEER6, *arguments, tap=False)

    def __enter__(self):
        run("ip", "-n", NS_OURS, "link", "add", "hkours", "type", "veth", "peer", "name", "hkpeer", "netns", NS_PEER)
        try:
            # The interface keeps its Ethernet address, so that its kernel must not have an address there.
            in_ours = ("ip", "netns", "exec", NS_OURS)
            run(*in_ours, "sysctl", "-qw", "net.ipv6.conf.hkours.disable_ipv6=1")
            # What a veth leaves undone, sums and cutting, nobody would do.
            run("ethtool", "-K", "hkpeer", "tx", "off", "gso", "off", "tso", "off")
            for addr in (PEER4 + "/24", PEER6 + "/64"):
                run("ip", "-n", NS_PEER, "addr", "add", addr, "dev", "hkpeer", *(["nodad"] if ":" in addr else []))
            run("ip", "-n", NS_PEER, "link", "set", "hkpeer", "up")
            run("ip", "-n", NS_OURS, "link", "set", "hkours", "up")
            super().__enter__()
            self.wait_for_ipv6()
            return self
        except BaseException:
            self.remove()
            raise

    @staticmethod
    def remove():
        run("ip", "-n", NS_OURS, "link", "del", "hkours")

    def __exit__(self, *_):
        try:
            super().__exit__()
        finally:
            self.remove()


class OnVirtio(Tool):
    """dataplane_echo as in a virtual machine: its card is virtio's, dataplane_host the machine's host."""

    def __init__(self, *arguments, host=()):
        self.host_arguments, self.directory = host, tempfile.TemporaryDirectory()
        self.path = os.path.join(self.directory.name, "card")
        super().__init__("--device", "net_virtio_user0,mac=02:68:6b:00:00:02,path=" + self.path,
                         "--addr", OURS4 + "/24", "--addr", OURS6 + "/64", "--via", PEER4, "--via", PEER6,
                         *arguments, tap=False)

    def __enter__(self):
        self.host = subprocess.Popen([HOST, "--socket", self.path, "--tap", TAP, *self.host_arguments],
                                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        try:
            assert self.host.stdout.readline() == "ready\n", "dataplane_host did not start"
            self.address_tap()
            super().__enter__()
            self.wait_for_ipv6()
            return self
        except BaseException:
            self.end_host()
            raise

    def end_host(self):
        self.host.terminate()
        try:
            out, _ = self.host.communicate(timeout=20)
        except BaseException:
            self.host.kill()
            self.host.wait()
            raise
        finally:
            self.directory.cleanup()
        assert self.host.returncode == 0, "dataplane_host ended with %d" % self.host.returncode
        self.counts = json.loads(out)

    def stop(self):
        super().stop()
        self.end_host()

    def __exit__(self, *_):
        try:
            super().__exit__()
        finally:
            if self.host.poll() is None:
                self.end_host()


class EchoServer:
    """The kernel's side as the server: echoes until the client's FIN, in threads."""

    def __init__(self, address, port):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.listener = socket.create_server((address, port), family=family, backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    @staticmethod
    def serve(conn):
        with conn:
            while data := conn.recv(65536):
                conn.sendall(data)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


# ---- the claims ----

def pings_of_all_sizes_are_answered():
    with Tool():
        for address, largest in ((OURS4, 1472), (OURS4_2, 1472), (OURS6, 1452)):
            for size in (0, 56, 57, largest):
                assert ping(address, size=size), "no answer from %s to %d bytes" % (address, size)


def bytes_come_back_as_they_went(cores):
    with Tool("--cores", str(cores)) as tool:
        for address in (OURS4, OURS4_2, OURS6):
            assert echo(address, 4 * MEGABYTE), "wrong bytes from " + address
            assert echo(address, 1) and echo(address, 0)
        tool.stop()
        assert tool.sum("drop_no_buffer") == 0


def bytes_come_back_over_one_core():
    bytes_come_back_as_they_went(1)


def bytes_come_back_over_two_cores():
    bytes_come_back_as_they_went(2)


def offloads_leave_the_bytes_as_they_are():
    """net_tap does in software what a card does: it sums and checks."""
    for words in ("tx-checksum", "rx-checksum tx-checksum tso rss"):
        with Tool("--offloads", words, "--cores", "2") as tool:
            for address in (OURS4, OURS6):
                assert echo(address, 4 * MEGABYTE), "wrong bytes from %s with %s" % (address, words)
                assert many_echoes(address, 8, 30001)
            assert ping(OURS4, size=1472) and ping(OURS6, size=1452)
            tool.stop()
            assert tool.sum("tx_joined") == 0, tool.reports  # its TSO does not work
            assert tool.sum("retransmits") < 100, tool.reports
            assert tool.port["tx_checksum"] == "port" and tool.port["rss_hash"] == "none", tool.port
            assert tool.port["rx_checksum"] == ("port" if "rx" in words else "software"), tool.port


def many_connections_spread_over_two_cores():
    with Tool("--cores", "2") as tool:
        for address in (OURS4, OURS6):
            assert many_echoes(address, 40, 100000)
        tool.stop()
        by_core = [report["tcp_in"] for report in tool.reports]
        assert min(by_core) > sum(by_core) / 10, "one core had nearly all: %r" % by_core
        assert tool.sum("handed_over") > 0 and tool.sum("drop_handover_full") == 0


def one_queue_serves_two_cores():
    with Tool("--cores", "2", "--queues", "1") as tool:
        assert many_echoes(OURS4, 20, 100000) and many_echoes(OURS6, 20, 100000)
        tool.stop()
        assert tool.sum("tx_handed_over") > 0
        assert tool.reports[1].get("rx_packets", 0) == 0


def hosts_behind_the_router_are_reached():
    with Tool():
        assert echo(OURS4, MEGABYTE, source=FAR4) and echo(OURS6, MEGABYTE, source=FAR6)


def checksum(data):
    total = sum(int.from_bytes(data[i:i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def syn(source, target, port):
    """A SYN with 20 bytes of options, so that it can be cut behind the fixed header."""
    family = socket.AF_INET6 if ":" in target else socket.AF_INET
    addresses = socket.inet_pton(family, source) + socket.inet_pton(family, target)
    segment = struct.pack("!HHIIBBHHH", port, ECHO_PORT, 1, 0, 0xa0, 2, 1000, 0, 0) + b"\x01" * 20
    total = checksum(addresses + struct.pack("!II", len(segment), socket.IPPROTO_TCP) + segment)
    return segment[:16] + struct.pack("!H", total) + segment[18:]


def fragments(source, target, segment, number):
    """The packets that carry the segment in two parts, the second first."""
    for first, part in ((24, segment[24:]), (0, segment[:24])):
        more = first == 0
        if ":" in target:
            yield (struct.pack("!IHBB", 6 << 28, 8 + len(part), 44, 64) + socket.inet_pton(socket.AF_INET6, source) +
                   socket.inet_pton(socket.AF_INET6, target) +
                   struct.pack("!BBHI", socket.IPPROTO_TCP, 0, first | more, number) + part)
        else:
            yield (struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(part), number, first // 8 | more << 13, 64,
                               socket.IPPROTO_TCP, 0) +
                   socket.inet_aton(source) + socket.inet_aton(target) + part)


def fragments_are_put_together():
    with Tool("--cores", "2") as tool:
        for address, source in ((OURS4, PEER4), (OURS6, PEER6)):
            run("ip", "-n", NS_PEER, "link", "set", TAP, "mtu", "1280")
            assert ping(address, size=1400), "no answer from %s to a ping in fragments" % address
            run("ip", "-n", NS_PEER, "link", "set", TAP, "mtu", "1500")
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            wait_for(lambda: ping(address, count=1), "an answer")
            with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as out, \
                    socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as back:
                back.settimeout(60)
                for port in range(3000, 3016):
                    for packet in fragments(source, address, syn(source, address, port), port):
                        out.sendto(packet, (address, 0))
                missing = set(range(3000, 3016))
                while missing:
                    answer = back.recv(2048)[0 if ":" in address else 20:]
                    if answer[13] == 0x12:
                        missing.discard(int.from_bytes(answer[2:4], "big"))
        tool.stop()
        assert tool.sum("reassembled") >= 2 * (3 + 16), tool.reports
        assert tool.sum("handed_over") > 0


class Behind:
    """A third namespace, behind the peer as its router, by a way on which no packet over 1300 bytes goes, or which
    takes whole ones but only such as are cut and summed."""

    def __init__(self, is_narrow=True):
        self.is_narrow = is_narrow

    def __enter__(self):
        run("ip", "netns", "add", NS_BEHIND)
        run("ip", "-n", NS_PEER, "link", "add", "behind", "type", "veth", "peer", "name", "up0", "netns", NS_BEHIND)
        for ns, dev, addrs in ((NS_PEER, "behind", ("203.0.113.1/24", "2001:db8:9::1/64")),
                               (NS_BEHIND, "up0", (BEHIND4 + "/24", BEHIND6 + "/64"))):
            for addr in addrs:
                run("ip", "-n", ns, "addr", "add", addr, "dev", dev, *(["nodad"] if ":" in addr else []))
            run("ip", "-n", ns, "link", "set", dev, "up")
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run("sysctl", "-qw", name + "=1")
        for router, host in (("203.0.113.1", BEHIND4), ("2001:db8:9::1", BEHIND6)):
            run("ip", "-n", NS_BEHIND, "route", "add", "default", "via", router)
            if self.is_narrow:
                run("ip", "-n", NS_PEER, "route", "add", host, "dev", "behind", "mtu", "lock", "1300")
        if not self.is_narrow:
            run("ethtool", "-K", "behind", "tx", "off", "gso", "off", "tso", "off")
            self.call(run, "ethtool", "-K", "up0", "rx", "off", "gro", "off", "tx", "off", "gso", "off", "tso", "off")
        return self

    def __exit__(self, *_):
        for name in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            run("sysctl", "-qw", name + "=0")
        run("ip", "-n", NS_PEER, "link", "del", "behind")  # at once, not when the namespace's end comes to it
        run("ip", "netns", "del", NS_BEHIND)

    @staticmethod
    def call(function, *arguments, **named):
        """What the function returns there: namespaces are a thread's own."""
        result = []

        def work():
            with open("/run/netns/" + NS_BEHIND) as ns:
                os.setns(ns.fileno(), os.CLONE_NEWNET)
            result.append(function(*arguments, **named))
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return result[0]


def too_bigs_sent():
    """ICMP errors of the router's about packets that were too big: IPv4 and IPv6."""
    with open("/proc/thread-self/net/snmp") as f:
        names, values = [line.split() for line in f if line.startswith("Icmp:")]
    four = int(values[names.index("OutDestUnreachs")])
    with open("/proc/thread-self/net/snmp6") as f:
        six = next(int(line.split()[1]) for line in f if line.startswith("Icmp6OutPktTooBigs"))
    return four, six


def the_path_mtu_is_found_and_remembered():
    with Tool() as tool, Behind() as behind:
        for family, address in enumerate((OURS4, OURS6)):
            assert behind.call(echo, address, MEGABYTE), "wrong bytes from " + address
            told = too_bigs_sent()[family]
            assert told > 0, "nobody was told that packets were too big"
            assert behind.call(echo, address, MEGABYTE)
            assert too_bigs_sent()[family] == told, "the path's MTU was forgotten"
        tool.stop()
        assert tool.sum("path_mtus_learned") >= 2


def set_timestamps(is_on):
    run("sysctl", "-qw", "net.ipv4.tcp_timestamps=%d" % is_on)


def segments_with_wrong_sums():
    with open("/proc/thread-self/net/snmp") as f:
        names, values = [line.split() for line in f if line.startswith("Tcp:")]
    return int(values[names.index("InCsumErrors")])


def bytes_go_through(behind):
    """Between us and the kernel that is given the large packets, and one that is given what they are cut into."""
    for address in (OURS4, OURS6):
        for has_timestamps in (True, False):
            set_timestamps(has_timestamps)
            behind.call(set_timestamps, has_timestamps)
            assert echo(address, 4 * MEGABYTE), "wrong bytes from " + address
            assert behind.call(echo, address, 2 * MEGABYTE), "wrong bytes, cut, from " + address
        assert many_echoes(address, 8, 30001)
    set_timestamps(True)
    assert behind.call(segments_with_wrong_sums) == 0


def a_port_cuts_and_sums_for_us():
    with OnVirtio("--offloads", "rx-checksum tx-checksum tso", host=["--unsummed"]) as tool, Behind(False) as behind:
        bytes_go_through(behind)
        tool.stop()
    assert tool.port["tso"] == tool.port["tx_checksum"] == tool.port["rx_checksum"] == "port", tool.port
    counts = tool.counts
    assert counts["wrong"] == 0 and counts["refused"] == 0, counts
    assert counts["large"] > 50 and counts["largest"] > 10000, counts
    assert tool.sum("tx_joined") >= counts["parts"] > 5000, (counts, tool.reports)  # some find the queue full
    assert counts["to_port_unsummed"] > 1000 and tool.sum("tcp_drop_bad_checksum") == 0, (counts, tool.reports)


def what_a_port_is_not_to_do_we_do():
    """The same wire; nothing large and nothing without its sum, as soon as it is not asked for or not there."""
    for words, host in (("none", []), ("tx-checksum", []), ("tx-checksum tso", ["--no-tso"])):
        with OnVirtio("--offloads", words, host=host) as tool, Behind(False) as behind:
            bytes_go_through(behind)
            tool.stop()
        is_summed = words == "none"
        assert tool.port["tso"] == "no" and tool.sum("tx_joined") == 0, tool.reports
        assert tool.port["tx_checksum"] == ("software" if is_summed else "port"), tool.port
        assert tool.counts["large"] == 0 and (tool.counts["unsummed"] == 0) == is_summed, tool.counts


def what_we_send_first_is_cut_as_well():
    for server, port in ((PEER4, 7001), (PEER6, 7002)):
        with EchoServer("::" if ":" in server else "0.0.0.0", port):
            with OnVirtio("--offloads", "tso", "--connect", server, "--listen", str(port), "--connections", "8",
                          "--bytes", str(MEGABYTE)) as tool:
                assert tool.wait() == 0, json.dumps(tool.reports)
                tool.end_host()
            assert tool.counts["large"] > 20 and tool.counts["wrong"] == 0, tool.counts


def a_switch_that_goes_takes_nobody_along():
    with OnVirtio("--offloads", "tso") as tool:
        assert echo(OURS4, 100000)
        tool.host.kill()
        tool.host.wait()
        time.sleep(0.5)
        Tool.stop(tool)


def works_on_veth(driver, *arguments, queues=""):
    with OnVeth(driver, *arguments, queues=queues) as tool:
        for address, largest in ((OURS4, 1472), (OURS6, 1452)):
            assert ping(address, size=largest), "no answer from %s to %d bytes" % (address, largest)
            assert echo(address, 4 * MEGABYTE), "wrong bytes from " + address
            assert many_echoes(address, 10, 100000)
        tool.stop()
        assert tool.sum("drop_rx_chained") == 0 and tool.sum("tcp_drop_bad_checksum") == 0, tool.reports
        assert tool.sum("retransmits") < 100, tool.reports
    for server, port in ((PEER4, 7001), (PEER6, 7002)):
        with EchoServer("::" if ":" in server else "0.0.0.0", port):
            with OnVeth(driver, "--connect", server, "--listen", str(port), "--bytes", str(MEGABYTE),
                        *arguments, queues=queues) as tool:
                assert tool.wait() == 0, json.dumps(tool.reports)


def af_packet_works_on_veth():
    works_on_veth("af_packet", "--connections", "8")
    works_on_veth("af_packet", "--cores", "2", "--connections", "4", queues=",qpairs=2")


def af_xdp_works_on_veth():
    works_on_veth("af_xdp", "--connections", "8")


def closed_ports_are_refused():
    with Tool():
        for address in (OURS4, OURS6):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                family = socket.AF_INET6 if ":" in address else socket.AF_INET
                with socket.socket(family, kind) as s:
                    s.settimeout(60)
                    try:
                        s.connect((address, 9))
                        s.send(b"x")
                        s.recv(1)
                        raise AssertionError("a closed port answered")
                    except ConnectionRefusedError:
                        pass


def connections_that_we_open_work(cores=2):
    for server, port in ((PEER4, 7001), (PEER6, 7002), (FAR4, 7003), (FAR6, 7004)):
        with EchoServer("::" if ":" in server else "0.0.0.0", port):
            with Tool("--connect", server, "--listen", str(port), "--cores", str(cores),
                      "--connections", "8", "--bytes", str(MEGABYTE)) as tool:
                assert tool.wait() == 0, json.dumps(tool.reports)
                assert tool.reports[-1]["bytes"] == 8 * cores * MEGABYTE
                for report in tool.reports[:cores]:
                    assert report["tcp_in"] > 0


def a_refusal_of_ours_is_noticed():
    for server in (PEER4, PEER6):
        with Tool("--connect", server, "--listen", "9", "--bytes", "1") as tool:
            assert tool.wait() == 1
            assert any(r.get("end") == "refused" for r in tool.reports), tool.reports


def a_neighbour_that_is_not_there_is_given_up():
    with Tool("--connect", "192.0.2.77", "--listen", "9", "--bytes", "1") as tool:
        time.sleep(5)
        tool.process.send_signal(signal.SIGTERM)
        tool.wait()
        assert tool.sum("neighbour_failed") >= 1
        assert tool.sum("drop_neighbour_failed") >= 1


def two_processes_talk_over_memif():
    with tempfile.TemporaryDirectory() as directory:
        device = "net_memif0,role=%%s,socket=%s/memif.sock,socket-abstract=no" % directory
        with Tool("--device", device % "server", "--addr", OURS4 + "/24", "--addr", OURS6 + "/64",
                  "--cores", "2", tap=False):
            for server, client in ((OURS4, PEER4 + "/24"), (OURS6, PEER6 + "/64")):
                with Tool("--device", device % "client", "--addr", client, "--connect", server,
                          "--connections", "4", "--bytes", str(MEGABYTE), tap=False) as tool:
                    assert tool.wait() == 0, json.dumps(tool.reports)


def the_interface_is_gone_after_the_end():
    with Tool() as tool:
        tool.stop()
    links = subprocess.run(["ip", "-n", NS_PEER, "-br", "link"], capture_output=True, text=True).stdout
    assert TAP not in links


def what_cannot_be_opened_is_said():
    for arguments, word in ((["--device", "net_nonsense0"], "net_nonsense0"),
                            (["--device", "0000:ff:1f.7"], "no PCI device"),
                            (["--device", "eth0"], "PCI address"),
                            (["--device", "net_af_packet0,iface=hknone"], "hknone"),
                            (["--device", "net_tap0,iface=x", "--mtu", "100"], "MTU"),
                            (["--device", "net_tap0,iface=x", "--cores", "99"], "cores"),
                            (["--device", "net_tap0,iface=x", "--via", "203.0.113.1"], "gateway")):
        done = subprocess.run(["ip", "netns", "exec", NS_OURS, TOOL, "--addr", OURS4 + "/24", *arguments],
                              capture_output=True, text=True, timeout=120)
        assert done.returncode == 69 and word in done.stderr, done


CASES = [
    pings_of_all_sizes_are_answered,
    bytes_come_back_over_one_core,
    bytes_come_back_over_two_cores,
    offloads_leave_the_bytes_as_they_are,
    many_connections_spread_over_two_cores,
    one_queue_serves_two_cores,
    hosts_behind_the_router_are_reached,
    fragments_are_put_together,
    the_path_mtu_is_found_and_remembered,
    af_packet_works_on_veth,
    af_xdp_works_on_veth,
    a_port_cuts_and_sums_for_us,
    what_a_port_is_not_to_do_we_do,
    what_we_send_first_is_cut_as_well,
    a_switch_that_goes_takes_nobody_along,
    closed_ports_are_refused,
    connections_that_we_open_work,
    a_refusal_of_ours_is_noticed,
    a_neighbour_that_is_not_there_is_given_up,
    two_processes_talk_over_memif,
    the_interface_is_gone_after_the_end,
    what_cannot_be_opened_is_said,
]


def main():
    names = sys.argv[3:]
    cases = [c for c in CASES if not names or c.__name__ in names]
    passed, failed = 0, []
    for ns in (NS_OURS, NS_PEER):
        run("ip", "netns", "add", ns)
    try:
        run("ip", "-n", NS_PEER, "link", "set", "lo", "up")
        # This program itself lives with the peer from here on.
        with open("/run/netns/" + NS_PEER) as ns:
            os.setns(ns.fileno(), os.CLONE_NEWNET)
        for case in cases:
            print("[ RUN      ]", case.__name__, flush=True)
            began = time.monotonic()
            try:
                case()
                passed += 1
                print("[       OK ] %s (%.1f s)" % (case.__name__, time.monotonic() - began), flush=True)
            except Exception as e:  # pylint: disable=broad-except
                failed.append(case.__name__)
                print("[  FAILED  ] %s: %s: %s" % (case.__name__, type(e).__name__, e), flush=True)
    finally:
        for ns in (NS_OURS, NS_PEER):
            subprocess.run(["ip", "netns", "del", ns], check=False)
    print("[  PASSED  ] %d test(s)." % passed)
    if failed:
        print("[  FAILED  ] tests, %d test(s)" % len(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    TOOL, HOST = map(os.path.abspath, sys.argv[1:3])
    sys.exit(main())
