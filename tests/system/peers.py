# SPDX-License-Identifier: Apache-2.0
"""tests/system/peers.py: peers of our own making, where real ones will not misbehave on demand.

Their sockets belong to the lab's namespaces, their threads to the test: a test reads what they saw directly.
  Client  an SMTP client that sends exactly what it is told, in clear or over TLS
  Sink    an SMTP server with a certificate, a way with STARTTLS and replies as asked for; it keeps all it saw
  Dns     a DNS server with the answers of a dictionary
"""

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import struct
import threading
import time

import dns.flags
import dns.message
import dns.rcode
import dns.rrset

from lab import PATIENCE, RELAY_V4, LabError, run, wait_for


def socket_in(l, ns, family=socket.AF_INET, kind=socket.SOCK_STREAM):
    """A socket of that namespace: a thread's namespace counts only while the socket is made."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{l.ns(ns)}") as there:
        os.setns(there.fileno(), os.CLONE_NEWNET)
        try:
            return socket.socket(family, kind)
        finally:
            os.setns(home.fileno(), os.CLONE_NEWNET)


def family_of(host):
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def add_address(l, ns, address):
    run("ip", "-n", l.ns(ns), "addr", "replace", f"{address}/{64 if ':' in address else 24}", "dev", "eth0",
        *(["nodad"] if ":" in address else []))


# ---- the API, for what has no command ----

class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=PATIENCE)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


def api(l, method, path, body=None, expect_status=200):
    """A call of control's API; the answer, from JSON where it is JSON."""
    connection = _UnixConnection(l.api)
    payload = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
    connection.request(method, path, payload)
    response = connection.getresponse()
    text = response.read()
    connection.close()
    if expect_status is not None and response.status != expect_status:
        raise LabError(f"{method} {path}: {response.status} {text.decode(errors='replace')}")
    return json.loads(text) if "json" in response.headers.get("Content-Type", "") else text.decode()


def counted(l):
    """/metrics with nothing in it that is older than this call: a relay copies its counters to where control sees them
    some times a second, so that a look right after something has happened may come before it is told."""
    since = time.time() + 0.1  # the copying takes some time, too, and then says when

    def look():
        text = api(l, "GET", "/metrics")
        told = re.findall(r'^hikyaku_control_relay_counted_seconds\{.*\} (\S+)$', text, re.M)
        return text if all(float(when) > since for when in told) else None
    return wait_for("the relay's counters of now", PATIENCE, look)


def metrics(l):
    """What is counted by now as {name: value}, summed over labels."""
    values = {}
    for line in counted(l).splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name = name.split("{")[0].removesuffix("_total")
            values[name] = values.get(name, 0) + float(value)
    return values


def labelled(l, family, **labels):
    """The sum of a counter's series that have these labels, as counted by now."""
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted(l).splitlines()
               if line.startswith(family + "_total{") and all(f'{k}="{v}"' in line for k, v in labels.items()))


def all_gone(l, *filters):
    """Waits until the relay has no connection (of those of `hikyakuctl connections` that the filters leave)."""
    wait_for("all connections to be gone", PATIENCE, lambda: not l.ctl_json("connections", *filters)["items"])


# ---- a client ----

def tls_context(lowest=None, highest=None, ciphers=None, pem=None):
    """A client's context that takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if ciphers:
        context.set_ciphers(ciphers)
    if lowest:
        context.minimum_version = lowest
    if highest:
        context.maximum_version = highest
    if pem:
        context.load_cert_chain(pem)
    return context


class Client:
    """Speaks SMTP a line at a time; a reply is (code, text with its lines joined by newlines)."""

    def __init__(self, l, port=25, host=RELAY_V4, ns="sender", source=None, implicit=None, greeted=True,
                 timeout=PATIENCE, name=None, room=None):
        self.sock = socket_in(l, ns, family_of(host))
        if room:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        self.sock.settimeout(timeout)
        if source:
            self.sock.bind((source, 0))
        self.sock.connect((host, port))
        self.buffer = b""
        if implicit:
            self.sock = implicit.wrap_socket(self.sock, server_hostname=name)
        self.greeting = self.reply() if greeted else None

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.sock.close()

    def reset(self):
        """Closes with RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def line(self):
        while b"\n" not in self.buffer:
            more = self.sock.recv(65536)
            if not more:
                raise EOFError(f"closed behind {self.buffer!r}")
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode(errors="replace")

    def reply(self):
        lines = []
        while True:
            lines.append(self.line())
            if lines[-1][3:4] != "-":
                return int(lines[-1][:3]), "\n".join(lines)

    def cmd(self, text):
        self.send(text.encode() + b"\r\n")
        return self.reply()

    def ehlo(self, name="client.example.test"):
        return self.cmd(f"EHLO {name}")

    def starttls(self, context=None, name=None):
        code, text = self.cmd("STARTTLS")
        if code != 220:
            raise AssertionError(text)
        self.sock = (context or tls_context()).wrap_socket(self.sock, server_hostname=name)
        return self

    def mail(self, to, marker, sender="alice@sender.example.test", body=b"hello\r\n"):
        """A whole mail after EHLO; the reply to its end, or the first that was no 2xx or 354."""
        for command in (f"MAIL FROM:<{sender}>", *[f"RCPT TO:<{t}>" for t in ([to] if isinstance(to, str) else to)],
                        "DATA"):
            code, text = self.cmd(command)
            if code >= 400:
                return code, text
        self.send(f"Subject: {marker}\r\nX-Marker: {marker}\r\n\r\n".encode() + body + b".\r\n")
        return self.reply()

    def ends(self):
        """Everything that still comes until the server closes; b"RST" behind it if it does so with RST."""
        rest, self.buffer = self.buffer, b""
        try:
            while more := self.sock.recv(65536):
                rest += more
        except ConnectionResetError:
            rest += b"RST"
        except ssl.SSLError:
            pass
        return rest


def submit(l, to, marker, sender="alice@sender.example.test", body=b"hello\r\n", **how):
    """A mail in clear that must be taken; its queue id."""
    with Client(l, **how) as c:
        c.ehlo()
        code, text = c.mail(to, marker, sender, body)
        if code != 250:
            raise AssertionError(text)
        return text.rsplit(" ", 1)[-1]


# ---- a server ----

class Sink:
    """An SMTP server at address:port in the receiver's namespace.

    starttls  "none", "offer", or in spite of an offer: "refuse" (454), "close" (after its 220), "garbage" (instead
              of a handshake), "stall" (never shakes hands), "inject" (220 and more behind it, in clear)
    replies   [(start of a command, part of it, [reply, ...])]: the n-th time such a line comes the n-th reply is
              given, the last one again and again; None is the usual one. "CONNECT" is the greeting, "END" the final
              dot with the recipients as its text.
    What it saw: `lines` [(is_tls, line)], `mails` [dict], `versions` of TLS, `connections` counted.
    """

    def __init__(self, l, address, pem=None, starttls=None, port=25, implicit=False, replies=(), highest=None,
                 ciphers=None, ns="receiver", backlog=64, extensions=("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE")):
        self.address, self.port, self.implicit = address, port, implicit
        self.starttls = starttls or ("offer" if pem and not implicit else "none")
        self.replies, self.extensions = list(replies), extensions
        self.lines, self.mails, self.versions, self.snis = [], [], [], []
        self.connections = 0
        self.open = set()
        self.counts = {}
        self.context = self.make_context(pem, highest, ciphers) if pem else None
        self.sock = socket_in(l, ns, family_of(address))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind((address, port))
        self.sock.listen(backlog)
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()
        l.stack.callback(self.stop)

    def make_context(self, pem, highest=None, ciphers=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        if ciphers:
            context.set_ciphers(ciphers)
        if highest:
            context.maximum_version = highest
        context.sni_callback = lambda sock, name, ctx: self.snis.append(name)
        return context

    def stop(self):
        """Listens no more, and ends the connections there are."""
        for sock in [self.sock, *self.open]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self.thread.join(PATIENCE)  # which has the socket, and so the port, while it accepts
        self.sock.close()

    def clear_lines(self):
        return [line for is_tls, line in self.lines if not is_tls]

    def forget(self):
        self.lines, self.mails, self.versions, self.connections = [], [], [], 0

    def bearing(self, marker):
        return [m for m in self.mails if f"X-Marker: {marker}\r\n".encode() in m["content"]]

    def _accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        sock.settimeout(2 * PATIENCE)
        plain = socket.fromfd(sock.fileno(), sock.family, sock.type)  # TLS takes the other one
        self.open.add(plain)
        try:
            if self.implicit:
                sock = self._shake_hands(sock)
            self._talk(sock)
        except (OSError, EOFError, ssl.SSLError, ValueError):
            pass
        finally:
            self.open.discard(plain)
            plain.close()
            sock.close()

    def _shake_hands(self, sock):
        secured = self.context.wrap_socket(sock, server_side=True)
        self.versions.append(secured.version())
        return secured

    def _reply_to(self, line, usual):
        for index, (verb, part, replies) in enumerate(self.replies):
            if line.upper().startswith(verb) and part in line:
                n = self.counts.get((index, line), 0)
                self.counts[(index, line)] = n + 1
                reply = replies[min(n, len(replies) - 1)]
                return usual if reply is None else reply
        return usual

    def _break_tls(self, sock):
        """False: the handshake shall be done."""
        if self.starttls == "close":
            sock.sendall(b"220 2.0.0 Ready\r\n")
        elif self.starttls == "garbage":
            sock.sendall(b"220 2.0.0 Ready\r\n")
            sock.recv(65536)
            sock.sendall(b"500 this is not a TLS record, whatever you may think\r\n" * 3)
        elif self.starttls == "inject":
            sock.sendall(b"220 2.0.0 Ready\r\n250 2.0.0 injected\r\n")
            with contextlib.suppress(OSError):
                while sock.recv(65536):
                    pass
        elif self.starttls == "stall":
            sock.sendall(b"220 2.0.0 Ready\r\n")
            with contextlib.suppress(OSError):
                while sock.recv(65536):
                    pass
        else:
            return False
        return True

    def _talk(self, sock):
        is_tls = isinstance(sock, ssl.SSLSocket)
        stream = sock.makefile("rb")

        def say(text):
            sock.sendall(text.encode() + b"\r\n")
        greeting = self._reply_to("CONNECT", "220 sink.example.test ESMTP")
        say(greeting)
        sender, to = "", []
        while not greeting.startswith("5"):
            raw = stream.readline()
            if not raw:
                return
            line = raw.rstrip(b"\r\n").decode(errors="replace")
            self.lines.append((is_tls, line))
            verb = line.upper().split(" ")[0].split(":")[0]
            if verb == "EHLO":
                offers = [*self.extensions, *(["STARTTLS"] if self.starttls != "none" and not is_tls else [])]
                usual = "\r\n".join(f"250{'-' if i < len(offers) else ' '}{e}"
                                    for i, e in enumerate(["sink.example.test", *offers]))
                say(self._reply_to(line, usual))
            elif verb == "STARTTLS" and self.starttls == "refuse":
                say(self._reply_to(line, "454 4.7.0 TLS not available due to local problem"))
            elif verb == "STARTTLS" and self.starttls != "none":
                if self._break_tls(sock):
                    return
                say("220 2.0.0 Ready to start TLS")
                sock = self._shake_hands(sock)
                is_tls, stream = True, sock.makefile("rb")
            elif verb == "MAIL":
                sender, to = line, []
                say(self._reply_to(line, "250 2.1.0 Ok"))
            elif verb == "RCPT":
                reply = self._reply_to(line, "250 2.1.5 Ok")
                if reply.startswith("2"):
                    to.append(re.search("<(.*)>", line).group(1))
                say(reply)
            elif verb == "DATA":
                reply = self._reply_to(line, "354 go on" if to else "554 5.5.1 No valid recipients")
                say(reply)
                if reply.startswith("3"):
                    content = self._content(stream)
                    reply = self._reply_to("END " + " ".join(to), "250 2.0.0 Ok: taken")
                    if reply.startswith("2"):
                        self.mails.append({"tls": is_tls, "from": sender, "to": to, "content": content,
                                           "at": time.monotonic()})
                    say(reply)
            elif verb == "QUIT":
                say("221 2.0.0 Bye")
                return
            else:
                say(self._reply_to(line, "250 2.0.0 Ok"))

    @staticmethod
    def _content(stream):
        content = b""
        while True:
            line = stream.readline()
            if not line:
                raise EOFError
            if line == b".\r\n":
                return content
            content += line[1:] if line.startswith(b".") else line


# ---- a DNS server ----

class Dns:
    """Answers from `zone`: {(name, type): [texts], or "NXDOMAIN", "SERVFAIL", "SILENCE"}; else no data for a name that
    has another type, and NXDOMAIN for one that has none. `asked` keeps the questions."""

    def __init__(self, l, zone, address="127.0.0.1", port=5353, ns="node", ttl=30):
        self.zone, self.ttl, self.asked = dict(zone), ttl, []
        self.sock = socket_in(l, ns, kind=socket.SOCK_DGRAM)
        self.sock.bind((address, port))
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        l.stack.callback(self.sock.close)

    def _answer(self, query):
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        found = self.zone.get((name, kind), self.zone.get((name, "*")))
        if found == "SILENCE":
            return None
        response = dns.message.make_response(query, recursion_available=True)
        if found is None and not any(n == name for n, _ in self.zone):
            found = "NXDOMAIN"
        if isinstance(found, str):
            response.set_rcode(dns.rcode.from_text(found))
        elif found:
            response.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, *found))
        return response.to_wire()

    def _serve(self):
        while True:
            try:
                data, peer = self.sock.recvfrom(4096)
                answer = self._answer(dns.message.from_wire(data))
                if answer is not None:
                    self.sock.sendto(answer, peer)
            except OSError:
                return
            except Exception as e:
                print("dns:", e, flush=True)
