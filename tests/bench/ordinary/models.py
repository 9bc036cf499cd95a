"""The tables as an ordinary server maps them: SQLAlchemy's ORM, one pool of ten connections, the tenant a filter in each query.

They are those of ../limit/schema.sql, which do not change with the product."""

import os
from collections.abc import Sequence
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, ForeignKeyConstraint, func, select
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, aliased, mapped_column, relationship

engine = create_async_engine(
    os.environ["BENCH_DATABASE"].replace("postgresql://", "postgresql+asyncpg://"),
    pool_size=10,
    max_overflow=0,
    pool_timeout=120,
    connect_args={"server_settings": {"search_path": "fixed"}},
)
Session = async_sessionmaker(engine, expire_on_commit=False)
TOKENS = {os.environ["BENCH_TOKEN"]: UUID(os.environ["BENCH_TENANT"])}
"""Which tenant a bearer token is for."""


class Base(DeclarativeBase):
    type_annotation_map = {datetime: DateTime(timezone=True)}


class Subject(Base):
    __tablename__ = "subjects"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    no: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    name: Mapped[str]


class Window(Base):
    __tablename__ = "windows"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    no: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    name: Mapped[str]
    academic_year: Mapped[int]
    census_on: Mapped[date]


class Grade(Base):
    __tablename__ = "grades"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    scheme_version_no: Mapped[int] = mapped_column(primary_key=True)
    no: Mapped[int] = mapped_column(primary_key=True)
    code: Mapped[str]
    expected: Mapped[bool]


class Pin(Base):
    __tablename__ = "pins"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    window_no: Mapped[int] = mapped_column(primary_key=True)
    school_id: Mapped[UUID] = mapped_column(primary_key=True)
    subject_no: Mapped[int] = mapped_column(primary_key=True)
    aspect_no: Mapped[int] = mapped_column(primary_key=True)
    scheme_version_no: Mapped[int]


class Pupil(Base):
    __tablename__ = "pupils"
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    school_id: Mapped[UUID]
    surname: Mapped[str]
    forename: Mapped[str]
    date_of_birth: Mapped[date]
    sex: Mapped[str]
    year_group: Mapped[str]


class Judgement(Base):
    __tablename__ = "judgements"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "subject_no"], ["subjects.tenant_id", "subjects.no"]),
        ForeignKeyConstraint(["tenant_id", "window_no"], ["windows.tenant_id", "windows.no"]),
        ForeignKeyConstraint(
            ["tenant_id", "scheme_version_no", "grade_no"], ["grades.tenant_id", "grades.scheme_version_no", "grades.no"]
        ),
        ForeignKeyConstraint(["tenant_id", "pupil_id"], ["pupils.tenant_id", "pupils.id"]),
    )
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    academic_year: Mapped[int] = mapped_column(primary_key=True)
    pupil_id: Mapped[UUID] = mapped_column(primary_key=True)
    window_no: Mapped[int] = mapped_column(primary_key=True)
    subject_no: Mapped[int] = mapped_column(primary_key=True)
    aspect_no: Mapped[int] = mapped_column(primary_key=True)
    school_id: Mapped[UUID]
    scheme_version_no: Mapped[int]
    grade_no: Mapped[int | None]
    status_code: Mapped[str | None]
    recorded_at: Mapped[datetime]
    received_at: Mapped[datetime]
    recorded_at_school_id: Mapped[UUID]
    client_id: Mapped[UUID]
    version: Mapped[int]

    subject: Mapped[Subject] = relationship(viewonly=True)
    window: Mapped[Window] = relationship(viewonly=True)
    grade: Mapped[Grade | None] = relationship(viewonly=True)


class Target(Base):
    __tablename__ = "targets"
    __table_args__ = (
        ForeignKeyConstraint(["tenant_id", "subject_no"], ["subjects.tenant_id", "subjects.no"]),
        ForeignKeyConstraint(
            ["tenant_id", "scheme_version_no", "grade_no"], ["grades.tenant_id", "grades.scheme_version_no", "grades.no"]
        ),
    )
    tenant_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[UUID] = mapped_column(primary_key=True)
    pupil_id: Mapped[UUID]
    subject_no: Mapped[int]
    aspect_no: Mapped[int]
    horizon_year: Mapped[int]
    horizon_point: Mapped[str]
    basis: Mapped[str]
    scheme_version_no: Mapped[int]
    grade_no: Mapped[int]
    recorded_at: Mapped[datetime]

    subject: Mapped[Subject] = relationship(viewonly=True)
    grade: Mapped[Grade] = relationship(viewonly=True)


ORDER = (Judgement.academic_year, Judgement.window_no, Judgement.subject_no, Judgement.aspect_no)
FIRST = 15


def first_judgements(tenant: UUID, pupil_ids: Sequence[UUID]) -> tuple[Any, Any]:
    """The first judgements of each pupil, and the entity that stands for them. The pupils are named inside the subquery: the row-limited
    relationship of SQLAlchemy's documentation names them outside, and PostgreSQL then numbers every judgement there is."""
    number = func.row_number().over(order_by=ORDER, partition_by=Judgement.pupil_id).label("n")
    numbered = select(Judgement, number).where(Judgement.tenant_id == tenant, Judgement.pupil_id.in_(pupil_ids)).subquery()
    row = aliased(Judgement, numbered)
    ordered = select(row).where(numbered.c.n <= FIRST).order_by(row.academic_year, row.window_no, row.subject_no, row.aspect_no)
    return ordered, row


def this_year() -> int:
    """The academic year of today."""
    today = date.today()
    return today.year if today.month >= 9 else today.year - 1


def nearest(targets: list[Target]) -> list[Target]:
    """The targets of each subject and aspect for its nearest year."""
    years: dict[tuple[int, int], int] = {}
    for target in targets:
        key = (target.subject_no, target.aspect_no)
        years[key] = min(target.horizon_year, years.get(key, target.horizon_year))
    return [target for target in targets if target.horizon_year == years[target.subject_no, target.aspect_no]]
