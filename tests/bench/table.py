#!/usr/bin/env python3
"""Prints what tests/bench/run.sh measured: a table of medians, and what is reached of what was to be reached.

    tests/bench/table.py FILE
"""

import json
import statistics
import sys
from collections import defaultdict

# Rows of the table, in their order, with the batch whose floors they are held against.
MEASURES = {
    "publish-1": 1,
    "publish-10": None,
    "publish-100": 100,
    "half-rate-full": 100,
    "half-rate": None,
    "latency": None,
    "topics-before": None,
    "topics-during": None,
    "end-to-end-1": 100,
    "end-to-end-8": 100,
    "fan-out": None,
    "fan-out-silent": None,
    "filtered": None,
    "filtered-100": None,
    "end-to-end-8x10": None,
    "ordered": None,
    "ordered-8x10": None,
    "ordered-blocked": None,
    "exactly-once": None,
    "exactly-once-plain": None,
    "receipts": None,
    "exactly-once-latency": None,
    "pull": 100,
    "backlog-publish": 100,
    "backlog-drain": None,
    "redelivery": None,
    "demand-before": None,
    "demand-after": None,
    "unread-before": None,
    "unread-after": None,
    "cold-before": None,
    "cold-during": None,
    "expiry-before": None,
    "expiry-during": None,
    "expiry-ordered-before": None,
    "expiry-ordered-during": None,
    "backoff-before": None,
    "backoff-after": None,
    "dead-letter-cycle-before": None,
    "dead-letter-cycle-during": None,
    "holes": None,
    "rest-publish": None,
    "rest-call": None,
    "idle": None,
    "shared-rate-10": None,
    "shared-rate-10000": None,
}
# Loads of two lines, each of which is a measure.
PARTS = {
    "half-rate": ("half-rate-full", "half-rate"),
    "backlog": ("backlog-publish", "backlog-drain"),
    "topics": ("topics-before", "topics-during"),
    "demand": ("demand-before", "demand-after"),
    "unread": ("unread-before", "unread-after"),
    "cold": ("cold-before", "cold-during"),
    "expiry": ("expiry-before", "expiry-during"),
    "expiry-ordered": ("expiry-ordered-before", "expiry-ordered-during"),
    "backoff": ("backoff-before", "backoff-after"),
    "dead-letter-cycle": ("dead-letter-cycle-before", "dead-letter-cycle-during"),
}
# Measures of which the rate says nothing, beside those that share the beginning of their names.
PACED = ("half-rate", "latency", "exactly-once-latency", "redelivery", "holes", "rest-call")
# Messages that the loads of these names leave unacknowledged, and waiting, in run.sh.
HOLES = 100_000
BACKOFF = 100_000
OURS = ("ephemeral", "durable", "kafka")
HEADINGS = (
    "load", "target", "K msg/s", "(min..max)", "of echo", "of SQLite", "of fdatasync", "of L", "server µs", "gen. µs",
    "publish ms p50 / p99", "receive ms p50 / p99", "peak MB", "notes",
)  # fmt: skip


class Figures:
    """All lines of a file. Every figure is a median over rounds; void runs have no part in it."""

    def __init__(self, lines):
        self.runs = defaultdict(list)
        self.void = defaultdict(int)
        self.floors = defaultdict(list)
        for line in lines:
            if line["target"] == "floors":
                self.floors[line["floor"], line["batch"], line["commit"], line["rate"]].append(line)
                continue
            measure = line["measure"]
            parts = PARTS.get(measure, (measure,))
            # Of two lines, a failed load has neither.
            if len(parts) > 1 and not line.get("failed"):
                parts = (line["load"],)
            for measure in parts:
                key = measure, line["target"]
                if line.get("void"):
                    self.void[key] += 1
                else:
                    self.runs[key].append(line)

    def targets(self):
        """All servers, in the order in which they were measured."""
        return list(dict.fromkeys(target for _, target in [*self.runs, *self.void]))

    def peers(self):
        return [target for target in self.targets() if target not in ("echo", "rdkafka", *OURS)]

    def all(self, measure, target, *path):
        """The figure at `path` in each run that has it."""
        found = (dig(line, path) for line in self.runs[measure, target])
        return [value for value in found if value is not None]

    def median(self, measure, target, *path):
        values = self.all(measure, target, *path)
        return statistics.median(values) if values else None

    def rate(self, measure, target):
        return self.median(measure, target, "messages_per_second")

    def bound(self, measure):
        """L: what a server would reach that costs an echo and a bare Kafka client, one after the other."""
        echo, bare = self.rate(measure, "echo"), self.rate(measure, "rdkafka")
        return 1 / (1 / bare + 1 / echo) if echo and bare else None

    def floor(self, name, batch, commit, rate, *path):
        values = [dig(line, path) for line in self.floors[name, batch, commit, rate]]
        return statistics.median(values) if values else None

    def best_floor(self, name, batch):
        """The highest rate at this batch, however many batches a commit has."""
        kinds = [key for key in self.floors if key[:2] == (name, batch) and key[3] is None]
        return max((self.floor(*key, "messages_per_second") for key in kinds), default=None)


def dig(value, path):
    for name in path:
        value = value.get(name) if value is not None else None
    return value


def ratio(value, base):
    return value / base if value is not None and base else None


def number(value, digits=1):
    return "–" if value is None else f"{value:,.{digits}f}"


def thousands(value):
    return f"{value / 1e3:,.1f} K"


def percent(value):
    return "–" if value is None else f"{value * 100:.0f} %"


def pair(figures, measure, target, name):
    p50, p99 = (figures.median(measure, target, name, quantile) for quantile in ("p50", "p99"))
    return "–" if p50 is None else f"{p50:.2f} / {p99:.2f}"


def notes(figures, measure, target):
    """What a median hides."""
    found = []
    if void := figures.void[measure, target]:
        found.append(f"{void} void")
    for name in ("duplicates", "reordered"):
        count = sum(figures.all(measure, target, name))
        # Several streams share a subscription without order.
        if count and (name == "duplicates" or measure == "end-to-end-1"):
            found.append(f"{count:,} {name}")
    if measure == "topics-during":
        created, seconds = (figures.median(measure, target, name) for name in ("new_topics", "seconds"))
        found.append(f"{created:,.0f} topics in {seconds:.1f} s")
    if measure == "rest-call":
        rest, grpc = (pair(figures, measure, target, name) for name in ("rest_ms", "grpc_ms"))
        found.append(f"ms p50 / p99: REST {rest}, gRPC {grpc}")
    if measure in ("expiry-during", "expiry-ordered-during"):
        found.append(f"all again in {number(figures.median(measure, target, 'seconds'), 2)} s")
    if measure == "dead-letter-cycle-during":
        found.append(f"{thousands(figures.median(measure, target, 'nacks_per_second'))} nacks/s")
    if measure == "backoff-after":
        found.append(f"CPU {number(figures.median(measure, target, 'server_cpu_percent'), 2)} %")
    if measure.startswith(("demand-", "unread-", "backoff-")):
        found.append(f"{number(figures.median(measure, target, 'server_rss_mb'), 0)} MB at the end")
    if measure.startswith(("cold-", "exactly-once", "receipts")):
        found.append(f"ack ms p50 / p99: {pair(figures, measure, target, 'ack_ms')}")
    if measure == "holes":
        data, cpu = (figures.median(measure, target, name) for name in ("data_mb", "server_cpu_percent"))
        found.append(f"{number(data, 0)} MB of data, CPU {number(cpu)} %")
    if measure in ("idle", "shared-rate-10", "shared-rate-10000"):
        cpu = figures.median(measure, target, "server_cpu_percent")
        found.append(f"CPU {number(cpu, 2)} %")
    return ", ".join(found)


def rows(figures):
    for measure, batch in MEASURES.items():
        echo = figures.rate(measure if measure.startswith("publish-") else "publish-100", "echo")
        for target in figures.targets():
            key = measure, target
            if not figures.runs[key]:
                if figures.void[key]:
                    yield measure, target, "void", *[""] * 10, notes(figures, measure, target)
                continue
            rate = figures.rate(measure, target)
            rates = figures.all(measure, target, "messages_per_second")
            sqlite, fdatasync = (
                ratio(rate, figures.best_floor(name, batch)) if target == "durable" and batch else None
                for name in ("sqlite", "fdatasync")
            )
            paced = measure in PACED or measure.startswith(
                ("topics-", "shared-rate", "demand-", "unread-", "cold-", "expiry-", "backoff-", "dead-letter-")
            )
            of_bound = ratio(rate, figures.bound(measure)) if target == "kafka" and not paced else None
            of_echo = None if paced or measure == "idle" or target == "rdkafka" else ratio(rate, echo)
            yield (
                measure,
                target,
                number(rate / 1e3),
                f"({min(rates) / 1e3:,.1f}..{max(rates) / 1e3:,.1f})",
                percent(of_echo),
                percent(sqlite),
                percent(fdatasync),
                percent(of_bound),
                number(figures.median(measure, target, "server_cpu_micros_per_message"), 2),
                number(figures.median(measure, target, "generator_cpu_micros_per_message"), 2),
                pair(figures, measure, target, "publish_ms"),
                pair(figures, measure, target, "receive_ms"),
                number(max(figures.all(measure, target, "server_rss_peak_mb"), default=None), 0),
                notes(figures, measure, target),
            )


def floor_rows(figures):
    for name, batch, commit, rate in figures.floors:
        key = name, batch, commit, rate

        def median(*path, key=key):
            return figures.floor(*key, *path)

        yield (
            name,
            str(batch),
            str(commit or "–"),
            str(rate or "–"),
            number(median("messages_per_second") / 1e3),
            f"{median('latency_micros', 'p50') / 1e3:.2f} / {median('latency_micros', 'p99') / 1e3:.2f}",
        )


def print_table(headings, lines):
    lines = [headings, *lines]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip())


def goals(figures):
    """What is to be reached: its name, the figure or None, how it is written, the least and the most it may be."""
    rate, median = figures.rate, figures.median
    echo_100, echo_1 = rate("publish-100", "echo"), rate("publish-1", "echo")

    def share(name, value, base, least):
        return name, ratio(value, base), exact_percent, least, None

    def exact_percent(value):
        return f"{value * 100:.1f} %"

    yield share("ephemeral publish, batch 100, of echo", rate("publish-100", "ephemeral"), echo_100, 0.50)
    yield share("ephemeral end-to-end over 8 streams, of echo", rate("end-to-end-8", "ephemeral"), echo_100, 0.24)
    for peer in figures.peers():
        for measure in ("publish-100", "pull", "fan-out"):
            yield share(f"ephemeral {measure}, of {peer}", rate(measure, "ephemeral"), rate(measure, peer), 1.0)

    publish = rate("publish-100", "durable")
    one_row = figures.floor("sqlite", 100, 1, None, "messages_per_second")
    yield share("durable publish, batch 100, of SQLite with one batch per commit", publish, one_row, 0.70)
    yield share("durable publish, batch 100, of SQLite at its best", publish, figures.best_floor("sqlite", 100), 0.70)
    yield share("durable end-to-end over 8 streams, of its publish", rate("end-to-end-8", "durable"), publish, 0.50)
    yield share("durable publish by 64 callers, of echo", rate("publish-1", "durable"), echo_1, 0.40)

    def milliseconds(value):
        return f"{value:.2f} ms"

    def times(value):
        return f"{value:.2f} ×"

    call = {name: median("latency", "echo", "publish_ms", name) for name in ("p50", "p99")}
    p50, p99 = (median("latency", "ephemeral", "receive_ms", name) for name in ("p50", "p99"))
    more = p50 - call["p50"] if p50 is not None and call["p50"] is not None else None
    yield "ephemeral publish to receive, p50 above echo's call", more, milliseconds, None, 0.15
    yield "ephemeral publish to receive, p99, of echo's call", ratio(p99, call["p99"]), times, None, 2.0
    durable = median("latency", "durable", "receive_ms", "p50")
    for floor, commit, words in (("fdatasync", None, "one fdatasync"), ("sqlite", 1, "one commit of SQLite")):
        append = figures.floor(floor, 1, commit, 1000, "latency_micros", "p50")
        base = call["p50"] + append / 1e3 if call["p50"] is not None and append is not None else None
        yield f"durable publish to receive, p50, of echo's call + {words}", ratio(durable, base), times, None, 1.5

    p50, p99 = (median("half-rate", "durable", "publish_ms", name) for name in ("p50", "p99"))
    yield "durable publish at half of the highest rate, p99, of p50", ratio(p99, p50), times, None, 10.0
    append = figures.floor("fdatasync", 240, None, 500, "from_schedule_micros", "p99")
    base = append / 1e3 if append is not None else None
    yield "the same, p99, of appends to a file at about that rate", ratio(p99, base), times, None, 2.0

    yield share("durable publish over REST, batch 100, of gRPC's", rate("rest-publish", "durable"), publish, 0.40)
    rest, grpc = (median("rest-call", "durable", name, "p50") for name in ("rest_ms", "grpc_ms"))
    more = rest - grpc if rest is not None and grpc is not None else None
    yield "a small call over REST, p50 above the same over gRPC", more, milliseconds, None, 0.3

    for measure, words, least in (
        ("publish-100", "publish, batch 100", 0.70),
        ("publish-1", "publish by 64 callers", 0.60),
    ):
        bare, echo, bound = rate(measure, "rdkafka"), rate(measure, "echo"), figures.bound(measure)
        if bound is not None:
            words += f", of L = {thousands(bound)} (B = {thousands(bare)}, E = {thousands(echo)})"
        yield share(f"kafka {words}", rate(measure, "kafka"), bound, least)
    over_publish = rate("end-to-end-8", "kafka"), rate("publish-100", "kafka")
    yield share("kafka end-to-end over 8 streams, of its publish", *over_publish, 0.50)
    ours, bare = (median("latency", target, "receive_ms", "p50") for target in ("kafka", "rdkafka"))
    more = ours - bare if ours is not None and bare is not None else None
    yield "kafka publish to receive, p50 above a bare producer and consumer", more, milliseconds, None, 1.5
    before, during = (median(f"topics-{part}", "kafka", "publish_ms", "p99") for part in ("before", "during"))
    yield "kafka publish, p99 while 1,000 topics are made, of before", ratio(during, before), times, None, 2.0

    cpu = "server_cpu_micros_per_message"
    for words, measure, most in (("publish, batch 100", "publish-100", 1.5), ("delivery", "backlog-drain", 2.0)):
        cost = ratio(median(measure, "ephemeral", cpu), median(measure, "echo", cpu))
        limit = "echo" if measure == "publish-100" else "sink"
        yield f"ephemeral {words}: server CPU per message, of the {limit}'s", cost, times, None, most

    memory = [
        peak
        for measure in ("backlog-publish", "backlog-drain")
        for peak in figures.all(measure, "durable", "server_rss_peak_mb")
    ]
    yield "durable backlog: peak resident memory, MB", max(memory, default=None), number, None, 300
    backlog = rate("backlog-drain", "durable"), rate("backlog-publish", "durable")
    yield share("durable backlog: drain, of its publish", *backlog, 1.0)
    for target in OURS:
        per_reader = (
            ratio(rate("fan-out-silent", target), acking_readers(figures, "fan-out-silent", target)),
            ratio(rate("fan-out", target), acking_readers(figures, "fan-out", target)),
        )
        yield share(f"{target} fan-out: each of nine beside one that never acks", *per_reader, 0.90)

    unfiltered = rate("end-to-end-8", "ephemeral")
    words = "publish to a filter that drops 90 %, of unfiltered end-to-end"
    yield share(f"ephemeral {words}", rate("filtered", "ephemeral"), unfiltered, 1.5)
    words = "publish to 100 subscriptions of 1 % each, of one that gets all"
    yield share(f"ephemeral {words}", rate("filtered-100", "ephemeral"), unfiltered, 0.25)
    behind = median("filtered-100", "ephemeral", "behind_ms")
    yield "ephemeral 100 subscriptions of 1 % each: behind at the end", behind, milliseconds, None, 1000

    for ordered, plain, least in (("ordered", "end-to-end-8", 0.75), ("ordered-8x10", "end-to-end-8x10", 0.50)):
        words = f"ephemeral {ordered}, of {plain}"
        yield share(words, rate(ordered, "ephemeral"), rate(plain, "ephemeral"), least)
    for target in OURS:
        words = f"{target} ordered beside a key that is blocked, of without it"
        yield share(words, rate("ordered-blocked", target), rate("ordered", target), 0.80)
    memory = median("ordered-blocked", "durable", "server_rss_peak_mb")
    yield "durable ordered beside a key that is blocked: peak resident memory, MB", memory, number, None, 100

    for target in OURS:
        for measure, words, least in (
            ("exactly-once", "with receipts", 0.30),
            ("exactly-once-plain", "without receipts", 0.50),
        ):
            words = f"{target} exactly-once {words}, of end-to-end over 8 streams"
            yield share(words, rate(measure, target), rate("end-to-end-8", target), least)
        once, plain = (median(measure, target, "receive_ms", "p50") for measure in ("exactly-once-latency", "latency"))
        more = once - plain if once is not None and plain is not None else None
        yield f"{target} exactly-once publish to receive, p50 above at-least-once", more, milliseconds, None, 15.0

    for target in OURS:
        back = median("redelivery", target, "receive_ms", "p99")
        yield f"{target} nack to redelivery behind a backlog, p99", back, milliseconds, None, 100
        for load, words, most in (
            ("demand", "one pull on each of 300 subscriptions", 64),
            # What all may hold, and a small read for each.
            ("unread", "100 streams that are not read", 268 + 100),
        ):
            before, after = (median(f"{load}-{part}", target, "server_rss_mb") for part in ("before", "after"))
            more = after - before if before is not None and after is not None else None
            yield f"{target} memory for {words}, MB", more, number, None, most
        before, during = (median(f"cold-{part}", target, "ack_ms", "p50") for part in ("before", "during"))
        yield f"{target} acks beside 2,000 first pulls, p50, of before", ratio(during, before), times, None, 4.0

    for target in OURS:
        for measure, words in (
            ("expiry", "100,000 leases that end together"),
            ("expiry-ordered", "the same with ordering"),
        ):
            again, late = (median(f"{measure}-during", target, *path) for path in (("seconds",), ("receive_ms", "p99")))
            yield f"{target} {words}: until all came again, s", again, number, None, 5.0
            yield f"{target} {words}: publish to receive beside them, p99", late, milliseconds, None, 500
        cpu_percent = median("backoff-after", target, "server_cpu_percent")
        yield f"{target} {BACKOFF:,} messages in backoff: CPU, % of a core", cpu_percent, number, None, 1.0
        before, after = (median(f"backoff-{part}", target, "server_rss_mb") for part in ("before", "after"))
        each = (after - before) * 1e6 / BACKOFF if before is not None and after is not None else None
        yield f"{target} {BACKOFF:,} messages in backoff: memory for each, bytes", each, number, None, 200
        before, during = (
            median(f"dead-letter-cycle-{part}", target, "receive_ms", "p50") for part in ("before", "during")
        )
        words = "publish to receive beside a ring of dead letters, p50, of without it"
        yield f"{target} {words}", ratio(during, before), times, None, 1.5

    data, size = (median("holes", "durable", name) for name in ("data_mb", "size"))
    most = None if size is None else 2 * HOLES * size / 1e6 + 64
    yield f"durable data above {HOLES:,} messages that are not acknowledged, MB", data, number, None, most

    idle = (
        ("10,000 idle topics: peak resident memory, MB", median("idle", "durable", "server_rss_peak_mb"), 200),
        ("10,000 idle topics: resident memory after a restart, MB", median("restart", "durable", "server_rss_mb"), 200),
        ("10,000 idle topics: CPU, % of a core", median("idle", "durable", "server_cpu_percent"), 1),
        ("10,000 idle topics: restart, s", median("restart", "durable", "restart_seconds"), 2),
    )
    for name, value, most in idle:
        yield name, value, lambda value: number(value, 2), None, most
    many, few = (median(f"shared-rate-{topics}", "durable", cpu) for topics in (10000, 10))
    yield "10,000 topics sharing one rate: server CPU, of 10 topics'", ratio(many, few), times, None, 2.0


def acking_readers(figures, measure, target):
    """How many subscriptions get and acknowledge every message."""
    silent = figures.median(measure, target, "silent")
    if silent is None:
        silent = 1 if measure == "fan-out-silent" else 0
    return (figures.median(measure, target, "subscriptions") or 10) - silent


def print_targets(figures):
    for name, value, written, least, most in goals(figures):
        if value is None:
            continue
        reached = value >= least if least is not None else value <= most
        needed = written(least) if least is not None else f"at most {written(most)}"
        print(f"{'reached' if reached else 'MISSED ':8} {name}: {written(value)} ({needed})")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        figures = Figures([json.loads(line) for line in file if line.strip()])
    print("Medians of the rounds that are not void. CPU is per message; peak memory is the highest of all rounds.\n")
    print_table(HEADINGS, rows(figures))
    if figures.floors:
        print("\nBare writers, one after the other; latency of one commit.\n")
        print_table(("floor", "batch", "batches/commit", "rate", "K msg/s", "ms p50 / p99"), floor_rows(figures))
    print("\nTo reach\n")
    print_targets(figures)


if __name__ == "__main__":
    main()
