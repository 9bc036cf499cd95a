"""Who is on target, with every combination of horizons, schemes, late targets and closed windows; by bands, by ranks, and as of a day."""

from collections import Counter
from datetime import UTC, datetime
from itertools import product
from typing import Any, NamedTuple

import pytest

from tests.fixtures.clock import freeze_clock
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, batch, counted, entry, judged, opened, roll, sent

OWN = {"trust": {"groupUid": TRUST}}
DAY, LATER = datetime(2026, 10, 20, 9, tzinfo=UTC), datetime(2026, 10, 26, 9, tzinfo=UTC)
TERM = {"academicYear": "2026-27", "censusOn": "2026-10-01", "opensAt": "2027-01-05T08:00:00Z", "closesAt": "2027-07-31T17:00:00Z"}
NEAR, FAR, PAST = ("2026-27", "KS2"), ("2026-27", "end-of-year"), ("2025-26", "summer")
HORIZONS = ((), (NEAR,), (FAR,), (PAST,), (FAR, NEAR), (PAST, FAR))
EARLY, LATE = "2026-10-10T09:00:00Z", "2026-10-24T09:00:00Z"
SCHEMES: dict[str, tuple[list[str], dict[str, str]]] = {
    "points": (["1", "2", "3", "4", "5"], {"1": "low", "2": "low", "3": "middle", "4": "high", "5": "high"}),
    "words": (["Emerging", "Developing", "Secure"], {"Emerging": "low", "Developing": "middle", "Secure": "high"}),
    "other": (["A", "B"], {}),
}
"""The grades of each scheme, and their bands: of the last there is no crosswalk."""
BANDS = ["low", "middle", "high"]
GOALS = {
    "points": {NEAR: "4", FAR: "3", PAST: "5"},
    "words": {NEAR: "Developing", FAR: "Emerging", PAST: "Secure"},
    "other": dict.fromkeys((NEAR, FAR, PAST), "A"),
}
GRADE = "3"
"""What each pupil is judged, in points."""
NAMES = {"above": "above", "onTarget": "on", "below": "below", "noTarget": "no-target", "notComparable": "not-comparable"}


class Case(NamedTuple):
    """A pupil: the horizons of the targets in the order in which they were set, the scheme of all, and which were set late."""

    horizons: tuple[tuple[str, str], ...]
    scheme: str
    late: tuple[tuple[str, str], ...]

    def judge(self, *, is_closed: bool, by_band: bool) -> str:
        """By hand: what is right."""
        for horizon in (NEAR, FAR):
            if horizon in self.horizons and not (is_closed and horizon in self.late):
                return compare(GRADE, self.scheme, GOALS[self.scheme][horizon], by_band=by_band)
        return "no-target"


def compare(grade: str, scheme: str, goal: str, *, by_band: bool) -> str:
    order, bands = SCHEMES[scheme]
    if by_band and goal in bands:
        difference = BANDS.index(SCHEMES["points"][1][grade]) - BANDS.index(bands[goal])
    elif scheme == "points":
        difference = order.index(grade) - order.index(goal)
    else:
        return "not-comparable"
    return "on" if difference == 0 else "above" if difference > 0 else "below"


CASES = list(
    dict.fromkeys(
        Case(horizons, scheme, tuple(h for h in horizons if h in late))
        for horizons, scheme, late in product(HORIZONS, SCHEMES, ((), (NEAR,), (NEAR, FAR)))
    )
)


@pytest.fixture
def fill_trust() -> Filling:
    return fill_trust_with_targets


async def fill_trust_with_targets(trust: Trust) -> None:
    """Each pupil of the table at Oak, judged in a window that has closed and in one that is open, with the targets of the case; no scale is in force."""
    client = await register_vendor(trust)
    for scheme, (grades, _) in SCHEMES.items():
        made = [{"code": code, "label": code, "rank": rank} for rank, code in enumerate(grades)]
        await sent(client, "/v1/schemes", {"tenant": OWN, "code": scheme, "name": scheme, "grades": made}, 201)
    with freeze_clock(DAY):
        pupils = [entry(n, dateOfBirth="2014-01-01") for n in range(len(CASES))]
        await sent(client, "/v1/pupils", roll("Oak", pupils, asOf="2026-09-30"))
        for code in ("closed", "open"):
            id_ = await opened(client, code, collects=[{"subject": "reading", "scheme": "points"}], **TERM)
            rows = [judged(n, grade=GRADE) for n in range(len(CASES))]
            await sent(client, "/v1/judgements", batch("Oak", rows, window=code))
            if code == "closed":
                await sent(client, f"/v1/windows/{id_}/close")
        for late in (False, True):
            targets = [
                aim(n, case.scheme, GOALS[case.scheme][horizon], horizon, LATE if late else EARLY)
                for n, case in enumerate(CASES)
                for horizon in case.horizons
                if (horizon in case.late) == late
            ]
            created = await sent(client, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": targets})
            assert counted(created) == {"created": len(targets)}


def aim(number: int, scheme: str, grade: str, horizon: tuple[str, str], at: str) -> dict[str, Any]:
    said = {"grade": grade, "scheme": scheme, "basis": "teacher", "recordedAt": at, "visibility": "school"}
    return {"reference": f"P{number}", "subject": "reading", "horizon": {"academicYear": horizon[0], "point": horizon[1]}} | said


async def read(client: Any, code: str, **more: str) -> list[str]:
    """The outcome of each pupil in a window, the same in both interfaces, as a field and as a filter."""
    fields = "targetOutcome,againstTarget,againstTargetId,pupil.reference"
    params = {"windowCode": code, "fields": fields, "include": "pupil", "first": 200} | more
    rows = (await client.get("/v1/judgements", params=params)).json()["data"]
    day = f', asOf: "{more["asOf"]}"' if more else ""
    selection = "nodes { targetOutcome againstTarget againstTargetId pupil { reference } }"
    nodes = (await asked(client, f'{{ judgements(first: 200{day}, where: {{windowCode: ["{code}"]}}) {{ {selection} }} }}'))["judgements"]["nodes"]  # fmt: skip
    by_reference = {row["pupil"]["reference"]: row for row in rows}
    assert by_reference == {node["pupil"]["reference"]: node for node in nodes}
    for row in rows:
        is_verdict = row["targetOutcome"] in ("above", "on", "below")
        assert row["againstTarget"] == (row["targetOutcome"] if is_verdict else None)
        assert (row["againstTargetId"] is None) == (row["targetOutcome"] == "no-target")
    below = (await client.get("/v1/judgements", params=params | {"againstTarget": "below", "sort": "againstTarget"})).json()["data"]
    assert len(below) == sum(row["againstTarget"] == "below" for row in rows)
    return [by_reference[f"P{n}"]["targetOutcome"] for n in range(len(rows))]


async def check(client: Any, *, by_band: bool, **more: str) -> None:
    for code in ("closed", "open"):
        was_open = more.get("asOf", "9999") < "2026-10-20"
        right = [case.judge(is_closed=code == "closed" and not was_open, by_band=by_band) for case in CASES]
        assert dict(zip(CASES, await read(client, code, **more), strict=True)) == dict(zip(CASES, right, strict=True)), (code, more)
        counts = Counter(right)
        params = {"windowCode": code, "fields": f"{','.join(NAMES)},notJudged,eligible"} | more
        (row,) = (await client.get("/v1/target-outcomes", params=params)).json()["data"]
        day = f', asOf: "{more["asOf"]}"' if more else ""
        query = f'{{ targetOutcomes(where: {{windowCode: ["{code}"]}}{day}) {{ nodes {{ {" ".join(row)} }} }} }}'
        assert (await asked(client, query))["targetOutcomes"]["nodes"] == [row]
        assert row == {name: counts[outcome] for name, outcome in NAMES.items()} | {"notJudged": 0, "eligible": len(CASES)}


async def check_days(client: Any) -> None:
    """Counts of a day to come are those of today, nobody was judged before the values arrived, and a window counts from its opening on."""
    names = ("eligible", "notJudged", "above", "schoolId", "windowCode")
    params = {"fields": ",".join(names), "sort": "windowCode"}

    async def read_outcomes(**more: str) -> Any:
        return (await client.get("/v1/target-outcomes", params=params | more)).json()["data"]

    assert await read_outcomes() == await read_outcomes(asOf="2099-01-01") == await read_outcomes(asOf=str(LATER.date()))
    before = await read_outcomes(asOf="2026-10-11")
    assert [(row["eligible"], row["notJudged"]) for row in before] == [(len(CASES), len(CASES))] * 2
    assert await read_outcomes(asOf="2026-10-04") == []
    text = (await client.get("/v1/target-outcomes", params=params | {"asOf": "2026-10-21", "format": "csv"})).text
    assert len(text.splitlines()) == 3


async def test_every_combination_by_ranks_then_by_bands_and_as_of_the_days_before(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(DAY):
        await check(vendor, by_band=False)
        bands = [{"code": band, "label": band} for band in BANDS]
        scale = {"tenant": OWN, "name": "Ours", "bands": bands, "expectedFrom": "middle", "higherFrom": "high"}
        signed = {"name": "Ada Okafor", "role": "director of education"}
        scale_id = (await sent(vendor, "/v1/common-scales", scale, 201))["id"]
        await sent(vendor, f"/v1/common-scales/{scale_id}/sign", signed)
        await check(vendor, by_band=False)  # no crosswalk yet: nothing goes dark
        for scheme in ("points", "words"):
            grades = [{"grade": grade, "band": band} for grade, band in SCHEMES[scheme][1].items()]
            walk = (await sent(vendor, "/v1/crosswalks", {"tenant": OWN, "scheme": scheme, "grades": grades}, 201))["id"]
            await sent(vendor, f"/v1/crosswalks/{walk}/sign", signed)
        await check(vendor, by_band=True)
    for table in ("judgements", "targets"):
        await small_trust.operator.execute(f"UPDATE {table} SET received_at = '2026-10-12T09:00:00Z'")
    await small_trust.operator.execute("UPDATE windows SET opens_at = '2026-10-05T09:00:00Z'")
    with freeze_clock(LATER):
        await check(vendor, by_band=False, asOf="2026-10-19")
        await check_days(vendor)
        await check(vendor, by_band=True, asOf="2026-10-21")
        # a target that is changed afterwards changes nothing of the day before, and is compared by bands: 4 and 5 are one
        number = CASES.index(Case((NEAR,), "points", ()))
        changed = [aim(number, "points", "5", NEAR, "2026-10-25T09:00:00Z")]
        await sent(vendor, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": changed})
        await small_trust.operator.execute("UPDATE target_history SET until = '2026-10-25T09:00:00Z'")
        await sent(vendor, "/v1/judgements", batch("Oak", [judged(number, grade="4")], window="open"))
        assert (await read(vendor, "open"))[number] == "on"
        await small_trust.operator.execute("UPDATE judgement_history SET until = '2026-10-25T09:00:00Z'")
        await check(vendor, by_band=True, asOf="2026-10-21")


async def test_one_grade_has_the_place_that_all_have(small_trust: Trust, vendor: Any) -> None:
    """find_places says of single grades what list_places says of all, on each day: statutory and own schemes, mapped and not."""
    scale = {"tenant": OWN, "name": "Ours", "expectedFrom": "c", "higherFrom": "d"}
    signed = {"name": "Ada Okafor", "role": "director of education"}
    with freeze_clock(DAY):
        for day, codes, higher in (("2026-10-21", "abcd", "d"), ("2026-11-01", "bcd", None), ("2026-11-02", "dc", "c")):
            bands = [{"code": code, "label": code} for code in codes]
            body = scale | {"bands": bands, "higherFrom": higher, "expectedFrom": "d" if codes == "dc" else "c"}
            id_ = (await sent(vendor, "/v1/common-scales", body, 201))["id"]
            await sent(vendor, f"/v1/common-scales/{id_}/sign", signed | {"fromOn": day})
        lines = [{"fromGrade": "1", "toGrade": "3", "band": "a"}, {"grade": "4", "band": None}, {"grade": "5", "band": "d"}]
        body = {"tenant": OWN, "scale": await first_scale(vendor), "scheme": "points", "grades": lines}
        walk = (await sent(vendor, "/v1/crosswalks", body, 201))["id"]
        await sent(vendor, f"/v1/crosswalks/{walk}/sign", signed)
    tenant = small_trust.ids["trust"]
    for day in ("2026-10-20", "2026-10-21", "2026-11-01", "2026-11-02"):
        different = await small_trust.operator.fetch(
            "SELECT g.scheme_version_no, g.no, f.*, l.band_no AS listed, l.expected AS listed_expected FROM grades g"
            " LEFT JOIN LATERAL find_places($1, $2::text::date, ARRAY[g.scheme_version_no], ARRAY[g.no]) f ON true"
            " LEFT JOIN list_places($1, $2::text::date) l ON l.scheme_version_no = g.scheme_version_no AND l.grade_no = g.no"
            " WHERE g.tenant_id = $1 AND find_scale($1, $2::text::date) IS NOT NULL"
            " AND (f.band_no, f.expected) IS DISTINCT FROM (l.band_no, l.expected)",
            tenant,
            day,
        )
        assert different == [], day
    placed = await small_trust.value("SELECT count(band_no) FROM list_places($1, '2026-11-01')", tenant)
    assert placed > 50


async def first_scale(client: Any) -> str:
    rows = (await client.get("/v1/common-scales?fields=id,bands")).json()["data"]
    return str(next(row["id"] for row in rows if row["bands"] == [*"abcd"]))
