# SPDX-License-Identifier: Apache-2.0
"""Records in the journal and in syslog, read back from a real systemd-journald of the test's own: a plain process in a
mount namespace of its own, with its own /run/systemd, /run/log, machine id and /dev/log. The machine's journal is not
touched; nor is the kernel's log or audit, for which it has neither the setting nor the capability.
"""

import json
import os
import pathlib
import stat
import subprocess
import sys

from cases import case, expect, expect_in, main
from peers import Client, Sink, add_address, api, submit
from lab import PATIENCE, Lab, run, wait_for

DEST = "203.0.113.45"
MACHINE = "0123456789abcdef0123456789abcdef"
JOURNAL = f"/run/log/journal/{MACHINE}"
SENDER = "alice@sender.example.test"
POLICY = {"in_rules": [{"id": "bad", "sender": "bad@sender.example.test", "action": "reject"},
                       {"id": "customers", "client": "198.51.100.0/24", "action": "relay"}],
          "routes": [{"id": "static", "domain": "static.example.test", "via": "hosts", "hosts": [{"host": DEST}]}]}
NODES = (("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0), ("net/tun", 10, 200))
OUTSIDE = "HIKYAKU_JOURNAL_TEST_OUTSIDE"  # the mount namespace it was started in
CONF = """[Journal]
Storage=volatile
ReadKMsg=no
Audit=
ForwardToWall=no
RateLimitBurst=0
"""


def private_mounts(folder):
    """What journald and its clients find by fixed names, made anew in this mount namespace. Nothing of the machine's
    /dev is bound anywhere: nothing that is taken down later can reach it."""
    expect(os.readlink("/proc/self/ns/mnt") != os.environ[OUTSIDE], "in a mount namespace of its own")
    for path in ("/run/systemd", "/run/log"):
        os.makedirs(path, exist_ok=True)
        run("mount", "-t", "tmpfs", "journal-test", path)
    os.makedirs("/run/systemd/journald.conf.d")
    pathlib.Path("/run/systemd/journald.conf.d/test.conf").write_text(CONF)
    (folder / "machine-id").write_text(MACHINE + "\n")
    run("mount", "--bind", folder / "machine-id", "/etc/machine-id")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "journal-test", "/dev")
    for folder_name in ("net", "shm"):
        os.mkdir(f"/dev/{folder_name}")
    for name, major, minor in NODES:
        os.mknod(f"/dev/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
    os.symlink("/proc/self/fd", "/dev/fd")
    os.symlink("/run/systemd/journal/dev-log", "/dev/log")


def start_journald(l):
    """Outside the network namespaces, which have no /sys/fs/cgroup."""
    with open(l.folder / "journald.log", "wb") as log:
        journald = subprocess.Popen(["setpriv", "--bounding-set=-audit_control,-audit_read,-syslog",
                                     "/usr/lib/systemd/systemd-journald"], stdout=log, stderr=log)
    l.processes.append(journald)
    return journald


def journal(*match, flush=True):
    if flush:
        run("journalctl", "--sync", check=False)
    out = run("journalctl", "-D", JOURNAL, "-o", "json", "--no-pager", *match, check=False).stdout
    return [json.loads(line) for line in out.splitlines()]


def entries(count, *match):
    def look():
        found = journal(*match)
        return found if len(found) >= count else None
    return wait_for(f"{count} entries of {match}", 10, look)


@case
def a_mails_records_are_in_the_journal_under_its_id(l):
    queue_id = submit(l, "bob@static.example.test", "journal", SENDER)
    found = {e["HIKYAKU_DISPOSITION"]: e for e in entries(2, f"HIKYAKU_QUEUE_ID={queue_id}", "_TRANSPORT=journal")}
    expect(set(found) == {"accepted", "delivered"}, found)
    accepted, delivered = found["accepted"], found["delivered"]
    for entry, disposition, direction in ((accepted, "accepted", "in"), (delivered, "delivered", "out")):
        record = json.loads(entry["MESSAGE"])
        expect(record["queue_id"] == queue_id and record["disposition"] == disposition and record["direction"] == direction, record)
        expect(entry["HIKYAKU_DISPOSITION"] == disposition and entry["HIKYAKU_SESSION_ID"] == record["session_id"], entry)
        expect((entry["SYSLOG_IDENTIFIER"], entry["PRIORITY"], entry["SYSLOG_FACILITY"]) == ("hikyaku-relay", "6", "2"), entry)
        expect(entry["_PID"] == accepted["_PID"] and "CODE_FILE" not in entry, entry)
    expect(accepted["HIKYAKU_SESSION_ID"] == delivered["HIKYAKU_SESSION_ID"])
    expect(not l.records.exists(), "paths.records is not written to")


@case
def a_refusal_is_in_the_journal_without_an_id_it_has_not(l):
    with Client(l) as client:
        client.ehlo()
        expect(client.cmd("MAIL FROM:<bad@sender.example.test>")[0] == 550)
    entry = entries(1, "HIKYAKU_DISPOSITION=rejected", "_TRANSPORT=journal")[-1]
    expect("HIKYAKU_QUEUE_ID" not in entry and json.loads(entry["MESSAGE"])["disposition"] == "rejected", entry)


@case
def syslog_has_the_same_as_one_line_of_words(l):
    with Client(l) as client:
        client.ehlo("[%s%n \x7f\"]")
        reply = client.mail("bob@static.example.test", "syslog", SENDER)
    lines = [e["MESSAGE"] for e in entries(3, "_TRANSPORT=syslog", "SYSLOG_IDENTIFIER=hikyaku-relay", "SYSLOG_FACILITY=2")]
    accepted = [line for line in lines if " disposition=accepted " in line]
    expect(accepted and all(" direction=in " in line and f" from=<{SENDER}> to=<bob@static.example.test> " in line for line in accepted), lines)
    delivered = wait_for("the delivery", 10, lambda: [e["MESSAGE"] for e in journal("_TRANSPORT=syslog") if " disposition=delivered " in e["MESSAGE"]])
    expect_in(f" dest_ip={DEST} dest_port=25 ", delivered[0])
    expect(delivered[0].split()[0].startswith(("session_id=", "queue_id=")), delivered)
    expect(all("\n" not in line and "\x7f" not in line for line in lines), lines, reply)


@case
def hikyakuctl_says_where_the_records_are(l):
    expect_in("journalctl -t hikyaku-relay", l.ctl("log", check=False).stderr)


@case
def without_a_journal_the_relay_does_not_start(l):
    l.stop(l.relay)
    l.stop(l.journald)
    os.remove("/run/systemd/journal/socket")
    l.relay = l.start("node", "relay", l.bin / "relay" / "hikyaku-relay", "--config", l.config)
    expect(l.relay.wait(PATIENCE) != 0)
    expect_in("no journal answers at /run/systemd/journal/socket", l.log_tail("relay"))


def run_all():
    with Lab(settings={"log": {"journal": True, "syslog": True}}) as l:
        private_mounts(l.folder)
        l.make_network()
        l.journald = start_journald(l)
        wait_for("the journal", 10, lambda: os.path.exists("/run/systemd/journal/socket"))
        add_address(l, "receiver", DEST)
        l.sink = Sink(l, DEST)
        l.write_config()
        l.start_control()
        api(l, "POST", "/v1/apply", POLICY)
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    if OUTSIDE not in os.environ:
        os.environ[OUTSIDE] = os.readlink("/proc/self/ns/mnt")
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.argv])
    sys.exit(run_all())
