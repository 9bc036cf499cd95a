"""Every field of every command, given over both interfaces what it cannot be: never a 5xx, a refusal names the place, and both say the same. What the stored
data say against other fields of the request is told beside it.
"""

import json
import typing
from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

import httpx2
import msgspec
import pytest
import pytest_asyncio
from graphql import get_named_type
from msgspec import Struct, structs

from api.graphql.schema import graphql_schema
from api.rest.urls import url_of
from domain import COMMANDS
from domain.declare.inputs import convert_custom
from tests.fixtures.clock import PLANNED_DAY, PLANNING, freeze_clock
from tests.fixtures.databases import Databases
from tests.fixtures.registration import PUBLIC_KEY
from tests.fixtures.sizes import choose_size, choose_some
from tests.fixtures.small_trust import TRUST, URNS, WINDOW, batch, entry, judged, open_trust, opened, roll, sent, upn, window

NUMBERS = {"merge_pupil": 2, "split_pupil": 3, "reidentify_pupil": 4, "release_pupil_upn": 5, "distinguish_pupil": 7}
"""The pupils of commands about one record."""
FORMER = upn(50, temporary=True)
SCHOOL = {"urn": URNS["Oak"]}
TENANT = {"trust": {"groupUid": TRUST}}
DISCOUNT = {"school": SCHOOL, "pupil": {"reference": "P7"}, "reason": "Came from abroad", "author": "Head"}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor(module_databases: Databases) -> AsyncIterator[Any]:
    """A client of the trust with a row for each command that is about one; at the end no row has been written."""
    async with open_trust(module_databases) as made:
        client = await made.client("vendor", f"trust:{TRUST}=all")
        await _make_rows(client)
        await _make_access(client, made.operator)
        before = await made.everything()
        yield client
        assert await made.everything() == before


IDS: dict[str, str] = {}
"""The row of each command that is about one."""
VERSIONS: dict[str, int] = {}
"""Its version, of a command that changes or deletes it."""


async def _make_rows(client: httpx2.AsyncClient) -> None:
    late = {"opensAt": "2018-05-14T08:00:00Z", "closesAt": "2018-07-31T17:00:00Z"}
    open_window = await opened(client)
    planned, closed, final = [
        str((await sent(client, "/v1/windows", window(code, **terms), 201))["id"])
        for code, terms in (("planned", {}), ("closed", late | {"censusOn": "2018-05-15"}), ("final", late))
    ]
    await sent(client, f"/v1/windows/{final}/lock", {"reason": "The results are final"})
    rows = [entry(n, formerUpns=[FORMER] if n == NUMBERS["release_pupil_upn"] else None) for n in range(1, 9)]
    rows[NUMBERS["distinguish_pupil"] - 1] |= {name: rows[5][name] for name in ("surname", "forename", "dateOfBirth", "sex")}
    sent_rows = await sent(client, "/v1/pupils", roll("Oak", rows), Prefer="return=representation")
    pupils = [row["id"] for row in sent_rows["results"]]
    made_groups = [{"code": code, "name": "G", "kind": "class", "members": []} for code in ("g", "taken")]
    groups = {"school": SCHOOL, "academicYear": "2017-18", "asOf": "2018-05-01", "entries": made_groups}
    made_group = (await sent(client, "/v1/groups", groups, Prefer="return=representation"))["results"][0]["id"]
    named = {"tenant": TENANT, "code": "own", "name": "Own"}
    subject, aspect = [(await sent(client, f"/v1/{noun}", named, 201))["id"] for noun in ("subjects", "aspects")]
    scheme = await sent(client, "/v1/schemes", {**named, "grades": [{"code": "1", "label": "One", "points": 1}]}, 201)
    scale_id = (await sent(client, "/v1/common-scales", SCALE, 201))["id"]
    crosswalk_id = (await sent(client, "/v1/crosswalks", CROSSWALK, 201))["id"]
    discount = await sent(client, f"/v1/windows/{planned}/discounts", {**DISCOUNT, "pupil": {"reference": "P8"}}, 201)
    published = await sent(client, f"/v1/windows/{final}/publish", {"kind": "final"})
    aims = [judged(n, horizon=HORIZON, scheme="ks2-scaled-score", basis="aspiration") for n in (7, 8)]
    aimed = await sent(client, "/v1/targets", {"school": SCHOOL, "entries": aims}, Prefer="return=representation")
    free, locked = aimed["results"]
    await sent(client, f"/v1/targets/{locked['id']}/lock", {"reason": "Agreed with parents"})
    starter = entry(
        50, yearGroup="R", dateOfBirth="2026-01-01", enrolments=[{"from": PLANNED_DAY, "status": "C"}], characteristics=None
    )
    with freeze_clock(PLANNING):
        planned_roll = (await sent(client, "/v1/pupils", roll("Oak", [starter], asOf=PLANNED_DAY)))["plannedRollIds"][0]
    school = (await client.get("/v1/schools", params={"urn": URNS["Oak"]})).json()["data"][0]["id"]
    trust = (await client.get("/v1/trusts?fields=id")).json()["data"][0]["id"]
    link = await sent(client, f"/v1/schools/{school}/calendar-links", {}, 201)
    IDS.update(
        {
            **dict.fromkeys(("update_group", "delete_group"), made_group),
            **{f"{verb}_{noun}": id_ for verb in ("update", "retire") for noun, id_ in (("subject", subject), ("aspect", aspect))},
            "create_scheme_version": scheme["id"],
            **dict.fromkeys(
                ("retire_scheme", "restore_scheme", "declare_scheme_progress", "withdraw_scheme_progress"), scheme["id"]
            ),
            "sign_common_scale": scale_id,
            "sign_crosswalk": crosswalk_id,
            **dict.fromkeys(("open_window", "update_window", "delete_window", "repin_window"), planned),
            **dict.fromkeys(("close_window", "create_window_discount"), open_window),
            **dict.fromkeys(("reopen_window", "lock_window"), closed),
            "unlock_window": final,
            "withdraw_discount": discount["id"],
            "publish_window": closed,
            "preview_window": closed,
            **dict.fromkeys(("withdraw_publication", "release_publication"), published["id"]),
            "lock_target": free["id"],
            "create_trust_calendar_link": trust,
            "create_school_calendar_link": school,
            "revoke_calendar_link": link["id"],
            "unlock_target": locked["id"],
            "withdraw_planned_roll": planned_roll,
            **dict.fromkeys(("update_school", "record_school_references"), school),
            "update_pupil": pupils[5],
            **{name: pupils[n - 1] for name, n in NUMBERS.items()},
        }
    )
    for name, id_ in IDS.items():
        if COMMANDS[name].is_single_row:
            VERSIONS[name] = (await client.get(url_of(COMMANDS[name])[1].replace("{id}", id_))).json()["version"]


async def _make_access(client: httpx2.AsyncClient, operator: Any) -> None:
    """A client, and two grants that it has; the giver of one is gone."""
    made = (await sent(client, "/v1/clients", {"name": "taken", "tenant": TENANT}, 201))["id"]
    signs = (await sent(client, "/v1/clients", {"name": "signs", "tenant": TENANT, "publicKeys": [PUBLIC_KEY]}, 201))["id"]
    IDS.update({"rotate_client_secret": made, "revoke_client": made, "set_client_keys": made, "remove_client_keys": signs})
    first, second = [(await sent(client, "/v1/grants", {**GRANT, "client": made}, 201))["id"] for _ in range(2)]
    IDS.update({f"{verb}_grant": first for verb in ("narrow", "extend", "end")} | {"confirm_grant": second})
    await operator.execute("UPDATE grants SET confirm_by = expires_at, approved_until = expires_at WHERE id = $1", UUID(second))


GRANT = {
    "target": TENANT,
    "scopes": ["schools:read", "pupils:read"],
    "purpose": "Shows lists",
    "approvedBy": "Head",
    "kind": "sync",
}
GRANT |= {"agreementVersion": "1", "expiresAt": "2090-01-01T00:00:00Z"}
LITERALS = [
    "null",
    '""',
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
    '"2018-99-99"',
    '"2018-05-15T08:61:00Z"',
    '"01900000-0000-7004-8000"',
    '"😀"',
]
OF_WHOLE_DOCUMENTS = [
    literal for literal in LITERALS if literal not in ("{}", "-1", "[null]", '{"a": 1}', '"😀"', '"2018-05-15T08:61:00Z"')
]
"""Those that are tried one by one, where the field is of no row of a batch."""
HORIZON = {"academicYear": "2017-18", "point": "KS2"}
BANDS = [{"code": "b", "label": "B"}, {"code": "a", "label": "A"}]
SCALE = {
    "tenant": TENANT,
    "name": "Ours",
    "bands": BANDS,
    "expectedFrom": "a",
    "expectedLabel": "4+",
    "higherFrom": "a",
    "higherLabel": "5+",
}
SIGNATURE = {"name": "Ada Okafor", "role": "Director", "fromOn": "2098-01-01"}
FROM_IN_PAST = ({"/fromOn": "2018-01-01"}, {"/fromOn": "from-in-past"})
CROSSWALK = {"tenant": TENANT, "scheme": "own", "schemeVersion": 1, "grades": [{"grade": "1", "band": "a"}]}
GRADE = {"code": "1", "label": "One", "rank": 1, "value": 1.0, "points": 1.0, "yearGroup": "6", "band": "b"}
GRADE |= {"eligible": True, "valid": True, "expected": True, "higher": True}
REASONS = {"actions": "a", "timeToSetAndAnalyse": "b", "timeToAct": "c"}
COLLECT = {"subject": "reading", "scheme": "ks2-scaled-score", "aspect": "main", "schools": [SCHOOL]}
WHO = {"actor": "a teacher", "recordedAt": "2018-05-15T08:00:00Z", "school": SCHOOL}
SPELL = {"from": "2014-09-01", "to": "2018-09-01", "status": "C"}
CHILD = entry(1, formerUpns=[upn(90)], school=SCHOOL, enrolments=[SPELL])
NAMES = {"surname": "Surname3", "forename": "Sam", "dateOfBirth": "2007-01-01", "sex": "M"}
GOOD: dict[str, dict[str, Any]] = {
    "record_pupils": roll("Oak", [CHILD]),
    "record_groups": {
        "school": SCHOOL,
        "academicYear": "2017-18",
        "asOf": "2018-05-01",
        "entries": [{"code": "n", "name": "N", "kind": "adhoc", "members": [{"reference": "P1"}]}],
    },
    "record_judgements": batch(
        "Oak", [judged(1, mark=1.5, aspect="main", source="s", method="m", window=WINDOW) | WHO], asOf="2018-05-01", pupils=[CHILD]
    ),
    "record_targets": {
        "school": SCHOOL,
        "entries": [
            judged(1, aspect="main", horizon=HORIZON, scheme="ks2-scaled-score", basis="teacher", visibility="staff") | WHO
        ],
    },
    "create_window": window(
        "w",
        acceptUntil="2099-09-01T00:00:00Z",
        frequencyReasons=REASONS,
        collects=[COLLECT],
        season="summer",
        audience="Teachers and parents",
    ),
    "create_subject": {"tenant": TENANT, "code": "s", "name": "S", "nationalCode": "SUB"},
    "create_aspect": {"tenant": TENANT, "code": "a", "name": "A", "nationalCode": "SUB"},
    "create_scheme": {"tenant": TENANT, "code": "s", "name": "S", "grades": [GRADE]},
    "create_scheme_version": {"grades": [GRADE]},
    "declare_scheme_progress": {"method": "points", "statement": "One point is a term", "name": "Ada Okafor"},
    "create_common_scale": SCALE,
    "create_crosswalk": CROSSWALK,
    "sign_common_scale": SIGNATURE,
    "sign_crosswalk": SIGNATURE,
    "record_collection_answer": {
        "tenant": TENANT,
        "subject": "reading",
        "aspect": "main",
        "windowKind": "summer",
        "purpose": "To plan lessons",
        "audience": "Class teachers",
        "decision": "Who gets help",
        "impact": "No extra test",
        "verdict": "keep",
        "decidedBy": "Ada Okafor",
        "reviewOn": "2098-09-01",
        "typedSeconds": 20,
        "importedSeconds": 1,
        "carriedSeconds": 2,
    },
    "open_window": {"reason": "The law asks for it", "actor": "Head"},
    "create_window_discount": DISCOUNT,
    "withdraw_discount": {"author": "Head"},
    "preview_window": {"level": "strict", "sizesFrom": 6, "attainmentFrom": 11},
    "publish_window": {
        "kind": "provisional",
        "level": "strict",
        "daysAfterClosing": 14,
        "sizesFrom": 8,
        "attainmentFrom": 12,
        "reason": "Governors meet",
        "actor": "Head",
    },
    **{f"{verb}_publication": {"reason": "A pupil's record was wrong", "actor": "Head"} for verb in ("withdraw", "release")},
    "lock_target": {"reason": "Agreed with parents", "actor": "Head"},
    "unlock_target": {"reason": "To be set anew", "actor": "Head"},
    "update_group": {"name": "Renamed", "code": "r", "kind": "adhoc"},
    "update_subject": {"name": "Renamed", "nationalCode": "SUB"},
    "update_aspect": {"name": "Renamed", "nationalCode": "SUB"},
    "update_school": {"shortName": "Renamed", "maxLeaversPercent": 10},
    "update_pupil": {"forename": "Samuel", "dateOfBirth": "2007-01-01", "sex": "F", "yearGroup": "6"},
    "update_window": {
        "name": "Renamed",
        "purpose": "A purpose",
        "decision": "A decision",
        "yearGroups": ["6"],
        "censusOn": "2018-05-14",
    },
    "reopen_window": {"closesAt": "2099-12-01T17:00:00Z", "reason": "A school was late", "actor": "Head"},
    "lock_window": {"reason": "The results are final", "actor": "Head"},
    "unlock_window": {"reason": "A school appealed", "actor": "Head"},
    "record_school_references": {"entries": [{"oldReference": "P1", "reference": "Q1"}]},
    "release_pupil_upn": {"upn": FORMER},
    "distinguish_pupil": {"otherId": "MERGED", "different": False, "actor": "Head"},
    "create_client": {"name": "New", "tenant": TENANT, "origins": ["https://app.example"], "publicKeys": [PUBLIC_KEY]},
    "set_client_keys": {"publicKeys": [PUBLIC_KEY], "overlapHours": 1},
    "rotate_client_secret": {"overlapHours": 1},
    "create_grant": {**GRANT, "client": "CLIENT"},
    "narrow_grant": {"scopes": ["schools:read"], "expiresAt": "2089-01-01T00:00:00Z"},
    "extend_grant": {"expiresAt": "2095-01-01T00:00:00Z"},
    "merge_pupil": {"expectedVersion": 1, "intoVersion": 1, "into": "MERGED"},
    "reidentify_pupil": {"expectedVersion": 1, "surname": "New", "forename": "Name", "dateOfBirth": "2007-01-02", "sex": "F"},
    "split_pupil": {
        **NAMES,
        "expectedVersion": 1,
        "yearGroup": "6",
        "enrolments": [{"school": SCHOOL, "from": "2016-09-01", "status": "C"}],
        "remainingEnrolments": [{"school": SCHOOL, "from": "2014-09-01", "to": "2016-08-31", "status": "C"}],
    },
}
"""By command, a body that is in order; the others take none."""


def document_of(name: str) -> dict[str, Any]:
    document = json.dumps(GOOD.get(name, {}))
    known = {'"MERGED"': IDS.get("update_pupil"), '"CLIENT"': IDS.get("revoke_client")}
    for name_of, id_ in known.items():
        document = document.replace(name_of, json.dumps(id_))
    return dict(json.loads(document))


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
    for name, command in COMMANDS.items()
    for pointer, type_ in places(command.input, GOOD.get(name, {}), "")
    if pointer != "/id"  # which the URL holds in REST
]


def substituted(document: dict[str, Any], pointer: str, literal: str) -> str:
    """The document with a JSON literal, as it stands, in the place of one value."""
    changed: Any = json.loads(json.dumps(document))
    *path, last = pointer[1:].split("/")
    inner = changed
    for step in path:
        inner = inner[int(step)] if isinstance(inner, list) else inner[step]
    inner[int(last) if isinstance(inner, list) else last] = "@here@"
    return json.dumps(changed).replace('"@here@"', literal)


def fits(literal: str, type_: Any) -> bool:
    try:
        msgspec.convert(json.loads(literal), type_, dec_hook=convert_custom)
    except (msgspec.ValidationError, OverflowError):
        return False
    return True


class Answer(typing.NamedTuple):
    """What either interface says: the status, the issues and, where it was carried out, what became of it."""

    status: int
    issues: list[tuple[str, str, str]]
    outcome: dict[str, Any]
    text: str


def read_answer(status: int, found: dict[str, Any], text: str) -> Answer:
    told = [(issue["at"], issue["code"], issue["message"]) for issue in found.get("issues") or ()]
    outcome = {name: found[name] for name in ("received", "rejected", "created", "unchanged", "outcome") if name in found}
    return Answer(status, told, outcome, text)


async def by_rest(client: httpx2.AsyncClient, name: str, content: str) -> Answer:
    command = COMMANDS[name]
    method, path = url_of(command)
    headers = {"Content-Type": "application/json", "Prefer": "handling=lenient"} | (
        {"If-Match": "*"} if command.is_single_row else {}
    )
    answer = await client.request(
        method, f"{path.replace('{id}', IDS.get(name, ''))}?dryRun=true", content=content, headers=headers
    )
    return read_answer(answer.status_code, answer.json(), answer.text)


async def by_graphql(client: httpx2.AsyncClient, name: str, content: str) -> Answer:
    command, root = COMMANDS[name], graphql_schema().mutation_type
    assert root is not None
    field = root.fields[command.operation]
    lenient = ', handling: "lenient"' if command.entries is not None else ""
    members = get_named_type(field.type).fields  # type: ignore[union-attr]
    shown = [member for member in ("received", "rejected", "created", "unchanged", "outcome") if member in members]
    shown += ["issues { at code message }"] * ("issues" in members)
    text = f"mutation ($i: {field.args['input'].type}) {{ done: {command.operation}(input: $i, dryRun: true{lenient}) {{ __typename {' '.join(shown)} }} }}"
    keys: dict[str, Any] = {"id": IDS[name]} if name in IDS else {}
    if command.is_single_row:
        keys["expectedVersion"] = VERSIONS[name]
    inner = content[1:-1].strip()
    members_sent = ", ".join(part for part in (json.dumps(keys)[1:-1], inner) if part)
    body = f'{{"query": {json.dumps(text)}, "variables": {{"i": {{{members_sent}}}}}}}'
    answer = await client.post("/graphql", content=body, headers={"Content-Type": "application/json"})
    found = answer.json()
    if "errors" not in found:
        return read_answer(200, found["data"]["done"], answer.text)
    (error,) = found["errors"]
    problem = error["extensions"]["problem"]
    return read_answer(problem["status"], problem, answer.text)


def is_made_a_list(literal: str, type_: Any) -> bool:
    """Whether GraphQL makes a list of a single value, as its specification says (section 3.11); REST refuses it."""
    is_list = any(typing.get_origin(part) is list for part in (type_, *typing.get_args(type_)))
    is_list = is_list or any(
        is_made_a_list(literal, part) for part in typing.get_args(type_) if typing.get_origin(part) is not list
    )
    return is_list and literal[0] not in "[n"


NOT_YET = {"release_publication"}
"""What is in order and conflicts all the same: no process publishes here."""


async def test_the_documents_themselves_are_good(vendor: Any) -> None:
    for name in COMMANDS:
        rest, graphql = [await ask(vendor, name, json.dumps(document_of(name))) for ask in (by_rest, by_graphql)]
        good = 409 if name in NOT_YET else 200
        assert (rest.status, rest.issues, graphql.status, graphql.issues) == (good, [], good, []), (name, rest, graphql)


@pytest.mark.parametrize(("name", "pointer", "type_"), FIELDS)
async def test_every_field_of_every_command_refuses_what_it_cannot_be(vendor: Any, name: str, pointer: str, type_: Any) -> None:
    document, is_row = document_of(name), pointer.count("/") > 2 and pointer.split("/")[1] in COMMANDS[name].row_types
    literals = [literal for literal in (LITERALS if is_row else OF_WHOLE_DOCUMENTS) if not is_made_a_list(literal, type_)]
    if is_row:  # one batch, with a row for each value
        _, rows_of, _, *path = pointer.split("/")
        row = json.dumps(document[rows_of][0])
        rows = [substituted(json.loads(row), "/" + "/".join(path), literal) for literal in literals]
        content = json.dumps({**document, rows_of: "@rows@"}).replace('"@rows@"', f"[{', '.join(rows)}]")
        rest, graphql = await by_rest(vendor, name, content), await by_graphql(vendor, name, content)
        assert rest[:3] == graphql[:3]
        for n, literal in enumerate(literals):
            place = f"/{rows_of}/{n}/{'/'.join(path)}"
            told = [at for at, _, _ in rest.issues if at.startswith(place) or place.startswith(at)]
            assert told or fits(literal, type_), (literal[:40], rest.issues)
        return
    for literal in choose_some(literals, 5, f"{name}{pointer}"):
        content = substituted(document, pointer, literal)
        rest, graphql = await by_rest(vendor, name, content), await by_graphql(vendor, name, content)
        said = (literal[:40], rest.status, rest.text[:500], graphql.text[:500])
        assert rest[:3] == graphql[:3], said
        assert "`" not in rest.text, said
        assert rest.status in (200, 400, 409, 412, 422), said
        if rest.status == 200:
            assert fits(literal, type_) or any(at.startswith(pointer) for at, _, _ in rest.issues), said
        elif rest.status == 422:
            assert any(at.startswith(pointer) or pointer.startswith(at) for at, _, _ in rest.issues), said
            assert len(rest.text) < 5_000 + 100 * len(rest.issues), "what was sent is not sent back"


GHOST = "01900000-0000-7004-8000-000000000000"
NO_SCHOOL = {"urn": 123456}
AT_HEAD, AT_ROW = {"/school": "school-not-found"}, {"/entries/0/school": "school-not-found"}
CODES = {"/entries/0/subject": "subject-unknown", "/entries/0/aspect": "aspect-unknown"}
UNKNOWN = {"/entries/0/reference": "pupil-not-found"}
STALE = {"/expectedVersion": "precondition-failed"}
STORED: dict[str, list[tuple[dict[str, Any], dict[str, str]]]] = {
    "record_pupils": [
        ({"/school": NO_SCHOOL, "/entries/0/id": GHOST}, {**AT_HEAD, "/entries/0/id": "pupil-not-found"}),
    ],
    "record_groups": [
        ({"/entries/0/members/0/reference": "ghost"}, {"/entries/0/members/0/reference": "pupil-not-found"}),
        ({"/school": NO_SCHOOL}, AT_HEAD),
    ],
    "record_judgements": [
        (
            {"/entries/0/subject": "zzz", "/entries/0/aspect": "zzz", "/entries/0/reference": "ghost", "/pupils/0/id": GHOST},
            {**CODES, **UNKNOWN, "/pupils/0/id": "pupil-not-found"},
        ),
        ({"/window": "zzz", "/entries/0/window": "yyy"}, {"/window": "window-unknown", "/entries/0/window": "window-unknown"}),
        ({"/entries/0/school": NO_SCHOOL, "/entries/0/subject": "zzz"}, {**AT_ROW, "/entries/0/subject": "subject-unknown"}),
    ],
    "record_targets": [
        (
            {"/entries/0/subject": "zzz", "/entries/0/aspect": "zzz", "/entries/0/scheme": "zzz", "/entries/0/reference": "ghost"},
            {**CODES, **UNKNOWN, "/entries/0/scheme": "scheme-unknown"},
        ),
        ({"/entries/0/school": NO_SCHOOL, "/entries/0/subject": "zzz"}, {**AT_ROW, "/entries/0/subject": "subject-unknown"}),
    ],
    "create_window": [
        (
            {"/code": "planned", "/collects/0/subject": "zzz", "/collects/0/scheme": "zzz", "/collects/0/schools/0": NO_SCHOOL},
            {
                "/code": "window-exists",
                "/collects/0/subject": "subject-unknown",
                "/collects/0/scheme": "scheme-unknown",
                "/collects/0/schools/0": "school-not-found",
            },
        ),
        (
            {"/tenant/trust/groupUid": 1, "/code": "planned", "/collects/0/aspect": "zzz"},
            {"/tenant/trust": "trust-not-found", "/code": "window-exists", "/collects/0/aspect": "aspect-unknown"},
        ),
    ],
    "create_subject": [
        ({"/tenant/trust/groupUid": 1, "/code": "own"}, {"/tenant/trust": "trust-not-found", "/code": "subject-exists"})
    ],
    "create_aspect": [
        ({"/tenant/trust/groupUid": 1, "/code": "own"}, {"/tenant/trust": "trust-not-found", "/code": "aspect-exists"})
    ],
    "create_scheme": [
        ({"/tenant/trust/groupUid": 1, "/code": "own"}, {"/tenant/trust": "trust-not-found", "/code": "scheme-exists"})
    ],
    "record_collection_answer": [
        (
            {"/tenant/trust/groupUid": 1, "/subject": "zzz", "/aspect": "zzz"},
            {"/tenant/trust": "trust-not-found", "/subject": "subject-unknown", "/aspect": "aspect-unknown"},
        ),
    ],
    "create_common_scale": [
        ({"/tenant/trust/groupUid": 1, "/expectedFrom": "x"}, {"/tenant/trust": "trust-not-found", "/expectedFrom": "band-unknown"})
    ],
    "create_crosswalk": [
        ({"/scheme": "zzz", "/grades/0/band": "x"}, {"/scheme": "scheme-unknown", "/grades/0/band": "band-unknown"}),
        ({"/grades/0/grade": "x"}, {"/grades/0/grade": "grade-unknown", "/grades": "grades-unmapped"}),
        (
            {"/grades": [{"grade": "1", "band": "a"}, {"grade": "x", "band": "x"}]},
            {"/grades/1/grade": "grade-unknown", "/grades/1/band": "band-unknown"},
        ),
    ],
    "sign_common_scale": [FROM_IN_PAST],
    "sign_crosswalk": [FROM_IN_PAST],
    "create_window_discount": [
        ({"/pupil/reference": "ghost"}, {"/pupil/reference": "pupil-not-found"}),
        (
            {"/school": NO_SCHOOL, "/pupil/reference": "B801200005001"},
            {**AT_HEAD, "/pupil/reference": "reference-is-identifier"},
        ),
    ],
    "update_group": [({"/code": "taken"}, {"/code": "group-exists"})],
    "update_school": [
        (
            {"/sourceClient": "nobody", "/rollYear": "2098-99"},
            {"/sourceClient": "client-unknown", "/rollYear": "academic-year-invalid"},
        )
    ],
    "update_pupil": [
        ({"/forename": "Sam", "/upn": upn(8)}, {"/upn": "pupil-merge-needed"}),
        ({"/forename": "Zoe", "/sex": "M", "/upn": upn(70)}, {"": "pupil-conflict"}),
    ],
    "record_school_references": [
        ({"/entries/0/oldReference": "ghost"}, {"/entries/0/oldReference": "reference-unknown"}),
        ({"/entries/0/reference": "P2"}, {"/entries/0/reference": "reference-taken"}),
    ],
    "distinguish_pupil": [({"/otherId": GHOST}, {"/otherId": "pupil-not-found"})],
    "merge_pupil": [
        ({"/into": GHOST, "/expectedVersion": 9}, {**STALE, "/into": "pupil-not-found"}),
        ({"/intoVersion": 9, "/expectedVersion": 9}, {**STALE, "/intoVersion": "precondition-failed"}),
    ],
    "reidentify_pupil": [
        (
            {"/expectedVersion": 9, "/upn": upn(8), "/reference": "P8"},
            {**STALE, "/upn": "upn-taken", "/reference": "reference-taken"},
        )
    ],
    "split_pupil": [
        (
            {
                "/expectedVersion": 9,
                "/upn": upn(8),
                "/windows": ["zzz"],
                "/targets": [GHOST],
                "/groups": [GHOST],
                "/enrolments/0/school": NO_SCHOOL,
                "/references": [{"school": SCHOOL, "reference": "ghost"}],
            },
            {
                **STALE,
                "/upn": "upn-taken",
                "/windows/0": "window-unknown",
                "/targets/0": "target-unknown",
                "/groups/0": "group-unknown",
                "/enrolments/0/school": "school-not-found",
                "/references/0/reference": "reference-unknown",
            },
        )
    ],
    "create_client": [({"/name": "taken"}, {"/name": "name-in-use"})],
    "create_grant": [
        (
            {"/client": GHOST, "/target": {"school": NO_SCHOOL}, "/scopes": ["schools:read", "grants:write"]},
            {"/client": "grantee-unknown", "/target/school": "school-not-found", "/scopes/1": "scope-not-given"},
        ),
    ],
    "narrow_grant": [
        (
            {"/scopes": ["judgements:read"], "/expiresAt": "2091-01-01T00:00:00Z"},
            {"/scopes/0": "grant-too-wide", "/expiresAt": "grant-too-wide"},
        ),
    ],
}
"""By command, changes of its good document that the stored data speak against, and the issues of them."""
WITHOUT = {
    *(
        "open_window",
        "close_window",
        "repin_window",
        "delete_window",
        "delete_group",
        "retire_subject",
        "retire_aspect",
        "retire_scheme",
        "restore_scheme",
        "declare_scheme_progress",
        "withdraw_scheme_progress",
    ),
    *("withdraw_planned_roll", "withdraw_discount", "create_scheme_version", "update_subject", "update_aspect", "update_window"),
    *("reopen_window", "release_pupil_upn", "lock_target", "unlock_target", "lock_window", "unlock_window"),
    *(
        "rotate_client_secret",
        "set_client_keys",
        "remove_client_keys",
        "revoke_client",
        "extend_grant",
        "end_grant",
        "confirm_grant",
    ),
    *("publish_window", "preview_window", "withdraw_publication", "release_publication"),
    *("create_trust_calendar_link", "create_school_calendar_link", "revoke_calendar_link"),
}
"""Commands of which no field but one names anything that is stored."""


def misformed(type_: Any) -> str:
    """A literal that no value of the type is, nor the element of a list."""
    return next(literal for literal in ("[[[]]]", "5.5", '"x"') if not fits(literal, type_) and not is_made_a_list(literal, type_))


def is_of(place: str, pointer: str) -> bool:
    return place == pointer or place.startswith(f"{pointer}/") or (place != "" and pointer.startswith(f"{place}/"))


NEEDED = {
    "reference-is-identifier": ("id", "upn"),
    "pupil-not-found": ("/school", "id", "upn", "reference"),
    "reference-unknown": ("/school", "school", "upn", "surname", "forename", "dateOfBirth"),
    "reference-taken": ("/school", "oldReference", "upn", "surname", "forename", "dateOfBirth"),
    "pupil-merge-needed": ("upn",),
    "pupil-conflict": ("upn", "forename", "sameChild"),
    "precondition-failed": ("/into",),
    "band-unknown": ("/scale",),
    "grade-unknown": ("/scheme", "/schemeVersion"),
    "grades-unmapped": ("/scheme", "/schemeVersion"),
}
"""By the code of a fault that stored data show, what must be read to find it: fields of the same object, or of the head. Who is meant by a row is not known
where one of its keys cannot be read."""


def is_needed(fault: tuple[str, str], pointer: str) -> bool:
    """Whether the field at the pointer is needed to find a fault."""
    above = fault[0].rpartition("/")[0]
    if "/school" in NEEDED.get(fault[1], ()) and "/school" in pointer:
        return True
    return any(is_of(f"{above}/{name}" if name[0] != "/" else name, pointer) for name in NEEDED.get(fault[1], ()))


OF_PUPILS = ("/pupils/0/upn", "/pupils/0/surname", "/pupils/0/enrolments/0/from")
"""Fields of the pupils that come with judgements which stand for all in the suite, since a roll has the same."""


def is_walked(name: str, case: int, pointer: str) -> bool:
    """Whether a field is misformed in the suite; in `make attack` each is."""
    is_of_pupils = name == "record_judgements" and pointer.startswith("/pupils/0/")
    return not is_of_pupils or bool(choose_size(case == 0 and pointer in OF_PUPILS, 1))


@pytest.mark.parametrize("name", COMMANDS)
async def test_a_fault_of_form_hides_no_fault_that_stored_data_show(vendor: Any, name: str) -> None:
    assert (name in STORED) != (name in WITHOUT), (
        "It belongs either into STORED, with what stored data say against its fields, or into WITHOUT."
    )
    for n, (changes, expected) in enumerate(STORED.get(name, [])):
        document = document_of(name)
        for pointer, value in changes.items():
            document = json.loads(substituted(document, pointer, json.dumps(value)))
        for pointer, type_ in [("none", None), *places(COMMANDS[name].input, document, "")]:
            if not is_walked(name, n, pointer):
                continue
            content = json.dumps(document) if type_ is None else substituted(document, pointer, misformed(type_))
            rest = await by_rest(vendor, name, content)
            assert n or rest[:3] == (await by_graphql(vendor, name, content))[:3], pointer
            told = [(at, code) for at, code, _ in rest.issues]
            hidden = [
                fault
                for fault in expected.items()
                if fault not in told and not is_of(fault[0], pointer) and not is_needed(fault, pointer)
            ]
            assert (rest.status, hidden) == (rest.status, []), (pointer, told)
            assert type_ is None or any(is_of(at, pointer) for at, code in told if code not in expected.values()), (pointer, told)
