"""Which target a judgement is compared with: the nearest horizon from the census day on, as it stood when the window closed."""

from typing import Any, NamedTuple

import pytest

from domain.assessment.horizon_days import load_horizons
from tests.fixtures.small_trust import URNS, Trust, asked, batch, counted, entry, judged, opened, roll, sent, window


class Goal(NamedTuple):
    """A target of a case."""

    point: str
    grade: Any
    year: str = "2017-18"
    basis: str = "teacher"
    scheme: str = "ks2-scaled-score"
    recorded: str = "2018-01-10T09:00:00Z"


# The goals of a pupil whose grade is 100, the verdict, and the index of the goal that it is about.
CASES: dict[str, tuple[list[Goal], str | None, int | None]] = {
    "no target": ([], None, None),
    "the tests come before the end of the year": ([Goal("end-of-year", 90), Goal("KS2", 105)], "below", 1),
    "in any order of the alphabet": ([Goal("autumn", 80, "2018-19"), Goal("zenith", 105)], "below", 1),
    "a point in any case, with blanks": ([Goal("End of Year", 100), Goal("end-of-year", 90, "2018-19")], "on", 0),
    "a horizon before the census is over": ([Goal("spring", 110), Goal("KS2", 95)], "above", 1),
    "of this year only horizons that are over": ([Goal("spring", 110), Goal("autumn", 110)], None, None),
    "the next year": ([Goal("spring", 110), Goal("autumn", 99, "2018-19"), Goal("end-of-year", 110, "2018-19")], "above", 1),
    "the year before is over": ([Goal("end-of-year", 80, "2016-17")], None, None),
    "a window's code is its census day": ([Goal("Census", 103), Goal("end-of-year", 80)], "below", 0),
    "the nearest is of another scheme": ([Goal("KS2", "EXS", scheme="ks2-writing-ta"), Goal("end-of-year", 90)], None, 0),
    "of one day, the same scheme goes first": (
        [Goal("KS2", "EXS", scheme="ks2-writing-ta", recorded="2018-02-01T09:00:00Z"), Goal("KS2", 99, basis="aspiration")],
        "above",
        1,
    ),
    "of one day, the last goes first": (
        [Goal("KS2", 99, recorded="2018-03-01T09:00:00Z"), Goal("KS2", 101, basis="aspiration")],
        "above",
        0,
    ),
}


def _write(number: int, goal: Goal, **changed: Any) -> dict[str, Any]:
    horizon = {"academicYear": goal.year, "point": goal.point}
    said = {"horizon": horizon, "grade": goal.grade, "scheme": goal.scheme, "basis": goal.basis, "recordedAt": goal.recorded}
    return {"reference": f"P{number}", "subject": "reading"} | said | changed


async def _record(client: Any, entries: list[dict[str, Any]]) -> Any:
    return await sent(client, "/v1/targets", {"school": {"urn": URNS["Oak"]}, "entries": entries})


async def _read(client: Any, count: int) -> list[tuple[str | None, str | None]]:
    fields = "againstTarget,againstTargetId,pupil.reference"
    rows = (await client.get("/v1/judgements", params={"fields": fields, "include": "pupil", "first": count})).json()["data"]
    found = {row["pupil"]["reference"]: (row["againstTarget"], row["againstTargetId"]) for row in rows}
    query = f"{{ judgements(first: {count}) {{ nodes {{ againstTarget againstTargetId pupil {{ reference }} }} }} }}"
    nodes = (await asked(client, query))["judgements"]["nodes"]
    assert {node["pupil"]["reference"]: (node["againstTarget"], node["againstTargetId"]) for node in nodes} == found
    return [found[f"P{number}"] for number in range(count)]


async def test_the_target_is_the_nearest_from_the_census_on_as_it_was_when_the_window_closed(
    small_trust: Trust, vendor: Any
) -> None:
    window_id = await opened(vendor, "Ours")
    await sent(vendor, "/v1/windows", _census_window(), 201)
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(n) for n in range(len(CASES))]))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(n) for n in range(len(CASES))], window="Ours"))
    ids = []
    for number, (goals, *_) in enumerate(CASES.values()):
        results = []
        for goal in goals:
            (result,) = (await sent(vendor, "/v1/targets", _body(_write(number, goal)), Prefer="return=representation"))["results"]
            results.append(result["id"])
        ids.append(results)
    right = [(verdict, None if index is None else ids[n][index]) for n, (_, verdict, index) in enumerate(CASES.values())]
    assert dict(zip(CASES, await _read(vendor, len(CASES)), strict=True)) == dict(zip(CASES, right, strict=True))

    await _check_outcomes(vendor, window_id, right, ids)

    await sent(vendor, f"/v1/windows/{window_id}/close")
    assert await _read(vendor, len(CASES)) == right
    # what is set after the window has closed is of later windows: a first target, a nearer one, another grade, and both again
    nearer = Goal("KS2", 120)
    late = [_write(0, nearer, recordedAt=None), _write(7, nearer, recordedAt=None), _write(1, Goal("KS2", 80), recordedAt=None)]
    late = [{name: value for name, value in row.items() if value is not None} for row in late]
    assert counted(await _record(vendor, late)) == {"created": 2, "updated": 1}
    assert counted(await _record(vendor, [row | {"grade": 81} for row in late])) == {"updated": 3}
    assert await _read(vendor, len(CASES)) == right
    await _check_outcomes(vendor, window_id, right, ids)

    await sent(vendor, f"/v1/windows/{window_id}/reopen", {"closesAt": "2099-07-31T17:00:00+01:00"})
    again = await _read(vendor, len(CASES))
    assert [again[n][0] for n in (0, 7, 1)] == ["above"] * 3, "while a window is open, today's targets count"
    assert [row for n, row in enumerate(again) if n not in (0, 7, 1)] == [row for n, row in enumerate(right) if n not in (0, 7, 1)]


async def _check_outcomes(client: Any, window_id: str, right: list[Any], ids: list[list[str]]) -> None:
    """The outcome of each pupil, and the counts of the school, in both interfaces."""
    outcomes = [verdict or ("not-comparable" if target else "no-target") for verdict, target in right]
    params = {"fields": "targetOutcome,pupil.reference", "include": "pupil", "first": len(right)}
    rows = (await client.get("/v1/judgements", params=params)).json()["data"]
    assert {row["pupil"]["reference"]: row["targetOutcome"] for row in rows} == {f"P{n}": each for n, each in enumerate(outcomes)}
    names = {"above": "above", "onTarget": "on", "below": "below", "noTarget": "no-target", "notComparable": "not-comparable"}
    counts = {name: outcomes.count(outcome) for name, outcome in names.items()} | {"eligible": len(right), "notJudged": 0}
    fields = ",".join(counts)
    url = f"/v1/windows/{window_id}/targetOutcomes?subjectCode=reading&aspect=main&schoolId="
    (school,) = {row["schoolId"] for row in (await client.get("/v1/judgements?fields=schoolId")).json()["data"]}
    assert (await client.get(f"{url}{school}&fields={fields}")).json()["data"] == [counts]
    query = f'{{ targetOutcomes(where: {{windowCode: ["Ours"], subjectCode: ["reading"], schoolId: ["{school}"]}}) {{ nodes {{ {" ".join(counts)} }} }} }}'
    assert (await asked(client, query))["targetOutcomes"]["nodes"] == [counts]


def _body(row: dict[str, Any]) -> dict[str, Any]:
    return {"school": {"urn": URNS["Oak"]}, "entries": [row]}


def _census_window() -> dict[str, Any]:
    return window("Census", censusOn="2018-05-20", yearGroups=["5"])


async def test_a_target_says_the_date_of_its_horizon(small_trust: Trust, vendor: Any) -> None:
    days = {
        ("2017-18", "KS2"): "2018-05-17",
        ("2022-23", "ks2"): "2023-05-12",
        ("2030-31", "KS2"): "2031-05-15",
        ("2017-18", "autumn"): "2017-12-31",
        ("2017-18", "end of spring"): "2018-04-15",
        ("2017-18", "something else"): "2018-08-31",
    }
    await _record(vendor, [_write(1, Goal(point, 100, year)) for year, point in days])
    rows = (await vendor.get("/v1/targets", params={"fields": "horizonYear,horizonPoint,horizonOn"})).json()["data"]
    assert {(row["horizonYear"], row["horizonPoint"]): row["horizonOn"] for row in rows} == days
    first = (
        await vendor.get("/v1/targets", params={"fields": "horizonOn", "horizonOn.lt": "2018-05-17", "sort": "horizonOn"})
    ).json()
    assert [row["horizonOn"] for row in first["data"]] == ["2017-12-31", "2018-04-15"]


@pytest.mark.parametrize("horizon", load_horizons(), ids=lambda horizon: horizon.points[0])
def test_dated_days_are_near_the_usual_one(horizon: Any) -> None:
    for day in horizon.days:
        assert abs(int(f"{day:%d}") - int(horizon.day[3:])) <= 7, day
        assert f"{day:%m}" == horizon.day[:2], day


async def test_a_target_sent_again_after_the_next_version_is_unchanged_and_comparable(vendor: Any) -> None:
    grades = [{"code": code, "label": code, "rank": rank} for rank, code in enumerate("abc")]
    owner = {"tenant": {"trust": {"groupUid": 4128}}, "code": "letters", "name": "Letters"}
    scheme_id = (await sent(vendor, "/v1/schemes", owner | {"grades": grades[:2]}, 201))["id"]
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1)]))
    await opened(vendor, "letters", collects=[{"subject": "reading", "scheme": "letters"}])
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1, grade="b")], window="letters"))
    row = _write(1, Goal("KS2", "b", scheme="letters"))
    await _record(vendor, [row])
    await sent(vendor, f"/v1/schemes/{scheme_id}/versions", {"grades": grades}, 201)
    assert counted(await _record(vendor, [row])) == {"unchanged": 1}
    assert counted(await _record(vendor, [row | {"recordedAt": "2018-02-01T09:00:00Z"}])) == {"unchanged": 1}
    (judgement,) = (await vendor.get("/v1/judgements?fields=againstTarget")).json()["data"]
    assert judgement == {"againstTarget": "on"}
    assert counted(await _record(vendor, [row | {"grade": "c", "recordedAt": "2018-02-01T09:00:00Z"}])) == {"updated": 1}
