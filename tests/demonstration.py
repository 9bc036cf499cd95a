"""A demonstration as a person starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from api.demo.names import POOLS
from tests.conftest import ROOT
from tests.privacy import told

PATIENCE = 180
"""Seconds; a start takes about ten on a quiet machine."""


@contextmanager
def demonstration(port: int, folder: Path) -> Iterator[tuple[dict[str, Any], Path]]:
    """`python -m api demo` until the block ends: what demo.json says, and the file with what was printed."""
    printed, logged = folder.parent / "printed.txt", folder.parent / "logged.txt"
    with printed.open("w") as out, logged.open("w") as err:
        command = [sys.executable, "-m", "api", "demo", "--port", str(port), "--data-dir", str(folder)]
        process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err, start_new_session=True)
    facts = folder / "demo.json"
    try:
        deadline = time.monotonic() + PATIENCE
        while not facts.exists():
            assert process.poll() is None, printed.read_text() + logged.read_text()
            assert time.monotonic() < deadline, "not ready: " + printed.read_text() + logged.read_text()[-2000:]
            time.sleep(0.1)
        yield json.loads(facts.read_text()), printed
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0, logged.read_text()[-2000:]
        assert not facts.exists()
        assert told(logged.read_text(), {name for pool in POOLS for name in (*pool.girls, *pool.boys, *pool.surnames)}) == set()
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
