"""The console of the commands, and their connection as the operator."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape

from api.server.log_lines import is_text, write_line
from api.setting_names import compare_names
from api.settings import SETTINGS, find_url_problems, read_secrets
from domain.declare.errors import DatabaseError, DomainError
from domain.store.ledger import Ledger
from domain.store.role_names import require_operator
from domain.store.schema import require_schema
from domain.store.single_transaction import run_single_transaction

console = Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=160)
T = TypeVar("T")


def fail(message: str, output: Console = console) -> NoReturn:
    """Prints an error and exits with status 1."""
    output.print(f"[red]error:[/red] {message}", soft_wrap=True)
    raise typer.Exit(1)


def fail_with_faults(faults: list[str]) -> None:
    """Prints every fault and exits with status 1. Does nothing where there is none."""
    if faults:
        fail(escape(faults[0] if len(faults) == 1 else "\n  ".join([f"{len(faults)} things are wrong:", *faults])))


def log_or_print(level: Literal["info", "warning"], sentence: str) -> None:
    """Says what `serve` does before it serves: as a line of its log or, where that is text, on the console."""
    if not is_text(sys.stdout.isatty()):
        return write_line(level, sentence)
    console.print(f"{'[yellow]warning:[/yellow] ' if level == 'warning' else ''}{escape(sentence)}", soft_wrap=True)


def warn_of_unknown_settings() -> None:
    """Warns of each variable that has the prefix of the settings and is none."""
    for warning in compare_names(os.environ, SETTINGS)[1]:
        log_or_print("warning", f"{warning}.")


def find_setting_faults(*urls: str) -> list[str]:
    """Returns what is wrong with the names of the settings, and with these database URLs."""
    return [*compare_names(os.environ, SETTINGS)[0], *find_url_problems(os.environ, *urls)]


def format_problem(problem: Exception) -> str:
    """Returns the detail of an error and each of its issues on a line."""
    issues = "".join(f"\n  {issue.at} {issue.message}" for issue in getattr(problem, "issues", ()))
    return (getattr(problem, "detail", None) or str(problem)) + issues


def format_issues(problem: Exception) -> str:
    """Returns an error for whoever typed a command: what is wrong, each on a line. Its place is said where it is within a file or a list."""
    issues, detail = getattr(problem, "issues", ()), getattr(problem, "detail", None) or str(problem)
    if not issues or not (detail.endswith("names its place.") or detail == issues[0].message):
        return format_problem(problem)
    lines = [f"{issue.at} {issue.message}" if issue.at.count("/") > 1 else str(issue.message) for issue in issues]
    return lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} things are wrong:", *lines])


def read_operator_url() -> tuple[str, str]:
    """Returns DATABASE_OPERATOR_URL or, without it, DATABASE_OWNER_URL, and the setting's name."""
    for setting in ("DATABASE_OPERATOR_URL", "DATABASE_OWNER_URL"):
        if url := os.environ.get(setting):
            fail_with_faults(find_setting_faults(setting))
            return url, setting
    fail(
        "Set DATABASE_OPERATOR_URL (or DATABASE_OWNER_URL): this command works as the operator."
        " It is in markonce.env (set -a; . ./markonce.env; set +a), or in the demo.env of the demonstration."
    )


def open_ledger() -> Ledger | None:
    """Returns the ledger of MARKONCE_LEDGER, which is made unless it is there; None where the setting is not set."""
    path, secrets = os.environ.get("MARKONCE_LEDGER"), read_secrets()
    if not path:
        return None
    if not secrets:
        fail("MARKONCE_SECRET is not set: it protects the ledger.")
    ledger = Ledger(Path(path).expanduser(), *secrets)
    try:
        is_torn = ledger.prepare()
    except DatabaseError as problem:
        fail(escape(problem.detail))
    if is_torn:
        console.print(
            f"[yellow]warning:[/yellow] The last record of {escape(path)} was cut off while it was written. It was removed: nobody"
            " was told that it was done.",
            soft_wrap=True,
        )
    return ledger


def run_as_operator(work: Callable[[Any], Awaitable[T]]) -> T:
    """Runs `work` in one transaction as the operator role. Exits with an error where the database's schema does not fit
    this program, or the URL names a role that is neither the operator nor the owner.

    `work` prints no success, since COMMIT may fail after it: a command prints what was done when this has returned."""

    async def check_and_work(connection: Any) -> T:
        await require_schema(connection)
        await require_operator(connection, setting)
        return await work(connection)

    url, setting = read_operator_url()
    try:
        return asyncio.run(run_single_transaction(url, check_and_work, setting, open_ledger()))
    except (DomainError, ValueError) as problem:
        fail(escape(format_issues(problem)))


def format_count(number: int, noun: str) -> str:
    return f"{number:,} {noun if number == 1 else noun + 's'}"


def write_credentials(client_id: object, client_secret: str | None, output: Path | None) -> None:
    """Writes a client's id, and its secret where it has one, into the file that `open_secret_file` has made. Called before
    COMMIT, so that no secret is lost where the disk is full. Raises ValueError where it cannot be written, or is another's by now."""
    if output is None:
        return
    secret = {} if client_secret is None else {"clientSecret": client_secret}
    try:
        with os.fdopen(os.open(output, os.O_WRONLY | os.O_NOFOLLOW), "w") as file:
            if os.fstat(file.fileno()).st_uid != os.geteuid():
                raise ValueError(f"{output} is another user's now: nothing was done. Name a file in a folder of yours.")
            file.write(json.dumps({"clientId": str(client_id), **secret}, indent=2) + "\n")
    except OSError as problem:
        raise ValueError(f"{output} cannot be written: {problem.strerror}. Nothing was done.") from None


def print_credentials(client_id: object, client_secret: str | None, output: Path | None = None) -> None:
    """Prints a client's id, and its secret where it has one, or the file in which both are."""
    console.print(f"client_id      {client_id}")
    if output is not None:
        console.print(f"The id and the secret are in {escape(str(output))}; only the secret's hash is stored.", soft_wrap=True)
    elif client_secret is not None:
        console.print(f"client_secret  {client_secret}", soft_wrap=True)
        console.print("The secret is shown only now; only its hash is stored.")


@contextmanager
def open_secret_file(path: Path | None) -> Iterator[None]:
    """Makes an empty file that its owner alone may read (mode 0600), before a secret is made. Removes it where the block
    fails. Exits with an error where there is a file already: another secret may lie in it."""
    if path is None:
        yield
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        path.chmod(0o600)  # whatever the umask
    except FileExistsError:
        fail(f"{escape(str(path))} exists, and may hold a secret. Name a new file.")
    except OSError as problem:
        fail(escape(str(problem)))
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
