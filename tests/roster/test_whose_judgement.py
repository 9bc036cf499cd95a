"""Whatever a school's systems get wrong, no child ever holds another's judgement, and what is sent again changes nothing.

Two schools with twins send rolls whose rows have typos, wrong, exchanged, temporary and missing UPNs, new references and references that
meant another child. What the MIS knows of a child goes with each of its rows as the preferred forename, which identifies nobody: a record
that has had one child's is never given another's, and every judgement on it is that child's.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.roster.upn import compute_check_letter
from tests.fixtures.databases import Databases
from tests.fixtures.sizes import choose_size
from tests.fixtures.small_trust import TRUST, Trust, batch, open_trust, opened, roll, upn

FAMILIES = (("Ellis", "2007-07-07"), ("Moss", "2007-01-09"))
CHILDREN = (("Eva", "F", 0), ("Evan", "M", 0), ("Mary", "F", 1), ("Maria", "F", 1), ("Ben", "M", 0), ("Benita", "F", 1))
"""Forename, sex and family, of which the last two children are the youngest: their birthday is another one."""
SCHOOLS = ("Oak", "Elm")
DEFECTS = (
    "forename",
    "birthday",
    "surname",
    "no UPN",
    "temporary UPN",
    "another's UPN",
    "another's temporary UPN",
    "new reference",
    "reused reference",
    "other school",
)
LENIENT = {"Prefer": "handling=lenient"}


def temporary(number: int) -> str:
    """A temporary UPN, another for each number."""
    rest = f"936{number:08}A"
    return compute_check_letter(rest) + rest


@dataclass
class Mis:
    """What the systems of both schools know of their children, of whom each example has others."""

    here: Trust
    client: Any
    first: int
    references: dict[int, str] = field(default_factory=dict)
    schools: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.references = {n: f"{self.first}-{n}" for n in range(len(CHILDREN))}
        self.schools = {n: SCHOOLS[CHILDREN[n][2]] for n in range(len(CHILDREN))}

    def row(self, n: int, defects: frozenset[str], other: int) -> dict[str, Any]:
        """A child's row with what is wrong in it. `other` is the child whose UPN or old reference it has by mistake."""
        forename, sex, family = CHILDREN[n]
        surname, born = FAMILIES[family]
        if n >= 4:
            born = born.replace("2007", "2008")
        if "new reference" in defects:
            self.references[n] += "+"
        if "other school" in defects:
            self.schools[n] = SCHOOLS[SCHOOLS.index(self.schools[n]) - 1]
            self.references[n] += "/"
        reference = self.references[n]
        if "reused reference" in defects and CHILDREN[n][2] != CHILDREN[other][2]:
            reference = self.references[other]
        number = {
            "another's UPN": upn(self.first + other),
            "another's temporary UPN": temporary(self.first + other),
            "temporary UPN": temporary(self.first + n),
            "no UPN": None,
        }
        row = {
            "reference": reference,
            "upn": next((number[defect] for defect in number if defect in defects), upn(self.first + n)),
            "surname": "Married" if "surname" in defects else surname,
            "forename": f"{forename[0]}x{forename[1:]}" if "forename" in defects else forename,
            "preferredForename": self.tag(n),
            "dateOfBirth": f"{born[:8]}1{born[9]}" if "birthday" in defects else born,
            "sex": sex,
            "yearGroup": "6",
            "enrolments": [{"from": "2018-01-08" if "/" in reference else "2014-09-01", "status": "C"}],
        }
        return {name: value for name, value in row.items() if value is not None}

    def tag(self, n: int) -> str:
        return f"{self.first} {n}"

    async def perform(self, step: "Step", *, times: int) -> None:
        """Sends the step's rolls, one for each school, and its judgements, each so many times."""
        rows: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHOOLS}
        judged: dict[str, list[dict[str, Any]]] = {name: [] for name in SCHOOLS}
        for n, defects, other in step.rows:
            row = self.row(n, defects, other)
            rows[self.schools[n]].append(row)
            number = row.get("upn") if step.is_joining else upn(self.first + n)
            key = {"upn": number} if step.key == "upn" and number else {"reference": row["reference"]}
            if step.is_joining or row["reference"] == self.references[n]:
                judged[self.schools[n]].append(key | {"subject": "reading", "grade": 80 + n})
        for name in SCHOOLS:
            for _ in range(times):
                if step.is_joining:
                    await self.judge(name, judged[name], pupils=rows[name], asOf="2018-05-01")
                else:
                    await self.send("/v1/pupils", roll(name, rows[name]))
                    await self.judge(name, [each for each in judged[name] if await self.is_owners(each)])

    async def judge(self, name: str, entries: list[dict[str, Any]], **more: Any) -> None:
        if entries:
            await self.send("/v1/judgements", batch(name, entries, **more))

    async def send(self, path: str, body: dict[str, Any]) -> None:
        answer = await self.client.post(path, json=body, headers=LENIENT)
        assert answer.status_code in (200, 422), answer.text

    async def is_owners(self, judged: dict[str, Any]) -> bool:
        """Whether a UPN is not another child's by a roll that nobody has corrected yet: its judgement goes where the roll says."""
        if "upn" not in judged:
            return True
        tag = await self.here.value(
            "SELECT p.preferred_forename FROM upns u JOIN pupils p ON p.id = u.pupil_id WHERE u.upn = $1 AND u.current",
            judged["upn"],
        )
        return tag is None or tag == self.tag(judged["grade"] - 80)

    async def records(self) -> dict[str, tuple[str, list[int]]]:
        """The child of each record by the rows that made it, and those of its judgements."""
        rows = await self.here.operator.fetch(
            "SELECT p.id::text, p.preferred_forename AS tag, array_agg(g.code::integer - 80) FILTER (WHERE g.code IS NOT NULL) AS judged"
            " FROM pupils p LEFT JOIN judgements j ON j.pupil_id = p.id"
            " LEFT JOIN grades g ON g.tenant_id = j.tenant_id AND g.scheme_version_no = j.scheme_version_no AND g.no = j.grade_no"
            " WHERE p.preferred_forename LIKE $1 GROUP BY 1, 2",
            f"{self.first} %",
        )
        return {row["id"]: (row["tag"], row["judged"] or []) for row in rows}

    async def state(self) -> list[Any]:
        """All that is known of the children, without what differs from example to example."""
        rows = await self.here.operator.fetch(
            "SELECT split_part(p.preferred_forename, ' ', 2) AS child, p.surname, p.forename, p.date_of_birth::text, p.school_id::text,"
            " (SELECT array_agg(right(u.upn, 1) || u.current ORDER BY right(u.upn, 1) || u.current) FROM upns u WHERE u.pupil_id = p.id) AS upns,"
            " (SELECT array_agg(regexp_replace(x.value, '^[0-9]+', '') ORDER BY x.value) FROM external_ids x WHERE x.id = p.id) AS refs,"
            " (SELECT array_agg(e.school_id::text || e.from_on || COALESCE(e.to_on::text, '') ORDER BY e.school_id, e.from_on)"
            " FROM enrolments e WHERE e.pupil_id = p.id) AS spells,"
            " (SELECT array_agg(j.grade_no ORDER BY j.grade_no) FROM judgements j WHERE j.pupil_id = p.id) AS judged"
            " FROM pupils p WHERE p.preferred_forename LIKE $1",
            f"{self.first} %",
        )
        return sorted(repr(tuple(row)) for row in rows)


@dataclass(frozen=True)
class Step:
    """Rows of children with what is wrong in each; whether they come with judgements, and by which key these name them."""

    rows: tuple[tuple[int, frozenset[str], int], ...]
    is_joining: bool
    key: str


NUMBERS = st.integers(0, len(CHILDREN) - 1)
ROW = st.tuples(NUMBERS, st.frozensets(st.sampled_from(DEFECTS), max_size=1), NUMBERS)
ROWS = st.lists(ROW, min_size=1, max_size=5, unique_by=lambda row: row[0]).map(tuple)
EXCHANGE = st.tuples(st.permutations(range(4)), st.sampled_from(["another's UPN", "another's temporary UPN"])).map(
    lambda drawn: tuple((drawn[0][i], frozenset({drawn[1]}), drawn[0][(i + 1) % 3]) for i in range(3))
)
CLEAN = st.permutations(range(len(CHILDREN))).map(lambda order: tuple((n, frozenset[str](), n) for n in order))
STEPS = st.lists(
    st.builds(Step, st.one_of(ROWS, ROWS, EXCHANGE, CLEAN), st.booleans(), st.sampled_from(["reference", "upn"])),
    min_size=2,
    max_size=6,
)
_firsts = count(10, 10)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def here(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        await opened(await made.client("vendor", f"trust:{TRUST}=all"))
        yield made


@settings(
    max_examples=choose_size(8, 400),
    deadline=None,
    derandomize=choose_size(1, 0) == 1,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(steps=STEPS)
async def test_no_child_holds_anothers_judgement_and_repetition_changes_nothing(here: Trust, steps: list[Step]) -> None:
    states = []
    for times in (1, 2):
        mis = Mis(here, here.made[0], next(_firsts))
        child_of: dict[str, str] = {}
        for step in steps:
            await mis.perform(step, times=times)
            for id_, (tag, judged) in (await mis.records()).items():
                assert child_of.setdefault(id_, tag) == tag, f"the record of {child_of[id_]} became {tag}'s"
                assert {mis.tag(n) for n in judged} <= {tag}, f"the record of {tag} holds judgements of {judged}"
        states.append(await mis.state())
    assert states[0] == states[1]
