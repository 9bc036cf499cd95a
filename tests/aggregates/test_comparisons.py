"""Gaps with their intervals, changes between two windows of a season, several windows together, and filters: counted by hand, in both interfaces."""

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from domain.aggregates.comparisons import find_newcombe_interval
from tests.fixtures.clock import freeze_clock
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import TRUST, Trust, asked, batch, entry, issues, judged, opened, roll, sent

OWN = {"trust": {"groupUid": TRUST}}
NOW, SINCE = datetime(2026, 6, 20, 9, tzinfo=UTC), [{"from": "2019-09-01", "status": "C"}]
GRADES = [{"code": str(n), "label": str(n), "rank": n, "expected": n > 2, "higher": n > 4, "value": n} for n in range(1, 6)]
YEARS = {"2023-24": 2024, "2024-25": 2025, "2025-26": 2026}
SPRINGS = [f"{year}/Spring" for year in YEARS]
SUMMER = "2025-26/Summer"
KINDS = ((True, "K"), (False, "N"), (None, "N"), (True, "E"), (False, "K"))
"""Whether a pupil is disadvantaged, and the provision for special needs, by turns."""
PUPILS = {"Oak": range(20), "Elm": range(20, 33)}
GAP = "pupils of againstPupils againstOf difference low high reason"


@pytest.fixture
def fill_trust() -> Filling:
    return fill_three_years


def find_grade(number: int, year: str, subject: str) -> int | None:
    """The grade of a pupil in a spring; None for nobody's. Of the first year Elm has none."""
    if number >= 20 and year == "2023-24":
        return None
    return None if number % 11 == 7 else 1 + (number * 7 + YEARS[year] * 3 + len(subject)) % 5


async def fill_three_years(trust: Trust) -> None:
    """Two schools, whose pupils are judged in three springs, and in the last of the years in summer too."""
    client = await register_vendor(trust)
    await sent(client, "/v1/schemes", {"tenant": OWN, "code": "ours", "name": "ours", "grades": GRADES}, 201)
    with freeze_clock(NOW):
        for school, numbers in PUPILS.items():
            rows = []
            for n in numbers:
                poor, sen = KINDS[n % len(KINDS)]
                facts = [{"kind": "sen", "value": sen, "from": "2019-09-01"}]
                facts += [] if poor is None else [{"kind": "ever6Fsm", "value": str(poor).lower(), "from": "2019-09-01"}]
                sex, year = "FM"[n % 2], ["5", "6"][n % 3 == 0]
                rows.append(entry(n, dateOfBirth="2015-01-01", sex=sex, yearGroup=year, characteristics=facts, enrolments=SINCE))
            await sent(client, "/v1/pupils", roll(school, rows, asOf="2023-09-30"))
        windows = {code: f"{YEARS[code[:7]]}-03-01" for code in SPRINGS} | {SUMMER: "2026-06-01"}
        for code, day in windows.items():
            term = {
                "academicYear": code[:7],
                "censusOn": day,
                "opensAt": "2027-01-05T08:00:00Z",
                "closesAt": "2027-07-31T17:00:00Z",
            }
            subjects = [{"subject": subject, "scheme": "ours"} for subject in ("reading", "writing", "maths")]
            await opened(client, code, collects=subjects, yearGroups=["4", "5", "6"], **term)
        for code in SPRINGS:
            for school, numbers in PUPILS.items():
                marks = [
                    judged(n, subject, str(grade))
                    for n in numbers
                    for subject in ("reading", "writing", "maths")
                    if (grade := find_grade(n, code[:7], subject)) is not None
                ]
                if marks:
                    await sent(client, "/v1/judgements", batch(school, marks, window=code))


async def ask(client: Any, fields: str, **parameters: Any) -> list[dict[str, Any]]:
    """The rows of a question, of which the fields are the same in both interfaces."""
    page = await client.get("/v1/aggregates", params=parameters)
    assert page.status_code == 200, page.text
    rows: list[dict[str, Any]] = page.json()["data"]
    arguments = [f"groupBy: [{parameters['groupBy']}]"]
    arguments += [f"{name}: {json.dumps(value)}" for name, value in parameters.items() if name not in ("groupBy", "include")]
    told = (await asked(client, f"{{ aggregates({', '.join(arguments)}) {{ nodes {{ {fields} }} }} }}"))["aggregates"]["nodes"]
    assert told == [_select(row, told[at]) for at, row in enumerate(rows)]
    return rows


def _select(value: Any, like: Any) -> Any:
    return {name: _select(value[name], inner) for name, inner in like.items()} if isinstance(like, dict) else value


def count(numbers: Any, year: str, subject: str = "reading") -> tuple[int, int, int]:
    """Of some pupils by hand: the eligible, those at expected or above, and the sum of their marks."""
    grades = [find_grade(n, year, subject) for n in numbers]
    return len(grades), sum(grade is not None and grade > 2 for grade in grades), sum(grade or 0 for grade in grades)


def find_pupils(school: str | None = None, **kind: Any) -> list[int]:
    """The pupils of a year group that the window collects, by school and kind."""
    numbers = [n for name, of in PUPILS.items() if school in (None, name) for n in of]
    facts = {n: {"poor": KINDS[n % 5][0], "sen": KINDS[n % 5][1], "sex": "FM"[n % 2]} for n in numbers}
    return [n for n in numbers if all(facts[n][name] == value for name, value in kind.items())]


@pytest.mark.parametrize(
    ("sides", "low", "high"),
    [
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_intervals_are_those_that_newcombe_printed(sides: tuple[int, int, int, int], low: float, high: float) -> None:
    """Table II of the paper, method 10, and each of them the other way round."""
    assert find_newcombe_interval(*sides) == pytest.approx((low, high), abs=0.00005)
    assert find_newcombe_interval(*sides[2:], *sides[:2]) == pytest.approx((-high, -low), abs=0.00005)


async def test_gaps_equal_a_hand_count(small_trust: Trust, vendor: Any) -> None:
    fields = f"eligible gap {{ dimension group against inNeither expected {{ {GAP} }} higher {{ {GAP} }} average {{ average of difference reason }} method }}"
    question = {"window": SPRINGS[2], "subject": "reading"}
    with freeze_clock(NOW):
        rows = await ask(vendor, fields, groupBy="school", gap="disadvantaged", **question)
        for row in rows:
            (of, poor, sum_poor), (against, others, sum_others) = (
                count(find_pupils(row["schoolName"], poor=is_poor), "2025-26") for is_poor in (True, False)
            )
            gap, told = row["gap"], row["gap"]["expected"]
            assert [told[name] for name in ("pupils", "of", "againstPupils", "againstOf")] == [poor, of, others, against]
            assert told["difference"] == pytest.approx(100 * (poor / of - others / against), abs=0.051)
            assert told["low"] <= told["difference"] <= told["high"]
            assert told["low"] < told["high"]
            assert gap["inNeither"] == len(find_pupils(row["schoolName"], poor=None)) == row["eligible"] - of - against
            marks = sum_poor / gap["average"]["of"] - sum_others / gap["average"]["againstOf"]
            assert gap["average"]["difference"] == pytest.approx(marks, abs=0.051)
        (row,) = await ask(vendor, fields, groupBy="subject", gap="SEN:e:k", **question)
        (of, at, _), (against, others, _) = (count(find_pupils(sen=sen), "2025-26") for sen in "EK")
        assert [row["gap"]["expected"][name] for name in ("pupils", "of", "againstPupils", "againstOf")] == [
            at,
            of,
            others,
            against,
        ]
        # conjunctions too, and a row is the same with a gap as without one
        plain, beside = [
            await ask(vendor, "expected eligible", groupBy="subject,sex", window=SPRINGS[2], **more)
            for more in ({}, {"gap": "disadvantaged"})
        ]
        assert [row | {"gap": None} for row in beside] == plain
        url = f"/v1/aggregates?groupBy=school&window={SPRINGS[2]}&subject=reading&format=csv"
        lines = list(csv.DictReader(io.StringIO((await vendor.get(f"{url}&gap=disadvantaged")).text)))
        assert [float(line["gap.expected.difference"]) for line in lines] == [r["gap"]["expected"]["difference"] for r in rows]
        wide = list(csv.DictReader(io.StringIO((await vendor.get(f"{url}&gap=disadvantaged&shape=wide")).text)))
        assert [line["reading.gap.expected.low"] for line in wide] == [*(line["gap.expected.low"] for line in lines), "z"]
        assert not {"gap", "change", "windows"} & {*(await vendor.get(url)).text.splitlines()[0].split(",")}
        assert any(row["subject"] == "rwm" and row["gap"]["expected"]["of"] for row in beside)
        (unjudged,) = await ask(vendor, fields, groupBy="subject", window=SUMMER, subject="reading", gap="sex")
        assert unjudged["gap"]["expected"]["reason"] == "nothing-judged"
        (nobody,) = await ask(vendor, fields, groupBy="subject", gap="eal", **question)
        assert (nobody["gap"]["average"]["reason"], nobody["gap"]["inNeither"]) == ("nobody-eligible", 33)


async def test_changes_equal_a_hand_count(small_trust: Trust, vendor: Any) -> None:
    fields = f"schoolName change {{ fromWindow fromAcademicYear fromEligible fromValid expected {{ {GAP} }} average {{ difference reason }} method }}"
    with freeze_clock(NOW):
        rows = await ask(vendor, fields, groupBy="school", window=SPRINGS[2], changeFrom=SPRINGS[0], subject="maths")
        oak, elm = (row["change"] for row in rows)
        (of, now, _), (before_of, before, _) = (count(PUPILS["Oak"], year, "maths") for year in ("2025-26", "2023-24"))
        told = oak["expected"]
        assert [told[name] for name in ("pupils", "of", "againstPupils", "againstOf")] == [now, of, before, before_of]
        assert (oak["fromWindow"], oak["fromAcademicYear"], oak["fromEligible"]) == (SPRINGS[0], "2023-24", 20)
        # what was not judged then is not zero
        assert (elm["fromValid"], elm["expected"]["reason"], elm["average"]["reason"]) == (0, "nothing-judged", "nothing-judged")
        plain = await ask(vendor, "expected", groupBy="school", window=SPRINGS[2], subject="maths")
        assert [row | {"change": None} for row in rows] == plain
        page = (
            await vendor.get(f"/v1/aggregates?window={SPRINGS[0]}&changeFrom={SPRINGS[2]}&groupBy=subject&subject=nought")
        ).json()
        assert issues(page) == {"subject": "subject-not-found"}
        wrong = {
            f"window={SPRINGS[0]}&changeFrom={SPRINGS[2]}": {"changeFrom": "windows-reversed"},
            f"window={SUMMER}&changeFrom={SPRINGS[0]}": {"changeFrom": "windows-of-other-seasons"},
            f"window={SPRINGS[2]}&changeFrom=2022-23/Spring": {"changeFrom": "window-not-found"},
            f"windows={SPRINGS[2]}&windows=x&windows=y&pool=window": {"windows": "window-not-found"},
            f"windows={SPRINGS[2]}&windows={SUMMER}&pool=window": {"windows": "windows-of-one-year"},
        }
        for question, found in wrong.items():
            answer = await vendor.get(f"/v1/aggregates?groupBy=subject&{question}")
            assert (answer.status_code, issues(answer.json())) == (422, found), question


async def test_several_windows_each_and_together(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(NOW):
        several = {"windows": [SPRINGS[0], SPRINGS[2]], "subject": "reading"}
        each = await ask(vendor, "window eligible expected", groupBy="window", **several)
        assert [(row["window"], row["expected"]) for row in each] == [
            (code, count(find_pupils(), code[:7])[1]) for code in (SPRINGS[0], SPRINGS[2])
        ]
        fields = "window academicYear windows schools eligible expected average grades { of }"
        (row,) = await ask(vendor, fields, groupBy="subject", pool="window", windows=SPRINGS, subject="reading", include="grades")
        counts = [count(find_pupils(), year) for year in YEARS]
        assert (row["window"], row["windows"], row["schools"]) == (None, 3, 2)
        assert (row["eligible"], row["expected"]) == (sum(c[0] for c in counts), sum(c[1] for c in counts))
        assert sum(grade["pupils"] for grade in row["grades"]["counts"]) == row["eligible"]
        rows = await ask(
            vendor, "schoolName windows valid", groupBy="school,sex", pool="window", windows=SPRINGS, subject="reading"
        )
        assert {row["windows"] for row in rows} == {3}
        first = (
            await vendor.get("/v1/aggregates", params={"groupBy": "school,sex", "pool": "window", "first": 3, **several})
        ).json()
        rest = {"groupBy": "school,sex", "pool": "window", "after": first["page"]["endCursor"], **several}
        assert len(first["data"] + (await vendor.get("/v1/aggregates", params=rest)).json()["data"]) == 4


async def test_filters_equal_a_hand_count(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(NOW):
        question = {"window": SPRINGS[2], "subject": "reading"}
        for more, kind in (
            ({"sex": ["f"]}, {"sex": "F"}),
            ({"sen": ["K"], "disadvantaged": ["true"]}, {"sen": "K", "poor": True}),
            ({"disadvantaged": ["unknown"]}, {"poor": None}),
        ):
            for by in ("subject", "yearGroup", "eal"):
                rows = await ask(vendor, "eligible expected", groupBy=by, **question, **more)
                of, reached, _ = count(find_pupils(**kind), "2025-26")
                assert tuple(sum(row[name] or 0 for row in rows) for name in ("eligible", "expected")) == (of, reached), (more, by)
        six = [n for n in find_pupils() if n % 3 == 0]
        (year,) = await ask(vendor, "eligible", groupBy="subject", yearGroup=["Year 6"], gap="sex", include="grades", **question)
        assert year["eligible"] == len(six) == sum(grade["pupils"] for grade in year["grades"]["counts"])
        (both,) = await ask(vendor, "eligible", groupBy="subject", sen=["K", "E"], **question)
        assert both["eligible"] == len(find_pupils(sen="K")) + len(find_pupils(sen="E"))


async def test_what_is_senseless_or_not_allowed_is_refused(small_trust: Trust, vendor: Any) -> None:
    bad = {
        "groupBy=subject,sex&window=x&gap=sex": {"gap": "parameter-invalid"},
        "groupBy=subject&window=x&sex=F&gap=sex": {"gap": "parameter-invalid"},
        "groupBy=subject&window=x&gap=school&sen=Q&yearGroup=99": dict.fromkeys(("gap", "sen", "yearGroup"), "parameter-invalid"),
        "groupBy=subject&window=x&gap=sen:K:K": {"gap": "parameter-invalid"},
        "groupBy=subject&window=x&gap=sen:K": {"gap": "parameter-invalid"},
        "groupBy=subject&windows=x&windows=y": {"windows": "window-required"},
        "groupBy=subject&windows=x&windows=x&pool=window": {"windows": "parameter-repeated"},
        "groupBy=subject&window=x&pool=window": {"pool": "parameter-invalid"},
        "groupBy=subject,window&windows=x&windows=y&pool=window": {"pool": "parameter-invalid"},
        "groupBy=subject,window&changeFrom=x": {"changeFrom": "window-required"},
        "groupBy=subject&window=x&view=public&gap=sex&sen=K": dict.fromkeys(("gap", "sen"), "parameter-invalid"),
    }
    for question, found in bad.items():
        answer = await vendor.get(f"/v1/aggregates?{question}")
        assert (answer.status_code, found.items() <= issues(answer.json()).items()) == (400, True), answer.text
    taught = await vendor.get("/v1/aggregates?groupBy=subject&window=x&gap=teacher&teacher=Smith")
    assert (taught.status_code, taught.json()["type"].rsplit("/")[-1]) == (422, "teacher-comparison-not-supported")
    portal = await small_trust.client("portal", f"trust:{TRUST}=aggregates:read")
    refused = await portal.get(f"/v1/aggregates?groupBy=subject&window={SPRINGS[1]}&changeFrom={SPRINGS[0]}&gap=sex&sen=K")
    assert (refused.status_code, issues(refused.json())) == (403, dict.fromkeys(("gap", "changeFrom", "sen"), "scope-missing"))
    pooled = await portal.get(f"/v1/aggregates?groupBy=subject&windows={SPRINGS[0]}&windows={SPRINGS[1]}&pool=window")
    assert (pooled.status_code, issues(pooled.json())) == (403, {"pool": "scope-missing"})
    each = await portal.get(f"/v1/aggregates?groupBy=subject,window&windows={SPRINGS[0]}&windows={SPRINGS[1]}")
    assert {row["window"] for row in each.json()["data"]} == {*SPRINGS[:2]}
