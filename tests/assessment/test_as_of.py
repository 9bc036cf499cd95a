"""What stood on a day, in both interfaces: corrections, withdrawals, late values, merges, moved pupils; judgements, latest ones, targets, a class."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.fixtures.databases import Databases
from tests.fixtures.small_trust import URNS, Trust, asked, at, batch, entry, judged, open_trust, opened, roll, sent, upn

TRUST = "trust:4128=all"
FIRST, SECOND = "2026-01-10T10:00:00Z", "2026-06-20T23:30:00Z"
"""When values arrived, and when others took their place: the second is after midnight in England."""
ON_DAYS = {"2026-01-09": None, "2026-01-10": "before", "2026-06-20": "before", "2026-06-21": "after", "2099-01-01": "after"}
AIM = {"scheme": "ks2-scaled-score", "basis": "teacher", "horizon": {"academicYear": "2039-40", "point": "KS2"}}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def trust(module_databases: Databases) -> AsyncIterator[Trust]:
    """Pupil 1 is corrected, 2 withdrawn, 3 merged away into 4, 5 moves to Elm; 1 has a target that is hidden and changed later."""
    async with open_trust(module_databases) as made:
        vendor = await made.client("vendor", TRUST)
        await opened(vendor)
        rows = [entry(n, enrolments=[{"from": "2017-09-01", "status": "C"}]) for n in range(1, 6)]
        pupils = (await sent(vendor, "/v1/pupils", roll("Oak", rows), Prefer="return=representation"))["results"]
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(n, grade=100) for n in (1, 2, 3, 5)]))
        await _aim(vendor, 1, 100, "family")
        await _aim(vendor, 3, 100, "family")
        await sent(
            vendor,
            "/v1/judgements",
            batch("Oak", [judged(1, grade=110), {"reference": "P2", "subject": "reading", "grade": None, "withdrawn": True}]),
        )
        await _aim(vendor, 1, 110, "family")
        body = {"expectedVersion": pupils[2]["version"], "into": pupils[3]["id"], "intoVersion": pupils[3]["version"]}
        url = f"/v1/pupils/{pupils[2]['id']}/merge"
        dry = await sent(vendor, f"{url}?dryRun=true", body)
        await sent(vendor, url, body | {"confirmation": dry["confirmation"]})
        await sent(
            vendor,
            "/v1/pupils",
            at(
                "Elm",
                {"from": "2018-05-01", "status": "C"},
                day="2018-05-02",
                **{k: v for k, v in entry(5).items() if k not in ("enrolments", "reference")},
            ),
        )
        for table in ("judgements", "judgement_history", "targets", "target_history"):
            await made.operator.execute(f"UPDATE {table} SET received_at = '{FIRST}'")
        for table in ("judgement_history", "target_history"):
            await made.operator.execute(f"UPDATE {table} SET until = '{SECOND}'")
        yield made


async def _aim(client: Any, number: int, grade: int, visibility: str) -> Any:
    row = {"reference": f"P{number}", "subject": "reading", "grade": grade, "visibility": visibility} | AIM
    return await sent(client, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": [row]})


async def _find(trust: Trust, number: int) -> str:
    rows = await sent(trust.made[0], "/v1/pupils/lookup", {"where": {"upn": [upn(number)]}, "fields": ["id"]})
    return str(rows["data"][0]["id"])


@pytest.mark.parametrize(
    ("number", "before", "after"), [(1, "100", "110"), (2, "100", "withdrawn"), (4, "100", "100"), (5, "100", "100")]
)
async def test_judgements_are_what_stood_on_the_day(trust: Trust, number: int, before: str, after: str) -> None:
    vendor, id_ = trust.made[0], await _find(trust, number)
    for day, when in ON_DAYS.items():
        right = [] if when is None else [before if when == "before" else after]
        rows = (await vendor.get(f"/v1/judgements?pupilId={id_}&asOf={day}&fields=grade,status")).json()["data"]
        assert [row["grade"] or row["status"] for row in rows] == right, day
        linked = (await vendor.get(f"/v1/pupils/{id_}/judgements?asOf={day}&fields=grade,status")).json()["data"]
        nested = (
            await vendor.get(f"/v1/pupils/{id_}?include=judgements&judgements.asOf={day}&fields=judgements.grade,judgements.status")
        ).json()["judgements"]["data"]
        looked_up = await sent(
            vendor, "/v1/judgements/lookup", {"where": {"pupilId": [id_]}, "asOf": day, "fields": ["grade", "status"]}
        )
        assert linked == nested == looked_up["data"] == rows
        query = '{ judgements(asOf: "%s", where: {pupilId: ["%s"]}) { nodes { grade status } } }'
        assert (await asked(vendor, query % (day, id_)))["judgements"]["nodes"] == rows
        latest = (await vendor.get(f"/v1/pupils/{id_}/latestJudgements?asOf={day}&fields=grade")).json()["data"]
        assert [row["grade"] for row in latest] == [grade for grade in right if grade != "withdrawn"], day
        text = '{ pupil(id: "%s") { latestJudgements(asOf: "%s") { nodes { grade } } } }'
        assert (await asked(vendor, text % (id_, day)))["pupil"]["latestJudgements"]["nodes"] == latest


async def test_targets_are_what_stood_on_the_day_for_whoever_sees_them_now(trust: Trust) -> None:
    vendor, id_ = trust.made[0], await _find(trust, 1)
    family = await trust.client("family", "school:100001=targets:family,pupils:read")
    grades = {None: [], "before": ["100"], "after": ["110"]}
    for day, when in ON_DAYS.items():
        for client in (vendor, family):
            rows = (await client.get(f"/v1/targets?pupilId={id_}&asOf={day}&fields=grade")).json()["data"]
            assert [row["grade"] for row in rows] == grades[when], day
        linked = (await vendor.get(f"/v1/pupils/{id_}/targets?asOf={day}&fields=grade")).json()["data"]
        query = '{ targets(asOf: "%s", where: {pupilId: ["%s"]}) { nodes { grade } } }'
        assert (await asked(vendor, query % (day, id_)))["targets"]["nodes"] == rows == linked
    await _aim(vendor, 1, 110, "staff")
    assert (await family.get(f"/v1/targets?pupilId={id_}&asOf=2026-06-20")).json()["data"] == [], (
        "what is hidden now is not told of the past"
    )
    assert len((await vendor.get(f"/v1/targets?pupilId={id_}&asOf=2026-06-20")).json()["data"]) == 1


async def test_the_later_window_was_not_there_yet(trust: Trust) -> None:
    vendor, id_ = trust.made[0], await _find(trust, 1)
    await opened(vendor, "later", censusOn="2018-06-20")
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade=120)], window="later"))
    url = f"/v1/pupils/{id_}/latestJudgements"
    assert [(await vendor.get(f"{url}?asOf={day}&fields=grade")).json()["data"] for day in ("2026-06-21", "2099-01-01")] == [
        [{"grade": "110"}],
        [{"grade": "120"}],
    ]
    first, second = [await vendor.get(f"/v1/judgements?pupilId={id_}&asOf=2026-06-21&first=1&fields=grade") for _ in range(2)]
    assert first.headers["etag"] == second.headers["etag"]
    other = (await vendor.get(f"/v1/judgements?pupilId={id_}&asOf=2026-01-10&first=1&fields=grade")).headers["etag"]
    assert other != first.headers["etag"]


async def test_a_class_is_who_was_in_it(trust: Trust) -> None:
    vendor = trust.made[0]
    members = [{"reference": "P1", "to": "2018-03-31"}, {"reference": "P2", "from": "2018-04-01"}]
    group = {"code": "6W", "name": "6 Willow", "kind": "class", "members": members}
    body = {"school": {"urn": URNS["Oak"]}, "academicYear": "2017-18", "asOf": "2017-09-05", "entries": [group]}
    id_ = (await sent(vendor, "/v1/groups", body, Prefer="return=representation"))["results"][0]["id"]
    for day, number in (("2018-02-01", 1), ("2018-04-02", 2)):
        url = f"/v1/groups/{id_}/pupils?asOf={day}&fields=id,judgements.grade&include=judgements&judgements.asOf=2026-01-10"
        (row,) = (await vendor.get(url)).json()["data"]
        assert (row["id"], row["judgements"]["data"]) == (await _find(trust, number), [{"grade": "100"}])
        query = '{ group(id: "%s") { pupils(asOf: "%s") { nodes { id } } } }'
        assert (await asked(vendor, query % (id_, day)))["group"]["pupils"]["nodes"] == [{"id": row["id"]}]
    both = await vendor.get(f"/v1/groups/{id_}/pupils?asOf=2018-02-01&on=2018-02-01")
    assert (both.status_code, both.json()["issues"][0]["code"]) == (400, "parameter-repeated")


@pytest.mark.parametrize(
    "url", ["/v1/judgements?asOf=yesterday", "/v1/windows?asOf=2026-01-01", "/v1/judgements?asOf=2026-01-01&asOf=2026-01-02"]
)
async def test_what_is_no_day_is_refused(trust: Trust, url: str) -> None:
    assert (await trust.made[0].get(url)).status_code == 400
