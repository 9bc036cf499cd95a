"""Where grades have no place on a scale, in SQL: no percentage of a standard may count their pupils as below it."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import CTE, ColumnElement, Select, and_, any_, case, func, literal_column, select

from domain.aggregates.cells import MAIN_ASPECT, scheme_versions
from domain.assessment.subjects import subjects
from domain.assessment.windows import pins


@dataclass(frozen=True)
class Unplaced:
    """Where grades have no place: scheme versions without a standard, and conjunctions at schools that judge a part of them in such a version.

    Their pupils are neither above nor below a standard, and enter no percentage of it.
    """

    versions: CTE
    conjunctions: CTE

    @classmethod
    def of(cls, reached: CTE, counted: CTE) -> "Unplaced":
        v, c, part, whole = scheme_versions.c, counted.c, subjects.alias("part"), subjects.alias("whole")
        versions = (
            select(v.tenant_id, v.no, v.expected_status, v.higher_status)
            .where(v.tenant_id.in_(select(reached.c.tenant_id)), v.expected_status.is_not(None) | v.higher_status.is_not(None))
            .cte("unplaced_versions")
            .prefix_with("MATERIALIZED")
        )
        statuses = (func.max(versions.c[name]).label(name) for name in ("expected_status", "higher_status"))
        conjunctions = (
            select(c.tenant_id, c.no.label("window_no"), c.id.label("school_id"), whole.c.no.label("subject_no"), *statuses)
            .join_from(counted, pins, (pins.c.tenant_id == c.tenant_id) & (pins.c.window_no == c.no) & (pins.c.school_id == c.id))
            .join(versions, (versions.c.tenant_id == c.tenant_id) & (versions.c.no == pins.c.scheme_version_no))
            .join(part, (part.c.tenant_id == c.tenant_id) & (part.c.no == pins.c.subject_no))
            .join(whole, (whole.c.tenant_id == c.tenant_id) & whole.c.derived & (part.c.code == any_(whole.c.combines)))
            .where(pins.c.aspect_no == MAIN_ASPECT)
            .group_by(c.tenant_id, c.no, c.id, whole.c.no)
            .cte("unplaced_conjunctions")
            .prefix_with("MATERIALIZED")
        )
        return cls(versions, conjunctions)

    def join(self, rows: Select[Any], of: Any, version_no: ColumnElement[Any]) -> Select[Any]:
        """Joins what is said of a row of cells or totals, whose columns are `of`."""
        v, k = self.versions.c, self.conjunctions.c
        same = ("tenant_id", "window_no", "school_id", "subject_no")
        rows = rows.outerjoin(self.versions, (v.tenant_id == of.tenant_id) & (v.no == version_no))
        return rows.outerjoin(self.conjunctions, and_(*(k[name] == of[name] for name in same)))

    def limit(self, eligible: ColumnElement[Any]) -> list[ColumnElement[Any]]:
        """Returns how many of the eligible of a row have a place by the expected and by the higher standard."""
        v, k = self.versions.c, self.conjunctions.c
        return [
            case((v[name].is_(None) & k[name].is_(None), eligible), else_=literal_column("0"))
            for name in ("expected_status", "higher_status")
        ]
