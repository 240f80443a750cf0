# SPDX-License-Identifier: Apache-2.0
"""bench/syscalls.py: what system calls a worker core makes while it shakes hands over memif, by strace. For bench/run."""

import copy
import pathlib
import re
import signal
import subprocess
import time

import matrix
from lab import LabError
from node import Node, memif_options, say, threads_of

KINDS = [("1.3", "ECDSA", "X25519", False), ("1.3", "RSA-2048", "X25519", False), ("1.3", "ECDSA", "X25519MLKEM768", False),
         ("1.3", "ECDSA", "X25519", True), ("1.2", "RSA-2048", "X25519", False)]


class Trace:
    """strace -c of one thread, from its first line to SIGINT."""

    def __init__(self, tid, path):
        self.path = path
        self.process = subprocess.Popen(["strace", "-q", "-c", "-o", str(path), "-p", str(tid)], stderr=subprocess.DEVNULL)

    def end(self):
        """{name: calls}"""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)
        rows = re.findall(r"^ *[\d.]+ +[\d.]+ +\d+ +(\d+)(?: +\d+)? +(\w+)$", self.path.read_text(), re.M)
        return {name: int(calls) for calls, name in rows if name != "total"}


def handshakes(node):
    return int(node.metrics().get("hikyaku_server_handshakes", 0))


def measure(node, args, options):
    """Handshakes that were done and system calls that were made while the worker was traced, under load all the time."""
    worker = next(tid for tid, name in threads_of(node.pid()) if name.startswith("worker"))
    argv = ["taskset", "-c", "0-1" if args.no_pin else "1", str(args.bench), "handshakes", *memif_options(node),
            "--duration", str(args.seconds + 3), "--warmup", "1", "--connections", "64", *options]
    process = subprocess.Popen([str(a) for a in argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        time.sleep(2)
        trace = Trace(worker, pathlib.Path(node.folder) / "strace.txt")
        time.sleep(0.5)  # the counters are a quarter of a second old
        before = handshakes(node)
        time.sleep(args.seconds)
        done = handshakes(node) - before
        calls = trace.end()
        text = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    if done == 0:
        raise LabError(f"no handshake was done: {text}")
    return done, calls


def run(args, huge):
    say(f"syscalls: those of the worker thread in {args.seconds} s of handshakes over memif, by strace -c; it never sleeps")
    args = copy.copy(args)
    args.sleep = 0
    for backend in ("inline", "mb"):
        for kind in KINDS:
            # A relay for each: connections in TIME-WAIT of the last run would hold up the next one's.
            with Node(args, huge) as node:
                matrix.show_certificates(node)
                try:
                    node.lab.ctl("offload", backend)
                except LabError as e:
                    say(f"  {backend}: {e}")
                    break
                cell = matrix.Cell(*kind, is_burst=False)
                options = [o for o in cell.options() if o not in ("--connections", 64)]
                done, calls = measure(node, args, options)
                told = ", ".join(f"{n} {name}" for name, n in sorted(calls.items(), key=lambda c: -c[1])) or "none"
                say(f"  {backend:6}  {cell.name().removesuffix('closed').strip():46}  {done:6} handshakes, system calls: {told}")
