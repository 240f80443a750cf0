# SPDX-License-Identifier: Apache-2.0
"""control/daemon/api_cases.py: what the tests of the API share: cases that begin alike, the run of them, checks of an answer."""

import cases
from cases import expect, expect_in
from lab import wait_for


def case(function):
    """Each case begins with no relay attached, no documents, and one certificate."""
    def alone(control):
        control.close_relays()
        wait_for("all relays to be gone", lambda: control.get("/v1/status").json["relays"] == [])
        empty(control)
        function(control)
    alone.__name__ = function.__name__
    return cases.case(alone)


def run(control):
    """Every case on this control, which ends behind them."""
    try:
        return cases.main(control)
    finally:
        control.close()


def check(answer, status, **fields):
    """The status, and members of the JSON."""
    expect(answer.status == status, answer.status, answer.body)
    got = answer.json
    for name, value in fields.items():
        expect(got.get(name) == value, f"{name}: expected {value!r} in", got)
    return got


def check_error(answer, status, *words, **fields):
    got = check(answer, status, **fields)
    for word in words:
        expect_in(word, got["error"])
    return got


def ids(control, kind):
    return [d["id"] for d in control.get(f"/v1/documents/{kind}").json["documents"]]


def empty(control):
    """Back to a store without documents and with the first certificate only."""
    check(control.post("/v1/apply", {}), 200)
    for cert in control.get("/v1/certs").json["certs"]:
        if cert["id"] != "self-signed":
            if cert["active"]:
                check(control.post(f"/v1/certs/{cert['id']}/deactivate"), 200)
            check(control.request("DELETE", f"/v1/certs/{cert['id']}"), 200)


def item(number, **more):
    return {"queue_id": f"{number:013d}", "state": "waiting", "sender": "a@example.test", "reason": "451 4.4.3 try again", **more}
