#!/usr/bin/env python3
"""Prints what tests/bench/compare.sh measured, and fails when the change is not within the bounds.

    tests/bench/compare.py FILE

Instructions per message may grow by 3 %. The median of the rates' ratios, each of one pair, has to be at least 0.97,
and that of the CPU per message at most 1 / 0.97; or no further from 1 than nine in ten pairs of the base with itself.
"""

import json
import math
import statistics
import sys
from collections import defaultdict

INSTRUCTIONS_MOST = 1.03
RATE_LEAST = 0.97
HEADINGS = ("", "of", "base", "change", "ratio", "bound", "A/A within", "")


def print_table(lines):
    lines = [HEADINGS, *lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def verdict(held):
    return "ok" if held else "SLOWER"


def instructions(lines):
    """Rows of the scenarios: medians of what all rounds took more than none."""
    counts = defaultdict(list)
    for line in lines:
        revision, scenario = line["target"].split()
        counts[scenario, revision, line["messages"]].append(line["instructions"])

    def per_message(scenario, revision):
        none, some = sorted(played for *of, played in counts if of == [scenario, revision])
        spent = (statistics.median(counts[scenario, revision, played]) for played in (some, none))
        return (next(spent) - next(spent)) / (some - none)

    for scenario in dict.fromkeys(scenario for scenario, *_ in counts):
        base, change = (per_message(scenario, revision) for revision in ("base", "change"))
        ratio = change / base
        yield (
            scenario,
            "instructions",
            f"{base:,.0f}",
            f"{change:,.0f}",
            f"{ratio:.3f}",
            f"<= {INSTRUCTIONS_MOST:.3f}",
            "",
            verdict(ratio <= INSTRUCTIONS_MOST),
        )


def spread(ratios):
    """How far, as a factor, nine in ten of these are from 1 at most."""
    distances = sorted(abs(math.log(ratio)) for ratio in ratios)
    return math.exp(distances[math.ceil(0.9 * len(distances)) - 1])


def rates(lines):
    """Rows of the loads: a rate and a CPU time each."""
    loads = defaultdict(lambda: defaultdict(dict))
    for line in lines:
        revision, target = line["target"].split()
        # Of two lines, a failed load has neither.
        load = line["load"] if line["measure"] == "backlog" and not line.get("failed") else line["measure"]
        loads[f"{target} {load}"][line["round"]][revision] = line
    for load, rounds in loads.items():
        void = sum(run["void"] for runs in rounds.values() for name, run in runs.items() if name == "change")
        if void:
            yield load, f"{void} runs void", *[""] * 5, "FAILED"
        for name, words, digits in (
            ("messages_per_second", "messages/s", 0),
            ("server_cpu_micros_per_message", "CPU µs", 2),
        ):
            figures = {
                revision: {n: runs[revision].get(name) for n, runs in rounds.items() if usable(runs, revision)}
                for revision in ("base", "change", "again")
            }
            changes, agains = (ratios(figures, revision) for revision in ("change", "again"))
            if not changes or not agains:
                yield load, words, *[""] * 5, "FAILED"
                continue
            ratio, within = statistics.median(changes), spread(agains)
            least = min(RATE_LEAST, 1 / within)
            faster = name == "messages_per_second"
            base, change = (statistics.median(filter(None, figures[it].values())) for it in ("base", "change"))
            yield (
                load,
                words,
                f"{base:,.{digits}f}",
                f"{change:,.{digits}f}",
                f"{ratio:.3f}",
                f">= {least:.3f}" if faster else f"<= {1 / least:.3f}",
                f"{(within - 1) * 100:.1f} %",
                verdict(ratio >= least if faster else ratio <= 1 / least),
            )


def usable(runs, revision):
    return revision in runs and not runs[revision]["void"]


def ratios(figures, revision):
    """Of a revision's figures to the base's, of the rounds that have both."""
    base, other = figures["base"], figures[revision]
    return [other[n] / base[n] for n in base if base[n] and other.get(n)]


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        lines = [json.loads(line) for line in file]
    counted = [line for line in lines if line["measure"] == "instructions"]
    table = [*instructions(counted), *rates(line for line in lines if line["measure"] != "instructions")]
    print("Per message. Ratios are change to base; of rates and CPU, medians over pairs that ran side by side.\n")
    print_table(table)
    failed = sum(line[-1] != "ok" for line in table)
    print(f"\n{failed} of {len(table)} figures are out of bounds" if failed else "\nall figures are within bounds")
    sys.exit(1 if failed or not table else 0)


if __name__ == "__main__":
    main()
