"""Starts a server with a client and runs each suite of others against it."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from domain.engine import embedded
from domain.engine.migrate import migrate
from tests.conftest import ROOT, fresh_database, serving

SUITES = ("graphql_http.js",)


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        cluster = embedded.start(Path(folder) / "data", durable=False)
        try:
            migrate(cluster.url(embedded.DATABASE, "markonce_owner"))
            with serving(fresh_database(cluster)) as server:
                environment = {**os.environ, "BASE_URL": server.base_url, "TOKEN": server.token("operator")}
                codes = [
                    subprocess.run(["node", suite], cwd=ROOT / "build" / "conformance", env=environment, check=False).returncode
                    for suite in SUITES
                ]
        finally:
            cluster.stop()
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
