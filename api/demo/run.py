"""Starts the demonstration: an embedded PostgreSQL cluster in the data folder, its schema and data, and the server.

    postgresql/     the embedded database
    secrets.json    MARKONCE_SECRET and the clients' secrets, which survive restarts
    demo.env        the environment variables of this run, for `python -m api client …`
    demo.json       the URL, the clients and some ids; it exists only while the server runs

Only the owner may read the files (mode 0600).
"""

import asyncio
import fcntl
import json
import os
import shlex
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any

from rich.console import Console
from rich.markup import escape

from api.demo import school_data
from api.demo.files import DemoSecrets, write_private
from api.demo.sandbox_clock import SandboxError, read_ahead
from api.demo.seed import PURPOSES, prepare_data
from api.server import supervisor
from domain.declare.errors import DomainError
from domain.store import embedded
from domain.store.database import Connection
from domain.store.embedded_urls import is_running
from domain.store.migrate import migrate
from domain.store.programs import EmbeddedError
from domain.store.single_transaction import run_single_transaction
from domain.support import clock

HOST = "127.0.0.1"
_ADVICE = "choose another with --port (make demo PORT=…)"
PRINT_ACCESS = (
    "python3 -c 'import json, sys; body = sys.stdin.read();"
    """ print(json.loads(body)["access_token"] if "access_token" in body else sys.exit(body))'"""
)
"""Reads a token response. What holds no token, such as an error, is printed as it came. The documentation has the same line."""


def run(port: int, data_dir: Path, console: Console) -> None:
    """Serves the demonstration on 127.0.0.1 until a signal stops it, then exits. Prints an error and exits with 1 where
    it cannot start."""
    data_dir = data_dir.absolute()
    try:
        with (
            _claim_folder(data_dir),
            supervisor.listen(HOST, port, advice=_ADVICE) as listener,
            _run_cluster(data_dir, console) as cluster,
        ):
            ahead = read_ahead(os.environ)
            clock.move_clock(ahead)
            demo_secrets = DemoSecrets.read(data_dir / "secrets.json")
            console.print("Preparing the schema …")
            environment = make_environment(cluster, demo_secrets, port)
            migrate(environment["DATABASE_OWNER_URL"])
            facts = asyncio.run(
                prepare_data(environment["DATABASE_URL"], environment["DATABASE_OPERATOR_URL"], demo_secrets, console)
            )
            asyncio.run(run_single_transaction(environment["DATABASE_OWNER_URL"], gather_statistics))
            lines = (f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
            write_private(data_dir / "demo.env", "".join(lines))
            os.environ.update(environment)
            facts = {"baseUrl": environment["MARKONCE_BASE_URL"], **facts}
            with _announce_when_ready(port, data_dir / "demo.json", facts, console):
                status = supervisor.supervise(
                    listener,
                    has_database=lambda: is_running(cluster.data_dir),
                    program=("api.demo.worker", str(ahead.total_seconds()), str(data_dir)),
                )
    except KeyboardInterrupt:  # a signal during the start; later the supervisor handles signals
        return
    except (DomainError, EmbeddedError, SandboxError, OSError) as problem:
        console.print("[red]error:[/red]", escape(getattr(problem, "detail", None) or str(problem)), soft_wrap=True)
        raise SystemExit(1) from problem
    raise SystemExit(status)


async def gather_statistics(connection: Connection) -> None:
    """Tells the planner of the rows that were just written, as PostgreSQL itself does within a minute. Until then figures take seconds."""
    await connection.execute("ANALYZE")


def stop_with_parent(parent: int) -> None:
    """Stops the demonstration when the process that started it, such as `make`, has ended."""

    def watch_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.25)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch_parent, daemon=True).start()


@contextmanager
def _claim_folder(data_dir: Path) -> Iterator[None]:
    """Locks the data folder, which is created if necessary, and deletes the demo.json of an earlier run, for which a
    program may be waiting."""
    try:
        data_dir.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
        descriptor = os.open(data_dir, os.O_RDONLY)
    except OSError as problem:
        raise OSError(f"The data folder {data_dir} cannot be used: {problem.strerror}.") from problem
    with ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            supervisor.retry(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as problem:
            raise OSError(f"A demonstration is running in {data_dir} already: stop it, or choose another folder.") from problem
        (data_dir / "demo.json").unlink(missing_ok=True)
        stack.callback((data_dir / "demo.json").unlink, missing_ok=True)
        yield


@contextmanager
def _run_cluster(data_dir: Path, console: Console) -> Iterator[embedded.Cluster]:
    """Runs the cluster, and stops it at the end in any case. SIGTERM and SIGHUP are handled like Ctrl-C."""
    supervisor.stop_as_by_interrupt()
    console.print("Starting the embedded PostgreSQL …")
    cluster = embedded.start(data_dir / "postgresql")
    try:
        yield cluster
    finally:
        for number in supervisor.STOPPING:
            signal.signal(number, signal.SIG_IGN)
        console.print("Stopping …")
        cluster.stop()


def make_environment(cluster: embedded.Cluster, demo_secrets: DemoSecrets, port: int) -> dict[str, str]:
    """Returns the environment variables that `serve` and the operator's commands need."""
    roles = {"DATABASE_URL": "markonce_app", "DATABASE_OWNER_URL": "markonce_owner", "DATABASE_OPERATOR_URL": "markonce_operator"}
    return {
        **{name: cluster.url(embedded.DATABASE, role) for name, role in roles.items()},
        "MARKONCE_SECRET": demo_secrets.markonce,
        "MARKONCE_BASE_URL": f"http://{HOST}:{port}",
        "MARKONCE_LOG": "warnings",
        "MARKONCE_DRAIN_SECONDS": "0",
    }


@contextmanager
def _announce_when_ready(port: int, path: Path, facts: dict[str, Any], console: Console) -> Iterator[None]:
    """Announces the server in a thread, as soon as it answers. The thread has ended when the block has."""
    ended = Event()
    announcing = Thread(target=announce, args=(port, path, facts, console, ended))
    announcing.start()
    try:
        yield
    finally:
        ended.set()
        announcing.join()


def announce(port: int, path: Path, facts: dict[str, Any], console: Console, ended: Event) -> None:
    """Waits until the server answers, prints its clients and some requests, and writes demo.json."""
    while not _is_ready(port):
        if ended.wait(0.05):
            return
    console.print(f"\n[bold]{escape(school_data.TRUST)}[/bold] is served at {facts['baseUrl']}. Ctrl-C stops it.\n", soft_wrap=True)
    console.out(f"{'client':<20}{'id':<38}{'secret':<45}what it is for", highlight=False)
    for name, client in facts["clients"].items():
        console.out(f"{name:<20}{client['clientId']:<38}{client['clientSecret']:<45}{PURPOSES[name]}", highlight=False)
    for title, command in make_requests(facts):
        console.print(f"\n[bold]{title}[/bold]")
        console.out(command, highlight=False)
    console.out(f"\nThe same for programs: {path}", highlight=False)
    write_private(path, json.dumps(facts, indent=2) + "\n")


def _is_ready(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def make_requests(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """Returns the three requests of the README, to paste into a shell one after the other: a title and a command each."""
    url, client = facts["baseUrl"], facts["clients"]["partner-app"]
    token = f"curl -sS -u '{client['clientId']}:{client['clientSecret']}' -d grant_type=client_credentials {url}/oauth/token"
    bearer = 'curl -sS -H "Authorization: Bearer $TOKEN"'
    query = "yearGroup=6&first=3&include=school,judgements.window"
    fields = "id,forename,school.name,judgements.grade,judgements.subjectCode,judgements.window.code"
    graph = '{ pupils(first: 3, where: {yearGroup: "6"}) { nodes { id forename school { name } judgements { nodes { grade subjectCode window { code } } } } } }'
    body = json.dumps({"query": graph})
    return [
        ("A token, valid for ten minutes", f"TOKEN=$({token} | {PRINT_ACCESS})"),
        ("REST", f"{bearer} '{url}/v1/pupils?{query}&fields={fields}'"),
        ("GraphQL", f"{bearer} -H 'Content-Type: application/json' {url}/graphql -d '{body}'"),
    ]
