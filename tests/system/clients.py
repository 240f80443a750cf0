# SPDX-License-Identifier: Apache-2.0
"""tests/system/clients.py: sending as real clients do, and finding what has arrived."""

import json

from cases import expect
from lab import DOMAIN, PATIENCE, RELAY_V4, wait_for

SMTPLIB = """
import json, smtplib, ssl, sys
job = json.loads(sys.stdin.read())
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
implicit = job.get('implicit')
cls, kw = (smtplib.SMTP_SSL, {'context': context}) if implicit else (smtplib.SMTP, {})
s = cls(job['host'], 465 if implicit else 25, 'client.example.test', timeout=60, **kw)
if job.get('tls'): s.starttls(context=context)
refused = {}
for i in range(job.get('times', 1)):
    refused |= s.sendmail(job['from'], job['to'], bytes.fromhex(job['body']), job.get('options', []))
s.quit()
print(json.dumps({k: [v[0], v[1].decode()] for k, v in refused.items()}))
"""


def try_send(l, body, ns="sender", timeout=2 * PATIENCE, **job):
    """By smtplib; the finished process."""
    job = {"host": RELAY_V4, "from": "alice@sender.example.test", "to": [f"bob@{DOMAIN}"], "body": body.hex(), **job}
    return l.python(ns, SMTPLIB, input=json.dumps(job), check=False, timeout=timeout)


def send(l, body, **job):
    """By smtplib, and it must be taken; recipients that were refused, with their replies."""
    done = try_send(l, body, **job)
    expect(done.returncode == 0, done.stdout, done.stderr)
    return json.loads(done.stdout)


S_CLIENT = """
import subprocess, sys
arguments, *lines = sys.stdin.read().splitlines()
p = subprocess.Popen(['openssl', 's_client', '-quiet', '-crlf', *arguments.split()], stdin=subprocess.PIPE,
                     stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
for line in lines:  # '!' in front: its reply is awaited
    if line != '!greeting':
        p.stdin.write(line.removeprefix('!') + '\\n'); p.stdin.flush()
    while line.startswith('!'):
        reply = p.stdout.readline()
        print(reply, end='')
        if reply[3:4] in (' ', ''): break
p.stdin.close(); p.wait(60)
"""


def s_client(l, arguments, lines):
    """What `openssl s_client` with these arguments was told; a line with ! in front is one whose reply is awaited, and
    "!greeting" stands for the greeting."""
    return l.python("sender", S_CLIENT, input="\n".join([arguments, *lines]), check=False).stdout


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
