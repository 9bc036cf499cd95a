"""Compares what an attacker finds with the pupils: which unsafe groups are disclosed, and how."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from tests.attack.generated_trusts import GeneratedTrust
from tests.attack.readings import SUBJECTS, Reading
from tests.attack.solving import Attack, Question, Range

SMALL = 6
"""A group of fewer pupils, or of fewer with a mark, is unsafe."""
ENOUGH_SIZES, ENOUGH_COUNTS = 5, 2


@dataclass
class Verdicts:
    """Of unsafe groups: how many sizes and attainment counts were tried, and those that are disclosed."""

    sizes: int = 0
    counts: int = 0
    exact_sizes: list[Question] = field(default_factory=list)
    narrow_sizes: list[tuple[Question, Range]] = field(default_factory=list)
    exact_counts: list[Question] = field(default_factory=list)
    implied: int = 0
    """Attainment counts that a total which may be shown tells: nobody, or everybody, of a group around."""

    def note(self, question: Question, found: Range) -> None:
        """Counts what is found of a question that nothing shown implies."""
        if question.enough == ENOUGH_SIZES:
            self.sizes += 1
            if found.width == 1:
                self.exact_sizes.append(question)
            elif found.width < ENOUGH_SIZES:
                self.narrow_sizes.append((question, found))
        else:
            self.counts += 1
            if found.width == 1:
                self.exact_counts.append(question)

    def add(self, other: "Verdicts") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def is_small(number: int, least: int = SMALL) -> bool:
    return 0 < number < least


class Truth:
    """The pupils of a trust, and which of its rows pool which schools."""

    def __init__(
        self, trust: GeneratedTrust, readings: Sequence[Reading], attainment_from: int, subjects: Sequence[str] = SUBJECTS
    ) -> None:
        self._trust, self._attainment_from, self._subjects = trust, attainment_from, subjects
        self._pools = {reading.year: reading.pooled for reading in readings if reading[:1] + reading[2:3] == (None, None)}

    def list_questions(self) -> Iterator[tuple[Question, int]]:
        """Yields what may not be found of unsafe groups, with the truth: those with 1 to 5 pupils, or with 1 to 5 marks in a subject or in all.

        Where attainment is shown from a larger number of pupils and of marks on, a group with fewer is unsafe too.
        """
        for group in self._trust.groups():
            pooled = self._pools.get(group.year) if group.school is None else None
            counts = {
                (subject, what): self._trust.count(group, subject, what, pooled)
                for subject in self._subjects
                for what in ("eligible", "valid", "expected", "higher")
            }
            eligible = counts[self._subjects[-1], "eligible"]
            marks = [counts[subject, "valid"] for subject in self._subjects]
            if not any(is_small(number, self._attainment_from) for number in (eligible, *marks)):
                continue
            place = (None if group.school is None else self._trust.urns[group.school], *group[1:])
            if is_small(eligible):
                yield Question(*place, "eligible", ENOUGH_SIZES, pooled), eligible
            for (subject, what), count in counts.items():
                if what in ("expected", "higher"):
                    yield Question(*place, (subject, what), ENOUGH_COUNTS, pooled), count
                elif what == "valid" and is_small(count):
                    yield Question(*place, (subject, what), ENOUGH_SIZES, pooled), count


def require_whole(question: Question, truth: int, found: Range) -> None:
    """Fails where the truth lies outside what the attack finds."""
    is_whole = found.width >= question.enough or found.low <= truth <= found.high
    assert is_whole, f"{question} is {truth}, not in {found}: the attack supposes what is not so"


def judge(
    trust: GeneratedTrust, readings: Sequence[Reading], attainment_from: int = SMALL, subjects: Sequence[str] = SUBJECTS
) -> Verdicts:
    """Attacks a trust by what was read of it. Fails where a count of its pupils lies outside what the attack finds.

    The same pupils are eligible in all `subjects`.
    """
    asked = list(Truth(trust, readings, attainment_from, subjects).list_questions())
    questions = [question for question, _ in asked]
    ranges = Attack(readings).find_ranges(questions)
    shown = Shown(readings)
    verdicts = Verdicts()
    for (question, truth), found in zip(asked, ranges, strict=True):
        require_whole(question, truth, found)
        if question.enough != ENOUGH_SIZES and found.width == 1 and shown.implies(question):
            verdicts.implied += 1
        else:
            verdicts.note(question, found)
    return verdicts


class Shown:
    """The rows that are shown, to see whether one of them says that nobody, or everybody, of a group is counted."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._rows = {reading[:5]: reading for reading in readings if reading.status != "c"}
        self._years: defaultdict[int, set[str]] = defaultdict(set)
        for reading in readings:
            if reading.school is not None and reading.year is not None:
                self._years[reading.school].add(reading.year)

    def implies(self, question: Question) -> bool:
        """Whether a group around, which may be shown, has nobody or everybody in the count, or each part of the group has such a one."""
        assert not isinstance(question.count, str)
        for school, year in product({None, question.school}, {None, question.year}):
            for eligible, count in self._list_around(question, school, year):
                if count in (0, eligible):
                    return True
        if question.school is None:
            pooled = self._years if question.pooled is None else question.pooled
            parts = [school for school in pooled if question.year is None or question.year in self._years[school]]
            return all(self.implies(question._replace(school=school, pooled=None)) for school in parts)
        return question.year is None and all(self.implies(question._replace(year=year)) for year in self._years[question.school])

    def _list_around(self, question: Question, school: int | None, year: str | None) -> Iterator[tuple[int, int]]:
        """Yields pupils and count of the shown groups at a place that contain the group: its own category, all pupils, and all with SEN."""
        whole = self._get_counts(question, school, year, None, None)
        own = self._get_counts(question, school, year, question.dimension, question.category)
        yield from (each for each in (whole, own) if each is not None)
        if question.dimension == "sen" and question.category != "N" and whole is not None:
            none = self._get_counts(question, school, year, "sen", "N")
            if none is not None:
                yield whole[0] - none[0], whole[1] - none[1]

    def _get_counts(
        self, question: Question, school: int | None, year: str | None, dimension: str | None, category: str | None
    ) -> tuple[int, int] | None:
        subject, what = question.count
        row = self._rows.get((school, year, dimension, category, subject))
        if row is None or any(is_small(getattr(row, size)) for size in ("eligible", "valid")):
            return None
        if school is None and row.pooled is not None:
            inside = (question.pooled or frozenset(self._years)) if question.school is None else {question.school}
            if not inside <= row.pooled:
                return None
        return row.eligible or 0, getattr(row, what)


def find_averages_of_few(readings: Sequence[Reading]) -> list[Reading]:
    """Rows that show an average of 1 to 5 marks."""
    return [each for each in readings if each.average is not None and is_small(each.valid or 0)]


def find_late_marks(before: Sequence[Reading], after: Sequence[Reading]) -> list[tuple[Reading, float]]:
    """Rows in which one more pupil has a mark than before, each with the mark that the two averages give."""
    earlier = {reading[:5]: reading for reading in before}
    found = []
    for reading in after:
        old = earlier.get(reading[:5])
        if old is not None and old.valid is not None and reading.valid == old.valid + 1 and reading.average is not None:
            found.append((reading, reading.valid * reading.average - old.valid * (old.average or 0)))
    return found
