# SPDX-License-Identifier: Apache-2.0
"""What was measured, as a table for people and as JSON, and plots of it."""

import json

from lab import run

from . import figures
from .cases import CASES, TARGETS
from .figures import CEILING, RELAY, number, percent

PLOTS = ("handshakes", "ratios")


def order(names):
    """The relay first, the limit last, the others always in the same order."""
    return sorted(names, key=lambda n: (n == CEILING, not n.startswith(RELAY), n.lower()))


def spread_text(spread):
    return "" if spread is None else f"{100 * spread[0]:+.0f}% {100 * spread[1]:+.0f}%"


def case_lines(case, by_server):
    yield f"{case.title}: {case.unit} per busy second of all the server's threads"
    yield f"  {'server':<18} {'median':>8} {'half within':>12} {'relay is':>9} {'a second':>9} {'server busy':>12} {'generator busy':>15}  runs"
    ours = figures.column(by_server.get(RELAY, []), "per_busy_second")
    for name in order(by_server):
        runs = by_server[name]
        s = figures.summary(runs)
        ratio = None if name == RELAY else figures.ratio(ours, figures.column(runs, "per_busy_second"))
        yield (f"  {'OpenSSL in memory' if name == CEILING else name:<18} {number(s['median']):>8} {spread_text(s['spread']):>12} "
               f"{'' if ratio is None else f'{ratio:.2f} ×':>9} {number(s['rate']) if s['rate'] else '':>9} {percent(s['server_busy']):>12} "
               f"{percent(s['generator_busy']):>15}  {s['runs']}" + ("" if name == CEILING or s["is_saturated"] else "  (not saturated)"))


def target_lines(results, values):
    yield "To reach (issue's table; medians of the rounds' ratios):"
    for t in TARGETS:
        value, is_reached = figures.verdict(t, results, values)
        if t.most:
            what, wanted = t.case, f"at most {number(t.most)} {t.unit}".rstrip()
            got = f"{number(value)} {t.unit}".rstrip()
        else:
            what = next(c.title for c in CASES if c.name == t.case)
            wanted = f"{t.least} × {'OpenSSL in memory' if t.against == CEILING else t.against}" + (f", aim {t.aim} ×" if t.aim else "")
            got = "" if value is None else f"{value:.2f} ×"
        said = "not measured" if is_reached is None else "reached" if is_reached else "NOT reached"
        yield f"  {what:<60} {wanted:<26} {got:>10}  {said}"


def primitive_lines(primitives):
    yield "Primitives on one core:"
    yield f"  {'operation':<28} {'by':<16} {'lanes':>5} {'us a call':>10} {'a second':>10}"
    for p in primitives:
        if 1 < p["lanes"] < 8:
            continue  # in the JSON
        yield f"  {p['operation']:<28} {p['by']:<16} {p['lanes']:>5} {p['call_us']:>10.1f} {p['per_second']:>10,.0f}"


def table(data):
    m = data["machine"]
    yield (f"{m['processors']} × {m['model']}{', AVX512-IFMA' if m['avx512ifma'] else ''}, {m['memory_mb'] // 1024} GB, Linux {m['kernel']}, "
           f"load {m['load'][0]:.1f}; {m['time']}; commit {m['commit']}")
    yield "versions: " + ", ".join(f"{n} {v}" for n, v in data["versions"].items())
    yield data["how"]
    for case in CASES:
        if data["results"].get(case.name):
            yield ""
            yield from case_lines(case, data["results"][case.name])
    if data["values"]:
        yield ""
        yield from (f"{name}: {number(value)}" for name, value in data["values"].items())
    for backend, counted in data["system_calls"].items():
        yield f"  the worker's calls in {counted['handshakes']} handshakes, {backend}: {counted['calls'] or 'none'}"
    if data["primitives"]:
        yield ""
        yield from primitive_lines(data["primitives"])
    yield ""
    yield from target_lines(data["results"], data["values"])
    if data["notes"]:
        yield ""
        yield from (f"note: {n}" for n in data["notes"])


def digest(data):
    """For machines: all runs, and what the table says of them."""
    summaries = {c: {n: figures.summary(runs) for n, runs in by.items()} for c, by in data["results"].items()}
    targets = []
    for t in TARGETS:
        value, is_reached = figures.verdict(t, data["results"], data["values"])
        targets.append({"what": t.case, "against": t.against, "least": t.least, "most": t.most, "value": value, "reached": is_reached})
    return {**data, "summaries": summaries, "targets": targets}


# ---- plots ----

def bars(data):
    """Rows of cases, columns of servers: median, lower and upper quartile."""
    cases = [c for c in CASES if data["results"].get(c.name) and c.command == "handshakes"]
    names = order({n for c in cases for n, runs in data["results"][c.name].items() if figures.summary(runs)["median"]})
    rows = []
    for c in cases:
        cells = [f'"{c.title.replace(", ", chr(92) + "n")}"']
        for n in names:
            s = figures.summary(data["results"][c.name].get(n, []))
            cells += [f"{v:.1f}" for v in (s["median"], *(s["median"] * (1 + d) for d in s["spread"]))] if s["median"] else ["NaN"] * 3
        rows.append(" ".join(cells))
    return names, rows


def ratios(data):
    """One row a case and peer: how many times the relay's figure is theirs."""
    rows = []
    for c in CASES:
        by = data["results"].get(c.name, {})
        ours = figures.column(by.get(RELAY, []), "per_busy_second")
        for n in order(by):
            value = None if n == RELAY else figures.ratio(ours, figures.column(by[n], "per_busy_second"))
            if value:
                wanted = [t.least for t in TARGETS if (t.case, t.against) == (c.name, n)]
                rows.append(f'"{c.name} : {"OpenSSL in memory" if n == CEILING else n}" {value:.3f} {wanted[0] if wanted else "NaN"}')
    return rows


def plot(folder, data):
    """PNG and SVG of each plot; the gnuplot scripts and their data stay beside them."""
    names, rows = bars(data)
    made = []
    if rows:
        (folder / "handshakes.dat").write_text("\n".join(rows) + "\n")
        columns = ", ".join(f"'handshakes.dat' using {2 + 3 * i}:{3 + 3 * i}:{4 + 3 * i}:xtic(1) title '{n if n != CEILING else 'OpenSSL in memory'}'"
                            for i, n in enumerate(names))
        made.append(("handshakes", "set style data histograms\nset style histogram errorbars gap 2 lw 1\nset style fill solid 0.8\n"
                     "set ylabel 'handshakes per busy second of the server'\nset yrange [0:*]\nset key outside right top\nset grid y\nset bmargin 5\n"
                     f"plot {columns}\n"))
    rows = ratios(data)
    if rows:
        (folder / "ratios.dat").write_text("\n".join(rows) + "\n")
        made.append(("ratios", "set style fill solid 0.8\nset boxwidth 0.7\nset logscale y 2\nset yrange [0.5:*]\nset grid y\nset bmargin 11\nset rmargin 18\n"
                     "set xtics rotate by -40 left\nset ylabel 'relay / other, per busy second'\nset key top left\n"
                     "plot 'ratios.dat' using 0:2:xtic(1) with boxes title 'measured', "
                     "'' using 0:3 with points pt 9 ps 2 lc 'black' title 'to reach'\n"))
    for name, script in made:
        for kind, terminal in (("png", "pngcairo size 1500,800 font 'sans,11'"), ("svg", "svg size 1500,800 font 'sans,11'")):
            path = folder / f"{name}.{kind}.gp"
            path.write_text(f"set terminal {terminal}\nset output '{name}.{kind}'\nset title '{data['title']}'\n{script}")
            run("gnuplot", path.name, cwd=folder)
            path.unlink()
    return [f"{name}.{kind}" for name, _ in made for kind in ("png", "svg")]


def write(folder, data):
    """The table and the JSON file; the table's text."""
    text = "\n".join(table(data)) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.txt").write_text(text)
    (folder / "compare.json").write_text(json.dumps(digest(data), indent=1) + "\n")
    return text
