#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent / "deploy"))
from comparison import figures, limits  # noqa: E402
from comparison.cases import CASES, TARGETS, Target  # noqa: E402


def runs(*per_busy_second, **more):
    return [None if f is None else {"per_busy_second": f, **more} for f in per_busy_second]


class Figures(unittest.TestCase):
    def test_a_median_passes_over_rounds_that_failed(self):
        self.assertEqual(figures.median([3, None, 1, 2]), 2)
        self.assertEqual(figures.median([1, 2, None, 4, 3]), 2.5)
        self.assertIsNone(figures.median([None]))

    def test_the_spread_is_the_quartiles_against_the_median(self):
        low, high = figures.spread([80, 90, 100, 110, 120])
        self.assertAlmostEqual(low, -0.1)
        self.assertAlmostEqual(high, 0.1)
        self.assertEqual(figures.spread([5]), (0, 0))
        self.assertIsNone(figures.spread([]))

    def test_a_ratio_is_taken_within_each_round(self):
        # The machine was twice as slow in every other round, for both: the ratio does not move.
        self.assertEqual(figures.ratio([200, 100, 200, 100], [100, 50, 100, 50]), 2)
        # Of the medians alone it would be 150 / 60.
        self.assertEqual(figures.ratio([200, 100, None], [100, 50, 60]), 2)
        self.assertIsNone(figures.ratio([1, None], [None, 1]))
        self.assertIsNone(figures.ratio([], [1]))

    def test_a_figure_without_time_spent_is_none(self):
        self.assertIsNone(figures.per_busy_second(10, 0))
        self.assertEqual(figures.per_busy_second(10, 4), 2.5)

    def test_a_target_is_reached_from_its_factor_on(self):
        target = Target("rsa", "nginx", 2.5)
        for ours, reached in ((249, False), (250, True), (251, True)):
            results = {"rsa": {"relay": runs(ours), "nginx": runs(100)}}
            self.assertEqual(figures.verdict(target, results, {}), (ours / 100, reached))

    def test_a_target_that_was_not_measured_has_no_verdict(self):
        self.assertEqual(figures.verdict(Target("rsa", "nginx", 2.5), {"rsa": {"relay": runs(5)}}, {}), (None, None))
        self.assertEqual(figures.verdict(Target("memory", most=30), {}, {}), (None, None))

    def test_a_bound_is_kept_up_to_its_value(self):
        self.assertEqual(figures.verdict(Target("memory", most=30), {}, {"memory": 30}), (30, True))
        self.assertEqual(figures.verdict(Target("memory", most=30), {}, {"memory": 30.1}), (30.1, False))

    def test_saturated_is_a_server_whose_processor_was_busy_with_a_generator_that_was_not(self):
        self.assertTrue(figures.is_saturated(runs(1, processor_idle=0.01, generator_busy=0.3)))
        self.assertFalse(figures.is_saturated(runs(1, processor_idle=0.01, generator_busy=0.95)))
        self.assertFalse(figures.is_saturated(runs(1, processor_idle=0.5, generator_busy=0.3)))

    def test_a_summary_of_nothing_is_empty_not_an_error(self):
        s = figures.summary([None, None])
        self.assertEqual((s["runs"], s["median"], s["spread"], s["is_saturated"]), (0, None, None, False))

    def test_numbers_show_three_digits(self):
        for value, text in ((12345, "12,300"), (999.6, "1,000"), (1.234, "1.23"), (0.01234, "0.0123"), (45.67, "45.7"), (0, "0"),
                            (None, "-")):
            self.assertEqual(figures.number(value), text)

    def test_what_strace_counted_is_read_with_and_without_errors(self):
        text = """% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 99.61    0.081544           9      8448           getpid
  0.39    0.000319          35         9         2 futex
------ ----------- ----------- --------- --------- ----------------
100.00    0.081863           9      8457         2 total
"""
        self.assertEqual(limits.strace_counts(text), {"getpid": 8448, "futex": 9})
        self.assertEqual(limits.strace_counts(""), {})

    def test_the_lines_of_openssl_speed_are_calls_a_second(self):
        text = ("+H:rsa2048\n+F2:2:2048:3846.875000:52434.693878:48781.052632:3711.224490\n+F4:3:256:46140.625000:13007.142857\n"
                "+F5:7:253:25000.0:0.000040\n+DTP:X25519MLKEM768:keygen:1\n+DTP:X25519MLKEM768:encaps:1\n+F9:15:11595.7:8684.6:11092.1\n")
        found = {line["operation"]: line["per_second"] for line in limits.speed_lines(text)}
        self.assertEqual(found, {"RSA-2048 sign": 3846.875, "RSA-2048 verify": 52434.693878, "ECDSA P-256 sign": 46140.625,
                                 "ECDSA P-256 verify": 13007.142857, "ECDH X25519 derive": 25000, "X25519MLKEM768 keygen": 11595.7,
                                 "X25519MLKEM768 encaps": 8684.6, "X25519MLKEM768 decaps": 11092.1})
        self.assertEqual(found["ECDH X25519 derive"] * limits.speed_lines(text)[4]["call_us"], 1e6)

    def test_every_target_is_of_a_case_or_a_bound(self):
        names = {c.name for c in CASES}
        for t in TARGETS:
            self.assertTrue(t.case in names and t.against and t.least or t.most, t)


if __name__ == "__main__":
    unittest.main()
