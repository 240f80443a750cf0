# SPDX-License-Identifier: Apache-2.0
"""Sessions are resumed: by clients on any core and any relay of the node, over restarts and a change of keys, on the
listener where they were made; and by deliveries. A destination that cannot stand a large ClientHello gets a small one.

resumption_test.py [CASE...]
"""

import fcntl
import json
import os
import re
import socket
import struct
import sys
import threading
import time

from cases import case, expect, expect_in, main
from clients import arrived, mail, send
import lab
from lab import DOMAIN, PATIENCE, RELAY_V4, Lab, run, wait_for
from peers import Sink, add_address, all_gone, api, counted, metrics, submit

PICKY, SILENT = "203.0.113.60", "203.0.113.61"
SECOND = "2001:db8:0:4::25"  # the other relay of the node
POLICY = {
    "profiles": [{"id": "open", "level": "may"}, {"id": "must", "level": "encrypt"}],
    "in_rules": [{"id": "customers", "client": "198.51.100.0/24", "action": "relay", "profile": "open"},
                 {"id": "customers6", "client": "2001:db8:0:2::/64", "action": "relay", "profile": "open"}],
    "out_rules": [{"id": "picky", "domain": "picky.example.test", "profile": "must"},
                  {"id": "all", "profile": "open"}],
    "routes": [{"id": "dest", "domain": DOMAIN, "via": "hosts", "hosts": [{"host": lab.RECEIVER_V4, "port": 25}]},
               {"id": "picky", "domain": "picky.example.test", "via": "hosts", "hosts": [{"host": PICKY}]},
               {"id": "silent", "domain": "silent.example.test", "via": "hosts", "hosts": [{"host": SILENT}]}],
}


def visit(l, session=None, keep=None, host=RELAY_V4, port=25, protocol="tls1_3"):
    """A connection of `openssl s_client`, with the session of a file, or kept in one: was it resumed?"""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    args = ["openssl", "s_client", "-connect", where, f"-{protocol}", "-ign_eof",
            *(["-starttls", "smtp"] if port == 25 else []),
            *(["-sess_in", session] if session else []), *(["-sess_out", keep] if keep else [])]
    done = run(*l.in_ns("sender", *args), input="QUIT\r\n", check=False)
    found = re.search(r"^(New|Reused), (TLSv1\.\d|\(NONE\))", done.stdout, re.M)
    expect(found and found[2] != "(NONE)", done.stdout[-3000:], done.stderr)
    return found[1] == "Reused"


def kept(l, name, **how):
    path = l.folder / f"{name}.session"
    path.unlink(missing_ok=True)
    expect(not visit(l, keep=path, **how))
    expect(path.exists(), "no session came")
    return path


def by_core(l, name):
    return [float(v) for v in re.findall(rf'^{name}(?:_total)?{{[^}}]*core="\d+"[^}}]*}} (\S+)', counted(l), re.M)]


# ---- clients ----

@case
def a_session_is_resumed_on_every_core(l):
    for protocol in ("tls1_2", "tls1_3"):
        path = kept(l, protocol, protocol=protocol)
        before = by_core(l, "hikyaku_accepted_connections")
        expect(len(before) == 2, before)
        for _ in range(30):
            expect(visit(l, path, protocol=protocol))
            if all(now > then for now, then in zip(by_core(l, "hikyaku_accepted_connections"), before)):
                break
        else:
            raise AssertionError("30 connections came to one core")


@case
def a_session_is_not_resumed_on_another_listener(l):
    smtp, smtps = kept(l, "smtp"), kept(l, "smtps", port=465)
    expect(not visit(l, smtp, port=465) and not visit(l, smtps))
    expect(visit(l, smtp) and visit(l, smtps, port=465))


@case
def a_resumed_mail_says_so_in_its_record(l):
    context = ("import smtplib, ssl, sys\n"
               "c = ssl._create_unverified_context(); c.maximum_version = ssl.TLSVersion.TLSv1_2\n"
               "def go(session):\n"
               "    s = smtplib.SMTP(sys.argv[1], 25, 'client.example.test', timeout=20); s.ehlo(); s.docmd('STARTTLS')\n"
               "    s.sock = c.wrap_socket(s.sock, session=session); s.file = None; s.ehlo()\n"
               "    s.sendmail('a@sender.example.test', [sys.argv[2]], b'X-Marker: again\\r\\n\\r\\nx\\r\\n')\n"
               "    kept = s.sock.session; s.quit(); return kept\n"
               "go(go(None))\n")
    done = l.python("sender", context, RELAY_V4, f"bob@{DOMAIN}", check=False)
    expect(done.returncode == 0, done.stderr)
    found = l.wait_for_records(2, disposition="accepted", tls_version="TLSv1.2")
    expect(found[1].get("resumed") is True, found)
    arrived(l, "again", 2)


@case
def postfix_resumes_its_sessions_with_us(l):
    """Its SMTP client keeps them on disk, for all its processes; connections it does not keep. (swaks keeps no session.)"""
    l.start_postfix(ns="sender", name="client", hostname="out.sender.example.test", domains="nowhere.example.test", extra={
        "relayhost": f"[{RELAY_V4}]:25", "inet_interfaces": "127.0.0.1", "smtpd_relay_restrictions": "permit_mynetworks, reject",
        "smtp_tls_security_level": "encrypt", "smtp_connection_cache_on_demand": "no",
        "smtp_tls_session_cache_database": f"btree:{l.folder}/client/data/smtp_scache"})
    for i in (1, 2):
        send(l, mail(f"postfix{i}"), host="127.0.0.1", **{"from": f"{i}@postfix.sender.example.test"})
        record = wait_for("its record", 30, lambda: l.read_records(disposition="accepted", **{"from": f"{i}@postfix.sender.example.test"}))[0]
        expect(record["tls_version"] == "TLSv1.3" and bool(record.get("resumed")) == (i == 2), record)
        arrived(l, f"postfix{i}")


# ---- restarts ----

@case
def a_session_outlives_control_and_relay_one_at_a_time(l):
    path = kept(l, "restarts")
    l.control.kill()
    l.control.wait()
    expect(visit(l, path), "while control is away")
    l.start_control()
    wait_for("the relay to be back", 15, lambda: api(l, "GET", "/v1/status")["relays"])
    expect(visit(l, path), "with a control that has heard of the keys from the relay")
    l.kill_relay()
    l.start_relay()
    expect(visit(l, path), "with a relay that has them from that control")


@case
def two_relays_of_a_node_resume_each_others_sessions(l):
    config = json.loads(l.config.read_text())
    config["node"]["instance"] = "second"
    config["paths"].update(spool=str(l.folder / "spool2"), records=str(l.folder / "records2.jsonl"))
    config["dataplane"].update(
        cores=1, ports=[{"name": "lan1", "device": "net_tap1,iface=hktap1", "addresses": [f"{SECOND}/64"]}],
        routes=[{"to": "::/0", "via": "2001:db8:0:4::1", "port": "lan1"}])
    path = l.folder / "second.yaml"
    path.write_text(json.dumps(config))
    relay = l.start("node", "second", l.bin / "relay" / "hikyaku-relay", "--config", path)
    node = l.ns("node")
    try:
        wait_for("its tap", 20, lambda: run("ip", "-n", node, "link", "show", "hktap1", check=False).returncode == 0)
        run("ip", "-n", node, "link", "set", "hktap1", "arp", "on", "up")
        run(*l.in_ns("node", "sysctl", "-q", "-w", "net.ipv6.conf.hktap1.disable_ipv6=0"))
        run("ip", "-n", node, "addr", "replace", "2001:db8:0:4::1/64", "dev", "hktap1", "nodad")
        wait_for("the second relay to greet", 20, lambda: l.greets(host=SECOND))
        expect(visit(l, kept(l, "one"), host=SECOND))
        expect(visit(l, kept(l, "two", host=SECOND)))
    except Exception as e:
        raise AssertionError(f"{e}\n{l.log_tail('second')}") from e
    finally:
        l.stop(relay, seconds=40)


# ---- a change of keys ----

KEY = struct.Struct("<16s32s32sQQQ")


def table_of(fd):
    data = os.pread(fd, 4096, 0)
    return [KEY.unpack_from(data, 24 + KEY.size * i) for i in range(struct.unpack_from("<I", data, 16)[0])]


def sealed(keys):
    fd = os.memfd_create("tickets", os.MFD_ALLOW_SEALING)
    os.write(fd, (struct.pack("<QIIII", 0x31746b7461796b68, 1, 0, len(keys), 7200) +
                  b"".join(KEY.pack(*k) for k in keys)).ljust(856, b"\0"))
    fcntl.fcntl(fd, 1033, 2 | 4 | 8)
    return fd


@case
def keys_change_under_traffic(l):
    """The test stands in for control, so that a rotation is not hours away."""
    path, done = kept(l, "rotation"), []
    l.stop(l.control)

    def traffic():
        for _ in range(20):
            done.append(send(l, mail("traffic"), tls=True))
    sender = threading.Thread(target=traffic)
    sender.start()
    socket_path = l.folder / "control.sock"
    socket_path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(socket_path))
        listener.listen()
        listener.settimeout(PATIENCE)
        link, _ = listener.accept()
        link.settimeout(PATIENCE)
        _, fds, _, _ = socket.recv_fds(link, 65536, 2)
        keys, now = table_of(fds[1]), int(time.clock_gettime(time.CLOCK_BOOTTIME))

        def tell(table):
            mine = sealed(table)
            socket.send_fds(link, [b'{"type":"tickets"}'], [mine])
            os.close(mine)
        new = (b"N" * 16, os.urandom(32), os.urandom(32), now, now + 3600, now + 7200)
        previous = [(*k[:3], 0, now, now + 3600) for k in keys if k[3] <= now]
        tell([*previous, new])
        fresh = l.folder / "fresh.session"

        def is_of_the_new():
            expect(visit(l, path, keep=fresh), "the previous key is accepted")
            return "4e 4e 4e 4e 4e 4e 4e 4e" in run("openssl", "sess_id", "-in", fresh, "-text", "-noout").stdout
        wait_for("a ticket of the new key", PATIENCE, is_of_the_new)
        tell([new])
        wait_for("full handshakes, where a key is gone", PATIENCE, lambda: not visit(l, path))
        wait_for("the new key to be there on every core", PATIENCE, lambda: visit(l, fresh))
        tell([])
        wait_for("full handshakes, where all keys are gone", PATIENCE, lambda: not visit(l, fresh))
        tell([*previous, new])
        wait_for("the keys to be back", PATIENCE, lambda: visit(l, fresh))
        link.close()
        for fd in fds:
            os.close(fd)
    l.start_control()
    wait_for("the relay to be back", 15, lambda: api(l, "GET", "/v1/status")["relays"])
    expect(visit(l, fresh), "control goes on with what the relay has")
    sender.join()
    expect(len(done) == 20 and not any(done), done)
    arrived(l, "traffic", 20)


# ---- deliveries ----

def delivered(l, queue_id):
    return l.wait_for_records(queue_id=queue_id, disposition="delivered")[0]


@case
def deliveries_to_postfix_resume_its_sessions(l):
    for _ in range(8):  # a core resumes what it has kept itself
        record = delivered(l, submit(l, f"bob@{DOMAIN}", "resumed"))
        expect(record["via_tls"], record)
        if record.get("resumed"):
            break
        all_gone(l, "--direction", "out")  # the connection is not kept any more
    else:
        raise AssertionError("no delivery of 8 was resumed")
    expect(record["tls_version"] == "TLSv1.3" and record["cert_subject"] == f"CN={lab.MX}", record)


class Picky(Sink):
    """Cannot stand a ClientHello of more than a segment: resets the connection, or says nothing ever again."""

    def _shake_hands(self, sock):
        head = sock.recv(5, socket.MSG_PEEK | socket.MSG_WAITALL)
        self.hellos = getattr(self, "hellos", []) + [int.from_bytes(head[3:5])]
        if self.hellos[-1] > 1200 and self.address == PICKY:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            raise OSError("reset")
        if self.hellos[-1] > 1200:
            while sock.recv(65536):
                pass
            raise OSError("gone")
        return super()._shake_hands(sock)


@case
def a_host_that_cannot_stand_a_large_clienthello_gets_a_small_one(l):
    pem = l.certs.make("picky", ["picky.example.test"])
    for address, domain in ((PICKY, "picky"), (SILENT, "silent")):
        sink = Picky(l, address, pem)
        before = metrics(l)["hikyaku_small_hello_retries"]
        record = delivered(l, submit(l, f"bob@{domain}.example.test", domain))
        expect(record["via_tls"] and record["small_hello"] and record["group"] == "x25519", record)
        expect(sink.hellos[0] > 1200 > sink.hellos[1] and len(sink.hellos) == 2, sink.hellos)
        wait_for("the counter", 5, lambda: metrics(l)["hikyaku_small_hello_retries"] == before + 1)
        all_gone(l, "--direction", "out")  # the connection is not kept any more
        for _ in range(4):  # each core finds out for itself
            record = delivered(l, submit(l, f"bob@{domain}.example.test", domain))
            expect(record["small_hello"], record)
            all_gone(l, "--direction", "out")
        expect(sum(n > 1200 for n in sink.hellos) <= 2, sink.hellos)
        sink.stop()


def run_all():
    settings = {"timeouts": {"handshake": "5s", "idle": "1s"}, "queue": {"retry_first": "2s"}}
    with Lab(cores=2, settings=settings) as l:
        l.make_network()
        for address in (PICKY, SILENT):
            add_address(l, "receiver", address)
        l.certs = lab.Certs(l.folder / "ca")
        l.start_postfix(pem=l.certs.make("mx", [lab.MX]), extra={"inet_interfaces": f"{lab.RECEIVER_V4}, 127.0.0.1"})
        l.write_config()
        l.start_control()
        l.ctl("apply", "-", stdin=json.dumps(POLICY))
        l.start_relay()
        return main(l)


if __name__ == "__main__":
    sys.exit(run_all())
