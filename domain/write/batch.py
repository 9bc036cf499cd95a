"""A bulk input and what becomes of its rows: the good ones are typed, the bad ones are issues, and every row has one outcome."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Self, TypeVar

from msgspec import Struct, structs

from domain.declare.errors import Current, Issue, make_invalid
from domain.declare.inputs import Output
from domain.support.slices import iterate_in_slices
from domain.support.suggestions import Suggestions
from domain.write.receipts import Location, OutcomeCounts

Head = TypeVar("Head", bound=Struct)
Entry = TypeVar("Entry", bound=Struct)
Row = TypeVar("Row")


class Result(Output, kw_only=True):
    """What became of one row."""

    at: str
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
    """A bulk input: the head as decoded with no rows, the good rows with their index, and what was wrong with the companions.

    `name` is the list the rows stand in, and begins their pointers. `locations` says where a row belongs, by its index, and `default_location` where
    the rows do of which nothing is known: receipts are made of these. `companions` are the lists beside this one; their issues refuse this batch, they
    never refuse themselves.
    """

    head: Head
    rows: list[tuple[int, Entry]]
    received: int
    issues: list[Issue] = field(default_factory=list)
    lenient: bool = False
    with_results: bool = False
    name: str = "entries"
    operation: str = ""
    companions: "dict[str, Batch[Any, Any]]" = field(default_factory=dict)
    locations: dict[int, Location] = field(default_factory=dict)
    default_location: Location | None = None
    suggestions: Suggestions = field(default_factory=Suggestions)
    results: dict[int, Result] = field(default_factory=dict)
    _rejected: set[int] = field(default_factory=set)

    def copy_unchanged(self) -> "Batch[Head, Entry]":
        """The batch as it was read: a transaction that is run again does not count twice."""
        companions = {name: other.copy_unchanged() for name, other in self.companions.items()}
        return replace(self, issues=[*self.issues], companions=companions, locations={}, results={}, _rejected={*self._rejected})

    def pointer(self, at: int) -> str:
        """The JSON pointer of row `at` (RFC 6901)."""
        return f"/{self.name}/{at}"

    def reject(self, at: int, where: str, code: str, message: str, current: Current | None = None) -> None:
        """Notes what is wrong with row `at`; `where` is the field inside it, or '' for the row."""
        self._rejected.add(at)
        self.issues.append(Issue(f"{self.pointer(at)}{'/' + where if where else ''}", code, message, current))

    def list_good_rows(self) -> list[tuple[int, Entry]]:
        """The rows not rejected so far."""
        return [row for row in self.rows if row[0] not in self._rejected]

    async def reject_duplicates(self, rows: list[Row], keyed: Callable[[Row], tuple[int, object]], names: str) -> list[Row]:
        """The rows, rejecting the second of two for one natural key; `keyed` tells a row's index and key, `names` what the key is made of."""
        seen: dict[object, int] = {}
        first = []
        async for part in iterate_in_slices(rows):
            for row in part:
                at, key = keyed(row)
                if key in seen:
                    self.reject(at, "", "duplicate-in-batch", f"This {names} stand in {self.pointer(seen[key])} already.")
                else:
                    seen[key] = at
                    first.append(row)
        return first

    def refuse_if_strict(self) -> None:
        """With handling=strict, raises Invalid when any row is rejected: nothing of the batch is written."""
        if not self.lenient and (issues := self.list_issues()):
            raise make_invalid(issues)

    def record_outcome(self, at: int, outcome: str, id_: object = None, version: int | None = None) -> None:
        """Says what becomes of a row that was not rejected."""
        self.results[at] = Result(at=self.pointer(at), outcome=outcome, id=None if id_ is None else str(id_), version=version)

    def list_issues(self) -> list[Issue]:
        """By row, those of the lists beside this one first."""
        own = f"/{self.name}/"
        issues = [issue for other in self.companions.values() for issue in other.list_issues()]
        return issues + sorted(self.issues, key=lambda issue: int(issue.at.split("/")[2]) if issue.at.startswith(own) else -1)

    def list_results(self) -> list[Result]:
        """By row, those of the lists beside this one first."""
        rejected = {at: Result(at=self.pointer(at), outcome="rejected") for at in self._rejected}
        results = [result for other in self.companions.values() for result in other.list_results()]
        return results + [result for _, result in sorted((self.results | rejected).items())]

    def counts(self) -> Counts:
        """How many rows of this list had each outcome."""
        outcomes: dict[str, int] = Counter(result.outcome for result in self.results.values())
        return Counts(received=self.received, rejected=len(self._rejected), **outcomes)

    def summarise(self) -> Recorded:
        """The counts of the outcomes noted, with what is wrong and, where asked for, what became of each row."""
        counts = structs.asdict(self.counts())
        return Recorded(**counts, issues=self.list_issues(), results=self.list_results() if self.with_results else None)

    def count_outcomes(self, *, accepted: bool) -> OutcomeCounts:
        """By operation and place, how many rows had each outcome: every one is rejected where the batch was refused whole."""
        found: OutcomeCounts = {}
        for at in range(self.received):
            place = self.locations.get(at, self.default_location)
            if place is not None:
                outcome = self.results[at].outcome if accepted and at in self.results else "rejected"
                found.setdefault((self.operation, place), Counter())[outcome] += 1
        for other in self.companions.values():
            found |= other.count_outcomes(accepted=accepted)
        return found
