"""Importing the register: what rows of extracts become, that nothing received is unexplained, and that nothing is written twice."""

import csv
import io
from datetime import date
from pathlib import Path
from typing import Any

from domain.declare.ids import get_type_number
from domain.declare.type_numbers import MEMBERSHIP, SCHOOL, TRUST
from domain.roster.gias.apply import apply_gias
from domain.roster.gias.parse import parse_gias
from domain.roster.names import make_sort_key
from tests.fixtures.gias_rows import COUNTED, FILES, SPRING, SUMMER, explained, extract, group, link, school, tenants, written

PUBLISHED = Path(__file__).parents[1] / "published" / "data"

# What was published.


async def test_nothing_published_is_unexplained(connection: Any) -> None:
    contents = {name: (PUBLISHED / name).read_bytes() for name in FILES}
    published = parse_gias(contents)
    told: list[tuple[str, int, int]] = []
    report = await apply_gias(connection, published, SPRING, lambda *step: told.append(step))
    lines = {name: len(list(csv.DictReader(io.StringIO(content.decode())))) for name, content in contents.items()}
    received = [getattr(report, kind).received for kind in COUNTED]
    links_of_schools = sum(len(e.links) for e in published.establishments)
    assert received == [lines["groups.csv"], lines["establishments.csv"], lines["group_links.csv"], links_of_schools]
    assert (report.unread, report.issues, report.transfer_needed, report.ended, report.moved) == (0, [], [], 0, 0)
    for kind in COUNTED:
        counts = getattr(report, kind)
        assert counts.created + sum(counts.ignored.values()) == counts.received, kind
        assert counts.created == await connection.fetchval(f"SELECT count(*) FROM {kind}"), kind
    assert told == [step for kind, of in zip(COUNTED, received, strict=True) for step in ((kind, 0, of), (kind, of, of))]
    assert report.trusts.ignored == {
        "not-a-trust: Trust": 2,
        "not-a-trust: Federation": 1,
        "not-a-trust: School sponsor": 1,
        "not-a-trust: Children's Centres Group": 1,
    }
    controllers = await tenants(connection)
    trust_links = [item for item in published.links if item.type_code in (6, 10)]
    assert report.memberships.ignored["unknown-establishment"] == sum(item.urn not in controllers for item in trust_links)
    for item in trust_links:
        assert controllers.get(item.urn, item.group_uid) == item.group_uid
    assert sum(uid == 16307 for uid in controllers.values()) >= 8  # Xavier Catholic Education Trust


async def test_the_same_files_again_write_no_row(connection: Any) -> None:
    published = parse_gias({name: (PUBLISHED / name).read_bytes() for name in FILES})
    first = await apply_gias(connection, published, SPRING)
    before = await written(connection)
    again = await apply_gias(connection, published, SUMMER)
    assert before > 100
    assert await written(connection) == before
    for kind in COUNTED:
        was, counts = getattr(first, kind), getattr(again, kind)
        assert (counts.created, counts.updated, counts.unchanged, counts.ignored) == (0, 0, was.created, was.ignored)


# What rows become.


async def test_rows_of_the_register(connection: Any) -> None:
    await apply_gias(connection, extract([school(100001)], [group(2001, 10)], [link(100001, 2001, kind=10)]), SPRING)
    """The columns that GIAS fills; others of these tables are somebody else's."""
    trust = dict(await connection.fetchrow("SELECT * FROM trusts"))
    found = dict(await connection.fetchrow("SELECT * FROM schools"))
    membership = dict(await connection.fetchrow("SELECT * FROM memberships"))
    ids = trust.pop("id"), found.pop("id"), membership.pop("id")
    assert [get_type_number(id_) for id_ in ids] == [TRUST, SCHOOL, MEMBERSHIP]
    assert trust == trust | {
        "group_uid": 2001,
        "group_id": "TR02001",
        "name": "Trust 2001",
        "kind": "single-academy",
        "status": "open",
        "companies_house_number": "07654321",
        "ukprn": "10000002",
        "opened_on": date(2011, 7, 7),
        "closed_on": None,
        "name_key": make_sort_key("Trust 2001"),
    }
    assert found == found | {
        "tenant_id": ids[0],
        "urn": 100001,
        "laestab": "8500001",
        "ukprn": "10000001",
        "name": "School 100001",
        "local_authority_code": "850",
        "local_authority": "Hampshire",
        "kind": "Academy converter",
        "phase": "Primary",
        "status": "open",
        "low_age": 4,
        "high_age": 11,
        "opened_on": date(2012, 9, 1),
        "closed_on": None,
        "town": "Alton",
        "postcode": "GU34 1AA",
        "name_key": make_sort_key("School 100001"),
    }
    assert membership == membership | {"trust_id": ids[0], "school_id": ids[1], "joined_on": date(2018, 9, 1), "left_on": None}


async def test_a_local_authority_without_a_name_is_called_by_its_code(connection: Any) -> None:
    await apply_gias(connection, extract([school(100001) | {"LA (name)": ""}]), SPRING)
    assert await connection.fetchval("SELECT local_authority FROM schools") == "850"


async def test_a_change_is_written_where_it_is_and_ids_stay(connection: Any) -> None:
    await apply_gias(connection, extract([school(100001), school(100002)], [group(2001), group(2002)]), SPRING)
    ids = await connection.fetch("SELECT id FROM schools UNION ALL SELECT id FROM trusts ORDER BY id")
    before = await written(connection)
    changed = extract([school(100001, name="Renamed"), school(100002)], [group(2001), group(2002, 10)])
    report = await apply_gias(connection, changed, SUMMER)
    assert (report.schools.updated, report.schools.unchanged) == (1, 1)
    assert (report.trusts.updated, report.trusts.unchanged) == (1, 1)
    assert await written(connection) == before + 2
    assert await connection.fetchval("SELECT name FROM schools WHERE urn = 100001") == "Renamed"
    assert await connection.fetch("SELECT id FROM schools UNION ALL SELECT id FROM trusts ORDER BY id") == ids


async def test_what_is_ignored_and_why(connection: Any) -> None:
    links = [
        link(100001, 2001),
        link(100009, 2001),
        link(100001, 2009),
        link(100001, 3005, kind=5),
        link(20003, 3008, kind=8),
        link(100001, 3013, kind=13),
        link(100001, 3005, kind=5) | {"URN": "100003"},
    ]
    given = extract([school(100001), school(100002, la="")], [group(2001), group(3005, 5), group(3013, 13)], links)
    report = await apply_gias(connection, given, SPRING)
    assert report.schools.ignored == {"no-local-authority": 1}
    assert report.trusts.ignored == {"not-a-trust: School sponsor": 1, "not-a-trust: group type 13": 1}
    assert report.memberships.ignored == {
        "unknown-establishment": 1,
        "unknown-group": 1,
        "not-a-trust-link: School sponsor": 2,
        "not-a-trust-link: Children's Centres Group": 1,
        "not-a-trust-link: group type 13": 1,
    }
    assert [explained(getattr(report, kind)) for kind in COUNTED] == [3, 2, 7, 0]
    assert [getattr(report, kind).created for kind in COUNTED] == [1, 1, 1, 0]


async def test_bad_rows_are_reported_with_their_place_and_keep_no_good_row_out(connection: Any) -> None:
    schools = [
        school(100001),
        school(100002, closed="31-02-2020", age="old"),
        school(100003, age="99999"),
        school(100004, links="100005 Other"),
    ]
    report = await apply_gias(connection, extract(schools), SPRING)
    assert (report.unread, report.schools.received, report.schools.created) == (1, 3, 2)
    assert report.schools.ignored == {"impossible-age": 1}
    assert [(issue.file, issue.line, issue.column, issue.code, issue.severity) for issue in report.issues] == [
        ("establishments.csv", 3, "StatutoryHighAge", "gias-invalid-number", "error"),
        ("establishments.csv", 3, "CloseDate", "gias-invalid-date", "error"),
        ("establishments.csv", 5, "Linked establishments", "gias-link-not-read", "note"),
        (None, None, "StatutoryHighAge", "gias-impossible-age", "error"),
    ]
    assert "100003" in report.issues[-1].message


async def test_succession_is_the_union_of_what_both_schools_say(connection: Any) -> None:
    schools = [
        school(100001, links="100002 Successor"),
        school(100002, links="100001 Predecessor, 100003 Predecessor - amalgamated"),
        school(100004, links="100004 Successor, 100009 Successor"),
    ]
    report = await apply_gias(connection, extract(schools), SPRING)
    assert (report.succession.received, report.succession.created) == (5, 3)
    assert report.succession.ignored == {"said-by-both-schools": 1, "follows-itself": 1}
    rows = await connection.fetch("SELECT predecessor_urn, successor_urn FROM succession ORDER BY 1, 2")
    assert [tuple(row) for row in rows] == [(100001, 100002), (100003, 100002), (100004, 100009)]
