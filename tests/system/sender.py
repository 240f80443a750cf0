# SPDX-License-Identifier: Apache-2.0
"""tests/system/sender.py: many clients at once, each telling of every mail whether it was acknowledged.

Runs in the sender's namespace. The plan comes on standard input, a JSON list of streams:
  {"name", "host", "to", "tls": "none|starttls|implicit", "sizes": [bytes, …], "per_connection": n,
   "count": n or null (until told to stop), "pause": seconds, "timeout": seconds, "again": bool}
A stream sends one mail after the other, each with a marker of its own, NAME.NUMBER. On standard output, a line each:
  try MARKER SIZE | ok MARKER | lost MARKER REASON | ready
`again`: after a lost connection it goes on with a new marker on a new one; else the stream ends there. A closed
standard input ends all streams after the mail they are at.
"""

import base64
import json
import random
import smtplib
import ssl
import sys
import threading
import time

PORTS = {"none": 25, "starttls": 25, "implicit": 465}


def content(marker, size):
    """The mail of a marker: what is in it follows from the marker and the size."""
    text = base64.b64encode(random.Random(marker).randbytes(max(size, 76) * 3 // 4))
    lines = b"\r\n".join(text[i:i + 76] for i in range(0, len(text), 76))
    return f"Subject: {marker}\r\nX-Marker: {marker}\r\nX-Size: {size}\r\n\r\n".encode() + lines + b"\r\n"


class Stream(threading.Thread):
    def __init__(self, plan, say, stopped):
        super().__init__(daemon=True)
        self.plan, self.say, self.stopped, self.server = plan, say, stopped, None

    def connect(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        tls, timeout = self.plan["tls"], self.plan.get("timeout", 60)
        kind, more = (smtplib.SMTP_SSL, {"context": context}) if tls == "implicit" else (smtplib.SMTP, {})
        server = kind(self.plan["host"], PORTS[tls], "client.example.test", timeout=timeout, **more)
        if tls == "starttls":
            server.starttls(context=context)
        return server

    def drop(self):
        if self.server is not None:
            self.server.close()
        self.server = None

    def send(self, number):
        plan = self.plan
        marker, size = f"{plan['name']}.{number}", plan["sizes"][number % len(plan["sizes"])]
        self.say("try", marker, size)
        try:
            self.server = self.server or self.connect()
            self.server.sendmail("alice@sender.example.test", [plan["to"]], content(marker, size))
            self.say("ok", marker)
            if number % plan.get("per_connection", 1) == plan.get("per_connection", 1) - 1:
                self.server.quit()
                self.drop()
            return True
        except (OSError, smtplib.SMTPException) as e:
            self.say("lost", marker, repr(e))
            self.drop()
            return False

    def run(self):
        number, count = 0, self.plan.get("count")
        while not self.stopped.is_set() and (count is None or number < count):
            if not self.send(number) and not self.plan.get("again"):
                break
            number += 1
            time.sleep(self.plan.get("pause", 0))
        self.drop()


def main():
    plans = json.loads(sys.stdin.readline())
    lock, stopped = threading.Lock(), threading.Event()

    def say(*words):
        with lock:
            print(*words, flush=True)
    streams = [Stream(p, say, stopped) for p in plans]
    for s in streams:
        s.start()
    if any(p.get("count") is None for p in plans):
        sys.stdin.read()
        stopped.set()
    for s in streams:
        s.join()


if __name__ == "__main__":
    main()
