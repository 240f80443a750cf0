# SPDX-License-Identifier: Apache-2.0
"""bench/node.py: a relay to be measured: control and a relay of one worker core on a net_memif port, pinned, with the
hugepages they take; and what threads, processes and memory of this machine have been used. For bench/run and bench/compare."""

import contextlib
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "deploy"))
from lab import Lab, LabError, run, wait_for  # noqa: E402

RELAY = "192.0.2.25"
SINK = "203.0.113.25"
NOWHERE = "192.0.2.250"  # on the memif's link, and nobody answers there
HUGEPAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")


def say(text):
    print(text, flush=True)


class Hugepages:
    """Adds the pages that are missing while they are needed, and gives those back."""

    def __init__(self, megabytes):
        self.wanted, self.added = megabytes // 2, 0

    def __enter__(self):
        self.change(max(0, self.wanted - self.free()))
        self.has = self.free() >= self.wanted
        if not self.has:
            self.__exit__()
            say("  (no hugepages to be had: running without them)")
        return self

    def __exit__(self, *exc):
        self.change(-self.added)

    def change(self, pages):
        before = int(HUGEPAGES.read_text())
        HUGEPAGES.write_text(str(max(0, before + pages)))
        self.left = int(HUGEPAGES.read_text())
        self.added += self.left - before

    def keep(self):
        """Others who end give back by number what they added, free pages that were counted on here among them: so many
        are added again, and given back at the end like the others."""
        if self.has:
            self.change(max(0, self.left - int(HUGEPAGES.read_text())))

    @staticmethod
    def free():
        found = re.search(r"HugePages_Free: +(\d+)", pathlib.Path("/proc/meminfo").read_text())
        return int(found[1]) if found else 0


def threads_of(pid):
    """(thread id, name) of a process; it may be gone already."""
    try:
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            yield int(task.name), (task / "comm").read_text().strip()
    except OSError:
        pass


def thread_times(pid):
    """Seconds so far: name -> (on a processor, waiting for one); threads of one name are added up."""
    times = {}
    for tid, name in threads_of(pid):
        try:
            on, waited = pathlib.Path(f"/proc/{pid}/task/{tid}/schedstat").read_text().split()[:2]
        except (OSError, ValueError):
            continue
        before = times.get(name, (0, 0))
        times[name] = (before[0] + int(on) / 1e9, before[1] + int(waited) / 1e9)
    return times


def processor_time(times):
    return sum(on for on, _ in times.values())


def family_time(namespace, other_than):
    """Seconds of processor time of all processes of a namespace, those that they have outlived included."""
    ticks = 0
    for pid in run("ip", "netns", "pids", namespace).stdout.split():
        try:
            name, _, rest = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        except OSError:
            continue
        if other_than not in name:
            ticks += sum(int(n) for n in rest.split()[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_kb(pid, field="Pss"):
    for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    return 0


def prioritise(pid, nice):
    """Linux weighs sessions (autogroups) against each other, not only processes within one."""
    if nice:
        with contextlib.suppress(OSError):
            pathlib.Path(f"/proc/{pid}/autogroup").write_text(str(nice))


def change(settings, text):
    """`text`: "limits.handshakes=64"; the value is JSON, or else a text."""
    path, _, value = text.partition("=")
    *folders, name = path.split(".")
    for folder in folders:
        settings = settings.setdefault(folder, {})
    try:
        settings[name] = json.loads(value)
    except ValueError:
        settings[name] = value


class Node:
    """Control and a relay of one core on a memif, in a network namespace of their own."""

    def __init__(self, args, has_huge, with_tap=False, host=NOWHERE, port=25):
        self.args, self.has_huge, self.with_tap = args, has_huge, with_tap
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="run.", dir=args.folder))
        self.target = (host, port)
        self.memif = self.folder / "memif.sock"
        device = f"net_memif0,role=server,socket={self.memif},socket-abstract=no,rsize=11"
        ports = [{"name": "lan0", "device": device, "addresses": [f"{RELAY}/24"]}]
        if with_tap:
            ports.append({"name": "out0", "device": "net_tap0,iface=hktap0", "addresses": ["203.0.113.1/24"]})
        settings = {
            "dataplane": {"ports": ports, "routes": [], "memory_mb": 256, "mbufs_per_core": args.mbufs,
                          "sleep_us_max": args.sleep},
            "limits": {"connections": args.max_connections, "connections_per_client": 100000, "handshakes": 1000,
                       "client_handshakes": 0,
                       "mail_memory_mb": 256, "mails_per_session": 1000000000,
                       "commands_per_session": 1000000, "tcp_buffer_mb": 64},
            "spool": {"segment_mb": 64, "reload_memory_mb": 64},
            "queue": {"retry_first": "1h", "connections_per_site": args.site_connections},
            "log": {"level": "warn"},
        }
        for setting in getattr(args, "setting", []):
            change(settings, setting)
        self.lab = Lab(build=args.build, folder=self.folder, hugepages="yes" if has_huge else "no", settings=settings)
        self.lab.tag += f"-{self.folder.name}"  # several nodes may stand at a time

    def __enter__(self):
        lab = self.lab
        try:
            run("ip", "netns", "add", lab.ns("node"))
            lab.stack.callback(run, "ip", "netns", "del", lab.ns("node"), check=False)
            run("ip", "-n", lab.ns("node"), "link", "set", "lo", "up")
            lab.write_config()
            lab.start_control()
            self.api("POST", "/v1/apply", {"routes": [{
                "id": "bench", "domain": "dest.example.test", "inbound": True, "via": "hosts",
                "hosts": [{"host": self.target[0], "port": self.target[1]}]}]})
            lab.relay = lab.start("node", "relay", lab.bin / "relay" / "hikyaku-relay", "--config", lab.config)
            wait_for("the relay's memif socket", 20, lambda: lab._alive(lab.relay, "relay") and self.memif.exists())
            wait_for("the relay to take the policy", 20, lambda: lab._alive(lab.relay, "relay") and self.is_attached())
            if self.with_tap:
                run("ip", "-n", lab.ns("node"), "addr", "replace", f"{SINK}/24", "dev", "hktap0")
                run("ip", "-n", lab.ns("node"), "link", "set", "hktap0", "up")
            self.pin()
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exc):
        if exc[0] is not None and not issubclass(exc[0], KeyboardInterrupt):
            for name in ("control", "relay"):
                text = self.lab.log_tail(name)
                if text:
                    say(f"  {name}: " + text.replace("\n", f"\n  {name}: "))
        self.lab.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def api(self, method, path, body=None):
        more = [] if body is None else ["--data-binary", json.dumps(body), "-H", "Content-Type: application/json"]
        done = run("curl", "-sS", "--max-time", "20", "--unix-socket", self.lab.api, "-X", method, "-w", "\n%{http_code}", *more,
                   f"http://localhost{path}")
        text, _, code = done.stdout.rpartition("\n")
        if not code.startswith("2"):
            raise LabError(f"{method} {path}: {code} {text}")
        return text

    def is_attached(self):
        return json.loads(self.api("GET", "/v1/status")).get("relays")

    def pid(self):
        """The relay itself, which `ip netns exec` has become."""
        return self.lab.relay.pid

    def pin(self):
        """The worker alone on processor 0; the relay's other threads share processor 1 with the generator."""
        for process in (self.lab.relay, self.lab.control):
            prioritise(process.pid, self.args.nice)
        if self.args.no_pin:
            return
        threads = [*threads_of(self.pid()), *((tid, "") for tid, _ in threads_of(self.lab.control.pid))]
        for tid, name in threads:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.sched_setaffinity(tid, {0} if name.startswith("worker") else {1})

    def metrics(self):
        values = {}
        try:
            text = self.api("GET", "/metrics")
        except LabError:
            return values
        for line in text.splitlines():
            if line and not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                key = name.split("{")[0].removesuffix("_total")
                try:
                    values[key] = values.get(key, 0) + float(value)
                except ValueError:
                    pass
        return values


def memif_options(node):
    return ["--memif", node.memif, *([] if node.has_huge else ["--no-huge"])]
