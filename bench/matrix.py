# SPDX-License-Identifier: Apache-2.0
"""bench/matrix.py: handshakes of every kind against one relay, and what each costs it. For bench/run."""

import dataclasses
import json
import pathlib
import subprocess
import threading
import time

import lab as lab_module
from lab import LabError, wait_for
from node import Node, memif_options, processor_time, say, thread_times

KEYS = {"ECDSA": "ec", "RSA-2048": "rsa:2048", "RSA-3072": "rsa:3072"}
BURST = 64


@dataclasses.dataclass(frozen=True)
class Cell:
    tls: str
    key: str
    group: str
    is_resumed: bool
    is_burst: bool

    def options(self):
        # In TLS 1.2 the list of groups also names the curves that a certificate may have.
        groups = self.group if self.tls == "1.3" or self.group == "P-256" else self.group + ":P-256"
        return ["--tls", self.tls, "--groups", groups, "--sni", server_name(self.key),
                *(["--resumed"] if self.is_resumed else []),
                *(["--burst", BURST] if self.is_burst else ["--connections", 64])]

    def name(self):
        return (f"TLS {self.tls}  {self.key:8}  {self.group:14}  {'resumed' if self.is_resumed else 'full   '}  "
                f"{f'burst {BURST}' if self.is_burst else 'closed  '}")


def server_name(key):
    return f"{key.lower()}.example.test"


def cells(choice):
    """All that make sense: a hybrid group is TLS 1.3's, and a resumed session sees no certificate."""
    for tls in ("1.3", "1.2"):
        for key in KEYS:
            for group in ("X25519", "P-256", "X25519MLKEM768"):
                for is_resumed in (False, True):
                    for is_burst in (False, True):
                        cell = Cell(tls, key, group, is_resumed, is_burst)
                        is_possible = (tls == "1.3" or group != "X25519MLKEM768") and (key == "ECDSA" or not is_resumed)
                        if is_possible and all(word in cell.name().split() for word in choice):
                            yield cell


def show_certificates(node):
    """One for each kind of key, chosen by the name that a client asks for."""
    certificates = lab_module.Certs(node.folder / "certs")
    for kind, key in KEYS.items():
        pem = certificates.make(kind.lower(), [server_name(kind)], key=key)
        node.lab.ctl("cert", "import", pem, "--id", kind.lower())
        node.lab.ctl("cert", "activate", kind.lower())

    def is_settled():
        status = json.loads(node.api("GET", "/v1/status"))
        return all(r.get("generation") == status["control"]["generation"] for r in status["relays"])
    wait_for("the relay to take the certificates", 20, is_settled)


def spent(node):
    """Seconds so far: of the worker's thread and in turns that did something; waiting for a processor; of all others."""
    threads = thread_times(node.pid())
    worker = [t for name, t in threads.items() if name.startswith("worker")]
    on = sum(t[0] for t in worker)
    busy = node.metrics().get("hikyaku_core_busy_microseconds", 0) / 1e6
    return time.monotonic(), on, busy, sum(t[1] for t in worker), \
        processor_time(threads) - on + processor_time(thread_times(node.lab.control.pid))


class Offload:
    """Which back end the relay's operations go to; it is switched as it runs."""

    def __init__(self, node):
        self.node, self.name = node, None

    def use(self, name):
        if self.name == name:
            return
        self.node.lab.ctl("offload", name)
        wait_for(f"the relay to use {name}", 20, lambda: all(
            r["offload"]["backend"] == name for r in json.loads(self.node.api("GET", "/v1/status"))["relays"]))
        self.name = name


def bench_argv(node, args, *options):
    return ["taskset", "-c", "0-1" if args.no_pin else "1", args.bench, "handshakes", *memif_options(node), "--json",
            "--client", args.client, "--duration", args.seconds, *options]


class Run:
    """hikyaku-bench with --json; the relay's bill is taken as it begins and ends to measure."""

    def __init__(self, node, argv):
        self.node, self.marks, self.errors = node, [], []
        self.process = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.follower = threading.Thread(target=self.follow)
        self.follower.start()

    def follow(self):
        for line in self.process.stderr:
            if "measur" in line:
                self.marks.append(spent(self.node))
            else:
                self.errors.append(line.strip())

    def finish(self):
        try:
            text = self.process.stdout.read()
            self.process.wait(60)
        finally:
            if self.process.poll() is None:
                self.process.kill()
            self.follower.join()
        if not text or len(self.marks) < 2:
            raise LabError("hikyaku-bench: " + (" ".join(self.errors[-3:]) or f"exit {self.process.returncode}"))
        return json.loads(text), [b - a for a, b in zip(self.marks[0], self.marks[-1])]


def limit(told, worker_share, waited_share):
    """What kept the rate from being higher."""
    if told["limited_by_generator"]:
        return "the generator"
    if worker_share > 0.9:
        return "the worker"
    if waited_share > 0.1 or told["generator_waited_for_processor_share"] > 0.1:
        return "processors"
    return "the burst's pace" if told["loop"] == "burst" else "round trips"


def measure(node, args, cell):
    argv = bench_argv(node, args, "--warmup", 0.5, *cell.options())
    told, (wall, on, busy, waited, others) = Run(node, argv).finish()
    done, failed = told["sessions"], sum(f["count"] for f in told["failures"].values())
    if done == 0 or failed > done / 100 or told.get("resumed") != cell.is_resumed:
        raise LabError(f"{cell.name()}: {done} done, {failed} failed, resumed {told.get('resumed')}: {told['failures']}")
    # Turns are timed by the clock and grow while others have the processor; the thread's time has its empty polls in it.
    worker = min(on, busy) or on
    handshakes = told["sessions_per_second"] * wall
    return {**dataclasses.asdict(cell), "sessions_per_second": told["sessions_per_second"],
            "per_busy_second": handshakes / (worker + others), "per_worker_busy_second": handshakes / worker,
            "worker_us": 1e6 * worker / handshakes, "others_us": 1e6 * others / handshakes,
            "server_busy_share": (worker + others) / wall, "worker_busy_share": worker / wall,
            "generator_busy_share": told["generator_busy_share"],
            "generator_us": 1e6 * told["generator_busy_share"] * told["seconds"] / done, "failed": failed,
            "limited_by": limit(told, worker / wall, waited / wall), "microseconds": told["microseconds"],
            "cipher": told.get("cipher"), "group_agreed": told.get("group")}


def offered(args, huge):
    """Times at offered rates, nobody asleep: what low load pays, and what a busy worker makes of it."""
    args.sleep = 0
    say(f"offered: times of full TLS 1.3 handshakes at offered rates, open loop, {args.seconds} s each, nobody asleep")
    say(f"  {'':22} {'offered':>8} {'done':>8} {'late':>6} {'worker':>7} {'gener.':>7}   handshake: {'p50':>7} {'p99':>8} "
        f"{'max':>8}   due to secured: {'p50':>7} {'p99':>8} {'max':>8} ms  limited by")
    with Node(args, huge) as node:
        show_certificates(node)
        offload = Offload(node)
        for key, rate, name in [(k, r, n) for k in ("ECDSA", "RSA-2048") for r in args.rates for n in args.offload]:
            offload.use(name)
            argv = bench_argv(node, args, "--rate", rate, "--sleep", 0, "--tls", "1.3", "--groups", "X25519",
                              "--sni", server_name(key))
            told, (wall, on, busy, _, _) = Run(node, argv).finish()
            t = [[told["microseconds"][what][p] / 1000 for p in ("p50", "p99", "max")] for what in ("handshake", "secured")]
            say(f"  {key:8} X25519 full   {rate:8.0f} {told['sessions_per_second']:8.1f} {told['begun_late'] + told['never_begun']:6} "
                f"{min(on, busy) / wall:7.1%} {told['generator_busy_share']:7.1%}              {t[0][0]:7.3f} {t[0][1]:8.3f} "
                f"{t[0][2]:8.3f}                   {t[1][0]:7.3f} {t[1][1]:8.3f} {t[1][2]:8.3f}     {told['limited_by']}, {name}")


HEAD = (f"  {'':54} {'rate':>7} {'per busy s':>10} {'worker':>8} {'others':>7} {'server':>7} {'gener.':>7} {'p50':>7} {'p99':>7}\n"
        f"  {'cell':54} {'/s':>7} {'handsh.':>10} {'µs':>8} {'µs':>7} {'busy':>7} {'busy':>7} {'ms':>7} {'ms':>7}  limited by")


def measure_all(node, args, chosen, rows, failed):
    """Back ends take turns, so that what else the machine does is the same for all."""
    offload, done, count = Offload(node), 0, len(chosen) * len(args.offload)
    for cell in chosen:
        for name in args.offload:
            done += 1
            try:
                offload.use(name)
                rows.append({"offload": name, **measure(node, args, cell)})
                say(line(cell, rows[-1]) + f"  {name} ({done}/{count})")
            except LabError as e:
                failed.append(str(e))
                say(f"  FAILED {name}: {e}")


def line(cell, row):
    t = row["microseconds"]["handshake"]
    return (f"  {cell.name():54} {row['sessions_per_second']:7.0f} {row['per_busy_second']:10.0f} {row['worker_us']:8.1f} "
            f"{row['others_us']:7.1f} {row['server_busy_share']:7.1%} {row['generator_busy_share']:7.1%} {t['p50'] / 1000:7.2f} "
            f"{t['p99'] / 1000:7.2f}  {row['limited_by']}")


def run(args, huge):
    """Prints each cell as it is measured; what there is when somebody interrupts is in the file, too."""
    chosen = list(cells(args.cells))
    say(f"handshakes: whole sessions over memif, {len(chosen)} cells of {args.seconds} s, by the {args.client} client")
    rows, failed = [], []
    try:
        with Node(args, huge) as node:
            show_certificates(node)
            say(HEAD)
            measure_all(node, args, chosen, rows, failed)
    finally:
        if args.json:
            pathlib.Path(args.json).write_text(json.dumps({"seconds": args.seconds, "client": args.client, "cells": rows}, indent=1) + "\n")
        if len(rows) < len(chosen) * len(args.offload):
            say(f"  {len(rows)} of {len(chosen) * len(args.offload)} figures were measured")
    if failed:
        raise LabError(f"{len(failed)} cells failed")
