# SPDX-License-Identifier: Apache-2.0
"""The arithmetic: medians over rounds, their spread, ratios, verdicts. A round is one run of each server, one after the other;
what a round has not (a run that failed) is None."""

import math
import statistics

RELAY, CEILING = "relay", "ceiling"
BUSY_GENERATOR = 0.9  # as hikyaku-bench marks it


def present(values):
    return [v for v in values if v is not None]


def median(values):
    values = present(values)
    return statistics.median(values) if values else None


def spread(values):
    """Half of the runs lie within this share of the median, from the lower to the upper quartile; (0, 0) of one run."""
    values = present(values)
    if len(values) < 2:
        return (0.0, 0.0) if values else None
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (low / middle - 1, high / middle - 1) if middle else None


def ratio(ours, theirs):
    """The median of the rounds' ratios: what disturbs a round disturbs both."""
    return median([a / b for a, b in zip(ours, theirs) if a is not None and b])


def per_busy_second(done, spent_s):
    return done / spent_s if spent_s > 0 else None


def column(runs, key):
    """One value a round; `runs`: a dict, or None, for each."""
    return [None if r is None else r.get(key) for r in runs]


def summary(runs):
    """What a table shows of one server in one case."""
    figures = column(runs, "per_busy_second")
    return {"runs": len(present(figures)), "median": median(figures), "spread": spread(figures),
            "rate": median(column(runs, "rate")), "server_busy": median(column(runs, "server_busy")),
            "generator_busy": median(column(runs, "generator_busy")), "is_saturated": is_saturated(runs)}


def is_saturated(runs):
    """Whether it was the server's processor that limited the rate: it was not idle, and the generator was not the limit."""
    idle, generator = median(column(runs, "processor_idle")), median(column(runs, "generator_busy"))
    return idle is not None and idle < 0.05 and (generator is None or generator < BUSY_GENERATOR)


def verdict(target, results, values):
    """(value, reached) of a line of the target; both None where it was not measured.
    `results`: case -> server -> runs; `values`: name -> number."""
    if target.most:
        value = values.get(target.case)
        return value, None if value is None else value <= target.most
    runs = results.get(target.case, {})
    value = ratio(column(runs.get(RELAY, []), "per_busy_second"), column(runs.get(target.against, []), "per_busy_second"))
    return value, None if value is None else value >= target.least


def percent(share):
    return "" if share is None else f"{100 * share:.0f}%"


def number(value):
    """Three digits that count, so that no figure looks more exact than it is."""
    if value is None:
        return "-"
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{round(value, 3 - 1 - math.floor(math.log10(abs(value)))):,.{digits}f}"
