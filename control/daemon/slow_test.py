# SPDX-License-Identifier: Apache-2.0
"""control/daemon/slow_test.py: what the API answers when a relay does not: the cases that wait ANSWER_SECONDS."""

import socket
import sys
import time

from lab import Control, wait_for
from api_cases import case, check, check_error, item, run
from cases import expect


@case
def a_silent_relay_is_pending_after_five_seconds(control):
    relay = control.relay("slow", takes=False)
    relay.wait("a generation", lambda r: r.generations)
    began = time.monotonic()
    check(control.post("/v1/documents/profiles", {"id": "p"}), 200, applied=[], pending=["slow"], refused=[])
    expect(time.monotonic() - began >= 4.9)
    relay.close()


@case
def a_relay_that_does_not_answer_is_named(control):
    good, silent = control.relay("good", ops={"queue.list": {"items": [item(1)], "more": False}}), control.relay("silent")
    for relay in (good, silent):
        relay.wait("a generation", lambda r: r.generations)
    got = check(control.get("/v1/queue"), 200)
    expect(len(got["items"]) == 1 and got["errors"] == [{"instance": "silent", "error": "the relay did not answer within 5 s"}], got)
    good.close()
    wait_for("good to be gone", lambda: [r["instance"] for r in control.get("/v1/status").json["relays"]] == ["silent"])
    silent.ops["queue.list"] = lambda message: silent.socket.shutdown(socket.SHUT_RDWR)
    check_error(control.get("/v1/queue"), 503, "silent", "went away")
    silent.close()


sys.exit(run(Control()))
