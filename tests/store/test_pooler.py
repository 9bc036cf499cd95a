"""The settings that statements rely on belong to the role where a pooler is in between. `make operations` tries poolers themselves."""

import pytest

from domain.declare.errors import DatabaseError
from domain.store.database import Database
from domain.store.pooler import find_pooler_faults, list_session_settings, make_role_settings, store_role_settings
from tests.fixtures.databases import Databases


async def test_settings_of_the_role(databases: Databases) -> None:
    url = databases.app_url
    (fault,) = await find_pooler_faults(url, "THE_URL", 10)
    assert fault.startswith("THE_URL: the role has not the settings that its statements rely on (")
    assert fault.endswith("run `python -m api migrate` with MARKONCE_POOLER=transaction, which stores them")
    with pytest.raises(DatabaseError, match="statement_timeout is 0"):
        await Database.open(url, size=1, pooled=True)
    assert [await store_role_settings(url, "THE_URL", 10) for _ in range(2)] == [True, False]
    assert await find_pooler_faults(url, "THE_URL", 10) == []
    pooled, direct = await Database.open(url, size=1, pooled=True), await Database.open(url, size=1)
    try:
        shown = "SELECT " + ", ".join(f"current_setting('{name}') AS {name}" for name in (*list_session_settings(10), "TimeZone"))
        assert await pooled.read(shown) == await direct.read(shown)
    finally:
        await pooled.close()
        await direct.close()
    assert await store_role_settings(url, "THE_URL", 3)
    (fault,) = await find_pooler_faults(url, "THE_URL", 10)
    assert "(statement_timeout is 3s)" in fault


def test_statements_for_an_administrator() -> None:
    statements = make_role_settings("markonce_app", 'a "base"', 7)
    assert 'ALTER ROLE markonce_app IN DATABASE "a ""base""" SET statement_timeout = \'7s\'' in statements
