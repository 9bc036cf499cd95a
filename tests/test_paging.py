"""Paging: however a list is ordered, page by page it is the list, with no row skipped and none repeated. Nulls come last in either direction."""

import json
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from domain import RESOURCES
from domain.engine import query
from domain.engine.resource import Field, Kind, Resource
from domain.engine.selection import Cursor, HasMore, Order, Rows, Selection, Value
from tests.conftest import Databases
from tests.world import World, build

Row = tuple[Any, ...]
SEVERAL = 60
"""How many orders by two or three fields at once."""


@pytest_asyncio.fixture(scope="module")
async def world(module_databases: Databases) -> AsyncIterator[World]:
    made = await build(module_databases)
    yield made
    await made.database.close()


async def page(world: World, client_id: UUID, asked: Selection) -> tuple[list[Row], bool, str | None]:
    """The rows of a page, each as what is ordered by and then its key; whether more follow; and where the page ends."""
    (body,) = await query.read([asked], world.database, client_id, world.cursors)
    found = json.loads(body or b"", parse_float=str, parse_int=str)
    return [tuple(row.values()) for row in found["data"]], found["more"], found["end"]


def ordered(resource: Resource, order: Sequence[Order]) -> Selection:
    """Every row in an order, in one page."""
    keys = [Field(resource.source.c[name], "") for name in resource.order]
    items = tuple((f"k{i}", Value(field)) for i, field in enumerate([*(by.field for by in order), *keys]))
    return Selection(resource, (("data", Rows(items)), ("more", HasMore()), ("end", Cursor())), order=tuple(order), first=1000)


async def walked(world: World, client_id: UUID, asked: Selection, draw: random.Random) -> list[Row]:
    """The rows page by page, in pages of any size."""
    rows: list[Row] = []
    while True:
        found, more, end = await page(world, client_id, replace(asked, first=draw.randint(3, 13)))
        rows += found
        if not more:
            return rows
        assert end is not None
        asked = replace(asked, after=world.cursors.open(end, client_id, asked.fingerprint()))


def orders(resource: Resource) -> list[tuple[Order, ...]]:
    """By no field, and by each field either way."""
    by = [(Order(name, field, down),) for name, field in resource.fields.items() if field.sortable for down in (False, True)]
    return [(), *by]


@pytest.mark.parametrize("client", ["North", "mixed"])
@pytest.mark.parametrize("name", RESOURCES)
async def test_pages_make_up_the_list_in_every_order(name: str, client: str, world: World) -> None:
    """`mixed` sees nulls where it holds no scope."""
    client_id, resource, draw = world.clients[client].caller.client_id, RESOURCES[name], random.Random(name)
    usual, _, _ = await page(world, client_id, ordered(resource, ()))
    for order in orders(resource):
        asked = ordered(resource, order)
        whole, more, _ = await page(world, client_id, asked)
        assert (sorted(row[len(order) :] for row in whole), more) == (sorted(usual), False)
        assert await walked(world, client_id, asked, draw) == whole
        for by in order:
            in_order([row[0] for row in whole], by)


def in_order(values: list[Any], by: Order) -> None:
    """Nulls last; and the others as they should be, where it is not the database's collation that decides."""
    known = [value for value in values if value is not None]
    assert values == known + [None] * (len(values) - len(known))
    if by.field.kind in (Kind.INTEGER, Kind.NUMBER):
        assert known == sorted(known, key=float, reverse=by.descending)
    elif by.field.kind is not Kind.TEXT:
        assert known == sorted(known, reverse=by.descending)


async def test_pages_make_up_the_list_ordered_by_several_fields(world: World) -> None:
    draw, north = random.Random(4), world.clients["North"].caller.client_id
    for _ in range(SEVERAL):
        resource = RESOURCES[draw.choice(("pupil", "judgement", "target", "enrolment", "grade", "school"))]
        sortable = [(name, field) for name, field in resource.fields.items() if field.sortable]
        order = [Order(name, field, draw.random() < 0.5) for name, field in draw.sample(sortable, draw.choice((2, 3)))]
        asked = ordered(resource, order)
        whole, _, _ = await page(world, north, asked)
        assert await walked(world, north, asked, draw) == whole
        assert len(set(whole)) == len(whole)
