"""The workload budget is of each school and year group, and counts collection points: seasons, not windows."""

from itertools import count
from typing import Any

import pytest

from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.small_trust import URNS, issues, sent, window

REASONS = {"actions": "Who gets tutoring", "timeToSetAndAnalyse": "Two hours a class", "timeToAct": "A half term"}
SCHEMES = {
    "reading": "ks2-scaled-score",
    "maths": "ks2-scaled-score",
    "gps": "ks2-scaled-score",
    "writing": "ks2-writing-ta",
    "science": "ks2-science-ta",
}
DAYS = {
    "autumn": "2019-11-29",
    "spring": "2020-02-14",
    "late spring": "2020-04-03",
    "summer": "2020-05-21",
    "late summer": "2020-07-10",
}
_numbers = count()


@pytest.fixture
def fill_trust() -> Filling:
    """Nothing is stored yet."""
    return register_vendor


def _plan(
    day: str, *subjects: str, schools: tuple[str, ...] = (), year_groups: tuple[str, ...] = ("4",), **more: Any
) -> dict[str, Any]:
    at = {"schools": [{"urn": URNS[name]} for name in schools]} if schools else {}
    collects = [{"subject": name, "aspect": "main", "scheme": SCHEMES[name]} | at for name in subjects or ("reading",)]
    terms = {
        "academicYear": "2019-20",
        "censusOn": DAYS[day],
        "frequencyReasons": None,
        "yearGroups": list(year_groups),
        "collects": collects,
    }
    return window(f"budget {next(_numbers)}", **(terms | more))


async def _accept(client: Any, *plans: dict[str, Any]) -> list[dict[str, Any]]:
    return [await sent(client, "/v1/windows", plan, 201) for plan in plans]


async def _refuse(client: Any, plan: dict[str, Any], *named: str) -> None:
    refused = await sent(client, "/v1/windows", plan, 409)
    assert issues(refused) == {"/frequencyReasons": "workload-budget-exceeded"}
    (issue,) = refused["issues"]
    names = {name for name in URNS if name in issue["message"]}
    assert names == set(named), issue


async def test_a_fourth_point_of_a_year_group_is_refused_and_accepted_with_reasons(vendor: Any) -> None:
    await _accept(vendor, *map(_plan, ("autumn", "spring", "summer")))
    await _refuse(vendor, _plan("late spring"), "Oak", "Elm", "Ash")
    await _refuse(vendor, _plan("late spring", year_groups=("4", "5")), "Oak", "Elm", "Ash")
    await _accept(vendor, _plan("late spring", year_groups=("5",)))
    await _accept(vendor, _plan("late spring", frequencyReasons=REASONS))
    await _refuse(vendor, _plan("late summer"), "Oak", "Elm", "Ash")


async def test_windows_of_a_season_that_share_no_subject_are_one_point(vendor: Any) -> None:
    await _accept(vendor, *(_plan("autumn", subject) for subject in SCHEMES), _plan("spring"), _plan("summer"))
    await _accept(vendor, _plan("late spring", "maths"), _plan("late summer", "writing", "science"))
    await _refuse(vendor, _plan("late spring", "writing", "maths"), "Oak", "Elm", "Ash")


async def test_what_a_school_collects_is_no_workload_of_another(vendor: Any) -> None:
    await _accept(
        vendor, *(_plan(day, schools=("Oak",)) for day in ("autumn", "spring", "summer")), _plan("summer", schools=("Elm",))
    )
    await _accept(vendor, *(_plan(day, schools=("Ash",)) for day in ("autumn", "spring", "late spring")))
    await _refuse(vendor, _plan("late summer"), "Oak", "Ash")
    await _refuse(vendor, _plan("late summer", schools=("Oak", "Elm")), "Oak")
    await _accept(vendor, _plan("late summer", schools=("Elm",)))


async def test_a_change_of_terms_counts_too(vendor: Any) -> None:
    first, *_ = await _accept(vendor, *map(_plan, ("autumn", "spring", "summer")), _plan("spring", "maths"))
    (other,) = await _accept(vendor, _plan("late spring", "maths", year_groups=("5",)))
    for id_, change, status, at in (
        (other["id"], {"yearGroups": ["5", "4"]}, 409, "/yearGroups"),
        (first["id"], {"censusOn": "2019-12-20"}, 200, None),
        (first["id"], {"yearGroups": ["4", "3"]}, 200, None),
    ):
        version = (await vendor.get(f"/v1/windows/{id_}?fields=version")).json()["version"]
        answer = await vendor.patch(f"/v1/windows/{id_}", json=change, headers={"If-Match": f'"{version}"'})
        assert answer.status_code == status, answer.text
        assert at is None or issues(answer.json()) == {at: "workload-budget-exceeded"}
