"""Compares what an attacker finds with the pupils: which unsafe groups are disclosed, and how."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

from tests.attack.generated_trusts import GeneratedTrust, Group
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

    def add(self, other: "Verdicts") -> None:
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)


def is_small(number: int) -> bool:
    return 0 < number < SMALL


def list_unsafe(trust: GeneratedTrust) -> Iterator[Group]:
    """Yields the groups with 1 to 5 pupils, or with 1 to 5 marks in a subject or in all of them."""
    for group in trust.groups():
        valid = (trust.count(group, subject, "valid") for subject in SUBJECTS)
        if is_small(trust.count(group, None, "eligible")) or any(map(is_small, valid)):
            yield group


def list_questions(trust: GeneratedTrust, group: Group) -> Iterator[tuple[Question, int]]:
    """Yields what may not be found of an unsafe group, with the truth."""
    place = (None if group.school is None else trust.urns[group.school], *group[1:])
    if is_small(eligible := trust.count(group, None, "eligible")):
        yield Question(*place, "eligible", ENOUGH_SIZES), eligible
    for subject in SUBJECTS:
        if is_small(valid := trust.count(group, subject, "valid")):
            yield Question(*place, (subject, "valid"), ENOUGH_SIZES), valid
        for what in ("expected", "higher"):
            yield Question(*place, (subject, what), ENOUGH_COUNTS), trust.count(group, subject, what)


def judge(trust: GeneratedTrust, readings: Sequence[Reading]) -> Verdicts:
    """Attacks a trust by what was read of it. Fails where a count of its pupils lies outside what the attack finds."""
    asked = [each for group in list_unsafe(trust) for each in list_questions(trust, group)]
    questions = [question for question, _ in asked]
    ranges = Attack(readings).find_ranges(questions)
    shown = {reading[:5]: reading for reading in readings if reading.status != "c"}
    verdicts = Verdicts()
    for (question, truth), found in zip(asked, ranges, strict=True):
        is_whole = found.width >= question.enough or found.low <= truth <= found.high
        assert is_whole, f"{question} is {truth}, not in {found}: the attack supposes what is not so"
        if question.enough == ENOUGH_SIZES:
            verdicts.sizes += 1
            if found.width == 1:
                verdicts.exact_sizes.append(question)
            elif found.width < ENOUGH_SIZES:
                verdicts.narrow_sizes.append((question, found))
        elif found.width == 1 and is_implied(question, shown):
            verdicts.implied += 1
        else:
            verdicts.counts += 1
            if found.width == 1:
                verdicts.exact_counts.append(question)
    return verdicts


def is_implied(question: Question, shown: dict[tuple[object, ...], Reading]) -> bool:
    """Whether a safe group that is shown and contains the group has nobody, or everybody, in the count."""
    assert not isinstance(question.count, str)
    subject, what = question.count
    divisions = {(None, None), (question.dimension, question.category)}
    for school, year, division in product({None, question.school}, {None, question.year}, divisions):
        around = shown.get((school, year, *division, subject))
        if around is None or any(is_small(getattr(around, size) or 0) for size in ("eligible", "valid")):
            continue
        if getattr(around, what) in (0, around.eligible):
            return True
    return False


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
