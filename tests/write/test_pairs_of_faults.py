"""Two faults of one request are told together, whichever they are: in both interfaces, strict and lenient."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import TRUST, WINDOW, batch, entry, judged, open_trust, opened, roll, sent, upn, window

GHOST = {"reference": "ghost", "subject": "reading", "grade": 100}
HORIZON = {"academicYear": "2018-19", "point": "KS2"}
AIMED = {
    "reference": "P1",
    "subject": "reading",
    "grade": 100,
    "scheme": "ks2-scaled-score",
    "basis": "teacher",
    "horizon": HORIZON,
}
GROUP = {"code": "h1", "name": "H", "kind": "adhoc", "members": [{"reference": "P1"}]}
IDENTIFIER = "B801200005001"


def judgements(*rows: dict[str, Any], **head: Any) -> tuple[str, str, dict[str, Any]]:
    return "/v1/judgements", "recordJudgements", batch("Oak", list(rows)) | head


def pupils(**changed: Any) -> tuple[str, str, dict[str, Any]]:
    head = {name: changed.pop(name) for name in ("asOf", "school") if name in changed}
    return "/v1/pupils", "recordPupils", roll("Oak", [entry(1, **changed)]) | head


def targets(**changed: Any) -> tuple[str, str, dict[str, Any]]:
    head = {"school": changed.pop("school", {"urn": 100001})}
    return "/v1/targets", "recordTargets", head | {"entries": [AIMED | changed]}


def groups(**changed: Any) -> tuple[str, str, dict[str, Any]]:
    head = {"academicYear": changed.pop("academicYear", "2017-18"), "school": changed.pop("school", {"urn": 100001})}
    return "/v1/groups", "recordGroups", head | {"asOf": "2018-05-01", "entries": [GROUP | changed]}


def windows(**changed: Any) -> tuple[str, str, dict[str, Any]]:
    return "/v1/windows", "createWindow", window("other") | changed


NOWHERE = {"urn": 123456}
NO_UPN = {"upn": "A801200005001"}
ANOTHER = {"forename": "Zoe", "dateOfBirth": "2006-02-02"}
"""The facts of another child than the one whose reference the row has."""
BEYOND = {"frequencyReasons": None, "yearGroups": ["3"]}
"""Of a window more than the workload budget allows."""
BAD_SPELL = [{"from": "1902-09-01", "status": "C"}]
LINE = {"subject": "zzz", "scheme": "zzz", "aspect": "zzz"}
GOOD_LINE = {"subject": "reading", "scheme": "ks2-scaled-score", "aspect": "main"}
PAIRS: list[tuple[tuple[str, str, dict[str, Any]], set[str]]] = [
    (judgements(GHOST | {"expectedVersion": -1}), {"0/expectedVersion", "0/reference"}),
    (judgements(GHOST | {"mark": "abc", "klingon": 1}), {"0/mark", "0/klingon", "0/reference"}),
    (judgements(GHOST | {"status": "absent"}), {"entries/0", "0/reference"}),
    (judgements(judged(1, grade="x", recordedAt="nonsense")), {"0/recordedAt", "0/grade"}),
    (judgements(judged(1, grade="x", recordedAt="2099-01-01T00:00:00Z")), {"0/recordedAt", "0/grade"}),
    (judgements(judged(1, "zzz", mark=1.2345)), {"0/subject", "0/mark"}),
    (judgements(judged(1, grade="x", expectedVersion=7)), {"0/grade", "0/expectedVersion"}),
    (judgements(judged(1, actor="x" * 3000, grade="x")), {"0/actor", "0/grade"}),
    (judgements(judged(1, school={"urn": 123456}, aspect="zzz")), {"0/school", "0/aspect"}),
    (judgements(judged(1, "zzz"), school={"urn": 123456}), {"/school", "0/subject"}),
    (judgements(judged(1, grade="x"), asOf="zzz"), {"/asOf", "0/grade"}),
    (pupils(sex="Z", yearGroup="99", upn="A801200005001"), {"0/sex", "0/yearGroup", "0/upn"}),
    (pupils(sex="Z", reference=IDENTIFIER), {"0/sex", "0/reference"}),
    (pupils(sex="Z", dateOfBirth="1950-01-01", enrolments=BAD_SPELL), {"0/sex", "0/dateOfBirth", "enrolments/0/from"}),
    (pupils(formerUpns=[5, "zzz"], surname="\u200b"), {"formerUpns/0", "formerUpns/1", "0/surname"}),
    (pupils(id="01900000-0000-7004-8000-000000000000", sex="Z"), {"0/id", "0/sex"}),
    (pupils(asOf="zzz", yearGroup="99", reference=IDENTIFIER), {"/asOf", "0/yearGroup", "0/reference"}),
    (pupils(school={"urn": 123456}, yearGroup="99"), {"/school", "0/yearGroup"}),
    (targets(basis="z", reference="ghost"), {"0/basis", "0/reference"}),
    (targets(subject="zzz", aspect="zzz", scheme="zzz"), {"0/subject", "0/aspect", "0/scheme"}),
    (targets(horizon=HORIZON | {"academicYear": "2026-28"}, grade="x"), {"horizon/academicYear", "0/grade"}),
    (targets(horizon=HORIZON | {"point": "!!"}, subject="zzz"), {"horizon/point", "0/subject"}),
    (targets(school={"urn": 123456}, subject="zzz"), {"/school", "0/subject"}),
    (groups(kind="z", members=[{"reference": "ghost"}]), {"0/kind", "members/0/reference"}),
    (groups(members=[{"upn": 5}, {"reference": "ghost"}]), {"members/0/upn", "members/1/reference"}),
    (
        groups(academicYear="2026-28", kind="z", members=[{"reference": "ghost"}]),
        {"/academicYear", "0/kind", "members/0/reference"},
    ),
    (windows(code="!!", yearGroups=["zz"], academicYear="2026-28"), {"/code", "yearGroups/0", "/academicYear"}),
    (windows(academicYear="2026-28", collects=[LINE]), {"/academicYear", "0/subject", "0/scheme", "0/aspect"}),
    (windows(closesAt="2016-01-01T00:00:00Z", name=5, collects=[LINE]), {"/closesAt", "/name", "0/scheme"}),
    (windows(code=WINDOW, collects=[LINE]), {"/code", "0/scheme"}),
    (windows(code=WINDOW, **BEYOND), {"/code", "/frequencyReasons"}),
    (windows(closesAt="2016-01-01T00:00:00Z", **BEYOND), {"/closesAt", "/frequencyReasons"}),
    (windows(name=5, collects=[GOOD_LINE, LINE], **BEYOND), {"/name", "1/scheme", "/frequencyReasons"}),
    (
        windows(tenant={"trust": {"groupUid": 1}}, collects=[GOOD_LINE, LINE], **BEYOND),
        {"/trust", "1/scheme", "/frequencyReasons"},
    ),
    (judgements(GHOST | {"reference": IDENTIFIER}, school=NOWHERE), {"/school", "0/reference"}),
    (judgements(NO_UPN | {"subject": "reading", "grade": 100}, school=NOWHERE), {"/school", "0/upn"}),
    (judgements(judged(1, reference=IDENTIFIER, school=NOWHERE), judged(2)), {"0/school", "0/reference"}),
    (targets(reference=IDENTIFIER, school=NOWHERE), {"/school", "0/reference"}),
    (groups(members=[{"reference": IDENTIFIER}, NO_UPN], school=NOWHERE), {"/school", "members/0/reference", "members/1/upn"}),
    (groups(members=[{"reference": "ghost", "from": "1902-09-01"}], school=NOWHERE), {"/school", "members/0/from"}),
    (groups(members=[{"reference": "ghost", "from": "1902-09-01"}]), {"members/0/reference", "members/0/from"}),
    (pupils(**ANOTHER, sex="Z"), {"entries/0", "0/sex"}),
    (pupils(**ANOTHER, yearGroup="99"), {"entries/0", "0/yearGroup"}),
    (
        pupils(**ANOTHER, characteristics=[{"kind": "fsm", "value": "zzz", "from": "2017-09-01"}]),
        {"entries/0", "0/characteristics/0"},
    ),
    (pupils(**ANOTHER, asOf="zzz"), {"entries/0", "/asOf"}),
    (pupils(upn=upn(2), surname=5), {"entries/0", "0/surname"}),
    (pupils(reference="new", upn=None, enrolments=[], preferredSurname=5), {"0/enrolments", "0/preferredSurname"}),
]
"""Requests with several faults, and the places of all of them."""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def vendor(module_databases: Databases) -> AsyncIterator[Any]:
    """A client of a trust with pupils and an open window; at the end no row has been written."""
    async with open_trust(module_databases) as made:
        client = await made.client("vendor", f"trust:{TRUST}=all")
        await opened(client)
        for n in range(3):
            await sent(client, "/v1/windows", window(f"budget{n}", **BEYOND), 201)
        await sent(client, "/v1/pupils", roll("Oak", [entry(n) for n in range(4)]))
        before = await made.everything()
        yield client
        assert await made.everything() == before


@pytest.mark.parametrize(("request_of", "places"), PAIRS, ids=[f"{path[4:]} {sorted(places)}" for (path, _, _), places in PAIRS])
async def test_every_issue_is_answered(vendor: Any, request_of: tuple[str, str, dict[str, Any]], places: set[str]) -> None:
    path, operation, document = request_of
    input_type = {"createWindow": "NewWindow"}.get(operation, f"{operation[6:].removesuffix('s')}Batch")
    bulk = operation != "createWindow"
    for handling in ("strict", "lenient") if bulk else ("strict",):
        answer = await vendor.post(f"{path}?dryRun=true", json=document, headers={"Prefer": f"handling={handling}"})
        told = [issue["at"] for issue in answer.json()["issues"]]
        chosen = f', handling: "{handling}"' if bulk else ""
        shown = "issues { at }" if bulk else "id"
        query = f"mutation ($i: {input_type}Input!) {{ done: {operation}(input: $i, dryRun: true{chosen}) {{ {shown} }} }}"
        found = (await vendor.post("/graphql", json={"query": query, "variables": {"i": document}})).json()
        problem = found["errors"][0]["extensions"]["problem"] if "errors" in found else found["data"]["done"]
        assert sorted(issue["at"] for issue in problem["issues"]) == sorted(told)
        assert not [place for place in places if not any(at.endswith(place) for at in told)], told


async def test_rows_that_are_no_list_hide_no_fault_of_the_head(vendor: Any) -> None:
    """In GraphQL a value that is no list is one of a single value, as its specification says (section 3.11)."""
    path, _, document = judgements(judged(1), window="zzz", school=NOWHERE)
    for name in ("entries", "pupils"):
        answer = await vendor.post(path, json=document | {name: 5, "asOf": "2018-05-01"})
        told = {issue["at"]: issue["code"] for issue in answer.json()["issues"]}
        assert told == {"/school": "school-not-found", "/window": "window-unknown", f"/{name}": "wrong-type"}
