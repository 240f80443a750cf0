# SPDX-License-Identifier: Apache-2.0
"""One run: the generator against one server, with what the server spent meanwhile."""

import json
import signal
import subprocess
import threading
import time

from lab import LabError

from . import figures, machine

FAILED_SHARE_MAX = 0.01  # OpenSMTPD lets five connections wait to be accepted: a client's SYN may be lost again and again


def generator(options, case, server, address):
    """hikyaku-bench's command line for a case."""
    argv = ["taskset", "-c", machine.CLIENT_CPU, options.bench, case.command, *address, "--json", "--tls", case.tls,
            "--connections", server.connections or options.connections, "--duration", options.seconds, "--warmup", options.warmup, "--timeout", 20]
    argv += ["--aes", options.aes, "--groups", case.groups if case.tls == "1.3" else case.groups + ":P-256"]
    if server.is_implicit_tls:
        argv += ["--implicit-tls"]
    if case.command == "messages":
        argv += ["--size", 4096, "--connections", options.mail_connections]
    if case.is_resumed:
        argv += ["--resumed"]
    return [str(a) for a in argv]


class Run:
    """hikyaku-bench as it measures; `mark()` is asked at the beginning and the end of its window."""

    def __init__(self, argv, mark):
        self.mark, self.marks = mark, []
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.follower = threading.Thread(target=self.follow)
        self.errors = []
        self.follower.start()

    def follow(self):
        for line in self.process.stderr:
            if "measuring" in line or "measured" in line:
                cpu = machine.processor_times()
                self.marks.append((time.monotonic(), cpu, self.mark()))
            elif line.startswith("hikyaku-bench:"):
                self.errors.append(line.strip())

    def finish(self, seconds):
        """Its JSON."""
        try:
            text = self.process.stdout.read()
            self.process.wait(seconds)
        except BaseException:
            self.process.send_signal(signal.SIGKILL)
            raise
        finally:
            self.process.wait()
            self.follower.join()
        if not text.strip():
            raise LabError(f"hikyaku-bench ended with {self.process.returncode}: {' '.join(self.errors[-3:])}")
        return json.loads(text)


def measure(options, case, server):
    """A dict of figures, the same for every server; raises LabError if the run says nothing."""
    argv = [*server.prefix(), *generator(options, case, server, server.target(case.certificate))]
    run = Run(argv, server.mark)
    told = run.finish(options.seconds + options.warmup + 60)
    if len(run.marks) < 2:
        raise LabError("hikyaku-bench told no beginning and end: " + " ".join(run.errors[-3:]))
    (t0, cpu0, before), (t1, cpu1, after) = run.marks[0], run.marks[-1]
    failed = sum(f["count"] for f in told["failures"].values())
    done = told["messages" if case.command == "messages" else "sessions"]
    if failed > done * FAILED_SHARE_MAX or not done:
        first = next((f["first"] for f in told["failures"].values()), "nothing happened")
        raise LabError(f"{failed} of {failed + done} failed, the first: {first}")
    check(options, case, told)
    rate = told["messages_per_second" if case.command == "messages" else "sessions_per_second"]
    spent, parts = server.bill(before, after)
    wall = t1 - t0
    return {"per_busy_second": figures.per_busy_second(rate * wall, spent), "rate": rate, "done": done, "failed": failed,
            "seconds": told["seconds"], "server_busy": spent / wall, "server_seconds": spent, "parts": parts,
            "processor_idle": (cpu1["idle"] - cpu0["idle"]) / wall, "processor": {k: (cpu1[k] - cpu0[k]) / wall for k in cpu0}, "generator_busy": told["generator_busy_share"],
            "generator_waited": told["generator_waited_for_processor_share"], "tls": told.get("tls"), "cipher": told.get("cipher"),
            "group": told.get("group"), "resumed": told.get("resumed"), "microseconds": told["microseconds"]}


def check(options, case, told):
    """That what was measured is what the case says."""
    if f"AES_{options.aes}_GCM" not in (told.get("cipher") or ""):
        raise LabError(f"{told.get('cipher')} was agreed on, AES-{options.aes}-GCM is wanted")
    agreed = (told.get("tls"), (told.get("group") or "").lower())
    wanted = (f"TLSv{case.tls}", case.groups.lower())
    if case.command != "messages" and agreed != wanted:
        raise LabError(f"{agreed} was agreed on, {wanted} is wanted")
    if case.is_resumed != bool(told.get("resumed")) and case.command != "messages":
        raise LabError("sessions were " + ("resumed" if told.get("resumed") else "not resumed"))
