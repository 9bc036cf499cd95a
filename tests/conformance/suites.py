"""Runs each suite against a demonstration of its own, or against the committed contracts, and says how it went, a line each.

A journey is the developer's first hour in one client: a token, my schools, the pupils of a year with their judgements and targets, a judgement
refused, one posted, and that one read again. `tests/conformance/run relay gql` runs those suites only.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT

BUILD = ROOT / "build" / "conformance"
OPENAPI = "../../openapi/openapi.json"
PATIENCE = 300  # seconds in which the demonstration comes up
PYTHON = "python/bin/python"


def npx(*words: str) -> list[str]:
    return ["npx", "--no-install", *words]


def typescript(journey: str) -> list[list[str]]:
    """Checks a journey with all that was generated for it, strictly, and runs it."""
    options = (
        "--noEmit --strict --noUncheckedIndexedAccess --skipLibCheck --target es2022 --module esnext --moduleResolution bundler"
    )
    return [npx("tsc", *options.split(), "--types", "node", journey), npx("tsx", journey)]


SUITES: dict[str, list[list[str]]] = {
    "openapi-spec-validator": [[sys.executable, "-m", "openapi_spec_validator", OPENAPI]],
    "redocly lint": [npx("redocly", "lint", "--extends", "recommended", OPENAPI)],
    "spectral, with OWASP": [npx("spectral", "lint", "--ruleset", "spectral.yaml", OPENAPI)],
    "graphql-http": typescript("graphql_http.ts"),
    "openapi-fetch": [
        npx("openapi-typescript", OPENAPI, "--output", "generated/openapi-typescript.ts"),
        *typescript("openapi_fetch.ts"),
    ],
    "hey-api": [
        npx("openapi-ts", "--input", OPENAPI, "--output", "generated/hey-api", "--client", "@hey-api/client-fetch"),
        *typescript("hey_api.ts"),
    ],
    "openapi-python-client": [
        [
            "openapi-python-client",
            "generate",
            "--path",
            OPENAPI,
            "--output-path",
            "generated/python",
            "--config",
            "python_client.yaml",
            "--fail-on-warning",
        ],
        [PYTHON, "python_client.py"],
    ],
    "graphql-codegen": [npx("graphql-codegen", "--config", "codegen.json"), *typescript("graphql_codegen.ts")],
    "relay": [npx("relay-compiler", "relay.config.json"), *typescript("relay.ts")],
    "gql": [[PYTHON, "gql_client.py"]],
}
"""Of each suite the commands, run one after the other in build/conformance."""


@contextmanager
def demonstration() -> Iterator[dict[str, Any]]:
    """A demonstration on a free port, and what it says of itself."""
    with tempfile.TemporaryDirectory(prefix="markonce-conformance-") as folder:
        told, log = Path(folder) / "demo.json", Path(folder) / "log"
        command = [sys.executable, "-m", "api", "demo", "--port", str(free_port()), "--data-dir", folder]
        with log.open("wb") as output:
            process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + PATIENCE
            while not told.exists():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield json.loads(told.read_text())
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def run(commands: list[list[str]], environment: dict[str, str]) -> tuple[bool, str]:
    """Whether all commands went well, and what the last one said."""
    for command in commands:
        done = subprocess.run(
            command, cwd=BUILD, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode:
            return False, f"{' '.join(command)}\n{done.stdout}"
    return True, next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "")


def main(names: list[str]) -> int:
    if unknown := set(names) - set(SUITES):
        print(f"No such suite: {', '.join(unknown)}. There are {', '.join(SUITES)}.")
        return 2
    print(f"{'demonstration':<24}", end="", flush=True)
    with demonstration() as facts:
        print("serving")
        client = facts["clients"]["partner-app"]
        environment = {
            **os.environ,
            "PATH": f"{BUILD / 'python' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(BUILD / "generated" / "python"),
            "BASE_URL": facts["baseUrl"],
            "CLIENT_ID": client["clientId"],
            "CLIENT_SECRET": client["clientSecret"],
        }
        failed = 0
        for name, commands in SUITES.items():
            if names and name not in names:
                continue
            print(f"{name:<24}", end="", flush=True)
            begun = time.monotonic()
            passed, said = run(commands, environment)
            failed += not passed
            print(f"{'passed' if passed else 'FAILED'} {time.monotonic() - begun:4.0f} s  {said}", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
