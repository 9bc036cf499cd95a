"""What `migrate` does to texts that an older program has stored: keys of names are filled, references and codes cleaned, and nothing is merged."""

import asyncio
from typing import Any

import asyncpg
import pytest

from domain.declare.errors import DatabaseError
from domain.roster import names, stored_names
from domain.store.embedded import SUPERUSER
from domain.store.schema import MIGRATIONS
from tests.fixtures.migrations import migrated
from tests.fixtures.small_trust import URNS, Trust, asked, batch, counted, entry, judged, opened, roll, sent, upn

OLD = """
UPDATE pupils SET names_rule = 0, surname_folded = '', forename_folded = '', preferred_surname_folded = NULL, preferred_forename_folded = NULL,
    surname_key = '', forename_key = '', preferred_surname_key = '', preferred_forename_key = ''
"""
FILLED = "Filled the keys by which names are found and sorted, of {}."
LACKING = "SELECT count(*) FROM pupils WHERE surname_folded = '' OR surname_key = '' OR names_rule <> {}".format


async def migrate(here: Trust) -> list[str]:
    """What a `migrate` tells that has no migration to run."""
    told = await migrated(here.databases, MIGRATIONS)
    assert told.pop(0).startswith("Nothing to do")
    return told


async def look_up(client: Any, **where: Any) -> list[Any]:
    found = (await sent(client, "/v1/pupils/lookup", {"where": where, "sort": ["surname"]}))["data"]
    query = "query ($w: PupilWhere) { pupils(where: $w, orderBy: [{field: surname}]) { nodes { id } } }"
    assert (await asked(client, query, w=where))["pupils"]["nodes"] == [{"id": row["id"]} for row in found]
    return list(found)


async def record(client: Any, *entries: dict[str, Any], at: str = "Oak") -> dict[str, int]:
    return counted(await sent(client, "/v1/pupils", roll(at, entries)))


async def test_the_keys_of_names_are_filled_in_every_tenant_and_readers_see_it(small_trust: Trust, vendor: Any) -> None:
    await record(vendor, entry(1, surname="Özil"), entry(2, surname="Zeta"), entry(3, surname="O’Brien", preferredSurname="Aaron"))
    await record(vendor, entry(4, surname="ainsworth"), at="Elm")
    quay = await small_trust.client("quay", f"school:{URNS['Quay']}=all")
    await record(quay, entry(5, surname="Ainsworth"), at="Quay")
    await small_trust.operator.execute(OLD)
    assert await look_up(vendor, surname="o'brien") == []
    list_ = "/v1/pupils?sort=surname&fields=surname"
    etag = (await vendor.get(list_)).headers["ETag"]
    assert await migrate(small_trust) == [FILLED.format("5 pupils")]
    after = await vendor.get(list_, headers={"If-None-Match": etag})
    assert after.status_code == 200
    assert [row["surname"] for row in after.json()["data"]] == ["ainsworth", "O’Brien", "Özil", "Zeta"]
    assert [row["surname"] for row in await look_up(vendor, surname="o'b*")] == ["O’Brien"]
    assert [row["surname"] for row in await look_up(vendor, preferredSurname="AARON")] == ["O’Brien"]
    assert [row["surname"] for row in await look_up(quay, surname="ainsworth")] == ["Ainsworth"]
    assert await small_trust.value(LACKING(names.NAMES_RULE)) == 0
    assert await small_trust.value("SELECT max(version) FROM pupils") == 1, "no name has changed"
    etag = after.headers["ETag"]
    assert await migrate(small_trust) == []
    assert (await vendor.get(list_, headers={"If-None-Match": etag})).status_code == 304


async def test_another_version_of_the_rules_fills_the_keys_anew(small_trust: Trust, vendor: Any, monkeypatch: Any) -> None:
    await record(vendor, entry(1), entry(2))
    monkeypatch.setattr(names, "NAMES_RULE", 2)
    monkeypatch.setattr(stored_names, "NAMES_RULE", 2)
    monkeypatch.setattr(names, "fold_name", lambda text: f"2 {text}")
    connection = await asyncpg.connect(small_trust.databases.owner_url)
    told: list[str] = []
    await stored_names.renew_names(connection, told.append)
    await connection.close()
    assert told == [FILLED.format("2 pupils")]
    rows = await small_trust.operator.fetch("SELECT names_rule, surname_folded FROM pupils ORDER BY surname")
    assert [tuple(row) for row in rows] == [(2, "2 Surname1"), (2, "2 Surname2")]


async def test_a_run_that_was_cut_short_goes_on_where_it_was(small_trust: Trust, vendor: Any) -> None:
    for number, school in enumerate(("Oak", "Elm", "Ash"), 1):
        await record(vendor, entry(number), at=school)
    await small_trust.operator.execute(OLD)
    last = await small_trust.value("SELECT school_id FROM pupils ORDER BY tenant_id DESC, school_id DESC LIMIT 1")
    blocker = await asyncpg.connect(small_trust.databases.operator_url)
    async with blocker.transaction():
        await blocker.execute("SELECT 1 FROM school_versions WHERE school_id = $1 FOR UPDATE", last)
        running = asyncio.create_task(migrated(small_trust.databases, MIGRATIONS))
        kill = (
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%lock_schools%' AND wait_event_type = 'Lock'"
        )
        owner = await asyncpg.connect(small_trust.databases.owner_url)
        for _ in range(1500):
            if await owner.fetchval(f"{kill} AND datname = current_database() AND usename = current_user"):
                break
            await asyncio.sleep(0.02)
        await owner.close()
        with pytest.raises(DatabaseError):
            await running
    await blocker.close()
    assert await small_trust.value(LACKING(names.NAMES_RULE)) == 1
    assert await migrate(small_trust) == [FILLED.format("1 pupil")]
    assert await small_trust.value(LACKING(names.NAMES_RULE)) == 0


@pytest.mark.parametrize("table", ["pupils", "external_ids"])
async def test_hidden_rows_are_reported(small_trust: Trust, vendor: Any, table: str) -> None:
    """Row-level security hides rows from the owner too where its policy is missing; a run then would find nothing to do."""
    await record(vendor, entry(1))
    superuser = await asyncpg.connect(small_trust.databases.cluster.url(small_trust.databases.name, SUPERUSER))
    await superuser.execute(OLD)
    await superuser.execute(f"DROP POLICY maintenance ON {table}")
    with pytest.raises(DatabaseError, match=f"hides rows of {table} from this role"):
        await migrated(small_trust.databases, MIGRATIONS)
    assert await superuser.fetchval(LACKING(names.NAMES_RULE)) == 1
    await superuser.close()


async def test_names_are_stored_clean_and_their_pupils_are_listed_as_changed(small_trust: Trust, vendor: Any) -> None:
    await record(vendor, entry(1, surname="Zoë", preferredForename="Ann Marie"), entry(2), entry(3, surname="O'Brien"))
    await small_trust.operator.execute(
        "UPDATE pupils SET surname = E'  Zoe\\u0308', preferred_forename = E'Ann \\u00a0Marie ' WHERE surname = 'Zoë'"
    )
    await small_trust.operator.execute(OLD)
    await small_trust.operator.execute("UPDATE pupils SET names_rule = 1, surname_folded = 'o''brien', surname_key = $1, forename_key = $2"
        " WHERE surname = 'O''Brien'", names.make_sort_key("O'Brien"), names.make_sort_key("Forename3"))  # fmt: skip
    await small_trust.operator.execute(
        "UPDATE pupils SET surname = 'O’Brien ' WHERE surname = 'O''Brien'"
    )  # the keys stay the same
    assert await migrate(small_trust) == [FILLED.format("3 pupils")]
    (found,) = await look_up(vendor, surname="ZOË", preferredForename="ann marie")
    assert (found["surname"], found["preferredForename"], found["version"]) == ("Zoë", "Ann Marie", 2)
    assert [(row["surname"], row["version"]) for row in await look_up(vendor, surname="O'Brien")] == [("O’Brien", 2)]
    assert await record(vendor, entry(1, surname="Zoë"), entry(2)) == {"unchanged": 2}
    assert await migrate(small_trust) == []


async def test_a_reference_that_was_stored_with_blanks_is_found_without(small_trust: Trust, vendor: Any) -> None:
    await record(vendor, *(entry(n, upn=None, reference=f"R{n}") for n in range(1, 5)), entry(9))
    for n, stored in enumerate((" 555", "Zoe\u0308", "MIS  7\u00a0", "MIS 8"), 1):
        await small_trust.operator.execute("UPDATE external_ids SET value = $1 WHERE value = $2", stored, f"R{n}")
    assert await look_up(vendor, reference="555") == []
    etag = (await vendor.get("/v1/pupils?fields=reference")).headers["ETag"]
    assert await migrate(small_trust) == ["Removed blanks from 3 references of pupils, or wrote them in NFC."]
    assert (await vendor.get("/v1/pupils?fields=reference", headers={"If-None-Match": etag})).status_code == 200
    for n, reference in enumerate(("555", "Zoë", "MIS 7", "MIS 8"), 1):
        (found,) = await look_up(vendor, reference=reference)
        assert (found["surname"], found["reference"], found["version"]) == (f"Surname{n}", reference, 1 + (n < 4))
    assert await record(vendor, entry(1, upn=None, reference="555"), entry(4, upn=None, reference="MIS 8")) == {"unchanged": 2}
    await opened(vendor)
    values = [judged(1, reference="555")]
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", values))) == {"created": 1}
    assert await migrate(small_trust) == []


async def data_issues(client: Any) -> list[tuple[str, list[str], str]]:
    rows = (await client.get("/v1/data-issues")).json()["data"]
    return [(row["kind"], row["pupilIds"], row["client"]) for row in rows]


async def test_references_that_would_be_another_childs_are_listed_and_never_merged(small_trust: Trust, vendor: Any) -> None:
    await record(vendor, *(entry(n, upn=None, reference=f"R{n}") for n in range(1, 7)))
    stored = (" 555", "555", "7 ", " 7", "8", "8 ")
    for n, reference in enumerate(stored, 1):
        await small_trust.operator.execute("UPDATE external_ids SET value = $1 WHERE value = $2", reference, f"R{n}")
    ids = {row["surname"][-1]: row["id"] for row in (await vendor.get("/v1/pupils?fields=id,surname")).json()["data"]}
    await small_trust.operator.execute("UPDATE external_ids SET id = $1 WHERE value = '8 '", ids["5"])  # twice the same child's
    told = await migrate(small_trust)
    school = small_trust.ids["Oak"]
    assert told == [
        "Removed blanks from 1 reference of pupils, or wrote them in NFC.",
        f"3 references of school {school} would be another child's without blanks and in NFC, and stay: see the data issues of kind"
        " reference-collides.",
    ]
    listed = sorted([("reference-collides", sorted([ids[a], ids[b]]), "vendor") for a, b in ("12", "34")])
    assert sorted(await data_issues(vendor)) == listed
    query = "{ dataIssues { nodes { kind pupilIds } } }"
    nodes = (await asked(vendor, query))["dataIssues"]["nodes"]
    assert sorted((node["kind"], node["pupilIds"]) for node in nodes) == [row[:2] for row in listed]
    rows = await small_trust.operator.fetch("SELECT value, id::text FROM external_ids ORDER BY value")
    assert {tuple(row) for row in rows} == {
        *((text, ids[str(n)]) for n, text in enumerate(stored[:4], 1)),
        ("8", ids["5"]),
    }
    assert await small_trust.value("SELECT count(*) FROM pupils") == 6
    assert [row["surname"] for row in await look_up(vendor, reference="555")] == ["Surname2"]
    found = await small_trust.value("SELECT array_agg(id ORDER BY id) FROM data_issues")
    assert await migrate(small_trust) == told[1:]
    assert await small_trust.value("SELECT array_agg(id ORDER BY id) FROM data_issues") == found
    await small_trust.operator.execute("DELETE FROM external_ids WHERE value IN (' 555', ' 7')")
    assert await migrate(small_trust) == ["Removed blanks from 1 reference of pupils, or wrote them in NFC."]
    assert await data_issues(vendor) == []


async def test_codes_and_names_are_stored_clean(small_trust: Trust, vendor: Any) -> None:
    await opened(vendor)
    await record(vendor, entry(1))
    groups = [{"code": code, "name": f"Class {code}", "kind": "class", "members": []} for code in ("6A", "6B", "6C")]
    body = roll("Oak", groups, academicYear="2017-18")
    await sent(vendor, "/v1/groups", body)
    await vendor.patch(f"/v1/schools/{small_trust.ids['Oak']}", json={"shortName": "Oak"}, headers={"If-Match": "*"})
    for statement in (
        "UPDATE groups SET code = ' 6A', name = E'E\\u0301lan\\u00a0' WHERE code = '6A'",
        "UPDATE groups SET code = '6C ' WHERE code = '6B'",
        "UPDATE windows SET code = code || ' ', name = ' ' || name",
        "UPDATE school_settings SET short_name = 'Oak  School '",
    ):
        await small_trust.operator.execute(statement)
    names_before = (await vendor.get("/v1/groups?fields=name")).headers["ETag"]
    told = await migrate(small_trust)
    colliding = await small_trust.value("SELECT id FROM groups WHERE code = '6C '")
    assert told == [
        f"The code of group {colliding} would be that of another one without blanks and in NFC, and stays.",
        "Removed blanks from texts of 1 group, or wrote them in NFC.",
        "Removed blanks from texts of 1 window, or wrote them in NFC.",
        "Removed blanks from texts of 1 school, or wrote them in NFC.",
    ]
    assert (await vendor.get("/v1/groups?fields=name", headers={"If-None-Match": names_before})).status_code == 200
    rows = await small_trust.operator.fetch("SELECT code, name FROM groups ORDER BY code")
    assert [tuple(row) for row in rows] == [("6A", "Élan"), ("6C", "Class 6C"), ("6C ", "Class 6B")]
    assert counted(await sent(vendor, "/v1/groups", body | {"entries": [groups[0] | {"name": "Élan"}]})) == {"unchanged": 1}
    assert counted(await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))) == {"created": 1}
    assert (await vendor.get(f"/v1/schools/{small_trust.ids['Oak']}")).json()["shortName"] == "Oak School"
    assert await migrate(small_trust) == told[:1]


async def test_one_child_at_two_schools_is_found_however_the_names_are_written(small_trust: Trust, vendor: Any) -> None:
    await record(vendor, entry(1, surname="O'Brien", forename="ZOË"))
    await record(vendor, entry(1, surname="O’BRIEN", forename="Zoe\u0308", upn=None, reference="E1"), at="Elm")
    assert [kind for kind, _, _ in await data_issues(vendor)] == ["possible-same-child"] * 2
    await small_trust.operator.execute("DELETE FROM data_issues")
    await small_trust.operator.execute(OLD)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(2)]))
    assert await data_issues(vendor) == [], "names without keys are not compared"
    await migrate(small_trust)
    assert [kind for kind, _, _ in await data_issues(vendor)] == ["possible-same-child"] * 2
    assert upn(1) not in str(await data_issues(vendor))
