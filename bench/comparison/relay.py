# SPDX-License-Identifier: Apache-2.0
"""The relay as one of those that are measured: over memif, its own busy time on its bill."""

import argparse
import json

from lab import run, wait_for
from node import Node, memif_options, processor_time, thread_times

CERTIFICATES = ("ecdsa", "rsa")
ADDRESSES = 4


def node_args(options, folder, sleep=500):
    """What bench/node.py asks for; the limits are beyond what is offered, as the others' are."""
    return argparse.Namespace(build=options.build, folder=folder, mbufs=32768, sleep=sleep, max_connections=options.connections_max,
                              site_connections=100, nice=options.nice, no_pin=False)


class Relay:
    """One node for all runs but those of mails."""

    name, is_implicit_tls, connections = "relay", False, 0

    def __init__(self, options, folder, pems, has_huge, sleep=500):
        self.node = Node(node_args(options, folder, sleep), has_huge)
        self.pems = pems
        self.shown, self.backend, self.runs = None, None, 0

    def __enter__(self):
        self.node.__enter__()
        try:
            for kind in CERTIFICATES:
                self.node.lab.ctl("cert", "import", self.pems[kind], "--id", kind)
        except BaseException:
            self.node.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, *exc):
        self.node.__exit__(*exc)

    def show(self, kind):
        """From now on clients see this certificate, and no other."""
        if self.shown == kind:
            return
        before = self.applied()
        self.node.lab.ctl("cert", "activate", kind, "--default")
        for other in CERTIFICATES:
            if other != kind and self.shown in (other, None):
                self.node.lab.ctl("cert", "deactivate", other)
        wait_for("the relay to take the certificate", 20, lambda: self.applied() > before and self.is_settled())
        self.shown = kind

    def use(self, backend):
        """From now on new handshakes do their asymmetric work there: inline, mb or engine."""
        if self.backend == backend:
            return
        self.node.lab.ctl("offload", backend)
        wait_for(f"the relay to use {backend}", 20, lambda: all(r["offload"]["backend"] == backend for r in self.status()["relays"]))
        self.backend = backend

    def status(self):
        return json.loads(self.node.api("GET", "/v1/status"))

    def applied(self):
        return min((r.get("generation", 0) for r in self.status()["relays"]), default=0)

    def is_settled(self):
        status = self.status()
        return all(r.get("generation") == status["control"]["generation"] for r in status["relays"])

    def target(self, _certificate):
        """Each run comes from other addresses: a new generator knows nothing of the ports that are in TIME-WAIT."""
        first = 100 + ADDRESSES * (self.runs % (144 // ADDRESSES))
        self.runs += 1
        return [*memif_options(self.node), "--address", f"192.0.2.{first}/24", "--addresses", ADDRESSES]

    @staticmethod
    def prefix():
        return []

    def mark(self):
        """(seconds on the bill, counters): a worker's turns that did something, as far as it had a processor for them;
        of the other threads and of control all they spent."""
        threads = thread_times(self.node.pid())
        worker = sum(on for name, (on, _) in threads.items() if name.startswith("worker"))
        metrics = self.node.metrics()
        return {"worker": worker, "worker_busy": metrics.get("hikyaku_core_busy_microseconds", 0) / 1e6, "metrics": metrics,
                "others": processor_time(threads) - worker + processor_time(thread_times(self.node.lab.control.pid))}

    @staticmethod
    def bill(before, after):
        gone = {k: after[k] - before[k] for k in ("worker", "worker_busy", "others")}
        # Busy turns are timed by the clock and grow when others take the processor; what the thread spent has its empty
        # polls in it. Either is too much.
        worker = min(gone["worker"], gone["worker_busy"]) or gone["worker"]
        return worker + gone["others"], {"worker": worker, "worker_thread": gone["worker"], "worker_turns": gone["worker_busy"],
                                         "others": gone["others"]}

    def version(self):
        return run(self.node.lab.bin / "relay" / "hikyaku-relay", "--version", check=False).stdout.strip()


class Variant:
    """The same relay with another back end."""

    is_implicit_tls, connections, prefix, bill = False, 0, staticmethod(Relay.prefix), staticmethod(Relay.bill)

    def __init__(self, of, name, backend):
        self.relay, self.name, self.backend = of, name, backend
        self.target, self.mark, self.version = of.target, of.mark, of.version

    def show(self, certificate):
        self.relay.use(self.backend)
        self.relay.show(certificate)
