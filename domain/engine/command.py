"""How a write is declared and carried out: Command, Batch, and `perform`, the one place where transactions, keys and dry runs are handled.

A command is an async function of (connection, caller, given); its scope, what it takes and what it answers are read from the declaration, and both
doors follow from that. A bulk command's input has a field `entries`; it is given a Batch, whose good rows are typed and whose bad ones are issues.
"""

import hashlib
import typing
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from domain.engine.access import Caller, Scope
from domain.engine.database import Connection, Database
from domain.engine.decode import decode
from domain.engine.errors import BadRequest, DomainError, InProgress, Invalid, Issue, invalid
from domain.engine.resource import MAX_TEXT

Head = TypeVar("Head", bound=Struct)
Entry = TypeVar("Entry", bound=Struct)
Row = TypeVar("Row")

KEY_LIFE = timedelta(days=7)
MAX_ENTRIES = 20_000

Instant = Annotated[datetime, Meta(tz=True)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]
LongText = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class Input(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What a command takes. Unknown fields are refused, never dropped."""


class Output(Struct, rename="camel", kw_only=True):
    """What a command answers."""


class Result(Output, kw_only=True):
    """What became of one row."""

    at: str
    outcome: str
    id: str | None = None
    version: int | None = None


class Recorded(Output, kw_only=True):
    """What became of a batch: received = created + updated + unchanged + superseded + withdrawn + rejected."""

    received: int
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    withdrawn: int = 0
    rejected: int = 0
    dry_run: bool = False
    issues: list[Issue] = []
    results: list[Result] | None = None


@dataclass
class Batch(Generic[Head, Entry]):
    """A bulk input: the head as decoded with no entries, the good rows with their index, and what was wrong with the others."""

    head: Head
    rows: list[tuple[int, Entry]]
    received: int
    issues: list[Issue] = field(default_factory=list)
    lenient: bool = False
    represent: bool = False
    results: list[Result] = field(default_factory=list)
    _rejected: set[int] = field(default_factory=set)

    def afresh(self) -> "Batch[Head, Entry]":
        """The batch as it was read: a transaction that is run again does not count twice."""
        return replace(self, issues=[*self.issues], results=[*self.results], _rejected={*self._rejected})

    def reject(self, at: int, where: str, code: str, message: str) -> None:
        """Notes what is wrong with row `at`; `where` is the field inside it, or '' for the row."""
        self._rejected.add(at)
        self.issues.append(Issue(f"/entries/{at}{'/' + where if where else ''}", code, message))

    def good(self) -> list[tuple[int, Entry]]:
        """The rows not rejected so far."""
        return [row for row in self.rows if row[0] not in self._rejected]

    def once(self, rows: list[Row], keyed: Callable[[Row], tuple[int, object]], names: str) -> list[Row]:
        """The rows, rejecting the second of two for one natural key; `keyed` tells a row's index and key, `names` what the key is made of."""
        seen: dict[object, int] = {}
        for at, key in map(keyed, rows):
            if key in seen:
                self.reject(at, "", "duplicate-in-batch", f"This {names} stand in /entries/{seen[key]} already.")
            seen.setdefault(key, at)
        return [row for row, (at, key) in zip(rows, map(keyed, rows), strict=True) if seen[key] == at]

    def check(self) -> None:
        """With handling=strict, raises Invalid when any row is rejected: nothing of the batch is written."""
        if self.issues and not self.lenient:
            raise invalid(self._in_order())

    def note(self, at: int, outcome: str, id_: object = None, version: int | None = None) -> None:
        self.results.append(Result(at=f"/entries/{at}", outcome=outcome, id=None if id_ is None else str(id_), version=version))

    def _in_order(self) -> list[Issue]:
        return sorted(self.issues, key=lambda issue: int(issue.at.split("/")[2]) if issue.at.startswith("/entries/") else -1)

    def recorded(self) -> Recorded:
        """The counts of the outcomes noted."""
        counts: dict[str, Any] = {}
        for result in self.results:
            counts[result.outcome] = counts.get(result.outcome, 0) + 1
        self.results += [Result(at=f"/entries/{at}", outcome="rejected") for at in self._rejected]
        self.results.sort(key=lambda r: int(r.at.split("/")[2]))
        return Recorded(
            received=self.received,
            rejected=len(self._rejected),
            issues=self._in_order(),
            results=self.results if self.represent else None,
            **counts,
        )


@dataclass(frozen=True)
class Command:
    """A declared write. `name` is its GraphQL mutation in snake case; `entries` is the type of a bulk command's rows."""

    name: str
    doc: str
    scope: Scope
    fails: tuple[type[DomainError], ...]
    doors: frozenset[str]
    takes: type[Struct]
    gives: type[Struct]
    entries: type[Struct] | None
    run: Callable[[Connection, Caller, Any], Awaitable[Any]]

    @property
    def operation(self) -> str:
        """Its public name: the GraphQL mutation and the OpenAPI operation, such as recordJudgements."""
        head, *rest = self.name.split("_")
        return head + "".join(part.title() for part in rest)

    def read(self, data: object, *, lenient: bool = False, represent: bool = False) -> Any:
        """The typed input of a JSON document; raises Invalid with every issue (a bulk command keeps its bad rows for later)."""
        if self.entries is None:
            value, issues = decode(self.takes, data, "")
            if issues:
                raise invalid(issues)
            return value
        return self._read_batch(data, lenient, represent)

    def _read_batch(self, data: object, lenient: bool, represent: bool) -> "Batch[Any, Any]":
        if not isinstance(data, dict):
            raise invalid([Issue("", "wrong-type", "The body must be an object with entries.")])
        entries = data.get("entries")
        if entries is not None and not isinstance(entries, list):
            raise invalid([Issue("/entries", "wrong-type", "entries must be an array.")])
        if entries is not None and len(entries) > MAX_ENTRIES:
            message = f"A batch has at most {MAX_ENTRIES} entries; this one has {len(entries)}. Send it in parts."
            raise invalid([Issue("/entries", "too-many-entries", message)])
        head, issues = decode(self.takes, data if entries is None else {**data, "entries": []}, "")
        if issues:
            raise invalid(issues)
        assert self.entries is not None
        batch: Batch[Any, Any] = Batch(head, [], len(entries or []), lenient=lenient, represent=represent)
        for at, entry in enumerate(entries or []):
            row, wrong = decode(self.entries, entry, f"/entries/{at}")
            if wrong:
                batch._rejected.add(at)
                batch.issues += wrong
            else:
                batch.rows.append((at, row))
        return batch


REST, GRAPHQL = "rest", "graphql"


def command(
    *, scope: Scope, fails: tuple[type[DomainError], ...] = (Invalid,), doors: tuple[str, ...] = (REST, GRAPHQL)
) -> Callable[[Callable[[Connection, Caller, Any], Awaitable[Any]]], Command]:
    """Declares a write. A write without a scope cannot be declared."""

    def declared(run: Callable[[Connection, Caller, Any], Awaitable[Any]]) -> Command:
        hints = typing.get_type_hints(run, include_extras=True)
        takes, gives, entries = hints["given"], hints["return"], None
        if typing.get_origin(takes) is Batch:
            takes, entries = typing.get_args(takes)
        return Command(run.__name__, (run.__doc__ or "").strip(), scope, fails, frozenset(doors), takes, gives, entries, run)

    return declared


@dataclass(frozen=True)
class Performed:
    """What a command answered, as JSON, and whether it is the kept answer of an earlier request with the same key."""

    answer: bytes
    replayed: bool = False


class _RolledBack(Exception):
    def __init__(self, answer: bytes) -> None:
        self.answer = answer


async def perform(
    database: Database,
    chosen: Command,
    caller: Caller,
    given: Any,
    *,
    dry_run: bool = False,
    key: str | None = None,
    body: bytes = b"",
) -> Performed:
    """Carries a command out in one transaction.

    With a key (Idempotency-Key), the answer is kept in the same transaction for 7 days: the same key and body give the same answer, another body is
    Invalid, a request still running InProgress. A dry run does everything and then rolls back.
    """
    caller.needs(chosen.scope, chosen.operation)
    fingerprint = hashlib.sha256(body + (b" dry" if dry_run else b"")).digest()

    async def work(connection: Connection) -> Performed:
        if key is not None:
            kept = await _claim(connection, caller, chosen.name, key, fingerprint)
            if kept is not None:
                return Performed(kept.encode(), replayed=True)
        result = await chosen.run(connection, caller, given.afresh() if isinstance(given, Batch) else given)
        if dry_run and isinstance(result, Recorded):
            result.dry_run = True
        answer = msgspec.json.encode(result)
        if dry_run:
            raise _RolledBack(answer)
        if key is not None:
            await connection.execute(
                "INSERT INTO idempotency (client_id, route, key, fingerprint, status, answer, expires_at) VALUES ($1, $2, $3, $4, 200, $5, now() + $6)",
                *(caller.client_id, chosen.name, key, fingerprint, answer.decode(), KEY_LIFE),
            )
        return Performed(answer)

    try:
        return await database.writing(caller.client_id, work)
    except _RolledBack as rolled_back:
        return Performed(rolled_back.answer)


async def _claim(connection: Connection, caller: Caller, route: str, key: str, fingerprint: bytes) -> str | None:
    """The kept answer for this key, or None after locking the key for this transaction."""
    name = f"{caller.client_id} {route} {key}"
    if not await connection.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0))", name):
        raise InProgress("A request with this Idempotency-Key has not finished.")
    row = await connection.fetchrow(
        "SELECT fingerprint, answer FROM idempotency WHERE client_id = $1 AND route = $2 AND key = $3 AND expires_at > now()",
        *(caller.client_id, route, key),
    )
    if row is None:
        await connection.execute(
            "DELETE FROM idempotency WHERE client_id = $1 AND route = $2 AND key = $3", caller.client_id, route, key
        )
        return None
    if row["fingerprint"] != fingerprint:
        message = "This Idempotency-Key was used with another body. Use a new key for a new request."
        raise Invalid(message, code="idempotency-key-reused", issues=(Issue("Idempotency-Key", "idempotency-key-reused", message),))
    return str(row["answer"])


def check_key(key: str) -> str:
    """An Idempotency-Key in its bare or quoted form (draft-ietf-httpapi-idempotency-key-header): 1 to 200 visible ASCII characters."""
    bare = key[1:-1] if len(key) >= 2 and key[0] == key[-1] == '"' else key
    if not 1 <= len(bare) <= 200 or not all(" " < c <= "~" for c in bare):
        message = "An Idempotency-Key has 1 to 200 visible ASCII characters."
        raise BadRequest(
            message, code="idempotency-key-malformed", issues=(Issue("Idempotency-Key", "idempotency-key-malformed", message),)
        )
    return bare
