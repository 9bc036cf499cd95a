"""How the ordinary servers write judgements: look up what is named, one INSERT … ON CONFLICT for the rows, commit. No cells, no history."""

import os
from datetime import UTC, datetime
from uuid import UUID

from models import Grade, Judgement, Pin, Pupil, Subject, Window
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

CLIENT = UUID(os.environ["BENCH_CLIENT"])


async def write_judgements(session: AsyncSession, tenant: UUID, window_code: str, entries: list[tuple[UUID, str, str]]) -> int:
    """Upserts (pupil, subject code, grade code) in a window; ValueError for what is unknown. Answers how many."""
    window = (await session.scalars(select(Window).where(Window.tenant_id == tenant, Window.code == window_code))).one()
    subjects = {s.code: s.no for s in await session.scalars(select(Subject).where(Subject.tenant_id == tenant))}
    ids = {pupil_id for pupil_id, _, _ in entries}
    pupils = {p.id: p.school_id for p in await session.scalars(select(Pupil).where(Pupil.tenant_id == tenant, Pupil.id.in_(ids)))}
    pins = await session.scalars(
        select(Pin).where(
            Pin.tenant_id == tenant, Pin.window_no == window.no, Pin.school_id.in_(set(pupils.values())), Pin.aspect_no == 0
        )
    )
    versions = {(pin.school_id, pin.subject_no): pin.scheme_version_no for pin in pins}
    graded = await session.scalars(
        select(Grade).where(Grade.tenant_id == tenant, Grade.scheme_version_no.in_(set(versions.values())))
    )
    grades = {(grade.scheme_version_no, grade.code): grade.no for grade in graded}
    now, rows = datetime.now(UTC), []
    for pupil_id, subject, grade in entries:
        if pupil_id not in pupils or subject not in subjects:
            raise ValueError("unknown pupil or subject")
        version = versions[pupils[pupil_id], subjects[subject]]
        rows.append(
            {
                "tenant_id": tenant,
                "academic_year": window.academic_year,
                "pupil_id": pupil_id,
                "window_no": window.no,
                "subject_no": subjects[subject],
                "aspect_no": 0,
                "school_id": pupils[pupil_id],
                "scheme_version_no": version,
                "grade_no": grades[version, grade],
                "status_code": None,
                "recorded_at": now,
                "received_at": now,
                "recorded_at_school_id": pupils[pupil_id],
                "client_id": CLIENT,
                "version": 1,
            }
        )
    rows.sort(key=lambda row: (row["pupil_id"], row["subject_no"]))  # so that two requests do not wait for each other in a circle
    statement = insert(Judgement)
    changed = ("scheme_version_no", "grade_no", "status_code", "recorded_at", "received_at")
    upsert = statement.on_conflict_do_update(
        index_elements=list(Judgement.__table__.primary_key),
        set_={name: statement.excluded[name] for name in changed} | {"version": Judgement.version + 1},
    )
    await session.execute(upsert, rows)
    await session.commit()
    return len(rows)
