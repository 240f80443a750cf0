#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench_test.py HIKYAKU-BENCH: its generator against its sink, on the loopback of a network namespace of its own."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

BENCH = sys.argv[1] if len(sys.argv) > 1 else "build/bench/hikyaku-bench"
PORT = 2525
CASES = []


def case(function):
    CASES.append(function)
    return function


class Sink:
    def __init__(self, *options):
        self.process = subprocess.Popen([BENCH, "sink", "--kernel", f"127.0.0.1:{PORT}", "--json", *options],
                                        stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        for _ in range(1200):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", PORT), 1):
                return self
            time.sleep(0.05)
        raise AssertionError("the sink does not listen")

    def __exit__(self, *exc):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.said = json.loads(self.process.communicate(timeout=120)[0])


def bench(*options, code=0, timeout=300):
    done = subprocess.run([BENCH, *options, "--json", "--quiet"], capture_output=True, text=True, timeout=timeout)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return json.loads(done.stdout) if done.stdout else done.stderr


TO_SINK = ("--kernel", f"127.0.0.1:{PORT}", "--warmup", "0")


@case
def every_mail_that_is_counted_has_arrived(pem):
    for options, sessions in (((), 0), (("--clear",), 0), (("--mails-per-connection", "3", "--connections", "7"), 55)):
        with Sink("--certificate", pem) as sink:
            told = bench("messages", *TO_SINK, "--count", "200", "--size", "5000", "--recipients", "3", *options)
        assert told["messages"] == 200 and sink.said["mails"] == 200, (told, sink.said)
        assert told["content_bytes"] == sink.said["bytes"] == 200 * 5003
        assert told["sessions"] >= sessions and told["failures"] == {}, told  # those that were open at the end do not count
        assert told["microseconds"]["end_to_250"]["count"] == 200
        assert (told.get("tls") == "TLSv1.3") == ("--clear" not in options)


@case
def a_message_larger_than_any_buffer_arrives_whole(pem):
    with Sink("--certificate", pem) as sink:
        told = bench("messages", *TO_SINK, "--count", "5", "--size", "20000000", "--connections", "2")
    assert told["messages"] == 5 and sink.said["bytes"] == 5 * 20000003, (told, sink.said)


@case
def handshakes_are_full_ones_each_on_a_connection_of_its_own(pem):
    for tls, client in (("1.2", "lean"), ("1.3", "lean"), ("1.2", "openssl"), ("1.3", "openssl")):
        with Sink("--certificate", pem) as sink:
            told = bench("handshakes", *TO_SINK, "--count", "50", "--tls", tls, "--groups", "X25519:P-256", "--client", client)
        assert told["client"] == client and told["handshakes_resumed"] == 0, told
        assert told["sessions"] == 50 and told["handshakes"] == 50 and not told["resumed"]
        assert told["tls"] == "TLSv" + tls
        assert sink.said["handshakes"] == 50 and sink.said["failed_handshakes"] == 0
        assert told["failures"] == {}


@case
def a_slots_first_handshake_is_full_and_the_others_are_resumed(pem):
    for tls, groups in (("1.2", "X25519:P-256"), ("1.3", "X25519"), ("1.3", "P-256"), ("1.3", "X25519MLKEM768")):
        with Sink("--certificate", pem) as sink:
            told = bench("handshakes", *TO_SINK, "--count", "50", "--connections", "5", "--tls", tls, "--groups", groups, "--resumed")
        assert told["handshakes"] == 50 and told["handshakes_resumed"] == 45 and told["failures"] == {}, told
        assert sink.said["handshakes"] == 50 and sink.said["failed_handshakes"] == 0


@case
def an_offered_rate_is_kept_and_times_count_from_when_a_session_was_due(pem):
    with Sink("--certificate", pem):
        told = bench("handshakes", *TO_SINK, "--rate", "5", "--duration", "6")
    assert told["loop"] == "open" and told["offered_per_second"] == 5 and told["failures"] == {}, told
    assert 28 <= told["sessions"] <= 31 and told["sessions"] + told["never_begun"] >= 29, told  # the last may be under way
    assert told["microseconds"]["late"]["count"] == told["sessions"] == told["microseconds"]["secured"]["count"], told
    listener = socket.create_server(("127.0.0.1", PORT), backlog=64)  # takes connections and says nothing
    told = bench("handshakes", *TO_SINK, "--rate", "50", "--duration", "1", "--connections", "5", "--timeout", "0.4", code=75)
    listener.close()
    assert told["sessions"] == 0 and told["failures"]["timeout"]["count"] >= 5, told
    assert told["never_begun"] > 20 and told["limited_by"] != "offered rate", told
    assert told["begun_late"] > 0 and told["microseconds"]["late"]["max"] > 300000, told


@case
def a_burst_begins_its_handshakes_together(pem):
    with Sink("--certificate", pem) as sink:
        told = bench("handshakes", *TO_SINK, "--burst", "16", "--count", "160")
    assert told["loop"] == "burst" and told["connections"] == 16 and told["failures"] == {}, told
    assert told["sessions"] == 160 and told["bursts"] == 10 == told["microseconds"]["burst"]["count"], told
    assert sink.said["handshakes"] == 160, sink.said


def answer(server, heard):
    """Speaks SMTP through `openssl s_server`, which prints what comes and sends what it is given."""
    text = b""
    for said, after in ((b"220 x\r\n", b"EHLO"), (b"250 x\r\n", b"QUIT"), (b"221 x\r\n", None)):
        server.stdin.write(said)
        server.stdin.flush()
        while after and after not in text:
            more = os.read(server.stdout.fileno(), 4096)
            if not more:
                return
            text += more
            heard.append(more)


@case
def the_lean_client_and_openssls_own_server_agree(pem):
    for tls, groups in (("1.2", "X25519:P-256"), ("1.2", "P-256"), ("1.3", "X25519"), ("1.3", "P-256"), ("1.3", "X25519MLKEM768")):
        server = subprocess.Popen(["openssl", "s_server", "-accept", f"127.0.0.1:{PORT}", "-cert", pem, "-key", pem,
                                   "-naccept", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(3000):
            if f":{PORT:04X} 00000000:0000 0A" in pathlib.Path("/proc/net/tcp").read_text():
                break
            time.sleep(0.02)
        heard = []
        answering = threading.Thread(target=answer, args=(server, heard), daemon=True)
        answering.start()
        told = bench("handshakes", *TO_SINK, "--implicit-tls", "--connections", "1", "--count", "1", "--tls", tls, "--groups", groups,
                     "--timeout", "60")
        answering.join(60)
        server.kill()
        server.wait()
        assert told["handshakes"] == told["sessions"] == 1 and told["failures"] == {}, (told, heard)
        assert (told["tls"], told["group"]) == ("TLSv" + tls, groups.split(":")[0]), told


@case
def a_sink_without_a_certificate_offers_no_tls(pem):
    with Sink() as sink:
        told = bench("handshakes", *TO_SINK, "--count", "3", "--connections", "1", code=75)
    assert told["failures"]["session"]["count"] == 3 and told["sessions"] == 0, told
    assert sink.said["mails"] == 0


@case
def nobody_there_is_told_and_bounded(pem):
    told = bench("messages", *TO_SINK, "--count", "20", code=75)
    assert told["failures"]["connect"] == {"count": 20, "first": "Connection refused"}, told


def serve(script):
    """A server that says each line once for each time it is sent to; one connection after the other."""
    listener = socket.create_server(("127.0.0.1", PORT))

    def loop():
        with contextlib.suppress(OSError):
            while True:
                c, _ = listener.accept()
                with c, contextlib.suppress(OSError):
                    for line in script:
                        c.sendall(line)
                        if not c.recv(65536):
                            break
    threading.Thread(target=loop, daemon=True).start()
    return listener


@case
def refusals_are_counted_by_kind_and_shown_without_control_bytes(pem):
    ehlo = b"250-x\r\n250 PIPELINING\r\n"
    for script, kind, first in (
            ((b"220 x\r\n", ehlo, b"452 full \x1b[31m\r\n503 x\r\n503 x\r\n", b"250 ok\r\n", b"221 x\r\n"), "mail_4xx", "452 full ?[31m"),
            ((b"220 x\r\n", ehlo, b"250 x\r\n250 x\r\n354 x\r\n", b"554 no\r\n", b"221 x\r\n"), "mail_5xx", "554 no"),
            ((b"554 go away\r\n",), "session", "554 go away"),
            ((b"220 x\r\n", b"HTTP/1.1 400\r\n"), "session", "HTTP/1.1 400"),
            ((b"220 x\r\n", ehlo), "lost", None)):
        listener = serve(script)
        told = bench("messages", *TO_SINK, "--clear", "--count", "2", "--connections", "1", "--mails-per-connection", "1",
                     code=75)
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        failure = told["failures"][kind]
        assert told["messages"] == 0 and failure["count"] == 2, (kind, told)
        assert first is None or failure["first"] == first, told


@case
def a_silent_server_is_given_up(pem):
    listener = serve(())
    quiet = socket.socket()  # the accept loop closes at once; this one never accepts
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    quiet.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    quiet.bind(("127.0.0.1", PORT))
    quiet.listen(8)
    told = bench("messages", *TO_SINK, "--count", "2", "--connections", "2", "--timeout", "0.3", code=75)
    quiet.close()
    assert told["failures"]["timeout"]["count"] == 2, told


@case
def an_interrupted_run_prints_what_it_has(pem):
    with Sink("--certificate", pem) as sink:
        process = subprocess.Popen([BENCH, "messages", *TO_SINK, "--duration", "60", "--json"], text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert "measuring" in process.stderr.readline()
        time.sleep(2)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    told = json.loads(out)
    assert told["interrupted"] and told["messages"] > 0, told
    assert sink.said["mails"] >= told["messages"]


@case
def only_the_aes_that_is_asked_for_is_offered(pem):
    for tls, bits in (("1.2", "128"), ("1.2", "256"), ("1.3", "128"), ("1.3", "256")):
        with Sink("--certificate", pem):
            told = bench("handshakes", *TO_SINK, "--count", "3", "--tls", tls, "--groups", "X25519:P-256", "--aes", bits)
        assert told["sessions"] == 3 and f"AES_{bits}_GCM" in told["cipher"], told


@case
def wrong_options_are_refused_with_their_name(pem):
    for options in (("messages",), ("dance", *TO_SINK), ("messages", *TO_SINK, "--size", "big"),
                    ("messages", "--kernel", "nowhere"), ("messages", *TO_SINK, "--from", "a b"),
                    ("messages", *TO_SINK, "--connections", "0"), ("handshakes", *TO_SINK, "--clear"),
                    ("messages", *TO_SINK, "--memif", "x"), ("messages", *TO_SINK, "--address", "192.0.2.1"),
                    ("messages", *TO_SINK, "--tls", "1.1"), ("sink",), ("handshakes", *TO_SINK, "--client", "thin"),
                    ("handshakes", *TO_SINK, "--client", "openssl", "--resumed"), ("messages", *TO_SINK, "--rate", "5"),
                    ("handshakes", *TO_SINK, "--aes", "192"), ("handshakes", *TO_SINK, "--client", "openssl", "--aes", "128"),
                    ("handshakes", *TO_SINK, "--rate", "5", "--burst", "5")):
        said = bench(*options, code=64)
        assert said.startswith("hikyaku-bench: "), said


def main():
    if os.environ.get("BENCH_TEST_NS") != "1":
        os.environ["BENCH_TEST_NS"] = "1"
        os.execvp("unshare", ["unshare", "--net", sys.executable, *sys.argv])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    failed = []
    with tempfile.TemporaryDirectory(prefix="hikyaku-bench.") as folder:
        key, cert, pem = (str(pathlib.Path(folder) / n) for n in ("key", "cert", "pem"))
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                        key, "-out", cert, "-days", "2", "-subj", "/CN=sink.example.test"], check=True, capture_output=True)
        pathlib.Path(pem).write_text(pathlib.Path(key).read_text() + pathlib.Path(cert).read_text())
        for function in CASES:
            try:
                function(pem)
                print("ok    ", function.__name__, flush=True)
            except Exception as e:  # a case that fails does not keep the others from being tried
                failed.append(function.__name__)
                print("FAILED", function.__name__, repr(e)[:2000], flush=True)
    print(f"[  PASSED  ] {len(CASES) - len(failed)} test(s).")
    if failed:
        print(f"[  FAILED  ] bench, {len(failed)} test(s)")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
