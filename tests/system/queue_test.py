# SPDX-License-Identifier: Apache-2.0
"""A mail between our 250 and the next hop's: tried again, given up, told about, held and released by an operator, and
kept over a kill and a full disk; from the first to the last it can be seen in the queue.
"""

import email
import json
import os
import socket
import sys
import threading
import time

from cases import case, expect, expect_in, main
from peers import Client, Sink, add_address, all_gone, api, metrics, socket_in, submit
import lab
from lab import Lab, LabError, run, wait_for

SENDER = "alice@sender.example.test"  # whose mail goes to a real Postfix
HOSTS = {"good": "203.0.113.31", "down": "203.0.113.32", "mute": "203.0.113.33", "loop": "203.0.113.34",
         "later": "203.0.113.35", "never": "203.0.113.36", "nobody": "203.0.113.99"}
POLICY = {
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay"},
                 {"id": "back", "client": "203.0.113.0/24", "action": "relay"}],
    "routes": [{"id": k, "domain": f"{k}.example.test", "via": "hosts", "hosts": [{"host": v}]}
               for k, v in HOSTS.items()]
    + [{"id": "sender", "domain": "sender.example.test", "via": "hosts", "hosts": [{"host": lab.RECEIVER_V4}]}],
}
RECEIVED_MAX = 10
LIFETIME = 60  # seconds: no case keeps a mail waiting for so long, also on a slow machine


def records(l, queue_id, count=1, **match):
    """At least so many records of tries of the mail."""
    return l.wait_for_records(count, queue_id=queue_id, direction="out", **match)


def items(l, *selection):
    return l.ctl_json("queue", "list", *selection)["items"]


def item(l, queue_id):
    return next((i for i in items(l) if i["queue_id"] == queue_id), None)


def gone(l, queue_id, seconds=20):
    wait_for(f"{queue_id} to leave the queue", seconds, lambda: item(l, queue_id) is None)


def dsns(l, marker):
    """Reports in the sender's mailbox about the mail with this marker."""
    return [m for m in (email.message_from_bytes(b) for _, b in l.mailbox())
            if m.get_content_type() == "multipart/report" and marker in m.as_string()]


def dsn_about(l, marker, seconds=30):
    return wait_for(f"a report about {marker}", seconds, lambda: dsns(l, marker))[0]


def status_fields(dsn):
    """The groups of fields of message/delivery-status: of the message, then of each recipient."""
    part = next(p for p in dsn.walk() if p.get_content_type() == "message/delivery-status")
    return [dict(group.items()) for group in part.get_payload()]


# ---- retries ----

@case
def a_mail_waits_while_its_host_is_down_with_the_reason_kept_and_goes_when_it_is_up(l):
    queue_id = submit(l, "bob@down.example.test", "down", SENDER)
    tried = records(l, queue_id, 3)
    reason = f"4.4.1 connect to {HOSTS['down']}[{HOSTS['down']}]:25: Connection refused"
    expect([r["disposition"] for r in tried[:3]] == ["deferred"] * 3, tried)
    expect([r["tries"] for r in tried[:3]] == [1, 2, 3], tried)
    expect(all(r["reason"] == reason for r in tried), tried)
    expect(len({r["first_tried"] for r in tried}) == 1 and tried[0]["last_tried"] < tried[1]["last_tried"], tried)
    seen = item(l, queue_id)
    expect(seen["reason"] == reason and seen["tries"] >= 3 and seen["recipients"] == ["bob@down.example.test"], seen)
    sink = Sink(l, HOSTS["down"])
    wait_for("the mail", 20, lambda: sink.bearing("down"))
    expect(records(l, queue_id, disposition="delivered")[0]["tries"] >= 4)
    gone(l, queue_id)
    sink.stop()


@case
def a_host_that_does_not_answer_times_out_and_the_mail_waits(l):
    queue_id = submit(l, "bob@nobody.example.test", "nobody", SENDER)
    record = records(l, queue_id)[0]
    expect(record["disposition"] == "deferred" and record["reason"].startswith("4.4.1 connect to "), record)
    l.ctl("queue", "remove", queue_id)


@case
def greylisting_is_waited_out(l):
    l.good.replies = [("RCPT", "grey@", ["450 4.2.0 <grey>: Recipient address rejected: Greylisted", "450 4.2.0 Greylisted", None])]
    queue_id = submit(l, "grey@good.example.test", "grey", SENDER)
    wait_for("the mail", 20, lambda: l.good.bearing("grey"))
    tried = records(l, queue_id, 3)
    expect([r["disposition"] for r in tried] == ["deferred", "deferred", "delivered"], tried)
    expect_in("450 4.2.0 <grey>: Recipient address rejected: Greylisted", json.dumps(tried[0]))


@case
def temporary_failures_at_every_command_are_tried_again(l):
    commands = (("CONNECT", "", "421 4.3.2 try later"), ("MAIL", "stepmail@", "451 4.3.0 not now"),
                ("RCPT", "steprcpt@", "452 4.2.2 full"), ("DATA", "", "451 4.3.0 no DATA now"),
                ("END", "stepend@", "451 4.3.0 no space"))
    for verb, part, reply in commands:
        l.good.replies = [(verb, part, [reply, None])]
        l.good.counts = {}
        all_gone(l, "--direction", "out")  # connections are kept for a second
        to = f"{part or 'step@'}good.example.test"
        marker = f"step-{verb}"
        queue_id = submit(l, to, marker, part + "sender.example.test" if verb == "MAIL" else SENDER)
        wait_for(f"the mail refused at {verb}", 20, lambda: l.good.bearing(marker))
        records(l, queue_id, disposition="delivered")
        tried = records(l, queue_id, 2)
        expect(tried[0]["disposition"] == "deferred" and tried[-1]["disposition"] == "delivered", verb, tried)
        expect_in(reply[4:], json.dumps(tried[0]))
    l.good.replies = []


@case
def recipients_have_each_their_own_fate(l):
    l.good.replies = [("RCPT", "no@", ["550 5.1.1 <no>: no such user"]),
                      ("RCPT", "soon@", ["450 4.2.1 not now", "450 4.2.1 not now", None])]
    queue_id = submit(l, [f"{x}@good.example.test" for x in ("yes", "no", "soon")], "partial", SENDER)
    dsn = dsn_about(l, "X-Marker: partial")
    fields = status_fields(dsn)
    expect([f["Final-Recipient"] for f in fields[1:]] == ["rfc822; no@good.example.test"], fields)
    wait_for("both mails", 20, lambda: len(l.good.bearing("partial")) == 2)
    gone(l, queue_id)
    expect([m["to"] for m in l.good.bearing("partial")] == [["yes@good.example.test"], ["soon@good.example.test"]])
    expect(len(dsns(l, "X-Marker: partial")) == 1)
    by_to = {}
    for r in records(l, queue_id, 5):
        by_to.setdefault(r["to"].split("@")[0], []).append(r["disposition"])
    expect(by_to == {"yes": ["delivered"], "no": ["bounced"], "soon": ["deferred", "deferred", "delivered"]}, by_to)


# ---- giving up ----

@case
def a_permanent_refusal_is_told_at_once_in_the_form_of_rfc_3464(l):
    l.good.replies = [("RCPT", "never@", ["550-5.7.1 we do not want\r\n550 5.7.1 this <tag> & that"])]
    queue_id = submit(l, "never@good.example.test", "never", SENDER, b"a body that stays private\r\n")
    dsn = dsn_about(l, "X-Marker: never")
    expect(dsn["Return-Path"] == "<>", dsn["Return-Path"])
    expect(dsn["To"] == f"<{SENDER}>" and dsn["From"].endswith(f"<postmaster@{lab.HOSTNAME}>"), dsn.items())
    expect(dsn["Subject"] == "Undelivered Mail Returned to Sender" and dsn["Auto-Submitted"] == "auto-replied")
    expect(dsn.get_param("report-type") == "delivery-status" and dsn["MIME-Version"] == "1.0" and dsn["Date"])
    parts = [p.get_content_type() for p in dsn.get_payload()]
    expect(parts == ["text/plain", "message/delivery-status", "text/rfc822-headers"], parts)
    expect_in("<never@good.example.test>", dsn.get_payload(0).get_payload())
    expect_in("we do not want this <tag> & that", " ".join(dsn.get_payload(0).get_payload().split()))
    of_message, of_recipient = status_fields(dsn)
    expect(of_message["Reporting-MTA"] == f"dns; {lab.HOSTNAME}" and of_message["Arrival-Date"], of_message)
    expect(of_recipient["Final-Recipient"] == "rfc822; never@good.example.test", of_recipient)
    expect(of_recipient["Action"] == "failed" and of_recipient["Status"] == "5.7.1", of_recipient)
    expect(of_recipient["Diagnostic-Code"].startswith("smtp; 550 5.7.1 we do not want"), of_recipient)
    expect(of_recipient["Remote-MTA"].startswith("dns; "), of_recipient)
    expect_in("X-Marker: never", dsn.get_payload(2).as_string())
    expect("a body that stays private" not in dsn.as_string())
    bounced = records(l, queue_id, disposition="bounced")[0]
    expect(bounced["tries"] == 1, bounced)
    gone(l, queue_id)
    expect(not l.good.bearing("never"))


@case
def nobody_is_told_about_a_report(l):
    l.good.replies = [("RCPT", "never@", ["550 5.1.1 no such user"])]
    before = metrics(l)["hikyaku_dsns"]
    first = submit(l, "never@good.example.test", "null-sender", "")
    records(l, first, disposition="bounced")
    gone(l, first)
    # A report that cannot be delivered ends, too.
    second = submit(l, "never@good.example.test", "double", "never@good.example.test")
    records(l, second, disposition="bounced")
    wait_for("the report's own end", 20, lambda: l.read_records(disposition="bounced", **{"from": "", "to": "never@good.example.test"})[1:])
    wait_for("the queue to be empty of them", 20, lambda: not items(l, "domain=good.example.test"))
    expect(metrics(l)["hikyaku_dsns"] - before == 1)


@case
def loops_are_cut_by_counting_received(l):
    body = b"".join(b"Received: from x by y; Thu, 1 Jan 2026 00:00:00 +0000\r\n" for _ in range(RECEIVED_MAX + 1))
    with Client(l) as c:
        c.ehlo()
        for command in (f"MAIL FROM:<{SENDER}>", "RCPT TO:<bob@good.example.test>", "DATA"):
            c.cmd(command)
        c.send(body + b"X-Marker: too-many-hops\r\n\r\nhello\r\n.\r\n")
        expect(c.reply() == (554, "554 5.4.6 Error: too many hops"))
    # A host that sends everything back to us.
    turns, last = [], []

    class Mirror(Sink):
        def _content(self, stream):
            content = Sink._content(stream)
            turns.append(content)
            with Client(l, ns="receiver") as c:
                c.ehlo()
                for command in (f"MAIL FROM:<{SENDER}>", "RCPT TO:<bob@loop.example.test>", "DATA"):
                    c.cmd(command)
                c.send(content + b".\r\n")
                last.append(c.reply())
            return content
    mirror = Mirror(l, HOSTS["loop"])
    submit(l, "bob@loop.example.test", "looping", SENDER)
    wait_for("the loop to be cut", 20, lambda: (554, "554 5.4.6 Error: too many hops") in last)
    expect(len(turns) == RECEIVED_MAX + 1, len(turns))
    mirror.stop()


# ---- an operator's view ----

@case
def a_mail_is_seen_in_the_queue_while_it_is_delivered(l):
    mute = socket_in(l, "receiver")  # takes connections and never greets
    mute.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    mute.bind((HOSTS["mute"], 25))
    mute.listen()
    queue_id = submit(l, "bob@mute.example.test", "mute", SENDER)
    seen = wait_for("it to be active", 10, lambda: (i := item(l, queue_id)) and i["state"] == "active" and i)
    expect(seen["sender"] == SENDER and seen["domain"] == "mute.example.test", seen)
    mute.close()
    l.ctl("queue", "remove", queue_id)
    gone(l, queue_id, 30)


@case
def an_operator_lists_holds_releases_retries_and_removes_by_selection(l):
    ids = {name: submit(l, f"{name}@later.example.test", name, f"{name}@sender.example.test", b"raw %d\r\n" % i)
           for i, name in enumerate(("op1", "op2", "op3"))}
    other = submit(l, "op4@down.example.test", "op4", SENDER)
    for queue_id in [*ids.values(), other]:
        records(l, queue_id)
    expect({i["queue_id"] for i in items(l, "domain=later.example.test")} >= set(ids.values()))
    expect(other not in {i["queue_id"] for i in items(l, "domain=later.example.test")})
    expect({i["queue_id"] for i in items(l, "sender=op1@sender.example.test")} == {ids["op1"]})
    expect({i["queue_id"] for i in items(l, f"reason={HOSTS['down']}")} == {other})
    expect({i["queue_id"] for i in items(l, "reason=no such reason at all")} == set())
    expect(l.ctl_json("queue", "hold", "domain=later.example.test")["changed"] == 3)
    held = wait_for("them to be held", 10, lambda: len(h := items(l, "state=held")) == 3 and h)
    expect({i["queue_id"] for i in held} == set(ids.values()))
    sink = Sink(l, HOSTS["later"])
    time.sleep(5)
    expect(not sink.mails, "held mail went")
    expect(l.ctl_json("queue", "release", ids["op1"])["changed"] == 1)
    wait_for("the released one", 20, lambda: sink.bearing("op1"))
    expect(not sink.bearing("op2") and not sink.bearing("op3"))
    text = l.ctl("queue", "show", ids["op2"])
    for part in (ids["op2"], "op2@later.example.test", "op2@sender.example.test", "held"):
        expect_in(part, text)
    raw = l.ctl("queue", "show", ids["op2"], "--raw")
    expect(raw.startswith("Received: from client.example.test ([198.51.100.10])"), raw)
    expect_in("X-Marker: op2", raw)
    expect(raw.endswith("raw 1\n") or raw.endswith("raw 1\r\n"), raw)
    expect(l.ctl_json("queue", "remove", ids["op2"])["changed"] == 1)
    gone(l, ids["op2"])
    l.wait_for_records(queue_id=ids["op2"], disposition="removed")
    expect(l.ctl_json("queue", "release", "state=held")["changed"] == 1)
    wait_for("the last", 20, lambda: sink.bearing("op3"))
    sink.stop()
    for wrong in (("remove", "NOSUCHID"), ("remove",), ("hold", "state=sleeping")):
        done = l.ctl("queue", *wrong, check=False)
        expect(done.returncode in (64, 65) and done.stderr, wrong, done)
    sink = Sink(l, HOSTS["down"])
    l.ctl("queue", "retry", f"reason={HOSTS['down']}")
    wait_for("the retried one", 10, lambda: sink.bearing("op4"))
    sink.stop()
    expect(not sink.bearing("op2"))


# ---- what survives ----

@case
def the_queue_with_its_reasons_survives_a_kill(l):
    ids = [submit(l, f"kill{i}@down.example.test", f"kill{i}", SENDER) for i in range(5)]
    for queue_id in ids:
        records(l, queue_id, 2)
    before = {i["queue_id"]: i for i in items(l, "domain=down.example.test")}
    l.kill_relay()
    l.start_relay()
    after = wait_for("the queue", 10, lambda: quietly_items(l, ids))
    for queue_id in ids:
        expect(after[queue_id]["reason"] == before[queue_id]["reason"], after[queue_id], before[queue_id])
        expect(after[queue_id]["tries"] >= before[queue_id]["tries"], after[queue_id], before[queue_id])
        expect(abs(after[queue_id]["expires"] - before[queue_id]["expires"]) < 0.01, after[queue_id])
    sink = Sink(l, HOSTS["down"])
    for i in range(5):
        wait_for("the mail", 20, lambda: sink.bearing(f"kill{i}"))
    time.sleep(0.5)
    expect(len(sink.mails) == 5, "each once")
    sink.stop()


@case
def a_mail_past_its_lifetime_is_given_up_and_told(l):
    """It was submitted before the first case."""
    queue_id = l.expires
    dsn = dsn_about(l, "X-Marker: expired", 2 * LIFETIME)
    _, of_recipient = status_fields(dsn)
    expect(of_recipient["Action"] == "failed" and of_recipient["Status"] == "4.4.1", of_recipient)
    expect_in("Connection refused", " ".join(of_recipient["Diagnostic-Code"].split()))
    gone(l, queue_id)
    records(l, queue_id, disposition="bounced")
    tried = records(l, queue_id)
    expect(tried[-1]["disposition"] == "bounced" and len(tried) >= 4, tried)


def quietly_items(l, ids):
    try:
        found = {i["queue_id"]: i for i in items(l)}
    except LabError:
        return None
    return found if set(ids) <= set(found) else None


def fill_up(l, marker):
    """Mails until one is refused; how many were taken, and the refusal."""
    body = b"".join(b"%06d " % i + b"f" * 70 + b"\r\n" for i in range(3000))
    taken = []
    for n in range(200):
        with Client(l) as c:
            c.ehlo()
            code, text = c.mail(f"full{n}@down.example.test", f"{marker}{n}.", SENDER, body)
            if code != 250:
                return taken, text
            taken.append(f"{marker}{n}.")
    raise AssertionError("the disk was never full")


@case
def a_full_disk_refuses_with_452_and_keeps_every_250(l):
    folder = l.folder / "spool"
    taken, refusal = fill_up(l, "full")
    expect(refusal == "452 4.3.1 Insufficient system storage", refusal)
    expect(len(taken) >= 10, len(taken))
    with Client(l) as c:
        c.ehlo()
        expect(c.mail("x@down.example.test", "refused-when-full", SENDER, b"y" * 78 + b"\r\n" * 1)[0] in (250, 452))
    l.kill_relay()  # what was acknowledged is on that disk
    l.start_relay()
    sink = Sink(l, HOSTS["down"])
    l.ctl("queue", "retry", "domain=down.example.test")
    for marker in taken:
        wait_for(f"the mail {marker}", 30, lambda: sink.bearing(marker))
    wait_for("the queue to be empty", 20, lambda: not items(l, "domain=down.example.test"))
    # All of it is done: its room can be used again.
    wait_for("a mail to be taken again", 20, lambda: quietly_submit(l, "room-again"), 0.5)
    wait_for("it", 20, lambda: sink.bearing("room-again"))
    expect(os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize > 0)
    sink.stop()


@case
def a_disk_filled_by_others_refuses_with_452_until_there_is_room(l):
    filler = l.folder / "spool" / "filler"
    with open(filler, "wb") as f:
        try:
            while True:
                f.write(b"\0" * 65536)
                f.flush()
        except OSError:
            pass
    refused = None
    for n in range(400):
        with Client(l) as c:
            c.ehlo()
            code, text = c.mail("bob@good.example.test", f"squeezed{n}.", SENDER, b"s" * 76 + b"\r\n")
            if code != 250:
                refused = (n, text)
                break
    if refused:
        expect(refused[1] == "452 4.3.1 Insufficient system storage", refused)
    else:
        wait_for("a large one to be refused", 10, lambda: quietly_large(l) == 452)
    filler.unlink()
    wait_for("a mail to be taken again", 20, lambda: quietly_submit(l, "unsqueezed", "bob@good.example.test"), 0.5)
    wait_for("it", 20, lambda: l.good.bearing("unsqueezed"))
    for n in range(refused[0] if refused else 400):
        wait_for(f"squeezed {n}", 20, lambda: l.good.bearing(f"squeezed{n}."))


def quietly_submit(l, marker, to="full@down.example.test"):
    try:
        return submit(l, to, marker, SENDER)
    except AssertionError:
        return None


def quietly_large(l):
    with Client(l) as c:
        c.ehlo()
        return c.mail("bob@good.example.test", "large", SENDER, (b"l" * 76 + b"\r\n") * 200000)[0]


def run_all():
    settings = {
        "queue": {"retry_first": "1s", "retry_most": "3s", "lifetime": LIFETIME, "dsn_lifetime": LIFETIME},
        "timeouts": {"connect": "4s", "greeting": "20s", "idle": "1s"},
        "limits": {"received": RECEIVED_MAX, "mail_memory_mb": 64}, "spool": {"segment_mb": 1}}
    with Lab(settings=settings) as l:
        l.make_network()
        for name, address in HOSTS.items():
            if name != "nobody":
                add_address(l, "receiver", address)
        (l.folder / "spool").mkdir()
        run("mount", "-t", "tmpfs", "-o", "size=12m", "spool", l.folder / "spool")
        l.stack.callback(run, "umount", "-l", l.folder / "spool", check=False)
        l.good = Sink(l, HOSTS["good"])
        l.start_postfix(domains="sender.example.test", extra={"inet_interfaces": f"127.0.0.1, {lab.RECEIVER_V4}"})
        l.write_config()
        l.start_control()
        api(l, "POST", "/v1/apply", POLICY)
        l.start_relay()
        l.expires = submit(l, "bob@never.example.test", "expired", SENDER)
        return main(l)


if __name__ == "__main__":
    sys.exit(run_all())
