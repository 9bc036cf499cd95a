"""The judgements of a batch, and what the codes that they name are."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from msgspec import UNSET, Meta, UnsetType

from domain.assessment.codes import CodeTable
from domain.assessment.marks import resolve_mark
from domain.assessment.subjects import AspectCode, SubjectCode
from domain.assessment.templates import describe_unknown_code
from domain.declare.inputs import ExactNumber, Instant, Text, describe
from domain.roster.pupil_keys import PupilRow
from domain.roster.school_refs import SchoolInReach
from domain.support import clock
from domain.write.batch import Batch
from domain.write.conflicts import ExpectedVersion
from domain.write.receipts import Location

MAX_CLOCK_SKEW = timedelta(minutes=5)
WITHDRAWN = "withdrawn"


def _check_withdrawal(entry: Any) -> str | None:
    if entry.withdrawn and (entry.grade, entry.status, entry.mark) != (None, None, None):
        return "A judgement that is withdrawn has no grade, no status and no mark"
    return None


def _check_value(entry: Any) -> str | None:
    if not entry.withdrawn and (entry.grade is None) == (entry.status is None):
        return "Give either a grade or the status that says why there is none, or withdraw the judgement"
    return None


class JudgementEntry(PupilRow, kw_only=True):
    """A judgement: a grade, or a status that says why there is none (a missing value is never a zero), or withdrawn.

    A change is refused unless expectedVersion is the version stored; 0 means that nothing may be stored yet.
    """

    rules = (*PupilRow.rules, _check_withdrawal, _check_value)

    subject: SubjectCode
    aspect: AspectCode = "main"
    window: Annotated[Text | UnsetType, describe("Id or code of the window, unless the batch names one.")] = UNSET
    grade: Annotated[
        Annotated[str, Meta(min_length=1, max_length=20)] | int | None,
        describe("Code of a grade of the window's scheme for the subject, or a score. Give a grade or a status."),
    ] = None
    mark: Annotated[ExactNumber | None, describe("The mark behind the grade, where there is one.")] = None
    status: Annotated[
        Literal["absent", "new", "left", "notTaught", "exempt"] | None,
        describe(
            "Why there is no grade. left takes the pupil out of the eligible; with any other status the pupil stays eligible."
        ),
    ] = None
    withdrawn: Annotated[bool, describe("Takes the judgement back. History keeps it.")] = False
    expected_version: ExpectedVersion = UNSET
    recorded_at: Annotated[
        Instant | UnsetType, describe("When the judgement was made. The later one holds; without it, the later request.")
    ] = UNSET
    actor: Annotated[Text | None, describe("Who judged, as the sender knows them: a staff code, never a child's name.")] = None
    source: Annotated[Text | None, describe("The system that the judgement was entered in.")] = None
    method: Annotated[Text | None, describe("How it was judged, such as test or teacher assessment.")] = None


@dataclass
class JudgementRow:
    """An entry, with the codes that it names resolved to the tenant's numbers.

    `is_bad` says that the row is rejected and only compared for its other issues. `has_value` says whether what it wants to
    store is known; `recorded_at` is None where that cannot be read.
    """

    at: int
    entry: JudgementEntry
    school: SchoolInReach
    pupil_id: UUID
    window: Any
    subject_no: int
    aspect_no: int
    scheme_version_no: int | None
    grade_no: int | None
    mark: Decimal | None
    recorded_at: datetime | None
    is_bad: bool = False
    has_value: bool = True
    stored: Any = None

    @property
    def key(self) -> tuple[Any, ...]:
        """The natural key."""
        return (self.window["academic_year"], self.pupil_id, self.window["no"], self.subject_no, self.aspect_no)

    @property
    def value(self) -> tuple[Any, ...]:
        """The scheme version, grade, mark and status to store."""
        return (self.scheme_version_no, self.grade_no, self.mark, WITHDRAWN if self.entry.withdrawn else self.entry.status)

    def is_change_of(self, stored: Any) -> bool:
        """Whether the row differs from what is stored, as a value does that no scheme has. A judgement that does not exist
        counts as withdrawn.
        """
        if not self.has_value:
            return True
        if self.entry.withdrawn:
            return stored["version"] is not None and stored["status_code"] != WITHDRAWN
        return self.value != (stored["scheme_version_no"], stored["grade_no"], stored["mark"], stored["status_code"])


def resolve_entry(
    batch: Batch[Any, Any],
    codes: CodeTable,
    school: SchoolInReach | None,
    pupil_id: UUID | None,
    at: int,
    entry: JudgementEntry,
    now: datetime,
) -> JudgementRow | None:
    """Returns the row with what its codes mean, as far as the entry can be read; rejects it with every issue.

    None where it is not known of which judgement the row is. Where the school is not known, neither is the scheme.
    """
    window, recorded_at = _find_window(batch, codes, at, entry), _find_time(batch, at, entry, now)
    subject_no = _find_number(batch, codes.subjects, at, entry, "subject")
    aspect_no = _find_number(batch, codes.aspects, at, entry, "aspect")
    version_no = None
    if school is not None:
        batch.locations[at] = Location(school.tenant_id, school.id, window and window["no"], subject_no, aspect_no)
        if window is not None and subject_no is not None and aspect_no is not None:
            version_no = codes.pins.get((window["no"], school.id, subject_no, aspect_no))
            if version_no is None:
                collected = codes.describe_collected(window["no"], school.id)
                message = f"The window does not collect this subject and aspect from {school.name}. {collected}"
                batch.reject(at, "subject", "not-collected", message)
    grade_no = None if version_no is None else _find_grade(batch, codes, at, entry, version_no, window["academic_year"])
    mark = _find_mark(batch, codes, at, entry, version_no, is_window_known=window is not None)
    if school is None or pupil_id is None or window is None or subject_no is None or aspect_no is None:
        return None
    row = JudgementRow(at, entry, school, pupil_id, window, subject_no, aspect_no, version_no, grade_no, mark, recorded_at)
    if batch.is_rejected(at):
        row.is_bad, row.has_value = True, _has_value(row)
    return row


def _has_value(row: JudgementRow) -> bool:
    """Whether what a bad row wants to store is known."""
    facts = [getattr(row.entry, name, UNSET) for name in ("grade", "mark", "status", "withdrawn")]
    if UNSET in facts or row.scheme_version_no is None:
        return False
    return (facts[0] is None) == (row.grade_no is None) and (facts[1] is None) == (row.mark is None)


def get_window_code(batch: Batch[Any, Any], entry: JudgementEntry) -> str | UnsetType | None:
    """Returns the window's code or id: the entry's own, else the batch's; None where that cannot be read."""
    code = getattr(entry, "window", None)
    return getattr(batch.head, "window", None) if code is UNSET else code


def _find_window(batch: Batch[Any, Any], codes: CodeTable, at: int, entry: JudgementEntry) -> Any:
    code = get_window_code(batch, entry)
    window = codes.windows.get(code) if isinstance(code, str) else None
    if code is UNSET:
        _reject_unnamed_window(batch, at)
    elif window is None and getattr(entry, "window", UNSET) is not UNSET:
        batch.reject(at, "window", "window-unknown", codes.describe_unknown_window(code, batch.suggestions))
    elif window is None:
        batch.drop(at)  # the window of the batch has an issue of its own
    return window


def _find_number(batch: Batch[Any, Any], numbers: dict[str, int], at: int, entry: JudgementEntry, noun: str) -> int | None:
    """Returns the number of the entry's subject or aspect."""
    code = getattr(entry, noun, None)
    if code is None:
        return None
    if (number := numbers.get(code)) is None:
        batch.reject(at, noun, *describe_unknown_code(noun, code, numbers, batch.suggestions))
    return number


def _find_time(batch: Batch[Any, Any], at: int, entry: JudgementEntry, now: datetime) -> datetime | None:
    said_at = getattr(entry, "recorded_at", None)
    if said_at is None:
        return None
    recorded_at: datetime = now if said_at is UNSET else said_at.astimezone(UTC)
    # by the database's clock or, in a sandbox whose calendar is ahead, by the calendar
    if recorded_at > max(now, clock.read_now()) + MAX_CLOCK_SKEW:
        batch.reject(at, "recordedAt", "recorded-in-future", "recordedAt lies more than 5 minutes ahead of the server's clock.")
    return recorded_at


def _find_grade(
    batch: Batch[Any, Any], codes: CodeTable, at: int, entry: JudgementEntry, version_no: int, academic_year: int
) -> int | None:
    code = getattr(entry, "grade", None)
    if code is None:
        return None
    grade = version_no, str(code), academic_year
    if (grade_no := codes.find_grade(*grade)) is None:
        batch.reject(at, "grade", "grade-unknown", codes.describe_unknown_grade(*grade, batch.suggestions))
    return grade_no


def _find_mark(
    batch: Batch[Any, Any], codes: CodeTable, at: int, entry: JudgementEntry, version_no: int | None, *, is_window_known: bool
) -> Decimal | None:
    """Returns the mark to store. Without a scheme version, it is checked where no scheme of the window rounds marks."""
    mark = getattr(entry, "mark", None)
    if mark is None or (version_no is None and (codes.rounding or not is_window_known)):
        return None
    return resolve_mark(batch, at, mark, None if version_no is None else codes.rounding.get(version_no))


def check_without_tenant(batch: Batch[Any, Any], at: int, entry: JudgementEntry, now: datetime) -> None:
    """Rejects a row for what is wrong with it whatever its tenant."""
    _find_time(batch, at, entry, now)
    if get_window_code(batch, entry) is UNSET:
        _reject_unnamed_window(batch, at)


def _reject_unnamed_window(batch: Batch[Any, Any], at: int) -> None:
    batch.reject(at, "window", "window-unknown", "Name the window by its code or id, in the entry or in the batch.")
