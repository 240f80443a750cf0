# SPDX-License-Identifier: Apache-2.0
"""control/daemon/tickets_test.py: the keys of session tickets, as relays see them."""

import json
import signal
import sys
import time

from lab import Control
from api_cases import case, run
from cases import expect


def now():
    return int(time.clock_gettime(time.CLOCK_BOOTTIME))


def greeted(control, instance="main", **how):
    relay = control.relay(instance, **how)
    relay.wait("a generation", lambda r: r.generations)
    expect(relay.tickets, "keys come before the generation")
    return relay


def forget(control):
    """A control without keys."""
    control.close_relays()
    control.stop(signal.SIGKILL)
    control.start()


@case
def all_relays_of_a_node_get_the_same_keys(control):
    one, two = greeted(control, "one"), greeted(control, "two")
    keys = one.tickets[0]
    expect(len(keys) == 2 and two.tickets == [keys], one.tickets, two.tickets)
    (begins, ends, _), (next_begins, _, _) = sorted(keys.values())
    expect(begins <= now() and ends - begins == 8 * 3600 and next_begins == ends, keys)


@case
def a_control_killed_and_started_anew_goes_on_with_the_relays_keys(control):
    mine = (b"M" * 16, 1, now() + 9000, now() + 16200), (b"N" * 16, now() + 9000, now() + 37800, now() + 45000)
    forget(control)
    relay = greeted(control, tickets=mine)
    expect(set(relay.tickets[-1]) == {b"M" * 16, b"N" * 16}, relay.tickets)
    expect(greeted(control, "anew").tickets[-1] == relay.tickets[-1])


@case
def relays_that_bring_different_keys_end_with_the_same(control):
    forget(control)
    one = greeted(control, "one", tickets=[(b"A" * 16, 1, now() + 9000, now() + 16200)])
    two = greeted(control, "two", tickets=[(b"B" * 16, 2, now() + 9000, now() + 16200)])
    one.wait("the other's key", lambda r: b"B" * 16 in r.tickets[-1])
    expect(one.tickets[-1] == two.tickets[-1] and b"A" * 16 in two.tickets[-1], one.tickets, two.tickets)


@case
def a_key_that_ends_is_replaced_in_time_and_dropped(control):
    forget(control)
    relay = greeted(control, tickets=[(b"E" * 16, 1, now() + 4, now() + 6)])
    first = relay.tickets[0]
    expect(b"E" * 16 in first and len(first) > 1, first)
    expect(min(v[0] for k, v in first.items() if k != b"E" * 16) == first[b"E" * 16][1], "it follows at once", first)
    relay.wait("a table without it", lambda r: b"E" * 16 not in r.tickets[-1])
    expect(any(begins <= now() < ends for begins, ends, _ in relay.tickets[-1].values()))


@case
def what_a_relay_brings_for_keys_may_be_anything(control):
    """A refused object: it gets ours, and control goes on."""
    forget(control)
    ended = greeted(control, "ended", tickets=[(b"O" * 16, 1, 2, 3)])
    expect(b"O" * 16 not in ended.tickets[-1] and len(ended.tickets[-1]) == 2, ended.tickets)
    mad = greeted(control, "mad", tickets=[(b"X" * 16, 9, 2, 1)])
    expect(mad.tickets[-1] == ended.tickets[-1])


@case
def a_lifetime_of_zero_is_no_keys(control):
    config = json.loads(control.config.read_text())
    control.config.write_text(json.dumps({**config, "tls": {"ticket_lifetime": 0}}))
    forget(control)
    relay = greeted(control, tickets=[(b"M" * 16, 1, now() + 9000, now() + 16200)])
    expect(relay.tickets[-1] == {}, relay.tickets)
    control.config.write_text(json.dumps(config))
    forget(control)


sys.exit(run(Control()))
