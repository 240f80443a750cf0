# SPDX-License-Identifier: Apache-2.0
"""The TLS back ends of a running relay: changed under load, counted, refused where they cannot be had.

offload_test.py [CASE...]
"""

import os
import pathlib
import ssl
import sys
import threading
import time

from cases import case, expect, expect_in, main
import lab
from lab import HOSTNAME, PATIENCE, Lab, wait_for
from peers import Client, Sink, api, labelled, metrics, tls_context

POLICY = {
    "profiles": [{"id": "open", "level": "encrypt"}],
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay", "profile": "open"}],
    "routes": [{"id": "dest", "domain": "dest.example.test", "via": "hosts",
                "hosts": [{"host": lab.RECEIVER_V4, "port": 25}]}],
}
CLIENTS = 8


def has_mb(bin):
    """What a processor without AVX512-IFMA, or a build without libcrypto-mb, cannot have, the tests do not ask of it: there
    `mb` must be refused."""
    return ("avx512ifma" in open("/proc/cpuinfo").read() and
            b"libcrypto_mb" in (pathlib.Path(bin) / "relay" / "hikyaku-relay").read_bytes())


def context(is_rsa):
    c = tls_context()
    if is_rsa:
        c.maximum_version = ssl.TLSVersion.TLSv1_2
        c.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    return c


def accepted(l):
    return metrics(l)["hikyaku_mails_accepted"]


class Senders:
    """Clients that each send mail after mail, with a handshake for each: every other one speaks RSA alone."""

    def __init__(self, l):
        self.lab, self.stopped = l, threading.Event()
        self.accepted, self.failures = [0] * CLIENTS, []
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(CLIENTS)]

    def __enter__(self):
        for t in self.threads:
            t.start()
        return self

    def __exit__(self, *exc):
        self.stopped.set()
        for t in self.threads:
            t.join(2 * PATIENCE)

    def run(self, i):
        tls = context(is_rsa=i % 2 == 1)
        while not self.stopped.is_set():
            try:
                with Client(self.lab) as c:
                    c.ehlo()
                    c.starttls(tls)
                    c.ehlo()
                    code, text = c.mail("b@dest.example.test", f"{i}-{self.accepted[i]}-")
                    expect(code == 250, text)
                    self.accepted[i] += 1
                    c.cmd("QUIT")
            except Exception as e:
                self.failures.append(repr(e))
                time.sleep(0.1)


@case
def status_tells_which_back_end_is_in_use_and_why(l):
    why = "TLS offload mb (auto)" if has_mb(l.bin) else "TLS offload inline (mb cannot be used: "
    expect_in(why, l.ctl("status"))
    expect_in(f"offload={'mb' if has_mb(l.bin) else 'inline'} why=", l.log_tail("relay", 200))
    expect("are not offloaded" not in l.log_tail("relay", 200), "a warning, though nothing was asked for")


@case
def back_ends_change_under_load_and_no_mail_is_lost(l):
    backends = ("mb", "engine", "inline", "engine", "mb", "inline") if has_mb(l.bin) else ("engine", "inline", "engine", "inline")
    before, delivered = accepted(l), len(l.sink.mails)
    with Senders(l) as senders:
        time.sleep(1)
        for backend in backends:
            done = sum(senders.accepted)
            expect_in(f"new TLS handshakes: {backend}", l.ctl("offload", backend))
            if backend == "engine":
                expect_in("TLS offload engine (by an operator; ", l.ctl("status"))
                expect_in("lab_engine.so, hardware)", l.ctl("status"))
            wait_for(f"mails by {backend}", 2 * PATIENCE, lambda: sum(senders.accepted) >= done + 5 * CLIENTS)
        expect_in("TLS offload inline (by an operator)", l.ctl("status"))
    expect(not senders.failures, senders.failures[:3])
    expect(min(senders.accepted) > 0, senders.accepted)
    wait_for("the counters", 5, lambda: accepted(l) == before + sum(senders.accepted))
    wait_for("every mail at its destination", 60, lambda: len(l.sink.mails) == delivered + sum(senders.accepted))
    for key in ("ecdsa", "rsa"):
        expect(labelled(l, "hikyaku_tls_handshakes", side="server", key=key) >= 10, key)
    # Which did the work: inline lets nothing wait.
    expect(labelled(l, "hikyaku_tls_crypto_ops") > 0)
    for op in ("rsa-2048", "x25519"):
        expect(labelled(l, "hikyaku_tls_offload_ops", op=op) > 0, op)
        expect(labelled(l, "hikyaku_tls_offload_faults", op=op) == 0, op)


@case
def inline_lets_nothing_wait(l):
    l.ctl("offload", "inline")
    before = labelled(l, "hikyaku_tls_offload_ops")
    with Senders(l) as senders:
        wait_for("mails", 30, lambda: sum(senders.accepted) >= CLIENTS)
    expect(not senders.failures, senders.failures[:3])
    expect(labelled(l, "hikyaku_tls_offload_ops") == before)


@case
def a_back_end_that_cannot_be_used_is_refused_with_its_reason(l):
    refused = l.ctl("offload", "nonsense", check=False)
    expect(refused.returncode != 0)
    expect_in("nonsense cannot be used: there is no such back end", refused.stderr)
    expect_in("TLS offload inline", l.ctl("status"))
    if not has_mb(l.bin):
        expect_in("mb cannot be used: ", l.ctl("offload", "mb", check=False).stderr)


@case
def a_relay_whose_engine_does_not_load_starts_inline_or_not_at_all(l):
    """The last one: it leaves no relay."""
    for missing in ("inline", "refuse"):
        l.stop(l.relay)
        l.settings["tls"] = {"offload": "engine", "engine": "/nonexistent/engine.so", "offload_missing": missing}
        l.write_config()
        if missing == "inline":
            l.start_relay()
            expect_in("engine cannot be used: the engine /nonexistent/engine.so cannot be loaded", l.ctl("status"))
            expect_in("TLS handshakes are not offloaded", l.log_tail("relay", 30))
        else:
            l.relay = l.start("node", "relay", l.bin / "relay" / "hikyaku-relay", "--config", l.config)
            expect(l.relay.wait(PATIENCE) == 78, l.relay.returncode)
            expect_in("tls.offload: engine cannot be used: the engine /nonexistent/engine.so cannot be loaded",
                      l.log_tail("relay", 5))


def run_all():
    # All are one client: its budget is not what is tried here. The engine is a lab's, with qatengine's commands.
    with Lab(settings={"limits": {"client_handshakes": 0}}) as l:
        l.settings["tls"] = {"engine": str(pathlib.Path(l.bin).resolve() / "tls" / "lab_engine.so")}
        os.environ["LAB_ENGINE"] = "hardware"
        l.make_network()
        l.sink = Sink(l, lab.RECEIVER_V4)
        l.write_config()
        l.start_control()
        l.ctl("cert", "create", "rsa", HOSTNAME, "--key", "rsa")
        l.ctl("cert", "create", "ecdsa", HOSTNAME, "--key", "ecdsa", "--default")
        for which in ("rsa", "ecdsa"):
            l.ctl("cert", "activate", which)
        api(l, "POST", "/v1/apply", POLICY)
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run_all())
