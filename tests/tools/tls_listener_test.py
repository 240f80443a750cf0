# SPDX-License-Identifier: Apache-2.0
"""tls_listener as a tester of TLS finds it: every back end, certificate and setting, many connections at once."""

import contextlib
import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
from cases import case, expect, expect_in, main

TOOL, LAB_ENGINE = sys.argv[1], sys.argv[2]
HAS_MB = subprocess.run([TOOL, "--backend", "mb", "--seconds", "0"], capture_output=True).returncode == 0  # AVX512-IFMA
# The crypto thread is tried with an engine of ours: qatengine's software wants an Intel processor.
BACKENDS = {"inline": (), "engine": ("--backend", "engine", "--engine", LAB_ENGINE),
            **({"mb": ("--backend", "mb")} if HAS_MB else {})}
ANSWER = b"HTTP/1.0 200 OK\r\n"


class Listener:
    """One run of the tool; `counts` is what it printed at its end."""

    def __init__(self, *args):
        self.folder = tempfile.TemporaryDirectory(prefix="tls_listener.")
        self.ca = self.folder.name + "/ca.pem"
        self.process = subprocess.Popen([TOOL, "--ca-out", self.ca, "--seconds", "300", *args],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env={**os.environ, "LAB_ENGINE": "software"})
        first = self.process.stdout.readline()
        if not first.startswith("listening on port "):
            raise AssertionError(self.process.communicate()[1])
        self.port = int(first.split()[-1])

    def __enter__(self):
        return self

    def __exit__(self, *what):
        if self.process.poll() is None:
            self.process.terminate()
        self.finish()

    def finish(self):
        """Waits until it has ended."""
        if not self.process.stdout.closed:
            out, self.log = self.process.communicate(timeout=120)
            self.counts = json.loads(out)
            self.folder.cleanup()
            expect(self.process.returncode == 0, self.process.returncode, self.log)
        return self.counts

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), 60)

    def context(self, **more):
        context = ssl.create_default_context(cafile=self.ca)
        for name, value in more.items():
            setattr(context, name, value)
        return context

    def open(self, context, session=None):
        return context.wrap_socket(self.connect(), server_hostname="localhost", session=session)


def ask(tls, request=b"GET / HTTP/1.0\r\n\r\n"):
    """The whole answer; an end without close_notify raises."""
    tls.suppress_ragged_eofs = False
    tls.sendall(request)
    answer = b""
    while more := tls.recv(4096):
        answer += more
    return answer


def key_of(tls):
    der = tls.getpeercert(True)
    return "rsa" if bytes.fromhex("2a864886f70d010101") in der else "ecdsa"


@case
def any_request_is_answered_and_closed_by_close_notify():
    for backend in BACKENDS.values():
        answer_requests(backend)


def answer_requests(backend):
    with Listener(*backend) as l:
        for request in (b"GET / HTTP/1.0\r\n\r\n", b"POST /x HTTP/1.1\r\nHost: a\r\n\r\nabc", b"QUIT\n\n"):
            with l.open(l.context()) as tls:
                answer = ask(tls, request)
                expect(answer.startswith(ANSWER) and answer.endswith(b"\r\n\r\nIt works\n"), answer)
        l.process.terminate()
        expect(l.finish()["requests"] == 3, l.counts)


@case
def a_request_may_come_byte_by_byte():
    with Listener() as l, l.open(l.context()) as tls:
        for byte in b"GET / HTTP/1.0\r\n\r":
            tls.sendall(bytes([byte]))
        expect(ask(tls, b"\n").startswith(ANSWER))


@case
def the_certificate_is_of_the_kind_asked_for():
    for kind, client, want in (("ecdsa", None, "ecdsa"), ("rsa", None, "rsa"), ("both", None, "ecdsa"),
                               ("both", "ECDHE-RSA-AES128-GCM-SHA256", "rsa")):
        with Listener("--certificate", kind) as l:
            context = l.context()
            if client:
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                context.set_ciphers(client)
            with l.open(context) as tls:
                expect(key_of(tls) == want, kind, client, key_of(tls))


@case
def the_profile_is_the_one_asked_for():
    with Listener("--highest", "TLSv1.2", "--verbose", "--groups", "P-384", "--grade", "modern") as l:
        with l.open(l.context()) as tls:
            expect(tls.version() == "TLSv1.2", tls.version())
            ask(tls)
        with l.open(l.context()) as tls:
            pass
        context = l.context()
        context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with contextlib.suppress(ssl.SSLError), l.open(context):
            raise AssertionError("a CBC suite at grade modern")
        l.process.terminate()
        counts = l.finish()
        expect(counts["handshakes"] == 2 and counts["failures"] == 1, counts)
        expect_in("secp384r1", l.log)
    with Listener("--lowest", "TLSv1.3") as l:
        context = l.context(maximum_version=ssl.TLSVersion.TLSv1_2)
        with contextlib.suppress(ssl.SSLError), l.open(context):
            raise AssertionError("TLS 1.2 below the lowest")


@case
def many_connections_are_served_at_once():
    for kind, backend in ((k, b) for k in ("ecdsa", "rsa") for b in BACKENDS.values()):
        with Listener("--certificate", kind, "--connections", "64", *backend) as l:
            context, connections = l.context(), []
            for _ in range(64):
                raw = l.connect()
                raw.setblocking(False)
                tls = context.wrap_socket(raw, server_hostname="localhost", do_handshake_on_connect=False)
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.do_handshake()
                connections.append(tls)
            for tls in connections:
                tls.settimeout(60)
                tls.do_handshake()
            expect(all(ask(tls).startswith(ANSWER) for tls in connections))
            for tls in connections:
                tls.close()
            counts = l.finish()
            expect(counts["handshakes"] == counts["requests"] == 64, counts)
            expect(counts["most_at_once"] == 64 and counts["failures"] == 0, counts)


@case
def a_session_is_resumed_by_its_ticket():
    with Listener() as l:
        context = l.context()
        with l.open(context) as tls:
            ask(tls)
            session = tls.session
        with l.open(context, session) as tls:
            expect(tls.session_reused)
            ask(tls)
        l.process.terminate()
        expect(l.finish()["resumed"] == 1, l.counts)


@case
def garbage_fails_alone():
    with Listener("--verbose") as l:
        with l.open(l.context()) as whole, l.connect() as broken:
            broken.sendall(b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x01")
            got = broken.recv(100)
            expect(got[:1] == b"\x15" and broken.recv(100) == b"", got)  # an alert, and the end
            expect(ask(whole).startswith(ANSWER))
        l.process.terminate()
        expect(l.finish()["failures"] == 1, l.counts)
        expect_in("unexpected message", l.log)


@case
def a_silent_connection_is_cut_by_the_clock():
    with Listener("--timeout", "1", "--connections", "1") as l, l.connect() as silent:
        silent.settimeout(60)
        expect(silent.recv(1) == b"")
        expect(l.finish()["timeouts"] == 1, l.counts)


@case
def above_the_most_at_once_connections_are_refused():
    with Listener("--at-once", "1") as l, l.open(l.context()) as first:
        with l.connect() as second:
            with contextlib.suppress(ConnectionResetError):
                expect(second.recv(1) == b"")
        expect(ask(first).startswith(ANSWER))
        l.process.terminate()
        expect(l.finish()["refused"] == 1, l.counts)


@case
def it_ends_by_itself_after_its_connections_or_its_time():
    with Listener("--connections", "2") as l:
        for _ in range(2):
            with l.open(l.context()) as tls:
                ask(tls)
        expect(l.finish()["connections"] == 2, l.counts)
    with Listener("--seconds", "1") as l, l.connect():
        l.finish()


@case
def what_it_does_not_know_is_refused_with_a_reason():
    for args, reason in ((("--certificate", "dsa"), "'dsa' is no such value"),
                         (("--grade", "low"), "'low' is no such value"),
                         (("--lowest", "SSLv3"), "'SSLv3' is no such value"),
                         (("--backend", "none"), "'none' is no such value"),
                         (("--backend", "engine", "--engine", "none-such"), "the engine none-such cannot be loaded: "),
                         (("--port", "70000"), "'70000' is no such value"),
                         (("--groups", "none-such"), "groups 'none-such' are not known"),
                         (("--ca-out", "/nonexistent/ca.pem"), "cannot write /nonexistent/ca.pem")):
        done = subprocess.run([TOOL, *args], capture_output=True, text=True, timeout=60)
        expect(done.returncode in (64, 69), args, done)
        expect_in(reason, done.stderr)


if __name__ == "__main__":
    del sys.argv[1:3]
    sys.exit(main())
