"""What requests compile to. Each folder of expected/compile holds a request, and its statement in three forms: as each row's scopes are tested, as
a snapshot of the reach stands for them, and as the snapshot has one tenant."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from starlette.datastructures import ImmutableMultiDict

from api.rest.list_query import read_linked_list, read_list, read_row
from domain import RESOURCES
from domain.access.caller import Caller
from domain.declare.scopes import Scope
from domain.read import compile
from domain.read.cursors import Cursors
from domain.read.prepared import PreparedQuery
from domain.read.query import Query, RowQuery, decode_key
from tests.fixtures.golden import check_golden
from tests.fixtures.settings import ROOT
from tests.fixtures.sql_text import format_sql, split_tokens

REQUESTS = sorted((ROOT / "expected" / "compile").glob("*/request.json"))
CALLER = Caller(UUID(int=1), frozenset(Scope))
CURSORS = Cursors(b"for tests")


def read_request(request: dict[str, Any]) -> Query:
    """The query of a GET: its path, its parameters, and in place of a cursor the position where the page begins."""
    _, _, plural, *rest = request["path"].split("/")
    resource = next(resource for resource in RESOURCES.values() if resource.plural == plural)
    parameters = ImmutableMultiDict(list(request["parameters"].items()))
    if not rest:
        query = read_list(parameters, resource, CALLER, CURSORS)
        return replace(query, after=tuple(request["after"])) if "after" in request else query
    key = decode_key(resource, rest[0])
    assert key is not None
    if len(rest) == 1:
        return RowQuery(resource, key, read_row(parameters, resource, CALLER))
    return RowQuery(resource, key, (("page", read_linked_list(parameters, resource, rest[1], CALLER, CURSORS)),))


@pytest.mark.parametrize("path", REQUESTS, ids=lambda path: path.parent.name)
def test_golden_statements(path: Path) -> None:
    template = PreparedQuery([read_request(json.loads(path.read_text()))]).template
    every = frozenset(Scope)
    forms = (("statement", None, False), ("statement_with_snapshot", every, False), ("statement_of_one_tenant", every, True))
    for name, scopes, of_one_tenant in forms:
        sql = compile.compile_query(template, scopes, of_one_tenant=of_one_tenant).sql
        text = format_sql(sql)
        assert split_tokens(text) == split_tokens(sql)
        check_golden(path.parent / f"{name}.sql", text)


def test_there_are_requests() -> None:
    assert len(REQUESTS) >= 5
