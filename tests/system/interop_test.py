# SPDX-License-Identifier: Apache-2.0
"""Our TCP and the kernel's understand each other, however the kernel's is set: streams arrive byte for byte.

interop_test.py PATH-OF-tcp_peer PATH-OF-tap_bridge [CASE...]

Both ways at once, over IPv4 and IPv6, both sides as the one that connects, each over a link (tests/tools/tap_bridge)
that loses, delays, reorders, duplicates and corrupts. Each case is one setting of the kernel's end, in a namespace of the
test's own. Not how fast: bench/tcp.
"""

import contextlib
import os
import pathlib
import sys

from cases import case, expect, main

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
from link import Process, bridge, kernel_counts, namespaces, sysctl, within  # noqa: E402

NS = f"hk-interop-{os.getpid()}"
PORT = "7"
# We listen on the one link and connect on the other.
LISTENING, LISTENING_PEER = ("192.0.2.1/24", "2001:db8::1/64"), ("192.0.2.99/24", "2001:db8::99/64")
CONNECTING, CONNECTING_PEER = ("198.51.100.1/24", "2001:db8:1::1/64"), ("198.51.100.99/24", "2001:db8:1::99/64")
LINK = {"loss": "1.5%", "reorder": "4%", "duplicate": "3%", "corrupt": "0.5%", "delay_ms": 2,
        "mark": "10%"}  # of what ECN may mark: nothing unless both ends want it
STREAMS, EACH_WAY = 5, 120000  # connections, and bytes on each
FAMILY = {4: 0, 6: 1}


def ours(interface, addresses):
    return ["--device", f"net_tap0,iface={interface}", *[a for address in addresses for a in ("--addr", address)],
            "--window-kb", 256, "--memory-mb", 96, "--mbufs", 8192, "--buffer-mb", 4]


def host(address):
    return address.partition("/")[0]


def plan(each_way):
    return ["--port", PORT, "--up", each_way, "--down", each_way, "--connections", STREAMS, "--requests", 1, "--count", STREAMS,
            "--seconds", 150]


def check(name, result, resets_allowed=0):
    failed = result["failed"]
    expect(failed <= resets_allowed and (failed == 0 or result["first_failure"] == "reset"), name, result)
    expect(result["wrong"] == 0 and result["answered"] == STREAMS - failed, name, result)


class Interop:
    """The kernel's namespace, two bad links to it, our server at the end of one of them."""

    def __init__(self, peer, tap_bridge):
        self.peer, self.tap_bridge, self.stack, self.counts = peer, tap_bridge, contextlib.ExitStack(), []

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            stack.enter_context(namespaces(NS))
            for i, (before, behind, addresses) in enumerate((("hklisten", "hkfar0", LISTENING_PEER),
                                                             ("hkconnect", "hkfar1", CONNECTING_PEER))):
                self.counts.append(stack.enter_context(bridge(self.tap_bridge, NS, before, behind, addresses, seed=i + 1, **LINK)))
            self.server = stack.enter_context(Process(within(NS, self.peer, "serve", *ours("hklisten", LISTENING), "--ecn", "--port", PORT)))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def exchange(self, family, *kernel, each_way=EACH_WAY, has_cookies=False, has_ecn=False):
        """The kernel asks our server over both families; we ask the kernel's over one.

        A kernel that keeps nothing but a cookie knows it only by the first byte's sequence number: where the ACK of the
        handshake and the first segment are both lost or late, it resets what comes behind (RFC 4987 3.6). That is no
        fault of the one that asked; it happens to less than a hundredth of the connections here."""
        kernel = ["--kernel", *kernel]
        before = kernel_counts(NS)
        with contextlib.ExitStack() as stack:
            def start(*command):
                return stack.enter_context(Process(within(NS, self.peer, *command)))
            server = start("serve", *kernel, "--port", PORT)
            we = start("ask", *ours("hkconnect", CONNECTING), *(["--ecn"] if has_ecn else []), "--server", host(CONNECTING_PEER[FAMILY[family]]), *plan(each_way))
            they = [start("ask", *kernel, "--server", host(address), *plan(each_way)) for address in LISTENING]
            asked = we.wait(180)
            check("we asked", asked, resets_allowed=2 if has_cookies else 0)
            expect(not has_ecn or asked["ecn_reduced"] > 0, "no window of ours was lowered by a mark", asked)
            for name, process in zip(("asked over IPv4", "asked over IPv6"), they):
                check(name, process.wait(180))
            served = server.stop()
        expect(served["failed"] <= (2 if has_cookies else 0) and served["wrong"] == 0, served)
        after = kernel_counts(NS)
        return {k: v - before.get(k, 0) for k, v in after.items()}


DEFAULTS = {"tcp_sack": 1, "tcp_timestamps": 1, "tcp_window_scaling": 1, "tcp_ecn": 2, "tcp_syncookies": 1, "tcp_recovery": 1,
            "tcp_early_retrans": 3, "tcp_dsack": 1, "tcp_frto": 2, "tcp_rmem": "4096 131072 6291456"}


@contextlib.contextmanager
def set_to(**settings):
    """The kernel's TCP: its defaults but for these."""
    sysctl(NS, **{f"ipv4__{k}": v for k, v in {**DEFAULTS, **settings}.items()})
    yield


def setting_case(name, family, settings, *kernel, happened=(), never=(), each_way=EACH_WAY, has_ecn=False):
    def test(interop):
        with set_to(**settings):
            gone = interop.exchange(family, *kernel, each_way=each_way, has_cookies=settings.get("tcp_syncookies") == 2,
                                    has_ecn=has_ecn)
        for counter in happened:
            expect(gone[counter] > 0, "nothing was", counter)
        for counter in never:
            expect(gone[counter] == 0, gone[counter], counter)
    test.__name__ = name
    case(test)


SACK_COUNTERS = ("TCPSackRecovery", "TCPSACKReorder", "TCPDSACKRecv")

setting_case("streams_cross_with_the_kernels_defaults", 4, {})
setting_case("streams_cross_without_sack", 6, {"tcp_sack": 0}, never=SACK_COUNTERS)
setting_case("streams_cross_without_timestamps", 4, {"tcp_timestamps": 0}, never=("PAWSEstab",))
setting_case("streams_cross_without_window_scaling", 6, {"tcp_window_scaling": 0})
setting_case("streams_cross_without_any_option", 4, {"tcp_sack": 0, "tcp_timestamps": 0, "tcp_window_scaling": 0}, never=SACK_COUNTERS)
ECN_COUNTERS = ("InECT0Pkts", "InCEPkts", "TCPDeliveredCE")  # what we sent, and marks; and that the kernel heard of its own

setting_case("streams_cross_with_ecn_on_both_sides_and_marks", 4, {"tcp_ecn": 1}, happened=ECN_COUNTERS, has_ecn=True)
setting_case("streams_cross_with_ecn_and_nothing_else_over_ipv6", 6,
             {"tcp_ecn": 1, "tcp_sack": 0, "tcp_timestamps": 0}, happened=ECN_COUNTERS, has_ecn=True)
setting_case("streams_cross_with_ecn_asked_for_in_vain", 6, {"tcp_ecn": 0}, never=("TCPDeliveredCE",))
setting_case("streams_cross_with_syn_cookies", 4, {"tcp_syncookies": 2}, happened=("SyncookiesSent", "SyncookiesRecv"))
setting_case("streams_cross_with_syn_cookies_and_no_timestamps", 6, {"tcp_syncookies": 2, "tcp_timestamps": 0},
             happened=("SyncookiesSent", "SyncookiesRecv"))
setting_case("streams_cross_in_segments_of_200_bytes", 4, {}, "--mss", "200", each_way=40000)
setting_case("streams_cross_in_segments_of_100_bytes_without_options", 6,
             {"tcp_sack": 0, "tcp_timestamps": 0, "tcp_window_scaling": 0}, "--mss", "100", each_way=20000)
setting_case("streams_cross_a_small_window", 4, {"tcp_rmem": "4096 8192 8192"}, each_way=40000)
setting_case("streams_cross_without_rack_tail_probes_and_dsack", 6,
             {"tcp_recovery": 0, "tcp_early_retrans": 0, "tcp_dsack": 0, "tcp_frto": 0})
setting_case("streams_cross_paced_by_bbr", 4, {}, "--congestion", "bbr")
setting_case("streams_cross_with_reno", 6, {}, "--congestion", "reno")


@case
def everything_bad_did_happen_and_our_server_saw_all_of_it(interop):
    served = interop.server.stop()
    expect(served["wrong"] == 0 and served["failed"] == 0, served)
    expect(served["tcp_drop_bad_checksum"] > 0, "no corrupted segment reached us", served)
    interop.stack.close()
    for counts in interop.counts:
        for way in ("to_relay", "from_relay"):
            for what in ("lost", "overtaken", "duplicated", "corrupted", "marked"):
                expect(counts[way][what] > 0, "nothing was", what, counts)
            expect(counts[way]["missed"] == 0 and counts[way]["no_room"] == 0, "the bridge itself lost frames", counts)


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    tools = [pathlib.Path(sys.argv.pop(1)).resolve() for _ in range(2)]
    with Interop(*tools) as all_of_it:
        sys.exit(main(all_of_it))
