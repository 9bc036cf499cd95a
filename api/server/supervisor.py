"""Opens the server's socket, and sees to it that a worker answers there: one that dies is started again, and none outlives its supervisor.

The socket is the supervisor's, so that connections wait while a worker is started again. The worker is a program of its own, which inherits the
socket and one end of a lifeline, a pair of sockets. The other end is the supervisor's alone: when the supervisor is gone, whatever ended it and at
whatever moment, the worker reads the end of the stream and ends. Process ids tell nothing, since they are given out again.
"""

import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

BACKLOG = 2_048
SEND_BUFFER = 262_144
"""Bytes of each response that the kernel keeps for a client to read; without a limit it keeps megabytes."""
STOP_SECONDS = 12.0
"""After which a worker that was told to stop is killed. Its requests have less time (worker.py)."""
SETTLED_SECONDS = 5.0
"""A worker that has served for so long was of use; one that ends before has failed."""
MAX_FAILED_STARTS = 3
"""So many failures in a row end the server where the worker does not even begin to serve."""
MAX_FAILURES = 10
"""So many failures in a row end the server in any case."""
PAUSE_SECONDS = 1.0
"""Between a failure and the next start."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

T = TypeVar("T")


def retry(take: Callable[[], T]) -> T:
    """Tries for two seconds: what a killed server leaves needs a moment to let go of its port and its folder."""
    deadline = time.monotonic() + 2
    while True:
        try:
            return take()
        except OSError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)


def listen(host: str, port: int) -> socket.socket:
    """The server's socket. Raises OSError, saying so, where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def take() -> socket.socket:
        listener = socket.socket(family)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)  # a connection's is its listener's
            listener.bind((host, port))
            listener.listen(BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener

    try:
        return retry(take)
    except (OSError, OverflowError) as problem:
        if isinstance(problem, OverflowError):
            reason = "is not a port number"
        else:
            reason = "is in use" if problem.errno == errno.EADDRINUSE else f"cannot be had ({problem.strerror})"
        raise OSError(f"Port {port} on {host} {reason}: choose another with --port (make demo PORT=…).") from problem


def supervise(listener: socket.socket) -> int:
    """Serves until told to stop by SIGINT, SIGTERM or SIGHUP; the exit status. The main thread must call it."""
    with listener, _signals() as signals:
        return _Supervisor(listener, signals).run()


@dataclass
class _Signals:
    """Signals as they come: each makes `descriptor` readable."""

    descriptor: int
    stops: int = 0


@contextmanager
def _signals() -> Iterator[_Signals]:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    found = _Signals(reading)

    def note(number: int, frame: object) -> None:
        found.stops += number != signal.SIGCHLD

    heard = [each for each in STOPPING if signal.getsignal(each) is not signal.SIG_IGN or each is signal.SIGTERM]  # nohup
    before = {each: signal.signal(each, note) for each in (*heard, signal.SIGCHLD)}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    try:
        yield found
    finally:
        signal.set_wakeup_fd(wakeup)
        for each, handler in before.items():
            signal.signal(each, handler)
        os.close(reading)
        os.close(writing)


class _Supervisor:
    def __init__(self, listener: socket.socket, signals: _Signals) -> None:
        self._listener, self._signals = listener, signals
        self._lifeline, self._workers_end = socket.socketpair()
        self._serves_since: float | None = None

    def run(self) -> int:
        failed_starts = failures = 0
        while not self._signals.stops:
            worker = self._start()
            while worker.poll() is None and not self._signals.stops:
                self._wait()
            if self._signals.stops:
                self._stop(worker)
                break
            settled = self._serves_since is not None and time.monotonic() - self._serves_since > SETTLED_SECONDS
            failed_starts = 0 if self._serves_since is not None else failed_starts + 1
            failures = 0 if settled else failures + 1
            how = f"was ended by signal {-worker.returncode}" if worker.returncode < 0 else f"ended with status {worker.returncode}"
            if failed_starts >= MAX_FAILED_STARTS or failures >= MAX_FAILURES:
                _say(f"The worker {how}, the last of {failures} that failed one after another: the server stops.")
                return 1
            _say(f"The worker {how}. It is started again.")
            self._wait(PAUSE_SECONDS if failures else 0)
        return 0

    def _start(self) -> "subprocess.Popen[bytes]":
        self._serves_since = None
        inherited = (self._listener.fileno(), self._workers_end.fileno())
        command = [sys.executable, "-m", "api.server.worker", *map(str, inherited)]
        # a group of its own: Ctrl-C is for us, who stop the worker; not a session of its own, with which Linux would share out the processors anew
        return subprocess.Popen(command, pass_fds=inherited, stdin=subprocess.DEVNULL, process_group=0)

    def _wait(self, seconds: float | None = None) -> None:
        """Waits for a signal (that a child has ended is one), or for the worker to say that it serves."""
        readable = select.select([self._signals.descriptor, self._lifeline.fileno()], [], [], seconds)[0]
        if self._signals.descriptor in readable:
            os.read(self._signals.descriptor, 512)
        if self._lifeline.fileno() in readable:
            self._lifeline.recv(1)
            self._serves_since = time.monotonic()

    def _stop(self, worker: "subprocess.Popen[bytes]") -> None:
        """Lets the worker end its requests, unless it is told to stop once more."""
        worker.terminate()
        deadline, told = time.monotonic() + STOP_SECONDS, self._signals.stops
        while worker.poll() is None:
            if time.monotonic() > deadline or self._signals.stops > told:
                worker.kill()
            self._wait(max(0.0, deadline - time.monotonic()) or 0.1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
