"""The examples of the README that need nothing but curl."""

import json
import pathlib
import re
import subprocess

README = pathlib.Path(__file__).parents[3] / "README.md"


def examples() -> list[str]:
    """The command lines that begin with curl."""
    return re.findall(r"^    (curl .*)$", README.read_text(encoding="utf-8"), re.MULTILINE)


def test_curl_does_what_the_readme_says(bench):
    topic, subscription = "projects/demo/topics/letters", "projects/demo/subscriptions/desk"
    bench.publisher.create_topic(request={"name": topic})
    bench.subscriber.create_subscription(request={"name": subscription, "topic": topic})
    answers = []
    for example in examples():
        command = example.replace("localhost:8085", bench.server.host).replace("curl ", "curl -sS --fail-with-body ", 1)
        ran = subprocess.run(["bash", "-c", command], text=True, capture_output=True)
        assert ran.returncode == 0, f"{example}: {ran.stdout} {ran.stderr}"
        answers.append(json.loads(ran.stdout))
    created, published, pulled = answers
    assert created == {"name": "projects/demo/topics/parcels"}
    (received,) = pulled["receivedMessages"]
    assert received["message"]["data"] == "aGVsbG8="
    assert [received["message"]["messageId"]] == published["messageIds"]
