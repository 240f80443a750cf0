# SPDX-License-Identifier: Apache-2.0
"""deploy/quickstart.py: what deploy/quickstart shows, inside Debian 13. See there."""

import contextlib
import json
import os
import pathlib
import signal
import smtplib
import subprocess
import sys
import threading
import time

import lab
from lab import DOMAIN, MX, RELAY_V4, Lab, LabError, run, wait_for

STATE = pathlib.Path("/run/hikyaku-quickstart.lab")
HUGEPAGES = pathlib.Path("/proc/sys/vm/nr_hugepages")
HUGEPAGES_WANTED = 160  # 320 MiB: the packet memory of the lab's configuration and a little more

POLICY = {
    "profiles": [
        {"id": "strict", "level": "encrypt", "grade": "high"},
        {"id": "to-dest", "level": "may"},
    ],
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay", "profile": "strict"}],
    "out_rules": [{"id": "to-dest", "domain": DOMAIN, "profile": "to-dest"}],
    "routes": [{"id": "dest", "domain": DOMAIN, "via": "hosts", "hosts": [{"host": lab.RECEIVER_V4, "port": 25}]}],
}


def say(text=""):
    print(text, flush=True)


class Step:
    """One thing shown: its title, a few lines, and that it did what it says."""

    number = 0

    def __init__(self, title):
        self.title = title

    def __enter__(self):
        Step.number += 1
        say(f"\n{Step.number}. {self.title}")
        self.began = time.monotonic()
        return self

    def __exit__(self, kind, error, trace):
        if error is None:
            say(f"   ok, {time.monotonic() - self.began:.1f} s")
        return False

    def show(self, text):
        for line in str(text).rstrip().splitlines():
            say(f"     {line}")

    def must(self, truth, what):
        if not truth:
            raise LabError(f"step {Step.number} ({self.title}): {what}")


def build():
    began = time.monotonic()
    if not pathlib.Path("build/build.ninja").exists():
        say("configuring the build")
        run("meson", "setup", "build", timeout=300)
    say("building (a few lines of progress; the whole from nothing takes about a minute)")
    ninja = subprocess.Popen(["ninja", "-C", "build", "relay/hikyaku-relay", "control/daemon/hikyaku-control",
                              "control/ctl/hikyakuctl"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    last, lines = 0.0, []
    for line in ninja.stdout:
        lines.append(line)
        if time.monotonic() - last > 5 and line.startswith("["):
            last = time.monotonic()
            say("  " + line.rstrip()[:100])
    if ninja.wait() != 0:
        raise LabError("the build failed:\n" + "".join(lines[-30:]))
    say(f"built in {time.monotonic() - began:.0f} s")


def restore_hugepages(count):
    with contextlib.suppress(OSError):  # not there, or not ours to change
        HUGEPAGES.write_text(str(count))


def reserve_hugepages():
    if not HUGEPAGES.exists():
        say("this kernel has no hugepages: running with --no-huge (slower, otherwise the same)")
        return "no"
    before = int(HUGEPAGES.read_text())
    try:
        HUGEPAGES.write_text(str(max(before, HUGEPAGES_WANTED)))
    except OSError:
        pass
    if int(HUGEPAGES.read_text()) >= HUGEPAGES_WANTED:
        return "yes"
    restore_hugepages(before)
    say("hugepages cannot be reserved here: running with --no-huge (slower, otherwise the same)")
    return "no"


def last_smtp_line(done):
    """The reply that decided, of a swaks transcript."""
    replies = [line.split(None, 1)[1] for line in done.stdout.splitlines() if line.startswith(("<** ", "<~* "))]
    return replies[0] if replies else done.stdout[-300:] + done.stderr[-300:]


def via(record):
    """How a leg went, in a person's words."""
    if not record.get("via_tls"):
        return "in clear"
    return f"via {record['tls_version']} {record['cipher']} {record.get('group', '')}, certificate {record.get('verify', '?')}"


def show_refused(l):
    with Step("A client in clear text is refused under an `encrypt` rule") as step:
        done = l.swaks("--header", "Subject: in clear")
        reply = last_smtp_line(done)
        step.show(f"swaks without TLS: {reply}")
        step.must("530 5.7.0" in reply, f"expected 530 5.7.0, swaks got:\n{done.stdout[-800:]}")


def show_delivered(l):
    with Step("A STARTTLS client is accepted, and its mail delivered over TLS into a mailbox") as step:
        done = l.swaks("--tls", "--header", "Subject: over TLS")
        step.must(done.returncode == 0, f"swaks failed:\n{done.stdout[-1200:]}{done.stderr[-300:]}")
        step.show("swaks --tls: " + [x for x in done.stdout.splitlines() if "queued as" in x][0].strip()[3:].strip())
        mail = wait_for("the mail in the mailbox", 20, lambda: [b for _, b in l.mailbox() if b"over TLS" in b])[0]
        text = mail.decode(errors="replace").replace("\n\t", " ")
        for line in [x for x in text.splitlines() if x.startswith("Received:") and "Hikyaku" in x]:
            step.show(line)
        record = wait_for("the delivery's record", 10, lambda: l.read_records(disposition="delivered"))[-1]
        accepted = l.read_records(queue_id=record["queue_id"], disposition="accepted")[0]
        step.show(f"in : {accepted['client_ip']} -> {accepted['listener']}: {via(accepted)}")
        step.show(f"out: {record['relay']} [{record['dest_ip']}]: {via(record)}")
        step.must(accepted["via_tls"] and record["via_tls"], "a leg was not over TLS")


def show_policy(l):
    with Step("The policy is changed live: verify with a wrong name defers, put right it goes at once") as step:
        before = len(l.mailbox())
        l.ctl("apply", "-", stdin=json.dumps(POLICY | {"ca_pem": l.certs.ca.read_text()}))
        step.show(l.ctl("profile", "set", "to-dest", "level=verify", "names=other.example.test").strip())
        done = l.swaks("--tls", "--header", "Subject: verified")
        step.must(done.returncode == 0, f"swaks failed:\n{done.stdout[-1200:]}")
        item = wait_for("the mail to be deferred", 20, lambda: [
            i for i in l.ctl_json("queue", "list")["items"] if i["state"] == "waiting"])[0]
        step.show(f"{item['queue_id']} waits: {item['reason']}")
        step.must("name mismatch" in item["reason"], "another reason was expected")
        step.must(len(l.mailbox()) == before, "it was delivered all the same")
        step.show(l.ctl("profile", "set", "to-dest", f"names={MX}").strip())
        changed = time.monotonic()
        wait_for("the mail after the policy was put right", 10, lambda: len(l.mailbox()) > before)
        step.show(f"delivered {time.monotonic() - changed:.1f} s after the change: "
                  + via(l.read_records(disposition="delivered")[-1]))


SEND = """
import smtplib, ssl, sys, time, socket
host, count, name = sys.argv[1], int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
s, sent = None, 0
for i in range(count):
    try:
        if s is None:
            s = smtplib.SMTP(host, 25, 'client.example.test', timeout=30)
            s.starttls(context=context)
            cert = s.sock.getpeercert(True)
            print('cert', __import__('hashlib').sha256(cert).hexdigest()[:16], flush=True)
        s.sendmail('alice@sender.example.test', ['bob@dest.example.test'],
                   f'Subject: {name} {i}\\r\\nMessage-ID: <{name}.{i}@sender.example.test>\\r\\n\\r\\n' + 'x' * 2000 + '\\r\\n')
        print('ok', i, flush=True)
        time.sleep(0.01)
        if i % 25 == 24:
            s.quit(); s = None
    except (OSError, smtplib.SMTPException) as e:
        print('lost', i, type(e).__name__, flush=True)
        try: s and s.close()
        except OSError: pass
        s = None
        time.sleep(0.3)
"""


class Stream:
    """A stream of mails from the sender; what was acknowledged is remembered."""

    def __init__(self, l, name, count):
        self.name, self.acknowledged, self.lost, self.certs = name, [], [], []
        self.process = subprocess.Popen(l.in_ns("sender", "python3", "-c", SEND, RELAY_V4, count, name),
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            what, value, *_ = line.split()
            {"ok": self.acknowledged, "lost": self.lost, "cert": self.certs}[what].append(value)

    def wait(self, seconds=300):
        self.process.wait(seconds)
        self.thread.join(lab.PATIENCE)

    def arrived(self, l):
        """How often each has arrived: number -> count."""
        counts = {}
        for _, body in l.mailbox():
            for line in body.decode(errors="replace").splitlines():
                if line.startswith(f"Subject: {self.name} "):
                    counts[line.split()[-1]] = counts.get(line.split()[-1], 0) + 1
                    break
        return counts


def show_certificate(l):
    with Step("A certificate is swapped live while mail flows") as step:
        pem = l.certs.make("relay-new", [lab.HOSTNAME])
        stream = Stream(l, "swap", 150)
        wait_for("the stream to run", 10, lambda: len(stream.acknowledged) > 30)
        step.show(l.ctl("cert", "import", str(pem), "--id", "new", "--default").strip())
        stream.wait()
        step.show(f"{len(stream.acknowledged)} mails accepted, {len(stream.lost)} connections lost; "
                  f"certificates seen: {' then '.join(dict.fromkeys(stream.certs))}")
        step.must(not stream.lost, "a connection was lost")
        step.must(len(set(stream.certs)) == 2, "two certificates should have been seen")
        wait_for("all of them in the mailbox", 30, lambda: len(stream.arrived(l)) == 150)


def show_kill(l):
    with Step("The relay is killed with -9 in the middle of a stream and started again: nothing is lost") as step:
        stream = Stream(l, "kill", 300)
        wait_for("the stream to run", 10, lambda: len(stream.acknowledged) > 60)
        l.kill_relay()
        step.show(f"killed after {len(stream.acknowledged)} acknowledged mails")
        l.start_relay()
        stream.wait()
        step.show(f"{len(stream.acknowledged)} of 300 acknowledged, {len(stream.lost)} not (the sender's to send again)")
        step.must(len(stream.lost) >= 1, "the kill hit no connection: it has shown nothing")

        def missing():
            return [n for n in stream.acknowledged if n not in stream.arrived(l)]
        wait_for("every acknowledged mail to arrive", 60, lambda: not missing(), interval=0.5)
        twice = sum(1 for n in stream.arrived(l).values() if n > 1)
        step.show(f"all {len(stream.acknowledged)} arrived; {twice} of them twice (they were being delivered when it died)")


def start(l):
    l.make_network()
    l.certs = lab.Certs(l.folder / "ca")
    l.start_postfix(pem=l.certs.make("mx", [MX]))
    l.write_config()
    l.start_control()
    l.ctl("apply", "-", stdin=json.dumps(POLICY))
    l.start_relay()


def keep(l):
    STATE.write_text(json.dumps({"folder": str(l.folder), "tag": l.tag}))
    say("\nIt goes on running:")
    say("  deploy/quickstart --send --tls          a mail through it (further arguments are swaks's)")
    say("  deploy/quickstart --ctl queue list      the operator's view; try: --ctl help")
    say("  deploy/quickstart --shell               a shell in its namespaces")
    say("  deploy/quickstart --stop                stops it and removes everything")
    say("ready")
    signal.pause()


def attached():
    """The lab that a quickstart with --keep left running."""
    state = json.loads(STATE.read_text())
    l = Lab(folder=state["folder"])
    l.tag = state["tag"]
    return l


def main(args):
    os.chdir(lab.CHECKOUT)
    if args[:1] == ["--send"]:
        done = attached().swaks(*args[1:])
        sys.stdout.write(done.stdout + done.stderr)
        return done.returncode
    if args[:1] == ["--ctl"]:
        l = attached()
        return subprocess.call([l.bin / "control/ctl/hikyakuctl", "--socket", l.api, *args[1:]])
    if args[:1] == ["--shell"]:
        l = attached()
        return subprocess.call(["bash"], env={**os.environ, "LAB": str(l.folder), "HIKYAKU_API": str(l.api)})

    def interrupted(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, interrupted)
    signal.signal(signal.SIGHUP, interrupted)
    began = time.monotonic()
    pages_before = int(HUGEPAGES.read_text()) if HUGEPAGES.exists() else 0
    try:
        build()
        with Lab(hugepages=reserve_hugepages()) as l:
            say(f"starting the lab: sender {lab.SENDER_V4} -> relay {RELAY_V4} -> receiver {lab.RECEIVER_V4}")
            start(l)
            for show in (show_refused, show_delivered, show_policy, show_certificate, show_kill):
                show(l)
            say(f"\nEverything did what it says, in {time.monotonic() - began:.0f} s.")
            if "--keep" in args:
                keep(l)
        return 0
    except KeyboardInterrupt:
        say("\nstopped; everything removed")
        return 0 if "--keep" in args else 130
    except (LabError, OSError, subprocess.SubprocessError) as e:
        say(f"\nFAILED: {e}")
        return 1
    finally:
        restore_hugepages(pages_before)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
