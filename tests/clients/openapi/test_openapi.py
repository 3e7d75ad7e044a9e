"""Every call as /openapi.json describes it, with generated requests: right ones, and wrong ones."""

import os
import pathlib
import subprocess
import sys
import urllib.request

from server import Server

EXAMPLES = 200 if os.environ.get("PACKETBOAT_LONG") == "1" else 20
CHECKS = (
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "the_server_fails_only_where_it_says_so",
    "EveryCallThatIsThereWorks",
)
# Twice the wait of a pull that finds nothing.
WAIT_SECONDS = 0.2


def test_every_answer_is_one_that_the_description_announces(tmp_path):
    server = Server(tmp_path)
    server.start()
    try:
        url = f"http://{server.host}"
        ran = subprocess.run(
            [
                pathlib.Path(sys.executable).with_name("st"), "run", f"{url}/openapi.json",
                "--phases", "examples,coverage,fuzzing", "--max-examples", str(EXAMPLES), "--checks", ",".join(CHECKS),
                "--header", f"X-Server-Timeout: {WAIT_SECONDS}", "--request-timeout", "10", "--workers", "1",
                "--warnings", "off", "--continue-on-failure",
            ],
            cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parent), "SCHEMATHESIS_HOOKS": "hooks"},
        )
        assert ran.returncode == 0, ran.stdout[-20_000:]
        print(ran.stdout[-2_000:])
        with urllib.request.urlopen(f"{url}/healthz") as health:
            assert health.status == 200
    finally:
        server.kill()
