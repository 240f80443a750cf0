# SPDX-License-Identifier: Apache-2.0
"""What figures stand beside: the in-memory ceiling of the installed OpenSSL on the same core, the bare cost of primitives, and
what the relay's connections hold and its worker calls."""

import json
import pathlib
import re
import subprocess
import time

from lab import LabError, run
from node import Node, memif_options, memory_kb, threads_of

from . import machine, relay

PRIMITIVES = ("rsa2048", "rsa3072", "ecdsap256", "ecdhx25519", "ecdhp256", "X25519MLKEM768")
LOW_RATE = 30  # a second: about 1 % of what a core can do with RSA-2048
NOISE = {"restart_syscall"}


class Ceiling:
    """OpenSSL's own server, its client and nothing else, in one thread: what its server's side costs. No TCP, no SMTP, no
    system call: more than any server on this OpenSSL can do inline."""

    name = "ceiling"
    keys = {"rsa": "RSA-2048", "ecdsa": "ECDSA-P256"}

    def __init__(self, options):
        self.program, self.seconds, self.aes = options.build_folder / "tls" / "tls_bench", max(0.5, options.seconds / 2), options.aes

    def version(self):
        return machine.version_of("libssl3t64").get("libssl3t64", "?")

    def measure(self, case):
        text = run("taskset", "-c", machine.SERVER_CPU, self.program, "--json", "--server", "openssl", "--seconds", self.seconds,
                   "--only", self.row(case), "--aes", self.aes, "--no-memory", timeout=120).stdout
        rows = json.loads(text)["handshakes"]
        if len(rows) != 1:
            raise LabError(f"tls_bench has {len(rows)} rows of {self.row(case)}")
        return {"per_busy_second": 1e6 / rows[0]["server_us"], "cipher": rows[0]["cipher"], "group": rows[0]["group"]}

    def row(self, case):
        return f"TLSv{case.tls} {self.keys[case.certificate]} {case.groups} {'resumed' if case.is_resumed else 'full'}"


def primitives(options):
    """Lines of ours, where they are built, and of `openssl speed`: {operation: {by, lanes, per_second}}."""
    found = []
    program = options.build_folder / "bench" / "primitives"
    if program.exists():
        for line in json.loads(run("taskset", "-c", machine.SERVER_CPU, program, "--json", timeout=300).stdout):
            found.append({**line, "per_second": line["lanes"] * 1e6 / line["call_us"]})
    for name in PRIMITIVES:
        done = run("taskset", "-c", machine.SERVER_CPU, "openssl", "speed", "-mr", "-seconds", 1, name, check=False, timeout=60)
        found += speed_lines(done.stdout)
    return found


def speed_lines(text):
    """The machine-readable lines of `openssl speed`: calls a second of F2 RSA, F4 ECDSA, F5 ECDH, F9 a KEM."""
    kinds = {"F2": ("RSA-{0} sign", "RSA-{0} verify"), "F4": ("ECDSA P-{0} sign", "ECDSA P-{0} verify"), "F5": ("ECDH {0} derive",)}
    names = {"253": "X25519"}
    found = []
    for kind, rest in re.findall(r"^\+(F[245]):\d+:(.*)$", text, re.MULTILINE):
        words = rest.split(":")
        for title, rate in zip(kinds[kind], words[1:]):
            if float(rate):
                found.append({"operation": title.format(names.get(words[0], words[0])), "by": "openssl speed", "lanes": 1,
                              "call_us": 1e6 / float(rate), "per_second": float(rate)})
    name = re.search(r"^\+DTP:([^:]+):encaps", text, re.MULTILINE)
    for rates in re.findall(r"^\+F9:\d+:(.*)$", text, re.MULTILINE):
        for what, rate in zip(("keygen", "encaps", "decaps"), rates.split(":")):
            if name and float(rate):
                found.append({"operation": f"{name[1]} {what}", "by": "openssl speed", "lanes": 1, "call_us": 1e6 / float(rate),
                              "per_second": float(rate)})
    return found


def idle_bytes(options, folder, has_huge, say):
    """Growth of the relay's memory by --held sessions that have done STARTTLS and were greeted again, over their number."""
    args = relay.node_args(options, folder)
    args.max_connections = options.held + options.held // 4
    with Node(args, has_huge) as node:
        taken = {}
        # Pools and caches that grow once are grown before.
        bench(options, "handshakes", memif_options(node), "--connections", 32, "--duration", 1, "--warmup", 0)
        before = memory_kb(node.pid())

        def held():
            time.sleep(1)
            taken["after"] = memory_kb(node.pid())
        told = bench(options, "idle", memif_options(node), "--connections", options.held, "--duration", 3, "--warmup", 0, "--timeout", 60, on_held=held)
        if "after" not in taken or told["open"] < options.held * 0.99:
            raise LabError(f"{told.get('open')} of {options.held} sessions were held: {told['failures']}")
        say(f"  {told['open']} sessions held: relay {before} kB before, {taken['after']} kB with them")
        return (taken["after"] - before) * 1024 / told["open"]


def bench(options, command, address, *more, on_held=lambda: None):
    process = subprocess.Popen([str(a) for a in ("taskset", "-c", machine.CLIENT_CPU, options.bench, command, *address, *more, "--json")],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        for line in process.stderr:
            if "held" in line:
                on_held()
        text = process.stdout.read()
        process.wait(60)
    finally:
        if process.poll() is None:
            process.kill()
    if not text.strip():
        raise LabError(f"hikyaku-bench {command} ended with {process.returncode}")
    return json.loads(text)


def handshake_bytes(options):
    """What OpenSSL's session and ours hold of a server that has answered and waits for the client's Finished."""
    text = run(options.build_folder / "tls" / "tls_bench", "--json", "--no-handshakes", "--sessions", options.held, timeout=300).stdout
    for row in json.loads(text)["memory"]:
        if row["what"].startswith("server session in its handshake"):
            return row["resident"]
    raise LabError("tls_bench tells no memory of a handshake")


def system_calls(options, folder, has_huge, case, backend):
    """Of the worker, for each handshake, counted by strace; the relay never sleeps here, or its sleeps were the most."""
    with Node(relay.node_args(options, folder, sleep=0), has_huge) as node:
        if backend:
            node.lab.ctl("offload", backend)
        worker = next(tid for tid, name in threads_of(node.pid()) if name.startswith("worker"))
        listing = pathlib.Path(folder) / "strace"
        bench(options, "handshakes", memif_options(node), "--connections", 64, "--duration", 1, "--warmup", 0, "--groups", case.groups)
        strace = subprocess.Popen(["strace", "-c", "-o", str(listing), "-p", str(worker)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.3)
            told = bench(options, "handshakes", memif_options(node), "--connections", 64, "--duration", 2, "--warmup", 0, "--groups", case.groups)
        finally:
            strace.terminate()
            strace.wait(10)
        calls = strace_counts(listing.read_text())
        return {"handshakes": told["handshakes"], "calls": calls,
                "per_handshake": sum(calls.values()) / told["handshakes"] if told["handshakes"] else None}


def latency(options, folder, has_huge, pems, case, say):
    """The p99 of handshakes that come one by one at LOW_RATE a second, inline and with mb in turns: microseconds, one a round.
    Neither side sleeps."""
    found = {"inline": [], "mb": []}
    with relay.Relay(options, folder, pems, has_huge, sleep=0) as node:
        node.show(case.certificate)
        for _ in range(options.runs):
            for backend in found:
                node.use(backend)
                told = bench(options, "handshakes", node.target(case.certificate), "--rate", LOW_RATE, "--duration", 2 * options.seconds,
                             "--warmup", options.warmup, "--groups", case.groups, "--sleep", 0)
                found[backend].append(told["microseconds"]["handshake"]["p99"])
    say(f"  p99 of handshakes at {LOW_RATE} a second, microseconds: {found}")
    return found


def strace_counts(text):
    """Calls by name, of `strace -c`: the errors' column is empty where there were none."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) in (5, 6) and re.fullmatch(r"[\d.]+", words[0]) and words[3].isdigit() and words[-1] not in NOISE | {"total"}:
            found[words[-1]] = int(words[3])
    return found
