"""Conditions in SQL text limit rows by the caller's table, whatever its alias: a captured one would make them true of every row."""

from typing import Any

import pytest

from domain.access.reach import reaches_pupil_sql, reaches_sql
from domain.roster.former_laestabs import FIND_SQL
from tests.fixtures.two_trusts import TwoTrusts

ALIASES = ("r", "s", "f", "o", "h", "x", "reach", "shared_pupils", "sought")


async def read_values(two_trusts: TwoTrusts, statement: str) -> list[Any]:
    return sorted(row[0] for row in await two_trusts.as_superuser(statement))


@pytest.mark.parametrize("alias", ALIASES)
async def test_reach_limits_rows_of_any_alias(two_trusts: TwoTrusts, alias: str) -> None:
    client = f"'{two_trusts.clients['South'].caller.client_id}'::uuid"
    condition = reaches_sql(client, f"{alias}.tenant_id", f"{alias}.id", "'schools:read'")
    schools = await read_values(two_trusts, f"SELECT {alias}.name FROM schools {alias} WHERE {condition}")
    assert schools == ["Damson", "Elder"]


@pytest.mark.parametrize("alias", ALIASES)
async def test_reach_and_shares_limit_pupils_of_any_alias(two_trusts: TwoTrusts, alias: str) -> None:
    """Those of Cedar's roll whose main school is Alder are shared with it."""
    client = f"'{two_trusts.clients['mixed'].caller.client_id}'::uuid"
    condition = reaches_pupil_sql(client, alias, "id", "'pupils:birth'")  # which `mixed` has at Cedar alone
    ids = await read_values(two_trusts, f"SELECT {alias}.id FROM pupils {alias} WHERE {condition}")
    cedar = f"school_id = '{two_trusts.schools['Cedar']}'"
    at_cedar = f"SELECT id FROM pupils WHERE {cedar} UNION SELECT pupil_id FROM shared_pupils WHERE {cedar}"
    assert ids == await read_values(two_trusts, at_cedar)


@pytest.mark.parametrize("name", ["reach_of_caller.tenant_id", "tenant_id", "coalesce(tenant_id, $2)", "scopes"])
def test_a_name_of_the_condition_itself_is_refused(name: str) -> None:
    for arguments in ((name, "x.a", "x.b"), ("$1", name, "x.b"), ("$1", "x.a", name), ("$1", "x.a", "x.b", name)):
        with pytest.raises(ValueError, match="inside the condition"):
            reaches_sql(*arguments)


@pytest.mark.parametrize("alias", ["shared_with_caller", "reach_of_caller"])
def test_an_alias_of_the_condition_itself_is_refused(alias: str) -> None:
    with pytest.raises(ValueError, match="inside the condition"):
        reaches_pupil_sql("$1", alias)


async def test_a_former_laestab_is_that_of_the_caller(two_trusts: TwoTrusts) -> None:
    former = f"INSERT INTO former_laestabs VALUES ('{two_trusts.schools['Elder']}', '9990001', '2020-01-01')"
    await two_trusts.as_superuser(former)
    for alias in ALIASES:
        sought = f"(VALUES ('9990001'), ('9990002')) AS {alias} (laestab)"
        found = f"SELECT {alias}.laestab FROM {sought} CROSS JOIN LATERAL ({FIND_SQL.format(laestab=f'{alias}.laestab').strip()}) y"
        assert await read_values(two_trusts, found) == ["9990001"]
