#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hikyakuctl against a small HTTP server on a unix socket: the requests it makes, what it prints, how it ends.

    ctl_test.py HIKYAKUCTL SOURCE
"""
import base64
import fcntl
import http.server
import json
import os
import pathlib
import pty
import select
import signal
import socketserver
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest

CTL, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
APPLIED = {"generation": 8, "applied": ["main"], "pending": [], "refused": []}
NASTY = "\x1b]0;owned\x07\x1b[2J\u009b31m\u202eevil\x7f"  # a title, a clear, a CSI of C1, a change of direction, DEL


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass

    def serve(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.requests.append((self.command, self.path, body))
        status, answer = self.server.answers.get(f"{self.command} {self.path}", (404, {"error": f"no {self.path} here"}))
        if callable(answer):
            answer = answer(body)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if data:  # else the client may be gone already
            self.wfile.write(data)

    do_GET = do_POST = do_PATCH = do_DELETE = serve


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="hikyaku-ctl-test.")
        self.addCleanup(self.folder.cleanup)
        self.path = pathlib.Path(self.folder.name) / "api.sock"
        self.server = Server(str(self.path), Handler)
        self.server.requests, self.server.answers = [], {}
        thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        self.env = {**os.environ, "HIKYAKU_API": str(self.path), "TZ": "UTC", "LC_ALL": "C.UTF-8"}

    def answer(self, request, body, status=200):
        self.server.answers[request] = (status, body)

    def run_ctl(self, *args, code=0, stdin=b"", env=None):
        done = subprocess.run([CTL, *args], input=stdin, capture_output=True, env=env or self.env, timeout=60, check=False)
        self.out, self.err = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, code, f"{args}: {self.out}{self.err}")
        self.check_harmless(done.stdout + done.stderr)
        return self.out

    def check_harmless(self, data):
        for byte in list(range(0, 9)) + list(range(11, 32)) + [127]:
            self.assertNotIn(byte, data)
        for text in ("\u009b", "\u202e"):
            self.assertNotIn(text.encode(), data)

    def on_terminal(self, *args, typed=b"", columns=80):
        """The output and exit code on a terminal."""
        fd, slave = pty.openpty()
        process = subprocess.Popen([CTL, *args], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
                                   env={**self.env, "COLUMNS": str(columns)})
        os.close(slave)
        out, end, sent = b"", time.monotonic() + 60, False
        while time.monotonic() < end:
            if not select.select([fd], [], [], 0.1)[0]:
                continue
            try:
                out += os.read(fd, 65536)
            except OSError:  # EIO: nobody has the other end any more
                break
            if typed and not sent and b"[y/N]" in out:
                sent = True
                os.write(fd, typed)
        os.close(fd)
        return out.decode(), process.wait(60)

    def requests(self):
        return [(method, path) for method, path, _ in self.server.requests]

    def body(self, index=-1):
        return json.loads(self.server.requests[index][2])


class Changes(Case):
    def test_each_change_is_the_request_it_should_be(self):
        cases = [
            ("rule in add office client=192.0.2.0/24 action=relay profile=strict before=default",
             "POST", "/v1/documents/in_rules",
             {"id": "office", "client": "192.0.2.0/24", "action": "relay", "profile": "strict"}),
            ("rule out add x domain=dest.example.test before=y", "POST", "/v1/documents/out_rules?before=y",
             {"id": "x", "domain": "dest.example.test"}),
            ("rule in set office enabled=false client=", "PATCH", "/v1/documents/in_rules/office",
             {"enabled": False, "client": None}),
            ("rule in move office before=other", "POST", "/v1/documents/in_rules/office/move?before=other", None),
            ("rule in move office before=default", "POST", "/v1/documents/in_rules/office/move?before=last", None),
            ("rule out move x last", "POST", "/v1/documents/out_rules/x/move?before=last", None),
            ("rule in enable office", "PATCH", "/v1/documents/in_rules/office", {"enabled": True}),
            ("rule out disable x", "PATCH", "/v1/documents/out_rules/x", {"enabled": False}),
            ("rule in remove office", "DELETE", "/v1/documents/in_rules/office", None),
            ("profile add strict level=encrypt protocol.lowest=TLSv1.3", "POST", "/v1/documents/profiles",
             {"id": "strict", "level": "encrypt", "protocol": {"lowest": "TLSv1.3"}}),
            ("profile set default-out level=verify names=mx.example.test", "PATCH",
             "/v1/documents/profiles/default-out", {"level": "verify", "names": ["mx.example.test"]}),
            ("profile remove strict", "DELETE", "/v1/documents/profiles/strict", None),
            ("route add dest domain=dest.example.test via=hosts hosts=203.0.113.25:25 inbound=true", "POST",
             "/v1/documents/routes", {"id": "dest", "domain": "dest.example.test", "via": "hosts",
                                      "hosts": [{"host": "203.0.113.25", "port": 25}], "inbound": True}),
            ("route set dest via=mx", "PATCH", "/v1/documents/routes/dest", {"via": "mx"}),
            ("route enable dest", "PATCH", "/v1/documents/routes/dest", {"enabled": True}),
            ("route disable dest", "PATCH", "/v1/documents/routes/dest", {"enabled": False}),
            ("route remove dest", "DELETE", "/v1/documents/routes/dest", None),
            ("cert create web relay.example.test mx.example.test --days 90 --key rsa --default", "POST", "/v1/certs",
             {"id": "web", "names": ["relay.example.test", "mx.example.test"], "days": 90, "key": "rsa",
              "default": True}),
            ("cert create own", "POST", "/v1/certs", {"id": "own"}),
            ("cert activate web", "POST", "/v1/certs/web/activate", None),
            ("cert activate web --default", "POST", "/v1/certs/web/activate?default=1", None),
            ("cert deactivate web", "POST", "/v1/certs/web/deactivate", None),
            ("cert remove web", "DELETE", "/v1/certs/web", None),
        ]
        for line, method, path, body in cases:
            with self.subTest(line):
                self.server.requests.clear()
                self.answer(f"{method} {path}", APPLIED)
                self.assertEqual(self.run_ctl(*line.split()), "generation 8 in force on main\n")
                self.assertEqual(self.requests(), [(method, path)])
                if body is None:
                    self.assertEqual(self.server.requests[0][2], b"")
                else:
                    self.assertEqual(self.body(), body)

    def test_ids_are_encoded_and_never_leave_their_place(self):
        for typed, path in (("a/../b?c#d", "a%2F..%2Fb%3Fc%23d"), ("..", ".."), ("é", "%C3%A9")):
            self.server.requests.clear()
            self.run_ctl("rule", "in", "remove", typed, code=65)
            self.assertEqual(self.requests(), [("DELETE", f"/v1/documents/in_rules/{path}")])

    def test_outcomes_of_a_change(self):
        request = "DELETE /v1/documents/routes/dest"
        for answer, code, out, err in (
                ({**APPLIED, "applied": ["a", "b", "c"]}, 0, "generation 8 in force on a, b and c\n", ""),
                ({**APPLIED, "applied": []}, 0, "generation 8 is kept; no relay is attached to put it in force\n", ""),
                ({**APPLIED, "pending": ["edge"]}, 75, "generation 8 in force on main\n",
                 "hikyakuctl: edge has not yet got generation 8; it is kept, and theirs as soon as they answer\n"),
                ({**APPLIED, "applied": [], "refused": [{"instance": "edge", "error": NASTY}]}, 65, "",
                 "hikyakuctl: edge refused generation 8: \\x1b]0;owned\\x07")):
            with self.subTest(answer):
                self.answer(request, answer)
                self.assertEqual(self.run_ctl("route", "remove", "dest", code=code), out)
                self.assertTrue(self.err.startswith(err) and bool(err) == bool(self.err), self.err)
        self.answer(request, APPLIED)
        self.assertEqual(self.run_ctl("route", "remove", "dest", "--quiet"), "")
        self.assertEqual(json.loads(self.run_ctl("route", "remove", "dest", "--json")), APPLIED)

    def test_errors_of_the_api_are_sentences_and_exit_codes(self):
        for status, code in ((400, 65), (403, 77), (404, 65), (409, 65), (413, 65), (500, 70), (503, 69), (504, 75)):
            self.answer("DELETE /v1/certs/web", {"error": "it is active" + NASTY}, status)
            self.run_ctl("cert", "remove", "web", code=code)
            self.assertTrue(self.err.startswith("hikyakuctl: it is active\\x1b]0;"), self.err)
        self.answer("DELETE /v1/certs/web", b"<html>", 200)
        self.run_ctl("cert", "remove", "web", code=76)
        self.answer("DELETE /v1/certs/web", b"<html>", 502)
        self.run_ctl("cert", "remove", "web", code=70)

    def test_a_certificate_is_read_from_a_file(self):
        pem = "-----BEGIN CERTIFICATE-----\nQUJD\n-----END CERTIFICATE-----\n"
        file = pathlib.Path(f"{self.path}.pem")
        file.write_text(pem)
        self.answer("PATCH /v1/documents/profiles/strict", APPLIED)
        self.run_ctl("profile", "set", "strict", "level=verify", f"ca_pem=@{file}")
        self.assertEqual(self.body(), {"level": "verify", "ca_pem": pem})
        self.run_ctl("profile", "set", "strict", "ca_pem=@-", stdin=pem.encode())
        self.assertEqual(self.body(), {"ca_pem": pem})
        # Only what is too long to be typed: an address begins with that letter, too.
        self.answer("PATCH /v1/documents/in_rules/office", APPLIED)
        self.run_ctl("rule", "in", "set", "office", "sender=@example.test")
        self.assertEqual(self.body(), {"sender": "@example.test"})
        asked = len(self.requests())
        self.run_ctl("profile", "set", "strict", f"ca_pem=@{file}.gone", code=66)
        self.assertIn(f"{file}.gone: No such file", self.err)
        file.write_bytes(b"a\0b")
        self.run_ctl("profile", "set", "strict", f"ca_pem=@{file}", code=65)
        file.write_bytes(b"x" * (1 << 20) + b"x")
        self.run_ctl("profile", "set", "strict", f"ca_pem=@{file}", code=65)
        self.assertEqual(len(self.requests()), asked)
        self.assertIn("ca_pem= @FILE", self.run_ctl("help", "profile", "set"))

    def test_what_is_typed_wrongly_asks_nothing(self):
        for line, words in (("profile set x levle=may", "did you mean 'level'?"),
                            ("profile set x level=verfy", "did you mean 'verify'?"),
                            ("queue retry", "--all is every mail"),
                            ("queue remove domain=x --all", "goes with no selection"),
                            ("explain out", "expected domain=NAME"), ("queue hold instance=main", "--all is every mail"), ("cert create w a --days 0", "--days"),
                            ("cert create w a --key dsa", "--key"), ("cert import -", "--id ID"),
                            ("route move x before=y", "the most specific domain counts"), ("route move x last", "they have no order"),
                            ("profile move x before=y", "rules name them"), ("profile disable x", "enable or disable that rule"),
                            ("log --lines x", "--lines"), ("frobnicate", "is no command"), ("", "")):
            with self.subTest(line):
                self.run_ctl(*line.split(), code=64)
                self.assertIn(words, self.err)
        self.assertEqual(self.requests(), [])


class Daemon(Case):
    def test_no_daemon_is_69_with_what_to_do(self):
        gone = str(self.path) + ".gone"
        self.run_ctl("--socket", gone, "status", code=69)
        self.assertIn(f"does not answer at {gone} (No such file or directory); start it", self.err)
        pathlib.Path(gone).write_text("")
        self.run_ctl("status", f"--socket={gone}", code=69)
        self.assertIn("Connection refused", self.err)
        self.run_ctl("status", "--socket", "/" + "x" * 200, code=64)
        self.assertIn("too long for the path of a socket", self.err)

    @unittest.skipIf(os.geteuid() != 0 or not pathlib.Path("/usr/bin/setpriv").exists(), "needs root and setpriv")
    def test_a_socket_that_may_not_be_opened_is_77(self):
        self.path.chmod(0o600)
        os.chmod(self.folder.name, 0o755)
        binary = pathlib.Path(self.folder.name) / "hikyakuctl"
        binary.write_bytes(pathlib.Path(CTL).read_bytes())
        binary.chmod(0o755)
        done = subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", binary, "status"],
                              capture_output=True, env=self.env, timeout=60, check=False)
        self.assertEqual(done.returncode, 77, done.stderr)
        self.assertIn(b"be root, or in the group of its folder", done.stderr)

    def test_the_socket_is_found_by_option_before_environment(self):
        self.answer("GET /v1/status", {"control": {}, "relays": [], "warnings": []})
        self.run_ctl("status", "--socket", str(self.path), env={**self.env, "HIKYAKU_API": "/nowhere"})
        self.run_ctl("status", env={**self.env, "HIKYAKU_API": "/nowhere"}, code=69)

    def test_proxies_of_the_environment_are_not_asked(self):
        self.answer("GET /v1/status", {"control": {}, "relays": [], "warnings": []})
        self.run_ctl("status", env={**self.env, "http_proxy": "http://192.0.2.1:3128", "ALL_PROXY": "http://192.0.2.1"})


class Status(Case):
    STATUS = {
        "control": {"version": "0.1.0", "pid": 12, "uptime": 7300, "generation": 8, "hostname": "relay.example.test"},
        "relays": [{"instance": "main", "pid": 13, "generation": 7, "uptime": 90, "cores": 2, "connections": 5,
                    "queue": {"mails": 3, "waiting": 2, "held": 1, "active": 0}, "spool": {"bytes": 3 << 20,
                                                                                          "failing": True}}],
        "warnings": ["certificate web ends in 5 days", NASTY]}

    def test_status_says_what_a_person_looks_for(self):
        self.answer("GET /v1/status", self.STATUS)
        lines = self.run_ctl("status").splitlines()
        self.assertEqual(lines[0], "hikyaku-control 0.1.0 on relay.example.test, pid 12, up 2 h, generation 8")
        self.assertEqual(lines[1].split(), "RELAY PID GENERATION UP CORES CONNECTIONS MAILS SPOOL".split())
        self.assertEqual(lines[2].split(), "main 13 7 (behind) 1 min 2 5 3 3.0 MB".split())
        self.assertEqual(lines[3], "    2 waiting, 1 held; the spool's disk is full or failing: new mail gets 452")
        self.assertIn("certificate web ends in 5 days", lines[4])
        self.assertEqual(json.loads(self.run_ctl("--json", "status")), self.STATUS)

    def test_metrics_and_configuration_are_text(self):
        self.answer("GET /metrics", b"# TYPE x counter\nx_total 1\n# EOF\n")
        self.assertEqual(self.run_ctl("metrics"), "# TYPE x counter\nx_total 1\n# EOF\n")
        self.answer("GET /v1/config", b"node:\n  hostname: a\n")
        self.answer("GET /v1/config?full=1", b"node:\n  hostname: a # all\x1b[2J\n")
        self.assertEqual(self.run_ctl("config", "show"), "node:\n  hostname: a\n")
        self.assertEqual(self.run_ctl("config", "show", "--full"), "node:\n  hostname: a # all\\x1b[2J\n")

    COUNTERS = {"counters": [
        {"name": "hikyaku_queue_items", "help": "Waiting, by state", "type": "gauge",
         "values": [{"instance": "main", "state": "ready", "value": 0}, {"instance": "main", "state": "held", "value": 3}]},
        {"name": "hikyaku_tcp_drop_bad_checksum", "help": "The TCP checksum does not match." + NASTY, "type": "counter",
         "values": [{"instance": "main", "core": "0", "value": 5}, {"instance": "main", "core": "1", "value": 7}]},
        {"name": "hikyaku_tcp_drop_reset", "help": "A RST ended the connection.", "type": "counter",
         "values": [{"instance": "main", "core": "0", "value": 0}, {"instance": "main", "core": "1", "value": 0}]}]}

    def test_counters_are_shown_in_all_and_per_core(self):
        self.answer("GET /v1/counters", self.COUNTERS)
        self.answer("GET /v1/counters?instance=main", self.COUNTERS)
        rows = [line.split(maxsplit=2) for line in self.run_ctl("counters").splitlines()]
        self.assertEqual([row[:2] for row in rows], [
            ["NAME", "VALUE"], ["queue_items{state=ready}", "0"], ["queue_items{state=held}", "3"],
            ["tcp_drop_bad_checksum", "12"], ["tcp_drop_reset", "0"]])
        self.assertIn("main/0: 5, main/1: 7  The TCP checksum does not match.", rows[3][2])
        names = lambda *args: [line.split()[0] for line in self.run_ctl("counters", *args).splitlines()[1:]]
        self.assertEqual(names("--nonzero"), ["queue_items{state=held}", "tcp_drop_bad_checksum"])
        self.assertEqual(names("tcp_drop_*"), ["tcp_drop_bad_checksum", "tcp_drop_reset"])
        self.assertEqual(names("hikyaku_tcp_*"), ["tcp_drop_bad_checksum", "tcp_drop_reset"])
        self.assertEqual(names("check", "instance=main"), ["tcp_drop_bad_checksum"])
        self.assertRegex(self.run_ctl("counters", "--core", "1", "checksum"), r"tcp_drop_bad_checksum +7 +main/1: 7 +The TCP")
        self.assertEqual(self.run_ctl("counters", "nothing"), "no counter fits\n")
        got = json.loads(self.run_ctl("--json", "counters", "--nonzero", "--core", "1"))
        self.assertEqual([(c["name"], [v["value"] for v in c["values"]]) for c in got["counters"]],
                         [("hikyaku_tcp_drop_bad_checksum", [7])])

    def test_watching_counters_tells_what_has_changed_and_ends(self):
        import copy
        looks = []

        def look(body):
            looks.append(copy.deepcopy(self.COUNTERS))
            looks[-1]["counters"][1]["values"][1]["value"] += 10 * len(looks)
            return looks[-1]
        self.answer("GET /v1/counters", look)
        self.assertEqual(self.run_ctl("counters", "--watch", "2"), "   1 s  main/1  tcp_drop_bad_checksum  +10  (27)\n"
                         "   2 s  main/1  tcp_drop_bad_checksum  +10  (37)\n")
        self.assertEqual(len(looks), 3)
        line = json.loads(self.run_ctl("--json", "counters", "--watch", "1"))
        self.assertEqual((line["name"], line["core"], line["change"]), ("hikyaku_tcp_drop_bad_checksum", "1", 10))
        for seconds in ("0", "3601", "x", "-1", ""):
            self.run_ctl("counters", "--watch", seconds, code=64)

    def connection(self, place, **more):
        return {"id": f"0.{place}.0000abcd", "core": 0, "instance": "main", "direction": "in", "state": "ESTABLISHED",
                "local": "192.0.2.25", "local_port": 25, "remote": "198.51.100.10", "remote_port": 40000 + place, "rtt_us": 1500,
                "rttvar_us": 700, "rto_us": 200000, "cwnd": 14480, "ssthresh": 1 << 30, "mss": 1448, "send_window": 65536,
                "receive_window": 65535, "retransmits": 0, "bytes_in": 10, "bytes_out": 20, "send_queue": 0, "receive_queue": 0,
                "idle": 0.1, "age": 60.5, "phase": "command", "listener": "smtp", "name": "client.example.test", **more}

    def test_connections_are_listed_page_by_page_up_to_the_limit(self):
        first = "GET /v1/connections?peer=192.0.2.0%2F24&limit="
        counts = [{"core": 0, "connections": 4, "half_open": 1, "time_wait": 9}]
        self.answer(first + "1000", {"items": [self.connection(1)], "counts": counts, "next": "main/0.2"})
        self.answer(first + "999&after=main%2F0.2", {"items": [self.connection(
            2, remote="2001:db8::7", direction="out", name=NASTY, tls="TLSv1.3", cipher="TLS_X", domain="dest.example.test")]})
        out = self.run_ctl("connections", "--peer", "192.0.2.0/24")
        lines = [line for line in out.splitlines() if "0.1." in line or "[2001" in line]
        self.assertEqual(lines[0].split(), "0.1.0000abcd in 192.0.2.25:25 198.51.100.10:40001 ESTABLISHED 1.5 14480 0 0/0 0 s "
                         "smtp command client.example.test".split())
        self.assertIn("[2001:db8::7]:40002", lines[1])
        self.assertIn("for dest.example.test TLSv1.3", lines[1])
        self.assertIn("2 shown; of all: 4 open, 1 half-open, 9 in TIME-WAIT", out)
        self.answer(first + "1", {"items": [self.connection(1)], "counts": counts, "next": "main/0.2"})
        out = self.run_ctl("connections", "--peer", "192.0.2.0/24", "--limit", "1", "--long")
        self.assertIn("main  open for 1 min, 10 B in, 20 B out; RTO 200 ms, RTT variance 0.7 ms, ssthresh -, MSS 1448", out)
        self.assertIn("1 shown, there are more (--limit)", out)
        got = json.loads(self.run_ctl("--json", "connections", "--peer", "192.0.2.0/24"))
        self.assertEqual(([i["id"][:4] for i in got["items"]], got["time_wait"]), (["0.1.", "0.2."], 9))

    def test_what_is_no_connection_yet_or_any_more_is_listed_if_asked(self):
        self.answer("GET /v1/connections?all=1&limit=1000", {"items": [self.connection(1), {
            "core": 0, "instance": "main", "state": "TIME-WAIT", "local": "192.0.2.25", "local_port": 25, "remote": "2001:db8::7",
            "remote_port": 4000, "until": 40.5}], "counts": []})
        line = self.run_ctl("connections", "--all", "--long").splitlines()[3]
        self.assertEqual(line.split(), "- - 192.0.2.25:25 [2001:db8::7]:4000 TIME-WAIT for 40 s yet".split())

    def test_connections_are_sorted_over_all_pages(self):
        pages = [[5, 1, 9], [7, 7, 2], [8]]
        for n, page in enumerate(pages):
            self.answer("GET /v1/connections?limit=65535" + (f"&after=main%2F0.{n}" if n else ""), {
                "items": [self.connection(10 * n + k, retransmits=r) for k, r in enumerate(page)],
                **({"next": f"main/0.{n + 1}"} if n < 2 else {})})
        got = json.loads(self.run_ctl("--json", "connections", "--sort", "retransmits", "--limit", "3"))
        self.assertEqual([i["retransmits"] for i in got["items"]], [9, 8, 7])
        self.assertIn("3 shown, there are more", self.run_ctl("connections", "--sort", "retransmits", "--limit", "3"))
        self.run_ctl("connections", "--sort", "colour", code=64)
        self.run_ctl("connections", "--limit", "0", code=64)
        self.run_ctl("connections", "--port", "65536", code=64)

    def test_a_connection_is_ended_by_its_name(self):
        self.answer("DELETE /v1/connections/0.1.0000abcd", {"instance": "main"})
        self.assertEqual(self.run_ctl("connections", "end", "0.1.0000abcd"), "ended\n")
        self.run_ctl("connections", "end", "0.2", code=65)

    def test_a_trace_is_begun_read_until_it_is_over_and_ended(self):
        at = {"time_us": 1_700_000_000_000_123, "core": 0, "local": "192.0.2.25", "local_port": 25, "remote": "2001:db8::7",
              "remote_port": 4000}
        pieces = [{"events": [], "lost": 0, "over": False},
                  {"events": [{**at, "event": "in", "flags": "S", "seq": 7, "ack": 0, "length": 0, "window": 65535},
                              {**at, "event": "out", "flags": "P.", "seq": 1, "ack": 8, "length": 9, "window": 501,
                               "again": "timeout", "sack": [[10, 20], [30, 40]]},
                              {**at, "event": "state", "from": "CLOSED", "to": "SYN-SENT" + NASTY}], "lost": 0, "over": False},
                  {"events": [{**at, "event": "cc", "cwnd": 14480, "ssthresh": 1 << 30, "rtt_us": 1500, "rto_us": 200000, "flight": 9},
                              {**at, "event": "drop", "reason": "out_of_window"}, {**at, "event": "timer", "timer": "persist"}],
                   "lost": 3, "over": True}]
        self.answer("POST /v1/trace", {"id": 5, "instance": "main"})
        self.answer("GET /v1/trace/5", lambda body: pieces.pop(0))
        self.answer("DELETE /v1/trace/5", {})
        lines = self.run_ctl("trace", "--peer", "2001:db8::/32", "--port", "25", "--count", "9").splitlines()
        self.assertEqual(json.loads(self.server.requests[0][2]), {"count": 9, "seconds": 60, "peer": "2001:db8::/32", "port": 25})
        self.assertEqual([line.split("4000  ")[1] for line in lines], [
            "in     [S] seq 7 ack 0 length 0 window 65535",
            "out    [P.] seq 1 ack 8 length 9 window 501 sack 10-20,30-40  sent again: timeout", lines[2].split("4000  ")[1],
            "cc     cwnd 14480 ssthresh - RTT 1.5 ms RTO 200 ms in flight 9", "drop   out_of_window", "timer  persist"])
        self.assertTrue(lines[0].startswith("22:13:20.000123 192.0.2.25.25 2001:db8::7.4000  in "), lines[0])
        self.assertIn("6 events, 3 lost", self.err)
        self.assertEqual(self.requests()[-1], ("DELETE", "/v1/trace/5"))
        self.run_ctl("trace", "--count", "0", code=64)
        self.run_ctl("trace", "--seconds", "3601", code=64)

    def test_a_trace_that_is_interrupted_while_its_reader_is_slow_is_finished(self):
        pieces = [{"events": [{"event": "drop", "reason": "out_of_window"}] * 3000, "lost": 0, "over": False}]
        self.answer("POST /v1/trace", {"id": 5})
        self.answer("GET /v1/trace/5", lambda body: pieces.pop() if pieces else {"events": [], "lost": 0, "over": False})
        self.answer("DELETE /v1/trace/5", {})
        with subprocess.Popen([CTL, "--json", "trace"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env) as process:
            filled, end = 0, time.monotonic() + 60
            while filled < 60000 and time.monotonic() < end:  # of the 64 KiB that a pipe holds
                time.sleep(0.02)
                filled = int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
            out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err)
        self.assertEqual(len(out.splitlines()), 3000)
        self.assertIn(b"3000 events, 0 lost", err)

    def test_a_capture_asks_with_a_compiled_filter_and_writes_pcapng(self):
        frame = bytes(range(61))
        packet = {"time_us": 1_700_000_000_000_123, "core": 0, "out": True, "length": 1500, "data": base64.b64encode(frame).decode()}
        self.answer("POST /v1/capture", {"id": 1})
        self.answer("GET /v1/capture/1", {"packets": [packet], "lost": 2, "over": True})
        self.answer("DELETE /v1/capture/1", {})
        done = subprocess.run([CTL, "capture", "--port", "lan0", "--snaplen", "61", "-w", "-", "tcp[13]=2"], capture_output=True,
                              env=self.env, timeout=60, check=True)
        asked = json.loads(self.server.requests[0][2])
        self.assertEqual((asked["port"], asked["bytes"], asked["count"], asked["seconds"]), ("lan0", 61, 10000, 60))
        self.assertEqual([len(i) for i in asked["filter"]], [4] * len(asked["filter"]))
        self.assertEqual(asked["filter"][0], [40, 0, 0, 12])  # ldh [12]: the EtherType
        self.assertIn(frame + b"\0" * 3 + b"\2\0\4\0\2\0\0\0", done.stdout)
        self.assertEqual(done.stdout[:4], b"\x0a\x0d\x0d\x0a")
        self.assertIn(b"1 packets, 2 lost", done.stderr)
        self.assertIn("out ethertype 0x0c0d length 1500", self.run_ctl("capture", "--port", "lan0"))
        self.run_ctl("capture", "--port", "lan0", "not", "a", "filter", code=64)
        self.run_ctl("capture", code=64)
        self.run_ctl("capture", "--port", "lan0", "-w", "/nowhere/file", code=73)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CTL, "capture", "--port", "lan0", "-w", "-"], stdout=full, stderr=subprocess.PIPE, env=self.env,
                                  timeout=60, check=False)
        self.assertEqual(done.returncode, 74, done.stderr)

    def test_config_check_needs_no_daemon(self):
        bare = {**self.env, "HIKYAKU_API": "/nowhere"}
        good = str(SOURCE / "deploy" / "hikyaku.yaml")
        self.assertEqual(self.run_ctl("config", "check", good, env=bare), f"{good} is right\n")
        bad = pathlib.Path(self.folder.name) / "bad.yaml"
        bad.write_text("node:\n  hostnam: relay.example.test\n")
        self.run_ctl("config", "check", str(bad), env=bare, code=78)
        self.assertIn(f"{bad}:2:", self.err)
        self.run_ctl("config", "check", str(bad) + ".gone", env=bare, code=66)
        self.assertEqual(self.run_ctl("config", "reference", env=bare), (SOURCE / "docs/settings.md").read_text())


class Documents(Case):
    def test_rules_are_listed_in_order_with_what_they_match(self):
        self.answer("GET /v1/documents/in_rules", {"generation": 8, "documents": [
            {"id": "office", "client": "192.0.2.0/24", "sender": "@example.test", "action": "relay", "profile": "strict"},
            {"id": "old", "enabled": False, "listener": NASTY}, {"id": "default", "profile": "default-in", "builtin": True}]})
        lines = self.run_ctl("rule", "in", "list").splitlines()
        self.assertEqual(lines[0].split(), ["ID", "MATCHES", "ACTION", "PROFILE"])
        self.assertEqual(lines[1].split(), ["office", "client=192.0.2.0/24", "sender=@example.test", "relay", "strict"])
        self.assertIn("old (off)", lines[2])
        self.assertIn("listener=\\x1b]0;owned\\x07", lines[2])
        self.assertEqual(lines[3].split(), ["default", "(built", "in)", "anything", "inbound", "default-in"])

    def test_profiles_and_routes_are_listed(self):
        self.answer("GET /v1/documents/profiles", {"documents": [
            {"id": "strict", "level": "verify", "grade": "high", "names": ["a.example.test", ".b.example.test"]},
            {"id": "default-in", "builtin": True}]})
        lines = self.run_ctl("profile", "list").splitlines()
        self.assertEqual(lines[1].split(), ["strict", "verify", "high", "TLSv1.2", "names=a.example.test,.b.example.test"])
        self.assertEqual(lines[2].split(), ["default-in", "(built", "in)", "may", "medium", "TLSv1.2"])
        self.answer("GET /v1/documents/routes", {"documents": [
            {"id": "dest", "domain": "dest.example.test", "via": "hosts",
             "hosts": [{"host": "2001:db8::25", "port": 2525, "tls": "smtps"}, {"host": "mx.example.test"}]},
            {"id": "spare", "domain": "dest.example.test", "enabled": False}]})
        self.assertIn("spare (off)", self.run_ctl("route", "list"))
        self.assertIn("hosts=smtps://[2001:db8::25]:2525,mx.example.test", self.run_ctl("route", "list"))
        self.answer("GET /v1/documents/routes", {"documents": []})
        self.assertEqual(self.run_ctl("route", "list"), "there is no route\n")

    def test_one_is_shown_with_its_defaults(self):
        self.answer("GET /v1/documents/profiles/strict", {"id": "strict", "level": "verify", "protocol": {"highest": "TLSv1.3"}})
        lines = self.run_ctl("profile", "show", "strict").splitlines()
        self.assertIn(["level", "verify"], [x.split() for x in lines])
        self.assertIn(["protocol.lowest", "TLSv1.2", "(default)"], [x.split() for x in lines])
        self.assertIn(["protocol.highest", "TLSv1.3"], [x.split() for x in lines])
        self.run_ctl("profile", "show", "other", code=65)

    def test_a_table_fits_the_terminal(self):
        self.answer("GET /v1/documents/in_rules", {"documents": [
            {"id": "long", "sender": "a" * 300 + "é" * 10 + "@example.test", "client": "2001:db8::/32"}]})
        out, code = self.on_terminal("rule", "in", "list", columns=60)
        self.assertEqual(code, 0)
        self.assertTrue(all(len(line) <= 60 for line in out.splitlines()), out)
        self.assertIn("…", out)
        self.assertIn("a" * 300 + "é", self.run_ctl("rule", "in", "list"))


class Whole(Case):
    POLICY = {"profiles": [{"id": "strict", "level": "encrypt"}], "in_rules": [], "out_rules": [], "routes": [], "ca_pem": ""}

    def test_export_goes_to_standard_output_or_a_file(self):
        self.answer("GET /v1/export", self.POLICY)
        self.assertEqual(json.loads(self.run_ctl("export")), self.POLICY)
        path = pathlib.Path(self.folder.name) / "policy.json"
        self.assertEqual(self.run_ctl("export", str(path)), f"the policy is written to {path}\n")
        self.assertEqual(json.loads(path.read_text()), self.POLICY)
        self.run_ctl("export", "/nowhere/policy.json", code=73)

    def test_apply_tells_the_changes(self):
        answer = {**APPLIED, "changes": [{"kind": "profile", "id": "strict", "change": "added"},
                                         {"kind": "route", "id": NASTY, "change": "removed"}]}
        path = pathlib.Path(self.folder.name) / "policy.json"
        path.write_text(json.dumps(self.POLICY))
        self.answer("POST /v1/apply", answer)
        out = self.run_ctl("apply", str(path)).splitlines()
        self.assertEqual(out[0], "+ profile strict added")
        self.assertTrue(out[1].startswith("- route \\x1b]0;"))
        self.assertEqual(out[2], "generation 8 in force on main")
        self.assertEqual(self.body(), self.POLICY)
        self.answer("POST /v1/apply?dry_run=1", answer)
        out = self.run_ctl("apply", "-", "--dry-run", stdin=path.read_bytes())
        self.assertTrue(out.endswith("dry run: it would be accepted; nothing is changed\n"))
        self.assertEqual(self.body(), self.POLICY)
        self.assertEqual(json.loads(self.run_ctl("apply", str(path), "--dry-run", "--json")), answer)

    def test_a_file_that_is_no_json_is_told_by_line(self):
        path = pathlib.Path(self.folder.name) / "policy.json"
        path.write_text('{\n  "profiles": [}\n')
        self.run_ctl("apply", str(path), code=65)
        self.assertIn(f"{path}:2:16: no JSON", self.err)
        self.run_ctl("apply", str(path) + ".gone", code=66)
        self.assertEqual(self.requests(), [])

    def test_explain_in(self):
        self.answer("POST /v1/explain", {"outbound": None, "inbound": {
            "connect": {"rule": "office", "action": "relay", "profile": {"id": "strict", "level": "encrypt", "bits": 128}},
            "mail": {"rule": "vip", "action": "reject", "profile": {"id": "p", "protocol": {"lowest": "TLSv1.3"}}},
            "looked_at": [
                {"stage": "connect", "rule": "first", "matched": False, "why": "client 192.0.2.9 is not in 198.51.100.0/24"},
                {"stage": "connect", "rule": "office", "matched": True, "why": NASTY},
                {"stage": "mail", "rule": "vip", "matched": True, "why": "all its criteria fit"}]}})
        out = self.run_ctl("explain", "in", "client=192.0.2.9", "sender=alice@example.test")
        self.assertEqual(self.body(), {"client": "192.0.2.9", "sender": "alice@example.test"})
        connect, mail = out.split("for this mail:")
        self.assertIn("relay: it may send to any domain", connect)
        self.assertIn("strict level=encrypt grade=medium bits=128", connect)
        self.assertIn("  no   first   client 192.0.2.9 is not in 198.51.100.0/24\n", connect)
        self.assertIn("  yes  office  \\x1b", connect)
        self.assertIn("reject: it is turned away", mail)
        self.assertIn("p level=may grade=medium protocol.lowest=TLSv1.3", mail)
        self.assertIn("  yes  vip  all its criteria fit\n", mail)

    def test_explain_out(self):
        answer = {"inbound": {}, "outbound": {
            "route": {"id": "dest", "via": "hosts", "hosts": [{"host": "203.0.113.25", "port": 25, "tls": "smtp"}]},
            "rule": "to-dest", "profile": {"id": "to-dest", "level": "may"},
            "looked_at": [{"stage": "route", "rule": "to-dest", "matched": True, "why": "all its criteria fit"},
                          {"stage": "host", "rule": "by-mx", "matched": False, "why": "host a is not b"}]}}
        self.answer("POST /v1/explain", answer)
        out = self.run_ctl("explain", "out", "domain=dest.example.test", "mx=mx.example.test", "address=203.0.113.25")
        self.assertEqual(self.body(), {"domain": "dest.example.test", "mx": "mx.example.test", "address": "203.0.113.25"})
        self.assertIn("dest via=hosts hosts=203.0.113.25:25", out)
        self.assertIn("to-dest level=may grade=medium", out)
        self.assertIn("looked at when the mail is routed:\n  yes  to-dest  all its criteria fit\nlooked at for this host:\n"
                      "  no  by-mx  host a is not b\n", out)
        self.assertEqual(json.loads(self.run_ctl("explain", "out", "domain=x", "--json")), answer)
        self.answer("POST /v1/explain", {"outbound": {**answer["outbound"], "route": None, "disabled_routes": [{"id": "spare", "domain": "*"}]}})
        out = self.run_ctl("explain", "out", "domain=x")
        self.assertIn("none: mail to this domain bounces", out)
        self.assertRegex(out, "disabled route +spare domain=\\*")
        self.run_ctl("explain", "in", code=76)

class Certificates(Case):
    def test_list_and_show(self):
        soon = time.time() + 5 * 86400 + 60
        cert = {"id": "web", "active": True, "default": True, "names": ["relay.example.test"], "subject": "CN=relay " + NASTY,
                "issuer": "CN=Lab CA", "not_before": soon - 86400 * 90, "not_after": soon, "key_type": "ECDSA P-256",
                "fingerprint": "AB:CD", "days_left": 5}
        own = {**cert, "id": "own", "active": False, "default": False, "issuer": cert["subject"],
               "not_after": "2020-01-02T03:04:05Z"}
        self.answer("GET /v1/certs", {"certs": [cert, own]})
        lines = self.run_ctl("cert", "list").splitlines()
        self.assertEqual(lines[1].split(), "web active, default in 5 days ECDSA P-256 relay.example.test CN=Lab CA".split())
        self.assertRegex(lines[2], r"own +inactive +\d+ days ago .*itself$")
        self.answer("GET /v1/certs/web", {**cert, "chain": [{"subject": "CN=Lab CA", "issuer": "CN=Lab CA", "not_after": soon}]})
        out = self.run_ctl("cert", "show", "web")
        self.assertIn("(in 5 days)", out)
        self.assertRegex(out, r"chain +CN=Lab CA, by itself, until \d{4}-")
        self.assertIn("CN=relay \\x1b", out)

    def test_import_sends_the_pem_and_names_it(self):
        pem = b"-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----\n"
        path = pathlib.Path(self.folder.name) / "relay.new.pem"
        path.write_bytes(pem)
        for request, args in (("id=relay.new", [str(path)]), ("id=new&default=1", [str(path), "--id", "new", "--default"]),
                              ("id=x", ["-", "--id=x"])):
            self.server.requests.clear()
            self.answer(f"POST /v1/certs/import?{request}", APPLIED)
            self.assertEqual(self.run_ctl("cert", "import", *args, stdin=pem), "generation 8 in force on main\n")
            self.assertEqual(self.server.requests[0][2], pem)
            self.assertNotIn("c2VjcmV0", self.out + self.err)

    def test_a_change_tells_the_certificate(self):
        cert = {"id": "new", "key_type": "RSA 2048", "names": ["relay.example.test"], "active": True, "default": True,
                "not_after": time.time() + 30.5 * 86400, "unused": 2}
        self.answer("POST /v1/certs/import?id=new&default=1&replace=1", {**APPLIED, "cert": cert})
        out = self.run_ctl("cert", "import", "-", "--id", "new", "--default", "--replace", stdin=b"-----BEGIN CERTIFICATE-----\n")
        self.assertEqual(out.splitlines(), [
            "certificate new (RSA 2048) for relay.example.test: active, default, expires in 30 days",
            "2 other certificates of the file are not used: not of its chain", "generation 8 in force on main"])

    def test_what_is_no_pem_is_refused_here(self):
        self.run_ctl("cert", "import", "-", "--id", "x", stdin=b"\x30\x82", code=65)
        self.run_ctl("cert", "import", "/nowhere.pem", code=66)
        self.run_ctl("cert", "import", "-", "--id", "x", stdin=b"-" * (1 << 21), code=65)
        self.assertEqual(self.requests(), [])


class Queue(Case):
    def item(self, i, **more):
        now = time.time()
        return {"queue_id": f"{i:016x}", "state": "waiting", "size": 2048, "received": now - 7205, "sender": "alice@example.test",
                "domain": "dest.example.test", "recipients": ["bob@dest.example.test"], "recipient_count": 1,
                "site": "mx.dest.example.test", "profile": "strict", "tries": 2, "next_try": now + 650, "last_try": now - 60,
                "expires": now + 86400 * 4, "reason": "451 4.7.4 TLS is required", "resident": True, "instance": "main", **more}

    def pages(self, query=""):
        """Three mails on two pages; the first page ends in the middle of the second mail, which goes to two domains."""
        place = f"{2:016x}.4"
        ids = [f"{i:016x}" for i in range(1, 4)]
        join = "&" if query else "?"
        self.answer(f"GET /v1/queue{query}", {"items": [self.item(1), self.item(2)], "more": True, "next": place})
        self.answer(f"GET /v1/queue{query}{join}after={place}", {"items": [
            self.item(2, domain="other.example.test"), self.item(3, sender="", reason=NASTY)], "more": False})
        return [ids[0], ids[1], ids[1], ids[2]]

    def test_list_pages_through_all(self):
        ids = self.pages()
        lines = self.run_ctl("queue", "list").splitlines()
        self.assertEqual(lines[0].split(), ["ID", "STATE", "SIZE", "AGE", "NEXT", "TRY", "FROM", "TO"])
        self.assertEqual(lines[1].split(), [ids[0], *"waiting 2.0 KB 2 h in 10 min alice@example.test bob@dest.example.test".split()])
        self.assertEqual(lines[2], "    451 4.7.4 TLS is required")
        self.assertIn("<>", lines[7])
        self.assertIn("\\x1b]0;owned\\x07\\x1b[2J\\u{9b}31m\\u{202e}evil\\x7f", lines[8])
        self.assertEqual(lines[9], "3 mails")
        self.assertEqual(len(self.requests()), 2)
        answer = json.loads(self.run_ctl("--json", "queue", "list"))
        self.assertEqual([i["queue_id"] for i in answer["items"]], ids)
        self.assertEqual(answer["items"][3]["reason"], NASTY)

    def test_list_selects(self):
        self.answer("GET /v1/queue?domain=dest.example.test&reason=TLS%20is%26&sender=%3C%3E&state=held", {"items": [], "more": False})
        out = self.run_ctl("queue", "list", "state=held", "domain=dest.example.test", "reason=TLS is&", "sender=<>")
        self.assertEqual(out, "no mail fits\n")
        self.answer("GET /v1/queue", {"items": [], "more": True})
        self.assertEqual(self.run_ctl("queue", "list"), "the queue is empty\n")
        self.assertEqual(json.loads(self.run_ctl("queue", "list", "--json")), {"items": []})

    def test_a_page_that_brings_nothing_new_ends_the_list(self):
        item = self.item(1)
        self.answer("GET /v1/queue", {"items": [item], "more": True, "next": "x.1"})
        self.answer("GET /v1/queue?after=x.1", {"items": [item], "more": True, "next": "x.1"})
        self.run_ctl("queue", "list")
        self.assertEqual(len(self.requests()), 2)

    def test_show(self):
        item = self.item(1, recipients=["bob@dest.example.test", NASTY], recipient_count=5)
        self.answer(f"GET /v1/queue?queue_id={item['queue_id']}", {"items": [item], "more": False})
        out = self.run_ctl("queue", "show", item["queue_id"])
        self.assertRegex(out, r"next try +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(in 10 min\)")
        self.assertRegex(out, r"reason +451 4.7.4 TLS is required\n")
        self.assertRegex(out, r"recipients +bob@dest.example.test, \\x1b.* and 3 more\n")
        self.assertEqual(json.loads(self.run_ctl("queue", "show", item["queue_id"], "--json")), {"items": [item], "more": False})
        self.answer("GET /v1/queue?queue_id=0", {"items": [], "more": False})
        self.run_ctl("queue", "show", "0", code=65)

    def content(self, parts):
        offset = 0
        for part in [*parts, b""]:
            self.answer(f"GET /v1/queue/7/content?offset={offset}", {"data": base64.b64encode(part).decode(), "offset": offset})
            offset += len(part)
        return b"".join(parts)

    def test_raw_content_is_byte_for_byte(self):
        whole = self.content([bytes(range(256)) * 3, b"Subject: x\r\n", b"\xff", b"ab"])
        done = subprocess.run([CTL, "queue", "show", "7", "--raw"], capture_output=True, env=self.env, timeout=60, check=True)
        self.assertEqual(done.stdout, whole)

    def test_raw_content_on_a_terminal_is_harmless(self):
        self.content([b"Subject: \x1b[2Jx\x9b\n"])
        out, code = self.on_terminal("queue", "show", "7", "--raw")
        self.assertEqual(code, 0)
        self.assertIn("Subject: \\x1b[2Jx\\x9b", out)

    def test_raw_content_that_is_no_base64_is_76(self):
        for data in ("a", "====", "ab=c", "AA\n=", "A\u00e9BC"):
            self.answer("GET /v1/queue/7/content?offset=0", {"data": data})
            self.run_ctl("queue", "show", "7", "--raw", code=76)

    def test_changes_of_a_selection_of_ids_and_of_all(self):
        for verb, done in (("retry", "to be tried now"), ("hold", "held"), ("release", "released"), ("remove", "removed")):
            self.server.requests.clear()
            self.answer(f"POST /v1/queue/{verb}?domain=dest.example.test&reason=4.7.4", {"changed": 4})
            self.assertEqual(self.run_ctl("queue", verb, "reason=4.7.4", "domain=dest.example.test"), f"4 mails {done}\n")
            self.answer(f"POST /v1/queue/{verb}?all=1", {"changed": 1})
            self.assertEqual(self.run_ctl("queue", verb, "--all"), f"1 mail {done}\n")
            self.answer(f"POST /v1/queue/{verb}?queue_id=1", {"changed": 1})
            self.answer(f"POST /v1/queue/{verb}?queue_id=2", {"changed": 0})
            self.answer(f"POST /v1/queue/{verb}?queue_id=3", {"changed": 1})
            self.assertEqual(self.run_ctl("queue", verb, "1", "2", "3", code=65), f"2 mails {done}\n")
            self.assertIn("there is no mail 2 in the queue", self.err)
            self.assertEqual(json.loads(self.run_ctl("queue", verb, "1", "--json")), {"changed": 1})

    def test_a_relay_that_does_not_answer_is_told(self):
        errors = [{"instance": "edge", "error": "no answer in 5 s" + NASTY}]
        self.answer("GET /v1/queue", {"items": [self.item(1)], "more": False, "errors": errors})
        self.assertIn("alice@example.test", self.run_ctl("queue", "list", code=75))
        self.assertTrue(self.err.startswith("hikyakuctl: relay edge: no answer in 5 s\\x1b"))
        self.assertEqual(len(json.loads(self.run_ctl("queue", "list", "--json", code=75))["items"]), 1)
        self.answer("POST /v1/queue/hold?all=1", {"changed": 2, "errors": errors})
        self.assertEqual(self.run_ctl("queue", "hold", "--all", code=75), "2 mails held\n")
        self.answer("POST /v1/queue/hold?instance=main&all=1", {"changed": 1})
        self.assertEqual(self.run_ctl("queue", "hold", "--all", "instance=main"), "1 mail held\n")

    def test_removing_asks_on_a_terminal(self):
        self.pages("?domain=dest.example.test")
        remove = "POST /v1/queue/remove?domain=dest.example.test"
        self.answer(remove, {"changed": 3})
        args = ("queue", "remove", "domain=dest.example.test")
        out, code = self.on_terminal(*args, typed=b"n\n")
        self.assertEqual(code, 0)
        self.assertIn("Remove 3 mails from the queue for good", out)
        self.assertIn("nothing is removed", out)
        self.assertNotIn(tuple(remove.split()), self.requests())
        out, code = self.on_terminal(*args, typed=b"y\n")
        self.assertEqual(code, 0)
        self.assertIn("3 mails removed", out)
        self.assertEqual(self.requests().count(tuple(remove.split())), 1)
        out, code = self.on_terminal(*args, "--yes")
        self.assertNotIn("[y/N]", out)
        self.assertEqual(self.requests().count(tuple(remove.split())), 2)


class Log(Case):
    IN = {"time": "2026-11-21T18:59:25.123456Z", "session_id": "s1", "queue_id": "q1", "direction": "in",
          "disposition": "accepted", "client_ip": "198.51.100.2", "client_name": "client.example.test", "from": "", "to": NASTY,
          "via_tls": True, "tls_version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "group": "X25519", "verify": "NOT",
          "rule_id": "office", "profile": "strict", "reply": "250 2.0.0 queued as q1"}
    OUT = {"time": "2026-11-21T18:59:26Z", "queue_id": "q1", "direction": "out", "disposition": "deferred",
           "from": "a@example.test", "to": "bob@dest.example.test", "relay": "mx.example.test", "dest_ip": "203.0.113.25",
           "via_tls": False, "reply": "451 4.7.1 later", "reason": "451 4.7.1 later"}

    def test_lines_say_how_each_leg_went(self):
        body = "".join(json.dumps(r) + "\n" for r in (self.IN, self.OUT)) + "no json \x1b[2J\n"
        self.answer("GET /v1/log?lines=50", body.encode())
        lines = self.run_ctl("log").splitlines()
        self.assertTrue(lines[0].startswith("2026-11-21 18:59:25 q1 accepted from <> to <\\x1b]0;"), lines[0])
        self.assertIn("client client.example.test[198.51.100.2] via TLSv1.3 TLS_AES_256_GCM_SHA384 X25519 certificate NOT", lines[0])
        self.assertEqual(lines[1], "2026-11-21 18:59:26 q1 deferred from <a@example.test> to <bob@dest.example.test> "
                                   "by mx.example.test[203.0.113.25] in clear reply: 451 4.7.1 later")
        self.assertEqual(lines[2], "no json \\x1b[2J")

    def test_json_lines_are_the_records(self):
        self.answer("GET /v1/log?lines=2", "".join(json.dumps(r) + "\n" for r in (self.IN, self.OUT)).encode())
        out = self.run_ctl("log", "--json", "--lines", "2").splitlines()
        self.assertEqual([json.loads(line) for line in out], [self.IN, self.OUT])

    def test_an_error_of_the_log_is_told_once(self):
        self.answer("GET /v1/log?lines=50", {"error": "records go to the journal"}, 404)
        self.assertEqual(self.run_ctl("log", code=65), "")
        self.assertEqual(self.err, "hikyakuctl: records go to the journal\n")

    def test_follow_shows_each_record_as_it_comes(self):
        shown = threading.Event()

        class Slow(Handler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Connection", "close")
                self.end_headers()
                record = json.dumps(Log.OUT).encode()
                self.wfile.write(record + b"\n" + record[:20])
                self.wfile.flush()
                shown.wait(60)
                self.wfile.write(record[20:] + b"\n")
                self.close_connection = True
        self.server.RequestHandlerClass = Slow
        with subprocess.Popen([CTL, "log", "--follow"], stdout=subprocess.PIPE, env=self.env, text=True) as process:
            self.assertIn("deferred", process.stdout.readline())
            shown.set()
            self.assertIn("deferred", process.stdout.readline())
            self.assertEqual(process.wait(60), 0)


class Help(Case):
    def test_the_manual_is_current(self):
        self.assertEqual(self.run_ctl("reference"), (SOURCE / "docs/hikyakuctl.md").read_text(),
                         "write it anew: hikyakuctl reference > docs/hikyakuctl.md")

    def test_help_explains_all_or_one(self):
        out = self.run_ctl("help")
        for words in ("queue remove", "cert import", "--socket", "profile set"):
            self.assertIn(words, out)
        self.assertIn("protocol.lowest=", self.run_ctl("help", "profile", "set"))
        out = self.run_ctl("rule", "in", "add", "--help")
        self.assertIn("client_name=", out)
        self.assertNotIn("destination=", out)
        self.assertIn("queue remove", self.run_ctl("help", "queue", "remove", "ID"))
        self.run_ctl("help", "queu", code=64)
        self.assertIn("did you mean 'queue'?", self.err)
        self.assertRegex(self.run_ctl("--version"), r"^hikyakuctl \d")
        self.assertEqual(self.requests(), [])

    def complete(self, *words):
        return self.run_ctl("completion", "words", "--", *words[:-1], "+" + words[-1]).split()

    def test_completion_follows_the_grammar(self):
        self.assertIn("profile", self.complete("pr"))
        self.assertEqual(self.complete("queue", "re"), ["retry", "release", "remove"])
        self.assertEqual(self.complete("rule", ""), ["in", "out"])
        self.assertEqual(self.complete("profile", "e"), [])
        self.assertEqual(self.complete("profile", "set", "x", "level=ver"), ["level=verify"])
        self.assertEqual(self.complete("profile", "add", "x", "level=may", "prot"), ["protocol.lowest=", "protocol.highest="])
        self.assertEqual(self.complete("apply", "--"), ["--dry-run"])
        self.assertEqual(self.complete("queue", "list", "state=h"), ["state=held"])
        self.answer("GET /v1/documents/in_rules", {"documents": [{"id": "office"}, {"id": "other"}, {"id": "x"}]})
        self.assertEqual(self.complete("rule", "in", "show", "o"), ["office", "other"])
        self.assertEqual(self.complete("rule", "in", "move", "office", "before=o"), ["before=office", "before=other"])
        self.answer("GET /v1/documents/profiles", {"documents": [{"id": "strict"}]})
        self.assertEqual(self.complete("rule", "in", "add", "x", "profile="), ["profile=strict"])

    def test_bash_takes_the_completion(self):
        script = self.run_ctl("completion", "bash") + """
complete_line() {
	COMP_LINE=$1 COMP_POINT=${#1}
	_hikyakuctl 2>/dev/null
	printf '[%s]' "${COMPREPLY[@]}"
}
"""
        for line, expected in ((f"{CTL} que", "[queue]"), (f"{CTL} queue sh", "[show]"),
                               (f"{CTL} profile set x level=ver", "[verify]"), (f"{CTL} rule ", "[in][out]")):
            done = subprocess.run(["bash", "-c", script + 'complete_line "$1"', "bash", line], capture_output=True,
                                  env=self.env, timeout=60, check=True)
            self.assertEqual(done.stdout.decode(), expected, done.stderr)


class Output(Case):
    def test_a_full_disk_is_an_error(self):
        self.answer("GET /v1/export", Whole.POLICY)
        with open("/dev/full", "wb") as full:
            done = subprocess.run([CTL, "export"], stdout=full, stderr=subprocess.PIPE, env=self.env, timeout=60, check=False)
        self.assertEqual(done.returncode, 74, done.stderr)

    def test_answers_of_any_bytes_are_taken(self):
        lines = ("status", "queue list", "queue show 1", "profile list", "profile show x", "rule in list", "cert list",
                 "cert show x", "explain in", "explain out domain=x", "export", "log", "metrics", "config show", "route remove x",
                 "counters", "counters --watch 1", "connections", "connections --sort rtt", "connections end x")
        shapeless = (b"", b"\0", b"[]", b"{", b"{}", b'{"x":1e999}', b"\xff")
        pairs = [(shapeless[i % len(shapeless)], line) for i, line in enumerate(lines)] + [
            (b'{"items":', "queue list"), (b'{"items":{}}', "queue list"), (b'{"items":[1,"x",null,{}]}', "queue list"),
            (b'{"items":[{"queue_id":5}],"more":true}', "queue list"), (b'{"items":[1,{"recipients":3}]}', "queue show 1"),
            (b'{"control":[],"relays":{},"warnings":[1]}', "status"), (b'{"relays":[1,{"queue":3}]}', "status"),
            (b'{"documents":[1,[],{"id":{},"hosts":[1,{}]}]}', "route list"), (b'{"names":[1,{}],"bits":{}}', "profile show x"),
            (b'{"certs":[1,{"names":"x","not_after":"x"}]}', "cert list"), (b'{"chain":[1,{}],"not_after":-1e300}', "cert show x"),
            (b'{"inbound":{"looked_at":[1]}}', "explain in"), (b'{"outbound":{"route":[],"looked_at":{}}}', "explain out domain=x"),
            (b'{"counters":[1,{"name":3,"values":[1,{"value":"x"},[]]}]}', "counters"), (b'{"counters":{}}', "counters --watch 1"),
            (b'{"items":[1,{"id":7,"local":3}],"counts":{},"next":"a"}', "connections --long"),
            (b'{"items":[1,[]],"counts":[1],"next":5}', "connections --sort queue"),
            (b'{"generation":"x","applied":[1],"pending":[{}],"refused":[1]}', "route remove x"), (b'1\n[]\n{"time":1e300}', "log")]
        for data, line in pairs:
            with self.subTest(line, data=data):
                self.server.answers = Any(data)
                done = subprocess.run([CTL, *line.split()], capture_output=True, env=self.env, timeout=60, check=False)
                self.assertIn(done.returncode, (0, 65, 76), done.stderr)
                self.check_harmless(done.stdout + done.stderr)


class Any(dict):
    def __init__(self, data):
        super().__init__()
        self.data = data

    def get(self, key, default=None):
        return 200, self.data


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
