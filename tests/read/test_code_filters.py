"""Filters by codes, whose numbers are looked up once, list the rows that show these codes: one code or several, for a client of one tenant and of
several, and in the pages that a pupil's row has."""

import json
from typing import Any

import pytest

from domain import RESOURCES
from domain.clients.clients import read_client_status
from domain.declare.resource import LabelOf
from domain.declare.scopes import Scope
from domain.read import prepared
from domain.read.query import Condition, FieldValue, ListQuery, PageRows, ToMany
from tests.fixtures.sizes import choose_some
from tests.fixtures.two_trusts import TwoTrusts

LOOKED_UP = [
    (resource.name, name)
    for resource in RESOURCES.values()
    for name, field in resource.fields.items()
    if field.find is not None or (isinstance(field.source, LabelOf) and field.source.has_unique_codes)
]
NESTED = ("judgement", "target")


@pytest.mark.parametrize("client", ["North", "everything"])
async def test_a_filter_by_a_code_lists_the_rows_that_show_it(client: str, two_trusts: TwoTrusts) -> None:
    caller = two_trusts.clients[client].caller.client_id
    async with two_trusts.database.without_caller() as connection:
        stands = await read_client_status(connection, caller)
    assert stands is not None
    assert (stands.snapshot.only_tenant is not None) == (client == "North")
    tried = 0
    for noun, name in choose_some(LOOKED_UP, 4, client):
        resource = RESOURCES[noun]
        field = resource.fields[name]
        keys = tuple((key, FieldValue(shown)) for key, shown in resource.fields.items() if not shown.costly)
        rows = PageRows((("code", FieldValue(field)), *keys))

        async def read(query: Any, snapshot: Any) -> Any:
            (body,) = await prepared.read([query], two_trusts.database, caller, two_trusts.cursors, snapshot, frozenset(Scope))
            return json.loads(body or b"{}")["data"]

        every = await read(ListQuery(resource, (("data", rows),), first=1000), None)
        codes = list(dict.fromkeys(row["code"] for row in every if row["code"] is not None))
        assert codes, (noun, name)
        for asked in (codes[:1], codes[-1:], codes[:2], [codes[0], codes[0]]):
            expected = [row for row in every if row["code"] in asked]
            where = (Condition(name, field, tuple(asked)),)
            for snapshot in (None, stands.snapshot):
                assert await read(ListQuery(resource, (("data", rows),), where, first=1000), snapshot) == expected
                tried += 1
        if noun in NESTED:
            where = (Condition(name, field, (codes[0],)),)
            link = RESOURCES["pupil"].links[resource.plural]
            page = ListQuery(resource, (("data", rows),), where, first=100, path=resource.plural)
            pupils = ListQuery(RESOURCES["pupil"], (("data", PageRows((("page", ToMany(link, page)),))),), first=1000)
            for snapshot in (None, stands.snapshot):
                shown = [row for pupil in await read(pupils, snapshot) for row in pupil["page"]["data"]]
                assert shown
                assert {row["code"] for row in shown} == {codes[0]}
                ids = {row["id"] for row in shown}
                assert ids <= {row["id"] for row in every if row["code"] == codes[0]}
    assert tried > 25
