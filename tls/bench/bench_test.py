#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""bench_test.py TLS_BENCH: that tls_bench still runs, and says in JSON what its readers look for. No speed is judged."""
import json
import re
import subprocess
import sys


def told(*options):
    return json.loads(subprocess.run([sys.argv[1], "--json", "--seconds", "0.001", "--sessions", "20", *options],
                                     stdout=subprocess.PIPE, check=True, timeout=120).stdout)


def every_row_begins_with_the_ceiling():
    rows = {}
    for line in told("--only", "TLSv1.3 ECDSA-P256 X25519", "--no-memory")["handshakes"]:
        rows.setdefault((line["version"], line["certificate"], line["group"], line["resumed"]), []).append(line)
    assert {(row[2], row[3]) for row in rows} == {(group, resumed) for group in ("X25519", "X25519MLKEM768")
                                                  for resumed in (False, True)}, rows.keys()
    for lines in rows.values():
        assert lines[0]["server"] == "openssl" and lines[0]["ratio"] == 1, lines[0]
        assert {line["server"] for line in lines} >= {"openssl", "inline"}, lines
        assert all(line["server_us"] > 0 and line["client_us"] > 0 and line["ratio"] > 0 for line in lines), lines
        assert len({line["cipher"] for line in lines}) == 1, lines


def all_servers_agree_on_the_suite_that_is_offered():
    for bits in ("128", "256"):
        for version in ("TLSv1.2", "TLSv1.3"):
            lines = told("--only", f"{version} ECDSA-P256 X25519 full", "--no-memory", "--aes", bits)["handshakes"]
            # TLS_AES_128_GCM_SHA256 and ECDHE-ECDSA-AES128-GCM-SHA256
            assert lines and all(f"AES{bits}GCM" in re.sub("[-_]", "", line["cipher"]) for line in lines), lines


def memory_is_told_for_each_side_and_a_handshake():
    answer = told("--no-handshakes")
    assert answer["handshakes"] == [] and len(answer["memory"]) == 3, answer
    assert all(line["sessions"] == 20 and line["allocated"] > 0 for line in answer["memory"]), answer


def an_idle_session_is_within_its_budget():
    """30 KiB are promised for a connection, with all that the relay holds for it beside the session."""
    for line in told("--no-handshakes")["memory"][:2]:
        assert line["allocated"] < 27 * 1024, line


if __name__ == "__main__":
    for claim in (every_row_begins_with_the_ceiling, all_servers_agree_on_the_suite_that_is_offered, memory_is_told_for_each_side_and_a_handshake,
                  an_idle_session_is_within_its_budget):
        claim()
        print("ok:", claim.__name__)
