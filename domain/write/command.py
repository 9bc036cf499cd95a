"""Declares commands (writes), and parses their inputs.

A command is an async function of a connection, a caller and an input. The decorator `command` reads the types of input
and output from its annotations; REST, GraphQL and OpenAPI are derived from them. `run.perform` runs a command.

The input of a bulk command has a field `entries`. Its function gets a Batch, with the valid rows typed and the issues
of the others. Any other list of structs in the input is decoded likewise, as a companion of the batch. The function of
a command that changes or deletes one row gets a Patch, which holds the versions that the row may have. The function of
another command about one row gets an Action or, where it has entries, a RowBatch.
"""

import dataclasses
import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from domain.access.caller import Caller, Need
from domain.declare.errors import DomainError, FaultyValue, Invalid, Issue, NotFound, make_invalid
from domain.declare.ids import NIL, parse_id
from domain.declare.scopes import Scope
from domain.store.database import Connection
from domain.support.slices import Steps, run_at_once
from domain.support.suggestions import Suggestions
from domain.write.action import Action, RowRef
from domain.write.batch import MAX_BATCH_ISSUES, Batch, RowBatch
from domain.write.decode import MAX_ISSUES, decode, find_lists
from domain.write.patch import Patch, RowVersion

T = TypeVar("T")
MAX_ENTRIES = 20_000
ROWS_PER_STEP = 16
"""Rows that are decoded in one step of the work (support/slices.py)."""


@dataclass(frozen=True)
class FaultyInput:
    """The input of a command that is no bulk command, with issues. `value` is what the command's function gets, with fields
    that cannot be read (partial.py): it is run for the other issues alone.
    """

    value: Any
    issues: list[Issue]


@dataclass(frozen=True)
class Command:
    """A declared write. `name` is the name of the GraphQL mutation in snake case.

    `fails` are the errors that it may raise. `row_types` are the types of a bulk command's rows, by the name of their
    list. `is_single_row` says whether it changes or deletes one row, so that its function gets a Patch; `is_action`
    whether it does something else with one row, so that its function gets an Action or a RowBatch. `path` is the last part of its URL,
    where that is not the verb of its name. `at_school` is false of what belongs to a trust as a whole, which may have no school;
    `on_installation` is true of what may belong to the installation. `describe_row` returns the output for a batch of one row, of commands whose
    rows may be written together with those of other requests (together.py).
    """

    name: str
    doc: str
    scope: Scope
    fails: tuple[type[DomainError], ...]
    input: type[Struct]
    output: type[Struct]
    row_types: Mapping[str, type[Struct]]
    is_single_row: bool
    is_action: bool
    path: str | None
    at_school: bool
    on_installation: bool
    describe_row: Callable[[Batch[Any, Any]], Any] | None
    run: Callable[[Connection, Caller, Any], Awaitable[Any]]

    @property
    def need(self) -> Need:
        """What a caller needs to run it."""
        return Need(self.scope, self.at_school, on_installation=self.on_installation)

    @property
    def operation(self) -> str:
        """The public name: the GraphQL mutation and the OpenAPI operationId, such as recordJudgements."""
        head, *rest = self.name.split("_")
        return head + "".join(part.title() for part in rest)

    @property
    def entries(self) -> type[Struct] | None:
        """The type of a bulk command's entries; None for other commands."""
        return self.row_types.get("entries")

    def parse(self, data: object, *, lenient: bool = False, with_results: bool = False) -> Any:
        """Returns the typed input of a JSON value, or a FaultyInput.

        Faulty rows of a bulk command become issues of its Batch. Raises Invalid for a value of which nothing can be read.
        """
        return run_at_once(self.parse_in_steps(data, lenient=lenient, with_results=with_results))

    def parse_in_steps(
        self, data: object, *, lenient: bool = False, with_results: bool = False, numbers: Sequence[int] = ()
    ) -> Steps[Any]:
        """Does the same as `parse`, in steps. `numbers` are those of the entries, where these are a part of more."""
        if self.entries is not None and not self.is_action:
            return (yield from self._parse_batch(data, lenient, with_results, numbers))
        if self.row_keys and isinstance(data, dict):
            return (yield from self._parse_named(data, lenient, with_results))
        value, issues = decode(self.input, data, "")
        return _join(value, value, issues)

    @property
    def requires_fields(self) -> bool:
        """Whether the input has a field without a default."""
        return any(field.required for field in msgspec.structs.fields(self.input))

    @property
    def row_keys(self) -> tuple[type[Struct], ...]:
        """The fields that name the row in a GraphQL input, beside those of `input`."""
        return (RowVersion,) if self.is_single_row else (RowRef,) if self.is_action else ()

    def _parse_named(self, data: dict[str, Any], lenient: bool, with_results: bool) -> Steps[Any]:
        """Returns the input of a command about one row, which the input itself names."""
        (kind,) = self.row_keys
        names = [field.encode_name for field in msgspec.structs.fields(kind)]
        row: Any
        row, faults = decode(kind, {name: data[name] for name in names if name in data}, "")
        rest, row_id = {name: value for name, value in data.items() if name not in names}, str(NIL)
        if isinstance(data.get("id"), str):  # a text that is no id names no row, whatever else is wrong with it
            row_id, faults = data["id"], [fault for fault in faults if fault.at != "/id"]
        try:
            if self.is_single_row:
                version = getattr(row, "expected_version", None)
                versions = None if version is None else frozenset({version})
                parsed: Any = self.parse_patch(row_id, versions, rest, version_at="/expectedVersion")
            elif self.entries is None:
                parsed = self.parse_action(row_id, rest)
            else:
                parsed = yield from self.parse_row_batch(row_id, rest, lenient=lenient, with_results=with_results)
        except Invalid as problem:
            raise make_invalid([*faults, *problem.issues]) from None
        if not faults:
            return parsed
        if isinstance(parsed, Batch):
            parsed.faults[:0] = faults
            if row_id == str(NIL):
                raise make_invalid(parsed.list_issues())
            return parsed
        value, issues = (parsed.value, parsed.issues) if isinstance(parsed, FaultyInput) else (parsed, [])
        return FaultyInput(value, [*faults, *issues])

    def parse_action(self, row_id: str, data: object) -> "Action[Any] | FaultyInput":
        """Returns the action on the row with this id, or a FaultyInput. Raises Invalid, and NotFound for a malformed id."""
        fields, issues = decode(self.input, data, "")
        parsed = parse_id(row_id)
        if parsed is None:
            raise make_invalid(issues) if issues else NotFound()
        return _join(Action(parsed, fields), fields, issues)

    def parse_row_batch(self, row_id: str, data: object, *, lenient: bool, with_results: bool) -> "Steps[RowBatch[Any, Any]]":
        """Returns the batch about the row with this id. Raises Invalid, and NotFound for a malformed id."""
        batch = yield from self._parse_batch(data, lenient, with_results)
        parsed = parse_id(row_id)
        if parsed is None:
            raise make_invalid(batch.list_issues()) if batch.faults else NotFound()
        return RowBatch(**{item.name: getattr(batch, item.name) for item in dataclasses.fields(batch)}, row_id=parsed)

    def parse_patch(
        self, row_id: str, versions: frozenset[int] | None, data: object, *, version_at: str = "If-Match"
    ) -> "Patch[Any] | FaultyInput":
        """Returns the patch of the row with this id from a JSON merge patch (RFC 7396), or a FaultyInput. Raises Invalid, and
        NotFound for a malformed id.

        `versions` are the versions that the row may have; None allows any. `version_at` is where the request says them.
        """
        fields, issues = decode(self.input, data, "")
        parsed = parse_id(row_id)
        if parsed is None:
            raise make_invalid(issues) if issues else NotFound()
        return _join(Patch(parsed, versions, fields, version_at), fields, issues)

    def _parse_batch(
        self, data: object, lenient: bool, with_results: bool, numbers: Sequence[int] = ()
    ) -> "Steps[Batch[Any, Any]]":
        if not isinstance(data, dict):
            raise make_invalid([Issue("", "wrong-type", "The body must be an object with entries.")])
        lists = {name: rows for name in self.row_types if (rows := data.get(name)) is not None}
        issues = [issue for name, rows in lists.items() if (issue := _check_list(name, rows))]
        head, faults = decode(self.input, data | {name: [] for name in lists}, "")
        if issues:  # the head is checked alone
            faults, lists = [*faults, *issues], {}
        batches, suggestions = {}, Suggestions()
        for name, type_ in self.row_types.items():
            of_rows = numbers if name == "entries" else ()
            batches[name] = yield from self._parse_list(name, type_, lists.get(name, []), suggestions, of_rows)
        batch = batches.pop("entries")
        batch.head, batch.lenient, batch.with_results, batch.companions = head, lenient, with_results, batches
        batch.faults = faults
        return batch

    def _parse_list(
        self, name: str, type_: type[Struct], rows: list[object], suggestions: Suggestions, numbers: Sequence[int]
    ) -> "Steps[Batch[Any, Any]]":
        batch: Batch[Any, Any] = Batch(
            None,
            [],
            len(rows),
            lenient=True,
            name=name,
            may_repeat=getattr(type_, "may_repeat", None),
            operation=self.operation,
            suggestions=suggestions,
            numbers=numbers,
        )
        for count, (index, value) in enumerate(zip(batch.numbers, rows, strict=True)):
            if count % ROWS_PER_STEP == 0:
                yield
            max_issues = MAX_ISSUES if len(batch.issues) < MAX_BATCH_ISSUES else 1
            row, issues = decode(type_, value, batch.make_pointer(index), suggestions, max_issues)
            if issues:
                batch.reject_invalid(index, value, issues, row)
            else:
                batch.rows.append((index, row))
        return batch


def _join(typed: T, fields: object, issues: list[Issue]) -> T | FaultyInput:
    """Returns the input, or a FaultyInput where it has issues; raises Invalid if nothing of it can be read."""
    if fields is None:
        raise make_invalid(issues)
    return FaultyInput(typed, issues) if issues else typed


def _check_list(name: str, rows: object) -> Issue | None:
    """Returns the issue of a list that cannot be decoded row by row; None if there is none."""
    if isinstance(rows, FaultyValue):
        return Issue(f"/{name}", rows.code, rows.message)
    if not isinstance(rows, list):
        return Issue(f"/{name}", "wrong-type", f"{name} must be an array.")
    if len(rows) > MAX_ENTRIES:
        return make_size_issue(name, len(rows))
    return None


def make_size_issue(name: str, count: int) -> Issue:
    """Returns the issue of a batch with too many rows."""
    message = f"A batch has at most {MAX_ENTRIES} {name}; this one has {count}. Send it in parts."
    return Issue(f"/{name}", "too-many-entries", message)


def command(
    *,
    scope: Scope,
    at_school: bool = True,
    on_installation: bool = False,
    path: str | None = None,
    fails: tuple[type[DomainError], ...] = (Invalid,),
    describe_row: Callable[[Batch[Any, Any]], Any] | None = None,
) -> Callable[[Callable[[Connection, Caller, Any], Awaitable[Any]]], Command]:
    """Decorates the function of a command. Its third parameter is the input: a Batch, a RowBatch, a Patch, an Action or a struct."""

    def declare(run: Callable[[Connection, Caller, Any], Awaitable[Any]]) -> Command:
        types = typing.get_type_hints(run, include_extras=True)
        _, _, input_name = inspect.signature(run).parameters
        declared, row_types = types[input_name], {}
        kind = typing.get_origin(declared)
        is_single_row, is_action = kind is Patch, kind in (Action, RowBatch)
        if kind in (Batch, RowBatch):
            declared, _ = typing.get_args(declared)
            row_types = find_lists(declared)
        elif is_single_row or is_action:
            (declared,) = typing.get_args(declared)
        doc = inspect.cleandoc(run.__doc__ or "")
        return Command(
            *(run.__name__, doc, scope, fails, declared, types["return"], row_types, is_single_row, is_action, path),
            at_school=at_school,
            on_installation=on_installation,
            describe_row=describe_row,
            run=run,
        )

    return declare
