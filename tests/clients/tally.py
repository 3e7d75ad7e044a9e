"""Reads what the suites report.

tally.py go COUNTS             prints `go test -json` from stdin as it comes, and writes how many tests passed to COUNTS,
                               and below it what failed, a name in each line
tally.py cargo COUNTS          the same with what `cargo test` prints
tally.py sum TITLE REPORT...   prints what failed in all reports, JUNIT_XML or COUNTS, and `TITLE: N passed, N failed`;
                               a report that is missing or empty failed
"""

import collections
import json
import pathlib
import re
import sys
import xml.etree.ElementTree as ElementTree


def go(counts_path: str) -> int:
    passed, failed, outputs = 0, [], collections.defaultdict(list)
    package_failed = False
    for line in sys.stdin:
        try:
            event = json.loads(line)
        except json.JSONDecodeError:  # the compiler's own words
            print(line, end="", flush=True)
            continue
        action, test = event.get("Action"), event.get("Test")
        if action in ("output", "build-output"):
            outputs[test].append(event["Output"])
        elif test and action in ("pass", "fail"):
            print(f"{action.upper()} {test} ({event['Elapsed']:.1f} s)", flush=True)
            if action == "fail":
                print("".join(outputs[test]), end="", flush=True)
            if "/" not in test:
                passed += action == "pass"
                failed += [test] if action == "fail" else []
        elif action in ("fail", "build-fail"):
            package_failed = True
    if package_failed and not failed or not passed and not failed:
        print("".join(outputs[None]), end="")
        failed.append("all of it")
    return write(counts_path, passed, failed)


def cargo(counts_path: str) -> int:
    passed, failed, failed_targets = 0, [], []
    for line in sys.stdin:
        print(line, end="", flush=True)
        if result := re.match(r"test result: .* (\d+) passed; ", line):
            passed += int(result[1])
        elif test := re.match(r"test (.+) \.\.\. FAILED", line):
            failed.append(test[1])
        elif target := re.match(r"error: .*, to rerun pass `(.+)`", line):
            failed_targets.append(target[1])
    if not passed and not failed:  # not even built
        failed = failed_targets or ["all of it"]
    # A target may end before it says which test failed.
    return write(counts_path, passed, failed or failed_targets)


def write(counts_path: str, passed: int, failed: list[str]) -> int:
    with open(counts_path, "w", encoding="utf-8") as counts:
        counts.write("\n".join([str(passed), *failed]))
    return 1 if failed else 0


def total(title: str, reports: list[str]) -> int:
    passed, failed = 0, []
    for report in reports:
        good, bad = (junit if report.endswith(".xml") else counted)(report)
        path = pathlib.Path(report)
        suite = path.parent.name if path.stem.startswith("TEST-") else path.stem
        passed, failed = passed + good, failed + [f"{suite}: {test}" for test in bad]
    for test in failed:
        print(f"failed: {test}")
    print(f"{title}: {passed} passed, {len(failed)} failed")
    return 1 if failed or not passed else 0


def junit(path: str) -> tuple[int, list[str]]:
    try:
        cases = list(ElementTree.parse(path).getroot().iter("testcase"))
    except (OSError, ElementTree.ParseError):
        return 0, ["no report"]
    # A skipped test has not passed.
    bad = ("error", "failure", "skipped")
    failed = [case.get("name") for case in cases if any(case.find(kind) is not None for kind in bad)]
    return len(cases) - len(failed), failed if cases else ["no tests"]


def counted(path: str) -> tuple[int, list[str]]:
    try:
        with open(path, encoding="utf-8") as counts:
            passed, *failed = counts.read().split("\n")
            return int(passed), failed
    except (OSError, ValueError):
        return 0, ["no report"]


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    sys.exit(total(rest[0], rest[1:]) if verb == "sum" else {"go": go, "cargo": cargo}[verb](*rest))
