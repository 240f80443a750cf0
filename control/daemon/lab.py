# SPDX-License-Identifier: Apache-2.0
"""control/daemon/lab.py: hikyaku-control alone in a temporary folder, relays that only speak control/link.h, a name
server on 127.0.0.1: what the tests of this folder share. Needs no namespaces."""

import array
import contextlib
import fcntl
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT / "tests" / "system"))
BINARY = os.environ.get("HIKYAKU_CONTROL", str(CHECKOUT / "build" / "control" / "daemon" / "hikyaku-control"))
HOSTNAME = "relay.example.test"


PATIENCE = 60  # seconds: no wait is given up sooner, however slow and busy the machine is


def wait_for(what, condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited {seconds} s in vain: {what}")
        time.sleep(0.02)
    return value


class UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=2 * PATIENCE)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)


class Control:
    """One store and its hikyaku-control, which can be killed and started again."""

    def __init__(self, **settings):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="hikyaku-control.", dir="/tmp"))
        self.api, self.link = self.folder / "api.sock", self.folder / "control.sock"
        self.records, self.store = self.folder / "records.jsonl", self.folder / "store.db"
        self.config = self.folder / "hikyaku.yaml"
        self.process, self.relays = None, []
        self.write_config(self.config, **settings)
        self.start()

    def write_config(self, path, paths=None, addresses=("192.0.2.25/24", "2001:db8::25/64"), dns=None, log=None):
        path.write_text(json.dumps({
            "node": {"hostname": HOSTNAME},
            "paths": {"spool": str(self.folder / "spool"), "store": str(self.store), "control_socket": str(self.link),
                      "api_socket": str(self.api), "records": str(self.records), **(paths or {})},
            "dataplane": {"hugepages": "no", "ports": [
                {"name": "lan0", "device": "net_tap0,iface=hktap0", "addresses": list(addresses)}]},
            "listeners": [{"name": "smtp", "port": 25}, {"name": "submission", "port": 587}],
            "dns": {"server": "127.0.0.1@9", "dnssec": False, **(dns or {})},
            "timeouts": {"client_name": "1s"},
            "log": log or {},
        }))

    def spawn(self, config=None):
        with open(self.folder / "control.log", "ab") as log:
            return subprocess.Popen([BINARY, "--config", str(config or self.config)], stdout=log, stderr=log,
                                    stdin=subprocess.DEVNULL)

    def start(self):
        self.process = self.spawn()
        wait_for("the API", self.answers)

    def answers(self):
        if self.process.poll() is not None:
            raise AssertionError(f"hikyaku-control ended with {self.process.returncode}:\n{self.log()}")
        with contextlib.suppress(OSError):
            return self.get("/v1/export").status == 200
        return False

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        return self.process.wait(PATIENCE)

    def log(self):
        return (self.folder / "control.log").read_text(errors="replace")

    log_tail = lambda self, name, lines: self.log()[-4000:] if name == "control" else ""

    def request(self, method, path, body=None, headers=None):
        connection = UnixHTTP(self.api)
        try:
            if isinstance(body, (dict, list)):
                body = json.dumps(body)
            connection.request(method, path, body, headers or {})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body=None):
        return self.request("POST", path, body)

    def relay(self, instance="main", **how):
        relay = FakeRelay(self.link, instance, **how)
        self.relays.append(relay)
        return relay

    def close_relays(self):
        for relay in self.relays:
            relay.close()
        self.relays = []

    def close(self):
        self.close_relays()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder)


# ---- a relay, as far as control can tell ----

F_ADD_SEALS, F_SEAL_SHRINK = 1033, 2
SERIES_MAX = 8192


def make_stats(series):
    """A memory object as control/shm/stats.h draws it; series: (name, label, help, is_gauge, value)."""
    fd = os.memfd_create("stats", os.MFD_ALLOW_SEALING)
    text = struct.pack("<QIIQQ32x", 0x31737461746b7968, 3, len(series), 1_700_000_000_000_000, 1)
    for name, label, sentence, is_gauge, value in series:
        text += struct.pack("<80s128s160sIIQ", name.encode(), label.encode(), sentence.encode(), is_gauge, 0, value)
    os.write(fd, text)
    os.ftruncate(fd, 64 + SERIES_MAX * 384)
    fcntl.fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)
    return fd


def make_tickets(keys):
    """As control/shm/tickets.h has it; keys: (name, from, until, end) in seconds since the machine's start."""
    fd = os.memfd_create("tickets", os.MFD_ALLOW_SEALING)
    text = struct.pack("<QIIII", 0x31746b7461796b68, 1, 0, len(keys), 7200)
    for name, *times in keys:
        text += struct.pack("<16s32s32sQQQ", name, b"c" * 32, b"m" * 32, *times)
    os.write(fd, text.ljust(856, b"\0"))
    fcntl.fcntl(fd, F_ADD_SEALS, 2 | 4 | 8)  # no shrinking, growing, writing
    return fd


def read_tickets(fd):
    """{name: (from, until, end)}"""
    data = os.pread(fd, 4096, 0)
    count, _ = struct.unpack_from("<II", data, 16)
    rows = [struct.unpack_from("<16s32s32sQQQ", data, 24 + 104 * i) for i in range(count)]
    return {row[0]: row[3:] for row in rows}


class FakeRelay:
    """Says hello, takes generations (`takes`: True, False for silence, or a text to refuse with), answers requests
    from `ops` (op -> answer, or a function of the request) and keeps what it was told."""

    def __init__(self, path, instance="main", takes=True, ops=None, series=(), hello=None, tickets=None):
        self.instance, self.takes, self.ops = instance, takes, {"status": {"uptime": 1}, **(ops or {})}
        self.generations, self.objects, self.requests, self.resolved, self.tickets = [], [], [], {}, []
        brought = [] if tickets is None else [make_tickets(tickets)]
        self.token = 0
        self.lock = threading.Condition()
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.connect(str(path))
        stats = make_stats(series)
        with contextlib.suppress(BrokenPipeError):  # sent away already
            self.send(hello or {"type": "hello", "version": 1, "instance": instance, "pid": os.getpid()},
                      [stats, *brought])
        for fd in (stats, *brought):
            os.close(fd)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def send(self, message, fds=()):
        text = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.socket.sendmsg([text], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                text, fds, _, _ = socket.recv_fds(self.socket, 192 * 1024, 4)
                if not text:
                    break
                with self.lock:
                    self._take(json.loads(text), fds)
                    self.lock.notify_all()
        with self.lock:
            self.is_gone = True
            self.lock.notify_all()

    is_gone = False

    def _take(self, message, fds):
        if message["type"] == "generation":
            self.objects = [os.pread(fd, 1 << 20, 0) for fd in fds]
            for fd in fds:
                os.close(fd)
            self.generations.append(message["number"])
            if self.takes is True:
                self.send({"type": "applied", "number": message["number"]})
            elif self.takes:
                self.send({"type": "refused", "number": message["number"], "error": self.takes})
        elif message["type"] == "tickets":
            self.tickets.append(read_tickets(fds[0]))
            os.close(fds[0])
        elif message["type"] == "request":
            self.requests.append(message)
            answer = self.ops.get(message["op"])
            if callable(answer):
                answer = answer(message)
            if answer is not None:
                self.send({"type": "response", "token": message["token"], "ok": True, **answer})
        elif message["type"] in ("resolved", "named"):
            self.resolved[message["token"]] = message

    def wait(self, what, condition, seconds=PATIENCE):
        with self.lock:
            if not self.lock.wait_for(lambda: condition(self), seconds):
                raise AssertionError(f"relay {self.instance} waited {seconds} s in vain: {what}")

    def resolve(self, **question):
        self.token += 1
        token = self.token
        self.send({"type": "resolve", "token": token, "port": 25, **question})
        self.wait(f"answer to {question}", lambda r: token in r.resolved)
        return self.resolved[token]

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.socket.close()


# ---- names ----

class NameServer:
    """Answers on 127.0.0.1 from a table: (name, type) -> list of texts, a rcode's name, or None for silence."""

    def __init__(self, table):
        import dns.message
        import dns.rcode
        import dns.rrset
        self.dns, self.table, self.asked = dns, table, []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                wire, peer = self.socket.recvfrom(4096)
                answer = self._answer(self.dns.message.from_wire(wire))
                if answer is not None:
                    self.socket.sendto(answer.to_wire(), peer)

    def _answer(self, query):
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = self.dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        known = any(n == name for n, _ in self.table)
        found = self.table.get((name, kind), [] if known else "NXDOMAIN")
        if found is None:
            return None
        answer = self.dns.message.make_response(query, recursion_available=True)
        if isinstance(found, str):
            answer.set_rcode(self.dns.rcode.from_text(found))
        elif found:
            answer.answer.append(self.dns.rrset.from_text(question.name, 300, "IN", kind, *found))
        return answer

    def close(self):
        self.socket.close()
