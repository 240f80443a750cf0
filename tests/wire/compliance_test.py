#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""COMPLIANCE.md names tests that exist, and every MUST and SHOULD of RFC 9293."""
import pathlib
import re
import sys

root = pathlib.Path(sys.argv[1])
text = (root / "COMPLIANCE.md").read_text()
passed, failed = 0, []


def check(holds, claim):
    global passed
    if holds:
        passed += 1
    else:
        failed.append(claim)


titles = {path.name: [line[2:].strip() for line in path.read_text().splitlines() if line.startswith("==")]
          for path in (root / "tests/wire").glob("*.wire")}
programs = {path.stem: path.read_text() for folder in ("dataplane", "tests", "relay")
            for path in (root / folder).rglob("*_test.*") if path.suffix in (".c", ".py")}

rows = [line for line in text.splitlines() if re.match(r"\| [^-]", line) and "in short" not in line]
for row in rows:
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    check(len(cells) == 3 and all(cells), "a row has an id, a sentence and a test or a reason: " + row)

names = re.findall(r"`([^`]+)`", "\n".join(rows))
for name in names:
    script = re.fullmatch(r"(\w+\.wire)(?:: (.+))?", name)
    program = re.fullmatch(r"(\w+_test): (\w+)", name)
    if script:
        of_file = titles.get(script[1], [])
        check(any(title.startswith(script[2] or "") for title in of_file), f"there is no script '{name}'")
    elif program:
        check(any(re.search(rf"\b{program[2]}\b", source) for source in programs.values()),
              f"there is no test '{name}'")
    elif "/" in name:
        check((root / name).exists(), f"there is no '{name}'")

ids = set(re.findall(r"^\| ((?:MUST|SHLD)-\d+) \|", text, re.M))
for kind, last in (("MUST", 69), ("SHLD", 31)):
    for number in range(1, last + 1):
        check(f"{kind}-{number}" in ids, f"{kind}-{number} is not listed")

for claim in failed:
    print("failed:", claim)
print(f"[  PASSED  ] {passed} test(s).")
if failed:
    print(f"[  FAILED  ] compliance: {len(failed)} test(s)")
sys.exit(1 if failed else 0)
