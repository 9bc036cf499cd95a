"""The pupils of an aggregate by the grade that they have: counted in SQL where a question includes bands or grades, and told by band and grade.

Bands and grades are of one subject, so a conjunction has none. They close: every eligible pupil is in one band or counted beside them with the
reason, so that nobody looks better by whom they lack.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, Text, and_, bindparam, cast, exists, func, literal_column, or_, select

from domain.aggregates.aggregate_rows import AggregateRow
from domain.aggregates.breakdown_rows import BandCount, BandTable, GradeCount, GradeTable, Missing, Why
from domain.aggregates.cells import grades, scheme_versions
from domain.aggregates.groups import PupilGroup, compute_percent
from domain.aggregates.measures import Sources, count_eligible, join_counted, join_grades, list_categories
from domain.aggregates.results import AggregateResult, GradeId, PupilCounts, Scale
from domain.aggregates.template import AggregateTemplate
from domain.assessment.schemes import schemes
from domain.assessment.subjects import subjects
from domain.assessment.templates import PARTS_OF

_WHYS: tuple[Why, ...] = ("below-expected", "no-mark", "no-place")
_FIRST_KEYS = ("tenant_id", "school", "subject_no", "window", "academic_year")


def select_graded(sources: Sources, template: AggregateTemplate) -> Select[Any]:
    """A row for each group of pupils of the question and each grade: the key and categories of the group, the grade and its pupils."""
    source, s = sources.counts.cells, subjects.c
    t = source.c
    requested = bindparam("subject", type_=Text)
    collected = exists().where(
        s.tenant_id == t.tenant_id, s.no == t.subject_no, ~s.derived, or_(cast(requested, Text).is_(None), s.code == requested)
    )
    rows = join_grades(join_counted(sources, source), source).where(collected)
    rows = list_categories(rows, template, t).add_columns(
        t.scheme_version_no.label("version_no"), t.grade_no, count_eligible(source, grades.c)[0].label("n")
    )
    return rows


def gather_graded(rows: Any, template: AggregateTemplate, categories: Iterable[str]) -> Select[Any]:
    """A JSON array for each group: its key, its categories, and its numbers of scheme versions and grades with their pupils."""
    r = rows.c
    nothing: ColumnElement[Any] = literal_column("NULL")
    pooled = {"school"} if not template.by_school else set()
    pooled |= {"window", "academic_year"} if template.pools_windows else set()
    key = [nothing if name in pooled else r[name] for name in _FIRST_KEYS]
    key += [r.year_group if template.by_year_group else nothing, r.class_id if template.by_class else nothing]
    divided = [r[name] if name in template.categories else nothing for name in categories]
    by = [value for value in (*key, *divided) if value is not nothing]
    pupils = func.sum(r.n)
    summed = select(*by, r.version_no, r.grade_no, cast(pupils, Integer).label("n")).group_by(*by, r.version_no, r.grade_no)
    counted = summed.having(pupils > literal_column("0")).subquery("graded_groups")
    c = counted.c
    of_key = [value if value is nothing else c[value.name] for value in key]
    of_divided = [value if value is nothing else c[value.name] for value in divided]
    graded = func.json_agg(func.json_build_array(c.version_no, c.grade_no, c.n))
    return select(
        func.json_build_array(func.json_build_array(*of_key), func.json_build_array(*of_divided), graded).label("item")
    ).group_by(*(value for value in (*of_key, *of_divided) if value is not nothing))


def select_grade_facts(rows: Any, sources: Sources) -> Select[Any]:
    """A JSON array for each grade that somebody has: GradeFacts."""
    used = select(rows.c.tenant_id, rows.c.version_no, rows.c.grade_no).distinct().subquery("used_grades")
    u, v, m, g, p, o = used.c, scheme_versions.c, schemes.c, grades.c, sources.places.c, sources.placed_versions.c
    same = and_(g.tenant_id == u.tenant_id, g.scheme_version_no == u.version_no, g.no == u.grade_no)
    placed = and_(p.tenant_id == u.tenant_id, p.scheme_version_no == u.version_no, p.grade_no == u.grade_no)
    of_version = and_(o.tenant_id == u.tenant_id, o.scheme_version_no == u.version_no)
    facts = (u.tenant_id, u.version_no, u.grade_no, m.code, v.version, g.code, g.label, g.rank, g.valid, p.band_no, p.expected)
    return (
        select(func.json_build_array(*facts, func.coalesce(o.expected, literal_column("false"))).label("item"))
        .select_from(used)
        .join(scheme_versions, (v.tenant_id == u.tenant_id) & (v.no == u.version_no))
        .join(schemes, (m.tenant_id == v.tenant_id) & (m.id == v.scheme_id))
        .outerjoin(grades, same)
        .outerjoin(sources.places, placed)
        .outerjoin(sources.placed_versions, of_version)
    )


BEGINNINGS = {"bands": ("bands.", "noBand."), "grades": ("grades.", "noGrade")}
"""How the names of counts begin, by what they are included by."""


def name_count(count: Mapping[str, Any]) -> str:
    """Returns a name for a count of a BandTable or GradeTable, such as for the columns of a file."""
    if "band" in count:
        return f"noBand.{count['why']}" if count["band"] is None else f"bands.{count['band']}"
    return "noGrade" if count["grade"] is None else f"grades.{count['scheme']}.{count['grade']}"


class _Facts(NamedTuple):
    scheme: str
    version: int
    code: str | None
    label: str | None
    rank: int | None
    valid: bool | None
    band_no: int | None
    expected: bool | None
    is_version_placed: bool


@dataclass(frozen=True)
class Breakdowns:
    """The facts of the grades of an answer, and the scales of its tenants."""

    facts: Mapping[GradeId, _Facts]
    scales: Mapping[str, Scale]

    @classmethod
    def of(cls, result: AggregateResult) -> "Breakdowns":
        facts = {GradeId(*item[:3]): _Facts(*item[3:]) for item in result.grade_facts}
        return cls(facts, {scale.tenant: scale for scale in result.scales})

    def add(self, row: AggregateRow, group: PupilGroup, include: tuple[str, ...]) -> None:
        """Adds to a row what the query includes of its pupils."""
        if "bands" in include:
            row.bands = self._make_bands(group.key.subject, group.counts)
        if "grades" in include:
            row.grades = self._make_grades(group.key.subject, group.counts)

    def list_names(self, include: tuple[str, ...]) -> list[str]:
        """Returns the names of all counts of an answer: of bands and grades from the lowest on."""
        names: list[str] = []
        if "bands" in include:
            names += dict.fromkeys(f"bands.{band}" for scale in self.scales.values() for band in scale.bands)
            names += [f"noBand.{why}" for why in _WHYS]
        if "grades" in include:
            of_grades = sorted((f for f in self.facts.values() if f.code is not None), key=_rank_grade)
            names += dict.fromkeys(f"grades.{facts.scheme}.{facts.code}" for facts in of_grades)
            names.append("noGrade")
        return names

    def _make_bands(self, subject: str, counts: PupilCounts) -> BandTable:
        """Returns the pupils of a row by band."""
        scales = {self.scales[grade.tenant] for grade in counts.graded if grade.tenant in self.scales}
        reason = _find_reason(subject, counts) or ("several-scales" if len(scales) > 1 else None if scales else "no-scale")
        if reason:
            return BandTable(reason=reason)
        (scale,) = scales
        found: Counter[int | str] = Counter()
        for grade, pupils in counts.graded.items():
            found[self._find_place(grade)] += pupils
        of = sum(found.values()) - found["no-place"]
        if not of:
            return BandTable(reason="no-place")
        rows = [
            BandCount(band=band, label=label, pupils=found[no], percent=compute_percent(found[no], of))
            for no, (band, label) in enumerate(zip(scale.bands, scale.band_labels, strict=True), 1)
        ]
        rows += [
            BandCount(why=why, pupils=found[why], percent=None if why == "no-place" else compute_percent(found[why], of))
            for why in _WHYS
            if found[why]
        ]
        return BandTable(counts=rows, of=of)

    def _make_grades(self, subject: str, counts: PupilCounts) -> GradeTable:
        """Returns the pupils of a row by grade of the schools' schemes."""
        if reason := _find_reason(subject, counts):
            return GradeTable(reason=reason)
        pupils: Counter[tuple[str, str] | None] = Counter()
        newest: dict[tuple[str, str], _Facts] = {}
        for grade, number in counts.graded.items():
            facts = self.facts[grade]
            key = None if facts.code is None else (facts.scheme, facts.code)
            pupils[key] += number
            if key is not None and (key not in newest or facts.version > newest[key].version):
                newest[key] = facts
        order = sorted(newest, key=lambda key: _rank_grade(newest[key]))
        rows = [
            GradeCount(
                scheme=key[0],
                grade=key[1],
                label=newest[key].label,
                pupils=pupils[key],
                percent=compute_percent(pupils[key], counts.eligible),
            )
            for key in order
        ]
        if pupils[None]:
            rows.append(GradeCount(pupils=pupils[None], percent=compute_percent(pupils[None], counts.eligible)))
        return GradeTable(counts=rows, of=counts.eligible)

    def _find_place(self, grade: GradeId) -> int | str:
        """Returns the number of the band that a grade is in, or why it is in none."""
        facts = self.facts[grade]
        if not facts.valid:
            return "no-mark" if facts.is_version_placed and grade.tenant in self.scales else "no-place"
        if facts.band_no is not None:
            return facts.band_no
        return "below-expected" if facts.expected is False and grade.tenant in self.scales else "no-place"


def _rank_grade(facts: _Facts) -> tuple[str, bool, int, str]:
    """Returns where a grade comes among others: by scheme and rank, after those that count the others."""
    return facts.scheme, not facts.valid, facts.rank or 0, facts.code or ""


def _find_reason(subject: str, counts: PupilCounts) -> Missing | None:
    if not counts.eligible:
        return "nobody-eligible"
    if subject in PARTS_OF or not counts.graded:
        return "conjunction"
    return None if counts.valid or counts.judged else "nothing-judged"
