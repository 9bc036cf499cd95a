"""Returns of a window: by school, subject and aspect, whom the census expects, what has come in, who is missing, and who sent last."""

from typing import Any

from tests.fixtures.small_trust import COLLECTED, URNS, WINDOW, Trust, asked, batch, entry, judged, roll, sent, window


async def returned(client: Any) -> dict[tuple[str, str, str], dict[str, Any]]:
    """The rows of the window, by school, subject and aspect."""
    windows = (await client.get("/v1/windows", params={"code": WINDOW, "include": "returns", "returns.first": 100})).json()["data"]
    rows = windows[0]["returns"]["data"]
    return {(row["schoolName"], row["subject"], row["aspect"]): row for row in rows}


def figures(row: dict[str, Any]) -> tuple[int, int, int]:
    return row["expected"], row["received"], row["missing"]


async def test_a_row_for_each_school_subject_and_aspect_that_is_collected(small_trust: Trust, vendor: Any) -> None:
    values = [
        judged(0),
        judged(1),
        judged(2, grade=None, status="absent"),
        judged(3),
        judged(3, "writing", "EXS", aspect="teacher"),
    ]
    await sent(vendor, "/v1/judgements", batch("Oak", values))
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(3, grade=None, withdrawn=True)]))
    found = await returned(vendor)
    assert set(found) == {(school, s, a) for school in ("Oak", "Elm", "Ash") for s, a, _ in COLLECTED}
    assert figures(found["Oak", "reading", "main"]) == (10, 3, 7)
    assert figures(found["Oak", "writing", "teacher"]) == (10, 1, 9)  # not counted in aggregates, expected nevertheless
    assert figures(found["Elm", "reading", "main"]) == (3, 0, 3)
    assert figures(found["Ash", "reading", "main"]) == (0, 0, 0)
    missing = {str(r["id"]) for r in await small_trust.operator.fetch("SELECT id FROM pupils WHERE surname ~ 'Surname[3-9]$'")}
    row = found["Oak", "reading", "main"]
    assert (set(row["missingPupilIds"]), row["missingCut"]) == (missing, False)
    assert (row["schoolId"], row["schoolUrn"], row["windowCode"]) == (str(small_trust.ids["Oak"]), URNS["Oak"], WINDOW)
    assert (row["lastClient"], row["lastRejected"], found["Elm", "reading", "main"]["lastPushAt"]) == ("vendor", 0, None)
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(5), judged(6, grade="ZZ")]), 422)
    assert (await returned(vendor))["Oak", "reading", "main"]["lastRejected"] == 2


async def test_who_is_expected_is_the_census_and_not_todays_roll(small_trust: Trust, vendor: Any) -> None:
    """One leaves before it, one moves after it, one is of another year group, and whom nobody expects is judged nevertheless."""
    left = entry(0, enrolments=[{"from": "2014-09-01", "to": "2018-05-01", "status": "C"}])
    await sent(vendor, "/v1/pupils", roll("Oak", [left, entry(1, yearGroup="5")]))
    moved = entry(2, reference="E2", enrolments=[{"from": "2018-06-01", "status": "C"}])
    await sent(vendor, "/v1/pupils", roll("Elm", [moved], asOf="2018-06-02"))
    assert (await sent(vendor, "/v1/judgements", batch("Oak", [judged(1), judged(3)])))["notCounted"] == 1
    await sent(vendor, "/v1/judgements", batch("Elm", [{"reference": "E2", "subject": "reading", "grade": 100}]))
    found = await returned(vendor)
    assert figures(found["Oak", "reading", "main"]) == (8, 2, 6)  # the one who moved is counted where the census was
    assert figures(found["Elm", "reading", "main"]) == (3, 0, 3)
    counted = await small_trust.value(
        "SELECT sum(n) FROM cells c JOIN subjects s ON s.no = c.subject_no WHERE s.code = 'maths' AND c.school_id = $1",
        small_trust.ids["Oak"],
    )
    assert counted == found["Oak", "maths", "main"]["expected"]


async def test_a_pupil_out_of_reach_is_missing_and_not_named(small_trust: Trust, vendor: Any) -> None:
    moved = entry(2, reference="E2", enrolments=[{"from": "2018-06-01", "status": "C"}])
    await sent(vendor, "/v1/pupils", roll("Elm", [moved], asOf="2018-06-02"))
    oak = await small_trust.client("oak", f"school:{URNS['Oak']}=all")
    row = (await returned(oak))["Oak", "reading", "main"]
    assert (figures(row), len(row["missingPupilIds"]), row["missingCut"]) == ((10, 0, 10), 9, True)
    assert {school for school, *_ in await returned(oak)} == {"Oak"}


async def test_at_most_200_are_named(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/pupils", roll("Ash", [entry(n) for n in range(1000, 1210)]))
    row = (await returned(vendor))["Ash", "reading", "main"]
    assert (row["missing"], len(row["missingPupilIds"]), row["missingCut"]) == (210, 200, True)


async def test_it_is_for_staff_and_no_way_around_disclosure(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    portal = await small_trust.client("portal", "trust:4128=windows:read,aggregates:read,schools:read")
    assert (await portal.get("/v1/windows", params={"include": "returns"})).status_code == 403
    assert (await portal.get("/v1/returns")).status_code == 403
    half = await small_trust.client(
        "half",
        f"school:{URNS['Oak']}=windows:read,judgements:read",
        f"school:{URNS['Elm']}=windows:read",
        f"school:{URNS['Ash']}=judgements:read",
    )
    seen = await returned(half)
    assert {school for school, *_ in seen} == {"Oak"}
    assert "missingPupilIds" not in seen["Oak", "reading", "main"]
    mixed = await small_trust.client(
        "mixed",
        f"school:{URNS['Oak']}=windows:read,judgements:read,pupils:read",
        f"school:{URNS['Elm']}=windows:read,judgements:read",
    )
    seen = await returned(mixed)
    assert seen["Elm", "reading", "main"]["missingPupilIds"] is None
    assert len(seen["Oak", "reading", "main"]["missingPupilIds"]) == 9


async def test_filters_csv_and_graphql_come_with_it(small_trust: Trust, vendor: Any) -> None:
    await sent(vendor, "/v1/judgements", batch("Oak", [judged(1)]))
    asking = {"windowCode": WINDOW, "schoolUrn": URNS["Oak"], "subject": "reading", "fields": "schoolName,subject,expected,missing"}
    sheet = await vendor.get("/v1/returns", params=asking | {"format": "csv"})
    assert sheet.text.splitlines() == ["schoolName,subject,expected,missing", "Oak,reading,10,9"]
    told = await asked(
        vendor,
        '{ windows { nodes { returns(where: {schoolName: ["Oak"], subject: ["reading"]}) { nodes { expected received missing school { urn } } } } } }',
    )
    assert told["windows"]["nodes"][0]["returns"]["nodes"] == [
        {"expected": 10, "received": 1, "missing": 9, "school": {"urn": URNS["Oak"]}}
    ]


async def test_a_planned_window_has_none(small_trust: Trust) -> None:
    manager = await small_trust.client("manager", "trust:4128=all")
    await sent(manager, "/v1/windows", window(), 201)
    assert await returned(manager) == {}
