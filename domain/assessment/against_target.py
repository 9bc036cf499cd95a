"""The target that a judgement is compared with.

It is the target of the pupil, subject and aspect whose horizon is the nearest from the census day of the window on, as it
stood when the window closed, or as it is now while the window is open. Targets that the caller may not
see are none. So a target that is set later changes nothing of
a window that has closed. Of targets for one day, one in the judgement's scheme version goes before others, then the one
that was set last.

Where the trust has a common scale, the bands of the grades are compared, so schemes may differ; else their ranks inside one version of a
scheme. Of judgements that are read as of a day, the target is the one that was known then, and the scale and the crosswalks are those of that day.
"""

from typing import Any

from sqlalchemy import ColumnElement, Select, Text, case, exists, func, null, select, true

from domain.assessment.as_of import end_of, holds_on
from domain.assessment.common_scales import common_scales
from domain.assessment.horizons import find_horizon_date
from domain.assessment.schemes import column_of_grade, scheme_grades
from domain.assessment.target_visibility import SeenNow, sees_target
from domain.assessment.targets import target_history, targets, targets_known
from domain.assessment.window_state import derive_closed_at
from domain.assessment.windows import windows
from domain.read.time_binds import TODAY


def compare_with_target(row: Any, day: ColumnElement[Any] | None = None) -> ColumnElement[Any]:
    """Returns in SQL above, on or below; null where neither bands nor ranks tell. `row` are the columns of judgements, `day` is the one as
    of which they are read.
    """
    nearest = _select_nearest(row, day).subquery()
    g, k, rank = scheme_grades.alias(), common_scales.alias(), column_of_grade(row, "rank").expression
    on_day = TODAY if day is None else day
    has_scale = exists().where(k.c.tenant_id == row.tenant_id, k.c.from_on <= on_day).correlate_except(k)
    grade = (
        (g.c.tenant_id == row.tenant_id)
        & (g.c.scheme_version_no == nearest.c.scheme_version_no)
        & (g.c.no == nearest.c.grade_no)
        & (nearest.c.scheme_version_no == row.scheme_version_no)
    )
    by_rank = case((rank > g.c.rank, "above"), (rank == g.c.rank, "on"), (rank < g.c.rank, "below"))
    numbers = (row.scheme_version_no, row.grade_no, nearest.c.scheme_version_no, nearest.c.grade_no)
    by_band = func.compare_with_goal(row.tenant_id, on_day, *numbers, type_=Text)
    verdict = case((has_scale, by_band), else_=by_rank)
    return select(verdict).select_from(nearest.outerjoin(g, grade)).correlate_except(nearest, g).scalar_subquery()


def judge_outcome(row: Any, day: ColumnElement[Any] | None = None) -> ColumnElement[Any]:
    """Returns in SQL above, on, below, no-target or not-comparable; null where there is no grade, as `compare_with_target` does."""
    return case(
        (row.grade_no.is_not(None) & find_target(row, day).is_(None), "no-target"),
        (row.grade_no.is_not(None), func.coalesce(compare_with_target(row, day), "not-comparable")),
    )


def find_target(row: Any, day: ColumnElement[Any] | None = None) -> ColumnElement[Any]:
    """Returns in SQL the id of the target that is compared with, null where there is none, as `compare_with_target` does."""
    nearest = _select_nearest(row, day).subquery()
    return select(nearest.c.id).correlate_except(nearest).scalar_subquery()


def _select_nearest(row: Any, day: ColumnElement[Any] | None) -> Select[Any]:
    """The id, scheme version and grade of the target, as it stood."""
    t, w, h = (targets if day is None else targets_known).alias(), windows.alias(), target_history.alias()
    closed_at = derive_closed_at(w.c)
    if day is not None:
        closed_at = case((closed_at < end_of(day), closed_at), else_=null())
    was_set_later = (t.c.recorded_at > closed_at).is_(true())
    former = (
        select(h.c.scheme_version_no, h.c.grade_no, h.c.recorded_at)
        .where(h.c.tenant_id == t.c.tenant_id, h.c.id == t.c.id, h.c.recorded_at <= closed_at, sees_target(h.c))
        .where(h.c.version < t.c.version)
        .order_by(h.c.version.desc())
        .limit(1)
        .correlate_except(h)
        .lateral()
    )
    version, grade, recorded_at = (
        case((was_set_later, former.c[name]), else_=t.c[name]) for name in ("scheme_version_no", "grade_no", "recorded_at")
    )
    horizon_on = find_horizon_date(t.c.tenant_id, t.c.horizon_year, t.c.horizon_point)
    nearest = (
        select(t.c.id, version.label("scheme_version_no"), grade.label("grade_no"))
        .select_from(t.join(w, (w.c.tenant_id == row.tenant_id) & (w.c.no == row.window_no)).outerjoin(former, was_set_later))
        .where(*(t.c[name] == row[name] for name in ("tenant_id", "pupil_id", "subject_no", "aspect_no")))
        .where(horizon_on >= w.c.census_on, version.is_not(None), sees_target(t.c))
    )
    if day is not None:
        nearest = nearest.where(holds_on(t.c, day), sees_target(SeenNow(t.c)))
    return (
        nearest.order_by(horizon_on, version != row.scheme_version_no, recorded_at.desc(), t.c.id)
        .limit(1)
        .correlate_except(t, w, former)
    )
