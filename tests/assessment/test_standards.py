"""What a window counts by versions of schemes: standards that are told later or do not exist, conjunctions, and windows that are pinned anew."""

from typing import Any

import pytest

from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.recount import miscounted
from tests.fixtures.small_trust import TRUST, Trust, asked, batch, counted, entry, issues, judged, opened, roll, sent, window

OWN = {"trust": {"groupUid": TRUST}}
PUPILS = range(10)
EXCLUDED = [("Elm", "no-place"), ("Ash", "nobody-eligible")]
TERM = {"academicYear": "2025-26", "censusOn": "2026-05-14", "closesAt": "2099-07-31T17:00:00Z"}


@pytest.fixture
def fill_trust() -> Filling:
    return record_two_years


async def record_two_years(trust: Trust) -> None:
    client = await register_vendor(trust)
    for day in ("2024-05-01", "2026-05-01"):
        await sent(client, "/v1/pupils", roll("Oak", [entry(n, dateOfBirth="2014-01-01") for n in PUPILS], asOf=day))
        await sent(client, "/v1/pupils", roll("Elm", [entry(n, dateOfBirth="2014-01-01") for n in range(20, 30)], asOf=day))


async def figures(client: Any, window: str, subject: str, by: str = "school") -> dict[str, tuple[Any, ...]]:
    """By school, the counts of the standards and why there are none, the same in both interfaces."""
    rows = (await client.get(f"/v1/aggregates?window={window}&subject={subject}&groupBy={by}")).json()["data"]
    graphql = await client.post(
        "/graphql",
        json={
            "query": f'{{ aggregates(window: "{window}", subject: "{subject}", groupBy: [{by}]) {{ nodes '
            "{ schoolName expected expectedStatus higher higherStatus } } }"
        },
    )
    names = ("expected", "expectedStatus", "higher", "higherStatus")
    found = {row["schoolName"]: tuple(row[name] for name in names) for row in rows}
    assert {row["schoolName"]: tuple(row[n] for n in names) for row in graphql.json()["data"]["aggregates"]["nodes"]} == found
    return found


async def judge(client: Any, window: str, subject: str, grades: Any, at: str = "Oak", first: int = 0) -> None:
    entries = [judged(first + n, subject, grade) for n, grade in enumerate(grades)]
    assert counted(await sent(client, "/v1/judgements", batch(at, entries, window=window)))["created"] == len(entries)


SCORES = [0, 10, 31, 32, 33, 40, "A", "Q", "D", 32]


async def standards(vendor: Any, window: str) -> list[tuple[bool | None, bool | None]]:
    """What each judgement of a window says of the expected and the higher standard, in both interfaces."""
    rows = (await vendor.get(f"/v1/judgements?windowCode={window}&fields=expected,higher")).json()["data"]
    query = "query($w: [String!]) { judgements(where: {windowCode: $w}) { nodes { expected higher } } }"
    assert (await asked(vendor, query, w=[window]))["judgements"]["nodes"] == rows
    return [(row["expected"], row["higher"]) for row in rows]


async def test_the_phonics_threshold_is_recorded_later(small_trust: Trust, vendor: Any) -> None:
    """In a year whose threshold is told it counts from 32 on; until then expected is x, and the next version tells it."""
    collects = [{"subject": "phonics", "scheme": "phonics"}]
    past = TERM | {"academicYear": "2023-24", "censusOn": "2024-05-14"}
    await opened(vendor, "told", collects=collects, **past)
    await judge(vendor, "told", "phonics", SCORES)
    assert (await figures(vendor, "told", "phonics"))["Oak"] == (4, None, None, "z")
    assert {expected for expected, _ in await standards(vendor, "told")} == {True, False}
    window_id = await opened(vendor, "later", collects=collects, **TERM)
    await judge(vendor, "later", "phonics", SCORES)
    assert (await figures(vendor, "later", "phonics"))["Oak"] == (None, "x", None, "z")
    assert {*await standards(vendor, "later")} == {(None, None)}
    scheme = (await vendor.get("/v1/schemes?code=phonics&fields=id")).json()["data"][0]["id"]
    grades = (await vendor.get(f"/v1/schemes/{scheme}/grades?schemeVersion=1&first=100")).json()["data"]
    names = ("code", "label", "rank", "value", "eligible", "valid")
    told = [{name: row[name] for name in names} | {"expected": (row["rank"] or 0) >= 33} for row in grades]
    await sent(vendor, f"/v1/schemes/{scheme}/versions", {"grades": told, "academicYears": ["2025-26"]}, 201)
    assert (await figures(vendor, "later", "phonics"))["Oak"] == (None, "x", None, "z")
    before = (await vendor.get(f"/v1/windows/{window_id}")).json()["version"]
    pinned = await sent(vendor, f"/v1/windows/{window_id}/repin")
    assert (pinned["state"], pinned["version"]) == ("open", before + 1)
    assert (await figures(vendor, "later", "phonics"))["Oak"] == (2, None, None, "z")
    rows = (await vendor.get("/v1/judgements?windowCode=later&first=50&fields=grade,expected,version")).json()["data"]
    assert sorted(row["grade"] for row in rows) == sorted(map(str, SCORES))
    assert {row["grade"] for row in rows if row["expected"]} == {"33", "40"}
    assert {row["version"] for row in rows} == {2}
    again = await sent(vendor, f"/v1/windows/{window_id}/repin")
    assert again["version"] == pinned["version"]
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_scheme_without_standards_has_no_percentages(small_trust: Trust, vendor: Any) -> None:
    mtc = (await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "mtc"}, 201))["id"]
    assert mtc
    await opened(vendor, "w", collects=[{"subject": "mtc", "scheme": "mtc"}], **TERM)
    await judge(vendor, "w", "mtc", [25, 20, "A", "NAA"])
    assert (await figures(vendor, "w", "mtc"))["Oak"] == (None, "z", None, "z")
    assert await standards(vendor, "w") == [(None, None)] * 4
    for standard in ("expected=false", "expected=true", "higher=false"):
        assert (await vendor.get(f"/v1/judgements?windowCode=w&{standard}")).json()["data"] == []
    row = (await vendor.get("/v1/aggregates?window=w&subject=mtc&groupBy=school")).json()["data"][0]
    assert (row["status"], row["valid"], row["average"], row["expectedPercent"]) == (None, 2, 22.5, None)
    table = (await vendor.get("/v1/aggregates?window=w&subject=mtc&groupBy=school&format=csv&shape=wide")).text.splitlines()
    assert table[1].split(",")[2:6] == ["10", "z", "z", "22.5"]


async def test_a_school_without_a_standard_enters_no_percentage_of_it(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "percent", "name": "Percent", "template": "percent"}, 201)
    own = [
        {"subject": "reading", "scheme": "percent", "schools": [{"urn": 100002}]},
        {"subject": "reading", "scheme": "ks2-scaled-score"},
    ]
    await opened(vendor, "w", collects=own, **TERM)
    await judge(vendor, "w", "reading", [100, 90, 110, 105, 120, 99, 95])
    await judge(vendor, "w", "reading", [50, 60, 70, 80, 90, 65, 15], "Elm", 20)
    by_school = await figures(vendor, "w", "reading")
    assert (by_school["Oak"], by_school["Elm"]) == ((4, None, 2, None), (None, "z", None, "z"))
    names = ("eligible", "expected", "expectedOf", "expectedPercent", "expectedStatus", "higher", "higherOf")
    for by, rows in (
        ("subject", [(20, 4, 10, 40, None, 2, 10)]),
        ("sex", [(10, 3, 5, 60, None, 2, 5), (10, 1, 5, 20, None, 0, 5)]),
    ):
        page = (await vendor.get(f"/v1/aggregates?window=w&subject=reading&groupBy={by}")).json()
        assert [tuple(row[name] for name in names) for row in page["data"]] == rows
        assert [(school["schoolName"], school["reason"]) for school in page["excluded"]] == EXCLUDED
        assert page["coverage"] == {"schools": 3, "contributing": 1}
    query = '{ aggregates(window: "w", subject: "reading", groupBy: [subject]) { nodes { expectedOf } excluded { schoolName reason } } }'
    told = (await asked(vendor, query))["aggregates"]
    assert [(school["schoolName"], school["reason"]) for school in told["excluded"]] == EXCLUDED
    assert told["nodes"] == [{"expectedOf": 10}]


async def test_a_conjunction_with_a_part_without_a_standard_enters_no_percentage(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "percent", "name": "Percent", "template": "percent"}, 201)
    parts = [{"subject": subject, "scheme": "ks2-writing-ta"} for subject in ("reading", "writing", "maths")]
    await opened(vendor, "w", collects=[{"subject": "maths", "scheme": "percent", "schools": [{"urn": 100002}]}, *parts], **TERM)
    for subject in ("reading", "writing", "maths"):
        await judge(vendor, "w", subject, ["EXS", "GDS", "WTS"])
        await judge(vendor, "w", subject, [50, 60, 70] if subject == "maths" else ["EXS", "GDS", "WTS"], "Elm", 20)
    for by in ("subject", "sex"):
        page = (await vendor.get(f"/v1/aggregates?window=w&subject=rwm&groupBy={by}")).json()
        sums = [sum(row[name] for row in page["data"]) for name in ("eligible", "valid", "expected", "expectedOf")]
        assert sums == [20, 6, 2, 10]
        assert [(school["schoolName"], school["reason"]) for school in page["excluded"]] == EXCLUDED
    by_school = await figures(vendor, "w", "rwm")
    assert (by_school["Oak"][0], by_school["Elm"][1]) == (2, "x")


@pytest.mark.parametrize(("larger", "is_told"), [("Oak", False), ("Elm", True)])
async def test_figures_of_some_schools_give_no_hidden_school_away(
    small_trust: Trust, vendor: Any, larger: str, is_told: bool
) -> None:
    """Ash has three pupils and is hidden, and with it the smaller of Oak and Elm. Where that is Elm, which has no standard, the number of
    those who have a place, less Oak's, would be Ash's.
    """
    for at, numbers in ((larger, range(50, 52)), ("Ash", range(40, 43))):
        joiners = [entry(n, dateOfBirth="2014-01-01") for n in numbers]
        await sent(vendor, "/v1/pupils", roll(at, joiners, asOf="2026-05-01"))
    await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "percent", "name": "Percent", "template": "percent"}, 201)
    own = {"subject": "reading", "scheme": "percent", "schools": [{"urn": 100002}]}
    await opened(vendor, "w", collects=[own, {"subject": "reading", "scheme": "ks2-scaled-score"}], **TERM)
    for at, first in (("Oak", 0), ("Elm", 20), ("Ash", 40)):
        await judge(vendor, "w", "reading", [100, 90, 100], at, first)
    portal = await small_trust.client("portal", f"trust:{TRUST}=aggregates:read")
    rows = (await portal.get("/v1/aggregates?window=w&subject=reading&groupBy=school")).json()["data"]
    assert {row["schoolName"] for row in rows if row["status"] == "c"} == {"Ash", "Oak" if is_told else "Elm"}
    (row,) = (await portal.get("/v1/aggregates?window=w&subject=reading&groupBy=subject")).json()["data"]
    assert (row["eligible"], row["expectedOf"], row["expectedStatus"]) == (25, *((13, None) if is_told else (None, "x")))
    rows = (await portal.get("/v1/aggregates?window=w&subject=reading&groupBy=sex")).json()["data"]
    assert {(row["expected"], row["expectedOf"], row["expectedStatus"]) for row in rows} == {(None, None, "x")}
    (row,) = (await vendor.get("/v1/aggregates?window=w&subject=reading&groupBy=subject")).json()["data"]
    assert (row["expected"], row["expectedOf"]) == (4, 13 if is_told else 15)


async def test_reading_writing_and_maths_hold_for_any_version(small_trust: Trust, vendor: Any) -> None:
    """The parts are judged in the second version of a scheme, and the conjunction is the same."""
    grades = [
        {"code": "E", "label": "Expected", "expected": True},
        {"code": "B", "label": "Below"},
        {"code": "L", "label": "Left", "eligible": False, "valid": False},
    ]
    made = await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "own", "name": "Own", "grades": grades[:2]}, 201)
    await sent(vendor, f"/v1/schemes/{made['id']}/versions", {"grades": [grades[2], *grades[:2]]}, 201)
    collects = [{"subject": subject, "scheme": "own"} for subject in ("reading", "writing", "maths")]
    await opened(vendor, "w", collects=collects, **TERM)
    await judge(vendor, "w", "reading", ["E", "E", "B", "L"])
    await judge(vendor, "w", "writing", ["E", "B", "B", "E"])
    await judge(vendor, "w", "maths", ["E", "E", "E", "E"])
    assert (await figures(vendor, "w", "rwm"))["Oak"] == (1, None, None, "z")
    row = (await vendor.get("/v1/aggregates?window=w&subject=rwm&groupBy=school")).json()["data"][0]
    assert (row["eligible"], row["valid"]) == (9, 3)
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_the_good_level_of_development(small_trust: Trust, vendor: Any) -> None:
    """Expected in all of E01 to E12, whatever E13 says; switched on after the window was judged, and adjusted from then on."""
    goals = [f"E{n:02}" for n in range(1, 14)]
    for goal in goals:
        await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": goal}, 201)
    await opened(vendor, "w", collects=[{"subject": goal, "scheme": "eyfsp-goal"} for goal in goals], **TERM)
    for goal in goals:
        first = {"E12": "1", "E13": "1"}.get(goal, "2")
        await judge(vendor, "w", goal, ["2", first, "2" if goal != "E03" else "A"])
    await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "gld"}, 201)
    assert (await figures(vendor, "w", "gld"))["Oak"] == (1, None, None, "z")
    changed = batch("Oak", [judged(1, "E12", "2")], window="w")
    assert counted(await sent(vendor, "/v1/judgements", changed)) == {"updated": 1}
    assert (await figures(vendor, "w", "gld"))["Oak"] == (2, None, None, "z")
    row = (await vendor.get("/v1/aggregates?window=w&subject=gld&groupBy=school")).json()["data"][0]
    assert (row["eligible"], row["valid"]) == (10, 2)
    assert await small_trust.value("SELECT count(*) FROM cells WHERE n < 0") == 0
    refused = await sent(vendor, "/v1/windows", {"x": 1}, 422)
    assert refused["issues"]


async def test_a_window_keeps_its_version_where_a_stored_grade_is_missing(small_trust: Trust, vendor: Any) -> None:
    grades = [{"code": "Low", "label": "Low"}, {"code": "High", "label": "High", "expected": True}]
    made = await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "own", "name": "Own", "grades": grades}, 201)
    window_id = await opened(vendor, "w", collects=[{"subject": "reading", "scheme": "own"}], **TERM)
    await judge(vendor, "w", "reading", ["Low", "High"])
    await sent(vendor, f"/v1/schemes/{made['id']}/versions", {"grades": [grades[1], {"code": "Mid", "label": "Mid"}]}, 201)
    refused = await sent(vendor, f"/v1/windows/{window_id}/repin", status=409)
    assert (issues(refused), "Low" in refused["detail"]) == ({"": "grade-missing"}, True)
    assert issues(await sent(vendor, "/v1/judgements", batch("Oak", [judged(2, grade="Mid")], window="w"), 422)) == {
        "/entries/0/grade": "grade-unknown"
    }
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(0, grade="High")], window="w"))
    await sent(vendor, f"/v1/windows/{window_id}/repin")
    await judge(vendor, "w", "reading", ["Mid"], first=2)
    await sent(vendor, f"/v1/windows/{window_id}/close")
    assert (await sent(vendor, f"/v1/windows/{window_id}/repin", status=409))["type"].endswith("/window-state")
    reader = await small_trust.client("reader", f"trust:{TRUST}=windows:read")
    other = await small_trust.client("other", "school:100004=all")
    await sent(reader, f"/v1/windows/{window_id}/repin", status=403)
    await sent(other, f"/v1/windows/{window_id}/repin", status=404)
    assert await miscounted(small_trust) == (0, 0, 0)


async def test_a_school_inside_a_trust_has_a_scheme_of_its_own(small_trust: Trust, vendor: Any) -> None:
    """Made by the school itself, copied for the trust, and retired; bands of a year are in their order."""
    elm = await small_trust.client("elm", "school:100002=schemes:read,schemes:write,judgements:read,judgements:write")
    bands = [("3B", "3", "B"), ("3At", "3", "At"), ("3A", "3", "A"), ("4B", "4", "B")]
    grades = [
        {"code": code, "label": code, "rank": n, "yearGroup": year, "band": band, "points": 10 * n}
        for n, (code, year, band) in enumerate(bands, 1)
    ]
    body = {"school": {"urn": 100002}, "code": "elms", "name": "Elm's", "grades": grades}
    assert issues(await sent(elm, "/v1/schemes", body | {"school": {"urn": 100001}}, 422)) == {"/school": "school-not-found"}
    assert issues(await sent(elm, "/v1/schemes", body | {"copyOf": "elms"}, 422))
    made = await sent(elm, "/v1/schemes", body, 201)
    row = (await vendor.get(f"/v1/schemes/{made['id']}?include=grades")).json()
    assert (row["schoolId"], row["retired"]) == (str(small_trust.ids["Elm"]), False)
    read = [(grade["code"], grade["rank"], grade["yearGroup"], grade["band"], grade["points"]) for grade in row["grades"]["data"]]
    assert read == [(code, n, year, band, 10 * n) for n, (code, year, band) in enumerate(bands, 1)]
    for schools in (None, [{"urn": 100001}], [{"urn": 100001}, {"urn": 100002}]):
        terms = window_of_elm(schools)
        assert issues(await sent(vendor, "/v1/windows", terms, 422)) == {"/collects/0/scheme": "scheme-of-school"}
    await opened(vendor, "w", collects=window_of_elm([{"urn": 100002}])["collects"], **TERM)
    await sent(elm, f"/v1/schemes/{made['id']}/versions", {"grades": grades[:2]}, 201)
    await judge(vendor, "w", "reading", ["3B", "3At", "4B"], "Elm", 20)
    copy = await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "copy", "name": "Copy", "copyOf": "elms"}, 201)
    assert (copy["version"], copy["grades"]) == (1, 2)
    unknown = await sent(vendor, "/v1/schemes", {"tenant": OWN, "code": "other", "name": "Copy", "copyOf": "elm"}, 422)
    assert issues(unknown) == {"/copyOf": "scheme-unknown"}
    assert issues(await sent(elm, "/v1/schemes", {"tenant": OWN, "code": "x", "name": "X", "copyOf": "elms"}, 422)) == {
        "/tenant/trust": "trust-not-found"
    }
    await sent(elm, f"/v1/schemes/{copy['id']}/retire", {}, 404)
    assert (await sent(vendor, f"/v1/schemes/{copy['id']}/retire", {}))["retired"] is True
    assert (await vendor.get(f"/v1/schemes/{copy['id']}")).json()["retired"] is True
    late = window("late", collects=[{"subject": "reading", "scheme": "copy"}], **TERM)
    assert issues(await sent(vendor, "/v1/windows", late, 422))["/collects/0/scheme"] == "scheme-unknown"
    await sent(elm, f"/v1/schemes/{copy['id']}/restore", {}, 404)
    assert await sent(vendor, f"/v1/schemes/{copy['id']}/restore", {}) == {"id": copy["id"], "code": "copy", "retired": False}
    assert (await vendor.get(f"/v1/schemes/{copy['id']}")).json()["retired"] is False
    assert (await sent(vendor, "/v1/windows?dryRun=true", late))["code"] == "late"
    statutory = (await vendor.get("/v1/schemes?code=ks2-writing-ta&fields=id")).json()["data"][0]["id"]
    for verb in ("retire", "restore"):
        assert (await sent(vendor, f"/v1/schemes/{statutory}/{verb}", {}, 409))["type"].endswith("/code-protected")


def window_of_elm(schools: Any) -> dict[str, Any]:
    line = {"subject": "reading", "scheme": "elms"} | ({} if schools is None else {"schools": schools})
    return window("elm", collects=[line], **TERM)


async def test_a_trust_declares_its_own_conjunctions(small_trust: Trust, vendor: Any) -> None:
    """English, the better of language and literature, with maths; at two thresholds; and two of three where science weighs two."""
    for code in ("language", "literature", "biology"):
        await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": code, "name": code.title()}, 201)
    english, maths = {"subjects": ["language", "literature"]}, {"subjects": ["maths"]}
    declared: dict[str, dict[str, Any]] = {
        "basics": {"combines": [english, maths]},
        "strong": {"combines": [english | {"threshold": "higher"}, maths | {"higherThreshold": None}]},
        "three": {"combines": [english, maths | {"required": True}, {"subjects": ["biology"], "weight": 2}], "leastWeight": 3},
    }
    collects = [{"subject": subject, "scheme": "ks2-writing-ta"} for subject in ("language", "literature", "maths", "biology")]
    await opened(vendor, "w", collects=collects, **TERM)
    marks = {
        "language": ["EXS", "WTS", "WTS", "GDS", "A"],
        "literature": ["WTS", "GDS", "WTS", None, "EXS"],
        "maths": ["EXS", "EXS", "GDS", "GDS", "EXS"],
        "biology": ["WTS", "EXS", "EXS", "WTS", "EXS"],
    }
    for subject, grades in marks.items():
        rows = [judged(n, subject, grade) for n, grade in enumerate(grades) if grade is not None]
        await sent(vendor, "/v1/judgements", batch("Oak", rows, window="w"))
    for code, more in declared.items():
        await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": code, "name": code.title(), **more}, 201)
    # expected and higher, by hand: basics 0, 1, 3, 4; strong 1 (GDS, EXS), 3; three: maths, and three points of weight, 1, 2 (2 + 1), 4
    expected = {"basics": (4, None, 1, None), "strong": (2, None, None, "x"), "three": (3, None, 0, None)}
    for code, found in expected.items():
        assert (await figures(vendor, "w", code))["Oak"] == found, code
        by_sex = (await vendor.get(f"/v1/aggregates?window=w&subject={code}&groupBy=sex&school=100001")).json()["data"]
        assert (sum(row["eligible"] for row in by_sex), sum(row["expected"] for row in by_sex)) == (10, found[0])
    assert await miscounted(small_trust) == (0, 0, 0)
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(0, "maths", "WTS")], window="w"))
    assert (await figures(vendor, "w", "basics"))["Oak"] == (3, None, 1, None)
    assert await miscounted(small_trust) == (0, 0, 0)
    row = (await vendor.get("/v1/subjects?code=three&include=parts")).json()["data"][0]
    assert (row["derived"], row["combines"], row["leastWeight"]) == (True, ["language", "literature", "maths", "biology"], 3)
    parts = {part["subjectCode"]: (part["slot"], part["weight"], part["required"]) for part in row["parts"]["data"]}
    assert parts == {"language": (0, 1, False), "literature": (0, 1, False), "maths": (1, 1, True), "biology": (2, 2, False)}
    wrong = {"combines": [{"subjects": ["nothing", "rwm", "maths"]}, {"subjects": ["maths"]}], "leastWeight": 9}
    assert issues(await sent(vendor, "/v1/subjects", {"tenant": OWN, "code": "x", "name": "X", **wrong}, 422)) == {
        "/combines/0/subjects/0": "subject-unknown",
        "/combines/0/subjects/1": "subject-derived",
        "/combines/1/subjects/0": "subject-repeated",
        "/leastWeight": "weight-unreachable",
    }
    judging = await sent(vendor, "/v1/judgements", batch("Oak", [judged(0, "basics", "EXS")], window="w"), 422)
    assert set(issues(judging)) == {"/entries/0/subject"}
    assert (await vendor.get(f"/v1/subjects/{row['id']}")).json()["retired"] is False
    await sent(vendor, f"/v1/subjects/{row['id']}/retire", {})
