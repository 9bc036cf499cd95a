"""The command line: python -m api. Each command says what it did."""

import asyncio
import json
import os
import secrets
import sys
from collections.abc import Awaitable, Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from api import contracts as committed
from api.settings import Settings, SettingsError
from domain import CLEANUP
from domain.clients import clients as registered
from domain.clients import grants, signing_keys
from domain.declare.errors import DatabaseError, DomainError
from domain.roster.gias import parse
from domain.roster.gias.apply import apply_gias
from domain.store.cleanup import clean_up as remove_expired
from domain.store.database import Database, in_one_transaction
from domain.store.migrate import migrate as run_migrations
from domain.store.schema import require_schema, take_turn

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Markonce: mark once, read many."
)
client = typer.Typer(no_args_is_help=True, help="The clients that may ask for tokens, and what they are granted.")
imports = typer.Typer(no_args_is_help=True, help="Bring in published files.")
app.add_typer(client, name="client")
app.add_typer(imports, name="import")
console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=160)
T = TypeVar("T")


def operator_url() -> str:
    """DATABASE_OPERATOR_URL, else the owner's."""
    url = os.environ.get("DATABASE_OPERATOR_URL") or os.environ.get("DATABASE_OWNER_URL")
    if not url:
        return str(
            fail(
                "Set DATABASE_OPERATOR_URL (or DATABASE_OWNER_URL): this command works as the operator. For the demonstration it stands in DIR/demo.env."
            )
        )
    return url


def fail(message: str, to: Console = console) -> Any:
    to.print(f"[red]error:[/red] {message}", soft_wrap=True)
    raise typer.Exit(1)


def as_operator(work: Callable[[Any], Awaitable[T]]) -> T:
    """Runs `work` in one transaction of the operator's, on a schema that fits this program."""

    async def check_and_work(connection: Any) -> T:
        await require_schema(connection)
        return await work(connection)

    try:
        return asyncio.run(in_one_transaction(operator_url(), check_and_work))
    except (DomainError, ValueError) as problem:
        return fail(explain_problem(problem))  # type: ignore[no-any-return]


def explain_problem(problem: Exception) -> str:
    """What is wrong, with every issue."""
    issues = "".join(f"\n  {issue.at} {issue.message}" for issue in getattr(problem, "issues", ()))
    return (getattr(problem, "detail", None) or str(problem)) + issues


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 8000, host: Annotated[str, typer.Option()] = "127.0.0.1"
) -> None:
    """Serve the API. The environment says where the database is; nothing starts without it."""
    from api.server.supervisor import listen

    try:
        settings = Settings.from_environment()
        asyncio.run(_reachable(settings))
        listener = listen(host, port)
    except (SettingsError, DomainError, OSError) as problem:
        fail(str(problem))
    console.print(f"Serving {settings.base_url} on {host}:{port}. Ctrl-C stops it.")
    sys.stdout.flush()
    listener.set_inheritable(True)
    os.execv(sys.executable, [sys.executable, "-m", "api.server", str(listener.fileno())])  # noqa: S606 (our own interpreter)


async def _reachable(settings: Settings) -> None:
    """Raises DatabaseError where this program cannot serve this database: a schema of another time, no key, or one that another secret protects."""
    database = await Database.open(settings.database_url, size=1)
    try:
        async with database.register() as connection:
            await require_schema(connection)
            await signing_keys.check_signing_key(connection, settings.secret)
    finally:
        await database.close()


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="Where the database and demo.json are kept.")] = Path(".markonce/demo"),
    parent: Annotated[int, typer.Option(hidden=True, help="Stop when this process, which started it, has ended.")] = 0,
) -> None:
    """Bring up an embedded PostgreSQL with a fictional trust, and serve it."""
    from api.demo.run import end_with, run

    if parent:
        end_with(parent)
    run(port, data_dir, console)


@app.command()
def migrate() -> None:
    """Bring the database of DATABASE_OWNER_URL to the newest schema, while it is served. Of two at once one waits for the other."""
    url = os.environ.get("DATABASE_OWNER_URL") or fail("Set DATABASE_OWNER_URL: migrations run as the owner of the database.")
    try:
        run_migrations(url, lambda line: console.print(escape(line), soft_wrap=True))
    except DatabaseError as problem:
        fail(escape(problem.detail))


@app.command()
def init(name: Annotated[str, typer.Option(help="The operator client's name.")] = "operator") -> None:
    """Prepare a real installation: schema, signing key and the operator's client. Repeating it changes nothing."""
    migrate()
    secret = os.environ.get("MARKONCE_SECRET", "")
    if len(secret) < 32:
        fail(
            f"Set MARKONCE_SECRET to 32 random bytes or more, and keep it: it protects the keys. One made now: {secrets.token_urlsafe(32)}"
        )

    async def work(connection: Any) -> None:
        await take_turn(connection, "init")
        await signing_keys.ensure_signing_key(connection, secret.encode())
        if any(known.name == name for known in await registered.list_clients(connection)):
            console.print(f"The client {name} exists; nothing was changed.")
            return
        client_id, client_secret = await registered.create_client(connection, name, "client_secret")
        await grants.approve_grant(
            connection, client_id, grants.parse_grant("installation=all"), purpose="operation", approved_by="init"
        )
        format_value(client_id, client_secret)

    as_operator(work)


@app.command()
def tidy() -> None:
    """Remove what has expired. `serve` does so every hour by itself."""

    async def work() -> dict[str, int]:
        database = await Database.open(operator_url(), size=1, serving=False)
        try:
            async with database.register() as connection:
                await require_schema(connection)
            return await remove_expired(database, CLEANUP)
        finally:
            await database.close()

    try:
        removed = asyncio.run(work())
    except DomainError as problem:
        fail(problem.detail)
    for kind, count in removed.items():
        console.print(f"{count:>12,} {kind}")


def format_count(n: int, noun: str) -> str:
    return f"{n:,} {noun if n == 1 else noun + 's'}"


def format_value(client_id: object, client_secret: str | None) -> None:
    console.print(f"client_id      {client_id}")
    if client_secret is not None:
        console.print(f"client_secret  {client_secret}", soft_wrap=True)
        console.print("The secret is shown this once; only its hash is kept.")


@imports.command("gias")
def import_gias(
    files: Annotated[
        list[Path],
        typer.Argument(help="Establishments, groups and group links, as the DfE publishes them.", exists=True, dir_okay=False),
    ],
    as_of: Annotated[str, typer.Option(help="The day of the extract, YYYY-MM-DD.")],
) -> None:
    """Import Get Information About Schools. The same files twice change nothing."""
    try:
        day = date.fromisoformat(as_of)
    except ValueError:
        fail("--as-of is a date such as 2022-04-20.")
    with Progress(console=console) as progress:
        reading = progress.add_task("Reading", total=len(files))
        contents = []
        for file in files:
            contents.append((file.name, file.read_bytes()))
            progress.advance(reading)
        extract = parse.read(contents)
        writing = progress.add_task("Writing", total=1)

        def on_progress(what: str, done: int, total: int) -> None:
            progress.update(writing, description=f"Writing {what}", completed=done, total=total)

        report = as_operator(lambda connection: apply_gias(connection, extract, day, on_progress))
    table = Table("", "received", "created", "updated", "unchanged", "ignored, by reason")
    for what in ("trusts", "schools", "memberships", "succession"):
        counts = getattr(report, what)
        ignored = "\n".join(f"{count:,} {reason}" for reason, count in counts.ignored.items())
        table.add_row(what, *(f"{getattr(counts, name):,}" for name in ("received", "created", "updated", "unchanged")), ignored)
    console.print(table)
    console.print(
        f"{format_count(report.ended, 'membership')} ended, {format_count(report.moved, 'school')} moved to another tenant,"
        f" {format_count(report.unread, 'row')} unread."
    )
    for needed in report.transfer_needed:
        console.print(
            f"transfer needed: URN {needed.urn} holds pupil data under {needed.from_tenant_id}; {needed.to_tenant_id} should control it"
        )
    for issue in report.issues:
        console.print(
            f"{issue.severity}: {issue.file or ''}:{issue.line or ''} {issue.column} {issue.code}: {issue.message}", soft_wrap=True
        )
    if any(issue.severity == "error" for issue in report.issues):
        raise typer.Exit(2)


@client.command("create")
def client_create(
    name: Annotated[str, typer.Argument(help="A name of its own.")],
    grant: Annotated[
        list[str],
        typer.Option(help="TARGET=SCOPES: school:URN, trust:UID, schools, trusts or installation; scopes with commas, or all."),
    ],
    purpose: Annotated[str, typer.Option(help="What the data is for, as the school approved it.")] = "as agreed",
    approved_by: Annotated[str, typer.Option(help="Who approved it.")] = "operator",
    jwks: Annotated[
        Path | None, typer.Option(help="A JWKS file with the client's public keys: it signs assertions and has no secret.")
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Where a browser app of the client is served from, such as https://app.example; repeat it."),
    ] = None,
) -> None:
    """Register a client and write its grants."""

    async def work(connection: Any) -> None:
        parsed = [grants.parse_grant(text) for text in grant]
        keys = json.loads(jwks.read_text()) if jwks else None
        method: registered.AuthMethod = "private_key_jwt" if jwks else "client_secret"
        client_id, secret = await registered.create_client(connection, name, method, keys, origin or ())
        for each in parsed:
            await grants.approve_grant(connection, client_id, each, purpose=purpose, approved_by=approved_by)
        format_value(client_id, secret)
        schools = await connection.fetchval(
            "SELECT count(DISTINCT school_id) FROM reach WHERE client_id = $1 AND school_id <> tenant_id", client_id
        )
        console.print(f"{name} has {format_count(len(parsed), 'grant')} and reaches {format_count(schools, 'school')}.")

    as_operator(work)


@client.command("list")
def client_list() -> None:
    """The clients, what each is granted, by whom and for what."""

    async def work(connection: Any) -> list[tuple[registered.Client, list[grants.Grant]]]:
        return [(known, await grants.list_grants(connection, known.id)) for known in await registered.list_clients(connection)]

    for known, held in as_operator(work):
        ended = f"  revoked {known.revoked_at:%Y-%m-%d}" if known.revoked_at else ""
        console.print(f"{known.id}  {known.name}  {known.auth_method}  made {known.created_at:%Y-%m-%d}{ended}", soft_wrap=True)
        if known.origins:
            console.print(f"    browser apps at {' '.join(known.origins)}", soft_wrap=True)
        for grant in held:
            state = f"  revoked {grant.revoked_at:%Y-%m-%d}" if grant.revoked_at else ""
            approval = f"approved by {grant.approved_by}: {grant.purpose}{state}"
            console.print(f"    {grant.target}={','.join(grant.scopes)}  {approval}", soft_wrap=True)


@client.command("origins")
def client_origins(
    name: str,
    origins: Annotated[
        list[str] | None, typer.Argument(help="Such as https://app.example, in place of what was said before.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="It has no browser apps any more.")] = False,
) -> None:
    """Say where the browser apps of a client are served from; without origins, tell what is said."""

    async def work(connection: Any) -> None:
        known = await registered.find_client(connection, name) or fail(f"There is no client {name}.")
        said = list(known.origins) if not (origins or none) else origins or []
        if origins or none:
            await registered.set_origins(connection, known.id, said)
        console.print(f"{known.name} has browser apps at {' '.join(said)}." if said else f"{known.name} has no browser apps.")

    as_operator(work)


@client.command("rotate")
def client_rotate(name: str, overlap_hours: Annotated[int, typer.Option(help="How long the old secret still works.")] = 0) -> None:
    """Give a client a new secret."""
    from datetime import timedelta

    async def work(connection: Any) -> None:
        known = await registered.find_client(connection, name) or fail(f"There is no client {name}.")
        format_value(known.id, await registered.rotate_secret(connection, known.id, timedelta(hours=overlap_hours)))

    as_operator(work)


@client.command("revoke")
def client_revoke(name: str) -> None:
    """End a client: no new tokens, and its reach is gone at once."""

    async def work(connection: Any) -> None:
        known = await registered.find_client(connection, name) or fail(f"There is no client {name}.")
        await registered.revoke_client(connection, known.id)
        console.print(f"{name} is revoked.")

    as_operator(work)


@app.command()
def explain(
    request: Annotated[
        str, typer.Argument(help="A URL that begins with /, or a GraphQL document; - reads it from standard input.")
    ],
    as_client: Annotated[str, typer.Option("--client", help="Who asks, by id or name, with all that its grants give.")],
    variables: Annotated[str | None, typer.Option(help="The variables of a GraphQL document, as JSON.")] = None,
) -> None:
    """Tell how a request is read, the SQL it becomes, and what PostgreSQL does with it, as the app role. Nothing is written."""
    from api import explain as explaining
    from api.logs import configure_logging

    errors = Console(stderr=True, highlight=False)
    configure_logging(quiet=True)
    try:
        given = json.loads(variables or "{}")
        asked = sys.stdin.read() if request == "-" else request
        explained = asyncio.run(explaining.explain(Settings.from_environment(), as_client, asked.strip(), given))
    except json.JSONDecodeError:
        fail("--variables is not JSON.", errors)
    except (SettingsError, DomainError) as problem:
        fail(escape(explain_problem(problem)), errors)
    explaining.show(explained, console)


@app.command()
def contracts(
    check: Annotated[bool, typer.Option(help="Change nothing; fail where a committed contract differs.")] = False,
) -> None:
    """Write openapi.json and schema.graphql from the declarations."""
    changed = committed.write_all(check_only=check)
    for path in changed:
        console.print(f"{'differs' if check else 'written'}: {path}")
    if not changed:
        console.print("The committed contracts are up to date.")
    if check and changed:
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(app())
