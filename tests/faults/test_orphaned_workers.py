"""Whatever ends a server or a demonstration, and at whatever moment, nothing is left that holds the port; a worker that dies is started again.

`make attack` kills the supervisor at more moments while its worker starts, and sends every signal.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.faults.processes import Marked, answers, marked, wait_until
from tests.fixtures.server import Server, free_port
from tests.fixtures.settings import ROOT
from tests.fixtures.sizes import choose_size

KILLS = choose_size(1, 5)
STARTING, SERVING = "as its worker starts", "while it serves"
SIGNALS = [
    (signal.SIGTERM, SERVING),
    (signal.SIGINT, STARTING),
    (signal.SIGHUP, SERVING),
    (signal.SIGTERM, STARTING),
    (signal.SIGINT, SERVING),
    (signal.SIGHUP, STARTING),
]
ENDS = 20.0
"""Seconds for a worker to notice; it takes some milliseconds on a quiet machine."""


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def wait_for(running: Marked, moment: str, port: int) -> None:
    wait_until(lambda: running.workers, "a worker")
    if moment == SERVING:
        wait_until(lambda: answers(port), "the server")


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_worker_ends_when_its_supervisor_is_killed_as_it_starts(server: Server, tmp_path: Path, kill: int) -> None:
    port = free_port()
    with marked(["serve", "--port", str(port)], server.environment, tmp_path / "log") as running:
        wait_for(running, STARTING, port)
        time.sleep(kill * 0.8 / KILLS)  # it takes a second or so to start
        running.signal(signal.SIGKILL)
        running.process.wait()
        wait_until(lambda: not running.pids and is_free(port), "the end of the worker", ENDS)


def test_a_worker_ends_when_its_supervisor_is_killed_while_it_serves(server: Server, tmp_path: Path) -> None:
    port = free_port()
    with marked(["serve", "--port", str(port)], server.environment, tmp_path / "log") as running:
        wait_for(running, SERVING, port)
        running.signal(signal.SIGKILL)
        running.process.wait()
        wait_until(lambda: not running.pids and is_free(port), "the end of the worker", ENDS)


@pytest.mark.parametrize(("number", "moment"), SIGNALS[: choose_size(3, 6)])
def test_a_signal_stops_the_server(server: Server, tmp_path: Path, number: int, moment: str) -> None:
    port = free_port()
    with marked(["serve", "--port", str(port)], server.environment, tmp_path / "log") as running:
        wait_for(running, moment, port)
        running.signal(number)
        assert running.process.wait(60) == 0, running.said
        assert not running.pids
        assert is_free(port)
        assert "Traceback" not in running.said


def test_a_worker_that_dies_is_started_again_and_connections_wait_for_it(server: Server, tmp_path: Path) -> None:
    """By a server under nohup, which the end of its terminal does not stop either."""
    port, before = free_port(), signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with marked(["serve", "--port", str(port)], server.environment, tmp_path / "log") as running:
            signal.signal(signal.SIGHUP, before)
            wait_for(running, SERVING, port)
            running.signal(signal.SIGHUP)
            (worker,) = running.workers
            os.kill(worker, signal.SIGKILL)
            assert httpx2.get(f"http://127.0.0.1:{port}/health/ready", timeout=60).status_code == 200
            assert running.workers
            assert worker not in running.workers
            assert "The worker was ended by signal 9. It is started again." in running.said
            running.signal(signal.SIGTERM)
            assert running.process.wait(60) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_worker_that_cannot_start_is_reported_and_not_tried_for_ever(server: Server, tmp_path: Path) -> None:
    unreachable = {**server.environment, "DATABASE_URL": f"postgresql://nobody@127.0.0.1:{free_port()}/none"}
    with (tmp_path / "log").open("wb") as log, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        command = [sys.executable, "-m", "api.server", str(listener.fileno())]
        done = subprocess.run(command, cwd=ROOT, env=unreachable, stderr=log, close_fds=False, timeout=60, check=False)
    said = (tmp_path / "log").read_text()
    assert done.returncode == 1
    assert "error: " in said
    assert "Traceback" not in said
    last = json.loads(said.splitlines()[-1])
    assert last["level"] == "error"
    assert last["event"].startswith("The worker ended with status 1, the last of 3 that failed one after another")


# The demonstration: its PostgreSQL may outlive it, and is taken over by the next.


def is_making(folder: Path) -> bool:
    return (folder / "postgresql" / "postgresql.new").exists()


def is_migrating(folder: Path) -> bool:
    return (folder / "secrets.json").exists()


def demonstrate(folder: Path, port: int) -> Marked:
    command = [sys.executable, "-m", "api", "demo", "--port", str(port), "--data-dir", str(folder)]
    return Marked(command, os.environ, folder.with_suffix(".log"))


def test_a_demonstration_killed_at_any_moment_leaves_nothing_in_the_way_of_the_next(tmp_path: Path) -> None:
    folder, port = tmp_path / "data", free_port()
    moments = {
        "as its database is made": lambda running: is_making(folder),
        "as its schema is made": lambda running: is_migrating(folder),
        "as its worker starts": lambda running: running.workers,
        "while it serves": lambda running: (folder / "demo.json").exists(),
    }
    for moment, has_come in moments.items():
        running = demonstrate(folder, port)
        try:
            wait_until(lambda: has_come(running) or running.process.poll() is not None, moment, 180)  # noqa: B023
            assert running.process.poll() is None, running.said
            running.signal(signal.SIGKILL)
            running.process.wait()
            wait_until(lambda: not running.pids and is_free(port), f"the end of what was killed {moment}", ENDS)  # noqa: B023
        finally:
            running.kill_all()
    last = demonstrate(folder, port)
    try:
        wait_until(lambda: answers(port) or last.process.poll() is not None, "the last", 180)
        assert last.process.poll() is None, last.said
        last.signal(signal.SIGHUP)
        assert last.process.wait(60) == 0, last.said
        assert not last.pids
        assert not (folder / "demo.json").exists()
        assert not is_held(folder / "postgresql" / "server.lock"), "PostgreSQL was not stopped"
    finally:
        last.kill_all()


def is_held(lock: Path) -> bool:
    with lock.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_a_demonstration_ends_with_the_make_that_started_it(tmp_path: Path) -> None:
    folder, port = tmp_path / "data", free_port()
    bin_, ready = Path(sys.executable).parent, ".venv/.ready"
    command = ["make", "-o", ready, "demo", f"BIN={bin_}", f"READY={ready}", f"PORT={port}", f"DATA_DIR={folder}"]
    making = Marked(command, os.environ, tmp_path / "log")
    try:
        wait_until(lambda: (folder / "postgresql" / "server.log").exists() or making.process.poll() is not None, "PostgreSQL", 180)
        assert making.process.poll() is None, making.said
        making.signal(signal.SIGKILL)
        making.process.wait()
        wait_until(lambda: not making.pids and is_free(port), "the end of the demonstration", 60)
        wait_until(lambda: not is_held(folder / "postgresql" / "server.lock"), "the end of PostgreSQL", 60)
    finally:
        making.kill_all()
