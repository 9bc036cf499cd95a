"""Row-level security by scope: what the database itself shows a client, whatever statement is asked, follows from what its grant is about."""

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.fixtures.databases import Databases
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import SCALED, URNS, Trust, batch, entry, judged, open_trust, opened, roll, sent, upn

OF_PUPILS = ("pupils", "upns", "enrolments", "characteristics", "external_ids")
OF_RECORDS = {"judgements": ("judgements", "judgement_history"), "targets": ("targets",)}
OF_COUNTS = ("cells", "totals")

SHOWN: dict[str, tuple[str, ...]] = {
    "aggregates:read": OF_COUNTS,
    "aggregates:internal": OF_COUNTS,
    "trusts:read,schools:read,windows:read,schemes:read,aggregates:read": OF_COUNTS,
    "trusts:read,schools:read,windows:read,schemes:read": (),
    "pupils:read": OF_PUPILS,
    "groups:read": OF_PUPILS,
    "judgements:read": (*OF_PUPILS, *OF_RECORDS["judgements"]),
    "targets:read": (*OF_PUPILS, *OF_RECORDS["targets"]),
    "audit:read": (*OF_PUPILS, *OF_RECORDS["judgements"]),
    "pupils:write": (*OF_PUPILS, *OF_RECORDS["judgements"], *OF_RECORDS["targets"]),
}
"""By the scopes of a client, the tables of which it is shown rows; of the others, none."""


@pytest_asyncio.fixture(scope="module")
async def small_trust(module_databases: Databases) -> AsyncIterator[Trust]:
    """Two pupils with a judgement and a target each, one of them also on the roll of a second school."""
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", "trust:4128=all")
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)]))
        guest = entry(1, reference="G1", enrolments=[{"from": "2018-01-01", "status": "S"}])
        await sent(vendor, "/v1/pupils", roll("Elm", [guest]))
        await opened(vendor)
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(1), judged(2)]))
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=101)]))
        target = {
            "subject": "reading",
            "grade": "100",
            "scheme": SCALED,
            "horizon": {"academicYear": "2017-18", "point": "KS2"},
            "basis": "teacher",
            "visibility": "school",
        }
        targets = [{"reference": f"P{number}", **target} for number in (1, 2)]
        answer = await sent(vendor, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": targets})
        assert answer["created"] == 2, answer
        yield made


@pytest_asyncio.fixture(scope="module")
async def app(small_trust: Trust) -> AsyncIterator[Any]:
    """A connection of the application's role."""
    connection = await asyncpg.connect(small_trust.databases.app_url)
    yield connection
    await connection.close()


async def act_for(trust: Trust, app: Any, name: str, *grants: str) -> None:
    """The connection acts for a client with these grants, registered the first time."""
    if name not in trust.credentials:
        await trust.client(name, *grants)
    await app.execute("SELECT set_config('markonce.caller', $1, false)", trust.credentials[name][0])


@pytest.mark.parametrize("scopes", SHOWN)
async def test_the_database_shows_what_the_scopes_are_about(small_trust: Trust, app: Any, scopes: str) -> None:
    await act_for(small_trust, app, scopes, f"trust:4128={scopes}")
    every = (*OF_PUPILS, *(table for tables in OF_RECORDS.values() for table in tables), *OF_COUNTS)
    counts = {table: await app.fetchval(f"SELECT count(*) FROM {table}") for table in every}
    assert tuple(table for table, n in counts.items() if n) == SHOWN[scopes]


async def test_the_scopes_at_one_school_show_nothing_of_another(small_trust: Trust, app: Any) -> None:
    await act_for(small_trust, app, "split", f"school:{URNS['Elm']}=judgements:read", f"school:{URNS['Oak']}=pupils:read")
    assert await app.fetchval("SELECT count(*) FROM pupils") == 2
    # Elm shares pupil 1 of Oak's, and her judgements with her
    assert await app.fetchval("SELECT count(DISTINCT pupil_id) FROM judgements") == 1
    assert await app.fetchval("SELECT count(*) FROM targets") == 0


async def test_a_reader_may_call_no_function_that_writing_needs(small_trust: Trust, app: Any) -> None:
    """They run as the owner, for whom no policy holds, and answer names and UPNs of pupils out of sight."""
    await act_for(small_trust, app, "pupils:read", "trust:4128=pupils:read")
    tenant = small_trust.ids["trust"]
    pupils = [row["id"] for row in await app.fetch("SELECT id FROM pupils")]
    calls = {
        "read_identities($1, $2)": (tenant, pupils),
        "read_pupil_identities($1, $2)": (tenant, pupils),
        "read_upns_and_surnames($1, $2)": (tenant, pupils),
        "find_schools_of($1, $2)": (tenant, pupils),
        "match_pupils($1, $3, $4, $2, NULL, NULL)": (tenant, pupils, small_trust.ids["trust"], [small_trust.ids["Oak"]]),
        "bump_versions($1, $2)": (tenant, [small_trust.ids["Oak"]]),
    }
    for call, arguments in calls.items():
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="may write nothing of this tenant"):
            await app.fetch(f"SELECT * FROM {call}", *arguments)


async def test_every_table_with_rows_of_pupils_knows_scopes(small_trust: Trust) -> None:
    """`discounts` follow the windows that they belong to, and a receipt's counts its batch."""
    owner = await asyncpg.connect(small_trust.databases.owner_url)
    tables = await owner.fetch(
        """SELECT c.relname AS name, pg_get_expr(p.polqual, c.oid) AS condition
        FROM pg_class c JOIN pg_policy p ON p.polrelid = c.oid AND p.polname = 'reached'
        WHERE c.relname IN ('pupils', 'judgements', 'targets') OR EXISTS (
            SELECT 1 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname IN ('pupil_id', 'pupil_ids', 'pupil_n'))"""
    )
    await owner.close()
    through_pupils = "FROM pupils p"
    assert len(tables) > 12
    blind = {row["name"] for row in tables if "r.sees_" not in row["condition"] and through_pupils not in row["condition"]}
    assert blind == {"discounts"}


@pytest.mark.parametrize(
    ("scopes", "path", "body"),
    [
        ("pupils:write", "/v1/pupils", roll("Oak", [entry(1), entry(2), entry(3)])),
        ("judgements:write", "/v1/judgements", batch("Oak", [{"upn": upn(n), "subject": "reading", "grade": 103} for n in (1, 2)])),
        (
            "pupils:write",
            "/v1/pupils",
            roll("Elm", [entry(2, enrolments=[{"from": "2018-05-10", "status": "C"}])], asOf="2018-05-12"),
        ),
    ],
    ids=["a roll", "judgements", "a pupil moves"],
)
async def test_a_client_with_one_right_writes_as_one_with_all(small_trust: Trust, scopes: str, path: str, body: Any) -> None:
    """What it moves or counts with it is no less for being out of its sight."""
    name = f"only {scopes} {path} {body['school']}"
    answer = await sent(await small_trust.client(name, f"trust:4128={scopes}"), path, body)
    assert answer["created"] + answer["updated"] + answer["unchanged"] == len(body["entries"]), answer
    for table in ("judgements", "targets"):
        apart = f"SELECT count(*) FROM {table} x JOIN pupils p ON p.tenant_id = x.tenant_id AND p.id = x.pupil_id WHERE x.school_id <> p.school_id"
        assert await small_trust.operator.fetchval(apart) == 0
    assert await miscounted(small_trust) == (0, 0, 0)
