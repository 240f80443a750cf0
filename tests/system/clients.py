# SPDX-License-Identifier: Apache-2.0
"""tests/system/clients.py: sending as real clients do, and finding what has arrived."""

import json

from cases import expect
from lab import DOMAIN, RELAY_V4, wait_for

SMTPLIB = """
import json, smtplib, ssl, sys
job = json.loads(sys.stdin.read())
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
implicit = job.get('implicit')
cls, kw = (smtplib.SMTP_SSL, {'context': context}) if implicit else (smtplib.SMTP, {})
s = cls(job['host'], 465 if implicit else 25, 'client.example.test', timeout=20, **kw)
if job.get('tls'): s.starttls(context=context)
refused = {}
for i in range(job.get('times', 1)):
    refused |= s.sendmail(job['from'], job['to'], bytes.fromhex(job['body']), job.get('options', []))
s.quit()
print(json.dumps({k: [v[0], v[1].decode()] for k, v in refused.items()}))
"""


def try_send(l, body, ns="sender", **job):
    """By smtplib; the finished process."""
    job = {"host": RELAY_V4, "from": "alice@sender.example.test", "to": [f"bob@{DOMAIN}"], "body": body.hex(), **job}
    return l.python(ns, SMTPLIB, input=json.dumps(job), check=False)


def send(l, body, **job):
    """By smtplib, and it must be taken; recipients that were refused, with their replies."""
    done = try_send(l, body, **job)
    expect(done.returncode == 0, done.stdout, done.stderr)
    return json.loads(done.stdout)


def mail(marker, body=b"hello"):
    return f"Subject: {marker}\r\nX-Marker: {marker}\r\n\r\n".encode() + body + b"\r\n"


def arrived(l, marker, count=1, seconds=30):
    """The mails in the mailbox that bear the marker."""
    bearing = f"X-Marker: {marker}\n".encode()

    def look():
        found = [b for _, b in l.mailbox() if bearing in b]
        return found if len(found) >= count else None
    return wait_for(f"{count} mails marked {marker}", seconds, look)


def content_of(stored):
    """What the client sent, of what the maildir has: the trace fields in front taken off, lines as on the wire."""
    head, _, body = stored.partition(b"\n\n")
    keep, skip = [], True
    for line in head.split(b"\n"):
        if skip and (line.split(b":")[0] in (b"Return-Path", b"X-Original-To", b"Delivered-To", b"Received")
                     or line[:1] in (b" ", b"\t")):
            continue
        skip = False
        keep.append(line)
    return (b"\n".join(keep) + b"\n\n" + body).replace(b"\n", b"\r\n")
