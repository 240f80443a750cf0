# SPDX-License-Identifier: Apache-2.0
"""tests/system/cases.py: runs the test functions of a file, and closes with the counts that tests/run reads.

A case is a function whose name is a claim, registered by @case; it fails by raising. Cases run in the order they
stand. A lab that a file shares is made by its main and handed to each case.
"""

import fnmatch
import pathlib
import sys
import time
import traceback

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "deploy"))

_cases = []


def case(function):
    _cases.append(function)
    return function


def expect(truth, *what):
    if not truth:
        raise AssertionError(" ".join(str(w) for w in what) or "expected otherwise")


def expect_in(part, whole):
    if part not in whole:
        raise AssertionError(f"{part!r} is not in:\n{whole}")


def main(*args):
    """Runs every case with `args`, or those whose name matches a pattern of the command line; the exit code."""
    wanted = sys.argv[1:] or ["*"]
    passed, failed = 0, []
    for function in _cases:
        if not any(fnmatch.fnmatch(function.__name__, w) for w in wanted):
            continue
        began = time.monotonic()
        try:
            function(*args)
            passed += 1
            print(f"[       OK ] {function.__name__} ({time.monotonic() - began:.1f} s)", flush=True)
        except Exception:
            failed.append(function.__name__)
            traceback.print_exc()
            for lab in args:
                if hasattr(lab, "log_tail"):
                    for name in ("relay", "control"):
                        print(f"--- {name}\n{lab.log_tail(name, 25)}", file=sys.stderr, flush=True)
            print(f"[  FAILED  ] {function.__name__}", flush=True)
    print(f"[  PASSED  ] {passed} test(s).", flush=True)
    if failed:
        print(f"[  FAILED  ] {sys.argv[0]}, {len(failed)} test(s): {', '.join(failed)}", flush=True)
    return 1 if failed or not passed else 0
