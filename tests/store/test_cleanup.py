"""What has expired goes and what has not stays, whoever tidies and whatever is in the way."""

import asyncio

import asyncpg
import pytest

from api.app import build_app
from api.settings import Settings
from domain import CLEANUP
from domain.clients import clients, signing_keys
from domain.declare.ids import new_id
from domain.store import cleanup as tidying
from domain.store.cleanup import clean_up
from domain.store.database import Database
from tests.fixtures.databases import Databases
from tests.fixtures.server import serving
from tests.fixtures.settings import SECRET

EXPIRED = {
    "staged rows of yesterday, and jobs of 7 days ago": 5,
    "idempotency keys": 12,
    "receipts older than 13 months": 4,
    "read counts older than 13 months": 4,
    "data issues of 30 days ago that tell of something done": 2,
    "used assertions": 3,
    "client secrets": 2,
    "signing keys": 1,
    "frozen figures of windows whose last edition is 400 days old": 0,
}
LEFT = {
    **{"idempotency": 1, "receipts": 1, "used_assertions": 1, "client_secrets": 2, "signing_keys": 2, "data_issues": 2},
    **{"jobs": 3, "staged_rows": 1, "unknown_reads": 1},
}


async def fill(databases: Databases) -> None:
    """As many rows as LEFT says to keep, and as many as EXPIRED says that are to go."""
    operator = await asyncpg.connect(databases.operator_url)
    await signing_keys.ensure_signing_key(operator, SECRET.encode())
    client_id, _ = await clients.create_client(operator, "client", "client_secret")
    await operator.execute(
        "INSERT INTO idempotency SELECT $1, 'x', i::text, '', 200, '{}', now(), now() + make_interval(hours => CASE i WHEN 0 THEN 1 ELSE -i END)"
        " FROM generate_series(0, 12) i",
        client_id,
    )
    await operator.execute(
        "INSERT INTO used_assertions SELECT $1, i::text, now() + make_interval(mins => 2 - i) FROM generate_series(1, 4) i",
        client_id,
    )
    await operator.execute(
        "INSERT INTO client_secrets SELECT $1, sha256(i::text::bytea), now(), now() + make_interval(hours => i) FROM generate_series(-1, 1) i",
        client_id,
    )
    await operator.execute(
        "INSERT INTO signing_keys SELECT i::text, '{}', '', now(), now() - make_interval(hours => i) FROM generate_series(12, 36, 24) i"
    )
    school_id = new_id(3)
    await operator.execute(
        "INSERT INTO schools (id, tenant_id, urn, name, local_authority_code, local_authority, status)"
        " VALUES ($1, $1, 100001, 'Ash', '936', 'Surrey', 'open')",
        school_id,
    )
    await operator.execute(
        "INSERT INTO receipts SELECT $1, gen_random_uuid(), $1, NULL, NULL, NULL, $2, 'recordPupils', true,"
        " now() - make_interval(months => i), 0, 0, 0, 0, 0, 0, 0 FROM generate_series(12, 16) i",
        *(school_id, client_id),
    )
    await operator.execute(
        "INSERT INTO unknown_reads SELECT $1, $2, 'sync', (now() - make_interval(months => i))::date, 1, 0 FROM generate_series(12, 16) i",
        *(school_id, client_id),
    )
    await operator.execute(
        "INSERT INTO data_issues (tenant_id, id, kind, school_id, pupil_ids, found_at)"
        " SELECT $1, gen_random_uuid(), CASE i WHEN 4 THEN 'pupil-conflict' ELSE 'upn-released' END, $1, ARRAY[gen_random_uuid()],"
        " now() - make_interval(days => 28 + i) FROM generate_series(1, 4) i",
        school_id,
    )
    await operator.execute(
        "INSERT INTO jobs (client_id, id, operation, key, said, scopes, state, created_at, finished_at)"
        " SELECT $1, md5(i::text)::uuid, 'recordPupils', i::text, '{}', '{}', CASE WHEN i < 3 THEN 'done' ELSE 'receiving' END,"
        " now() - make_interval(hours => h), CASE WHEN i < 3 THEN now() - make_interval(hours => h) END"
        " FROM unnest(ARRAY[192, 169, 167, 24, 22]) WITH ORDINALITY AS g (h, n), LATERAL (SELECT n::int - 1 AS i) x",
        client_id,
    )
    await operator.execute(
        "INSERT INTO staged_rows SELECT $1, md5(j::text)::uuid, gen_random_uuid(), i, i, '{}' FROM (VALUES (3, 3), (4, 1)) v (j, most),"
        " generate_series(1, most) i",
        client_id,
    )
    await operator.close()


async def left(databases: Databases) -> dict[str, int]:
    operator = await asyncpg.connect(databases.operator_url)
    counts = {table: await operator.fetchval(f"SELECT count(*) FROM {table}") for table in LEFT}
    await operator.close()
    return counts


async def test_what_has_expired_goes_and_nothing_else(
    databases: Databases, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the app's role, which may not delete a secret or a key that is in force."""
    monkeypatch.setattr(tidying, "ROWS_PER_TRANSACTION", 5)
    await fill(databases)
    assert await clean_up(database, CLEANUP) == EXPIRED
    assert await left(databases) == LEFT
    assert await clean_up(database, CLEANUP) == dict.fromkeys(EXPIRED, 0)
    async with database.without_caller() as connection:
        for table in ("client_secrets", "signing_keys"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(f"DELETE FROM {table}")


async def test_several_at_a_time_remove_each_row_once(
    databases: Databases, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidying, "ROWS_PER_TRANSACTION", 1)
    await fill(databases)
    removed = [await clean_up(database, CLEANUP), *await asyncio.gather(*(clean_up(database, CLEANUP) for _ in range(4)))]
    assert {kind: sum(each[kind] for each in removed) for kind in EXPIRED} == EXPIRED
    assert await left(databases) == LEFT


async def test_who_finds_another_at_it_leaves_it_to_him(databases: Databases, database: Database) -> None:
    await fill(databases)
    other = await asyncpg.connect(databases.operator_url)
    async with other.transaction():
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended('markonce tidy', 0))")
        assert await clean_up(database, CLEANUP) == dict.fromkeys(EXPIRED, 0)
    await other.close()
    assert await clean_up(database, CLEANUP) == EXPIRED


async def test_the_command_and_the_server_tidy(databases: Databases) -> None:
    await fill(databases)
    with serving(databases) as server:
        for _ in range(100):
            if await left(databases) == LEFT | {"client_secrets": LEFT["client_secrets"] + 1}:  # and that of the operator
                break
            await asyncio.sleep(0.1)
        else:
            raise AssertionError(await left(databases))
        assert [line.split(maxsplit=1) for line in server.command("tidy").splitlines()] == [["0", kind] for kind in EXPIRED]


async def test_a_database_error_is_survived(databases: Databases, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first hour goes wrong, the second does not."""
    monkeypatch.setattr("api.app.CLEANUP_SECONDS", 0.01)
    await fill(databases)
    owner = await asyncpg.connect(databases.owner_url)
    await owner.execute("ALTER TABLE idempotency RENAME TO away")
    app = build_app(Settings(databases.app_url, SECRET.encode()))
    async with app.router.lifespan_context(app):
        await asyncio.sleep(0.2)
        assert await owner.fetchval("SELECT count(*) FROM away") == EXPIRED["idempotency keys"] + 1
        await owner.execute("ALTER TABLE away RENAME TO idempotency")
        await owner.close()
        for _ in range(200):
            if await left(databases) == LEFT:
                return
            await asyncio.sleep(0.1)
        raise AssertionError(await left(databases))


def test_a_kind_is_named_once() -> None:
    assert len({each.kind for each in CLEANUP}) == len(CLEANUP)
