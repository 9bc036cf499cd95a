"""A command's input that is wrong is refused with the same problem in both interfaces: status, code, and every issue with its place.

The inputs are made of a good one by changing one thing anywhere in it. What GraphQL's own types refuse has no problem object; REST refuses it too.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from msgspec import structs

from api.rest.urls import url_of
from domain import COMMANDS
from domain.declare.ids import new_id
from tests.fixtures.both_roles import BothRoles
from tests.fixtures.command_requests import DOCUMENTS, Comparable, by_graphql, by_rest, value_at
from tests.fixtures.sizes import choose_size, choose_some

LONG = "x" * 3000
VALUES: list[Any] = [None, "", " ", "a\u0007b", LONG, -1, 2.5, [], "2018-13-01"]


def places(node: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The place of every value in a document, itself left out."""
    children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, child in children:
        yield (*path, key)
        yield from places(child, (*path, key))


def changed(document: Any) -> Iterator[Any]:
    """The document with one thing changed, left out or added. GraphQL takes what is no list for a list of one, so a list stays one."""
    for place in places(document):
        for value in choose_some([*VALUES, ...], 5, str(place)):
            made = copy.deepcopy(document)
            node = made
            for key in place[:-1]:
                node = node[key]
            if isinstance(node[place[-1]], list) and value is not ... and not isinstance(value, list):
                continue
            if value is ...:
                del node[place[-1]]
            else:
                node[place[-1]] = value
            yield made
    for place in [(), *places(document)]:
        made = copy.deepcopy(document)
        node = made
        for key in place:
            node = node[key]
        if isinstance(node, dict):
            node["nonsense"] = 1
            yield made


def differences(sent: Any, rest: Comparable, graphql: Comparable) -> list[Any]:
    """Where the two answers differ: problems, or that one of them is a success."""
    told = json.loads(graphql.body)
    problems = [error["extensions"]["problem"] for error in told.get("errors", ())]
    if problems and all(problem["type"].endswith("/graphql-invalid") for problem in problems):  # of variables of another type
        return [] if rest.status in (400, 422) and graphql.status == 400 else [(sent, rest, told)]
    if problems:
        of_rest = json.loads(rest.body)
        for issue in of_rest.get("issues", ()):  # at what says the version, which is a header field in REST alone
            issue["at"] = "/expectedVersion" if issue["at"] == "If-Match" else issue["at"]
        return [] if (problems, graphql.status) == ([of_rest], rest.status) else [(sent, rest, told)]
    return [] if rest.status < 300 else [(sent, rest, told)]


def test_every_command_that_needs_a_body_has_a_document() -> None:
    needs = {
        name
        for name, command in COMMANDS.items()
        if any(field.required and field.name != "id" for field in structs.fields(command.input))
    }
    assert needs - DOCUMENTS.keys() == set(), "a document in tests/fixtures/command_requests.py"


@pytest.mark.parametrize("name", DOCUMENTS)
async def test_what_is_wrong_with_an_input_is_the_same_problem(name: str, both_roles: BothRoles) -> None:
    command, http = COMMANDS[name], both_roles.http["app", "North"]
    id_, version = "", 1
    if "{id}" in url_of(command)[1]:
        id_ = value_at(both_roles.own, command, "{id}")
    if command.is_single_row:
        plural = f"{name.split('_')[1]}s"
        version = (await http.get(f"/v1/{plural}/{id_}")).json()["version"]
    refused, different = 0, []
    for document in changed(DOCUMENTS[name]):
        rest = await by_rest(http, command, id_, document)
        graphql = await by_graphql(http, command, id_, document, version=version)
        refused += rest.status >= 400
        different += differences(document, rest, graphql)
    assert different == []
    assert refused > choose_size(1, 5)


NEVER = ("x", "0", " ", "\u0007", "%", "a" * 5000, str(UUID(int=0)), "{" + "0" * 32 + "}", str(new_id(4)), str(new_id(8)).upper())
STATUSES = {"merge_pupil": 422, "split_pupil": 422, "release_pupil_upn": 422, "distinguish_pupil": 422}
STATUSES |= dict.fromkeys(
    (
        *("close_window", "withdraw_discount", "withdraw_planned_roll", "reidentify_pupil", "record_school_references"),
        *("repin_window", "retire_subject", "create_scheme_version", "rotate_client_secret", "set_client_keys", "revoke_client"),
        *("narrow_grant", "extend_grant", "end_grant", "lock_target", "create_trust_calendar_link", "create_school_calendar_link"),
        *(
            "revoke_calendar_link",
            "sign_common_scale",
            "sign_crosswalk",
            "withdraw_scheme_progress",
            "publish_window",
            "preview_window",
            "withdraw_publication",
        ),
    ),
    200,
)
"""Of verbs that are refused otherwise, or that nothing of the row refuses."""
OF_ROWS = [name for name, command in COMMANDS.items() if "{id}" in url_of(command)[1]]


@pytest.mark.parametrize("name", OF_ROWS)
async def test_a_row_that_is_not_there_is_the_same_problem(name: str, both_roles: BothRoles) -> None:
    command, http = COMMANDS[name], both_roles.http["app", "North"]
    for id_ in NEVER:
        rest = await by_rest(http, command, id_, DOCUMENTS.get(name, {}))
        graphql = await by_graphql(http, command, id_, DOCUMENTS.get(name, {}))
        assert differences(id_, rest, graphql) == []
        assert rest.status == 404


@pytest.mark.parametrize("name", OF_ROWS)
async def test_a_row_that_refuses_is_the_same_problem(name: str, both_roles: BothRoles) -> None:
    """Its state, or that it has another version than the change is meant for."""
    command, http = COMMANDS[name], both_roles.http["app", "North"]
    id_, body = value_at(both_roles.own, command, "{id}"), DOCUMENTS.get(name, {})
    for version in (77, 2**31 - 1):
        rest = await by_rest(http, command, id_, body, match=f'"{version}"')
        graphql = await by_graphql(http, command, id_, body, version=version)
        assert differences(version, rest, graphql) == []
        assert rest.status == (412 if command.is_single_row else STATUSES.get(name, 409))


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_key_that_is_none_is_the_same_problem(name: str, both_roles: BothRoles) -> None:
    command, http = COMMANDS[name], both_roles.http["app", "North"]
    id_ = value_at(both_roles.own, command, "{id}") if name in OF_ROWS else ""
    for key in ("", "two words", "k" * 201, "é", '""'):
        rest = await by_rest(http, command, id_, DOCUMENTS.get(name, {}), key=key)
        graphql = await by_graphql(http, command, id_, DOCUMENTS.get(name, {}), key=key)
        assert differences(key, rest, graphql) == []
        assert rest.status == 400
