"""Bad input over HTTP: always a 4xx that says what is wrong and where, never a 5xx, and nothing of it is written."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import TRUST, URNS, Trust, batch, entry, issues, judged, open_trust, opened, roll, sent, upn, window

MIB = 1024 * 1024
CLOSED, PLANNED = "2017-18/autumn", "2017-18/summer"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_trust(module_databases: Databases) -> AsyncIterator[Trust]:
    """Ten pupils at Oak, one at Elm, and an open, a closed and a planned window."""
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", f"trust:{TRUST}=all", f"school:{URNS['Quay']}=all")
        await opened(vendor)
        await sent(vendor, f"/v1/windows/{await opened(vendor, CLOSED)}/close")
        await sent(vendor, "/v1/windows", window(PLANNED), 201)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(10)]))
        await sent(vendor, "/v1/pupils", roll("Elm", [entry(20)]))
        yield made


@pytest_asyncio.fixture(loop_scope="session")
async def vendor(small_trust: Trust) -> AsyncIterator[httpx2.AsyncClient]:
    """A client; after the test no row has been written."""
    before = await small_trust.everything()
    yield small_trust.made[0]
    assert await small_trust.everything() == before


async def refused(client: httpx2.AsyncClient, path: str, body: Any, status: int = 422, **headers: str) -> dict[str, str]:
    """By place, the code of what is wrong there; a text or bytes are sent as they are, and every issue has words."""
    named = {"Content-Type": "application/json"} | {name.replace("_", "-"): value for name, value in headers.items()}
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    answer = await client.post(path, content=content, headers=named)
    assert answer.status_code == status, (answer.status_code, answer.text[:1000])
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert all(issue["message"] and issue["code"] for issue in problem.get("issues", []))
    return issues({"issues": problem.get("issues", [])})


# What a row may say.

INVALID_UPNS = [
    "Q207000016049",
    "A801200005001",
    "X80120000A001",
    "B80120000500",
    "B8012000050011",
    "",
    " ",
    "I80120000500\u0661",
    "B8012000O5001",
]


@pytest.mark.parametrize("number", [*INVALID_UPNS, "Ｂ801200005001", "B801200005001\n1", "B80120000500ı"])
async def test_an_invalid_upn(vendor: Any, number: str) -> None:
    code = "text-unreadable" if number and (number.isspace() or not number.isprintable()) else "upn-invalid"
    assert await refused(vendor, "/v1/pupils", roll("Oak", [entry(1, upn=number)])) == {"/entries/0/upn": code}
    former = entry(1, formerUpns=[upn(300), number])
    assert await refused(vendor, "/v1/pupils", roll("Oak", [former])) == {"/entries/0/formerUpns/1": code}
    by_upn = {"upn": number, "subject": "reading", "grade": 100}
    assert await refused(vendor, "/v1/judgements", batch("Oak", [by_upn])) == {"/entries/0/upn": code}


ROWS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "unknown grade": (judged(1, grade="EXSS"), {"/entries/0/grade": "grade-unknown"}),
    "a grade of another scheme": (judged(1, "writing", 100), {"/entries/0/grade": "grade-unknown"}),
    "derived subject": (judged(1, "rwm"), {"/entries/0/subject": "subject-derived"}),
    "unknown aspect": (judged(1, aspect="mood"), {"/entries/0/aspect": "aspect-unknown"}),
    "not collected": (judged(1, "phonics"), {"/entries/0/subject": "not-collected"}),
    "closed window": (judged(1, window=CLOSED), {"/entries/0/window": "window-closed"}),
    "planned window": (judged(1, window=PLANNED), {"/entries/0/window": "window-not-open"}),
    "unknown window": (judged(1, window="2099"), {"/entries/0/window": "window-unknown"}),
    "pupil of another school": (judged(20), {"/entries/0/reference": "pupil-not-found"}),
    "unknown reference": (judged(999), {"/entries/0/reference": "pupil-not-found"}),
    "unknown window for all": (judged(1), {"/window": "window-unknown"}),
    "unknown school": (judged(1, school={"urn": 999999}), {"/entries/0/school": "school-not-found"}),
    "everything": (
        judged(999, "chess", aspect="mood", window="2099"),
        {
            "/entries/0/reference": "pupil-not-found",
            "/entries/0/subject": "subject-unknown",
            "/entries/0/aspect": "aspect-unknown",
            "/entries/0/window": "window-unknown",
        },
    ),
    "neither grade nor status": ({"reference": "P1", "subject": "reading"}, {"/entries/0": "wrong-value"}),
    "grade and status": (judged(1, status="absent"), {"/entries/0": "wrong-value"}),
    "no pupil": ({"subject": "reading", "grade": 100}, {"/entries/0": "wrong-value"}),
    "two names": (judged(1, upn=upn(1)), {"/entries/0": "wrong-value"}),
    "naive time": (judged(1, recordedAt="2018-05-15T08:00:00"), {"/entries/0/recordedAt": "wrong-value"}),
    "no such day": (judged(1, recordedAt="2018-02-30T08:00:00Z"), {"/entries/0/recordedAt": "wrong-value"}),
    "next century": (judged(1, recordedAt="2199-12-31T23:59:59Z"), {"/entries/0/recordedAt": "recorded-in-future"}),
    "the last instant": (judged(1, recordedAt="9999-12-31T23:59:59Z"), {"/entries/0/recordedAt": "wrong-value"}),
    "beyond the last instant": (judged(1, recordedAt="9999-12-31T23:59:59-23:59"), {"/entries/0/recordedAt": "wrong-value"}),
    "the first instant": (judged(1, recordedAt="0001-01-01T00:00:00Z"), {"/entries/0/recordedAt": "wrong-value"}),
    "before the first instant": (judged(1, recordedAt="0001-01-01T00:00:00+23:59"), {"/entries/0/recordedAt": "wrong-value"}),
    "seconds since 1970": (judged(1, recordedAt=1526371200), {"/entries/0/recordedAt": "wrong-value"}),
}


@pytest.mark.parametrize("name", ROWS)
async def test_a_bad_row(vendor: Any, name: str) -> None:
    row, wrong = ROWS[name]
    body = batch("Oak", [row]) | ({"window": "2099"} if "/window" in wrong else {})
    assert await refused(vendor, "/v1/judgements", body) == wrong


async def test_twice_in_one_batch(vendor: Any) -> None:
    rows = [judged(1), {"upn": upn(1), "subject": "reading", "grade": 101}]
    assert await refused(vendor, "/v1/judgements", batch("Oak", rows)) == {"/entries/1": "duplicate-in-batch"}
    assert await refused(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(1)])) == {"/entries/1": "duplicate-in-batch"}
    assert await refused(vendor, "/v1/pupils", roll("Oak", [entry(50), entry(50, reference="again")])) == {
        "/entries/1": "duplicate-in-batch"
    }


async def test_all_issues_come_in_one_answer(vendor: Any) -> None:
    bad = entry(60, upn="Q207000016049", formerUpns=["A801200005001"], yearGroup="Y99", dateOfBirth="2030-01-01", enrolments=[])
    unknown = entry(61) | {"forname": "Sam"}
    del unknown["forename"]
    assert await refused(vendor, "/v1/pupils", roll("Oak", [bad, entry(1), unknown])) == {
        "/entries/0/upn": "upn-invalid",
        "/entries/0/formerUpns/0": "upn-invalid",
        "/entries/0/yearGroup": "year-group-invalid",
        "/entries/0/dateOfBirth": "date-of-birth-implausible",
        "/entries/2/forname": "unknown-field",
        "/entries/2/forename": "required",
    }


async def test_an_unknown_field_suggests_the_known_one(vendor: Any) -> None:
    body = batch("Oak", [judged(1, garde="EXS")])
    answer = await vendor.post("/v1/judgements", json=body)
    assert [(i["at"], i["code"], "grade" in i["message"]) for i in answer.json()["issues"]] == [
        ("/entries/0/garde", "unknown-field", True)
    ]
    assert await refused(vendor, "/v1/judgements", body | {"entires": []}) == {
        "/entires": "unknown-field",
        "/entries/0/garde": "unknown-field",
    }


async def test_the_issues_of_a_row_are_counted(vendor: Any) -> None:
    row = entry(1, enrolments=[{}] * 1000)
    assert len(await refused(vendor, "/v1/pupils", roll("Oak", [row]))) == 100


@pytest.mark.parametrize(
    ("query", "at", "code"),
    [
        ({"sex": "F" * 2001}, "sex", "filter-value-invalid"),
        ({"sex": ["F"] * 1001}, "sex", "filter-too-long"),
        ({"fields": ",".join(["id"] * 1001)}, "fields", "list-too-long"),
        ({"include": ",".join(["school"] * 1001)}, "include", "list-too-long"),
        ({"sort": ",".join(["id"] * 1001)}, "sort", "list-too-long"),
    ],
)
async def test_a_list_that_asks_for_too_much(vendor: Any, query: dict[str, Any], at: str, code: str) -> None:
    answer = await vendor.get("/v1/pupils", params=query)
    assert (answer.status_code, issues(answer.json())) == (400, {at: code})
    where = {"where": {"sex": "F" * 2001}, "fields": ["id"] * 1001}
    assert await refused(vendor, "/v1/pupils/lookup", where, 400) == {
        "/where/sex": "filter-value-invalid",
        "/fields": "list-too-long",
    }


@pytest.mark.parametrize(
    "day",
    ["0000-00-00", "2018-13-01", "2018-02-29", "01/05/2018", "2018-5-1", "", "20180501", "2018-05-01T00:00:00Z", "99999-01-01"],
)
async def test_a_day_that_is_none(vendor: Any, day: str) -> None:
    assert await refused(vendor, "/v1/pupils", roll("Oak", [entry(1)], asOf=day)) == {"/asOf": "wrong-value"}
    assert await refused(vendor, "/v1/pupils", roll("Oak", [entry(1, dateOfBirth=day)])) == {
        "/entries/0/dateOfBirth": "wrong-value"
    }
    row = entry(1, enrolments=[{"from": day, "status": "C"}])
    assert await refused(vendor, "/v1/pupils", roll("Oak", [row])) == {"/entries/0/enrolments/0/from": "wrong-value"}


@pytest.mark.parametrize("day", ["9999-12-31", "0001-01-01", "1066-10-14"])
async def test_a_day_out_of_all_reason(vendor: Any, day: str) -> None:
    assert "/asOf" in await refused(vendor, "/v1/pupils", roll("Oak", [entry(1)], asOf=day))
    assert "/entries/0/dateOfBirth" in await refused(vendor, "/v1/pupils", roll("Oak", [entry(1, dateOfBirth=day)]))
    assert "/censusOn" in await refused(vendor, "/v1/windows", window("w", censusOn=day))
    for spell in ({"from": day, "status": "C"}, {"from": "2014-09-01", "to": day, "status": "C"}):
        answer = await vendor.post("/v1/pupils?dryRun=true", json=roll("Oak", [entry(70, enrolments=[spell])]))
        assert answer.status_code in (200, 422), answer.text


SCHOOLS: list[Any] = [
    {"urn": "12345"},
    {"urn": "１００００１"},
    {"urn": "0100001"},
    {"urn": -100001},
    {"urn": 10**18},
    {"urn": ""},
    {"laestab": ""},
    {"laestab": "936-2001"},
    {"laestab": "９３６２００１"},
    {"laestab": "%"},
    {"id": "100001"},
    {"id": "00000000-0000-0000-0000-000000000000"},
    {"id": "{" + "0" * 32 + "}"},
]


@pytest.mark.parametrize("school", SCHOOLS, ids=str)
async def test_a_school_that_is_none(vendor: Any, school: Any) -> None:
    assert await refused(vendor, "/v1/judgements", batch("Oak", [judged(1)], school=school)) == {"/school": "school-not-found"}


@pytest.mark.parametrize(
    "school",
    [{"laestab": "9362001"}, {"laestab": "936/2001"}, {"urn": "100001"}, {"urn": " 100001\u00a0"}, {"urn": 100001}],
    ids=str,
)
async def test_a_school_by_each_of_its_names(vendor: Any, school: Any) -> None:
    told = await sent(vendor, "/v1/judgements?dryRun=true", batch("Oak", [judged(1)], school=school))
    assert told["created"] == 1


@pytest.mark.parametrize(
    "school", [{}, {"urn": 100001, "laestab": "9362001"}, "100001", 100001, None, [], True, {"urn": None}, {"urn": 1.5}], ids=str
)
async def test_a_school_not_named_by_one_name(vendor: Any, school: Any) -> None:
    found = await refused(vendor, "/v1/judgements", batch("Oak", [judged(1)], school=school))
    assert set(found) <= {"/school", "/school/urn"}


async def test_the_school_of_a_batch_is_checked_also_where_each_row_names_its_own(vendor: Any) -> None:
    body = batch("Oak", [judged(1, school={"urn": URNS["Oak"]})], school={"urn": 999999})
    assert await refused(vendor, "/v1/judgements", body) == {"/school": "school-not-found"}


async def test_schools_of_two_tenants(vendor: Any) -> None:
    rows = [judged(1), judged(2, school={"urn": URNS["Quay"]})]
    assert await refused(vendor, "/v1/judgements", batch("Oak", rows)) == {"/entries": "several-tenants"}


# What a body may be.

BODIES: dict[str, tuple[str | bytes, int, dict[str, str]]] = {
    "NUL": ('{"entries": [{"reference": "P\\u0000"}]}', 400, {"/entries/0/reference": "json-nul"}),
    "NaN": ('{"entries": [{"mark": NaN}]}', 400, {"/entries/0/mark": "json-not-a-number"}),
    "1e400": ('{"entries": [{"mark": 1e400}]}', 400, {"/entries/0/mark": "json-number-range"}),
    "65 bits": ('{"entries": [{"mark": 18446744073709551616}]}', 400, {"/entries/0/mark": "json-number-range"}),
    "lone surrogate": ('{"entries": [{"actor": "\\ud83d"}]}', 400, {"/entries/0/actor": "json-surrogate"}),
    "duplicate key": ('{"entries": [{"grade": "A", "grade": "B"}]}', 400, {"/entries/0/grade": "json-duplicate-key"}),
    "duplicate key, escaped": ('{"window": "a", "w\\u0069ndow": "b"}', 400, {"/window": "json-duplicate-key"}),
    "Latin-1": ('{"window": "é"}'.encode("latin-1"), 400, {"/window": "json-encoding"}),
    "UTF-16": ('{"window": "é"}'.encode("utf-16"), 400, {"": "json-encoding"}),
    "200,000 brackets": ("[" * 200_000 + "]" * 200_000, 400, {}),
    "200,000 open brackets": ("[" * 200_000, 400, {}),
    "200,000 objects": ('{"a":' * 200_000 + "1" + "}" * 200_000, 400, {}),
    "no body": ("", 400, {"": "json-malformed"}),
    "blank": (" \n", 400, {"": "json-malformed"}),
    "cut off": ('{"entries": [', 400, {}),
    "null": ("null", 422, {"": "wrong-type"}),
    "array": ("[]", 422, {"": "wrong-type"}),
    "text": ('"entries"', 422, {"": "wrong-type"}),
    "number": ("0", 422, {"": "wrong-type"}),
    "empty object": ("{}", 422, {"/entries": "required"}),
    "entries an object": ('{"entries": {}}', 422, {"/entries": "wrong-type"}),
    "entries a text": ('{"entries": "P1"}', 422, {"/entries": "wrong-type"}),
    "null entries": (
        '{"school": {"urn": 100001}, "entries": [null, null]}',
        422,
        {"/entries/0": "wrong-value", "/entries/1": "wrong-value"},
    ),
    "entries of entries": (
        '{"school": {"urn": 100001}, "entries": [[], "P1"]}',
        422,
        {"/entries/0": "wrong-value", "/entries/1": "wrong-value"},
    ),
    "entries null": ('{"school": {"urn": 100001}, "entries": null}', 422, {"/entries": "wrong-value"}),
    "20,001 entries": ('{"entries": [' + "{}," * 20_000 + "{}]}", 422, {"/entries": "too-many-entries"}),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body(vendor: Any, name: str) -> None:
    body, status, wrong = BODIES[name]
    found = await refused(vendor, "/v1/judgements", body, status)
    assert found if not wrong else found.items() >= wrong.items()  # with what else is wrong, such as fields that are missing


async def test_a_body_of_100_mib_is_refused_while_it_arrives(vendor: Any) -> None:
    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield b" " * MIB

    answer = await vendor.post("/v1/judgements", content=body(), headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (413, "body-too-large")
    assert taken <= 18
    declared = await vendor.post("/v1/judgements", content=b" " * (17 * MIB), headers={"Content-Type": "application/json"})
    assert declared.status_code == 413


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/xml", "", "application/jsonp", "json"]
)
async def test_another_media_type(vendor: Any, kind: str) -> None:
    await refused(vendor, "/v1/judgements", batch("Oak", [judged(1)]), 415, Content_Type=kind)
    await refused(vendor, "/v1/judgements", batch("Oak", [judged(1)]), 415, Content_Encoding="br")


@pytest.mark.parametrize("key", ["", '""', "k" * 201, "two words", "tab\tbed", "é".encode().decode("latin-1"), '"' + " " + '"'])
async def test_a_malformed_idempotency_key(vendor: Any, key: str) -> None:
    answer = await vendor.post(
        "/v1/judgements", json=batch("Oak", [judged(1)]), headers=[(b"Idempotency-Key", key.encode("latin-1"))]
    )
    assert answer.status_code == 400, answer.text
    assert issues(answer.json()) == {"Idempotency-Key": "idempotency-key-malformed"}


@pytest.mark.parametrize(
    "prefer",
    [
        "",
        ",",
        "=",
        "handling",
        "handling=loose",
        'handling="strict"',
        "respond-async, wait=10",
        ";;=;",
        "return=representation;x=y",
        "é",
    ],
)
async def test_a_preference_not_known_is_ignored(vendor: Any, prefer: str) -> None:
    header = [(b"Prefer", prefer.encode())]
    answer = await vendor.post("/v1/judgements?dryRun=true", json=batch("Oak", [judged(1), judged(1, grade="ZZ")]), headers=header)
    assert answer.status_code == 422, "strict unless said otherwise"


@pytest.mark.parametrize(
    ("query", "place"),
    [
        ("dryrun=true", "dryRun"),
        ("dryRun=yes", "dryRun"),
        ("dryRun", "dryRun"),
        ("dryRun=true&dryRun=false", "dryRun"),
        ("first=1", "first"),
    ],
)
async def test_a_parameter_that_means_nothing_here(vendor: Any, query: str, place: str) -> None:
    answer = await vendor.post(f"/v1/judgements?{query}", json=batch("Oak", [judged(1)]))
    assert answer.status_code == 400, answer.text
    assert place in answer.text


@pytest.mark.parametrize("id_", ["x", "00000000-0000-0000-0000-000000000000", "%00", "a" * 5000, "%ff", "1.2.3"])
async def test_a_window_that_is_none(vendor: Any, id_: str) -> None:
    assert await refused(vendor, f"/v1/windows/{id_}/open", b"", 404) == {}
    is_id = id_.count("-") == 4
    assert (await refused(vendor, f"/v1/windows/{id_}/open", b'{"a": 1}', 422 if is_id else 404)).keys() == (
        {"/a"} if is_id else set()
    )


@pytest.mark.parametrize("text", ["\u200d", "\u2028\u2029", "\U000e0001", " ", "\u200b", "A\u0001", "A\nB", "\x7f"])
async def test_a_text_nobody_means(vendor: Any, text: str) -> None:
    assert await refused(vendor, "/v1/pupils", roll("Oak", [entry(1, surname=text)])) == {"/entries/0/surname": "text-unreadable"}
