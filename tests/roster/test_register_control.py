"""Importing the register: who is in which trust since when, who controls a school's data, and that no import moves pupil data."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from domain.declare.ids import new_id
from domain.roster.gias.apply import apply_gias
from domain.roster.gias.report import ImportReport
from domain.roster.gias.rows import Extract
from tests.fixtures.databases import Databases
from tests.fixtures.gias_rows import (
    COUNTED,
    SPRING,
    SUMMER,
    as_role,
    explained,
    extract,
    group,
    link,
    school,
    spells,
    tenants,
    written,
)

TWO_SCHOOLS = [school(100001), school(100002)]


# Memberships and who controls a school's data.


async def test_a_new_school_is_controlled_by_the_trust_it_is_in_on_the_day(connection: Any) -> None:
    links = [
        link(100001, 2001),
        link(100003, 2001, joined="2022-04-21"),
        link(100004, 2002, closed="2019-03-31"),
        link(100005, 2001, joined=""),
        link(100006, 2003, joined="2022-04-20"),
    ]
    groups = [group(2001), group(2002, 10, "Closed", "2019-03-31"), group(2003)]
    await apply_gias(connection, extract(map(school, range(100001, 100007)), groups, links), SPRING)
    assert await tenants(connection) == {100001: 2001, 100002: None, 100003: None, 100004: None, 100005: 2001, 100006: 2003}
    assert await spells(connection) == [
        (100001, 2001, "2018-09-01", None),
        (100003, 2001, "2022-04-21", None),
        (100004, 2002, "2018-09-01", "2019-03-31"),
        (100005, 2001, None, None),
        (100006, 2003, "2022-04-20", None),
    ]
    await apply_gias(connection, extract([school(100003)]), SUMMER)
    assert (await tenants(connection))[100003] == 2001


CLOSED = {
    "the link says when": (group(2002), link(100001, 2002, "2019-01-01", closed="2020-03-31"), "2020-03-31"),
    "the trust says when": (group(2002, status="Closed", closed="2020-03-31"), link(100001, 2002, "2019-01-01"), "2020-03-31"),
    "nobody says when": (group(2002, status="Closed"), link(100001, 2002, "2019-01-01"), None),
    "before the school joined": (group(2002), link(100001, 2002, "2021-01-01", closed="2020-03-31"), "2021-01-01"),
}


@pytest.mark.parametrize("what", CLOSED)
async def test_a_closed_trust_controls_nothing(connection: Any, what: str) -> None:
    closed, its_link, left_on = CLOSED[what]
    given = extract([school(100001)], [group(2001), closed], [link(100001, 2001, "2018-01-01"), its_link])
    report = await apply_gias(connection, given, SPRING)
    assert (report.memberships.created, report.memberships.ignored) == (2, {})
    assert await tenants(connection) == {100001: 2001}
    assert [spell[1:] for spell in await spells(connection)] == [
        (2001, "2018-01-01", None),
        (2002, its_link["Joined date"], left_on),
    ]
    again = await apply_gias(connection, given, SUMMER)
    assert (again.memberships.unchanged, again.ended, again.moved) == (2, 0, 0)


async def test_an_empty_school_follows_its_new_trust(connection: Any) -> None:
    groups = [group(2001), group(2002)]
    await apply_gias(
        connection, extract([school(100001), school(100002)], groups, [link(100001, 2001), link(100002, 2001)]), SPRING
    )
    moved = extract([school(100001), school(100002)], groups, [link(100001, 2002, "2022-05-01"), link(100002, 2001)])
    report = await apply_gias(connection, moved, SUMMER)
    assert (report.moved, report.ended, report.transfer_needed) == (1, 1, [])
    assert (report.schools.updated, report.schools.unchanged) == (1, 1)
    assert (report.memberships.created, report.memberships.updated, report.memberships.unchanged) == (1, 0, 1)
    assert await tenants(connection) == {100001: 2002, 100002: 2001}
    assert await spells(connection) == [
        (100001, 2001, "2018-09-01", "2022-04-30"),
        (100001, 2002, "2022-05-01", None),
        (100002, 2001, "2018-09-01", None),
    ]


async def test_links_alone_move_a_school_of_the_register(connection: Any) -> None:
    await apply_gias(connection, extract([school(100001)], [group(2001)]), SPRING)
    report = await apply_gias(connection, extract(links=[link(100001, 2001)]), SUMMER)
    assert (report.moved, report.memberships.created, report.schools.received, report.schools.updated) == (1, 1, 0, 0)
    assert await tenants(connection) == {100001: 2001}


async def test_the_later_joined_of_two_trusts_counts(connection: Any) -> None:
    links = [link(100001, 2002, "2019-01-01"), link(100001, 2001, "2018-01-01"), link(100001, 2003, "2023-01-01")]
    links += [link(100002, 2001), link(100002, 2002)]  # on the same day: the same one is kept at every import
    report = await apply_gias(connection, extract(TWO_SCHOOLS, map(group, (2001, 2002, 2003)), links), SPRING)
    assert report.memberships.ignored == {"second-trust": 2}
    assert [(issue.code, issue.severity) for issue in report.issues] == [("gias-second-trust", "error")] * 2
    assert all(number in report.issues[-1].message for number in ("100001", "2001", "2002"))
    assert await tenants(connection) == {100001: 2002, 100002: 2002}
    assert [spell[:2] for spell in await spells(connection)] == [(100001, 2002), (100001, 2003), (100002, 2002)]


async def test_a_corrected_day_of_joining_changes_the_spell_and_a_return_begins_another(connection: Any) -> None:
    async def apply(joined: str, as_of: date, uid: int = 2001) -> ImportReport:
        return await apply_gias(
            connection, extract([school(100001)], [group(2001), group(2002)], [link(100001, uid, joined)]), as_of
        )

    await apply("", SPRING)
    corrected = await apply("2018-09-01", SPRING)
    assert (corrected.memberships.updated, corrected.ended) == (1, 0)
    assert await spells(connection) == [(100001, 2001, "2018-09-01", None)]
    await apply("2020-01-01", SPRING, 2002)
    back = await apply("2021-01-01", SPRING)
    assert (back.memberships.created, back.ended) == (1, 1)
    assert await spells(connection) == [
        (100001, 2001, "2018-09-01", "2019-12-31"),
        (100001, 2002, "2020-01-01", "2020-12-31"),
        (100001, 2001, "2021-01-01", None),
    ]
    first_again = await apply("2018-09-01", SUMMER)
    assert (first_again.memberships.updated, first_again.ended) == (1, 1)
    assert [spell[2:] for spell in await spells(connection) if spell[1] == 2001] == [
        ("2018-09-01", None),
        ("2021-01-01", "2022-07-20"),
    ]


BROKEN = school(100003, closed="?")
ENDINGS: dict[str, tuple[Extract, str | None]] = {
    "the extract has school and trust": (extract(TWO_SCHOOLS, [group(2001)], [link(100002, 2001)]), "2022-07-20"),
    "the school is not in the extract": (extract([school(100002)], [group(2001)], [link(100002, 2001)]), None),
    "no link of the trust is in the extract": (extract(TWO_SCHOOLS, [group(2001)]), None),
    "a row could not be read": (extract([*TWO_SCHOOLS, BROKEN], [group(2001)], [link(100002, 2001)]), None),
    "the trust has closed": (extract(groups=[group(2001, status="Closed", closed="2022-05-31")]), "2022-05-31"),
    "the school has joined another trust": (extract(groups=[group(2002)], links=[link(100001, 2002, "2022-05-01")]), "2022-04-30"),
    "the school is in a trust it joined earlier": (
        extract(groups=[group(2002)], links=[link(100001, 2002, "2017-01-01")]),
        "2022-07-20",
    ),
    "the school was in a trust that closed": (
        extract(groups=[group(2002)], links=[link(100001, 2002, "2017-01-01", closed="2018-01-01")]),
        None,
    ),
    "the school joined another trust before its own closed": (
        extract(groups=[group(2001, status="Closed", closed="2022-05-31"), group(2002)], links=[link(100001, 2002, "2022-05-01")]),
        "2022-04-30",
    ),
    "the school has closed": (extract([school(100001, status="Closed", closed="30-06-2022")]), "2022-06-30"),
}


@pytest.mark.parametrize("what", ENDINGS)
async def test_a_link_that_is_gone(connection: Any, what: str) -> None:
    await apply_gias(connection, extract(TWO_SCHOOLS, [group(2001)], [link(100001, 2001), link(100002, 2001)]), SPRING)
    later, left_on = ENDINGS[what]
    report = await apply_gias(connection, later, SUMMER)
    assert (100001, 2001, "2018-09-01", left_on) in await spells(connection)
    assert [explained(getattr(report, kind)) for kind in COUNTED] == [getattr(report, kind).received for kind in COUNTED]
    stays = left_on is None or what == "the school has closed"  # the data of a closed school stays where it is
    assert (await tenants(connection))[100001] == (
        2001 if stays else 2002 if later.links and later.links[0].urn == 100001 else None
    )


async def test_a_membership_lasts_again_when_its_link_is_back(connection: Any) -> None:
    both = extract(TWO_SCHOOLS, [group(2001)], [link(100001, 2001), link(100002, 2001)])
    await apply_gias(connection, both, SPRING)
    await apply_gias(connection, ENDINGS["the extract has school and trust"][0], SUMMER)
    report = await apply_gias(connection, both, date(2022, 9, 1))
    assert (report.memberships.updated, report.memberships.created, report.moved) == (1, 0, 1)
    assert (await spells(connection))[0] == (100001, 2001, "2018-09-01", None)
    assert (await tenants(connection))[100001] == 2001


async def test_grants_follow_the_register_and_only_where_it_changed(connection: Any) -> None:
    groups = [group(2001), group(2002)]
    await apply_gias(connection, extract([school(100001)], groups, [link(100001, 2001)]), SPRING)
    client = new_id(5)
    targets = (
        ("schools", None),
        ("trusts", None),
        ("trust", await connection.fetchval("SELECT id FROM trusts WHERE group_uid = 2002")),
    )
    await as_role(connection, "markonce_operator")
    await connection.execute("INSERT INTO clients (id, name, auth_method) VALUES ($1, 'reader', 'client_secret')", client)
    for target, target_id in targets:
        await connection.execute(
            "INSERT INTO grants (id, client_id, target, target_id, scopes, purpose, approved_by)"
            " VALUES ($1, $2, $3, $4, '{schools:read}', 'test', 'test')",
            *(new_id(6), client, target, target_id),
        )
    await connection.execute("SELECT derive_reach()")
    await connection.execute("SELECT set_config('markonce.caller', $1, true)", str(client))
    await as_role(connection, "markonce_app")

    async def reached() -> set[tuple[str, int, int | None]]:
        """Target of the grant, Group UID of the tenant, and URN (none for the right over the trust itself)."""
        rows = await connection.fetch(
            "SELECT g.target, t.group_uid, s.urn FROM reach r JOIN grants g ON g.id = r.grant_id"
            " JOIN trusts t ON t.id = r.tenant_id LEFT JOIN schools s ON s.id = r.school_id"
        )
        return {tuple(row) for row in rows}

    expected = {("schools", 2001, 100001), ("trusts", 2001, None), ("trusts", 2002, None), ("trust", 2002, None)}
    assert await reached() == expected
    await apply_gias(connection, extract(groups=[group(2003)]), SUMMER)
    expected |= {("trusts", 2003, None)}
    assert await reached() == expected
    await apply_gias(connection, extract([school(100002)], [], [link(100002, 2002)]), SUMMER)
    expected |= {("schools", 2002, 100002), ("trust", 2002, 100002)}
    assert await reached() == expected
    last = extract([school(100001)], groups, [link(100001, 2002, "2022-05-01")])
    await apply_gias(connection, last, SUMMER)
    assert await reached() == expected - {("schools", 2001, 100001)} | {("schools", 2002, 100001), ("trust", 2002, 100001)}
    before = await written(connection)
    await apply_gias(connection, last, SUMMER)
    assert await written(connection) == before


# Pupil data is never moved.

PUPIL = """INSERT INTO pupils (tenant_id, id, school_id, surname, forename, date_of_birth, sex, year_group)
    VALUES ('{tenant}', '{id}', '{school}', 'A', 'B', '2015-01-01', 'F', '1')"""
PUPIL_ELSEWHERE = PUPIL.replace("{school}", "{other_school}")
WINDOW = """INSERT INTO windows (tenant_id, id, no, code, name, academic_year, census_on, opens_at, closes_at, statutory, purpose,
        decision, year_groups)
    VALUES ('{tenant}', '{id}', 1, 'w', 'w', 2021, '2022-05-01', now(), now() + interval '1 day', false, 'p', 'd', ARRAY['1'])"""
HELD = {
    "a pupil": PUPIL,
    "a former pupil": f"""{PUPIL_ELSEWHERE};
        INSERT INTO enrolments (tenant_id, id, pupil_id, school_id, status, from_on, to_on)
        VALUES ('{{tenant}}', '{{id}}', '{{id}}', '{{school}}', 'C', '2020-09-01', '2021-07-20')""",
    "a judgement": f"""{WINDOW};
        INSERT INTO judgements (tenant_id, academic_year, pupil_id, window_no, subject_no, aspect_no, school_id,
            scheme_version_no, recorded_at, received_at, recorded_at_school_id, client_id)
        VALUES ('{{tenant}}', 2021, '{{id}}', 1, 1, 0, '{{school}}', 1, now(), now(), '{{school}}', '{{id}}')""",
    "a target": f"""{PUPIL_ELSEWHERE};
        INSERT INTO targets (tenant_id, id, pupil_id, school_id, subject_no, aspect_no, horizon_year, horizon_point, basis,
            scheme_version_no, grade_no, recorded_at, received_at, client_id)
        VALUES ('{{tenant}}', '{{id}}', '{{id}}', '{{school}}', 1, 0, 2022, 'end', 'teacher', 1, 1, now(), now(), '{{id}}')""",
    "a group": """INSERT INTO groups (tenant_id, id, school_id, kind, code, name, academic_year)
        VALUES ('{tenant}', '{id}', '{school}', 'class', '1A', '1A', 2021)""",
}


async def hold(connection: Any, statements: str) -> None:
    """Writes data of the first school; {other_school} is the second."""
    schools = await connection.fetch("SELECT tenant_id, id FROM schools ORDER BY urn")
    ids = {"tenant": schools[0]["tenant_id"], "school": schools[0]["id"], "other_school": schools[-1]["id"], "id": new_id(4)}
    await connection.execute(statements.format(**ids))


def moves(report: ImportReport) -> list[tuple[int, UUID, UUID]]:
    return [(t.urn, UUID(t.from_tenant_id), UUID(t.to_tenant_id)) for t in report.transfer_needed]


@pytest.mark.parametrize("role", ["markonce_app", "markonce_operator", "markonce_owner"])
@pytest.mark.parametrize("what", HELD)
async def test_a_school_that_holds_pupil_data_stays_and_is_reported(connection: Any, what: str, role: str) -> None:
    schools, groups = [school(100001), school(100002)], [group(2001), group(2002)]
    await apply_gias(connection, extract(schools, groups, [link(100001, 2001), link(100002, 2001)]), SPRING)
    await as_role(connection, "markonce_operator")
    await hold(connection, HELD[what])
    await as_role(connection, role)
    if role == "markonce_app":
        assert not await connection.fetchval("SELECT EXISTS (SELECT FROM pupils) OR EXISTS (SELECT FROM judgements)")
    trusts = dict(await connection.fetch("SELECT group_uid, id FROM trusts"))
    later = extract(schools, groups, [link(100001, 2002, "2022-05-01"), link(100002, 2001)])
    for _ in range(2):  # it stays needed until it is done
        report = await apply_gias(connection, later, SUMMER)
        assert moves(report) == [(100001, trusts[2001], trusts[2002])]
        assert UUID(report.transfer_needed[0].school_id) == await connection.fetchval("SELECT id FROM schools WHERE urn = 100001")
        assert (report.moved, report.schools.unchanged) == (0, 2)
    assert await tenants(connection) == {100001: 2001, 100002: 2001}
    assert (100001, 2002, "2022-05-01", None) in await spells(connection)


async def test_a_school_with_windows_of_its_own_stays_its_own_tenant(connection: Any) -> None:
    await apply_gias(connection, extract([school(100001)], [group(2001)]), SPRING)
    await as_role(connection, "markonce_operator")
    await hold(connection, WINDOW)
    await as_role(connection, "markonce_app")
    report = await apply_gias(connection, extract(links=[link(100001, 2001)]), SUMMER)
    assert [urn for urn, _, _ in moves(report)] == [100001]
    assert await tenants(connection) == {100001: None}


# Two at once.


async def blocked(watching: Any, task: "asyncio.Task[Any]") -> None:
    """Returns when the task waits for a lock; fails if it ends without."""
    while not await watching.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"):
        await asyncio.wait({task}, timeout=0.02)
        assert not task.done()


async def import_in_transaction(connection: Any, given: Extract) -> ImportReport:
    async with connection.transaction():
        return await apply_gias(connection, given, SUMMER)


@pytest_asyncio.fixture
async def two(databases: Databases) -> AsyncIterator[tuple[Any, Any]]:
    """Two connections to a database of their own: the app's, and the operator's."""
    opened = await asyncpg.connect(databases.app_url), await asyncpg.connect(databases.operator_url)
    yield opened
    for connection in opened:
        await connection.close()


async def test_pupils_written_while_the_import_waits_are_seen(two: tuple[Any, Any]) -> None:
    """The school is locked before it is asked for pupils, so that no write of pupils falls between the two."""
    importing, writing = two
    await import_in_transaction(importing, extract([school(100001)], [group(2001)]))
    async with writing.transaction():
        await hold(writing, PUPIL)
        task = asyncio.create_task(import_in_transaction(importing, extract(links=[link(100001, 2001)])))
        await blocked(writing, task)
    report = await task
    assert ([urn for urn, _, _ in moves(report)], report.moved) == ([100001], 0)


async def test_a_second_import_waits_for_the_first(two: tuple[Any, Any]) -> None:
    first, second = two
    given = extract([school(100001)], [group(2001)], [link(100001, 2001)])
    async with first.transaction():
        assert (await apply_gias(first, given, SUMMER)).memberships.created == 1
        task = asyncio.create_task(import_in_transaction(second, given))
        await blocked(first, task)
    report = await task
    assert [getattr(report, kind).unchanged for kind in COUNTED] == [1, 1, 1, 0]
