"""Compares two editions: what a reader of both finds of the few pupils who changed between them."""

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.attack.generated_trusts import GeneratedTrust, Group, Pupil, is_member
from tests.attack.readings import SUBJECTS, Reading
from tests.attack.solving import Attack, Question
from tests.attack.verdicts import ENOUGH_COUNTS, ENOUGH_SIZES, Shown, Verdicts, is_small, require_whole

WHATS = ("eligible", "valid", "expected", "higher")


def find_level(pupil: Pupil, subject: str) -> int:
    return min(pupil.marks[part].level for part in (SUBJECTS[:3] if subject == "rwm" else (subject,)))


def count_changed(before: GeneratedTrust, after: GeneratedTrust, group: Group, subject: str, pooled: frozenset[int] | None) -> int:
    """By how few pupils what differs in a subject is explained: each of them joined, left, or has another level."""

    def list_levels(trust: GeneratedTrust) -> Counter[int]:
        pupils = [each for each in trust.pupils if is_member(each, group)]
        if group.school is None and pooled is not None:
            pupils = [each for each in pupils if trust.urns[each.school] in pooled]
        return Counter(find_level(each, subject) for each in pupils)

    was, now = list_levels(before), list_levels(after)
    return max((now - was).total(), (was - now).total())


def find_few(before: GeneratedTrust, after: GeneratedTrust, first: Sequence[Reading], least: int) -> Iterator[Group]:
    """The groups that the first edition shows and in which few pupils changed since, in any subject."""
    for reading in first:
        if reading.subject != SUBJECTS[0] or reading.status == "c":
            continue
        school = None if reading.school is None else before.urns.index(reading.school)
        group = Group(school, reading.year, reading.dimension, reading.category)
        if any(is_small(count_changed(before, after, group, subject, reading.pooled), least) for subject in SUBJECTS):
            yield group


def judge_changes(
    before: GeneratedTrust, after: GeneratedTrust, first: Sequence[Reading], second: Sequence[Reading], attainment_from: int = 6
) -> Verdicts:
    """Attacks what the second edition shows anew. What the first showed of a group is certain, so that a bound of what it is now is one of what
    the few pupils changed."""
    pools = {reading.year: reading.pooled for reading in first if reading[:1] + reading[2:3] == (None, None)}
    asked: list[tuple[Question, int]] = []
    for group in find_few(before, after, first, attainment_from):
        pooled = pools.get(group.year) if group.school is None else None
        place = (None if group.school is None else before.urns[group.school], *group[1:])
        asked.append((Question(*place, "eligible", ENOUGH_SIZES, pooled), after.count(group, SUBJECTS[-1], "eligible", pooled)))
        for subject in SUBJECTS:
            for what in WHATS[1:]:
                enough = ENOUGH_SIZES if what == "valid" else ENOUGH_COUNTS
                question = Question(*place, (subject, what), enough, pooled)
                asked.append((question, after.count(group, subject, what, pooled)))
    ranges = Attack(second).find_ranges([question for question, _ in asked])
    shown, verdicts = Shown(second), Verdicts()
    for (question, truth), found in zip(asked, ranges, strict=True):
        require_whole(question, truth, found)
        if question.count != "eligible" and found.width < question.enough and shown.implies(question):
            verdicts.implied += 1
        else:
            verdicts.note(question, found)
    return verdicts
