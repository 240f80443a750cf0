# SPDX-License-Identifier: Apache-2.0
"""The relay is killed with -9 under load, again and again: no acknowledged mail is lost.

kill_test.py [CORES] [CASE...]; the environment may say KILLS=n (100), KILL_SEED=n.

Clients, most of them over TLS, send mails with markers of their own and note which were acknowledged. The relay is
killed at random moments and started again at once; in between control is killed too. In the end every acknowledged
mail is in Postfix's mailbox, unchanged.

What may arrive twice is what was in flight at a kill: handed to Postfix, while the spool did not yet have durably
that it was done. Postfix's log tells for each copy in which SMTP session it came, and which mails came after it there.
A session that a kill has cut never says QUIT. So of each mail that came twice every copy but the last must be
- in a session that did not end in order,
- there within the last IN_FLIGHT mails: the one whose reply was awaited, and the one before it, whose `done` may
  have been in the batch of the spool that the kill has cut (a batch lasts one fdatasync; a mail takes Postfix more).
So a kill can duplicate IN_FLIGHT mails for each connection in use, which is checked as well.
"""

import json
import os
import random
import re
import sys
import time

from cases import case, expect, main
from crowd import Crowd, Mailbox, arrival_us
import lab
from lab import DOMAIN, RELAY_V4, RELAY_V6, Lab, wait_for

KILLS = int(os.environ.get("KILLS", 100))
SEED = int(os.environ.get("KILL_SEED", 1))
CONNECTIONS = 6  # of the relay to Postfix
IN_FLIGHT = 2
POLICY = {
    "profiles": [{"id": "open", "level": "may"}],
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay", "profile": "open"},
                 {"id": "customers6", "client": "2001:db8:0:2::/64", "action": "relay", "profile": "open"}],
    "out_rules": [],
    "routes": [{"id": "dest", "domain": DOMAIN, "via": "hosts", "hosts": [{"host": lab.RECEIVER_V4, "port": 25}]}],
}


def plan(name):
    """Eight clients over TLS, one of them over IPv6, and one in clear; some mails are longer than a spool chunk."""
    kinds = ["starttls", "implicit"] * 4 + ["none"]
    return [{"name": f"{name}-{i}-{tls}", "host": RELAY_V6 if i == 3 else RELAY_V4, "to": f"bob@{DOMAIN}", "tls": tls,
             "sizes": [1000, 4000, 1000, 20000, 1000, 2000, 1000, 60000], "per_connection": 10 + i, "pause": 0.1,
             "timeout": 2, "again": True} for i, tls in enumerate(kinds)]


class Killer:
    """Kills at random moments; remembers when, and what was connected then."""

    def __init__(self, l, seed):
        self.l, self.random, self.kills, self.gone = l, random.Random(seed), [], set()

    def established(self):
        """The relay's connections at Postfix, which does not see the kill: those of earlier lives are left out."""
        # By the kernel's own name of a socket: a relay that comes back may take a port of its last life.
        done = lab.run(*self.l.in_ns("receiver", "ss", "-Htne", "state", "established", "sport", "=", ":25"))
        return set(re.findall(r"\bsk:(\S+)", done.stdout)) - self.gone

    def kill_relay(self):
        expect(self.l.relay.poll() is None, "the relay had ended by itself:", self.l.log_tail("relay"))
        self.l.kill_relay()
        at, connected = time.time(), self.established()
        self.gone |= connected
        self.kills.append({"at": at, "connections": len(connected)})

    def kill_control(self):
        expect(self.l.control.poll() is None, "control had ended by itself:", self.l.log_tail("control"))
        self.l.control.kill()
        self.l.control.wait()

    def one(self, number):
        """One kill of the relay and its return; at every sixth control dies too, in one of three ways."""
        time.sleep(self.random.uniform(0.3, 2.2))
        way = number // 6 % 3 if number % 6 == 5 else None
        if way == 0:    # before the relay, which then starts without it
            self.kill_control()
        self.kill_relay()
        self.l.start_relay(wait=False)
        if way == 1:    # after the relay has started
            self.kill_control()
        if way == 2:    # alone, while the relay works
            time.sleep(0.5)
            self.kill_control()
        if way is not None:
            self.l.start_control()


class Sessions:
    """What Postfix's log says: the mails of each SMTP session in order, and whether it ended with QUIT."""

    def __init__(self, path):
        self.of, running = {}, {}
        for line in path.read_text(errors="replace").splitlines():
            found = re.search(r"/smtpd\[(\d+)\]: (connect from|disconnect from|(\w+): client=)(.*)", line)
            if not found:
                continue
            pid, what, queue_id, rest = found.groups()
            if what == "connect from":
                running[pid] = {"mails": [], "has_quit": False}
            elif queue_id:
                running[pid]["mails"].append(queue_id)
                self.of[queue_id] = running[pid]
            elif pid in running:
                running[pid]["has_quit"] = "quit=1" in rest

    def later_mails(self, queue_id):
        """How many came after it in its session."""
        session = self.of[queue_id]
        return len(session["mails"]) - 1 - session["mails"].index(queue_id)


def queue_id_of(path):
    return re.search(rb"\(Postfix\) with \w+ id (\w+)", path.read_bytes()[:4096])[1].decode()


def check_duplicates(l, mailbox, killer):
    """As said above; how many mails came more than once."""
    sessions = Sessions(l.folder / "postfix" / "log")
    per_kill = [0] * len(killer.kills)
    twice = {m: sorted(paths, key=arrival_us) for m, paths in mailbox.copies.items() if len(paths) > 1}
    depth = {}
    for marker, paths in twice.items():
        for early in paths[:-1]:
            session = sessions.of[queue_id_of(early)]
            later = sessions.later_mails(queue_id_of(early))
            depth[later] = depth.get(later, 0) + 1
            expect(not session["has_quit"], marker, "came twice, and its first session ended in order")
            expect(later < IN_FLIGHT, marker, "came twice, and", later, "mails followed it in its first session")
            # Postfix may have put it into the mailbox some time after it took it, nearer to the next kill.
            in_use = (k for k in range(len(per_kill)) if killer.kills[k]["connections"] > 0)
            per_kill[min(in_use, key=lambda k: abs(killer.kills[k]["at"] - arrival_us(early) / 1e6))] += 1
    for kill, n in zip(killer.kills, per_kill):
        expect(n <= IN_FLIGHT * kill["connections"], n, "duplicates by a kill with", kill["connections"], "connections")
    print(f"    duplicates by mails that followed in the session: {depth}; most by one kill: {max(per_kill)}")
    return len(twice)


def under_load(l, name, kills, seed):
    mailbox, killer, began = Mailbox(l), Killer(l, seed), time.monotonic()
    crowd = Crowd(l, plan(name))
    for number in range(kills):
        wait_for("some load", 60, lambda: len(crowd.acknowledged) > 10 * (number + 1))
        killer.one(number)
    killed = time.monotonic() - began
    wait_for("the relay to greet", 20, l.greets)
    time.sleep(1)
    crowd.stop()
    print(f"    {kills} kills in {killed:.0f} s; {len(crowd.acknowledged)} mails acknowledged, {len(crowd.lost)} not; "
          f"{sum(k['connections'] for k in killer.kills)} connections to Postfix in use at the kills", flush=True)
    expect(len(crowd.acknowledged) > 10 * kills, "there was little load:", len(crowd.acknowledged))
    mailbox.wait_for(crowd.acknowledged, 120)
    drained = time.monotonic() - began - killed
    wait_for("the queue to be empty", 60, lambda: not l.ctl_json("queue", "list")["items"], interval=0.5)
    mailbox.look()
    mailbox.check_content(crowd.sizes)
    ours = {m: p for m, p in mailbox.copies.items() if m in crowd.sizes}
    expect("recovered with damage" not in (l.folder / "relay.log").read_text(), "a spool was damaged")
    twice = check_duplicates(l, mailbox, killer)
    unsaid = sum(1 for m in crowd.lost if m in ours)
    print(f"    none of the acknowledged lost; {twice} mails arrived twice; {unsaid} arrived whose 250 the kill has cut; "
          f"all there {drained:.0f} s after the last kill", flush=True)


@case
def no_acknowledged_mail_is_lost_in_many_kills(l):
    under_load(l, "kill", KILLS, SEED)


def run():
    cores = int(sys.argv.pop(1)) if len(sys.argv) > 1 and sys.argv[1].isdigit() else 1
    settings = {"queue": {"retry_first": 2, "retry_most": 5, "connections_per_site": CONNECTIONS},
                "spool": {"segment_mb": 1}, "dataplane": {"memory_mb": 128 * cores}}
    with Lab(cores=cores, settings=settings) as l:
        l.make_network()
        l.certs = lab.Certs(l.folder / "ca")
        # Sessions that a kill has cut hold a process of Postfix until this time is over.
        l.start_postfix(pem=l.certs.make("mx", [lab.MX]), extra={"smtpd_timeout": "15s"})
        l.write_config()
        l.start_control()
        l.ctl("apply", "-", stdin=json.dumps(POLICY))
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run())
