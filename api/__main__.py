"""The command line interface: python -m api."""

import asyncio
import json
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from api.commands.clients import client_commands
from api.commands.console import console, fail, fail_with_faults, format_count, format_problem, read_operator_url, run_as_operator
from api.commands.embedded import is_embedded, replace_embedded_urls
from api.commands.grants import grant_commands
from api.commands.install import backup, init, migrate, restore, serve
from api.commands.ledger import reapply
from api.commands.rotate import rotate_commands
from api.settings import Settings, SettingsError
from domain import CLEANUP
from domain.declare.errors import DomainError
from domain.roster.gias import parse
from domain.roster.gias.apply import apply_gias
from domain.roster.gias.extract_day import record_extract_day
from domain.roster.gias.report import ImportReport
from domain.store.cleanup import clean_up as remove_expired
from domain.store.database import Connection, Database
from domain.store.schema import require_schema

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help="Markonce: mark once, read many."
)
import_commands = typer.Typer(no_args_is_help=True, help="Bring in published files.")
app.add_typer(client_commands, name="client")
app.add_typer(grant_commands, name="grant")
app.add_typer(import_commands, name="import")
app.add_typer(rotate_commands, name="rotate")


@app.callback()
def prepare(context: typer.Context) -> None:
    command = context.invoked_subcommand or ""
    if is_embedded() and command not in ("contracts", "demo") and "--help" not in sys.argv:
        context.obj = context.with_resource(replace_embedded_urls(command))


app.command()(serve)
app.command()(backup)
app.command()(restore)


@app.command()
def demo(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 8000,
    data_dir: Annotated[Path, typer.Option(help="The folder of the database and demo.json.")] = Path(".markonce/demo"),
    parent: Annotated[int, typer.Option(hidden=True, help="Stop when this process, which started it, has ended.")] = 0,
) -> None:
    """Bring up an embedded PostgreSQL with a fictional trust, and serve it."""
    from api.demo.run import run, stop_with_parent

    if parent:
        stop_with_parent(parent)
    run(port, data_dir, console)


app.command()(migrate)
app.command()(reapply)
app.command()(init)


@app.command()
def tidy() -> None:
    """Remove expired rows, as `serve` does every hour."""

    async def work() -> dict[str, int]:
        url, setting = read_operator_url()
        database = await Database.open(url, setting=setting, size=1, serving=False)
        try:
            async with database.without_caller() as connection:
                await require_schema(connection)
            return await remove_expired(database, CLEANUP)
        finally:
            await database.close()

    try:
        removed = asyncio.run(work())
    except DomainError as problem:
        fail(escape(problem.detail))
    for kind, count in removed.items():
        console.print(f"{count:>12,} {kind}")


def _find_other_days(files: list[Path], day: date) -> Iterator[str]:
    """Yields what is wrong with each file whose name has another day than `day`, as the downloads' names have theirs."""
    for file in files:
        for digits in re.findall(r"(?<!\d)20\d{6}(?!\d)", file.name):
            with suppress(ValueError):
                if (other := date.fromisoformat(digits)) != day:
                    yield f"{file.name} is of {other} by its name, and --as-of says {day}. Name the files of one day, and that day."


@import_commands.command("gias")
def import_gias(
    files: Annotated[
        list[Path],
        typer.Argument(help="Establishments, groups and group links, as the DfE publishes them.", exists=True, dir_okay=False),
    ],
    as_of: Annotated[str, typer.Option(help="The day of the extract, YYYY-MM-DD.")],
    force: Annotated[bool, typer.Option("--force", help="Import it although the last extract is newer.")] = False,
) -> None:
    """Import the register Get Information About Schools. Importing the same files again changes nothing."""
    try:
        day = date.fromisoformat(as_of)
    except ValueError:
        fail("--as-of is a date such as 2022-04-20.")
    fail_with_faults([*_find_other_days(files, day)])
    with Progress(console=console) as progress:
        reading = progress.add_task("Reading", total=len(files))
        contents = []
        for file in files:
            contents.append((file.name, file.read_bytes()))
            progress.advance(reading)
        extract = parse.parse_gias(contents)
        rows = {"establishments": extract.establishments, "groups": extract.groups, "group links": extract.links}
        writing = progress.add_task("Writing", total=1)

        def show_progress(table: str, done: int, total: int) -> None:
            progress.update(writing, description=f"Writing {table}", completed=done, total=total)

        async def work(connection: Connection) -> ImportReport:
            await record_extract_day(connection, day, force=force)
            return await apply_gias(connection, extract, day, show_progress)

        report = run_as_operator(work)
    table = Table("", "received", "created", "updated", "unchanged", "ignored, by reason")
    for register in ("trusts", "schools", "memberships", "succession"):
        counts = getattr(report, register)
        ignored = "\n".join(f"{count:,} {reason}" for reason, count in counts.ignored.items())
        table.add_row(
            register, *(f"{getattr(counts, name):,}" for name in ("received", "created", "updated", "unchanged")), ignored
        )
    console.print(table)
    console.print(
        f"{format_count(report.ended, 'membership')} ended, {format_count(report.moved, 'school')} moved to another tenant,"
        f" {format_count(report.unread, 'row')} unread."
    )
    if absent := [kind for kind, found in rows.items() if not found]:
        console.print(f"There was no file with rows of {', '.join(absent)}: what is known of them stays as it is.")
    for transfer in report.transfer_needed:
        console.print(
            f"transfer needed: URN {transfer.urn} has pupil data under {transfer.from_tenant_id};"
            f" {transfer.to_tenant_id} should control it"
        )
    for issue in report.issues:
        console.print(
            f"{issue.severity}: {issue.file or ''}:{issue.line or ''} {issue.column} {issue.code}: {issue.message}", soft_wrap=True
        )
    if any(issue.severity == "error" for issue in report.issues):
        raise typer.Exit(2)


@app.command()
def explain(
    request: Annotated[
        str, typer.Argument(help="A URL that begins with /, or a GraphQL document; - reads it from standard input.")
    ],
    as_client: Annotated[str, typer.Option("--client", help="The calling client, by id or name, with all scopes of its grants.")],
    variables: Annotated[str | None, typer.Option(help="The variables of a GraphQL document, as JSON.")] = None,
) -> None:
    """Show how a request is read, its SQL statements, and PostgreSQL's plans for them, as the app role. Nothing is
    written."""
    from api import explain as explanations
    from api.logs import configure_logging

    errors = Console(stderr=True, highlight=False)
    configure_logging(quiet=True)
    try:
        values = json.loads(variables or "{}")
        text = sys.stdin.read() if request == "-" else request
        explanation = asyncio.run(explanations.explain(Settings.from_environment(), as_client, text.strip(), values))
    except json.JSONDecodeError:
        fail("--variables is not JSON.", errors)
    except (SettingsError, DomainError) as problem:
        fail(escape(format_problem(problem)), errors)
    explanations.print_explanation(explanation, console)


@app.command()
def contracts(
    check: Annotated[bool, typer.Option(help="Change nothing; fail where a committed contract differs.")] = False,
) -> None:
    """Write openapi.json and schema.graphql from the declarations."""
    from api.contracts import write_contracts  # here, since it takes long, and serve does without

    changed = write_contracts(check_only=check)
    for path in changed:
        console.print(f"differs: {path}; run make contracts" if check else f"written: {path}")
    if not changed:
        console.print("The committed contracts are up to date.")
    if check and changed:
        raise typer.Exit(1)


if __name__ == "__main__":
    sys.exit(app())
