"""Brings the demonstration up: a cluster in the data folder, schema, clients, the trust's data through the real commands, the server.

    postgresql/     the embedded database
    secrets.json    MARKONCE_SECRET and the clients' secrets, kept over restarts
    demo.env        the environment of this run, for `python -m api client …`
    demo.json       where and as whom to ask; it exists only while the server does

All files are their owner's alone (mode 0600). Seeding repeats no work: every step is a command that changes nothing the second time, and
the other clients are made after it, so that a start that was cut short is taken up by the next one and a whole one left alone.
"""

import asyncio
import fcntl
import json
import os
import secrets
import shlex
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Event, Thread
from typing import Any, TypeVar
from uuid import UUID

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from api.demo import assessment_data, school_data
from api.server import supervisor
from domain import COMMANDS, RESOURCES
from domain.access.caller import Caller
from domain.clients import clients, grants, signing_keys
from domain.declare.errors import DomainError
from domain.read import prepared
from domain.read.cursors import Cursors
from domain.read.query import FieldValue, ListQuery, PageRows
from domain.roster.gias import parse
from domain.roster.gias.apply import apply_gias
from domain.store import embedded
from domain.store.database import Connection, Database, in_one_transaction
from domain.store.migrate import migrate
from domain.store.programs import EmbeddedError
from domain.write.run import perform

HOST = "127.0.0.1"
T = TypeVar("T")

_TRUST = f"trust:{school_data.GROUP_UID}="
_REGISTER = "trusts:read,schools:read,"
VENDOR, MANAGER, OPERATOR = "mis-vendor", "trust-data-manager", "operator"
GRANTS = {
    VENDOR: [
        f"{_TRUST}{_REGISTER}pupils:read,pupils:name,pupils:upn,pupils:birth,pupils:sensitive,pupils:write,groups:read,groups:write,windows:read,schemes:read,"
        "judgements:read,judgements:write,targets:read,targets:write"
    ],
    MANAGER: [
        f"{_TRUST}{_REGISTER}schools:write,pupils:read,groups:read,windows:read,windows:write,schemes:read,schemes:write,judgements:read,aggregates:read,aggregates:internal"
    ],
    "partner-app": [
        f"{_TRUST}{_REGISTER}pupils:read,pupils:name,groups:read,windows:read,schemes:read,judgements:read,judgements:write,targets:read"
    ],
    "trust-portal": [f"{_TRUST}{_REGISTER}windows:read,aggregates:read"],
    OPERATOR: ["installation=all", "schools=trusts:read,schools:read"],
}
"""What the trust has approved, in the order in which the clients are made. The operator keeps the installation and reaches no pupil."""


def run(port: int, data_dir: Path, console: Console) -> None:
    """Serves the demonstration on 127.0.0.1 until it is told to stop, then exits. Exits with 1, saying why, when it cannot be brought up."""
    data_dir = data_dir.absolute()
    try:
        with _claim_folder(data_dir), supervisor.listen(HOST, port) as listener, _run_cluster(data_dir, console) as cluster:
            kept = Secrets.read(data_dir / "secrets.json")
            console.print("Preparing the schema …")
            environment = make_environment(cluster, kept, port)
            migrate(environment["DATABASE_OWNER_URL"])
            facts = asyncio.run(prepare_data(environment["DATABASE_URL"], environment["DATABASE_OPERATOR_URL"], kept, console))
            lines = (f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
            write_private(data_dir / "demo.env", "".join(lines))
            os.environ.update(environment)
            facts = {"baseUrl": environment["MARKONCE_BASE_URL"], **facts}
            with _announce_when_ready(port, data_dir / "demo.json", facts, console):
                status = supervisor.supervise(listener)
    except KeyboardInterrupt:  # told to stop while it was coming up; later the server sees to that
        return
    except (DomainError, EmbeddedError, OSError) as problem:
        console.print("[red]error:[/red]", escape(getattr(problem, "detail", None) or str(problem)), soft_wrap=True)
        raise SystemExit(1) from problem
    raise SystemExit(status)


def end_with(parent: int) -> None:
    """Stops the demonstration when the process that started it has ended, as `make` wants it: nobody could stop it otherwise."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.25)
        os.kill(os.getpid(), signal.SIGTERM)

    Thread(target=watch, daemon=True).start()


# What is held while it runs.


@contextmanager
def _claim_folder(data_dir: Path) -> Iterator[None]:
    """Holds the data folder, made if need be, and takes demo.json away: whoever waits for it must not read that of an earlier run."""
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(data_dir, os.O_RDONLY)
    except OSError as problem:
        raise OSError(f"The data folder {data_dir} cannot be used: {problem.strerror}.") from problem
    with ExitStack() as held:
        held.callback(os.close, descriptor)
        try:
            supervisor.retry(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError as problem:
            raise OSError(f"A demonstration is running in {data_dir} already: stop it, or choose another folder.") from problem
        (data_dir / "demo.json").unlink(missing_ok=True)
        held.callback((data_dir / "demo.json").unlink, missing_ok=True)
        yield


@contextmanager
def _run_cluster(data_dir: Path, console: Console) -> Iterator[embedded.Cluster]:
    """The cluster, stopped at the end whatever the end is; SIGTERM and SIGHUP end things as Ctrl-C does."""

    for each in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(each) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(each, lambda *_: signal.raise_signal(signal.SIGINT))  # asyncio knows how to end for this one
    console.print("Starting the embedded PostgreSQL …")
    cluster = embedded.start(data_dir / "postgresql")
    try:
        yield cluster
    finally:
        for again in supervisor.STOPPING:
            signal.signal(again, signal.SIG_IGN)
        console.print("Stopping …")
        cluster.stop()


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read: whole, or not at all."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(fresh, "w", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


@dataclass
class Secrets:
    """MARKONCE_SECRET, and of each client its id and secret, of which the database has only the hash."""

    path: Path
    markonce: str
    clients: dict[str, tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> "Secrets":
        """Those of the folder, made now if there are none."""
        if path.exists():
            found = json.loads(path.read_text())
            return cls(path, found["markonceSecret"], {name: (pair[0], pair[1]) for name, pair in found["clients"].items()})
        made = cls(path, secrets.token_urlsafe(32), {})
        made.write()
        return made

    def write(self) -> None:
        write_private(self.path, json.dumps({"markonceSecret": self.markonce, "clients": self.clients}))


def make_environment(cluster: embedded.Cluster, kept: Secrets, port: int) -> dict[str, str]:
    """What `serve` and the operator's commands need."""
    roles = {"DATABASE_URL": "markonce_app", "DATABASE_OWNER_URL": "markonce_owner", "DATABASE_OPERATOR_URL": "markonce_operator"}
    return {
        **{name: cluster.url(embedded.DATABASE, role) for name, role in roles.items()},
        "MARKONCE_SECRET": kept.markonce,
        "MARKONCE_BASE_URL": f"http://{HOST}:{port}",
        "MARKONCE_LOG": "warnings",
    }


# What is in the database.


async def prepare_data(app_url: str, operator_url: str, kept: Secrets, console: Console) -> dict[str, Any]:
    """Clients, grants and data, made where they are missing. Answers what demo.json says of them."""

    async def begin(connection: Connection) -> tuple[bool, Caller, Caller]:
        await signing_keys.ensure_signing_key(connection, kept.markonce.encode())
        whole = await clients.find_client(connection, OPERATOR) is not None
        if not whole:
            await apply_gias(connection, parse.read(school_data.make_register()), school_data.AS_OF)
        await register_clients(connection, kept, [VENDOR, MANAGER])
        ids = [UUID(kept.clients[name][0]) for name in (VENDOR, MANAGER)]
        vendor, manager = [Caller(client_id, frozenset(await list_granted(connection, client_id))) for client_id in ids]
        return whole, vendor, manager

    async def finish(connection: Connection) -> dict[str, list[str]]:
        await register_clients(connection, kept, list(GRANTS))
        return {name: await list_granted(connection, UUID(client_id)) for name, (client_id, _) in kept.clients.items()}

    whole, vendor, manager = await in_one_transaction(operator_url, begin)
    kept.write()
    database = await Database.open(app_url, size=1)
    try:
        cursors = Cursors(kept.markonce.encode())
        if not whole:
            with Progress(console=console) as progress:
                await Seed(database, cursors, vendor, manager, progress).all()
        scopes = await in_one_transaction(operator_url, finish)
        kept.write()
        shown = {
            plural: await list_rows(database, cursors, manager, plural, names)
            for plural, names in (("trusts", ("id", "name")), ("schools", ("id", "urn", "name")), ("windows", ("id", "code")))
        }
    finally:
        await database.close()
    return {
        "clients": {
            name: {"clientId": kept.clients[name][0], "clientSecret": kept.clients[name][1], "scopes": scopes[name]}
            for name in GRANTS
        },
        **shown,
    }


async def register_clients(connection: Connection, kept: Secrets, names: list[str]) -> None:
    """Makes the clients that are missing, with their grants, and gives a new secret to those whose secret was lost."""
    for name in names:
        known = await clients.find_client(connection, name)
        if known is None:
            client_id, secret = await clients.create_client(connection, name, "client_secret")
            assert secret is not None
            for grant in GRANTS[name]:
                asked = grants.parse_grant(grant)
                await grants.approve_grant(connection, client_id, asked, purpose="demonstration", approved_by=school_data.TRUST)
        elif kept.clients.get(name, ("", ""))[0] != str(known.id):
            client_id, secret = known.id, await clients.rotate_secret(connection, known.id)
        else:
            continue
        kept.clients[name] = (str(client_id), secret)


async def list_granted(connection: Connection, client_id: UUID) -> list[str]:
    """The scopes of the client's grants in force."""
    in_force = [grant for grant in await grants.list_grants(connection, client_id) if grant.revoked_at is None]
    return sorted({scope for grant in in_force for scope in grant.scopes})


async def list_rows(
    database: Database, cursors: Cursors, caller: Caller, plural: str, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """These fields of every row of a resource within the caller's reach."""
    (resource,) = (resource for resource in RESOURCES.values() if resource.plural == plural)
    row = PageRows(tuple((name, FieldValue(resource.fields[name])) for name in names))
    (body,) = await prepared.read([ListQuery(resource, (("data", row),), first=1000)], database, caller.client_id, cursors)
    rows: list[dict[str, Any]] = json.loads(body or b"")["data"]
    return rows


@dataclass
class Seed:
    """The trust's data, written through the commands an MIS vendor and a trust would use, row-level security in force."""

    database: Database
    cursors: Cursors
    vendor: Caller
    manager: Caller
    progress: Progress

    async def all(self) -> None:
        """Everything, in an order that each command's rules allow."""
        everybody = school_data.make_pupils()
        await self._each("Rolls", self.vendor, "record_pupils", school_data.make_rolls(everybody))
        await self._each("Classes", self.vendor, "record_groups", school_data.make_classes(everybody))
        schemes = await self._missing("schemes", assessment_data.make_schemes())
        await self._each("Schemes", self.manager, "create_scheme", schemes)
        await self._each("Windows", self.manager, "create_window", await self._missing("windows", assessment_data.make_windows()))
        await self._turn("planned", "open_window", {window.code for window in assessment_data.WINDOWS})
        judgements = assessment_data.make_judgements(everybody, datetime.now(UTC))
        await self._each("Judgements", self.vendor, "record_judgements", judgements)
        await self._each("Targets", self.vendor, "record_targets", assessment_data.make_targets(everybody))
        await self._turn("open", "close_window", {window.code for window in assessment_data.WINDOWS if window.closed})

    async def _each(self, what: str, caller: Caller, command: str, bodies: list[dict[str, Any]]) -> None:
        chosen = COMMANDS[command]
        for body in self.progress.track(bodies, description=f"{what:<12}") if bodies else ():
            await perform(self.database, chosen, caller, chosen.read(body))

    async def _missing(self, plural: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Those whose code is not there yet."""
        known = {row["code"] for row in await list_rows(self.database, self.cursors, self.manager, plural, ("code",))}
        return [body for body in bodies if body["code"] not in known]

    async def _turn(self, state: str, command: str, codes: set[str]) -> None:
        """The command for these windows, where they are in this state."""
        windows = await list_rows(self.database, self.cursors, self.manager, "windows", ("id", "code", "state"))
        due = [{"id": window["id"]} for window in windows if window["state"] == state and window["code"] in codes]
        await self._each("Opening" if state == "planned" else "Closing", self.manager, command, due)


# What is said when it is ready.


@contextmanager
def _announce_when_ready(port: int, path: Path, facts: dict[str, Any], console: Console) -> Iterator[None]:
    """Announces the server once it answers; nothing is printed or written after the block."""
    ended = Event()
    announcing = Thread(target=announce, args=(port, path, facts, console, ended))
    announcing.start()
    try:
        yield
    finally:
        ended.set()
        announcing.join()


def announce(port: int, path: Path, facts: dict[str, Any], console: Console, ended: Event) -> None:
    """Waits until the server answers, prints what to ask it, and writes demo.json."""
    while not _is_ready(port):
        if ended.wait(0.05):
            return
    console.print(f"\n[bold]{escape(school_data.TRUST)}[/bold] is served at {facts['baseUrl']}. Ctrl-C stops it.\n", soft_wrap=True)
    for name, client in facts["clients"].items():
        console.out(f"{name:<20}{client['clientId']}  {client['clientSecret']}", highlight=False)
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
    """Three requests to paste into a shell one after the other: each a title and a line."""
    url, app = facts["baseUrl"], facts["clients"]["partner-app"]
    token = f"curl -s -u '{app['clientId']}:{app['clientSecret']}' -d grant_type=client_credentials {url}/oauth/token"
    bearer = 'curl -s -H "Authorization: Bearer $TOKEN"'
    graph = (
        '{ schools(first: 3) { nodes { name groups(where: {kind: ["class"]}, first: 2) { nodes { name pupils(first: 2) { nodes { forename surname'
        " latestJudgements { nodes { subjectCode grade againstTarget carriedFrom } } } } } } } } }"
    )
    body = json.dumps({"query": graph})
    return [
        ("A token, good for ten minutes", f"""TOKEN=$({token} | sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/')"""),
        ("REST", f"{bearer} '{url}/v1/pupils?yearGroup=4&first=3&fields=id,forename,surname,yearGroup,school.name&include=school'"),
        ("GraphQL", f"{bearer} -H 'Content-Type: application/json' -d '{body}' {url}/graphql"),
    ]
