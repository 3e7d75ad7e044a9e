"""Reads what the client suites report.

tally.py go COUNTS             prints `go test -json` from stdin as it comes, and writes "passed failed" to COUNTS
tally.py cargo COUNTS          the same with what `cargo test` prints
tally.py sum REPORT...         prints `clients: N passed, N failed` over all reports, JUNIT_XML or COUNTS; one that is
                               missing or empty failed
"""

import collections
import json
import re
import sys
import xml.etree.ElementTree as ElementTree


def go(counts_path: str) -> int:
    passed, failed, outputs = 0, 0, collections.defaultdict(list)
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
                failed += action == "fail"
        elif action in ("fail", "build-fail"):
            package_failed = True
    if package_failed and not failed or not passed + failed:
        print("".join(outputs[None]), end="")
        failed += 1
    with open(counts_path, "w", encoding="utf-8") as counts:
        counts.write(f"{passed} {failed}")
    return 1 if failed else 0


def cargo(counts_path: str) -> int:
    passed, failed = 0, 0
    for line in sys.stdin:
        print(line, end="", flush=True)
        if result := re.match(r"test result: .* (\d+) passed; (\d+) failed;", line):
            passed, failed = passed + int(result[1]), failed + int(result[2])
    if not passed:  # not even built
        failed += 1
    with open(counts_path, "w", encoding="utf-8") as counts:
        counts.write(f"{passed} {failed}")
    return 1 if failed else 0


def total(reports: list[str]) -> int:
    passed, failed = 0, 0
    for report in reports:
        good, bad = (junit if report.endswith(".xml") else counted)(report)
        passed, failed = passed + good, failed + bad
    print(f"clients: {passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


def junit(path: str) -> tuple[int, int]:
    try:
        suites = list(ElementTree.parse(path).getroot().iter("testsuite"))
    except (OSError, ElementTree.ParseError):
        return 0, 1
    tests = sum(int(suite.get("tests")) for suite in suites)
    bad = sum(int(suite.get(kind)) for suite in suites for kind in ("errors", "failures", "skipped"))
    return tests - bad, bad or int(tests == 0)


def counted(path: str) -> tuple[int, int]:
    try:
        with open(path, encoding="utf-8") as counts:
            passed, failed = map(int, counts.read().split())
            return passed, failed
    except (OSError, ValueError):
        return 0, 1


if __name__ == "__main__":
    verb, *rest = sys.argv[1:]
    sys.exit(total(rest) if verb == "sum" else {"go": go, "cargo": cargo}[verb](*rest))
