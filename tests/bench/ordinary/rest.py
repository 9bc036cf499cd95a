"""An ordinary REST server: FastAPI, SQLAlchemy's ORM and pydantic."""

from collections import defaultdict
from datetime import date, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, FastAPI, Header, HTTPException
from models import TOKENS, Judgement, Pupil, Session, Target, Window, first_judgements, nearest, this_year
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel
from sqlalchemy import select
from sqlalchemy.orm import joinedload
from writing import write_judgements

app = FastAPI()


class Schema(BaseModel):
    model_config = ConfigDict(from_attributes=True, alias_generator=to_camel, populate_by_name=True)


class Named(Schema):
    name: str


class JudgementOut(Schema):
    grade: str | None
    recorded_at: datetime
    subject: Named
    window: Named


class LatestOut(Schema):
    subject_code: str
    window_code: str
    grade: str
    expected: bool
    recorded_at: datetime


class TargetOut(Schema):
    subject_code: str
    horizon_point: str
    grade: str
    basis: str
    recorded_at: datetime


class PupilOut(Schema):
    id: UUID
    forename: str
    surname: str
    sex: str
    year_group: str
    latest_judgements: list[LatestOut]
    current_targets: list[TargetOut]


class PupilPageOut(Schema):
    id: UUID
    forename: str
    surname: str
    year_group: str
    judgements: list[JudgementOut]


class PupilFlatOut(Schema):
    id: UUID
    forename: str
    surname: str
    sex: str
    year_group: str
    date_of_birth: date


class EntryIn(Schema):
    id: UUID
    subject: str
    grade: str


class BatchIn(Schema):
    window: str
    entries: list[EntryIn]


class Written(Schema):
    received: int


def tenant(authorization: Annotated[str, Header()]) -> UUID:
    found = TOKENS.get(authorization.removeprefix("Bearer "))
    if found is None:
        raise HTTPException(401)
    return found


Tenant = Annotated[UUID, Depends(tenant)]


@app.get("/pupils/{pupil_id}")
async def pupil(pupil_id: UUID, tenant: Tenant) -> PupilOut:
    async with Session() as session:
        found = await session.get(Pupil, (tenant, pupil_id))
        if found is None:
            raise HTTPException(404)
        latest = await session.scalars(
            select(Judgement)
            .join(Judgement.window)
            .where(Judgement.tenant_id == tenant, Judgement.pupil_id == pupil_id, Judgement.grade_no.is_not(None))
            .distinct(Judgement.subject_no, Judgement.aspect_no)
            .order_by(Judgement.subject_no, Judgement.aspect_no, Window.census_on.desc(), Window.no.desc())
            .options(joinedload(Judgement.subject), joinedload(Judgement.window), joinedload(Judgement.grade))
        )
        targets = await session.scalars(
            select(Target)
            .where(Target.tenant_id == tenant, Target.pupil_id == pupil_id, Target.horizon_year >= this_year())
            .options(joinedload(Target.subject), joinedload(Target.grade))
        )
        return PupilOut(
            id=found.id,
            forename=found.forename,
            surname=found.surname,
            sex=found.sex,
            year_group=found.year_group,
            latest_judgements=[
                LatestOut(
                    subject_code=j.subject.code,
                    window_code=j.window.code,
                    grade=j.grade.code,
                    expected=j.grade.expected,
                    recorded_at=j.recorded_at,
                )
                for j in latest
            ],
            current_targets=[
                TargetOut(
                    subject_code=t.subject.code,
                    horizon_point=t.horizon_point,
                    grade=t.grade.code,
                    basis=t.basis,
                    recorded_at=t.recorded_at,
                )
                for t in nearest(list(targets))
            ],
        )


@app.get("/pupils")
async def pupils(tenant: Tenant, after: UUID, first: int = 50) -> list[PupilPageOut]:
    async with Session() as session:
        page = select(Pupil).where(Pupil.tenant_id == tenant, Pupil.id > after).order_by(Pupil.id).limit(first)
        found = list(await session.scalars(page))
        statement, row = first_judgements(tenant, [p.id for p in found])
        judgements = defaultdict(list)
        for j in await session.scalars(statement.options(joinedload(row.subject), joinedload(row.window), joinedload(row.grade))):
            judgements[j.pupil_id].append(
                JudgementOut(
                    grade=j.grade and j.grade.code,
                    recorded_at=j.recorded_at,
                    subject=Named.model_validate(j.subject),
                    window=Named.model_validate(j.window),
                )
            )
        return [
            PupilPageOut(id=p.id, forename=p.forename, surname=p.surname, year_group=p.year_group, judgements=judgements[p.id])
            for p in found
        ]


@app.get("/flat")
async def flat(tenant: Tenant, after: UUID, first: int = 100) -> list[PupilFlatOut]:
    async with Session() as session:
        page = await session.scalars(
            select(Pupil).where(Pupil.tenant_id == tenant, Pupil.id > after).order_by(Pupil.id).limit(first)
        )
        return [PupilFlatOut.model_validate(p) for p in page]


@app.post("/judgements")
async def judgements(batch: BatchIn, tenant: Tenant) -> Written:
    async with Session() as session:
        entries = [(entry.id, entry.subject, entry.grade) for entry in batch.entries]
        return Written(received=await write_judgements(session, tenant, batch.window, entries))
