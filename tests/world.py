"""A small, varied world on a fresh database, made by the register's import, the operator and the real commands, as the app role.

North is a trust of Alder, Birch and Cedar; South one of Damson and Elder, which left North; Fir is a maintained school. All three use
the same codes of windows, subjects and schemes, and one child was on roll in North and is in South. Cedar shares three pupils of
Alder's, and one of Birch's has moved to Alder. Names, grades and notes hold whatever JSON must escape.
"""

import json
import random
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg

from domain import COMMANDS
from domain.access.caller import Caller
from domain.clients.clients import create_client
from domain.clients.grants import approve_grant, parse_grant
from domain.clients.signing_keys import ensure_signing_key
from domain.declare.errors import Invalid
from domain.declare.resource import Field, Resource
from domain.declare.scopes import Scope
from domain.read import prepared
from domain.read.cursors import Cursors
from domain.read.query import FieldValue, ListQuery, PageRows
from domain.roster.gias.apply import apply_gias
from domain.roster.upn import compute_check_letter
from domain.store.database import Connection, Database
from domain.store.embedded import SUPERUSER
from domain.write.run import perform
from tests.clock import PLANNED_DAY, PLANNING, standing_at
from tests.conftest import SECRET, Databases, Statements, counting_database
from tests.roster import gias_rows

TRUSTS = {"North": 4001, "South": 4002}
SCHOOLS = {"Alder": 100001, "Birch": 100002, "Cedar": 100003, "Damson": 100004, "Elder": 100005, "Fir": 100006}
TENANTS = {"North": ("Alder", "Birch", "Cedar"), "South": ("Damson", "Elder"), "Fir": ("Fir",)}
ROLLS = {"Alder": 10, "Birch": 8, "Cedar": 6, "Damson": 8, "Elder": 5, "Fir": 6}
GRANTS = {
    "North": ("trust:4001=all",),
    "South": ("trust:4002=all",),
    "Fir": ("school:100006=all",),
    "mixed": (
        "school:100001=schools:read,pupils:read,pupils:name",
        "school:100002=schools:read,pupils:read,pupils:upn,judgements:read,windows:read,targets:read",
        "school:100003=pupils:read,pupils:birth,judgements:read",
    ),
    "guest": ("trust:4001=all", "trust:4002=schools:read,pupils:read,windows:read,schemes:read,judgements:read,targets:read"),
    "everything": ("trusts=all", "schools=all", "school:100006=all"),
}
"""By client, its grants: one client of each tenant, one whose scopes differ between schools, one of North that may read in South, and one that reaches all."""

AUTUMN, KS2, SUMMER = "2024-25/autumn", "2024-25/KS2", "2024-25/summer"
AWKWARD = (
    'O"Brien',
    "back\\slash\\",
    "Zoë",
    "𝒳éna 👩🏫",
    '"}],"page":{"',
    "~0.0:6162~",
    "tab\\tnew\\nline",
    "Łódź…",
    "عمر",
    "null",
    "Siân",
    "Đặng",
    "%s $1 {0}",
    "=1+1",
    "blank in between",
    "'; --",
    "zoë",
    "Å",
)
HOUSE: list[dict[str, Any]] = [
    {"code": 'W"T', "label": "Working \\ towards", "rank": 1, "yearGroup": "5", "band": "low"},
    {"code": "EX👍", "label": "Expected", "rank": 2, "value": 2.5, "expected": True},
    {"code": "G\\D", "label": "Greater depth", "rank": 3, "points": 9, "expected": True, "higher": True},
    {"code": "absent", "label": "Was away", "eligible": False, "valid": False},
]
COLLECTS = {
    AUTUMN: [("reading", "main", "house"), ("maths", "main", "house"), ("maths", "effort", "effort")],
    KS2: [("reading", "main", "ks2-scaled-score"), ("maths", "main", "ks2-scaled-score"), ("writing", "main", "ks2-writing-ta")],
    SUMMER: [("science", "main", "ks2-science-ta")],
}
GRADES = {
    "house": [grade["code"] for grade in HOUSE],
    "effort": ["1", "2", "3", "4"],
    "ks2-scaled-score": ["85", "99", "100", "110", "120", "A"],
    "ks2-writing-ta": ["WTS", "EXS", "GDS"],
}
STATUSES = ("absent", "new", "left", "notTaught", "exempt")


@dataclass(frozen=True)
class Client:
    """A registered client: as the domain knows it, and what it shows the token endpoint."""

    caller: Caller
    secret: str


@dataclass(frozen=True)
class World:
    """The app's database and who is who in it: tenants, schools and clients by name. `statements` counts when asked to."""

    databases: Databases
    database: Database
    statements: Statements
    tenants: dict[str, UUID]
    schools: dict[str, UUID]
    clients: dict[str, Client]
    cursors: Cursors

    async def do(self, client: str, command: str, document: Any) -> Any:
        """What a command answers this client, as JSON values; raises what it raises."""
        chosen = COMMANDS[command]
        done = await perform(self.database, chosen, self.clients[client].caller, chosen.parse(document))
        return json.loads(done.answer)

    async def rows(self, database: Database, caller: Caller, resource: Resource, **more: Field) -> list[dict[str, Any]]:
        """Every row a caller sees, with all its fields and more; numbers are given as texts."""
        items = tuple((key, FieldValue(field)) for key, field in {**resource.fields, **more}.items())
        page = ListQuery(resource, (("data", PageRows(items)),), first=1000)
        (body,) = await prepared.read([page], database, caller.client_id, self.cursors)
        return list(json.loads(body or b"", parse_float=str, parse_int=str)["data"])

    async def as_superuser(self, statement: str) -> list[Any]:
        """The rows of a statement that no wall holds back."""
        connection = await asyncpg.connect(self.databases.cluster.url(self.databases.name, SUPERUSER))
        rows: list[Any] = await connection.fetch(statement)
        await connection.close()
        return rows


async def build(databases: Databases) -> World:
    """Fills a fresh database. The world's `database` is the caller's to close."""
    statements = Statements()

    async def watch(connection: Any) -> None:
        connection.add_query_logger(statements.note)

    database = await counting_database(statements).open(databases.app_url, on_connect=watch)
    await _import_register(database)
    operator = await asyncpg.connect(databases.operator_url)
    try:
        await ensure_signing_key(operator, SECRET.encode())
        clients = {name: await _register(operator, name) for name in GRANTS}
        schools = {row["name"]: row["id"] for row in await operator.fetch("SELECT id, name FROM schools")}
        trusts = {row["name"]: row["id"] for row in await operator.fetch("SELECT id, name FROM trusts")}
    finally:
        await operator.close()
    tenants = {name: trusts.get(name) or schools[name] for name in TENANTS}
    world = World(databases, database, statements, tenants, schools, clients, Cursors(SECRET.encode()))
    for tenant in TENANTS:
        await _fill(world, tenant)
    return world


def settled(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows in an order that does not hang on ids and times of arrival, which are new each time: so what is random repeats itself."""
    new = ("id", "pupilId", "pupilIds", "groupId", "schoolId", "receivedAt", "changedAt", "foundAt")
    return sorted(rows, key=lambda row: [str(value) for key, value in row.items() if key not in new and key[0] != "@"])


async def _import_register(database: Database) -> None:
    """Two extracts: in the first Elder is North's, in the second South's."""
    groups = [gias_rows.group(uid) | {"Group Name": name} for name, uid in TRUSTS.items()]
    given = [gias_rows.school(urn, name=name, age="" if name == "Fir" else "11") for name, urn in SCHOOLS.items()]
    for elder, joined, as_of in (("North", "2018-09-01", gias_rows.SPRING), ("South", "2022-05-01", gias_rows.SUMMER)):
        links = [
            gias_rows.link(SCHOOLS[school], TRUSTS[trust]) for trust in TRUSTS for school in TENANTS[trust] if school != "Elder"
        ]
        extract = gias_rows.extract(given, groups, [*links, gias_rows.link(SCHOOLS["Elder"], TRUSTS[elder], joined)])

        async def work(connection: Connection, extract: Any = extract, as_of: date = as_of) -> None:
            await apply_gias(connection, extract, as_of)

        await database.run_transaction(None, work)


async def _register(operator: Any, name: str) -> Client:
    client_id, secret = await create_client(operator, name, "client_secret")
    asked = [parse_grant(grant) for grant in GRANTS[name]]
    for grant in asked:
        await approve_grant(operator, client_id, grant, purpose="tests", approved_by="tests")
    assert secret is not None
    return Client(Caller(client_id, frozenset(Scope(scope) for grant in asked for scope in grant.scopes)), secret)


async def _fill(world: World, tenant: str) -> None:
    """Schemes, windows, rolls, judgements and targets of one tenant, by its own client."""
    draw = random.Random(tenant)
    ref = {"trust": {"groupUid": TRUSTS[tenant]}} if tenant in TRUSTS else {"school": {"urn": SCHOOLS[tenant]}}
    await world.do(tenant, "create_scheme", {"tenant": ref, "code": "house", "name": f'{tenant}\'s "own"', "grades": HOUSE})
    await world.do(tenant, "create_scheme", {"tenant": ref, "code": "effort", "name": "Effort", "template": "effort"})
    windows = {code: await world.do(tenant, "create_window", window(ref, code)) for code in COLLECTS}
    rolls = {school: roll(tenant, school, draw) for school in TENANTS[tenant]}
    for school, entries in rolls.items():
        await world.do(tenant, "record_pupils", batch(school, entries, asOf="2024-10-01"))
    if tenant == "North":
        shared = [
            pupil | {"reference": f"c{i}", "enrolments": [{"from": "2024-09-02", "status": "S"}]}
            for i, pupil in enumerate(rolls["Alder"][:3])
        ]
        await world.do(tenant, "record_pupils", batch("Cedar", shared, asOf="2024-10-01"))
    for code in (AUTUMN, KS2):
        await world.do(tenant, "open_window", {"id": windows[code]["id"]})
        for school, entries in rolls.items():
            await world.do(tenant, "record_judgements", batch(school, judgements(code, entries, draw), window=code))
    for school, entries in rolls.items():
        await world.do(tenant, "record_targets", batch(school, targets(entries, draw)))
    for school, entries in rolls.items():
        pupil = {"reference": entries[4]["reference"]}
        discount = {"school": {"urn": SCHOOLS[school]}, "pupil": pupil, "reason": "Came from abroad", "author": "Head"}
        await world.do(tenant, "create_window_discount", {"id": windows[AUTUMN]["id"], **discount})
    await world.do(tenant, "close_window", {"id": windows[KS2]["id"]})
    if tenant == "North":
        moved = rolls["Birch"][0] | {"reference": "moved", "enrolments": [{"from": "2025-01-06", "status": "C"}]}
        await world.do(tenant, "record_pupils", batch("Alder", [moved], asOf="2025-02-01"))
    school, (first, second, *_) = next(iter(rolls.items()))
    with suppress(Invalid):  # a pupil's reference with another's UPN: refused, and a data issue
        await world.do(tenant, "record_pupils", batch(school, [first | {"upn": second["upn"]}], asOf="2024-10-01"))
    with standing_at(PLANNING):
        for school in rolls:
            await world.do(tenant, "record_pupils", batch(school, [STARTER], asOf=PLANNED_DAY))
    for school, entries in rolls.items():
        await world.do(tenant, "record_groups", batch(school, classes(entries), academicYear="2024-25", asOf="2024-10-01"))


STARTER = {
    "reference": "starter",
    "surname": "Later",
    "forename": "Sam",
    "dateOfBirth": "2026-01-01",
    "sex": "F",
    "yearGroup": "R",
    "enrolments": [{"from": PLANNED_DAY, "status": "C"}],
}
"""A pupil of a planned roll."""


def batch(school: str, entries: list[Any], **head: Any) -> dict[str, Any]:
    return {"school": {"urn": SCHOOLS[school]}, "entries": entries, **head}


def window(tenant: Any, code: str) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "code": code,
        "name": f'The "{code}" window',
        "academicYear": "2024-25",
        "censusOn": "2024-11-01" if code == AUTUMN else "2025-05-01",
        "opensAt": "2098-10-01T08:00:00+01:00",
        "closesAt": "2099-07-01T17:00:00+01:00",
        "acceptUntil": "2099-07-08T17:00:00+01:00" if code == KS2 else None,
        "statutory": code == KS2,
        "purpose": "To see where help is needed",
        "decision": "Who is helped",
        "yearGroups": ["5", "6"],
        "collects": [{"subject": subject, "aspect": aspect, "scheme": scheme} for subject, aspect, scheme in COLLECTS[code]],
    }


def upn(school: str, serial: int, *, temporary: bool = False) -> str:
    """A valid UPN, allocated by the school."""
    rest = f"850{SCHOOLS[school] % 10000:04}19" + (f"{serial:02}A" if temporary else f"{serial:03}")
    return compute_check_letter(rest) + rest


def roll(tenant: str, school: str, draw: random.Random) -> list[dict[str, Any]]:
    """Entries of a roll. Every fifth pupil has no UPN; the second of Damson's has the UPN that Alder's second has."""
    entries = []
    for i in range(ROLLS[school]):
        of = "Alder" if (school, i) == ("Damson", 1) else school
        entry: dict[str, Any] = {
            "reference": f"{school}-{i}",
            "upn": None if i % 5 == 4 else upn(of, i, temporary=i % 5 == 3),
            "surname": f"{draw.choice(AWKWARD)}{tenant}" if i % 3 else draw.choice(AWKWARD),
            "forename": draw.choice(AWKWARD),
            "preferredSurname": None if i % 4 else f"{AWKWARD[i % len(AWKWARD)]}{school}",
            "preferredForename": AWKWARD[i % len(AWKWARD)] if i % 3 else None,
            "dateOfBirth": str(date(2014, draw.randint(1, 12), draw.randint(1, 28))),
            "sex": draw.choice("FM"),
            "yearGroup": draw.choice(("4", "5", "6")),
            "enrolments": [{"from": str(date(2020 + i % 4, 9, 1)), "status": "M" if school == "Alder" and i < 3 else "C"}],
            "characteristics": [{"kind": "ever6Fsm", "value": draw.choice(("true", "false")), "from": "2024-09-01"}],
        }
        if i == 5:
            entry["enrolments"] = [{"from": "2019-09-01", "to": "2021-07-20", "status": "C"}, *entry["enrolments"]]
        entries.append(entry)
    return entries


def classes(pupils: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Two groups: a class of all but the last, whose first left it before Christmas, and a club of every other pupil from the spring on."""
    members: list[dict[str, Any]] = [{"reference": pupil["reference"]} for pupil in pupils]
    return [
        {"code": "6W", "name": '6 "Willow"', "kind": "class", "members": [members[0] | {"to": "2024-12-20"}, *members[1:-1]]},
        {
            "code": "club",
            "name": "Chess \\ draughts",
            "kind": "adhoc",
            "members": [m | {"from": "2025-01-06"} for m in members[::2]],
        },
    ]


def judgements(code: str, pupils: list[dict[str, Any]], draw: random.Random) -> list[dict[str, Any]]:
    """Two judgements in three, one in six of them a status without a grade."""

    def value(scheme: str) -> dict[str, Any]:
        if draw.random() < 1 / 6:
            return {"status": draw.choice(STATUSES)}
        return {"grade": draw.choice(GRADES[scheme]), "mark": draw.choice((None, 12.5, 40, 7.25))}

    return [
        {
            "reference": pupil["reference"],
            "subject": subject,
            "aspect": aspect,
            "recordedAt": f"2025-0{draw.randint(1, 6)}-1{draw.randint(0, 9)}T09:30:00.{draw.randint(0, 999_999):06}Z",
            "actor": draw.choice((None, *AWKWARD)),
            "source": draw.choice((None, "markbook", 'a "test"')),
            "method": draw.choice((None, "test")),
            **value(scheme),
        }
        for pupil in pupils
        for subject, aspect, scheme in COLLECTS[code]
        if draw.random() < 2 / 3
    ]


def targets(pupils: list[dict[str, Any]], draw: random.Random) -> list[dict[str, Any]]:
    return [
        {
            "reference": pupil["reference"],
            "subject": subject,
            "scheme": "house",
            "horizon": {"academicYear": draw.choice(("2024-25", "2039-40")), "point": "end-of-year"},
            "grade": draw.choice(GRADES["house"][:3]),
            "basis": draw.choice(("teacher", "aspiration")),
            "actor": draw.choice((None, *AWKWARD)),
        }
        for pupil in pupils
        for subject in ("reading", "maths")
        if draw.random() < 1 / 2
    ]
