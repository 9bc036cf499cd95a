"""Opens the server's socket and supervises the worker processes: a worker that dies is restarted, and no worker outlives
its supervisor.

The supervisor owns the socket, so connections wait while a worker is restarted; of several workers whichever is free
accepts one. A worker is a program of its own, which inherits the socket and one end of a lifeline, a pair of sockets. Only
the supervisor has the other end. When the supervisor has ended, for whatever reason, the worker reads the end of the
stream and ends. Process ids would not do, since the system reuses them.
"""

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from api.server.log_lines import write_line
from api.watch.board import create_memory

if TYPE_CHECKING:
    from api.server.operations import Watched

BACKLOG = 2_048
SEND_BUFFER = 262_144
"""Bytes of each response that the kernel buffers for a client. Without a limit it buffers megabytes."""
DRAIN_SECONDS = 2.0
"""Time between a planned stop (SIGTERM, SIGHUP) and the end of the listening, unless MARKONCE_DRAIN_SECONDS says
otherwise. Meanwhile requests are answered, and /health/ready is 503 `draining`."""
STOP_SECONDS = 12.0
"""Time after which a stopping worker is killed. Its requests have less time (serving.py)."""
SETTLED_SECONDS = 5.0
"""A worker that ends after serving for a shorter time has failed."""
MAX_FAILED_STARTS = 3
"""Failures in a row, all before the worker served, that end the server."""
MAX_FAILURES = 10
"""Failures in a row that end the server in any case."""
LOOK_SECONDS = 1.0
"""Time between two looks at the embedded database."""
PAUSE_SECONDS = 1.0
"""Time between a failure and the next start."""
WORKER = ("api.server.worker",)
"""The module of the worker program, and its first arguments."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


def retry(attempt: Callable[[], T]) -> T:
    """Retries for two seconds, in which the system releases the port and the lock of a killed server. Raises the last
    OSError."""
    deadline = time.monotonic() + 2
    while True:
        try:
            return attempt()
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def listen(host: str, port: int, *, advice: str = "choose another with --port") -> socket.socket:
    """Returns a listening socket. Raises OSError, with advice, where the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def open_listener() -> socket.socket:
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # connections inherit it
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    try:
        return retry(open_listener)
    except (OSError, OverflowError) as problem:
        if isinstance(problem, OverflowError):
            reason = "is not a port number"
        else:
            reason = "is in use" if problem.errno == errno.EADDRINUSE else f"cannot be had ({problem.strerror})"
        raise OSError(f"Port {port} on {host} {reason}: {advice}.") from problem


def stop_as_by_interrupt() -> None:
    """Lets SIGTERM and SIGHUP stop this process as SIGINT does, for which alone asyncio stops cleanly. SIGHUP stays ignored where
    nohup ignores it. SIGINT does not: a script's shell ignores it for what it starts in the background, which `kill` must end."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))


def supervise(
    listener: socket.socket,
    operations: socket.socket | None = None,
    *,
    has_database: Callable[[], bool] | None = None,
    program: Sequence[str] = WORKER,
) -> int:
    """Serves until SIGINT, SIGTERM or SIGHUP, and returns the exit status. `operations` is the socket of the operations
    port, and `has_database` says whether the embedded database runs: where it has ended the server ends with status 1, for a
    service manager to start both again. `program` is the worker's. Only the main thread may call it."""
    with listener, _catch_signals() as signals:
        watched = None
        if operations is not None:  # whose modules and figures take memory
            from api.server.operations import Watched, read_base_url, serve_operations

            watched = Watched(listener.getsockname(), read_base_url())
            serve_operations(operations, watched)
        return _Supervisor(
            signals, [_Worker(listener, watched, program) for _ in range(read_workers())], watched, has_database
        ).run()


def read_drain_seconds() -> float:
    """Returns the seconds between a planned stop and the end of the listening. The setting was checked by `serve`."""
    text = os.environ.get("MARKONCE_DRAIN_SECONDS", "")
    return float(text) if text.isascii() and text.isdigit() else DRAIN_SECONDS


def read_workers() -> int:
    """Returns the number of worker processes. The setting was checked by `serve`."""
    text = os.environ.get("MARKONCE_WORKERS", "")
    return int(text) if text.isascii() and text.isdigit() else 1


@dataclass
class _Signals:
    """The signals received. Each makes `descriptor` readable; `stops` counts those that stop the server, and `last` is the
    last of them."""

    descriptor: int
    stops: int = 0
    last: int = 0


@contextmanager
def _catch_signals() -> Iterator[_Signals]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signals = _Signals(reading)

    def count_stop(number: int, frame: object) -> None:
        if number != signal.SIGCHLD:
            signals.stops, signals.last = signals.stops + 1, number

    # nohup ignores SIGHUP
    stopping = [number for number in STOPPING if signal.getsignal(number) is not signal.SIG_IGN or number is signal.SIGTERM]
    previous = {number: signal.signal(number, count_stop) for number in (*stopping, signal.SIGCHLD)}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield signals
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in previous.items():
            signal.signal(number, handler)
        os.close(reading)
        os.close(writing)


class _Worker:
    """One of the worker processes, which is started again where it ends. `process` is None between two."""

    def __init__(self, listener: socket.socket, watched: "Watched | None", program: Sequence[str]) -> None:
        self._listener, self._watched, self._program = listener, watched, program
        self._board: int | None = None
        self.lifeline, self._workers_end = socket.socketpair()
        self.process: subprocess.Popen[bytes] | None = None
        self.serves_since: float | None = None
        self.starts_at = 0.0
        """Not before this moment is it started, by time.monotonic."""
        self._failed_starts = self._failures = 0

    def start(self) -> None:
        """Starts the process."""
        self.serves_since = None
        inherited = [self._listener.fileno(), self._workers_end.fileno()]
        if self._watched is not None:
            self._board = create_memory()
            inherited.append(self._board)
            self._watched.totals.add(self._board)
            self._watched.starts += 1
        command = [sys.executable, "-m", *self._program, *map(str, inherited)]
        # The worker has its own process group, since Ctrl-C is for the supervisor, which then stops the worker. It has no
        # session of its own, which Linux would schedule separately.
        self.process = subprocess.Popen(command, pass_fds=inherited, stdin=subprocess.DEVNULL, process_group=0)

    def note_serving(self) -> None:
        """Reads the worker's message that it serves."""
        self.lifeline.recv(1)
        self.serves_since = time.monotonic()

    def note_end(self) -> bool:
        """Notes that the process has ended, which nobody had planned. Returns whether it may be started again."""
        assert self.process is not None
        worker, self.process = self.process, None
        self.end_board()
        settled = self.serves_since is not None and time.monotonic() - self.serves_since > SETTLED_SECONDS
        self._failed_starts = 0 if self.serves_since is not None else self._failed_starts + 1
        self._failures = 0 if settled else self._failures + 1
        self.serves_since = None
        ending = f"was ended by signal {-worker.returncode}" if worker.returncode < 0 else f"ended with status {worker.returncode}"
        facts = {"worker": worker.pid, "failures": self._failures}
        if self._failed_starts >= MAX_FAILED_STARTS or self._failures >= MAX_FAILURES:
            text = f"The worker {ending}, the last of {self._failures} that failed one after another: the server stops."
            write_line("error", text, **facts)
            return False
        write_line("error", f"The worker {ending}. It is started again.", **facts)
        if self._watched is not None:
            self._watched.failures += 1
        self.starts_at = time.monotonic() + (PAUSE_SECONDS if self._failures else 0)
        return True

    def end_board(self) -> None:
        """Keeps what the worker, which has ended, has counted."""
        if self._watched is not None and self._board is not None:
            self._watched.totals.retire(self._board)
            self._board = None


class _Supervisor:
    def __init__(
        self,
        signals: _Signals,
        workers: Sequence[_Worker],
        watched: "Watched | None",
        has_database: Callable[[], bool] | None,
    ) -> None:
        self._signals, self._workers, self._watched, self._has_database = signals, workers, watched, has_database

    def run(self) -> int:
        """Starts workers until a signal stops the server, too many fail or the embedded database ends. Returns the exit status."""
        while not self._signals.stops:
            for worker in self._workers:
                if worker.process is None and worker.starts_at <= time.monotonic():
                    worker.start()
            waits = [max(each.starts_at - time.monotonic(), 0.0) for each in self._workers if each.process is None]
            waits += [] if self._has_database is None else [LOOK_SECONDS]
            self._wait(min(waits, default=None))
            if self._signals.stops:
                break
            if self._has_database is not None and not self._has_database():
                write_line("error", "The embedded database has ended: the server stops. The next start recovers the database.")
                return self._kill()
            ended = [worker for worker in self._workers if worker.process is not None and worker.process.poll() is not None]
            may_start = [worker.note_end() for worker in ended]
            if not all(may_start):
                return self._kill()
            self._note_serving()
        self._stop()
        write_line("info", "server stopped")
        return 0

    def _kill(self) -> int:
        for worker in self._workers:
            if worker.process is not None:
                worker.process.kill()
                worker.process.wait()
            worker.end_board()
        return 1

    def _wait(self, seconds: float | None = None) -> None:
        """Waits for a signal, such as SIGCHLD, or for a worker's message that it serves."""
        lifelines = {worker.lifeline.fileno(): worker for worker in self._workers}
        readable = select.select([self._signals.descriptor, *lifelines], [], [], seconds)[0]
        for descriptor in readable:
            if descriptor == self._signals.descriptor:
                os.read(descriptor, 512)
            else:
                lifelines[descriptor].note_serving()
        self._note_serving()

    def _note_serving(self) -> None:
        if self._watched is not None:
            self._watched.is_serving = any(worker.serves_since is not None for worker in self._workers)

    def _stop(self) -> None:
        """Stops the workers. They may end their requests, until STOP_SECONDS have passed or a second signal arrives.

        A planned stop first lets the proxies in front know: for DRAIN_SECONDS requests are answered as before. Ctrl-C is
        somebody's who waits.
        """
        write_line("info", "server stopping", signal=signal.Signals(self._signals.last).name)
        if self._watched is not None:
            self._watched.is_draining = True
        running = [worker.process for worker in self._workers if worker.process is not None]
        is_serving = any(worker.serves_since is not None for worker in self._workers)
        if is_serving and self._signals.last != signal.SIGINT and (seconds := read_drain_seconds()):
            for worker in self._workers:
                if worker.process is not None and worker.serves_since is not None:
                    worker.process.send_signal(signal.SIGUSR1)
            until, stops = time.monotonic() + seconds, self._signals.stops
            while (
                any(each.poll() is None for each in running)
                and self._signals.stops == stops
                and (left := until - time.monotonic()) > 0
            ):
                self._wait(left)
        for each in running:
            each.terminate()
        deadline, stops = time.monotonic() + STOP_SECONDS, self._signals.stops
        while any(each.poll() is None for each in running):
            if time.monotonic() > deadline or self._signals.stops > stops:
                for each in running:
                    each.kill()
            self._wait(max(0.0, deadline - time.monotonic()) or 0.1)
        for worker in self._workers:
            worker.end_board()
