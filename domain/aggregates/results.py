"""The decoded result of the aggregate statement (statement.py): counts of pupils in each tenant, which are pooled over
tenants by code."""

from collections import Counter, defaultdict
from typing import NamedTuple

from msgspec import Struct, field

from domain.assessment.templates import Standard


class GroupKey(NamedTuple):
    """School id, codes, and an academic year such as 2017-18. All but the subject are None where they are pooled."""

    school: str | None
    subject: str
    window: str | None
    academic_year: str | None
    year_group: str | None
    class_id: str | None


class Categories(NamedTuple):
    """Characteristics that the pupils of a group share; None where they are pooled."""

    sex: str | None = None
    disadvantaged: str | None = None
    eal: str | None = None
    sen: str | None = None


class GradeId(NamedTuple):
    """A grade of a version of a scheme, by its numbers in a tenant. Grade 0 is no judgement."""

    tenant: str
    version_no: int
    grade_no: int


class Scale(NamedTuple):
    """A tenant's common scale in force: the names of its standards, and its bands from the lowest on."""

    tenant: str
    id: str
    name: str
    expected_label: str | None
    higher_label: str | None
    bands: tuple[str, ...]
    band_labels: tuple[str, ...]


class DiscountedCounts(Struct, array_like=True):
    """What the discounted pupils would add to counts."""

    eligible: int = 0
    valid: int = 0
    expected: int = 0
    higher: int = 0
    valued: int = 0
    expected_of: int = 0
    higher_of: int = 0
    hundredths: int = 0

    def __add__(self, other: "DiscountedCounts") -> "DiscountedCounts":
        return DiscountedCounts(
            self.eligible + other.eligible,
            self.valid + other.valid,
            self.expected + other.expected,
            self.higher + other.higher,
            self.valued + other.valued,
            self.expected_of + other.expected_of,
            self.higher_of + other.higher_of,
            self.hundredths + other.hundredths,
        )


class PupilCounts(Struct, array_like=True):
    """Counts of pupils. `guarded` are the eligible at schools reached without aggregates:internal; `expected_of` and
    `higher_of` those of the eligible who are judged in a scheme that has the standard; `hundredths` is the
    sum of the values of the `valued`; `judged` says whether there is any judgement; `discounted` are the counts of
    pupils who are in no other, None without any; `schemes` are the codes of the schemes the values come from;
    `standards` say of each scheme version used why it has no expected and no higher standard; `graded` are the eligible by grade, where the query
    includes bands or grades."""

    eligible: int = 0
    guarded: int = 0
    valid: int = 0
    expected: int = 0
    higher: int = 0
    valued: int = 0
    expected_of: int = 0
    higher_of: int = 0
    hundredths: int = 0
    judged: bool = False
    discounted: DiscountedCounts | None = None
    schemes: frozenset[str] = frozenset()
    standards: frozenset[tuple[Standard, Standard]] = frozenset()
    graded: Counter[GradeId] = field(default_factory=Counter)

    def __add__(self, other: "PupilCounts") -> "PupilCounts":
        return PupilCounts(
            self.eligible + other.eligible,
            self.guarded + other.guarded,
            self.valid + other.valid,
            self.expected + other.expected,
            self.higher + other.higher,
            self.valued + other.valued,
            self.expected_of + other.expected_of,
            self.higher_of + other.higher_of,
            self.hundredths + other.hundredths,
            self.judged or other.judged,
            self.discounted + other.discounted if self.discounted and other.discounted else self.discounted or other.discounted,
            self.schemes | other.schemes,
            self.standards | other.standards,
            self.graded + other.graded,
        )


class GroupFacts(Struct, array_like=True):
    """Facts of a group other than its counts. `internal`: all its schools are reached with aggregates:internal;
    `threshold`: the highest suppression threshold of their tenants; `order`: the number of its subject in the tenant;
    `population` (trust id or local authority), URN, name and code of a class are of its only school;
    `windows`: how many it pools, None for one."""

    schools: int
    internal: bool
    threshold: int
    order: int
    census_on: str
    population: str | None = None
    urn: int | None = None
    name: str | None = None
    class_code: str | None = None
    windows: int | None = None

    def __add__(self, other: "GroupFacts") -> "GroupFacts":
        """The facts of both groups together, which have no school in common."""
        threshold, order = max(self.threshold, other.threshold), min(self.order, other.order)
        internal, census_on = self.internal and other.internal, min(self.census_on, other.census_on)
        windows = None if self.windows is None else max(self.windows, other.windows or 0)
        return GroupFacts(self.schools + other.schools, internal, threshold, order, census_on, windows=windows)


class _TenantKey(NamedTuple):
    """A GroupKey within one tenant, where the subject is a number."""

    tenant: str
    school: str | None
    subject: int
    window: str | None
    academic_year: str | None
    year_group: str | None
    class_id: str | None


class FoundWindow(Struct, array_like=True):
    """A window that the query names, within reach."""

    id: str
    code: str
    academic_year: str
    season: str
    has_opened: bool


class RequestedSchool(Struct, array_like=True):
    """A school that the query covers, with its LAESTAB while it is open. `joined_elsewhen`: it was in the trust of the query, but on no census date of a
    window of the query."""

    id: str
    urn: int
    name: str
    joined_elsewhen: bool
    laestab: str | None = None
    tenant: str | None = None


class Tally(Struct):
    """The facts of each group, and its counts by categories, with the numbers of the scheme versions that their values come
    from, and of all scheme versions.
    Categories without pupils are missing."""

    facts: list[tuple[_TenantKey, GroupFacts]]
    counts: list[tuple[_TenantKey, Categories, PupilCounts, list[int], list[int]]]


class AggregateResult(Struct):
    """The result of the statement.

    `windows`: those that the query names, within reach. `subject`, `trust`: whether that of the query is. `opened`: whether a window of the
    query had opened by the day as of which it asks. `window_codes`: the codes of the newest windows within reach, where none of the query
    is. `schools`: the schools within reach that the query covers. `empty`: the windows of a school in which no pupil is counted (tenant,
    school, and the numbers of the subjects collected). `subject_codes`, `scheme_codes`: codes by tenant and number; of schemes also why a
    version has no standards. `scales`: the common scales in force. `groups`: grouped as the query says. `by_school`: grouped by school
    alone, or None where that is the same. `graded`: the eligible of each of `groups` by numbers of scheme versions and grades, and
    `grade_facts` of each of these (graded_cells.select_grade_facts), where the query includes bands or grades.
    """

    windows: list[FoundWindow]
    window_codes: list[str]
    opened: bool
    subject: bool
    trust: bool
    schools: list[RequestedSchool]
    empty: list[tuple[str, str, list[int]]]
    subject_codes: list[tuple[str, int, str]]
    scheme_codes: list[tuple[str, int, str, Standard, Standard]]
    scales: list[Scale]
    groups: Tally
    by_school: Tally | None
    graded: list[tuple[_TenantKey, Categories, list[tuple[int, int, int]]]] = []
    grade_facts: list[
        tuple[str, int, int, str, int, str | None, str | None, int | None, bool | None, int | None, bool | None, bool]
    ] = []

    def pool(self, tally: Tally) -> tuple[dict[GroupKey, GroupFacts], dict[tuple[GroupKey, Categories], PupilCounts]]:
        """Adds up the facts and the counts of all tenants, by code."""
        subject_codes = {(tenant, number): code for tenant, number, code in self.subject_codes}
        scheme_codes = {(tenant, number): code for tenant, number, code, *_ in self.scheme_codes}
        standards = {(tenant, number): (expected, higher) for tenant, number, _, expected, higher in self.scheme_codes}
        pooled_facts: dict[GroupKey, GroupFacts] = {}
        pooled_counts: dict[tuple[GroupKey, Categories], PupilCounts] = {}
        for in_tenant, facts in tally.facts:
            key = GroupKey(in_tenant.school, subject_codes[in_tenant.tenant, in_tenant.subject], *in_tenant[3:])
            pooled_facts[key] = pooled_facts[key] + facts if key in pooled_facts else facts
        for in_tenant, categories, counts, valued, versions in tally.counts:
            key = GroupKey(in_tenant.school, subject_codes[in_tenant.tenant, in_tenant.subject], *in_tenant[3:])
            counts.schemes = frozenset(scheme_codes[in_tenant.tenant, version] for version in valued)
            counts.standards = frozenset(standards[in_tenant.tenant, version] for version in versions)
            part = key, categories
            pooled_counts[part] = pooled_counts[part] + counts if part in pooled_counts else counts
        if tally is self.groups:
            for in_tenant, categories, graded in self.graded:
                key = GroupKey(in_tenant.school, subject_codes[in_tenant.tenant, in_tenant.subject], *in_tenant[3:])
                for version_no, grade_no, pupils in graded:
                    pooled_counts[key, categories].graded[GradeId(in_tenant.tenant, version_no, grade_no)] += pupils
        return pooled_facts, pooled_counts

    def list_collected_subjects(self) -> dict[str, list[set[str]]]:
        """Returns, by school, the codes of the subjects collected in each of its windows in which no pupil is counted."""
        codes = {(tenant, number): code for tenant, number, code in self.subject_codes}
        collected: defaultdict[str, list[set[str]]] = defaultdict(list)
        for tenant, school, numbers in self.empty:
            collected[school].append({codes[tenant, number] for number in numbers})
        return collected
