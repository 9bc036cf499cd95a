"""How a write is declared and carried out: Command, Batch, and `perform`, the one place where transactions, keys and dry runs are handled.

A command is an async function of (connection, caller, given); its scope, what it takes and what it answers are read from the declaration, and both
doors follow from that. A bulk command's input has a field `entries`; it is given a Batch, whose good rows are typed and whose bad ones are issues.
Any other list of structs in that input is read in the same way and stands beside the batch (`others`). A command that changes or deletes one row is
given a Change, which knows the versions that the row may have.
"""

import hashlib
import typing
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, structs

from domain.engine import idempotency
from domain.engine.access import Caller, Scope
from domain.engine.database import Connection, Database
from domain.engine.decode import decode, lists_in
from domain.engine.errors import Busy, Conflict, Current, DomainError, Invalid, Issue, NotFound, Stale, invalid
from domain.engine.ids import parse_id
from domain.engine.receipts import Place, Tallies, note_receipts

Head = TypeVar("Head", bound=Struct)
Entry = TypeVar("Entry", bound=Struct)
Row = TypeVar("Row")

MAX_ENTRIES = 20_000

Instant = Annotated[datetime, Meta(tz=True)]
Text = Annotated[str, Meta(min_length=1, max_length=200)]
LongText = Annotated[str, Meta(min_length=1, max_length=2000)]


class Input(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What a command takes. Unknown fields are refused, never dropped; `unknown` is what is told of them, with the known ones for {fields}."""

    unknown: ClassVar[str] = "There is no such field."


class Patch(Input, kw_only=True):
    """What may change of one row: each field UNSET, and staying as it is, unless it is given."""

    unknown: ClassVar[str] = "This cannot be changed here; what can is {fields}."


class Output(Struct, rename="camel", kw_only=True):
    """What a command answers."""


class Result(Output, kw_only=True):
    """What became of one row."""

    at: str
    outcome: str
    id: str | None = None
    version: int | None = None


class Which(Input, kw_only=True):
    """The row that a change is for, and the version that was read of it."""

    id: str
    expected_version: int


class Removal(Input, kw_only=True):
    """The deletion of a row."""


class Changed(Output, kw_only=True):
    """What became of a row: updated, unchanged or deleted, and the version it has (or had) now."""

    id: str
    outcome: str
    version: int


class Counts(Output, kw_only=True):
    """How many rows: received = created + updated + unchanged + superseded + withdrawn + rejected."""

    received: int
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    withdrawn: int = 0
    rejected: int = 0


class Recorded(Counts, kw_only=True):
    """What became of a batch: received = created + updated + unchanged + superseded + withdrawn + rejected."""

    dry_run: bool = False
    issues: list[Issue] = []
    results: list[Result] | None = None

    def without_values(self) -> Self:
        """The same with counts and pointers alone: what is kept under a key outlives the right to read a value."""
        return structs.replace(self, issues=[structs.replace(issue, current=None) for issue in self.issues])


@dataclass
class Batch(Generic[Head, Entry]):
    """A bulk input: the head as decoded with no rows, the good rows with their index, and what was wrong with the others.

    `name` is the list the rows stand in, and begins their pointers. `places` says where a row belongs, by its index, and `home` where the rows do of
    which nothing is known: receipts are made of these. `others` are the lists beside this one; their issues refuse this batch, they never refuse themselves.
    """

    head: Head
    rows: list[tuple[int, Entry]]
    received: int
    issues: list[Issue] = field(default_factory=list)
    lenient: bool = False
    represent: bool = False
    name: str = "entries"
    operation: str = ""
    others: "dict[str, Batch[Any, Any]]" = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)
    home: Place | None = None
    results: dict[int, Result] = field(default_factory=dict)
    _rejected: set[int] = field(default_factory=set)

    def afresh(self) -> "Batch[Head, Entry]":
        """The batch as it was read: a transaction that is run again does not count twice."""
        others = {name: other.afresh() for name, other in self.others.items()}
        return replace(self, issues=[*self.issues], others=others, places={}, results={}, _rejected={*self._rejected})

    def pointer(self, at: int) -> str:
        """The JSON pointer of row `at` (RFC 6901)."""
        return f"/{self.name}/{at}"

    def reject(self, at: int, where: str, code: str, message: str, current: Current | None = None) -> None:
        """Notes what is wrong with row `at`; `where` is the field inside it, or '' for the row."""
        self._rejected.add(at)
        self.issues.append(Issue(f"{self.pointer(at)}{'/' + where if where else ''}", code, message, current))

    def good(self) -> list[tuple[int, Entry]]:
        """The rows not rejected so far."""
        return [row for row in self.rows if row[0] not in self._rejected]

    def once(self, rows: list[Row], keyed: Callable[[Row], tuple[int, object]], names: str) -> list[Row]:
        """The rows, rejecting the second of two for one natural key; `keyed` tells a row's index and key, `names` what the key is made of."""
        seen: dict[object, int] = {}
        for at, key in map(keyed, rows):
            if key in seen:
                self.reject(at, "", "duplicate-in-batch", f"This {names} stand in {self.pointer(seen[key])} already.")
            seen.setdefault(key, at)
        return [row for row, (at, key) in zip(rows, map(keyed, rows), strict=True) if seen[key] == at]

    def check(self) -> None:
        """With handling=strict, raises Invalid when any row is rejected: nothing of the batch is written."""
        if not self.lenient and (issues := self.all_issues()):
            raise invalid(issues)

    def note(self, at: int, outcome: str, id_: object = None, version: int | None = None) -> None:
        """Says what becomes of a row that was not rejected."""
        self.results[at] = Result(at=self.pointer(at), outcome=outcome, id=None if id_ is None else str(id_), version=version)

    def all_issues(self) -> list[Issue]:
        """By row, those of the lists beside this one first."""
        own = f"/{self.name}/"
        issues = [issue for other in self.others.values() for issue in other.all_issues()]
        return issues + sorted(self.issues, key=lambda issue: int(issue.at.split("/")[2]) if issue.at.startswith(own) else -1)

    def all_results(self) -> list[Result]:
        """By row, those of the lists beside this one first."""
        rejected = {at: Result(at=self.pointer(at), outcome="rejected") for at in self._rejected}
        results = [result for other in self.others.values() for result in other.all_results()]
        return results + [result for _, result in sorted((self.results | rejected).items())]

    def counts(self) -> Counts:
        """How many rows of this list had each outcome."""
        outcomes: dict[str, int] = Counter(result.outcome for result in self.results.values())
        return Counts(received=self.received, rejected=len(self._rejected), **outcomes)

    def recorded(self) -> Recorded:
        """The counts of the outcomes noted, with what is wrong and, where asked for, what became of each row."""
        counts = structs.asdict(self.counts())
        return Recorded(**counts, issues=self.all_issues(), results=self.all_results() if self.represent else None)

    def tallies(self, *, accepted: bool) -> Tallies:
        """By operation and place, how many rows had each outcome: every one is rejected where the batch was refused whole."""
        found: Tallies = {}
        for at in range(self.received):
            place = self.places.get(at, self.home)
            if place is not None:
                outcome = self.results[at].outcome if accepted and at in self.results else "rejected"
                found.setdefault((self.operation, place), Counter())[outcome] += 1
        for other in self.others.values():
            found |= other.tallies(accepted=accepted)
        return found


@dataclass(frozen=True)
class Change(Generic[Head]):
    """A change of one row: what is given of it, each field UNSET where it stays, and the versions the row may have (None: any)."""

    id: UUID
    versions: frozenset[int] | None
    given: Head

    def check(self, version: int) -> None:
        """Raises Stale, which tells the row's version, where the change is meant for another one."""
        if self.versions is not None and version not in self.versions:
            message = f"The row has version {version} now. Read it again, and change it as it is."
            raise Stale(message, issues=(Issue("version", Stale.code, message),))

    def over(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """The values as they are to be, by column: those given, else those stored. A field has the name of its column."""
        given = {name: getattr(self.given, name) for name in self.given.__struct_fields__}
        return {name: stored[name] if value is UNSET else value for name, value in given.items()}

    def done(self, outcome: str, version: int) -> Changed:
        return Changed(id=str(self.id), outcome=outcome, version=version)


@dataclass(frozen=True)
class Command:
    """A declared write. `name` is its GraphQL mutation in snake case; `lists` are the types of a bulk command's rows, by the list they stand in;
    `changes` says whether it is given a Change."""

    name: str
    doc: str
    scope: Scope
    fails: tuple[type[DomainError], ...]
    doors: frozenset[str]
    takes: type[Struct]
    gives: type[Struct]
    lists: Mapping[str, type[Struct]]
    changes: bool
    run: Callable[[Connection, Caller, Any], Awaitable[Any]]

    @property
    def operation(self) -> str:
        """Its public name: the GraphQL mutation and the OpenAPI operation, such as recordJudgements."""
        head, *rest = self.name.split("_")
        return head + "".join(part.title() for part in rest)

    @property
    def entries(self) -> type[Struct] | None:
        """The type of a bulk command's own rows."""
        return self.lists.get("entries")

    def read(self, data: object, *, lenient: bool = False, represent: bool = False) -> Any:
        """The typed input of a JSON document; raises Invalid with every issue (a bulk command keeps its bad rows for later)."""
        if self.entries is not None:
            return self._read_batch(data, lenient, represent)
        if self.changes and isinstance(data, dict):
            known = ("id", "expectedVersion")
            which, issues = decode(Which, {name: data[name] for name in known if name in data}, "")
            if which is None:
                raise invalid(issues)
            rest = {name: value for name, value in data.items() if name not in known}
            return self.read_change(which.id, frozenset({which.expected_version}), rest)
        value, issues = decode(self.takes, data, "")
        if issues:
            raise invalid(issues)
        return value

    def read_change(self, row_id: str, versions: frozenset[int] | None, data: object) -> "Change[Any]":
        """The typed change of the row with this id from a document that names only what is to change (a merge patch, RFC 7396)."""
        given, issues = decode(self.takes, data, "")
        if given is None or issues:
            raise invalid(issues)
        parsed = parse_id(row_id)
        if parsed is None:
            raise NotFound()
        return Change(parsed, versions, given)

    def _read_batch(self, data: object, lenient: bool, represent: bool) -> "Batch[Any, Any]":
        if not isinstance(data, dict):
            raise invalid([Issue("", "wrong-type", "The body must be an object with entries.")])
        given = {name: rows for name in self.lists if (rows := data.get(name)) is not None}
        issues = [wrong for name, rows in given.items() if (wrong := _not_a_list(name, rows))]
        if issues:
            raise invalid(issues)
        head, issues = decode(self.takes, data | {name: [] for name in given}, "")
        if issues:
            raise invalid(issues)
        lists = {name: self._read_list(name, type_, given.get(name, [])) for name, type_ in self.lists.items()}
        batch = lists.pop("entries")
        batch.head, batch.lenient, batch.represent, batch.others = head, lenient, represent, lists
        return batch

    def _read_list(self, name: str, type_: type[Struct], rows: list[object]) -> "Batch[Any, Any]":
        batch: Batch[Any, Any] = Batch(None, [], len(rows), lenient=True, name=name, operation=self.operation)
        for at, given in enumerate(rows):
            row, wrong = decode(type_, given, batch.pointer(at))
            if wrong:
                batch._rejected.add(at)
                batch.issues += wrong
            else:
                batch.rows.append((at, row))
        return batch


def _not_a_list(name: str, rows: object) -> Issue | None:
    """What keeps a list from being read row by row."""
    if not isinstance(rows, list):
        return Issue(f"/{name}", "wrong-type", f"{name} must be an array.")
    if len(rows) > MAX_ENTRIES:
        message = f"A batch has at most {MAX_ENTRIES} {name}; this one has {len(rows)}. Send it in parts."
        return Issue(f"/{name}", "too-many-entries", message)
    return None


REST, GRAPHQL = "rest", "graphql"


def command(
    *, scope: Scope, fails: tuple[type[DomainError], ...] = (Invalid,), doors: tuple[str, ...] = (REST, GRAPHQL)
) -> Callable[[Callable[[Connection, Caller, Any], Awaitable[Any]]], Command]:
    """Declares a write. A write without a scope cannot be declared."""

    def declared(run: Callable[[Connection, Caller, Any], Awaitable[Any]]) -> Command:
        hints = typing.get_type_hints(run, include_extras=True)
        takes, lists = hints["given"], {}
        changes = typing.get_origin(takes) is Change
        if typing.get_origin(takes) is Batch:
            takes, _ = typing.get_args(takes)
            lists = lists_in(takes)
        elif changes:
            (takes,) = typing.get_args(takes)
        doc = (run.__doc__ or "").strip()
        return Command(run.__name__, doc, scope, fails, frozenset(doors), takes, hints["return"], lists, changes, run)

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
    Invalid, a request still running InProgress. A dry run does everything and then rolls back. Every batch leaves receipts: in its own
    transaction, or, where it is refused whole, in one after it.
    """
    caller.needs(chosen.scope, chosen.operation)
    fingerprint = hashlib.sha256(body + (b" dry" if dry_run else b"")).digest()
    tried = given

    async def work(connection: Connection) -> Performed:
        nonlocal tried
        if key is not None:
            claimed = await idempotency.claim(connection, caller, chosen.name, key, fingerprint)
            if claimed is not None:
                return Performed(claimed.encode(), replayed=True)
        tried = given.afresh() if isinstance(given, Batch) else given
        result = await chosen.run(connection, caller, tried)
        if dry_run and isinstance(result, Recorded):
            result.dry_run = True
        answer = msgspec.json.encode(result)
        if dry_run:
            raise _RolledBack(answer)
        if isinstance(tried, Batch):
            await note_receipts(connection, caller, tried.tallies(accepted=True), accepted=True)
        if key is not None:
            kept = msgspec.json.encode(result.without_values()) if isinstance(result, Recorded) else answer
            await idempotency.keep(connection, caller, chosen.name, key, fingerprint, kept.decode())
        return Performed(answer)

    try:
        return await database.writing(caller.client_id, work)
    except _RolledBack as rolled_back:
        return Performed(rolled_back.answer)
    except (Invalid, Conflict):
        if isinstance(tried, Batch) and not dry_run:
            refused = tried.tallies(accepted=False)
            with suppress(Busy):  # why the batch was refused is what the client must hear
                await database.writing(
                    caller.client_id, lambda connection: note_receipts(connection, caller, refused, accepted=False)
                )
        raise
