"""Two trusts of three schools each and two maintained schools, with pupils and judgements in two windows, and the same pupils to count by hand.

Hedgerow: Oak (science collected, not judged), Elm (three boys), Ash (joined after the census). Meadow: Fern, Moss (four pupils), Reed (writing not
judged). Maintained, in the same local authority: Quay, Pond (three pupils). Only Meadow has the spring window, where Fern and Reed
mark reading in different schemes.
"""

import random
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from typing import Any
from uuid import UUID

import asyncpg
import pytest_asyncio

from domain.access.caller import Caller
from domain.aggregates.aggregate_rows import AggregatePage, AggregateRow
from domain.aggregates.aggregates import read_aggregates
from domain.aggregates.query import read_query
from domain.assessment.tenant_setup import Grade, load_templates, prepare_tenant, write_scheme
from domain.declare.ids import new_id
from domain.declare.type_numbers import WINDOW
from domain.read.cursors import Cursors
from domain.store.database import Database
from tests.fixtures.databases import Databases, Statements, open_counted

KS2, SPRING = "2017-18/KS2", "2017-18/spring"
CENSUS = date(2018, 5, 17)
READ, INTERNAL = "aggregates:read", "aggregates:internal"
SCALED, WRITING, SCIENCE = "ks2-scaled-score", "ks2-writing-ta", "ks2-science-ta"
KS2_SCHEMES = {"reading": SCALED, "writing": WRITING, "maths": SCALED, "science": SCIENCE}
SPRING_SCHEMES = {"Fern": "percent", "Reed": "standardised-score"}
URNS = {name: 100001 + i for i, name in enumerate(("Oak", "Elm", "Ash", "Fern", "Moss", "Reed", "Quay", "Pond"))}
TRUSTS = {"Hedgerow": 4128, "Meadow": 4129}
OF_TRUST = {"Oak": "Hedgerow", "Elm": "Hedgerow", "Ash": "Hedgerow", "Fern": "Meadow", "Moss": "Meadow", "Reed": "Meadow"}
JOINED = {"Oak": None, "Elm": CENSUS, "Ash": date(2018, 9, 1), "Fern": None, "Moss": None, "Reed": date(2012, 4, 1)}


@dataclass
class Pupil:
    """A pupil as counted: `grades` by window and subject, None where it is not judged."""

    school: str
    sex: str
    year_group: str = "6"
    disadvantaged: str = "false"
    eal: str = "1"
    sen: str = "N"
    grades: dict[tuple[str, str], str | None] = field(default_factory=dict)


@dataclass
class CountedData:
    """The database, its pupils, and ways to ask."""

    operator: Any
    database: Database
    statements: Statements
    pupils: list[Pupil]
    ids: dict[str, UUID]
    cursors: Cursors = field(default_factory=lambda: Cursors(b"secret"))

    async def caller(self, *grants: tuple[str, str], token: Iterable[str] = (READ, INTERNAL)) -> Caller:
        """A client with grants, each a trust or school and a scope."""
        client_id = new_id(20)
        await self.operator.execute(
            "INSERT INTO clients (id, name, auth_method) VALUES ($1, $2, 'client_secret')", client_id, str(client_id)
        )
        for name, scope in grants:
            await self.operator.execute(
                "INSERT INTO grants (id, client_id, target, target_id, scopes, purpose, approved_by) VALUES ($1, $2, $3, $4, $5, 'test', 'test')",
                *(new_id(21), client_id, "trust" if name in TRUSTS else "school", self.ids[name], [scope]),
            )
        await self.operator.execute("SELECT derive_reach($1)", [client_id])
        return Caller(client_id, frozenset(token))

    async def page(self, caller: Caller, **parameters: Any) -> AggregatePage:
        pairs = [
            (name, str(each)) for name, value in parameters.items() for each in (value if isinstance(value, list) else [value])
        ]
        return await read_aggregates(self.database, caller, self.cursors, read_query(pairs))

    async def rows(self, caller: Caller, **parameters: Any) -> list[AggregateRow]:
        return (await self.page(caller, first=1000, **parameters)).data

    def count(self, subject: str, window: str = KS2, **kind: Any) -> "Count":
        """Counts by hand the pupils of a kind; `school` may be one name or several."""
        schools = kind.pop("school", URNS)
        found = [p for p in self.pupils if p.school in ([schools] if isinstance(schools, str) else schools)]
        return Count.of([p for p in found if all(getattr(p, name) == value for name, value in kind.items())], window, subject)


@dataclass(frozen=True)
class Count:
    """What a row must say of some pupils."""

    eligible: int
    valid: int
    expected: int
    higher: int
    mean: Fraction | None

    @classmethod
    def of(cls, pupils: list[Pupil], window: str, subject: str) -> "Count":
        if subject == "rwm":
            each = [
                [fact_of(p, window, part) for part in ("reading", "writing", "maths")]
                for p in pupils
                if (window, "reading") in p.grades
            ]
            each = [parts for parts in each if all(part.eligible for part in parts)]
            met = [
                [all(getattr(part, name) for part in parts) for parts in each].count(True)
                for name in ("valid", "expected", "higher")
            ]
            return cls(len(each), *met, None)
        facts = [found for p in pupils if (window, subject) in p.grades and (found := fact_of(p, window, subject)).eligible]
        values = [f.value for f in facts if f.valid and f.value is not None]
        mean = Fraction(sum(values)) / len(values) if values else None
        return cls(len(facts), *([getattr(f, name) for f in facts].count(True) for name in ("valid", "expected", "higher")), mean)


def fact_of(pupil: Pupil, window: str, subject: str) -> Grade:
    """The facts of a pupil's grade; of none: eligible and not valid."""
    code = pupil.grades[window, subject]
    if code is None:
        return Grade("", "", valid=False)
    template = load_templates().find_scheme(KS2_SCHEMES[subject] if window == KS2 else SPRING_SCHEMES[pupil.school])
    assert template is not None
    return next(grade for grade in template.list_grades() if grade.code == code)


def make_pupils() -> list[Pupil]:
    """Pupils by hand where a group must be small, otherwise at random, always the same."""
    draw = random.Random(2018)
    girls_and_boys = {
        "Oak": (21, 19),
        "Elm": (28, 3),
        "Ash": (6, 6),
        "Fern": (11, 14),
        "Moss": (3, 1),
        "Reed": (22, 23),
        "Quay": (9, 11),
        "Pond": (1, 2),
    }
    made = [
        Pupil(school, sex)
        for school, counts in girls_and_boys.items()
        for sex, n in zip("FM", counts, strict=True)
        for _ in range(n)
    ]
    for i, pupil in enumerate(made):
        pupil.disadvantaged = draw.choices(("true", "false"), (1, 2))[0]
        pupil.eal, pupil.sen = draw.choice("12"), draw.choices("NKE", (7, 2, 1))[0]
        scores = [*map(str, range(90, 116)), "A", "B"]
        pupil.grades = {(KS2, "reading"): draw.choice(scores), (KS2, "maths"): draw.choice(scores)}
        pupil.grades[KS2, "writing"] = None if pupil.school == "Reed" else draw.choice(("WTS", "EXS", "EXS", "GDS", "A", "L"))
        if pupil.school == "Oak":
            pupil.grades[KS2, "science"] = None
        if pupil.school == "Fern" and i % 5 == 0:
            pupil.grades[KS2, "reading"] = None
    made[0].disadvantaged = "unknown"
    for school in ("Fern", "Reed"):
        for year_group in ("10", "2", "R", "X", "N2"):
            made += [Pupil(school, "F", year_group, grades={(SPRING, "reading"): str(70 + 3 * i)}) for i in range(8)]
    return made


async def load(operator: Any, pupils: list[Pupil]) -> dict[str, UUID]:
    """Puts the register, the windows and the pupils into a fresh database, and counts the cells."""
    ids = {name: new_id(1) for name in TRUSTS} | {name: new_id(3) for name in URNS}
    for name, uid in TRUSTS.items():
        await operator.execute(
            "INSERT INTO trusts (id, group_uid, name, kind, status) VALUES ($1, $2, $3, 'multi-academy', 'open')",
            ids[name],
            uid,
            name,
        )
    for name, urn in URNS.items():
        trust_id = ids[OF_TRUST[name]] if name in OF_TRUST else None
        await operator.execute(
            "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status) VALUES ($1, $2, $3, $4, '936', 'Surrey', 'open')",
            *(ids[name], trust_id or ids[name], urn, name),
        )
        if trust_id:
            await operator.execute(
                "INSERT INTO memberships (id, trust_id, school_id, joined_on) VALUES ($1, $2, $3, $4)",
                new_id(2),
                trust_id,
                ids[name],
                JOINED[name],
            )
    for tenant in ("Hedgerow", "Meadow", "Quay", "Pond"):
        schools = [name for name in URNS if OF_TRUST.get(name, name) == tenant]
        await prepare_tenant(operator, ids[tenant])
        for code in {"Meadow": ("percent", "standardised-score")}.get(tenant, ()):
            template = load_templates().find_scheme(code)
            assert template is not None
            await write_scheme(operator, ids[tenant], code, template.name, None, template.list_grades())
        windows = {KS2: (1, ["6"]), SPRING: (2, ["10", "2", "R", "X", "N2"])}
        for code, (no, year_groups) in windows.items():
            if code == KS2 or tenant == "Meadow":
                await operator.execute(
                    "INSERT INTO windows (tenant_id, id, no, code, name, academic_year, census_on, opens_at, closes_at, state, statutory, purpose, decision,"
                    " year_groups) VALUES ($1, $2, $3, $4, $4, 2017, $5, '2018-05-14Z', '2099-06-29Z', 'open', true, 'p', 'd', $6)",
                    *(ids[tenant], new_id(WINDOW), no, code, CENSUS if code == KS2 else date(2018, 2, 1), year_groups),
                )
        await load_pupils(operator, ids, tenant, [pupil for pupil in pupils if pupil.school in schools])
        await operator.execute("SELECT rebuild_cells($1, $2, $3)", ids[tenant], [ids[name] for name in schools], [1, 2])
    return ids


async def load_pupils(operator: Any, ids: dict[str, UUID], tenant: str, pupils: list[Pupil]) -> None:
    """The pupils, their enrolments, characteristics and judgements, and the pins of what is judged."""
    tenant_id = ids[tenant]
    people = [(tenant_id, new_id(4), ids[p.school], f"P{i}", p.sex, p.year_group) for i, p in enumerate(pupils)]
    await operator.executemany(
        "INSERT INTO pupils (tenant_id, id, school_id, surname, forename, date_of_birth, sex, year_group) VALUES ($1, $2, $3, $4, 'A', '2007-01-01', $5, $6)",
        people,
    )
    enrolled = [(tenant_id, new_id(5), row[1], row[2]) for row in people]
    await operator.executemany(
        "INSERT INTO enrolments (tenant_id, id, pupil_id, school_id, status, from_on) VALUES ($1, $2, $3, $4, 'C', '2014-09-01')",
        enrolled,
    )
    facts = [
        (tenant_id, row[1], kind, row[2], value)
        for pupil, row in zip(pupils, people, strict=True)
        for kind, value in (
            ("yearGroup", pupil.year_group),
            ("ever6Fsm", pupil.disadvantaged),
            ("eal", pupil.eal),
            ("sen", pupil.sen),
        )
        if value != "unknown"
    ]
    await operator.executemany(
        "INSERT INTO characteristics (tenant_id, pupil_id, kind, from_on, school_id, value) VALUES ($1, $2, $3, '2017-09-01', $4, $5)",
        facts,
    )
    judged = [
        (
            tenant_id,
            {KS2: 1, SPRING: 2}[window],
            subject,
            KS2_SCHEMES[subject] if window == KS2 else SPRING_SCHEMES[pupil.school],
            row[1],
            row[2],
            code,
        )
        for pupil, row in zip(pupils, people, strict=True)
        for (window, subject), code in pupil.grades.items()
    ]
    pinned = sorted({(t, window_no, school_id, subject, scheme) for t, window_no, subject, scheme, _, school_id, _ in judged})
    of_scheme = "FROM subjects s, schemes m JOIN scheme_versions v ON v.tenant_id = m.tenant_id AND v.scheme_id = m.id"
    await operator.executemany(
        "INSERT INTO pins (tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no)"
        f" SELECT $1, $2::smallint, $3::uuid, s.no, 0, v.no {of_scheme} WHERE s.tenant_id = $1 AND s.code = $4 AND m.tenant_id = $1 AND m.code = $5",
        pinned,
    )
    await operator.executemany(
        "INSERT INTO judgements (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, scheme_version_no, grade_no, recorded_at,"
        " received_at, recorded_at_school_id, client_id)"
        f" SELECT $1, 2017, $5::uuid, $2::smallint, s.no, 0, $6::uuid, v.no, g.no, now(), now(), $6, $6 {of_scheme}"
        " JOIN grades g ON g.tenant_id = v.tenant_id AND g.scheme_version_no = v.no"
        " WHERE s.tenant_id = $1 AND s.code = $3 AND m.tenant_id = $1 AND m.code = $4 AND g.code = $7",
        [row for row in judged if row[6] is not None],
    )


@pytest_asyncio.fixture(scope="module")
async def counted_data(module_databases: Databases) -> AsyncIterator[CountedData]:
    operator = await asyncpg.connect(module_databases.operator_url)
    statements, pupils = Statements(), make_pupils()

    ids = await load(operator, pupils)
    database = await open_counted(statements, module_databases.app_url)
    yield CountedData(operator, database, statements, pupils, ids)
    await database.close()
    await operator.close()
