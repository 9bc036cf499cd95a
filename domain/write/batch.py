"""The input of a bulk command, the issues of its rows and their outcomes."""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar
from uuid import UUID

from msgspec import Struct, structs

from domain.declare.errors import Current, Issue, make_invalid
from domain.declare.ids import NIL
from domain.declare.inputs import Output, Warnings
from domain.declare.value_types import MAX_TEXT
from domain.support.slices import iterate_in_slices
from domain.support.suggestions import Suggestions
from domain.write.partial import is_partial
from domain.write.receipts import Location, OutcomeCounts

MAX_BATCH_ISSUES = 40_000
"""Issues of a batch's rows, beyond which only the first issue of each further row is reported."""

Head = TypeVar("Head", bound=Struct)
Entry = TypeVar("Entry", bound=Struct)
Row = TypeVar("Row")
T = TypeVar("T", Issue, "Result")


class Result(Output, kw_only=True):
    """The outcome of one row. `at` is its JSON pointer, `reference` the one that the row itself holds."""

    at: str
    reference: str | None = None
    outcome: str
    id: str | None = None
    version: int | None = None


class Counts(Output, kw_only=True):
    """How many rows: received = created + updated + unchanged + superseded + withdrawn + rejected."""

    received: int
    created: int = 0
    updated: int = 0
    unchanged: int = 0
    superseded: int = 0
    withdrawn: int = 0
    rejected: int = 0

    @property
    def has_written(self) -> bool:
        return any((self.created, self.updated, self.withdrawn))


class Recorded(Counts, kw_only=True):
    """What became of a batch: received = created + updated + unchanged + superseded + withdrawn + rejected."""

    dry_run: bool = False
    issues: list[Issue] = []
    warnings: Warnings = []
    results: list[Result] | None = None

    def drop_values(self) -> Self:
        """Returns the counts and issues without stored values, since an answer kept under an Idempotency-Key may
        outlive the right to read them.
        """
        return structs.replace(
            self,
            issues=[structs.replace(issue, current=None, reference=None) for issue in self.issues],
            warnings=[structs.replace(warning, reference=None) for warning in self.warnings],
            results=self.results and [structs.replace(result, reference=None) for result in self.results],
        )

    def restore_references(self, batch: "Batch[Any, Any]") -> Self:
        """Returns a kept answer with the references of the rows of the same request."""
        lists = (*batch.companions.values(), batch)

        def restore(found: list[T]) -> list[T]:
            for each in lists:
                found = each.add_references(found)
            return found

        return structs.replace(
            self, issues=restore(self.issues), warnings=restore(self.warnings), results=self.results and restore(self.results)
        )


@dataclass
class Batch(Generic[Head, Entry]):
    """The input of a bulk command: `head` is the input without its rows, `rows` are the valid rows with their index.

    `name` is the list that holds the rows, with which their pointers begin. Receipts count the outcomes by location:
    `locations` are those of the rows, by index, and `default_location` is that of rows whose own is unknown.
    `may_repeat` is that of the rows' input (declare/inputs.py).
    `companions` are the other lists of the input, by name. Their issues count as issues of this batch; a companion
    itself is always lenient. `undecoded` are the JSON values of the rows that could not be decoded, by index, and
    `partial_rows` are what can be read of them (partial.py). `faults` are issues of the head, which refuse the whole batch;
    its rows are checked nevertheless. Nothing more is told of the rows in `_closed`. `lines` are those on which the rows begin in a
    body of lines, whose head is parameters, by index; empty for a document. `numbers` are the indexes of all rows: from 0 on, unless they are a
    part of more.
    """

    head: Head
    rows: list[tuple[int, Entry]]
    received: int
    issues: list[Issue] = field(default_factory=list)
    warnings: list[Issue] = field(default_factory=list)
    lenient: bool = False
    with_results: bool = False
    name: str = "entries"
    may_repeat: Callable[[str], bool] | None = None
    operation: str = ""
    companions: "dict[str, Batch[Any, Any]]" = field(default_factory=dict)
    locations: dict[int, Location] = field(default_factory=dict)
    default_location: Location | None = None
    suggestions: Suggestions = field(default_factory=Suggestions)
    undecoded: dict[int, object] = field(default_factory=dict)
    partial_rows: list[tuple[int, Entry]] = field(default_factory=list)
    faults: list[Issue] = field(default_factory=list)
    results: dict[int, Result] = field(default_factory=dict)
    lines: Sequence[int] | Mapping[int, int] = ()
    numbers: Sequence[int] = ()
    _rejected: set[int] = field(default_factory=set)
    _closed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.numbers = self.numbers or range(self.received)

    def copy_unchanged(self) -> "Batch[Head, Entry]":
        """Returns a copy as it was decoded, so that a transaction that runs again does not count outcomes twice."""
        companions = {name: other.copy_unchanged() for name, other in self.companions.items()}
        lists = {name: [*getattr(self, name)] for name in ("issues", "warnings", "faults")}
        copied: dict[str, Any] = {**lists, "_rejected": {*self._rejected}}
        return replace(self, **copied, companions=companions, locations={}, results={}, _closed=set())

    def make_pointer(self, index: int) -> str:
        """Returns the JSON pointer of a row (RFC 6901)."""
        return f"/{self.name}/{index}"

    def _make_field_pointer(self, index: int, field_path: str) -> str:
        pointer = self.make_pointer(index)
        return f"{pointer}/{field_path}" if field_path else pointer

    def add_row(self, index: int, row: Entry) -> None:
        """Adds a row, as a bad one if it is partial."""
        if is_partial(row):
            self._rejected.add(index)
            self.partial_rows.append((index, row))
        else:
            self.rows.append((index, row))

    def reject(self, index: int, field_path: str, code: str, message: str, current: Current | None = None) -> None:
        """Rejects a row. `field_path` is the path of the faulty field in it, or '' for the row."""
        if index in self._closed or (len(self.issues) >= MAX_BATCH_ISSUES and index in self._rejected):
            return
        self._rejected.add(index)
        self.issues.append(Issue(self._make_field_pointer(index, field_path), code, message, current))

    def reject_alone(self, index: int, field_path: str, code: str, message: str) -> None:
        """Rejects a row of which nothing else may be told: its other issues are taken back (`take_back`), and later ones are
        not added.
        """
        self._rejected.add(index)
        self._closed.add(index)
        self.issues.append(Issue(self._make_field_pointer(index, field_path), code, message))

    def drop(self, index: int) -> None:
        """Rejects a row without an issue of its own: another one says why."""
        self._rejected.add(index)

    def take_back(self, indexes: Collection[int]) -> None:
        """Removes the issues of these rows."""
        self.issues[:] = [issue for issue in self.issues if self.find_index(issue) not in indexes]

    def is_rejected(self, index: int) -> bool:
        """Whether a row is rejected so far."""
        return index in self._rejected

    def fault(self, at: str, code: str, message: str) -> None:
        """Adds an issue of the head."""
        self.faults.append(Issue(at, code, message))

    def warn(self, index: int, field_path: str, code: str, message: str) -> None:
        """Adds a warning about a row. It is reported unless the row is rejected, then or later."""
        self.warnings.append(Issue(self._make_field_pointer(index, field_path), code, message))

    def reject_invalid(self, index: int, value: object, issues: list[Issue], partial: Entry | None) -> None:
        """Rejects a row whose JSON value could not be decoded, with all its issues. `partial` is what can be read of it."""
        self._rejected.add(index)
        self.undecoded[index] = value
        self.issues += issues
        if partial is not None and len(self.issues) < MAX_BATCH_ISSUES:
            self.partial_rows.append((index, partial))

    def list_all_rows(self) -> list[tuple[int, Entry]]:
        """Returns the rows, with what can be read of those that could not be decoded, in their order."""
        return sorted([*self.rows, *self.partial_rows], key=lambda row: row[0]) if self.partial_rows else self.rows

    def list_bad_rows(self) -> list[tuple[int, Entry]]:
        """Returns the rows that are rejected so far, as far as they can be read, of which more may be told."""
        if not self._rejected:
            return []
        return [row for row in self.list_all_rows() if row[0] in self._rejected and row[0] not in self._closed]

    def list_good_rows(self) -> list[tuple[int, Entry]]:
        """Returns the rows that are not rejected so far."""
        return [row for row in self.rows if row[0] not in self._rejected]

    async def reject_duplicates(self, rows: list[Row], key_of: Callable[[Row], tuple[int, object]], description: str) -> list[Row]:
        """Returns the rows without duplicates. Of two rows with the same key, the second is rejected; where the batch is
        lenient and the first one is bad, the second is not.

        `key_of` returns the index and the key of a row. `description` names what the key consists of, for the message.
        """
        first_index: dict[object, int] = {}
        unique = []
        async for part in iterate_in_slices(rows):
            for row in part:
                index, key = key_of(row)
                if key in first_index and not (self.lenient and index not in self._rejected and first_index[key] in self._rejected):
                    message = f"This {description} are already in {self.make_pointer(first_index[key])}."
                    self.reject(index, "", "duplicate-in-batch", message)
                else:
                    first_index[key] = index
                    unique.append(row)
        return unique

    def refuse_if_strict(self) -> None:
        """Raises Invalid if any row is rejected and the client asked for handling=strict (RFC 7240), so that nothing is
        written.
        """
        has_faults = self.faults or any(other.faults for other in self.companions.values())
        if (has_faults or not self.lenient) and (issues := self.list_issues()):
            raise make_invalid(issues)

    def refuse_if_all_rejected(self) -> None:
        """Raises Invalid if the head has issues, or every row of the batch is rejected, those of its companions included, so
        that nothing was accepted.
        """
        lists = [self, *self.companions.values()]
        is_nothing_accepted = any(each.received for each in lists) and all(len(each._rejected) == each.received for each in lists)
        if is_nothing_accepted or any(each.faults for each in lists):
            raise make_invalid(self.list_issues())

    def record_outcome(self, index: int, outcome: str, id_: object = None, version: int | None = None) -> None:
        """Records the outcome of a row, unless it is rejected."""
        if index in self._rejected:
            return
        self.results[index] = Result(
            at=self.make_pointer(index), outcome=outcome, id=None if id_ is None else str(id_), version=version
        )

    def list_issues(self) -> list[Issue]:
        """Returns the issues in the order of the rows, those of the head and of the companions first."""
        issues = [*self.faults, *(issue for other in self.companions.values() for issue in other.list_issues())]
        issues = list({(issue.at, issue.code): issue for issue in issues}.values())  # both may find the same fault of the head
        return self._add_lines(issues + self.add_references(sorted(self.issues, key=self.find_index)))

    def list_warnings(self) -> list[Issue]:
        """Returns the warnings about rows that are not rejected, in the order of the rows, those of the companions first."""
        warnings = [warning for other in self.companions.values() for warning in other.list_warnings()]
        own = sorted((w for w in self.warnings if self.find_index(w) not in self._rejected), key=self.find_index)
        return self._add_lines(warnings + self.add_references(own))

    def _add_lines(self, found: list[Issue]) -> list[Issue]:
        """Returns issues, each with the line of its row; those of the head name its parameter."""
        if not self.lines:
            return found
        return [
            structs.replace(each, line=self.lines[index])
            if (index := self.find_index(each)) >= 0
            else structs.replace(each, at=each.at if each.at == f"/{self.name}" else each.at.strip("/").split("/")[0])
            for each in found
        ]

    def add_references(self, found: list[T]) -> list[T]:
        """Returns issues or results of rows, each with the reference that the row itself holds, or the element of a list in it
        that is a pupil of its own, such as a member of a group; unless it may not be repeated.
        """
        if self.may_repeat is None:
            return found
        owners = [self._find_owner(each) for each in found]
        wanted = {index for index, *_ in owners}
        rows: dict[int, Any] = {index: row for index, row in self.rows if index in wanted}
        rows |= {index: self.undecoded[index] for index in wanted if index in self.undecoded}
        referenced = []
        for each, owner in zip(found, owners, strict=True):
            row = rows.get(owner[0])
            text = _read_reference(row, owner[1:]) or _read_reference(row, ())  # an element without one is a part of the row
            referenced.append(structs.replace(each, reference=text) if text is not None and self.may_repeat(text) else each)
        return referenced

    def _find_owner(self, found: Issue | Result) -> tuple[Any, ...]:
        """Returns the index of the row that an issue or result is about; of an element of a list in it, also the list and the
        index there.
        """
        steps = found.at.split("/")[3:5]
        index = self.find_index(found)
        return (index, steps[0], int(steps[1])) if len(steps) == 2 and steps[1].isdecimal() else (index,)

    def find_index(self, issue: Issue | Result) -> int:
        """Returns the index of the row that an issue or result is about, -1 where it is about the batch."""
        return int(issue.at.split("/")[2]) if issue.at.startswith(f"/{self.name}/") else -1

    def list_results(self) -> list[Result]:
        """Returns the results in the order of the rows, those of the companions first."""
        rejected = {index: Result(at=self.make_pointer(index), outcome="rejected") for index in self._rejected}
        results = [result for other in self.companions.values() for result in other.list_results()]
        return results + self.add_references([result for _, result in sorted((self.results | rejected).items())])

    def count_rows(self) -> Counts:
        """Returns how many rows of this list had each outcome."""
        outcomes: dict[str, int] = Counter(result.outcome for result in self.results.values())
        return Counts(received=self.received, rejected=len(self._rejected), **outcomes)

    def summarise(self) -> Recorded:
        """Returns the counts of the outcomes, the issues and, if the client asked for them, the results."""
        return Recorded(
            **structs.asdict(self.count_rows()),
            issues=self.list_issues(),
            warnings=self.list_warnings(),
            results=self.list_results() if self.with_results else None,
        )

    def count_outcomes(self, *, accepted: bool) -> OutcomeCounts:
        """Returns how many rows had each outcome, by operation and location.

        Unless the batch was `accepted`, every row was rejected.
        """
        counts: OutcomeCounts = {}
        for index in self.numbers:
            location = self.locations.get(index, self.default_location)
            if location is not None:
                outcome = self.results[index].outcome if accepted and index in self.results else "rejected"
                counts.setdefault((self.operation, location), Counter())[outcome] += 1
        for other in self.companions.values():
            counts |= other.count_outcomes(accepted=accepted)
        return counts


def _read_reference(row: Any, steps: Sequence[Any]) -> str | None:
    """Returns the reference of a row, typed or as it was sent, or of an element of a list in it; None if it has none."""
    for step in steps:
        try:
            row = row[step] if isinstance(row, dict | list) else getattr(row, step)
        except (AttributeError, LookupError, TypeError):
            return None
    text = row.get("reference") if isinstance(row, dict) else getattr(row, "reference", None)
    return text if isinstance(text, str) and len(text) <= MAX_TEXT else None


@dataclass
class RowBatch(Batch[Head, Entry]):
    """The input of a bulk command about one row, such as the references of a school. `row_id` is the row's id."""

    row_id: UUID = NIL
