"""Bodies of rows: gzip, NDJSON and CSV are the same batch as the JSON that says the same, with the line of each issue."""

import csv
import gzip
import io
import json
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from api.http.content_coding import MAX_INFLATION, PIECE, Inflater
from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import (
    TRUST,
    URNS,
    WINDOW,
    Trust,
    batch,
    counted,
    entry,
    judged,
    open_trust,
    opened,
    roll,
    sent,
    upn,
)

NDJSON, CSV = "application/x-ndjson", "text/csv"
JUDGEMENTS = f"/v1/judgements?school={URNS['Oak']}&window={WINDOW}"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def small_trust(module_databases: Databases) -> AsyncIterator[Trust]:
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", f"trust:{TRUST}=all")
        await opened(vendor)
        await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(8)]))
        await sent(vendor, "/v1/pupils", roll("Elm", [entry(n) for n in range(8, 12)]))
        yield made


@pytest.fixture
def vendor(small_trust: Trust) -> Any:
    return small_trust.made[0]


def lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


async def posted(client: Any, path: str, content: bytes, kind: str, status: int = 200, **headers: str) -> Any:
    fields = {"Content-Type": kind, **{name.replace("_", "-"): value for name, value in headers.items()}}
    answer = await client.post(path, content=content, headers=fields)
    assert answer.status_code == status, answer.text[:2000]
    return answer.json()


def problems(answer: Any) -> list[tuple[str, str, int | None]]:
    return [(issue["at"], issue["code"], issue.get("line")) for issue in answer["issues"]]


# gzip


async def test_every_json_body_may_be_gzip(small_trust: Trust, vendor: Any) -> None:
    pupils = {"where": {"surname": "Surname1"}, "fields": ["id", "surname"]}
    plain = await sent(vendor, "/v1/pupils/lookup", pupils)
    for coding in ("gzip", "x-gzip", "GZIP"):
        packed = await posted(
            vendor, "/v1/pupils/lookup", gzip.compress(json.dumps(pupils).encode()), "application/json", Content_Encoding=coding
        )
        assert packed == plain
    question = json.dumps({"query": "{ schools(first: 1) { nodes { id } } }"}).encode()
    assert "errors" not in await posted(vendor, "/graphql", gzip.compress(question), "application/json", Content_Encoding="gzip")
    body = json.dumps(batch("Oak", [judged(n, actor=f"{n:x}") for n in range(8)])).encode()
    in_two_members = gzip.compress(body[:100]) + gzip.compress(body[100:])
    answer = await posted(vendor, "/v1/judgements?dryRun=true", in_two_members, "application/json", Content_Encoding="gzip")
    assert counted(answer) == {"created": 8}
    school = f"/v1/schools/{small_trust.ids['Oak']}"
    patch = gzip.compress(b'{"maxLeavers": "x"}')
    headers = {"If-Match": "*", "Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = await vendor.patch(school, content=patch, headers=headers)
    assert (answer.status_code, answer.json()["type"].rsplit("/")[-1]) == (422, "invalid")


async def test_a_coding_that_is_not_known_is_415(vendor: Any) -> None:
    for coding in ("br", "zstd", "deflate", "gzip, gzip", "compress"):
        answer = await vendor.post(
            "/v1/judgements", content=b"{}", headers={"Content-Type": "application/json", "Content-Encoding": coding}
        )
        assert (answer.status_code, answer.headers["accept-encoding"]) == (415, "gzip, identity"), coding
        assert answer.json()["type"].endswith("/content-encoding")


async def test_broken_gzip_is_400_with_its_place(vendor: Any) -> None:
    whole = gzip.compress(json.dumps(batch("Oak", [judged(n) for n in range(8)])).encode())
    wrong_sum = whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:]
    for content, byte in (
        (whole[:50], 51),
        (whole[:-1], len(whole)),
        (b"", 1),
        (b"{}", 2),
        (whole + b"more", len(whole) + 2),
        (wrong_sum, len(whole) - 4),
        (whole[:10] + b"\xff" * 30, 11),
    ):
        answer = await posted(vendor, "/v1/judgements", content, "application/json", 400, Content_Encoding="gzip")
        assert answer["type"].endswith("/gzip-malformed")
        assert answer["issues"][0]["message"].startswith(f"Byte {byte:,} of the compressed body: "), (byte, answer["issues"])


async def test_what_inflates_too_much_is_refused(vendor: Any) -> None:
    for size in (100_000, 15_000_000):
        content = gzip.compress(b"[" + b" " * size + b"]")
        assert size / len(content) > MAX_INFLATION
        answer = await posted(vendor, "/v1/pupils", content, "application/json", 413, Content_Encoding="gzip")
        assert answer["type"].endswith("/body-inflates")


@pytest.mark.parametrize("size", [1, 7, 1000, 70_000])
def test_inflated_pieces_are_small_whatever_arrives_at_once(size: int) -> None:
    content = b"".join(b"%d," % (n * n) for n in range(60_000))
    packed, inflater, out = gzip.compress(content), Inflater(), []
    for start in range(0, len(packed), size):
        out += inflater.inflate(packed[start : start + size])
    inflater.finish()
    assert b"".join(out) == content
    assert max(map(len, out)) <= PIECE
    assert zlib.crc32(content) == zlib.crc32(b"".join(out))


# NDJSON and CSV


async def test_lines_are_the_batch_that_json_is(vendor: Any) -> None:
    """Good rows, bad rows, and rows that do not type: the same counts, places, codes and messages, and the line beside."""
    rows: list[Any] = [
        judged(0),
        judged(1, grade="xx"),
        judged(2, subject="nonsense"),
        judged(3, grade=None, status="absent"),
        {"reference": "P4"},
        judged(5, unknown=1),
        judged(5),
        judged(5),
        judged(6, mark=1.25),
        5,
        judged(9),
    ]
    for handling, status in (("strict", 422), ("lenient", 200)):
        prefer = f"handling={handling}, return=representation"
        told = await sent(vendor, "/v1/judgements?dryRun=true", batch("Oak", rows), status, Prefer=prefer)
        content = b"\n" + lines(rows).replace(b"\n", b"\r\n")
        answer = await posted(vendor, f"{JUDGEMENTS}&dryRun=true", content, NDJSON, status, Prefer=prefer)
        assert [issue.pop("line") for issue in answer["issues"]] == [int(i["at"].split("/")[2]) + 2 for i in told["issues"]]
        assert answer == told


async def test_a_line_that_is_no_json_refuses_no_other_row(vendor: Any) -> None:
    content = lines([judged(0)]) + b'{"reference": "P1",\n' + b'{"reference":"P2","subject":"reading","grade":"100","mark":1e400}\n'
    content += b'{"reference":"P3","subject":"reading","grade":"\xff"}\n\n\n' + lines([judged(4)])
    answer = await posted(vendor, f"{JUDGEMENTS}&dryRun=true", content, NDJSON, Prefer="handling=lenient")
    assert counted(answer) == {"created": 2, "rejected": 3}
    assert problems(answer) == [
        ("/entries/1", "json-malformed", 2),
        ("/entries/2/mark", "json-number-range", 3),
        ("/entries/3", "json-encoding", 4),
    ]
    assert answer["issues"][0]["message"].startswith("Line 2, column 20: ")
    refused = await posted(vendor, JUDGEMENTS, content, NDJSON, 400)
    assert refused["type"].endswith("/json-malformed")
    assert problems(refused) == problems(answer)


async def test_the_head_is_said_by_parameters(vendor: Any) -> None:
    pupil = entry(1, sameChild=None)
    answer = await posted(vendor, "/v1/pupils?school=nowhere&asOf=soon&complete=maybe&maxLeavers=many", lines([pupil]), NDJSON, 422)
    assert sorted(problems(answer)) == [
        ("asOf", "wrong-value", None),
        ("complete", "wrong-value", None),
        ("maxLeavers", "wrong-value", None),
        ("school", "school-not-found", None),
    ]
    answer = await posted(vendor, f"/v1/pupils?school={URNS['Oak']}", lines([pupil]), NDJSON, 422)
    assert problems(answer) == [("asOf", "required", None)]
    good = f"/v1/pupils?school={URNS['Oak']}&asOf=2018-05-01&complete=true&maxLeavers=100&dryRun=true"
    answer = await posted(vendor, good, lines([pupil]), NDJSON)
    assert (counted(answer), answer["left"]) == ({"unchanged": 1}, 7)
    answer = await posted(vendor, "/v1/judgements?schol=1", lines([judged(1)]), NDJSON, 400)
    assert "Did you mean school" in answer["issues"][0]["message"]
    assert (await vendor.post("/v1/judgements?window=x", json=batch("Oak", [judged(1)]))).status_code == 400
    assert (await vendor.post("/v1/groups", content=b"{}", headers={"Content-Type": NDJSON})).status_code == 415


async def test_rows_name_schools_and_windows_of_their_own(vendor: Any) -> None:
    rows = [judged(n, school={"urn": URNS["Oak" if n < 8 else "Elm"]}, window=WINDOW) for n in (0, 8)]
    answer = await posted(vendor, "/v1/judgements?dryRun=true", lines(rows), NDJSON)
    assert counted(answer) == {"created": 2}
    content = (
        f"school.urn,reference,subject,grade,window\n{URNS['Oak']},P0,reading,100,{WINDOW}\n{URNS['Elm']},P8,reading,100,{WINDOW}\n"
    )
    answer = await posted(vendor, "/v1/judgements?dryRun=true", content.encode(), CSV)
    assert counted(answer) == {"created": 2}


async def test_a_key_compares_decoded_bytes_and_the_head(vendor: Any) -> None:
    content = lines([judged(0), judged(1)])
    key = {"Idempotency_Key": "one-stream", "Prefer": "return=representation"}
    first = await vendor.post(
        JUDGEMENTS, content=content, headers={"Content-Type": NDJSON, **{n.replace("_", "-"): v for n, v in key.items()}}
    )
    assert counted(first.json()) == {"created": 2}
    packed = {"Content-Type": NDJSON, "Content-Encoding": "gzip", **{n.replace("_", "-"): v for n, v in key.items()}}
    again = await vendor.post(JUDGEMENTS, content=gzip.compress(content), headers=packed)
    assert (again.headers["idempotency-replayed"], again.content) == ("true", first.content)
    for path, body in ((JUDGEMENTS, content + b"\n"), (JUDGEMENTS.replace(str(URNS["Oak"]), str(URNS["Elm"])), content)):
        answer = await posted(vendor, path, body, NDJSON, 422, **key)
        assert answer["type"].endswith("/idempotency-key-reused")


@pytest.mark.parametrize("noun", ["judgements", "targets", "pupils"])
async def test_what_a_list_gives_as_csv_can_be_sent_back(vendor: Any, noun: str) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n, actor=f"t{n}") for n in range(7)]), Prefer="handling=lenient")
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(6, grade=None, withdrawn=True)]))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(5, "maths", grade=None, status="absent")]))
    horizon = {"academicYear": "2017-18", "point": "KS2"}
    target = {"reference": "P1", "subject": "reading", "horizon": horizon, "grade": 105, "basis": "teacher"}
    await sent(vendor, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [target]})
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(2, preferredSurname='=Two, "of" us', formerUpns=[upn(90), upn(91)])]))
    path = f"/v1/{noun}" + ("?asOf=2018-05-01" if noun == "pupils" else "")
    for asked in ({"bom": "true"}, {"include": "school"}):
        got = await vendor.get(
            f"/v1/{noun}", params={"format": "csv", "roll": "all", **asked} if noun == "pupils" else {"format": "csv", **asked}
        )
        assert got.status_code == 200, got.text
        rows = list(csv.DictReader(io.StringIO(got.content.decode("utf-8-sig"), newline="")))
        answer = await posted(vendor, path, got.content, got.headers["content-type"])
        assert counted(answer) == {"unchanged": len(rows)}
        assert len(rows) > 0
    if noun == "judgements":
        changed = got.content.replace(b",100,", b",103,")
        assert counted(await posted(vendor, f"{path}?dryRun=true", changed, CSV))["updated"] > 1


HEADER = "reference,subject,grade,mark\n"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("P0,maths,100\n", [("/entries/0", "csv-ragged", 2, "Line 2, column 13: ")]),
        ("P0,maths,100,,7\n", [("/entries/0", "csv-ragged", 2, "Line 2, column 16: ")]),
        (
            'P0,maths,"10\n0",\nP1,maths,x"y,\n',
            [("/entries/0/grade", "text-unreadable", 2, ""), ("/entries/1", "csv-malformed", 4, "Line 4, column 11: ")],
        ),
        ('P0,maths,"100"x,\n', [("/entries/0", "csv-malformed", 2, "Line 2, column 15: ")]),
        (
            "P0,maths,100,\n\nP1,maths,100,\n,,,\n",
            [("/entries/1", "csv-row-empty", 3, "Line 3, column 1: "), ("/entries/3", "csv-row-empty", 5, "")],
        ),
        ("P0,maths,100,1.5\rP1,maths,100,\n", [("/entries/0", "csv-malformed", 2, "Line 2, column 17: ")]),
        ("P0,maths,100,many\n", [("/entries/0/mark", "wrong-value", 2, "")]),
        ("P0,maths,1\x0000,\n", [("/entries/0/grade", "json-nul", 2, "")]),
        ("P0,Müller\n".encode("latin-1"), [("/entries/0", "csv-encoding", 2, "Line 2, column 5: ")]),
    ],
)
async def test_a_row_of_csv_with_a_fault_names_its_line_and_column(vendor: Any, content: Any, found: list[Any]) -> None:
    body = HEADER.encode() + (content if isinstance(content, bytes) else content.encode()) + b"P7,maths,100,\n\n\n"
    answer = await posted(vendor, f"{JUDGEMENTS}&dryRun=true", body, CSV, Prefer="handling=lenient")
    assert problems(answer) == [each[:3] for each in found]
    for issue, each in zip(answer["issues"], found, strict=True):
        assert issue["message"].startswith(each[3])
    assert answer["created"] == answer["received"] - len(found) >= 1
    is_of_body = any(code.startswith(("csv", "json")) for _, code, *_ in found)
    refused = await posted(vendor, JUDGEMENTS, body, CSV, 400 if is_of_body else 422)
    assert problems(refused) == problems(answer)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", [("csv-malformed", "Line 1, column 1: the header line is missing")]),
        (b"\n\n", [("csv-malformed", "Line 1, column 1: the header line is missing")]),
        (b"reference,subjct,grade\n", [("csv-column-unknown", "Line 1, column 11: there is no such column. Did you mean subject")]),
        (
            b"reference;subject;grade\n",
            [("csv-column-unknown", "Line 1, column 1: there is no such column. Cells are separated by commas.")],
        ),
        (
            b"reference,subject,subject,subjectCode,nonsense\n",
            [
                ("csv-column-repeated", "Line 1, column 19: column 2 has this name too."),
                ("csv-column-repeated", "Line 1, column 27: column 2 is the same field."),
                ("csv-column-unknown", "Line 1, column 39: "),
            ],
        ),
        (
            HEADER.encode() + b'P0,"maths,100,\nP1,maths,100,\n',
            [("csv-malformed", "Line 2, column 4: this quote is never closed.")],
        ),
        (HEADER.encode("utf-16"), [("csv-encoding", "Line 1, column 1: the body is in UTF-16")]),
        ("reference,é\n".encode("latin-1"), [("csv-encoding", "Line 1, column 11: this byte is not UTF-8.")]),
    ],
)
async def test_a_body_of_csv_that_cannot_be_read_is_400(vendor: Any, content: bytes, found: list[Any]) -> None:
    answer = await posted(vendor, JUDGEMENTS, content, CSV, 400, Prefer="handling=lenient")
    assert answer["type"].endswith("/csv-malformed")
    assert [issue["code"] for issue in answer["issues"]] == [code for code, _ in found]
    for issue, (_, message) in zip(answer["issues"], found, strict=True):
        assert issue["message"].startswith(message), issue


async def test_another_character_set_and_csv_without_a_header_are_415(vendor: Any) -> None:
    for kind in ("text/csv; charset=windows-1252", "text/csv; header=absent", f"{NDJSON}; charset=utf-16"):
        answer = await vendor.post(JUDGEMENTS, content=HEADER.encode(), headers={"Content-Type": kind})
        assert (answer.status_code, answer.headers["accept-post"]) == (415, f"application/json, {NDJSON}, {CSV}")
    assert counted(await posted(vendor, JUDGEMENTS, HEADER.encode() + b"P7,gps,100,\n", "text/csv; charset=UTF-8; header=present"))


async def test_spells_of_a_pupil_are_columns_with_numbers(vendor: Any) -> None:
    content = (
        "reference,upn,surname,forename,dateOfBirth,sex,yearGroup,enrolments.0.from,enrolments.0.status,characteristics.0.kind,"
        "characteristics.0.value,characteristics.0.from\r\n"
        f"P20,{upn(20)},O'Hara,Ann,2007-01-01,F,6,2014-09-01,C,eal,ENG,2017-09-01\r\n"
        f"P21,{upn(21)},Ota,Ben,2007-01-02,M,6,2014-09-02,C,,,\r\n"
    )
    answer = await posted(vendor, f"/v1/pupils?school={URNS['Ash']}&asOf=2018-05-01", content.encode(), CSV)
    assert counted(answer) == {"created": 2}
    params = {"where": {"reference": ["P20", "P21"]}, "include": ["enrolments"], "fields": ["surname", "enrolments.from"]}
    told = (await sent(vendor, "/v1/pupils/lookup", params))["data"]
    assert sorted((p["surname"], len(p["enrolments"]["data"])) for p in told) == [("O'Hara", 1), ("Ota", 1)]


async def test_receipts_say_which_schools_failed(vendor: Any) -> None:
    """What a vendor asks in the morning: where was anything rejected since last night, over everything that it reaches."""
    await sent(vendor, "/v1/judgements", batch("Elm", [judged(8), judged(9, grade="zz")]), Prefer="handling=lenient")
    params = {"rejected.gt": "0", "receivedAt.gte": "2020-01-01T00:00:00Z", "include": "school", "fields": "rejected,school.name"}
    told = (await vendor.get("/v1/receipts", params=params)).json()["data"]
    assert any(each["school"]["name"] == "Elm" and each["rejected"] == 1 for each in told), told
    assert all(each["rejected"] > 0 for each in told)
    later = (await vendor.get("/v1/receipts", params=params | {"receivedAt.gte": "2999-01-01T00:00:00Z"})).json()["data"]
    assert later == []
