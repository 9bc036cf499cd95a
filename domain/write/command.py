"""How a write is declared and carried out: Command and `perform`, the one place where transactions, keys and dry runs are handled.

A command is an async function of (connection, caller, given); its scope, what it takes and what it answers are read from the declaration, and both
doors follow from that. A bulk command's input has a field `entries`; it is given a Batch, whose good rows are typed and whose bad ones are issues.
Any other list of structs in that input is read in the same way and stands beside the batch (`companions`). A command that changes or deletes one row is
given a Change, which knows the versions that the row may have.
"""

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec import Struct

from domain.access.caller import Caller
from domain.declare.errors import DomainError, Invalid, Issue, NotFound, make_invalid
from domain.declare.ids import parse_id
from domain.declare.scopes import Scope
from domain.store.database import Connection
from domain.support.slices import Steps, run_at_once
from domain.support.suggestions import Suggestions
from domain.write.batch import Batch
from domain.write.decode import MAX_ISSUES, decode, lists_in
from domain.write.patch import Patch, RowVersion

MAX_ENTRIES = 20_000
MAX_BATCH_ISSUES = 40_000
"""Issues of a batch's rows beyond which only the first of each further row is told."""
ROWS = 16
"""Rows decoded before companions may go on."""


@dataclass(frozen=True)
class Command:
    """A declared write. `name` is its GraphQL mutation in snake case; `row_types` are the types of a bulk command's rows, by the list they stand in;
    `is_single_row` says whether it is given a Change."""

    name: str
    doc: str
    scope: Scope
    fails: tuple[type[DomainError], ...]
    input: type[Struct]
    output: type[Struct]
    row_types: Mapping[str, type[Struct]]
    is_single_row: bool
    run: Callable[[Connection, Caller, Any], Awaitable[Any]]

    @property
    def operation(self) -> str:
        """Its public name: the GraphQL mutation and the OpenAPI operation, such as recordJudgements."""
        head, *rest = self.name.split("_")
        return head + "".join(part.title() for part in rest)

    @property
    def entries(self) -> type[Struct] | None:
        """The type of a bulk command's own rows."""
        return self.row_types.get("entries")

    def read(self, data: object, *, lenient: bool = False, with_results: bool = False) -> Any:
        """The typed input of a JSON document; raises Invalid with every issue (a bulk command keeps its bad rows for later)."""
        return run_at_once(self.read_in_steps(data, lenient=lenient, with_results=with_results))

    def read_in_steps(self, data: object, *, lenient: bool = False, with_results: bool = False) -> Steps[Any]:
        """The same in steps."""
        if self.entries is not None:
            return (yield from self._read_batch(data, lenient, with_results))
        if self.is_single_row and isinstance(data, dict):
            known = ("id", "expectedVersion")
            which, issues = decode(RowVersion, {name: data[name] for name in known if name in data}, "")
            if which is None:
                raise make_invalid(issues)
            rest = {name: value for name, value in data.items() if name not in known}
            return self.read_change(which.id, frozenset({which.expected_version}), rest)
        value, issues = decode(self.input, data, "")
        if issues:
            raise make_invalid(issues)
        return value

    def read_change(self, row_id: str, versions: frozenset[int] | None, data: object) -> "Patch[Any]":
        """The typed change of the row with this id from a document that names only what is to change (a merge patch, RFC 7396)."""
        given, issues = decode(self.input, data, "")
        if given is None or issues:
            raise make_invalid(issues)
        parsed = parse_id(row_id)
        if parsed is None:
            raise NotFound()
        return Patch(parsed, versions, given)

    def _read_batch(self, data: object, lenient: bool, with_results: bool) -> "Steps[Batch[Any, Any]]":
        if not isinstance(data, dict):
            raise make_invalid([Issue("", "wrong-type", "The body must be an object with entries.")])
        given = {name: rows for name in self.row_types if (rows := data.get(name)) is not None}
        issues = [wrong for name, rows in given.items() if (wrong := _check_list(name, rows))]
        if issues:
            raise make_invalid(issues)
        head, issues = decode(self.input, data | {name: [] for name in given}, "")
        if issues:
            raise make_invalid(issues)
        lists, suggestions = {}, Suggestions()
        for name, type_ in self.row_types.items():
            lists[name] = yield from self._read_list(name, type_, given.get(name, []), suggestions)
        batch = lists.pop("entries")
        batch.head, batch.lenient, batch.with_results, batch.companions = head, lenient, with_results, lists
        return batch

    def _read_list(self, name: str, type_: type[Struct], rows: list[object], suggestions: Suggestions) -> "Steps[Batch[Any, Any]]":
        batch: Batch[Any, Any] = Batch(
            None, [], len(rows), lenient=True, name=name, operation=self.operation, suggestions=suggestions
        )
        for at, given in enumerate(rows):
            if at % ROWS == 0:
                yield
            most = MAX_ISSUES if len(batch.issues) < MAX_BATCH_ISSUES else 1
            row, wrong = decode(type_, given, batch.pointer(at), suggestions, most)
            if wrong:
                batch._rejected.add(at)
                batch.issues += wrong
            else:
                batch.rows.append((at, row))
        return batch


def _check_list(name: str, rows: object) -> Issue | None:
    """What keeps a list from being read row by row."""
    if not isinstance(rows, list):
        return Issue(f"/{name}", "wrong-type", f"{name} must be an array.")
    if len(rows) > MAX_ENTRIES:
        return make_size_issue(name, len(rows))
    return None


def make_size_issue(name: str, count: int) -> Issue:
    message = f"A batch has at most {MAX_ENTRIES} {name}; this one has {count}. Send it in parts."
    return Issue(f"/{name}", "too-many-entries", message)


def command(
    *, scope: Scope, fails: tuple[type[DomainError], ...] = (Invalid,)
) -> Callable[[Callable[[Connection, Caller, Any], Awaitable[Any]]], Command]:
    """Declares a write. A write without a scope cannot be declared."""

    def declare(run: Callable[[Connection, Caller, Any], Awaitable[Any]]) -> Command:
        types = typing.get_type_hints(run, include_extras=True)
        _, _, input_name = inspect.signature(run).parameters
        declared, row_types = types[input_name], {}
        is_single_row = typing.get_origin(declared) is Patch
        if typing.get_origin(declared) is Batch:
            declared, _ = typing.get_args(declared)
            row_types = lists_in(declared)
        elif is_single_row:
            (declared,) = typing.get_args(declared)
        doc = inspect.cleandoc(run.__doc__ or "")
        return Command(run.__name__, doc, scope, fails, declared, types["return"], row_types, is_single_row, run)

    return declare
