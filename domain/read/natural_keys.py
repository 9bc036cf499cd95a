"""Finds rows that a URL names by their code in place of their id."""

import json
from dataclasses import replace
from functools import cache

from domain.access.caller import Caller
from domain.declare.errors import BadRequest, Issue, NotFound
from domain.declare.ids import parse_id
from domain.declare.resource import Field, Resource
from domain.declare.scopes import Scope
from domain.read.cursors import Cursors
from domain.read.prepared import PreparedQuery
from domain.read.query import Condition, FieldValue, ListQuery, PageRows, Parameter
from domain.store.database import Database

MAX_LISTED = 10
"""Ids that an error lists."""


async def find_row_id(database: Database, caller: Caller, cursors: Cursors, resource: Resource, scope: Scope, name: str) -> str:
    """Returns the id of the row that a name in a URL means: an id as it is, and the id of the row with this code.

    Raises NotFound where there is no such row within reach of the scope, and BadRequest where several tenants have one.
    """
    if resource.named_by is None or parse_id(name) is not None or scope not in caller.scopes:
        return name
    if "\x00" in name:  # no text of the database has it
        raise NotFound()
    (body,), *_ = await _prepare(resource, scope).read(database, caller.client_id, cursors, caller.snapshot, [name])
    ids = [row["id"] for row in json.loads(body or b"{}").get("data", ())]
    if not ids:
        raise NotFound()
    if len(ids) > 1:
        message = f"Several {resource.plural} within the reach of this client have this code. Name one by its id: {', '.join(ids)}."
        raise BadRequest(message, code="code-ambiguous", issues=(Issue("id", "code-ambiguous", message),))
    return str(ids[0])


@cache
def _prepare(resource: Resource, scope: Scope) -> PreparedQuery:
    assert resource.named_by is not None
    code = Field(resource.source.c[resource.named_by], "The code.")
    rows = PageRows((("id", FieldValue(resource.fields["id"])),))
    where = (Condition("code", code, (Parameter("", 0, str),)),)
    return PreparedQuery([ListQuery(replace(resource, scope=scope), (("data", rows),), where, first=MAX_LISTED)])
