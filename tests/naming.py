"""Requests to both interfaces that name things: everything a command's URL or body can name, by id or by natural key."""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx2
from graphql import GraphQLObjectType, get_named_type
from msgspec import inspect

from api.graphql.schema import graphql_schema as schema
from api.rest.urls import url_of
from domain import COMMANDS
from domain.write.command import Command
from tests.world import AUTUMN, HOUSE, SUMMER, TRUSTS, batch, window

LEAVES = (
    "id",
    "urn",
    "laestab",
    "groupUid",
    "upn",
    "formerUpns",
    "reference",
    "oldReference",
    "window",
    "subject",
    "aspect",
    "scheme",
)
"""Fields of inputs that name a thing which is there already."""
FACTS = {
    "record_school_references": ("entries.reference", "entries.upn"),
    "release_pupil_upn": ("upn",),
    "split_pupil": ("upn",),
    "reidentify_pupil": ("upn", "reference"),
}
"""Fields of these names that are facts about a pupil, and name nobody."""
URL = "{id}"
"""The place of the id in a URL."""


@dataclass(frozen=True)
class Names:
    """How things are named, of one tenant or of none."""

    school: dict[str, Any]
    trust: dict[str, Any]
    pupil: dict[str, Any]
    window: str
    window_code: str
    group: str
    discount: str
    subject: str
    aspect: str
    scheme: str
    ids: dict[str, str]
    """Of a subject, an aspect, a scheme and a planned roll."""


ENTRY = {
    "surname": "A",
    "forename": "B",
    "dateOfBirth": "2014-01-01",
    "sex": "F",
    "yearGroup": "5",
    "enrolments": [{"from": "2024-09-01", "status": "C"}],
}
HERE = {"reference": "Alder-1"}
JUDGED = {**HERE, "subject": "reading", "aspect": "main", "grade": HOUSE[0]["code"]}
AIMED = JUDGED | {"scheme": "house", "basis": "teacher", "horizon": {"academicYear": "2025-26", "point": "KS2"}}
MEMBERS = {"code": "new", "name": "New", "kind": "adhoc", "members": [HERE]}
OWN = {"trust": {"groupUid": TRUSTS["North"]}}
DOCUMENTS: dict[str, dict[str, Any]] = {
    "record_pupils": batch("Alder", [ENTRY | {"reference": "new"}], asOf="2024-10-01"),
    "record_groups": batch("Alder", [MEMBERS], academicYear="2024-25", asOf="2024-10-01"),
    "record_judgements": batch(
        "Alder", [JUDGED], window=AUTUMN, asOf="2024-10-01", pupils=[ENTRY | {"reference": "new", "school": {"urn": 100001}}]
    ),
    "record_targets": batch("Alder", [AIMED]),
    "create_scheme": {"tenant": OWN, "code": "new", "name": "New", "template": "effort"},
    "create_window": window(OWN, SUMMER)
    | {"code": "new", "collects": [{"subject": "science", "scheme": "ks2-science-ta", "aspect": "main"}]},
    "create_subject": {"tenant": OWN, "code": "new", "name": "New"},
    "create_aspect": {"tenant": OWN, "code": "new", "name": "New"},
    "create_scheme_version": {"grades": [{"code": "1", "label": "One"}]},
    "update_group": {"name": "Renamed"},
    "update_school": {"shortName": "Renamed"},
    "update_pupil": {"forename": "Renamed"},
    "update_window": {"name": "Renamed"},
    "merge_pupil": {"expectedVersion": 1, "into": "01900000-0000-7004-8000-000000000000", "intoVersion": 1},
    "record_school_references": {"entries": [{"oldReference": "Alder-1", "reference": "new"}]},
    "release_pupil_upn": {"upn": "P207000016049"},
    "reidentify_pupil": {"expectedVersion": 1, "surname": "A", "forename": "B", "upn": "P207000016049", "reference": "new"},
    "split_pupil": {
        **{name: value for name, value in ENTRY.items() if name != "enrolments"},
        "expectedVersion": 1,
        "upn": "P207000016049",
        "enrolments": [{"school": {"urn": 100001}, "from": "2024-09-02", "status": "C"}],
        "remainingEnrolments": [{"school": {"urn": 100001}, "from": "2024-09-01", "status": "C"}],
        "references": [{"school": {"urn": 100001}, "reference": "Alder-1"}],
    },
    "create_window_discount": {
        "school": {"urn": 100001},
        "pupil": {"reference": "Alder-4"},
        "reason": "Came from abroad",
        "author": "Head",
    },
    "withdraw_discount": {"author": "Head"},
    "reopen_window": {"closesAt": "2099-12-01T17:00:00Z"},
}
"""By command, a body that a client of North may send; those of one row, or of a verb, begin with the id."""


def naming_places(command: Command) -> Iterator[str]:
    """Where a request names a thing: the URL's id, and the fields of the body, with dots."""
    if "{id}" in url_of(command)[1]:
        yield URL
    if command.name in DOCUMENTS:
        places = _places(inspect.type_info(command.input), "")
        yield from (place for place in places if place not in FACTS.get(command.name, ()))


def _places(type_: inspect.Type, path: str) -> Iterator[str]:
    if isinstance(type_, inspect.UnionType):
        for member in type_.types:
            yield from _places(member, path)
    elif isinstance(type_, inspect.ListType):
        yield from _places(type_.item_type, path)
    elif isinstance(type_, inspect.StructType):
        for field in type_.fields:
            if field.encode_name in LEAVES:
                yield f"{path}{field.encode_name}"
            else:
                yield from _places(field.type, f"{path}{field.encode_name}.")


def value_at(names: Names, command: Command, place: str) -> Any:
    """What these names have for a place."""
    *above, leaf = place.split(".")
    if place == URL:
        noun = command.name.split("_")[1]
        return (names.ids | {"pupil": names.pupil["id"], "school": names.school["id"]}).get(noun) or getattr(names, noun)
    if leaf == "formerUpns":
        return [names.pupil["upn"]]
    for kind in ("school", "schools", "trust"):
        if above and above[-1] == kind:
            return getattr(names, kind.removesuffix("s"))[leaf]
    if leaf in ("id", "upn", "reference", "oldReference"):
        return names.pupil["reference" if leaf == "oldReference" else leaf]
    return getattr(names, leaf)


def body_with(command: Command, place: str, value: Any) -> dict[str, Any]:
    """The command's body with this value at this place, and nothing beside it that names the same thing."""
    document = copy.deepcopy(DOCUMENTS.get(command.name, {}))
    if place == URL:
        return document
    if command.is_single_row:
        return {place: value}
    node: Any = document
    *above, leaf = place.split(".")
    for i, step in enumerate(above):
        if step in ("school", "trust", "schools"):
            named: Any = {leaf: value}
            if above[:i] == ["tenant"]:
                document["tenant"] = {step: named}
            else:
                node[step] = [named] if step == "schools" else named
            return document
        node = node[step][0] if isinstance(node[step], list) else node[step]
    if leaf in ("id", "upn", "reference"):
        for other in ("id", "upn", "reference"):
            node.pop(other, None)
    node[leaf] = value
    return document


def tries(command: Command, place: str, names: Names, own: Names) -> Iterator[tuple[str, dict[str, Any]]]:
    """The id in the URL and the body that name a thing so; a window by its id and by its code."""
    if place == URL:
        yield value_at(names, command, URL), body_with(command, URL, None)
        return
    id_ = value_at(own, command, URL) if "{id}" in url_of(command)[1] else ""
    values = [names.window, names.window_code] if place.endswith("window") else [value_at(names, command, place)]
    for value in values:
        yield id_, body_with(command, place, value)


@dataclass(frozen=True)
class Told:
    """An answer without what tells of the moment: status, headers and body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


OF_THE_MOMENT = {"content-length", "x-request-id", "server-timing", "ratelimit", "ratelimit-policy", "date", "etag"}
"""Headers that tell of the request itself; an entity tag is of its URL."""


_REFERENCE = re.compile(rb',"reference":"([^"]*)"')


def told(answer: httpx2.Response) -> Told:
    headers = tuple(sorted((name, value) for name, value in answer.headers.items() if name not in OF_THE_MOMENT))
    sent = answer.request.content  # an issue repeats the reference of its row
    body = _REFERENCE.sub(lambda found: b"" if found[1] in sent else found[0], answer.content)
    return Told(answer.status_code, headers, body)


async def by_rest(
    http: httpx2.AsyncClient, command: Command, id_: str, body: Any, *, dry: bool = True, match: str = "*", key: str | None = None
) -> Told:
    """A command by its URL."""
    method, path = url_of(command)
    headers = {"If-Match": match.encode()} if command.is_single_row else {}
    if key is not None:
        headers["Idempotency-Key"] = key.encode()
    content = {"json": body} if "{id}" not in path or method == "PATCH" or command.is_action else {}
    url = path.replace("{id}", quote(id_, safe=""))
    return told(await http.request(method, url, params={"dryRun": "true"} if dry else {}, headers=headers, **content))


def _shown(type_: GraphQLObjectType) -> str:
    """A selection of all that a command answers but new ids."""
    inner = {name: get_named_type(field.type) for name, field in type_.fields.items() if name != "id"}
    return " ".join(f"{n} {{ {_shown(of)} }}" if isinstance(of, GraphQLObjectType) else n for n, of in inner.items())


async def by_graphql(
    http: httpx2.AsyncClient, command: Command, id_: str, body: Any, *, dry: bool = True, version: int = 1, key: str | None = None
) -> Told:
    """The command as a mutation, for this version of the row."""
    root = schema().mutation_type
    assert root is not None
    operation = root.fields[command.operation]
    type_, answer = operation.args["input"].type, get_named_type(operation.type)
    assert isinstance(answer, GraphQLObjectType)
    given = body | ({"id": id_} if id_ else {}) | ({"expectedVersion": version} if command.is_single_row else {})
    call = f"{command.operation}(input: $i, dryRun: $dry, idempotencyKey: $key) {{ {_shown(answer)} }}"
    text = f"mutation ($i: {type_}, $dry: Boolean, $key: String) {{ {call} }}"
    variables = {"i": given, "dry": dry, "key": key}
    accept = {"Accept": "application/graphql-response+json"}
    return told(await http.post("/graphql", json={"query": text, "variables": variables}, headers=accept))


EVERY_PLACE = [(command, place) for command in COMMANDS.values() for place in naming_places(command)]
