"""What the statement of cells.py answers: places and the pupils counted there, tenant by tenant, and how tenants are pooled by code."""

from collections import defaultdict
from typing import NamedTuple

from msgspec import Struct


class GroupKey(NamedTuple):
    """What places a group of pupils; school (its id) and year group are None where they are pooled. Codes, and 2017-18."""

    school: str | None
    subject: str
    window: str
    academic_year: str
    year_group: str | None


class Categories(NamedTuple):
    """What kind of pupils a group holds; None where they are pooled."""

    sex: str | None = None
    disadvantaged: str | None = None
    eal: str | None = None
    sen: str | None = None


class PupilCounts(Struct, array_like=True):
    """Pupils. `guarded` are the eligible at schools reached without aggregates:internal; `hundredths` is the sum of the values of the
    `valued`; `judged` says whether there is any judgement; `schemes` are the codes of the schemes the values come from."""

    eligible: int = 0
    guarded: int = 0
    valid: int = 0
    expected: int = 0
    higher: int = 0
    valued: int = 0
    hundredths: int = 0
    judged: bool = False
    schemes: frozenset[str] = frozenset()

    def __add__(self, other: "PupilCounts") -> "PupilCounts":
        return PupilCounts(
            self.eligible + other.eligible,
            self.guarded + other.guarded,
            self.valid + other.valid,
            self.expected + other.expected,
            self.higher + other.higher,
            self.valued + other.valued,
            self.hundredths + other.hundredths,
            self.judged or other.judged,
            self.schemes | other.schemes,
        )


class GroupFacts(Struct, array_like=True):
    """What is known of a group beside its counts. `internal`: all its schools are reached with aggregates:internal; `threshold`: the highest
    of their tenants; `order` of its subject in the tenant; `population` (trust id or local authority), URN and name of its only school."""

    schools: int
    internal: bool
    threshold: int
    order: int
    census_on: str
    population: str | None = None
    urn: int | None = None
    name: str | None = None

    def __add__(self, other: "GroupFacts") -> "GroupFacts":
        """Of both places, with other schools each."""
        threshold, order = max(self.threshold, other.threshold), min(self.order, other.order)
        internal, census_on = self.internal and other.internal, min(self.census_on, other.census_on)
        return GroupFacts(self.schools + other.schools, internal, threshold, order, census_on)


class _NumberedKey(NamedTuple):
    """A Key in one tenant: the subject is its number there."""

    tenant: str
    school: str | None
    subject: int
    window: str
    academic_year: str
    year_group: str | None


class RequestedSchool(Struct, array_like=True):
    """A school asked about. `joined_elsewhen`: of the trust asked for, but on no census date of a window asked for."""

    id: str
    urn: int
    name: str
    joined_elsewhen: bool


class Tally(Struct):
    """Counts by place and kind of pupils. A kind that a place has none of is missing."""

    places: list[tuple[_NumberedKey, GroupFacts]]
    parts: list[tuple[_NumberedKey, Categories, PupilCounts, list[int]]]


class AggregateResult(Struct):
    """The statement's answer: whether the window, subject and trust asked for are within reach, the schools asked about that are, the codes
    of (tenant, number), and the counts: as grouped by, and by school (None where that is the same).

    `empty` are the windows of a school in which nobody at all is counted: tenant, school, and the numbers of the subjects it collects there.
    """

    window: bool
    subject: bool
    trust: bool
    schools: list[RequestedSchool]
    empty: list[tuple[str, str, list[int]]]
    subject_codes: list[tuple[str, int, str]]
    scheme_codes: list[tuple[str, int, str]]
    groups: Tally
    by_school: Tally | None

    def pool(self, tally: Tally) -> tuple[dict[GroupKey, GroupFacts], dict[tuple[GroupKey, Categories], PupilCounts]]:
        """Places and counts over all tenants, by code."""
        subjects_ = {(tenant, no): code for tenant, no, code in self.subject_codes}
        schemes_ = {(tenant, no): code for tenant, no, code in self.scheme_codes}
        places: dict[GroupKey, GroupFacts] = {}
        parts: dict[tuple[GroupKey, Categories], PupilCounts] = {}
        for numbered, place in tally.places:
            key = GroupKey(numbered.school, subjects_[numbered.tenant, numbered.subject], *numbered[3:])
            places[key] = places[key] + place if key in places else place
        for numbered, categories, counts, versions in tally.parts:
            at = GroupKey(numbered.school, subjects_[numbered.tenant, numbered.subject], *numbered[3:]), categories
            counts.schemes = frozenset(schemes_[numbered.tenant, version] for version in versions)
            parts[at] = parts[at] + counts if at in parts else counts
        return places, parts

    def collected(self) -> dict[str, list[set[str]]]:
        """By school, the codes of the subjects collected in each of its windows in which nobody is counted."""
        codes = {(tenant, no): code for tenant, no, code in self.subject_codes}
        found: defaultdict[str, list[set[str]]] = defaultdict(list)
        for tenant, school, numbers in self.empty:
            found[school].append({codes[tenant, number] for number in numbers})
        return found
