"""How pupils moved between two windows: every pupil by hand, of four schools in four schemes; the change of values; and who may ask what."""

import csv
import io
import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest

from domain.aggregates.transitions import _compute_mean
from tests.fixtures.clock import freeze_clock
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import TRUST, URNS, Trust, asked, batch, entry, issues, judged, opened, roll, sent

OWN = {"trust": {"groupUid": TRUST}}
DAY, LATER = datetime(2026, 10, 20, 9, tzinfo=UTC), datetime(2026, 11, 20, 9, tzinfo=UTC)
FROM, TO = "2025-26/Summer", "2026-27/Autumn"
TERMS = {
    FROM: {"academicYear": "2025-26", "censusOn": "2026-05-21", "opensAt": "2027-01-05T08:00:00Z"},
    TO: {"academicYear": "2026-27", "censusOn": "2026-10-01", "opensAt": "2027-01-05T08:00:00Z"},
}
SCHEMES = {"Oak": "ks2-writing-ta", "Elm": "percent", "Ash": "points", "Quay": "words"}
POINTS = [{"code": str(n), "label": str(n), "rank": n, "points": n} for n in range(1, 7)]
WORDS = [{"code": code, "label": code, "rank": n} for n, code in enumerate(("Emerging", "Developing", "Secure"))]
WORDS.append({"code": "Abs", "label": "Absent", "valid": False})
BANDS = ["well-below", "below", "at", "above"]
SIGNED = {"name": "Ada Okafor", "role": "director of education"}
WALKS = {
    "percent": [("0", "39", "below"), ("40", "69", "at"), ("70", "100", "above")],
    "words": [("Emerging", "Emerging", "well-below"), ("Developing", "Developing", "below"), ("Secure", "Secure", None)],
    "points": [("1", "2", "well-below"), ("3", "3", "below"), ("4", "5", "at"), ("6", "6", "above")],
}


class Child(NamedTuple):
    """A pupil: the school on each census day, the grade in each window, and why the pupil is left out by hand, where that needs no scale."""

    before: str | None
    after: str | None
    grades: tuple[Any, Any] = (None, None)
    why: str | None = None
    more: str | None = None


CHILDREN = [
    *(Child("Oak", "Oak", grades) for grades in (("WTS", "EXS"), ("WTS", "WTS"), ("EXS", "GDS"), ("EXS", "GDS"), ("GDS", "EXS"))),
    *(Child("Elm", "Elm", grades) for grades in ((35, 40), (69, 41), (70, 100), (10, 20))),
    *(Child("Ash", "Ash", grades) for grades in (("1", "3"), ("3", "6"), ("4", "5"), ("5", "4"), ("6", "1"), ("4", "5"))),
    *(Child("Quay", "Quay", grades) for grades in (("Emerging", "Developing"), ("Developing", "Secure"), ("Secure", "Secure"))),
    Child("Oak", None, ("EXS", None), "left"),
    Child(None, "Oak", (None, "EXS"), "new"),
    Child("Oak", "Elm", ("EXS", 50), "to-another-school"),
    Child("Elm", "Elm", (50, None), "not-judged-to"),
    Child("Elm", "Elm", (None, 50), "not-judged-from"),
    Child("Elm", "Elm", (None, None), "not-judged"),
    Child("Quay", "Quay", ("Secure", "Abs"), "not-judged-to"),
    Child("Oak", "Oak", ("EXS", "GDS"), "discounted", "discount"),
    Child("Oak", "Oak", (None, "EXS"), "not-collected", "year"),
]
TURNS = {"to-another-school": "from-another-school"}


def hand_count(phase: int) -> Counter[tuple[Any, ...]]:
    """The matrix by hand: (school, by, from, to, moved, why) and how many pupils. Phase 0 has no scale, 1 has one and no crosswalk of points, 2 has all."""
    found: Counter[tuple[Any, ...]] = Counter()
    for child in CHILDREN:
        if child.why is not None:
            found[child.before or child.after, None, None, None, None, child.why] += 1
            if child.why in TURNS:
                found[child.after, None, None, None, None, TURNS[child.why]] += 1
            continue
        scheme = SCHEMES[str(child.before)]
        ends = [place(scheme, grade, phase) for grade in child.grades]
        by, names, numbers = compare(scheme, ends, child.grades)
        if by is None:
            missing = [end is None for end in ends]
            why = "not-placed" if all(missing) else "not-placed-from" if missing[0] else "not-placed-to"
            found[child.before, None, None, None, None, why] += 1
            continue
        moved = "same" if numbers[0] == numbers[1] else "higher" if numbers[1] > numbers[0] else "lower"
        found[child.before, by, *names, moved, None] += 1
    return found


def place(scheme: str, grade: Any, phase: int) -> tuple[str, str] | None:
    """What a place is, and its name."""
    if scheme == "ks2-writing-ta":
        if phase and grade != "WTS":  # below, two bands are told apart by nothing
            return "band", {"EXS": "at", "GDS": "above"}[grade]
        return "standards", {"WTS": "below", "EXS": "expected", "GDS": "higher"}[grade]
    if phase == 0:
        return "rank", str(grade)
    if phase == 1 and scheme == "points":
        return None
    order = [g["code"] for g in (WORDS if scheme == "words" else POINTS)] if scheme != "percent" else [str(n) for n in range(101)]
    at = order.index(str(grade))
    band = next(band for low, high, band in WALKS[scheme] if order.index(low) <= at <= order.index(high))
    return None if band is None else ("band", band)


def compare(scheme: str, ends: list[Any], grades: tuple[Any, Any]) -> tuple[str | None, tuple[Any, Any], list[int]]:
    if None in ends:
        return None, (None, None), []
    kinds = {kind for kind, _ in ends}
    if kinds == {"rank"}:
        order = (
            [g["code"] for g in (WORDS if scheme == "words" else POINTS)] if scheme != "percent" else [str(n) for n in range(101)]
        )
        return "rank", (None, None), [order.index(str(grade)) for grade in grades]
    if kinds == {"band"}:
        return "band", (ends[0][1], ends[1][1]), [BANDS.index(name) for _, name in ends]
    standards = [{"at": "expected", "above": "higher"}.get(name, name) for _, name in ends]
    return "standards", (standards[0], standards[1]), [["below", "expected", "higher"].index(name) for name in standards]


@pytest.fixture
def fill_trust() -> Filling:
    return fill_four_schools


async def fill_four_schools(trust: Trust) -> None:
    """Four schools of the trust, each in its own scheme, and both windows as they were judged."""
    await trust.operator.execute("UPDATE schools SET tenant_id = $1 WHERE urn = $2", trust.ids["trust"], URNS["Quay"])
    client = await register_vendor(trust)
    for scheme, more in (("points", {"grades": POINTS}), ("words", {"grades": WORDS}), ("percent", {"template": "percent"})):
        await sent(client, "/v1/schemes", {"tenant": OWN, "code": scheme, "name": scheme, **more}, 201)
    with freeze_clock(DAY):
        for school in SCHEMES:
            first = [describe(n, child, "before") for n, child in enumerate(CHILDREN) if child.before == school]
            await sent(client, "/v1/pupils", roll(school, first, asOf="2026-05-20"))
        for school in SCHEMES:
            second = [describe(n, child, "after") for n, child in enumerate(CHILDREN) if child.after == school]
            left = [describe(n, child, "left") for n, child in enumerate(CHILDREN) if child.before == school != child.after]
            await sent(client, "/v1/pupils", roll(school, left + second, asOf="2026-09-30"))
        for end, code in enumerate((FROM, TO)):
            collects = [
                {"subject": "reading", "scheme": scheme, "schools": [{"urn": URNS[school]}]} for school, scheme in SCHEMES.items()
            ]
            years = ["4"] if code == FROM else ["5"]
            id_ = await opened(client, code, collects=collects, yearGroups=years, closesAt="2027-07-31T17:00:00Z", **TERMS[code])
            for school in SCHEMES:
                rows = [
                    judged(n, grade=child.grades[end])
                    for n, child in enumerate(CHILDREN)
                    if (child.before, child.after)[end] == school and child.grades[end] is not None
                ]
                await sent(client, "/v1/judgements", batch(school, rows, window=code))
            if code == TO:
                number = next(n for n, child in enumerate(CHILDREN) if child.more == "discount")
                body = {
                    "school": {"urn": URNS["Oak"]},
                    "pupil": {"reference": f"P{number}"},
                    "reason": "Admitted from abroad",
                    "author": "Head",
                }
                await sent(client, f"/v1/windows/{id_}/discounts", body, 201)


def describe(number: int, child: Child, when: str) -> dict[str, Any]:
    """The pupil on a roll: in Year 4, then in Year 5; one of them was in Year 3 before, whom the first window did not collect."""
    moves = when != "before" and child.before != child.after
    spell = {"from": "2026-09-02" if moves and when == "after" else "2022-09-01", "status": "C"}
    spell |= {"to": "2026-07-20"} if when == "left" else {}
    year = "4" if when in ("before", "left") else "5"
    year = "3" if child.more == "year" and when == "before" else year
    return entry(number, dateOfBirth="2017-01-01", yearGroup=year, enrolments=[spell], characteristics=None)


async def read(client: Any, **more: Any) -> Any:
    """The answer, the same in both interfaces, as CSV, and page by page."""
    params = {"from": FROM, "to": TO, "subject": "reading", "groupBy": "school", "first": 1000} | more
    params = {name: value for name, value in params.items() if value is not None}
    response = await client.get("/v1/aggregates/transitions", params=params)
    assert response.status_code == 200, response.text
    answer = response.json()
    row = "schoolId schoolUrn schoolName comparedBy fromPlace toPlace moved leftOut pupils"
    group = "schoolId schoolUrn schoolName schools pupils matched changeOf change"
    arguments = ", ".join(f"{name}: {json.dumps(value)}" for name, value in params.items())
    query = f"""{{ transitions({arguments}) {{ data {{ {row} }} groups {{ {group} }} excluded {{ schoolName reason schoolId schoolUrn }}
        fromWindow {{ id code academicYear censusOn }} toWindow {{ id code academicYear censusOn }} subject aspect page {{ hasMore endCursor }}
        basis {{ judgements asOf crosswalksOn bands scale {{ id name expectedLabel higherLabel }} }} }} }}"""
    told = (await asked(client, query))["transitions"]
    assert told.pop("page")["hasMore"] is answer["page"]["hasMore"] is False
    assert told == {name: value for name, value in answer.items() if name != "page"}
    rows = list(
        csv.DictReader(io.StringIO((await client.get("/v1/aggregates/transitions", params=params | {"format": "csv"})).text))
    )
    assert rows == [{name: "" if value is None else str(value) for name, value in row.items()} for row in answer["data"]]
    paged: list[Any] = []
    after, has_more = None, True
    while has_more:
        part = params | {"first": 7} | ({"after": after} if after else {})
        body = (await client.get("/v1/aggregates/transitions", params=part)).json()
        after, has_more = body["page"]["endCursor"], body["page"]["hasMore"]
        paged += body["data"]
    assert paged == answer["data"]
    for group in answer["groups"]:
        of_group = [row for row in answer["data"] if row["schoolId"] == group["schoolId"]]
        assert group["pupils"] == sum(row["pupils"] for row in of_group)
        assert group["matched"] == sum(row["pupils"] for row in of_group if row["leftOut"] is None)
    return answer


def count_rows(answer: Any) -> Counter[tuple[Any, ...]]:
    names = ("schoolName", "comparedBy", "fromPlace", "toPlace", "moved", "leftOut")
    return Counter({tuple(row[name] for name in names): row["pupils"] for row in answer["data"]})


async def check(client: Any, phase: int, **more: Any) -> Any:
    answer = await read(client, **more)
    right = hand_count(phase)
    assert count_rows(answer) == right
    pooled = await read(client, groupBy=None, **more)
    sums: Counter[tuple[Any, ...]] = Counter()
    for (_, *rest), pupils in right.items():
        sums[None, *rest] += pupils
    assert count_rows(pooled) == sums
    unmatched = {row["schoolName"]: row["reason"] for row in answer["excluded"]}
    assert unmatched == ({"Ash": "no-place"} if phase == 1 else {})
    assert pooled["excluded"] == answer["excluded"]
    return answer


def count_expected(phase: int) -> tuple[int, int, int]:
    """By hand, of the later window: the eligible, those expected, and of how many: whose school has a place for their value, or for none."""
    eligible = expected = of = 0
    for child in CHILDREN:
        if child.after is None or child.more == "discount":
            continue
        scheme, grade = SCHEMES[child.after], child.grades[1]
        eligible += 1
        if grade in (None, "Abs"):
            of += scheme == "ks2-writing-ta" or phase > (scheme == "points")
        elif (found := place(scheme, grade, phase)) is not None and found[0] != "rank":
            of += 1
            expected += found[1] in ("at", "above", "expected", "higher")
    return eligible, expected, of


async def check_aggregates(client: Any, phase: int, **more: Any) -> None:
    """The trust's aggregates of the night equal the hand count, and name the school that has no place."""
    page = (await client.get("/v1/aggregates", params={"window": TO, "subject": "reading", "groupBy": "subject"} | more)).json()
    assert [(row["eligible"], row["expected"], row["expectedOf"]) for row in page["data"]] == [count_expected(phase)]
    unmapped = {0: {"Elm", "Ash", "Quay"}, 1: {"Ash"}, 2: set()}[phase]
    assert {row["schoolName"]: row["reason"] for row in page["excluded"]} == dict.fromkeys(unmapped, "no-place")


async def list_cells(trust: Trust) -> Any:
    return await trust.operator.fetch("SELECT ctid::text, xmin::text FROM cells ORDER BY 1")


async def test_every_pupil_by_hand_before_and_after_crosswalks_and_on_days_before(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(DAY):
        cells = await list_cells(small_trust)
        await check_aggregates(vendor, 0)
        answer = await check(vendor, 0)
        assert answer["basis"] == {"judgements": "current", "asOf": None, "crosswalksOn": "2026-10-20", "scale": None, "bands": []}
        bands = [{"code": code, "label": code} for code in BANDS]
        scale = {"tenant": OWN, "name": "Ours", "bands": bands, "expectedFrom": "at", "higherFrom": "above"}
        scale_id = (await sent(vendor, "/v1/common-scales", scale, 201))["id"]
        await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED)
        walks = {}
        for scheme, lines in WALKS.items():
            grades = [{"fromGrade": low, "toGrade": high, "band": band} for low, high, band in lines]
            walks[scheme] = (await sent(vendor, "/v1/crosswalks", {"tenant": OWN, "scheme": scheme, "grades": grades}, 201))["id"]
        for scheme in ("percent", "words"):
            await sent(vendor, f"/v1/crosswalks/{walks[scheme]}/sign", SIGNED)
        assert (await check(vendor, 1))["basis"]["bands"] == BANDS
        await check_aggregates(vendor, 1)
    with freeze_clock(LATER):
        await sent(vendor, f"/v1/crosswalks/{walks['points']}/sign", SIGNED)
        await check(vendor, 2)
        await check(vendor, 1, crosswalksOn="2026-10-31")
        await check_aggregates(vendor, 2)
        await check_aggregates(vendor, 1, crosswalksOn="2026-10-31")
        assert await list_cells(small_trust) == cells, "figures move without a recount"
        # what stood on a day: the first value of a pupil of Elm arrived then, and was corrected afterwards
        for table, column in (("judgements", "received_at"),):
            await small_trust.operator.execute(f"UPDATE {table} SET {column} = '2026-10-25T09:00:00Z'")
        number = CHILDREN.index(Child("Elm", "Elm", (35, 40)))
        await sent(vendor, "/v1/judgements", batch("Elm", [judged(number, grade=90)], window=TO))
        await small_trust.operator.execute("UPDATE judgement_history SET until = '2026-11-05T09:00:00Z'")
        corrected = count_rows(await read(vendor))
        assert corrected["Elm", "band", "below", "above", "higher", None] == 1
        answer = await check(vendor, 1, asOf="2026-10-31")
        assert (answer["basis"]["judgements"], answer["basis"]["asOf"], answer["basis"]["crosswalksOn"]) == (
            "as-of",
            "2026-10-31",
            "2026-10-31",
        )
        await check(vendor, 2, asOf="2026-10-31", crosswalksOn="2026-11-20")
        await check_aggregates(vendor, 1, asOf="2026-10-31")
        await check_aggregates(vendor, 2, asOf="2026-10-31", crosswalksOn="2026-11-20")
        url = f"/v1/aggregates/transitions?from={FROM}&to={TO}&subject=reading&asOf="
        assert issues((await vendor.get(f"{url}2026-11-21")).json()) == {"asOf": "parameter-invalid"}, "a day to come"
        assert issues((await vendor.get(f"{url}2026-10-19")).json()) == {"asOf": "window-not-open"}
        before = await read(vendor, asOf="2026-10-24")
        assert {row["leftOut"] for row in before["data"]} >= {"not-judged"}
        assert all(group["matched"] == 0 for group in before["groups"])


async def test_a_difference_is_shown_only_by_a_method_that_is_declared(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(DAY):
        url = f"/v1/aggregates/transitions?from={FROM}&to={TO}&subject=reading&change="
        for change in ("points", "standardised"):
            refused = await vendor.get(url + change)
            assert (refused.status_code, refused.json()["type"].rpartition("/")[2]) == (422, "progress-method-undefined")
        schemes = {row["code"]: row["id"] for row in (await vendor.get("/v1/schemes?fields=id,code&first=50")).json()["data"]}
        said = {"method": "points", "statement": "One point is a term's work, by the policy of 2026.", "name": "Ada Okafor"}
        wrong = await sent(vendor, f"/v1/schemes/{schemes['words']}/declare-progress", said, 422)
        assert issues(wrong) == {"/method": "wrong-value"}
        await sent(vendor, f"/v1/schemes/{schemes['ks2-writing-ta']}/declare-progress", said, 409)
        school = await small_trust.client("school", "school:100001=all")
        await sent(school, f"/v1/schemes/{schemes['points']}/declare-progress", said, 404)
        made = await sent(vendor, f"/v1/schemes/{schemes['points']}/declare-progress", said)
        assert made["progressMethod"] == "points"
        names = "progressMethod,progressStatement,progressDeclaredBy"
        row = (await vendor.get(f"/v1/schemes/{schemes['points']}?fields={names}")).json()
        assert row == {"progressMethod": "points", "progressStatement": said["statement"], "progressDeclaredBy": "Ada Okafor"}
        # by hand: 1 to 3, 3 to 6, 4 to 5, 5 to 4, 6 to 1 and 4 to 5 are +2, +3, +1, -1, -5 and +1 of six pupils
        groups = {group["schoolName"]: group for group in (await read(vendor, change="points"))["groups"]}
        assert {name: (group["changeOf"], group["change"]) for name, group in groups.items()} == {
            **dict.fromkeys(("Oak", "Elm", "Quay"), (0, None)),
            "Ash": (6, 0.2),
        }
        assert (await vendor.get(f"{url}points&school={URNS['Elm']}")).status_code == 422
        await sent(vendor, f"/v1/schemes/{schemes['percent']}/declare-progress", said | {"method": "standardised"})
        (pooled,) = (await read(vendor, change="standardised", groupBy=None))["groups"]
        # 35 to 40, 69 to 41, 70 to 100 and 10 to 20: 17 in four
        assert (pooled["changeOf"], pooled["change"]) == (4, 4.3)
        told = await asked(
            vendor, f'mutation {{ withdrawSchemeProgress(input: {{id: "{schemes["points"]}"}}) {{ progressMethod }} }}'
        )
        assert told["withdrawSchemeProgress"] == {"progressMethod": None}
        row = (await vendor.get(f"/v1/schemes/{schemes['points']}?fields={names},progressDeclaredAt")).json()
        assert set(row.values()) == {None}
        assert (await vendor.get(f"{url}points")).status_code == 422


def test_means_are_rounded_half_away_from_zero() -> None:
    assert [_compute_mean(*each) for each in ((0.5, 10), (-0.5, 10), (1, 3), (-1, 3), (0.05, 1), (0, 7))] == [
        0.1,
        -0.1,
        0.3,
        -0.3,
        0.1,
        0,
    ]


async def test_who_may_ask_and_what_cannot_be_asked(small_trust: Trust, vendor: Any) -> None:
    path, good = "/v1/aggregates/transitions", {"from": FROM, "to": TO, "subject": "reading"}
    with freeze_clock(DAY):
        portal = await small_trust.client("portal", f"trust:{TRUST}=aggregates:read,pupils:read,judgements:read")
        assert (await portal.get(path, params=good)).status_code == 403
        elm = await small_trust.client("elm", "school:100002=aggregates:internal", f"trust:{TRUST}=aggregates:read")
        answer = (await elm.get(path, params=good)).json()
        right = Counter({key: n for key, n in hand_count(0).items() if key[0] == "Elm"})
        assert count_rows(await read(elm)) == right
        assert answer["groups"][0]["pupils"] == sum(right.values())
        for name in (str(URNS["Elm"]), str(small_trust.ids["Elm"]), "936/2002"):
            assert (await vendor.get(path, params=good | {"school": name})).json()["groups"] == answer["groups"]
        refusals = {
            400: [
                ({}, {"from": "required", "to": "required", "subject": "required"}),
                (
                    good | {"first": "0", "asOf": "x", "change": "y", "z": "1"},
                    {
                        "first": "parameter-invalid",
                        "asOf": "parameter-invalid",
                        "change": "parameter-invalid",
                        "z": "parameter-unknown",
                    },
                ),
                (good | {"groupBy": "sex"}, {"groupBy": "dimension-unknown"}),
                (good | {"shape": "long", "format": "csv"}, {"shape": "parameter-unknown"}),
                (good | {"after": "x"}, {"after": "cursor-invalid"}),
            ],
            422: [
                (good | {"from": TO, "to": FROM}, {"to": "windows-reversed"}),
                (good | {"to": FROM}, {"to": "windows-reversed"}),
                (
                    {"from": "a", "to": "b", "subject": "c", "aspect": "d", "school": "1"},
                    {
                        "from": "window-not-found",
                        "to": "window-not-found",
                        "subject": "subject-not-found",
                        "aspect": "aspect-not-found",
                        "school": "school-not-found",
                    },
                ),
                (good | {"subject": "rwm"}, {"subject": "subject-not-found"}),
                (
                    good | {"trust": "9"},
                    {
                        "trust": "trust-not-found",
                        "from": "window-not-found",
                        "to": "window-not-found",
                        "subject": "subject-not-found",
                        "aspect": "aspect-not-found",
                    },
                ),
                (good | {"groupBy": "class"}, {"groupBy": "teacher-comparison-not-supported"}),
            ],
        }
        for status, cases in refusals.items():
            for params, right_issues in cases:
                refused = await vendor.get(path, params=params)
                assert (refused.status_code, issues(refused.json())) == (status, right_issues), params
        unseen = await vendor.get(path, params=good | {"subject": "maths"})
        assert {row["schoolName"]: row["reason"] for row in unseen.json()["excluded"]} == dict.fromkeys(SCHEMES, "not-collected")
    other = await small_trust.client("other", "school:100001=pupils:read")
    assert (await other.get(path, params=good)).status_code == 403
