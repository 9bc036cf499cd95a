"""Schools on schemes of their own, compared on the trust's common scale: drafted, signed, replaced; and conjunctions re-banded without a recount."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.fixtures.clock import freeze_clock
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.recount import miscounted
from tests.fixtures.sizes import choose_size
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, batch, entry, issues, judged, opened, roll, sent

OWN = {"trust": {"groupUid": TRUST}}
WINDOW, DAY = "2026-27/Autumn", datetime(2026, 10, 20, 9, tzinfo=UTC)
LATER = datetime(2026, 11, 20, 9, tzinfo=UTC)
TERM = {"academicYear": "2026-27", "censusOn": "2026-10-01", "opensAt": "2026-10-05T08:00:00Z", "closesAt": "2027-07-31T17:00:00Z"}
SUBJECTS = ("reading", "writing", "maths")
BANDS = [{"code": code, "label": code.title()} for code in ("well-below", "below", "at", "above")]
SCALE = {
    "tenant": OWN,
    "name": "Hedgerow's",
    "bands": BANDS,
    "expectedFrom": "at",
    "expectedLabel": "on track",
    "higherFrom": "above",
}
POINTS = [{"code": str(n), "label": f"{n} points", "rank": n, "points": n} for n in range(1, 7)]
WORDS = [{"code": code, "label": code, "rank": n} for n, code in enumerate(("Emerging", "Developing", "Secure"))] + [
    {"code": "Abs", "label": "Absent", "valid": False}
]
PERCENT = [
    {"fromGrade": "0", "toGrade": "39", "band": "below"},
    {"fromGrade": "40", "toGrade": "69", "band": "at"},
    {"fromGrade": "70", "toGrade": "100", "band": "above"},
]
SIGNED = {"name": "Ada Okafor", "role": "director of education"}
MARKS = {
    "Oak": {
        "reading": ["WTS", "EXS", "GDS", "EXS"],
        "writing": ["EXS", "EXS", "GDS", "WTS"],
        "maths": ["EXS", "EXS", "GDS", "EXS"],
    },
    "Elm": {subject: [35, 40, 69, 70] for subject in SUBJECTS},
    "Ash": {"reading": ["1", "3", "4", "6"], "writing": ["4", "4", "4", "6"], "maths": ["4", "5", "4", "6"]},
}
"""What each school judges of its four pupils: statutory grades, percentages and points."""
SCHOOLS = ("Oak", "Elm", "Ash")
FIGURES = ("eligible", "expected", "expectedOf", "higher", "higherOf")


@pytest.fixture
def fill_trust() -> Filling:
    return fill_three_schools


async def fill_three_schools(trust: Trust) -> None:
    """Three schools, each of four pupils who are judged in one night in the scheme of the school."""
    client = await register_vendor(trust)
    for scheme, more in (("points", {"grades": POINTS}), ("words", {"grades": WORDS}), ("percent", {"template": "percent"})):
        await sent(client, "/v1/schemes", {"tenant": OWN, "code": scheme, "name": scheme, **more}, 201)
    with freeze_clock(DAY):
        for i, school in enumerate(SCHOOLS):
            pupils = [entry(10 * i + n, dateOfBirth="2014-01-01") for n in range(4)]
            await sent(client, "/v1/pupils", roll(school, pupils, asOf="2026-09-30"))
        own = [
            {"subject": subject, "scheme": scheme, "schools": [{"urn": URNS[school]}]}
            for subject in SUBJECTS
            for school, scheme in (("Oak", "ks2-writing-ta"), ("Elm", "percent"), ("Ash", "points"))
        ]
        await opened(client, WINDOW, collects=own, **TERM | {"opensAt": "2026-11-05T08:00:00Z"})
        for i, school in enumerate(SCHOOLS):
            rows = [judged(10 * i + n, subject, grade) for subject, of in MARKS[school].items() for n, grade in enumerate(of)]
            await sent(client, "/v1/judgements", batch(school, rows, window=WINDOW))


async def figures(client: Any, subject: str, by: str = "subject", **more: Any) -> Any:
    """The summed figures of the trust by a dimension, the same in both interfaces, and the excluded schools with the reason."""
    page = (await client.get("/v1/aggregates", params={"window": WINDOW, "subject": subject, "groupBy": by} | more)).json()
    day = f', crosswalksOn: "{more["crosswalksOn"]}"' if more else ""
    query = f'{{ aggregates(window: "{WINDOW}", subject: "{subject}", groupBy: [{by}]{day}) {{ nodes {{ {" ".join(FIGURES)} }} basis {{ crosswalksOn }} }} }}'
    told = (await asked(client, query))["aggregates"]
    assert told["nodes"] == [{name: row[name] for name in FIGURES} for row in page["data"]]
    assert told["basis"]["crosswalksOn"] == page["basis"]["crosswalksOn"]
    sums = tuple(sum(row[name] or 0 for row in page["data"]) for name in FIGURES)
    return sums, {school["schoolName"]: school["reason"] for school in page["excluded"]}


async def everywhere(client: Any, subject: str, **more: Any) -> Any:
    """The same figures whatever they are grouped by: read of totals and of cells."""
    found = [await figures(client, subject, by, **more) for by in ("subject", "sex", "school", "yearGroup")[: choose_size(2, 4)]]
    assert all(each == found[0] for each in found), found
    return found[0]


async def drafted(client: Any, scheme: str, grades: Any, **more: Any) -> str:
    made = await sent(client, "/v1/crosswalks", {"tenant": OWN, "scheme": scheme, "grades": grades} | more, 201)
    return str(made["id"])


def band_points(bands: str) -> list[dict[str, Any]]:
    """Lines for 1 to 6 points: a letter each, of well-below, below, at, above, or - for not mapped."""
    names = {"w": "well-below", "b": "below", "a": "at", "A": "above", "-": None}
    return [{"grade": str(n), "band": names[band]} for n, band in enumerate(bands, 1)]


async def test_schools_on_four_schemes_are_compared_on_the_common_scale(small_trust: Trust, vendor: Any) -> None:
    versions = "SELECT sum(version) FROM school_versions"
    with freeze_clock(DAY):
        # no scale: the grades' own standards; percentages and points have none, and are neither above nor below
        assert await everywhere(vendor, "reading") == ((12, 3, 4, 1, 4), {"Elm": "no-place", "Ash": "no-place"})
        scale_id = (await sent(vendor, "/v1/common-scales", SCALE, 201))["id"]
        percent = await drafted(vendor, "percent", PERCENT)
        points = await drafted(vendor, "points", band_points("wwbaaA"))
        assert await everywhere(vendor, "reading") == ((12, 3, 4, 1, 4), {"Elm": "no-place", "Ash": "no-place"})
        await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED)
        dry = await sent(vendor, f"/v1/crosswalks/{percent}/sign?dryRun=true", SIGNED)
        assert (dry["dryRun"], len(dry["moved"]), sum(moved["judged"] for moved in dry["moved"])) == (True, 101, 12)
        assert next(moved for moved in dry["moved"] if moved["grade"] == "70") == {
            **{"scheme": "percent", "schemeVersion": 1, "grade": "70", "fromBand": None, "toBand": "above", "judged": 3},
            **{"wasExpected": None, "isExpected": True, "wasHigher": None, "isHigher": True},
        }
        assert await everywhere(vendor, "reading") == ((12, 3, 4, 1, 4), {"Elm": "no-place", "Ash": "no-place"})
        before, counted = await small_trust.value(versions), await cells_of(small_trust)
        signed = await sent(vendor, f"/v1/crosswalks/{percent}/sign", SIGNED)
        assert (signed["fromOn"], await small_trust.value(versions) > before) == ("2026-10-20", True)
        assert await everywhere(vendor, "reading") == ((12, 6, 8, 2, 8), {"Ash": "no-place"})
        assert await everywhere(vendor, "rwm") == ((12, 5, 8, 2, 8), {"Ash": "no-place"})
        assert await cells_of(small_trust) == counted
    with freeze_clock(LATER):
        moved = (await sent(vendor, f"/v1/crosswalks/{points}/sign", SIGNED))["moved"]
        assert {row["grade"]: row["toBand"] for row in moved} == dict(zip("123456", BAND_NAMES, strict=True))
        assert await everywhere(vendor, "reading") == ((12, 8, 12, 3, 12), {})
        # by hand: Ash's pupils have 1/4/4, 3/4/5, 4/4/4 and 6/6/6 in reading, writing and maths
        assert await everywhere(vendor, "rwm") == ((12, 7, 12, 3, 12), {})
        assert await everywhere(vendor, "reading", crosswalksOn="2026-10-31") == ((12, 6, 8, 2, 8), {"Ash": "no-place"})
        assert await everywhere(vendor, "rwm", crosswalksOn="2026-10-31") == ((12, 5, 8, 2, 8), {"Ash": "no-place"})
        assert (await everywhere(vendor, "reading", crosswalksOn="2026-10-01"))[0] == (12, 3, 4, 1, 4)
        again = (await vendor.get(f"/v1/aggregates?window={WINDOW}&groupBy=subject&crosswalksOn=2026-10-31")).json()["basis"]
        assert again["judgements"] == "current"
        assert again["scale"] == {"id": scale_id, "name": "Hedgerow's", "expectedLabel": "on track", "higherLabel": None}


BAND_NAMES = ("well-below", "well-below", "below", "at", "at", "above")


async def cells_of(trust: Trust) -> list[Any]:
    """Every cell and total, with who wrote it."""
    return [
        await trust.operator.fetch(f"SELECT ctid::text, xmin::text FROM {table} ORDER BY 1")
        for table in ("cells", "totals", "conjunction_cells")
    ]


async def test_rebanded_conjunctions_equal_a_recount(small_trust: Trust, vendor: Any) -> None:
    """Three crosswalks one after another, and each time every pupil by hand."""
    with freeze_clock(LATER):
        scale_id = (await sent(vendor, "/v1/common-scales", SCALE | {"higherLabel": "deep"}, 201))["id"]
        await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED)
        signed: list[str] = []
        for bands in ("wwbaaA", "waaAAA", "---aaA", "bbbbba"):
            crosswalk_id = await drafted(vendor, "points", band_points(bands))
            await sent(vendor, f"/v1/crosswalks/{crosswalk_id}/sign", SIGNED)
            pupils = [tuple(bands[int(MARKS["Ash"][subject][n]) - 1] for subject in SUBJECTS) for n in range(4)]
            placed = [parts for parts in pupils if "-" not in parts]
            expected = sum(all(part in "aA" for part in parts) for parts in placed)
            higher = sum(all(part == "A" for part in parts) for parts in placed)
            found, excluded = await everywhere(vendor, "rwm")
            assert found == (12, 2 + expected, 4 + len(placed), 1 + higher, 4 + len(placed))
            assert excluded == {"Elm": "no-place"}
            signed.append(crosswalk_id)
        # whoever signed the first has gone: the renewed signature does not put it back in the place of the last
        renewed = await sent(vendor, f"/v1/crosswalks/{signed[0]}/sign", SIGNED | {"name": "Bo Lund"})
        assert renewed["moved"] == []
        assert (await everywhere(vendor, "rwm"))[0] == found
        await sent(vendor, "/v1/judgements", batch("Ash", [judged(20, "reading", "6")], window=WINDOW))
        assert await everywhere(vendor, "rwm") == ((12, 3, 8, 1, 8), {"Elm": "no-place"})
        assert await miscounted(small_trust) == (0, 0, 0)


async def test_what_cannot_be_drafted_or_signed(small_trust: Trust, vendor: Any) -> None:
    wrong = SCALE | {"bands": [BANDS[0], BANDS[0]], "expectedFrom": "x", "higherFrom": "y"}
    assert issues(await sent(vendor, "/v1/common-scales", wrong, 422)) == {
        "/bands/1/code": "duplicate-band",
        "/expectedFrom": "band-unknown",
        "/higherFrom": "band-unknown",
    }
    low = SCALE | {"higherFrom": "below"}
    assert issues(await sent(vendor, "/v1/common-scales", low, 422)) == {"/higherFrom": "wrong-value"}
    without = await sent(vendor, "/v1/crosswalks", {"tenant": OWN, "scheme": "points", "grades": band_points("wwbaaA")}, 422)
    assert issues(without) == {"/scale": "scale-unknown"}
    scale_id = (await sent(vendor, "/v1/common-scales", SCALE, 201))["id"]
    lines = [
        {"grade": "1", "band": "nowhere"},
        {"fromGrade": "3", "toGrade": "2", "band": "at"},
        {"grade": "9", "band": None},
        {"fromGrade": "1", "toGrade": "4", "band": None},
    ]
    body = {"tenant": OWN, "scheme": "points", "grades": lines}
    assert issues(await sent(vendor, "/v1/crosswalks", body, 422)) == {
        "/grades/0/band": "band-unknown",
        "/grades/1": "range-invalid",
        "/grades/2/grade": "grade-unknown",
        "/grades": "grades-unmapped",
    }
    assert (
        issues(await sent(vendor, "/v1/crosswalks", body | {"scheme": "rwm", "grades": lines[:1]}, 422))["/scheme"]
        == "scheme-derived"
    )
    version = await sent(vendor, "/v1/crosswalks", body | {"schemeVersion": 7, "grades": lines[2:3]}, 422)
    assert issues(version) == {"/schemeVersion": "version-unknown"}
    await sent(vendor, "/v1/crosswalks", body | {"grades": [{"band": "at"}]}, 422)
    with freeze_clock(LATER):
        past = await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED | {"fromOn": "2026-11-19"}, 422)
        assert issues(past) == {"/fromOn": "from-in-past"}
        await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED | {"fromOn": "2026-12-01"})
        other = await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED | {"fromOn": "2026-12-02"}, 422)
        assert issues(other) == {"/fromOn": "signed-already"}
        # the one who signed has gone, and another renews the signature
        renewed = await sent(vendor, f"/v1/common-scales/{scale_id}/sign", {"name": "Bo Lund", "role": "trust lead"})
        assert (renewed["fromOn"], renewed["moved"], renewed["version"]) == ("2026-12-01", [], 3)
        scale = (await vendor.get(f"/v1/common-scales/{scale_id}")).json()
        assert (scale["signedBy"], scale["signerRole"], scale["fromOn"]) == ("Bo Lund", "trust lead", "2026-12-01")
        assert (await figures(vendor, "reading"))[0] == (12, 3, 4, 1, 4)
    crosswalk_id = await drafted(vendor, "points", band_points("wwb-aA"))
    rows = (await vendor.get(f"/v1/crosswalks/{crosswalk_id}/grades?fields=grade,band")).json()["data"]
    assert [row["band"] for row in rows] == ["well-below", "well-below", "below", None, "at", "above"]
    reader = await small_trust.client("reader", f"trust:{TRUST}=schemes:read,aggregates:read")
    school = await small_trust.client("school", "school:100001=all")
    other = await small_trust.client("other", "school:100004=all")
    await sent(reader, f"/v1/crosswalks/{crosswalk_id}/sign", SIGNED, 403)
    for client in (school, other):
        await sent(client, f"/v1/crosswalks/{crosswalk_id}/sign", SIGNED, 404)
        await sent(client, f"/v1/common-scales/{scale_id}/sign", SIGNED, 404)
    assert (await other.get("/v1/common-scales")).json()["data"] == []
    bad = await vendor.get("/v1/aggregates?groupBy=subject&window=x&crosswalksOn=yesterday")
    assert (bad.status_code, issues(bad.json())["crosswalksOn"]) == (400, "parameter-invalid")


async def test_readiness_says_what_stops_each_school_and_who_can_mend_it(small_trust: Trust, vendor: Any) -> None:
    trust_id = str(small_trust.ids["trust"])

    async def read(client: Any) -> dict[str, list[tuple[Any, ...]]]:
        """By school, what stops it: the same in both interfaces."""
        answer = (await client.get(f"/v1/trusts/{trust_id}/readiness")).json()
        names = "schoolName ready judged obstacles { code mender scope scheme schemeVersion judged }"
        told = (await asked(client, f'{{ readiness(trust: "{trust_id}") {{ on schools {{ {names} }} }} }}'))["readiness"]
        keep = {"schoolName", "ready", "judged", "obstacles"}
        schools = [{name: value for name, value in school.items() if name in keep} for school in answer["schools"]]
        assert told == {"on": answer["on"], "schools": schools}
        assert all(school["ready"] == (not school["obstacles"]) for school in schools)
        return {
            school["schoolName"]: [(o["code"], o["mender"], o["scheme"], o["judged"]) for o in school["obstacles"]]
            for school in schools
        }

    with freeze_clock(LATER):
        unplaced = {"Oak": [], "Elm": [("no-standard", "trust", "percent", 12)], "Ash": [("no-standard", "trust", "points", 12)]}
        assert await read(vendor) == unplaced
        scale_id = (await sent(vendor, "/v1/common-scales", SCALE, 201))["id"]
        await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED)
        crosswalk_id = await drafted(vendor, "points", band_points("-wbaaA"))
        waiting = {"Oak": [], "Elm": [("no-crosswalk", "trust", "percent", 12)], "Ash": [("no-crosswalk", "trust", "points", 12)]}
        assert await read(vendor) == waiting
        await sent(vendor, f"/v1/crosswalks/{crosswalk_id}/sign", SIGNED)
        assert (await read(vendor))["Ash"] == [("not-mapped", "trust", "points", 1)]
        internal = await small_trust.client("internal", "school:100002=aggregates:internal", f"trust:{TRUST}=aggregates:read")
        assert await read(internal) == {"Elm": waiting["Elm"]}
    next_year = datetime(2027, 10, 1, 9, tzinfo=UTC)
    with freeze_clock(next_year):
        assert await read(vendor) == {school: [("not-collected", "trust", None, 0)] for school in SCHOOLS}
    portal = await small_trust.client("portal", f"trust:{TRUST}=aggregates:read")
    other = await small_trust.client("other", "school:100004=all")
    assert (await portal.get(f"/v1/trusts/{trust_id}/readiness")).status_code == 403
    for url in (f"/v1/trusts/{trust_id}/readiness", "/v1/trusts/nowhere/readiness"):
        assert (await other.get(url)).status_code == 404
    assert (await asked(other, f'{{ readiness(trust: "{trust_id}") {{ on }} }}'))["readiness"] is None
