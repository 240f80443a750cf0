# SPDX-License-Identifier: Apache-2.0
"""tests/system/crowd.py: running sender.py, and comparing what it was told with what is in the mailbox."""

import json
import pathlib
import re
import subprocess
import threading

from cases import expect
from clients import content_of
from lab import PATIENCE, wait_for
from sender import content

HERE = pathlib.Path(__file__).resolve().parent


class Crowd:
    """The streams of a plan, and what they have said so far."""

    def __init__(self, l, plan):
        self.sizes, self.acknowledged, self.lost = {}, [], {}
        self.process = subprocess.Popen(l.in_ns("sender", "python3", HERE / "sender.py"), stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        l.processes.append(self.process)
        self.process.stdin.write(json.dumps(plan) + "\n")
        self.process.stdin.flush()
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def _read(self):
        for line in self.process.stdout:
            what, marker, *rest = line.split(None, 2)
            if what == "try":
                self.sizes[marker] = int(rest[0])
            elif what == "ok":
                self.acknowledged.append(marker)
            else:
                self.lost[marker] = rest[0].strip()

    def wait(self, seconds):
        """Until all streams have ended by themselves."""
        self.process.wait(seconds)
        self.thread.join(PATIENCE)
        self.process.stdin.close()

    def stop(self, seconds=300):
        self.process.stdin.close()
        self.process.wait(seconds)
        self.thread.join(PATIENCE)


class Mailbox:
    """What has arrived, by marker; every file is read once."""

    def __init__(self, l, name="postfix"):
        self.folder = l.folder / name / "mail" / "all" / "new"
        self.seen, self.copies = set(), {}

    def look(self):
        for path in self.folder.iterdir() if self.folder.exists() else ():
            if path.name in self.seen:
                continue
            self.seen.add(path.name)
            with path.open("rb") as f:
                found = re.search(rb"^X-Marker: (\S+)$", f.read(8192), re.M)
            if found:
                self.copies.setdefault(found[1].decode(), []).append(path)
        return self.copies

    def wait_for(self, markers, seconds):
        def missing():
            copies = self.look()
            return [m for m in markers if m not in copies]
        try:
            wait_for("every acknowledged mail to arrive", seconds, lambda: not missing(), interval=0.2)
        except Exception as e:
            gone = missing()
            raise AssertionError(f"{e}: {len(gone)} of {len(markers)} are missing: {sorted(gone)[:20]}") from e

    def check_content(self, sizes):
        """Byte for byte, every copy."""
        for marker, paths in self.copies.items():
            for path in paths if marker in sizes else ():
                expect(content_of(path.read_bytes()) == content(marker, sizes[marker]), marker, "was changed:", path)


def arrival_us(path):
    """When Postfix delivered the file, of the name it gave it (SECONDS.V…I…M<microseconds>.HOST)."""
    seconds, rest = path.name.split(".", 1)
    return int(seconds) * 1000000 + int(re.search(r"M(\d+)", rest)[1])
