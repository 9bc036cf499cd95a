"""Explanations of aggregates: the pupils that are listed add up to the figure, by both interfaces; and nobody is listed whom the client does not read."""

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest_asyncio

from api.app import build_app
from api.settings import Settings
from tests.fixtures.registration import authorise
from tests.fixtures.settings import SECRET, WIDE
from tests.fixtures.two_trusts import AUTUMN, KS2, SUMMER, TwoTrusts

BASE = "https://markonce.example"
URL = "/v1/aggregates/explain"
QUERY = """query ($window: String!, $subject: String!, $sex: String, $school: [ID!]) {
    aggregateExplanation(window: $window, subject: $subject, sex: $sex, school: $school, first: 1000) {
        figures { eligible valid expected higher } outcomes { outcome pupils } unlisted data { pupilId outcome } } }"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def manager(two_trusts: TwoTrusts) -> AsyncIterator[httpx2.AsyncClient]:
    """The client of North, all of whose scopes it holds."""
    transport = httpx2.ASGITransport(
        app=build_app(Settings(two_trusts.databases.app_url, SECRET.encode(), BASE, **WIDE), two_trusts.database)
    )
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:
        http.headers.update(await authorise(http, two_trusts.clients["North"].credentials))
        yield http


def add_up(counts: dict[str, int]) -> tuple[int, int, int, int]:
    """The eligible, valid, expected and higher of outcomes."""
    higher, expected = counts.get("higher", 0), counts.get("expected", 0)
    valid = higher + expected + counts.get("below-expected", 0) + counts.get("no-place", 0)
    return valid + counts.get("no-value", 0), valid, expected + higher, higher


async def test_the_pupils_add_up_to_the_figure(manager: httpx2.AsyncClient) -> None:
    """Of each row of aggregates by window and subject, undivided and by every characteristic: the outcomes, those of the schools and the pupils themselves."""
    walked, seen = 0, Counter[str]()
    for window in (AUTUMN, KS2, SUMMER):
        for by in ("", "sex", "disadvantaged", "yearGroup", "sen", "eal", "sex,disadvantaged"):
            named = by.split(",") if by else []
            rows = (
                await manager.get(
                    "/v1/aggregates", params={"groupBy": ",".join(["subject", *named]), "window": window, "first": 1000}
                )
            ).json()["data"]
            for row in rows if by in ("", "sex", "sex,disadvantaged") else rows[:4]:
                asked = {"window": window, "subject": row["subject"], "first": 1000} | {name: row[name] for name in named}
                answer = await manager.get(URL, params=asked)
                assert answer.status_code == 200, answer.text
                told = answer.json()
                assert told["figures"] == row
                outcomes = {each["outcome"]: each["pupils"] for each in told["outcomes"]}
                figures = (row["eligible"], row["valid"], row["expected"] or 0, row["higher"] or 0)
                assert add_up(outcomes) == figures, (asked, outcomes)
                assert outcomes.get("discounted", 0) == (row["discounted"] or 0)
                listed = Counter(pupil["outcome"] for pupil in told["data"])
                assert (listed, told["unlisted"]) == (outcomes, 0)
                assert len({pupil["pupilId"] for pupil in told["data"]}) == len(told["data"])
                of_schools = Counter[str]()
                for school in told["schools"]:
                    of_schools.update({each["outcome"]: each["pupils"] for each in school["outcomes"]})
                    assert all(scheme["pupils"] for scheme in school["schemes"])
                assert of_schools == outcomes
                walked, seen = walked + 1, seen + listed
    assert walked > 20
    assert {"expected", "below-expected", "no-value"} <= seen.keys()


async def test_the_pages_of_pupils_are_the_whole(manager: httpx2.AsyncClient) -> None:
    asked: dict[str, Any] = {"window": KS2, "subject": "maths"}
    whole = (await manager.get(URL, params=asked | {"first": 1000})).json()["data"]
    read, answer = [], await manager.get(URL, params=asked | {"first": 4})
    while True:
        read += answer.json()["data"]
        if "next" not in answer.links:
            break
        answer = await manager.get(answer.links["next"]["url"])
    assert read == whole
    end = (await manager.get(URL, params=asked | {"first": 1})).json()["page"]["endCursor"]
    other = await manager.get(URL, params={"window": KS2, "subject": "reading", "after": end})
    assert other.status_code == 400


async def test_graphql_says_the_same(manager: httpx2.AsyncClient) -> None:
    for variables in ({"sex": "F"}, {"school": ["100001"]}):
        asked: dict[str, Any] = {"window": KS2, "subject": "reading", **variables}
        told = (await manager.post("/graphql", json={"query": QUERY, "variables": asked})).json()["data"]["aggregateExplanation"]
        same = (await manager.get(URL, params=asked | {"first": 1000})).json()
        assert told["outcomes"] == same["outcomes"]
        assert told["data"] == [{name: pupil[name] for name in ("pupilId", "outcome")} for pupil in same["data"]]
        assert told["figures"] == {name: same["figures"][name] for name in ("eligible", "valid", "expected", "higher")}


async def test_who_reads_no_pupils_gets_their_number_alone(two_trusts: TwoTrusts, manager: httpx2.AsyncClient) -> None:
    """With a token of aggregates:internal alone, no id and no value of a pupil is in the answer; without that scope there is none."""
    id_, secret = two_trusts.clients["North"].credentials
    asked: dict[str, Any] = {"window": KS2, "subject": "maths", "first": 1000}
    whole = (await manager.get(URL, params=asked)).json()
    for scope, status in (
        ("aggregates:internal", 200),
        ("aggregates:internal pupils:read", 200),
        ("aggregates:read pupils:read", 403),
    ):
        form = {"grant_type": "client_credentials", "scope": scope}
        token = (await manager.post("/oauth/token", data=form, auth=(id_, secret))).json()["access_token"]
        answer = await manager.get(URL, params=asked, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == status
        if status == 200:
            told = answer.json()
            assert (told["data"], told["unlisted"], told["outcomes"]) == ([], len(whole["data"]), whole["outcomes"])
            assert not any(pupil["pupilId"] in answer.text for pupil in whole["data"])
            assert not any(school["listsPupils"] for school in told["schools"])


async def test_a_figure_that_cannot_be_explained_is_refused(manager: httpx2.AsyncClient) -> None:
    """Everything that is wrong at once, an unknown name with its place, a group of nobody, and staff."""
    answer = await manager.get(URL, params={"sex": "X", "veiw": "own", "groupBy": "sex", "first": "0"})
    assert answer.status_code == 400
    assert {f"{issue['at']} {issue['code']}" for issue in answer.json()["issues"]} == {
        *("sex parameter-invalid", "veiw parameter-unknown", "groupBy parameter-unknown", "first parameter-invalid"),
        *("window window-required", "subject subject-required"),
    }
    for asked, at in (({"subject": "alchemy"}, "subject"), ({"yearGroup": "13"}, "yearGroup"), ({"school": "999999"}, "school")):
        answer = await manager.get(URL, params={"window": KS2, "subject": "maths", **asked})
        assert (answer.status_code, answer.json()["issues"][0]["at"]) == (422, at)
    answer = await manager.get(URL, params={"window": KS2, "subject": "maths", "groupBy": "teacher"})
    assert answer.json()["issues"][0]["code"] == "teacher-comparison-not-supported"
