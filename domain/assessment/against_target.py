"""The target that a judgement is compared with.

It is the target of the pupil, subject and aspect whose horizon is the nearest from the census day of the window on, as it
stood when the window closed, or as it is now while the window is open. Targets that the caller may not
see are none. So a target that is set later changes nothing of
a window that has closed. Of targets for one day, one in the judgement's scheme version goes before others, then the one
that was set last.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, case, func, select, true

from domain.assessment.horizons import find_horizon_date
from domain.assessment.schemes import column_of_grade, scheme_grades
from domain.assessment.target_visibility import sees_target
from domain.assessment.targets import target_history, targets
from domain.assessment.window_state import derive_closed_at
from domain.assessment.windows import windows


def compare_with_target(row: Any) -> ColumnElement[Any]:
    """Returns in SQL above, on or below. `row` are the columns of judgements."""
    nearest = _select_nearest(row).subquery()
    g, rank = scheme_grades.alias(), column_of_grade(row, "rank").expression
    grade = (
        (g.c.tenant_id == row.tenant_id)
        & (g.c.scheme_version_no == nearest.c.scheme_version_no)
        & (g.c.no == nearest.c.grade_no)
        & (nearest.c.scheme_version_no == row.scheme_version_no)
    )
    verdict = case((rank > g.c.rank, "above"), (rank == g.c.rank, "on"), (rank < g.c.rank, "below"))
    return select(verdict).select_from(nearest.join(g, grade)).correlate_except(nearest, g).scalar_subquery()


def judge_outcome(row: Any) -> ColumnElement[Any]:
    """Returns in SQL above, on, below, no-target or not-comparable; null where there is no grade. `row` are the columns of judgements."""
    return case(
        (row.grade_no.is_not(None) & find_target(row).is_(None), "no-target"),
        (row.grade_no.is_not(None), func.coalesce(compare_with_target(row), "not-comparable")),
    )


def find_target(row: Any) -> ColumnElement[Any]:
    """Returns in SQL the id of the target that is compared with, null where there is none. `row` are the columns of judgements."""
    nearest = _select_nearest(row).subquery()
    return select(nearest.c.id).correlate_except(nearest).scalar_subquery()


def _select_nearest(row: Any) -> Select[Any]:
    """The id, scheme version and grade of the target, as it stood."""
    t, w, h = targets.alias(), windows.alias(), target_history.alias()
    closed_at = derive_closed_at(w.c)
    was_set_later = (t.c.recorded_at > closed_at).is_(true())
    former = (
        select(h.c.scheme_version_no, h.c.grade_no, h.c.recorded_at)
        .where(h.c.tenant_id == t.c.tenant_id, h.c.id == t.c.id, h.c.recorded_at <= closed_at, sees_target(h.c))
        .order_by(h.c.version.desc())
        .limit(1)
        .correlate_except(h)
        .lateral()
    )
    version, grade, recorded_at = (
        case((was_set_later, former.c[name]), else_=t.c[name]) for name in ("scheme_version_no", "grade_no", "recorded_at")
    )
    horizon_on = find_horizon_date(t.c.tenant_id, t.c.horizon_year, t.c.horizon_point)
    return (
        select(t.c.id, version.label("scheme_version_no"), grade.label("grade_no"))
        .select_from(t.join(w, (w.c.tenant_id == row.tenant_id) & (w.c.no == row.window_no)).outerjoin(former, was_set_later))
        .where(*(t.c[name] == row[name] for name in ("tenant_id", "pupil_id", "subject_no", "aspect_no")))
        .where(horizon_on >= w.c.census_on, version.is_not(None), sees_target(t.c))
        .order_by(horizon_on, version != row.scheme_version_no, recorded_at.desc(), t.c.id)
        .limit(1)
        .correlate_except(t, w, former)
    )
