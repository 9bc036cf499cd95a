"""An ordinary GraphQL server: Strawberry, SQLAlchemy's ORM and DataLoaders."""

from collections import defaultdict
from datetime import date, datetime
from typing import Annotated, Any
from uuid import UUID

import models as m
import strawberry
from fastapi import Depends, FastAPI, Header, HTTPException
from sqlalchemy import select
from strawberry.dataloader import DataLoader
from strawberry.fastapi import GraphQLRouter
from strawberry.types import Info
from writing import write_judgements


class Loaders:
    """The DataLoaders of one request."""

    def __init__(self, tenant: UUID) -> None:
        self.tenant = tenant
        self.subject: DataLoader[int, m.Subject] = DataLoader(self._by_no(m.Subject))
        self.window: DataLoader[int, m.Window] = DataLoader(self._by_no(m.Window))
        self.grade: DataLoader[tuple[int, int], m.Grade] = DataLoader(self._grades)
        self.first: DataLoader[UUID, list[m.Judgement]] = DataLoader(self._first)
        self.latest: DataLoader[UUID, list[m.Judgement]] = DataLoader(self._latest)
        self.targets: DataLoader[UUID, list[m.Target]] = DataLoader(self._targets)

    async def _all(self, statement: Any) -> list[Any]:
        async with m.Session() as session:
            return list(await session.scalars(statement))

    def _by_no(self, model: Any) -> Any:
        async def load(numbers: list[int]) -> list[Any]:
            found = {
                row.no: row for row in await self._all(select(model).where(model.tenant_id == self.tenant, model.no.in_(numbers)))
            }
            return [found[no] for no in numbers]

        return load

    async def _grades(self, keys: list[tuple[int, int]]) -> list[m.Grade]:
        versions = {version for version, _ in keys}
        grades = await self._all(select(m.Grade).where(m.Grade.tenant_id == self.tenant, m.Grade.scheme_version_no.in_(versions)))
        found = {(grade.scheme_version_no, grade.no): grade for grade in grades}
        return [found[key] for key in keys]

    @staticmethod
    def _by_pupil(ids: list[UUID], rows: list[Any]) -> list[list[Any]]:
        found = defaultdict(list)
        for row in rows:
            found[row.pupil_id].append(row)
        return [found[id_] for id_ in ids]

    async def _first(self, ids: list[UUID]) -> list[list[m.Judgement]]:
        statement, _ = m.first_judgements(self.tenant, ids)
        return self._by_pupil(ids, await self._all(statement))

    async def _latest(self, ids: list[UUID]) -> list[list[m.Judgement]]:
        j = m.Judgement
        rows = await self._all(
            select(j)
            .join(j.window)
            .where(j.tenant_id == self.tenant, j.pupil_id.in_(ids), j.grade_no.is_not(None))
            .distinct(j.pupil_id, j.subject_no, j.aspect_no)
            .order_by(j.pupil_id, j.subject_no, j.aspect_no, m.Window.census_on.desc(), m.Window.no.desc())
        )
        return self._by_pupil(ids, rows)

    async def _targets(self, ids: list[UUID]) -> list[list[m.Target]]:
        t = m.Target
        rows = await self._all(select(t).where(t.tenant_id == self.tenant, t.pupil_id.in_(ids), t.horizon_year >= m.this_year()))
        return [m.nearest(of_pupil) for of_pupil in self._by_pupil(ids, rows)]


def tenant(authorization: Annotated[str, Header()]) -> UUID:
    found = m.TOKENS.get(authorization.removeprefix("Bearer "))
    if found is None:
        raise HTTPException(401)
    return found


async def context(tenant: Annotated[UUID, Depends(tenant)]) -> dict[str, Any]:
    return {"loaders": Loaders(tenant)}


def loaders(info: Info) -> Loaders:
    found: Loaders = info.context["loaders"]
    return found


@strawberry.type
class Subject:
    code: str
    name: str


@strawberry.type
class Window:
    code: str
    name: str


@strawberry.type
class Judgement:
    row: strawberry.Private[m.Judgement]
    recorded_at: datetime

    @strawberry.field
    async def subject(self, info: Info) -> Subject:
        row = await loaders(info).subject.load(self.row.subject_no)
        return Subject(code=row.code, name=row.name)

    @strawberry.field
    async def window(self, info: Info) -> Window:
        row = await loaders(info).window.load(self.row.window_no)
        return Window(code=row.code, name=row.name)

    @strawberry.field
    async def subject_code(self, info: Info) -> str:
        return (await loaders(info).subject.load(self.row.subject_no)).code

    @strawberry.field
    async def window_code(self, info: Info) -> str:
        return (await loaders(info).window.load(self.row.window_no)).code

    @strawberry.field
    async def grade(self, info: Info) -> str | None:
        if self.row.grade_no is None:
            return None
        return (await loaders(info).grade.load((self.row.scheme_version_no, self.row.grade_no))).code

    @strawberry.field
    async def expected(self, info: Info) -> bool | None:
        if self.row.grade_no is None:
            return None
        return (await loaders(info).grade.load((self.row.scheme_version_no, self.row.grade_no))).expected


@strawberry.type
class Target:
    row: strawberry.Private[m.Target]
    horizon_point: str
    basis: str
    recorded_at: datetime

    @strawberry.field
    async def subject_code(self, info: Info) -> str:
        return (await loaders(info).subject.load(self.row.subject_no)).code

    @strawberry.field
    async def grade(self, info: Info) -> str:
        return (await loaders(info).grade.load((self.row.scheme_version_no, self.row.grade_no))).code


@strawberry.type
class Pupil:
    id: UUID
    forename: str
    surname: str
    sex: str
    year_group: str
    date_of_birth: date

    @strawberry.field
    async def judgements(self, info: Info) -> list[Judgement]:
        return [Judgement(row=j, recorded_at=j.recorded_at) for j in await loaders(info).first.load(self.id)]

    @strawberry.field
    async def latest_judgements(self, info: Info) -> list[Judgement]:
        return [Judgement(row=j, recorded_at=j.recorded_at) for j in await loaders(info).latest.load(self.id)]

    @strawberry.field
    async def current_targets(self, info: Info) -> list[Target]:
        return [
            Target(row=t, horizon_point=t.horizon_point, basis=t.basis, recorded_at=t.recorded_at)
            for t in await loaders(info).targets.load(self.id)
        ]


def shown(row: m.Pupil) -> Pupil:
    return Pupil(**{name: getattr(row, name) for name in ("id", "forename", "surname", "sex", "year_group", "date_of_birth")})


@strawberry.type
class Query:
    @strawberry.field
    async def pupil(self, info: Info, id: UUID) -> Pupil | None:
        async with m.Session() as session:
            row = await session.get(m.Pupil, (loaders(info).tenant, id))
            return row and shown(row)

    @strawberry.field
    async def pupils(self, info: Info, after: UUID, first: int = 50) -> list[Pupil]:
        async with m.Session() as session:
            page = select(m.Pupil).where(m.Pupil.tenant_id == loaders(info).tenant, m.Pupil.id > after)
            return [shown(row) for row in await session.scalars(page.order_by(m.Pupil.id).limit(first))]


@strawberry.input
class Entry:
    id: UUID
    subject: str
    grade: str


@strawberry.type
class Written:
    received: int


@strawberry.type
class Mutation:
    @strawberry.mutation
    async def record_judgements(self, info: Info, window: str, entries: list[Entry]) -> Written:
        async with m.Session() as session:
            given = [(entry.id, entry.subject, entry.grade) for entry in entries]
            return Written(received=await write_judgements(session, loaders(info).tenant, window, given))


app = FastAPI()
app.include_router(GraphQLRouter(strawberry.Schema(Query, Mutation), context_getter=context), prefix="/graphql")
