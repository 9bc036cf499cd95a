"""Every field of every command, given over HTTP what it cannot be: never a 5xx, and a refusal names the place."""

import json
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from msgspec import Struct, structs

from domain import COMMANDS
from tests.conftest import Databases
from tests.trust import TRUST, URNS, WINDOW, batch, entry, issues, judged, opened, roll, sent, trust, upn, window


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor(module_databases: Databases) -> AsyncIterator[Any]:
    """A client of the trust with the window open and a pupil; at the end no row has been written."""
    async with trust(module_databases) as made:
        client = await made.client("vendor", f"trust:{TRUST}=all")
        await opened(client)
        await sent(client, "/v1/pupils", roll("Oak", [entry(1)]))
        before = await made.everything()
        yield client
        assert await made.everything() == before


LITERALS = [
    "null",
    '""',
    "1e400",
    "[]",
    "{}",
    "true",
    '"' + "x" * 100_000 + '"',
    str(2**63 - 1),
    "-1",
    "0.5",
    '"\\u0001"',
    "[null]",
    '{"a": 1}',
    '"😀"',
]
SCHOOL = {"urn": URNS["Oak"]}
HORIZON = {"academicYear": "2017-18", "point": "KS2"}
GRADE = {"code": "1", "label": "One", "rank": 1, "value": 1.0, "points": 1.0, "yearGroup": "6", "band": "b"}
GRADE |= {"eligible": True, "valid": True, "expected": True, "higher": True}
REASONS = {"actions": "a", "timeToSetAndAnalyse": "b", "timeToAct": "c"}
COLLECT = {"subject": "reading", "scheme": "ks2-scaled-score", "aspect": "main", "schools": [SCHOOL]}
WHO = {"actor": "a teacher", "recordedAt": "2018-05-15T08:00:00Z", "school": SCHOOL}
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "record_pupils": (
        "/v1/pupils",
        roll(
            "Oak",
            [entry(1, formerUpns=[upn(90)], school=SCHOOL, enrolments=[{"from": "2014-09-01", "to": "2018-09-01", "status": "C"}])],
        ),
    ),
    "record_judgements": (
        "/v1/judgements",
        batch("Oak", [judged(1, mark=1.5, aspect="main", source="s", method="m", window=WINDOW) | WHO]),
    ),
    "record_targets": (
        "/v1/targets",
        {
            "school": SCHOOL,
            "entries": [
                judged(1, aspect="main", horizon=HORIZON, scheme="ks2-scaled-score", basis="teacher", visibility="staff") | WHO
            ],
        },
    ),
    "create_window": ("/v1/windows", window("w", acceptUntil="2099-09-01T00:00:00Z", frequencyReasons=REASONS, collects=[COLLECT])),
    "create_subject": ("/v1/subjects", {"tenant": {"trust": {"groupUid": TRUST}}, "code": "s", "name": "S", "nationalCode": "SUB"}),
    "create_aspect": ("/v1/aspects", {"tenant": {"trust": {"groupUid": TRUST}}, "code": "a", "name": "A", "nationalCode": "SUB"}),
    "create_scheme": ("/v1/schemes", {"tenant": {"trust": {"groupUid": TRUST}}, "code": "s", "name": "S", "grades": [GRADE]}),
}


def structs_in(type_: Any) -> Iterator[type[Struct]]:
    if isinstance(type_, type) and issubclass(type_, Struct):
        yield type_
    for part in typing.get_args(type_):
        yield from structs_in(part)


def places(type_: type[Struct], value: Any, at: str) -> Iterator[tuple[str, Any]]:
    """The JSON pointer and type of every field of a struct, and of the structs inside it where the document has them."""
    for item in structs.fields(type_):
        pointer, inner = f"{at}/{item.encode_name}", value.get(item.encode_name)
        yield pointer, item.type
        for struct in structs_in(item.type):
            if isinstance(inner, dict):
                yield from places(struct, inner, pointer)
            elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
                yield from places(struct, inner[0], f"{pointer}/0")


FIELDS = [
    pytest.param(name, pointer, type_, id=f"{name}{pointer}")
    for name, (_, document) in GOOD.items()
    for pointer, type_ in places(COMMANDS[name].input, document, "")
]


def substituted(document: dict[str, Any], pointer: str, literal: str) -> str:
    """The document with a JSON literal, as it stands, in the place of one value."""
    changed: Any = json.loads(json.dumps(document))
    *path, last = pointer[1:].split("/")
    inner = changed
    for step in path:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    inner[last] = "@here@"
    return json.dumps(changed).replace('"@here@"', literal)


def fits(literal: str, type_: Any) -> bool:
    try:
        msgspec.convert(json.loads(literal), type_)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


async def test_the_documents_themselves_are_good(vendor: Any) -> None:
    for path, document in GOOD.values():
        assert (await vendor.post(f"{path}?dryRun=true", json=document)).status_code == 200


@pytest.mark.parametrize(("name", "pointer", "type_"), FIELDS)
async def test_every_field_of_every_command_refuses_what_it_cannot_be(vendor: Any, name: str, pointer: str, type_: Any) -> None:
    path, document = GOOD[name]
    for literal in LITERALS:
        content, headers = substituted(document, pointer, literal), {"Content-Type": "application/json"}
        answer = await vendor.post(f"{path}?dryRun=true", content=content, headers=headers)
        said = (literal[:40], answer.status_code, answer.text[:500])
        assert "`" not in answer.text, said
        assert answer.status_code in (200, 400, 409, 422), said
        if literal == "1e400":
            assert (answer.status_code, issues(answer.json())) == (400, {pointer: "json-number-range"}), said
        elif answer.status_code == 200:
            assert fits(literal, type_), said
        elif answer.status_code == 422:
            at = list(issues(answer.json()))
            assert any(place.startswith(pointer) or pointer.startswith(place) for place in at), said
            assert len(answer.text) < 5_000 + 100 * len(at), "what was sent is not sent back"
