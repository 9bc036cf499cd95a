"""Does again what the ledger holds and the database does not, as after a restore: `reapply`, and before `serve` listens."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.markup import escape

from api.commands.console import (
    console,
    fail,
    fail_with_faults,
    find_setting_faults,
    format_problem,
    log_or_print,
    open_ledger,
    read_operator_url,
)
from api.settings import read_secrets
from domain import LEDGER
from domain.declare.errors import DomainError
from domain.store.ledger import Entry, read_ledgers
from domain.store.ledger_reapply import (
    Reapplied,
    begin_ledger,
    find_missing_entries,
    has_ledger_entries,
    reapply_entries,
)
from domain.store.schema import require_schema
from domain.store.single_transaction import open_single_connection, run_single_transaction

_NOUNS = {
    "identity": ("new identity", "new identities"),
    "upns": ("release of UPNs", "releases of UPNs"),
    "client": ("change of a client", "changes of clients"),
    "grant": ("end of a grant", "ends of grants"),
    "calendar-link": ("revocation of a calendar link", "revocations of calendar links"),
    "register": ("import of the register", "imports of the register"),
}


def reapply() -> None:
    """Do again, as the operator, what the ledgers hold and the database does not, as after a restore. Repeating it changes
    nothing."""
    if not os.environ.get("MARKONCE_LEDGER"):
        fail("Set MARKONCE_LEDGER: the file of this server; every *.ledger in its folder is read.")
    entries = _read_entries()
    url, setting = read_operator_url()
    count, left = _reapply_missing(url, setting, entries, partial(console.print, soft_wrap=True))
    fail_with_faults(left)
    if not count:
        console.print("The database has everything that the ledger holds.")


def reapply_before_serving(url: str) -> list[str]:
    """Does again what the ledgers hold and the database does not. Returns what keeps this server from serving. `url` is the app
    role's, which may only compare."""
    path = os.environ.get("MARKONCE_LEDGER")
    is_set, is_new = bool(path), path is not None and not Path(path).expanduser().exists()
    entries = _read_entries() if is_set else []

    async def compare(connection: Any) -> tuple[bool, list[Entry]]:
        keeps_ledger = await has_ledger_entries(connection)
        if is_set and not keeps_ledger:
            await begin_ledger(connection)
        return keeps_ledger, await find_missing_entries(connection, entries)

    try:
        keeps_ledger, missing = asyncio.run(run_single_transaction(url, compare, "DATABASE_URL"))
    except DomainError as problem:
        return [format_problem(problem)]
    if keeps_ledger and not is_set:
        return [
            "This installation keeps a ledger, and MARKONCE_LEDGER is not set. Set it to the whole path of this server's file NAME.ledger"
        ]
    if keeps_ledger and is_new:
        log_or_print(
            "warning",
            f"The ledger {path} was not there, and is a new file now. If this server had one, stop it and bring that one back:"
            " what it holds is not done again after a restore",
        )
    if not missing:
        return []
    for setting in ("DATABASE_OPERATOR_URL", "DATABASE_OWNER_URL"):
        if (operator_url := os.environ.get(setting)) and not find_setting_faults(setting):
            return _reapply_missing(operator_url, setting, missing, partial(log_or_print, "info"))[1]
    return [
        f"The ledger holds {len(missing):,} entries that the database does not have, as after a restore: set"
        " DATABASE_OPERATOR_URL, or run `python -m api reapply` where it is set"
    ]


def _read_entries() -> list[Entry]:
    """Returns the entries of all ledgers. Exits where one is broken or this server's cannot be written."""
    ledger = open_ledger()
    assert ledger is not None
    try:
        read = read_ledgers(ledger.path, *read_secrets())
    except DomainError as problem:
        fail(escape(problem.detail))
    return [entry for entries in read.values() for entry in entries]


def _reapply_missing(url: str, setting: str, entries: list[Entry], say: Callable[[str], object]) -> tuple[int, list[str]]:
    """Does again what the database does not have, and says how many entries that were. Returns their number, and what is left to the operator."""

    async def work() -> tuple[Counter[tuple[str, Reapplied]], list[str]]:
        async with open_single_connection(url, setting) as connection:
            await require_schema(connection)
            return await reapply_entries(connection, await find_missing_entries(connection, entries), LEDGER)

    try:
        counts, left = asyncio.run(work())
    except DomainError as problem:
        fail(escape(format_problem(problem)))
    for (kind, outcome), count in sorted(counts.items()):
        say(f"From the ledger: {count:,} {_NOUNS[kind][count > 1]} {outcome}.")
    return counts.total(), left
