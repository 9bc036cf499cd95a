"""Looks up the codes in a request that is malformed elsewhere, so that one answer tells both."""

from dataclasses import replace
from typing import Any

from domain.access.caller import Caller
from domain.declare.errors import BadRequest, Forbidden, Invalid, PartlyRead
from domain.read.checks import check_scopes
from domain.read.cursors import Cursors
from domain.read.known_codes import MAX_ISSUES
from domain.read.prepared import PreparedQuery
from domain.read.query import FixedText, ListQuery, PageRows, unwrap_parameter
from domain.store.database import Database


async def add_unknown_codes(problem: PartlyRead, database: Database, caller: Caller, cursors: Cursors) -> BadRequest:
    """Returns the error of a malformed request, with the codes that its other filters name and nobody within reach has. The
    `readable` part of the error are lists; only their filters by code are used. At most one statement.
    """
    lists: Any = problem.readable
    queries = [query for each in lists if (query := _keep_codes(each)) is not None and _may_be_told(query, caller)]
    if queries:
        try:
            await PreparedQuery(queries, caller.scopes).read(database, caller.client_id, cursors, caller.snapshot)
        except Invalid as unknown:
            return problem.add_issues(unknown.issues[: max(MAX_ISSUES - len(problem.issues), 0)])
    return problem


def _keep_codes(query: ListQuery) -> ListQuery | None:
    """Returns a list of one row with the filters by code alone, None where there is none. A filter has no values, or an empty
    one, where one of them cannot be read.
    """
    unwrapped = [replace(each, values=tuple(map(unwrap_parameter, each.values))) for each in query.where if each.field.codes]
    coded = tuple(each for each in unwrapped if each.values and "" not in each.values)
    row = PageRows((("row", FixedText("")),))
    return ListQuery(query.resource, (("data", row),), coded, first=1) if coded else None


def _may_be_told(query: ListQuery, caller: Caller) -> bool:
    """Whether the client's token has the scopes that the filters need."""
    try:
        check_scopes([query], caller)
    except Forbidden:
        return False
    return True
