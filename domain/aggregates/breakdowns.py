"""The pupils of a row by band and grade, from their counts by grade (graded_cells.py).

Bands and grades are of one subject, so a conjunction has none. They close: every eligible pupil is in one band or counted beside them with the
reason, so that nobody looks better by whom they lack.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from domain.aggregates.aggregate_rows import AggregateRow
from domain.aggregates.breakdown_rows import BandCount, BandTable, GradeCount, GradeTable, Missing, Why
from domain.aggregates.groups import PupilGroup, compute_percent
from domain.aggregates.results import AggregateResult, GradeId, PupilCounts, Scale
from domain.assessment.templates import PARTS_OF

_WHYS: tuple[Why, ...] = ("below-expected", "no-mark", "no-place")
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
