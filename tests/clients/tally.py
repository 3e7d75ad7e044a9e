"""Reads what the client suites report.

tally.py go COUNTS             prints `go test -json` from stdin as it comes, and writes "passed failed" to COUNTS
tally.py sum JUNIT_XML COUNTS  prints `clients: N passed, N failed` over both suites; a suite without a report failed
"""

import collections
import json
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


def total(junit_path: str, counts_path: str) -> int:
    passed, failed = 0, 0
    try:
        suites = list(ElementTree.parse(junit_path).getroot().iter("testsuite"))
        tests = sum(int(suite.get("tests")) for suite in suites)
        bad = sum(int(suite.get(kind)) for suite in suites for kind in ("errors", "failures", "skipped"))
        passed, failed = tests - bad, bad or int(tests == 0)
    except (OSError, ElementTree.ParseError):
        failed = 1
    try:
        with open(counts_path, encoding="utf-8") as counts:
            go_passed, go_failed = map(int, counts.read().split())
    except (OSError, ValueError):
        go_passed, go_failed = 0, 1
    failed += go_failed
    print(f"clients: {passed + go_passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(go(sys.argv[2]) if sys.argv[1] == "go" else total(sys.argv[2], sys.argv[3]))
