#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""hikyakuctl with the real hikyaku-control, and relays that only speak control/link.h (control/daemon/lab.py).

    HIKYAKU_CONTROL=… daemon_test.py HIKYAKUCTL
"""
import base64
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "daemon"))
import lab  # noqa: E402

CTL = sys.argv[1]


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.control = lab.Control()
        self.addCleanup(self.control.close)

    def relay(self, *args, **how):
        """One that is attached: it has been given the generation."""
        relay = self.control.relay(*args, **how)
        relay.wait("a generation", lambda r: r.generations)
        return relay

    def no_relay_is_left(self):
        self.control.close_relays()
        lab.wait_for("the relays to be gone", lambda: self.ctl_json("status")["relays"] == [])

    def ctl(self, *args, code=0, stdin=None):
        done = subprocess.run([CTL, "--socket", str(self.control.api), *args], input=stdin, capture_output=True, text=True,
                              timeout=lab.PATIENCE, check=False, env={**os.environ, "TZ": "UTC"})
        self.assertEqual(done.returncode, code, f"{args}: {done.stdout}{done.stderr}")
        self.err = done.stderr
        return done.stdout

    def ctl_json(self, *args, code=0):
        return json.loads(self.ctl("--json", *args, code=code))

    def cells(self, *args):
        return [line.split() for line in self.ctl(*args).splitlines()]


class Policy(Case):
    def test_a_policy_is_built_changed_explained_and_taken_down(self):
        self.relay()
        in_force = r"generation \d+ in force on main\n"
        for line in ("profile add strict level=encrypt grade=high protocol.lowest=TLSv1.2",
                     "profile set default-out level=verify names=mx.example.test",
                     "rule in add office client=192.0.2.0/24 action=relay profile=strict before=default",
                     "rule in add first client=192.0.2.9 before=office",
                     "rule in add vip sender=@vip.example.test profile=strict",
                     "rule out add dest domain=dest.example.test mx=mx.example.test profile=strict",
                     "route add dest domain=dest.example.test via=hosts hosts=203.0.113.25:25,smtps://[2001:db8::25]:465 inbound=true"):
            self.assertRegex(self.ctl(*line.split()), in_force, line)
        self.assertEqual([row[0] for row in self.cells("rule", "in", "list")], ["ID", "first", "office", "vip", "default"])
        self.assertIn("hosts=203.0.113.25:25,smtps://[2001:db8::25]:465", self.ctl("route", "list"))
        self.assertIn(["level", "verify"], self.cells("profile", "show", "default-out"))
        self.assertNotIn("built in", self.ctl("profile", "show", "default-out"))

        out = self.ctl("explain", "in", "client=192.0.2.77", "sender=a@vip.example.test")
        self.assertRegex(out, r"rule +office\n +action +relay: .*\n +TLS profile +strict level=encrypt grade=high fallback=next-host\n")
        self.assertIn("  no   first   client 192.0.2.77 is not in 192.0.2.9/32\n  yes  office  all its criteria fit\n", out)
        self.assertIn("for this mail:\n  rule             vip\n", out)
        out = self.ctl("explain", "out", "domain=dest.example.test", "mx=mx.example.test", "address=203.0.113.25")
        self.assertRegex(out, r"route +dest .*via=hosts hosts=203.0.113.25:25,smtps://\[2001:db8::25\]:465")
        self.assertIn("for this host:\n  yes  dest  all its criteria fit\n", out)
        self.assertIn("bounces", self.ctl("explain", "out", "domain=other.example.test"))
        self.ctl("explain", "in", "client=nonsense", code=65)

        self.assertRegex(self.ctl("rule", "in", "disable", "first"), in_force)
        self.assertIn(["first", "(off)"], [row[:2] for row in self.cells("rule", "in", "list")])
        self.ctl("rule", "in", "enable", "first")
        self.ctl("rule", "in", "move", "first", "last")
        self.ctl("rule", "in", "move", "vip", "before=office")
        self.assertEqual([row[0] for row in self.cells("rule", "in", "list")], ["ID", "vip", "office", "first", "default"])
        self.ctl("profile", "set", "strict", "protocol.highest=TLSv1.3", "grade=")
        self.assertEqual(self.ctl_json("profile", "show", "strict"),
                         {"id": "strict", "level": "encrypt", "protocol": {"lowest": "TLSv1.2", "highest": "TLSv1.3"}})

        self.ctl("profile", "remove", "strict", code=65)
        self.assertIn("strict", self.err)
        self.ctl("rule", "in", "add", "office", code=65)
        self.ctl("rule", "in", "set", "default", "profile=strict", code=65)
        self.ctl("rule", "in", "set", "office", "client=192.0.2.1/24", code=65)
        for line in ("rule in remove office", "rule in remove vip", "rule out remove dest", "profile remove strict",
                     "profile remove default-out", "route remove dest"):
            self.assertRegex(self.ctl(*line.split()), in_force, line)
        self.assertIn(["default-out", "(built", "in)"], [row[:3] for row in self.cells("profile", "list")])

    def test_relays_that_are_not_there_silent_or_refuse(self):
        self.assertRegex(self.ctl("profile", "add", "a"), r"generation \d+ is kept; no relay is attached to put it in force\n")
        self.relay("no", takes="the policy is too large")
        self.relay("yes")
        out = self.ctl("profile", "add", "b", code=65)
        self.assertRegex(out, r"generation \d+ in force on yes\n")
        self.assertRegex(self.err, r"hikyakuctl: no refused generation \d+: the policy is too large\n")
        self.no_relay_is_left()
        self.relay("slow", takes=False)
        self.ctl("profile", "add", "c", code=75)
        self.assertRegex(self.err, r"slow has not yet got generation \d+")
        self.assertIn("generation", self.ctl("status"))

    def test_export_is_what_apply_takes(self):
        policy = {"profiles": [{"id": "strict", "level": "encrypt"}], "in_rules": [{"id": "a", "profile": "strict"}]}
        path = self.control.folder / "policy.json"
        path.write_text(json.dumps(policy))
        self.assertIn("+ profile", self.ctl("apply", str(path), "--dry-run"))
        self.assertEqual([row[0] for row in self.cells("rule", "in", "list")], ["ID", "default"])
        out = self.ctl("apply", str(path)).splitlines()
        self.assertEqual(sorted(x.split()[2] for x in out[:2]), ["a", "strict"])
        exported = self.ctl("export")
        self.assertEqual(json.loads(exported)["in_rules"], policy["in_rules"])
        self.assertIn("it changes nothing", self.ctl("apply", "-", stdin=exported))
        self.ctl("apply", "-", stdin='{"profiles": [{"id": "x", "level": "nonsense"}]}', code=65)
        self.assertIn("level", self.err)
        self.assertEqual(self.ctl("export"), exported)


class Certificates(Case):
    def test_certificates_come_and_go(self):
        self.assertEqual(len(self.cells("cert", "list")), 2)
        out = self.ctl("cert", "create", "web", "a.example.test", "b.example.test", "--days", "90", "--default")
        self.assertRegex(out, r"certificate web \(.+\) for .*a\.example\.test.*: active, default, expires in (89|90) days\n")
        self.ctl("cert", "create", "web", "a.example.test", code=65)
        out = self.ctl("cert", "show", "web")
        self.assertRegex(out, r"valid until +\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \(in (89|90) days\)")
        self.ctl("cert", "remove", "web", code=65)
        self.ctl("cert", "deactivate", "web")
        self.ctl("cert", "activate", "web", "--default")
        self.assertTrue([c for c in self.ctl_json("cert", "list")["certs"] if c["id"] == "web"][0]["default"])
        self.ctl("cert", "deactivate", "web")
        self.ctl("cert", "remove", "web")
        self.ctl("cert", "show", "web", code=65)

    def test_a_pem_is_imported_and_its_key_is_never_seen_again(self):
        folder = self.control.folder
        for name in ("one", "other"):
            subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                            folder / f"{name}.key", "-out", folder / f"{name}.crt", "-days", "30", "-subj", f"/CN={name}",
                            "-addext", f"subjectAltName=DNS:{name}.example.test"], check=True, capture_output=True)
        key, leaf = (folder / "one.key").read_text(), (folder / "one.crt").read_text()
        pem = folder / "relay.pem"
        pem.write_text(leaf + key)
        out = self.ctl("cert", "import", str(pem), "--default")
        self.assertIn("certificate relay (", out)
        self.ctl("cert", "import", str(pem), code=65)
        self.ctl("cert", "import", str(pem), "--replace")
        self.ctl("cert", "import", "-", "--id", "mixed", code=65, stdin=key + (folder / "other.crt").read_text())
        secret = key.splitlines()[1]
        for line in ("cert list --json", "cert show relay --json", "export", "status --json", "config show --full", "metrics"):
            self.assertNotIn(secret, self.ctl(*line.split()) + self.err)


class Node(Case):
    RECORD = {"time": "2026-11-21T18:59:25.000001Z", "queue_id": "q", "direction": "out", "disposition": "delivered", "from": "",
              "to": "bob@dest.example.test", "relay": "mx.example.test", "dest_ip": "203.0.113.25", "via_tls": True,
              "tls_version": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384"}

    def test_status_metrics_and_settings(self):
        self.relay(ops={"status": {"uptime": 61, "cores": 2, "connections": 3, "queue": {"mails": 4, "waiting": 4},
                                           "spool": {"bytes": 1048576}}})
        out = self.ctl("status")
        self.assertIn(f"on {lab.HOSTNAME}", out)
        self.assertRegex(out, r"main +\d+ +\d+ +1 min +2 +3 +4 +1\.0 MB\n    4 waiting\n")
        self.no_relay_is_left()
        self.assertIn("no relay is attached", self.ctl("status"))
        self.assertTrue(self.ctl("metrics").endswith("# EOF\n"))
        self.assertIn(f"hostname: {lab.HOSTNAME}", self.ctl("config", "show").replace('"', ""))
        self.assertIn("timeouts:", self.ctl("config", "show", "--full"))
        self.ctl("config", "check", str(self.control.config))

    def test_the_log_is_shown_and_followed(self):
        self.control.records.write_text("".join(json.dumps({**self.RECORD, "queue_id": f"q{i}"}) + "\n" for i in range(5)))
        lines = self.ctl("log", "--lines", "2").splitlines()
        self.assertEqual([x.split()[2] for x in lines], ["q3", "q4"])
        self.assertIn("by mx.example.test[203.0.113.25] via TLSv1.3 TLS_AES_256_GCM_SHA384", lines[0])
        self.assertEqual(json.loads(self.ctl("log", "--lines", "1", "--json"))["queue_id"], "q4")
        with subprocess.Popen([CTL, "--socket", str(self.control.api), "log", "--lines", "1", "--follow"],
                              stdout=subprocess.PIPE, text=True) as process:
            self.assertIn("q4", process.stdout.readline())
            with open(self.control.records, "a", encoding="ascii") as records:
                records.write(json.dumps({**self.RECORD, "queue_id": "fresh"}) + "\n")
            self.assertIn("fresh", process.stdout.readline())
            process.terminate()

    def test_the_queue_is_paged_shown_and_changed(self):
        mails = [{"queue_id": f"{i:013d}", "state": "waiting", "sender": "alice@example.test", "domain": "dest.example.test",
                  "recipients": ["bob@dest.example.test"], "size": 1000, "received": time.time() - 60, "reason": "451 4.4.3 later"}
                 for i in range(1, 451)]
        content = bytes(range(256)) * 10

        def page(request):
            found = [m for m in mails if m["queue_id"] > request.get("after", "") and
                     m["queue_id"] == request.get("queue_id", m["queue_id"])]
            limit = min(request.get("limit") or 100, 100)
            return {"items": found[:limit], "more": len(found) > limit}

        def part(request):
            data = content[request.get("offset", 0):][:1000]
            return {"data": base64.b64encode(data).decode(), "offset": request.get("offset", 0), "size": len(data)}
        relay = self.relay(ops={"queue.list": page, "queue.content": part, "queue.retry": {"changed": 450},
                                        "queue.hold": {"changed": 1}, "queue.remove": {"changed": 0}})
        self.assertEqual([m["queue_id"] for m in self.ctl_json("queue", "list")["items"]], [m["queue_id"] for m in mails])
        self.assertTrue(self.ctl("queue", "list").endswith("450 mails\n"))
        one = mails[4]["queue_id"]
        self.assertRegex(self.ctl("queue", "show", one), r"relay +main\n")
        self.ctl("queue", "show", "0000000009999", code=65)
        done = subprocess.run([CTL, "--socket", str(self.control.api), "queue", "show", one, "--raw"], capture_output=True, check=True,
                              timeout=lab.PATIENCE)
        self.assertEqual(done.stdout, content)
        self.assertEqual(self.ctl("queue", "retry", "--all"), "450 mails to be tried now\n")
        self.assertEqual(self.ctl("queue", "hold", one), "1 mail held\n")
        self.ctl("queue", "remove", one, code=65)
        self.assertEqual(relay.requests[-1]["queue_id"], one)
        self.no_relay_is_left()
        self.ctl("queue", "list", code=69)
        self.assertIn("no relay is attached", self.err)

    def test_a_daemon_that_is_gone_is_69(self):
        self.control.stop()
        self.ctl("status", code=69)
        self.assertIn("start it", self.err)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
