"""Trusts of generated pupils, with tiny schools, near-empty groups and missing marks, and the same pupils counted by hand."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple
from uuid import UUID

from domain.assessment.tenant_setup import prepare_tenant
from domain.declare.ids import new_id
from domain.declare.type_numbers import WINDOW

SUBJECTS = ("reading", "writing", "maths")
CATEGORIES = {"sex": ("F", "M"), "disadvantaged": ("true", "false"), "eal": ("1", "2", "3"), "sen": ("N", "K", "E")}
KINDS = {"disadvantaged": "ever6Fsm", "eal": "eal", "sen": "sen"}
"""The characteristics that are recorded, by the dimension that they become."""
SCHEMES = {"reading": "ks2-scaled-score", "writing": "ks2-writing-ta", "maths": "ks2-scaled-score"}
CODE, CENSUS = "2017-18/KS2", date(2018, 5, 17)


@dataclass
class Mark:
    """What a pupil has in a subject; `code` is None where nothing is recorded."""

    code: str | None
    level: int
    """0 no mark, 1 a mark below the expected standard, 2 expected, 3 higher."""


@dataclass
class Pupil:
    school: int
    year: str
    values: dict[str, str]
    marks: dict[str, Mark]


class Group(NamedTuple):
    """Some pupils of a trust: `school` and `year` are None for all; `dimension` and `category` are None where pupils are not divided."""

    school: int | None
    year: str | None
    dimension: str | None
    category: str | None


@dataclass
class GeneratedTrust:
    """`urns` are of its schools, in order."""

    pupils: list[Pupil]
    urns: list[int]
    ids: dict[str, UUID] = field(default_factory=dict)

    def count(self, group: Group, subject: str | None, what: str, pooled: frozenset[int] | None = None) -> int:
        """Counts by hand: `what` is eligible, valid, expected or higher; the subject is rwm for all three at once.

        `pooled` are the URNs of the schools that a group of the whole trust is of, None for all.
        """
        found = [each for each in self.pupils if is_member(each, group)]
        if group.school is None and pooled is not None:
            found = [each for each in found if self.urns[each.school] in pooled]
        least = {"eligible": 0, "valid": 1, "expected": 2, "higher": 3}[what]
        parts = SUBJECTS if subject in (None, "rwm") else (subject,)
        return sum(all(each.marks[part].level >= least for part in parts) for each in found)

    def groups(self) -> Iterator[Group]:
        """Every group that has pupils, of the whole trust and of each school, in all years and in each."""
        divided: list[tuple[str | None, str | None]] = [(None, None)]
        divided += [(name, category) for name, categories in CATEGORIES.items() for category in categories]
        years = sorted({pupil.year for pupil in self.pupils})
        for school in (None, *range(len(self.urns))):
            for year in (None, *years):
                for dimension, category in divided:
                    group = Group(school, year, dimension, category)
                    if any(is_member(pupil, group) for pupil in self.pupils):
                        yield group


def is_member(pupil: Pupil, group: Group) -> bool:
    return (
        group.school in (None, pupil.school)
        and group.year in (None, pupil.year)
        and (group.dimension is None or pupil.values[group.dimension] == group.category)
    )


def generate_trust(seed: int, schools: int, years: Iterable[str], size: int) -> GeneratedTrust:
    """A trust of schools of `size` pupils or so; one in six is tiny, and one year group in thirty has one or two pupils."""
    draw = random.Random(seed)
    pupils: list[Pupil] = []
    years = tuple(years)
    for school in range(schools):
        in_year = size / len(years)
        if draw.random() < 1 / 6:
            in_year = draw.choice((1.2, 2, 3, 4))
        shares = {
            "disadvantaged": draw.choice((0.03, 0.1, 0.24, 0.4)),
            "eal": draw.choice((0, 0.02, 0.1, 0.4)),
            "sen": draw.choice((0, 0.02, 0.06)),
            "sex": draw.choice((0.5, 0.5, 0.5, 0.9)),
        }
        for year in years:
            number = max(0, round(draw.gauss(in_year, in_year * 0.12)))
            if draw.random() < 1 / 30:
                number = draw.choice((1, 2))
            pupils += [generate_pupil(draw, school, year, shares) for _ in range(number)]
    return GeneratedTrust(pupils, [100000 + seed * 100 + n for n in range(schools)])


def generate_pupil(draw: random.Random, school: int, year: str, shares: dict[str, float]) -> Pupil:
    values = {
        "sex": "F" if draw.random() < shares["sex"] else "M",
        "disadvantaged": "true" if draw.random() < shares["disadvantaged"] else "false",
        "eal": "2" if draw.random() < shares["eal"] else "1",
        "sen": draw.choices("NKE", (0.86 - shares["sen"], 0.14, shares["sen"]))[0],
    }
    ability = draw.gauss(0.2, 0.85) - {"N": 0, "K": 0.9, "E": 1.7}[values["sen"]] - 0.5 * (values["disadvantaged"] == "true")
    marks = {}
    for subject in SUBJECTS:
        form = ability + draw.gauss(0, 0.45)
        level = 0 if draw.random() < 0.04 else 1 + (form > -0.55) + (form > 0.95)
        marks[subject] = Mark(choose_code(draw, subject, level), level)
    return Pupil(school, year, values, marks)


def choose_code(draw: random.Random, subject: str, level: int) -> str | None:
    if level == 0:
        return None
    if subject == "writing":
        return ("WTS", "EXS", "GDS")[level - 1]
    return str(draw.randint(*((84, 99), (100, 109), (110, 120))[level - 1]))


async def load_trust(operator: Any, trust: GeneratedTrust, number: int) -> None:
    """Puts the register, the window and the pupils of a trust into a database, and counts its cells. `number` is of no other trust there."""
    ids = trust.ids
    ids |= {name: new_id(1) for name in ("trust",)} | {str(urn): new_id(3) for urn in trust.urns}
    ids["window"] = new_id(WINDOW)
    tenant = ids["trust"]
    await operator.execute(
        "INSERT INTO trusts (id, group_uid, name, kind, status) VALUES ($1, $2, $3, 'multi-academy', 'open')",
        *(tenant, 5000 + number, f"Trust {number}"),
    )
    for urn in trust.urns:
        await operator.execute(
            "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status) VALUES ($1, $2, $3, $4, '936', 'Surrey', 'open')",
            *(ids[str(urn)], tenant, urn, f"School {urn}"),
        )
        await operator.execute(
            "INSERT INTO memberships (id, trust_id, school_id, joined_on) VALUES ($1, $2, $3, '2012-04-01')",
            *(new_id(2), tenant, ids[str(urn)]),
        )
    await prepare_tenant(operator, tenant)
    await operator.execute(
        "INSERT INTO windows (tenant_id, id, no, code, name, academic_year, census_on, opens_at, closes_at, state, statutory, purpose, decision,"
        " year_groups) VALUES ($1, $2, 1, $3, $3, 2017, $4, '2018-05-14Z', '2099-06-29Z', 'open', true, 'p', 'd', $5)",
        *(tenant, ids["window"], CODE, CENSUS, sorted({pupil.year for pupil in trust.pupils})),
    )
    await load_pupils(operator, trust)
    await count_cells(operator, trust)


async def count_cells(operator: Any, trust: GeneratedTrust) -> None:
    await operator.execute("SELECT rebuild_cells($1, $2, $3)", trust.ids["trust"], [trust.ids[str(urn)] for urn in trust.urns], [1])


async def load_pupils(operator: Any, trust: GeneratedTrust) -> None:
    """The pupils, their enrolments, characteristics and judgements, and the pins of what is judged."""
    tenant = trust.ids["trust"]
    schools = [trust.ids[str(urn)] for urn in trust.urns]
    people = [
        (tenant, new_id(4), schools[each.school], f"P{i}", each.values["sex"], each.year) for i, each in enumerate(trust.pupils)
    ]
    await operator.executemany(
        "INSERT INTO pupils (tenant_id, id, school_id, surname, forename, date_of_birth, sex, year_group) VALUES ($1, $2, $3, $4, 'A', '2007-01-01', $5, $6)",
        people,
    )
    await operator.executemany(
        "INSERT INTO enrolments (tenant_id, id, pupil_id, school_id, status, from_on) VALUES ($1, $2, $3, $4, 'C', '2014-09-01')",
        [(tenant, new_id(5), row[1], row[2]) for row in people],
    )
    await operator.executemany(
        "INSERT INTO characteristics (tenant_id, pupil_id, kind, from_on, school_id, value) VALUES ($1, $2, $3, '2017-09-01', $4, $5)",
        [
            (tenant, row[1], kind, row[2], value)
            for each, row in zip(trust.pupils, people, strict=True)
            for kind, value in (("yearGroup", each.year), *((kind, each.values[name]) for name, kind in KINDS.items()))
        ],
    )
    await operator.executemany(
        "INSERT INTO pins (tenant_id, window_no, school_id, subject_no, aspect_no, scheme_version_no)"
        " SELECT $1, 1, $2::uuid, s.no, 0, v.no FROM subjects s, schemes m JOIN scheme_versions v ON v.tenant_id = m.tenant_id AND v.scheme_id = m.id"
        " WHERE s.tenant_id = $1 AND s.code = $3 AND m.tenant_id = $1 AND m.code = $4",
        [(tenant, school, subject, SCHEMES[subject]) for school in schools for subject in SUBJECTS],
    )
    await record_marks(
        operator,
        trust,
        [
            (row[1], row[2], subject, mark)
            for each, row in zip(trust.pupils, people, strict=True)
            for subject, mark in each.marks.items()
        ],
    )
    trust.ids |= {f"pupil {i}": row[1] for i, row in enumerate(people)}


async def record_marks(operator: Any, trust: GeneratedTrust, marks: list[tuple[UUID, UUID, str, Mark]]) -> None:
    """Records marks, each of a pupil at a school in a subject."""
    await operator.executemany(
        "INSERT INTO judgements (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id, scheme_version_no, grade_no, recorded_at,"
        " received_at, recorded_at_school_id, client_id)"
        " SELECT $1, 2017, $2::uuid, 1, s.no, 0, $3::uuid, v.no, g.no, now(), now(), $3, $3 FROM subjects s, schemes m"
        " JOIN scheme_versions v ON v.tenant_id = m.tenant_id AND v.scheme_id = m.id"
        " JOIN grades g ON g.tenant_id = v.tenant_id AND g.scheme_version_no = v.no"
        " WHERE s.tenant_id = $1 AND s.code = $4 AND m.tenant_id = $1 AND m.code = $5 AND g.code = $6",
        [
            (trust.ids["trust"], pupil, school, subject, SCHEMES[subject], mark.code)
            for pupil, school, subject, mark in marks
            if mark.code is not None
        ],
    )
