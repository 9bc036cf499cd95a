"""What an answer, an error or a log may tell of others, and what odd requests are answered; each was a fault once."""

from typing import Any

import pytest

from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import URNS, Trust, batch, counted, entry, issues, judged, opened, roll, sent, upn, window


@pytest.fixture
def fill_trust() -> Filling:
    return open_window_with_two_pupils


async def open_window_with_two_pupils(trust: Trust) -> None:
    vendor = await register_vendor(trust)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2)]))
    await opened(vendor)


async def graphql(client: Any, query: str, **variables: Any) -> Any:
    answer = await client.post("/graphql", json={"query": query, "variables": variables})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("status", ["S", "G", "C"])
async def test_guessing_a_upn_finds_no_pupil(small_trust: Trust, vendor: Any, status: str) -> None:
    """A client of one school cannot share, take or read a pupil of another by a UPN, by an id or by asserting a spell."""
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    pupil_id = (await vendor.get("/v1/pupils?first=1&fields=id")).json()["data"][0]["id"]
    claim = {
        "surname": "Unknown",
        "forename": "Unknown",
        "reference": None,
        "enrolments": [{"from": "2018-01-01", "status": status}],
    }
    before = await small_trust.everything()
    for dry in ("", "?dryRun=true"):
        assert issues(await sent(elm, f"/v1/pupils{dry}", roll("Elm", [entry(1, **claim)]), 422)) == {
            "/entries/0/enrolments": "pupil-elsewhere"
        }
    named, absent = (
        entry(1, **claim | {"upn": None, "id": id_}) for id_ in (pupil_id, pupil_id[:-1] + ("0" if pupil_id[-1] != "0" else "1"))
    )
    assert await sent(elm, "/v1/pupils", roll("Elm", [named]), 422) == await sent(elm, "/v1/pupils", roll("Elm", [absent]), 422)
    assert await small_trust.everything() == before
    assert (await elm.get(f"/v1/pupils/{pupil_id}")).status_code == 404


async def test_a_second_school_cannot_replace_what_the_main_school_judged(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=110)]))
    await sent(vendor, "/v1/pupils", roll("Elm", [entry(1, reference="E1", enrolments=[{"from": "2018-01-01", "status": "S"}])]))
    again = batch("Elm", [{"upn": upn(1), "subject": "reading", "grade": 90}])
    assert issues(await sent(vendor, "/v1/judgements", again, 422)) == {"/entries/0": "recorded-by-main-school"}
    assert counted(await sent(vendor, "/v1/judgements", batch("Elm", [{"upn": upn(1), "subject": "maths", "grade": 90}]))) == {
        "created": 1
    }


async def test_a_pupil_without_any_identifier_is_refused(vendor: Any) -> None:
    answer = await sent(vendor, "/v1/pupils", roll("Oak", [entry(3, reference=None, upn=None)]), 422)
    assert issues(answer) == {"/entries/0": "wrong-value"}


@pytest.mark.parametrize(
    "query",
    [
        "{ pupils { __typename } }",
        "{ pupils(first: 1) { pageInfo { __typename } } }",
        "{ pupils(first: 1) { pageInfo { hasNextPage } } }",
        "{ pupils { nodes @skip(if: true) { id } } }",
        "{ pupils { nodes { judgements { __typename } } } }",
    ],
)
async def test_a_page_of_which_no_row_is_asked_for(vendor: Any, query: str) -> None:
    assert "errors" not in await graphql(vendor, query)


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (
            "mutation($i: PupilBatchInput!) { recordPupils(input: $i) { received } }",
            {"i": {"asOf": "2018-05-01", "entries": [{"surname": "Rhodes"}]}},
        ),
        ("mutation($i: PupilBatchInput!) { recordPupils(input: $i) { received } }", {"i": {"asOf": "Rhodes", "entries": []}}),
        (
            "mutation($i: PupilBatchInput!) { recordPupils(input: $i) { received } }",
            {"i": {"asOf": "2018-05-01", "entries": ["Rhodes"]}},
        ),
        ('mutation { recordPupils(input: {asOf: "2018-05-01", entries: [{surname: "Rhodes", forename: 1}]}) { received } }', {}),
        ('{ pupils(first: "Rhodes") { nodes { id } } }', {}),
        ('query($f: Int = "Rhodes") { pupils(first: $f) { nodes { id } } }', {}),
        ("query($f: Int) { pupils(first: $f) { nodes { id } } }", {"f": "Rhodes"}),
        ("query($f: [String!]) { pupils(where: {surname: $f}) { nodes { id } } }", {"f": [{"Rhodes": 1}]}),
        ('{ pupils "Rhodes" }', {}),
    ],
)
async def test_graphql_errors_hold_no_values(vendor: Any, query: str, variables: dict[str, Any]) -> None:
    answer = await graphql(vendor, query, **variables)
    assert answer["errors"]
    assert "Rhodes" not in str(answer)


async def test_rows_without_fields_cost_something(vendor: Any) -> None:
    deep = "{ schools(first: 1000) { nodes { pupils(first: 100) { nodes { judgements(first: 100) { nodes { id @skip(if: true) } } } } } } }"
    assert (await graphql(vendor, deep))["errors"][0]["extensions"]["code"] == "too-costly"
    ask = 'a%d: aggregates(window: "2017-18/KS2", groupBy: [school, subject]) { nodes { subject } }'
    assert (await graphql(vendor, "{" + " ".join(ask % n for n in range(20)) + "}"))["errors"][0]["extensions"][
        "code"
    ] == "too-costly"


async def test_thousands_of_mistakes_are_not_all_reported(vendor: Any) -> None:
    answer = await vendor.post("/v1/pupils/lookup", json={"where": {f"yearGrou{n}": 1 for n in range(20_000)}})
    assert answer.status_code == 400
    assert len(answer.content) < 50_000


async def test_a_cursor_of_a_nested_page_leads_nowhere_else(vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n, s) for n in (1, 2) for s in ("reading", "maths")]))
    row = (await vendor.get("/v1/pupils?first=1&fields=id&include=judgements&judgements.first=1")).json()["data"][0]
    cursor = row["judgements"]["page"]["endCursor"]
    answer = await vendor.get(f"/v1/judgements?after={cursor}")
    assert (answer.status_code, answer.json()["type"].rsplit("/", 1)[1]) == (400, "cursor-invalid")


async def test_a_name_in_a_path_is_not_logged(vendor: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("/v1/pupils/Freya%20Rhodes", "/v1/Rhodes", "/v1/windows/Rhodes/open"):
        await vendor.get(path)
    logged = capsys.readouterr()
    assert "request" in logged.out + logged.err
    assert "Rhodes" not in logged.out + logged.err


async def test_a_school_of_a_trust_does_not_decide_for_the_trust(small_trust: Trust, vendor: Any) -> None:
    """A window of the whole trust is opened, closed and planned only by who holds windows:write over the whole of it."""
    elm = await small_trust.client("elm", f"school:{URNS['Elm']}=all")
    window_id = (await vendor.get("/v1/windows?fields=id")).json()["data"][0]["id"]
    assert (await elm.get(f"/v1/windows/{window_id}")).status_code == 200
    absent = await elm.post("/v1/windows/00000000-0000-0000-0000-000000000000/close")
    refused = await elm.post(f"/v1/windows/{window_id}/close")
    assert (refused.status_code, refused.content) == (404, absent.content)
    planned = await sent(elm, "/v1/windows", window("2017-18/Other"), 422)
    assert issues(planned) == {"/tenant/trust": "trust-not-found"}
