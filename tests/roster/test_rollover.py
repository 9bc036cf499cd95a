"""Roll-over: a school tells its academic year and which one its newest roll is of, and nothing that is not there yet is a 404."""

import importlib.util
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from domain.roster.years import academic_year_of, format_academic_year, parse_academic_year
from tests.fixtures.clock import set_clock
from tests.fixtures.settings import ROOT
from tests.fixtures.small_trust import URNS, Trust, entry, roll, sent

ENGLAND = ZoneInfo("Europe/London")
NOW = parse_academic_year(academic_year_of(datetime.now(ENGLAND).date()))


async def states(client: Any) -> dict[str, tuple[str | None, str]]:
    """By school, rollYear and rollState, the same in both interfaces; academicYear is today's."""
    rest = (await client.get("/v1/schools?fields=name,academicYear,rollYear,rollState")).json()["data"]
    answer = await client.post("/graphql", json={"query": "{ schools { nodes { name academicYear rollYear rollState } } }"})
    assert answer.json()["data"]["schools"]["nodes"] == rest
    assert {row["academicYear"] for row in rest} == {format_academic_year(NOW)}
    return {row["name"]: (row["rollYear"], row["rollState"]) for row in rest}


def pupil(number: int, **changed: Any) -> dict[str, Any]:
    """A pupil who is of Year 6 in this academic year."""
    spells = [{"from": f"{NOW - 5}-09-01", "status": "C"}]
    return entry(number, **({"dateOfBirth": f"{NOW - 10}-01-01", "enrolments": spells, "characteristics": []} | changed))


def of(year: int, month: int = 9) -> str:
    """A day of the academic year that begins in this one."""
    return str(date(year if month >= 9 else year + 1, month, 1))


async def test_a_roll_of_this_year_of_last_year_and_none(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1)], asOf=of(NOW)))
    await sent(vendor, "/v1/pupils", roll("Elm", [pupil(2)], asOf=of(NOW - 1)))
    told = {
        "Oak": (format_academic_year(NOW), "current"),
        "Elm": (format_academic_year(NOW - 1), "previous"),
        "Ash": (None, "none"),
    }
    assert await states(vendor) == told
    late = (await vendor.get("/v1/schools?rollState=previous&rollState=none&sort=name&fields=name")).json()["data"]
    assert [row["name"] for row in late] == ["Ash", "Elm"]
    portal = await small_trust.client("portal", "trust:4128=schools:read")
    assert await states(portal) == told


async def test_the_first_roll_of_the_new_year_rolls_the_school_over(vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1), pupil(2)], asOf=of(NOW - 1, 7)))
    before = await vendor.get("/v1/pupils?fields=reference,yearGroup")
    assert (await states(vendor))["Oak"] == (format_academic_year(NOW - 1), "previous")
    assert [row["yearGroup"] for row in before.json()["data"]] == ["6", "6"]  # last year's are served until then
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1, yearGroup="7")], asOf=of(NOW, 9)))
    assert (await states(vendor))["Oak"] == (format_academic_year(NOW), "current")


async def test_only_a_roll_of_a_newer_year_changes_the_state_and_with_it_the_version(small_trust: Trust, vendor: Any) -> None:
    """Neither the same roll on a later day, nor an older one, nor one that is rejected, nor a dry run."""
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1)], asOf=of(NOW - 1)))
    before = await small_trust.everything()
    for path, year, more in (
        ("/v1/pupils", of(NOW - 1, 7), {}),
        ("/v1/pupils?dryRun=true", of(NOW), {}),
        ("/v1/pupils", of(NOW), {"yearGroup": "Nursery"}),
    ):
        await sent(vendor, path, roll("Oak", [pupil(1, **more)], asOf=year), 422 if more else 200, prefer="handling=lenient")
    assert await small_trust.everything() == before
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1)], asOf=of(NOW - 2)))
    assert (await states(vendor))["Oak"] == (format_academic_year(NOW - 1), "previous")
    version = "SELECT version FROM school_versions WHERE school_id = $1"
    known = await small_trust.value(version, small_trust.ids["Oak"])
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1)], asOf=of(NOW)))
    assert (await states(vendor))["Oak"] == (format_academic_year(NOW), "current")
    assert await small_trust.value(version, small_trust.ids["Oak"]) > known


async def correct(client: Any, year: str | None, status: int = 200, **condition: str) -> Any:
    """Corrects the roll year of Oak."""
    (row,) = (await client.get(f"/v1/schools?urn={URNS['Oak']}&fields=id,version")).json()["data"]
    headers = {"If-Match": f'"{row["version"]}"'} | condition
    answer = await client.patch(f"/v1/schools/{row['id']}", json={"rollYear": year}, headers=headers)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_mistaken_roll_year_is_corrected_and_rolls_are_taken_again(small_trust: Trust, vendor: Any) -> None:
    """A roll was sent with a day that lay years ahead, before such days were refused."""
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1)], asOf=of(NOW)))
    await small_trust.operator.execute("UPDATE school_versions SET roll_year = 2061, version = version + 1")
    await small_trust.operator.execute("UPDATE pupil_rolls SET as_of = '2062-01-09'")
    assert (await states(vendor))["Oak"] == ("2061-62", "current")
    later = roll("Oak", [pupil(1, surname="Later")], asOf=of(NOW, 9))
    assert (await sent(vendor, "/v1/pupils", later))["superseded"] == 1
    assert (await correct(vendor, format_academic_year(NOW)))["outcome"] == "updated"
    assert (await states(vendor))["Oak"] == (format_academic_year(NOW), "current")
    assert (await sent(vendor, "/v1/pupils", later))["updated"] == 1
    assert (await correct(vendor, format_academic_year(NOW)))["outcome"] == "unchanged"
    await correct(vendor, format_academic_year(NOW - 1))
    assert (await states(vendor))["Oak"] == (format_academic_year(NOW - 1), "previous")
    await correct(vendor, None)
    assert (await states(vendor))["Oak"] == (None, "none")
    assert (await sent(vendor, "/v1/pupils", later))["unchanged"] == 1
    assert (await states(vendor))["Oak"] == (format_academic_year(NOW), "current")


async def test_a_roll_year_that_cannot_be_is_refused(small_trust: Trust, vendor: Any) -> None:
    for year in (format_academic_year(NOW + 1), "2061", "2020-22", ""):
        refused = await correct(vendor, year, 422)
        assert {issue["at"] for issue in refused["issues"]} == {"/rollYear"}
    await correct(vendor, format_academic_year(NOW), 412, **{"If-Match": '"77"'})
    reader = await small_trust.client("reader", f"school:{URNS['Oak']}=schools:read")
    await correct(reader, format_academic_year(NOW), 403)


async def test_a_year_with_nothing_in_it_yet_is_an_empty_list(vendor: Any) -> None:
    """Neither prepared for nor ever heard of: 200 in both interfaces, also at a school without a roll."""
    for plural, field in (("windows", "academicYear"), ("judgements", "academicYear"), ("targets", "horizonYear")):
        for year in (format_academic_year(NOW + 1), "2098-99"):
            rest = await vendor.get(f"/v1/{plural}?{field}={year}")
            assert (rest.status_code, rest.json()["data"]) == (200, []), (plural, year)
            answer = await vendor.post(
                "/graphql", json={"query": f'{{ {plural}(where: {{{field}: "{year}"}}) {{ nodes {{ id }} }} }}'}
            )
            assert answer.json()["data"] == {plural: {"nodes": []}}
    (school,) = (await vendor.get(f"/v1/schools?urn={URNS['Ash']}&include=pupils")).json()["data"]
    assert school["pupils"]["data"] == []
    aggregates = await vendor.get("/v1/aggregates?groupBy=subject,window")
    assert (aggregates.status_code, aggregates.json()["data"]) == (200, [])


BOUNDARIES = {
    "2026-08-31T22:59:59": 2025,  # a minute to midnight in England, where it is summer
    "2026-08-31T23:00:00": 2026,
    "2026-09-01T00:00:00": 2026,
    "2026-12-31T23:59:59": 2026,
    "2027-01-01T00:00:00": 2026,
    "2028-02-29T12:00:00": 2027,
    "2027-08-31T12:00:00": 2026,
    "2027-09-01T12:00:00": 2027,
}


async def test_the_first_of_september_starts_the_year_in_england(vendor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, year in BOUNDARIES.items():
        instant = datetime.fromisoformat(text).replace(tzinfo=UTC)
        set_clock(monkeypatch, instant)
        rest = (await vendor.get("/v1/schools?fields=academicYear&first=1")).json()["data"][0]
        assert rest == {"academicYear": format_academic_year(year)}, text
        assert academic_year_of(instant.astimezone(ENGLAND).date()) == format_academic_year(year)


@pytest.mark.parametrize(
    ("roll_year", "state"), [(None, "none"), (2024, "previous"), (2025, "previous"), (2026, "current"), (2027, "current")]
)
async def test_the_state_in_the_first_days_of_september_2026(
    small_trust: Trust, vendor: Any, monkeypatch: pytest.MonkeyPatch, roll_year: int | None, state: str
) -> None:
    if roll_year is not None:
        await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1)], asOf=of(2024)))
        await small_trust.value("UPDATE school_versions SET roll_year = $1 RETURNING 1", roll_year)
    set_clock(monkeypatch, datetime(2026, 9, 3, 7, 30, tzinfo=UTC))
    (school,) = (await vendor.get(f"/v1/schools?urn={URNS['Oak']}&fields=rollState")).json()["data"]
    assert school == {"rollState": state}


async def test_a_correction_at_five_past_midnight_belongs_to_the_new_year(
    small_trust: Trust, vendor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1 September begins in England at 23:00 UTC of 31 August."""
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1)], asOf="2025-10-01"))
    row = (await vendor.get("/v1/pupils?fields=id,yearGroup,version")).json()["data"][0]
    set_clock(monkeypatch, datetime(2026, 8, 31, 23, 5, tzinfo=UTC))
    answer = await vendor.patch(f"/v1/pupils/{row['id']}", json={"yearGroup": "7"}, headers={"If-Match": f'"{row["version"]}"'})
    assert answer.status_code == 200, answer.text
    spells = await small_trust.operator.fetch(
        "SELECT value, from_on FROM characteristics WHERE kind = 'yearGroup' ORDER BY from_on"
    )
    assert [tuple(row) for row in spells] == [("6", date(2025, 9, 1)), ("7", date(2026, 9, 1))]


async def test_the_entity_tag_changes_at_midnight_in_england(vendor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, datetime(2026, 8, 31, 22, 59, 59, tzinfo=UTC))
    before = await vendor.get("/v1/schools?fields=academicYear")
    condition = {"If-None-Match": before.headers["ETag"]}
    assert (await vendor.get("/v1/schools?fields=academicYear", headers=condition)).status_code == 304
    set_clock(monkeypatch, datetime(2026, 8, 31, 23, 0, 0, tzinfo=UTC))
    after = await vendor.get("/v1/schools?fields=academicYear", headers=condition)
    assert (after.status_code, after.json()["data"][0]) == (200, {"academicYear": "2026-27"})


async def test_the_migration_finds_the_years_of_rolls_that_came_before_it(small_trust: Trust, vendor: Any) -> None:
    """As the owner, from whom row-level security would hide every row, were there no policy for it."""
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1)], asOf=of(NOW - 1)))
    await sent(vendor, "/v1/pupils", roll("Oak", [pupil(1), pupil(2)], asOf=of(NOW)))
    await sent(vendor, "/v1/pupils", roll("Elm", [pupil(3)], asOf=of(NOW - 3)))
    before = await states(vendor)
    spec = importlib.util.spec_from_file_location("standing", ROOT / "migrations" / "versions" / "0011_standing.py")
    assert spec is not None
    assert spec.loader is not None
    migration = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(migration)
    owner = await asyncpg.connect(small_trust.databases.owner_url)
    try:
        await owner.execute("UPDATE school_versions SET roll_year = NULL, version = version + 1")
        assert {state for _, state in (await states(vendor)).values()} == {"none"}
        await owner.execute(migration.SQL.strip().split(";\n\n")[-1])
        await owner.execute("UPDATE school_versions SET version = version + 1")
    finally:
        await owner.close()
    assert await states(vendor) == before
    assert {state for _, state in before.values()} == {"current", "previous", "none"}
