"""Pupils by band of the common scale and by grade: counted by hand, closed, in both interfaces and CSV, and for internal readers alone."""

import csv
import io
from typing import Any

import pytest

from tests.aggregates.test_common_scales import (
    LATER,
    PERCENT,
    SCALE,
    SIGNED,
    WINDOW,
    band_points,
    drafted,
    fill_three_schools,
)
from tests.fixtures.clock import freeze_clock
from tests.fixtures.ready_trusts import Filling
from tests.fixtures.small_trust import TRUST, Trust, asked, batch, issues, judged, sent

BANDS = (
    "bands { counts { band label why pupils percent } of reason } grades { counts { scheme grade label pupils percent } of reason }"
)
NO_MARK, BELOW, NO_PLACE = "no-mark", "below-expected", "no-place"


@pytest.fixture
def fill_trust() -> Filling:
    return fill_three_schools


async def ask(client: Any, by: str = "school", subject: str = "reading", include: str = "bands,grades") -> list[Any]:
    """The rows of a question with their tables, the same in both interfaces."""
    parameters = {"window": WINDOW, "subject": subject, "groupBy": by, "include": include}
    page = await client.get("/v1/aggregates", params=parameters)
    assert page.status_code == 200, page.text
    query = f'{{ aggregates(window: "{WINDOW}", subject: "{subject}", groupBy: [{by}]) {{ nodes {{ eligible ...T }} edges {{ node {{ ...T }} }} }} }}'
    told = (await asked(client, f"{query} fragment T on AggregateRow {{ {BANDS} }}"))["aggregates"]
    rows: list[Any] = page.json()["data"]
    assert [{name: row[name] for name in ("eligible", "bands", "grades")} for row in rows] == told["nodes"]
    for row in rows:
        for name in ("bands", "grades"):
            if row[name]["counts"] is not None:
                assert sum(count["pupils"] for count in row[name]["counts"]) == row["eligible"], (name, row)
    return rows


def count_bands(row: Any) -> tuple[dict[str, int], int | None]:
    """The bands with pupils, those without a band by the reason, and of how many the percentages are."""
    return {count["band"] or count["why"]: count["pupils"] for count in row["bands"]["counts"] if count["pupils"]}, row["bands"][
        "of"
    ]


async def test_bands_and_grades_close_and_equal_a_hand_count(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(LATER):
        rows = await ask(vendor)
        assert {row["bands"]["reason"] for row in rows} == {"no-scale"}
        told = [[(count["grade"], count["pupils"], count["percent"]) for count in row["grades"]["counts"]] for row in rows]
        assert told == [
            [("WTS", 1, 25), ("EXS", 2, 50), ("GDS", 1, 25)],
            [("35", 1, 25), ("40", 1, 25), ("69", 1, 25), ("70", 1, 25)],
            [("1", 1, 25), ("3", 1, 25), ("4", 1, 25), ("6", 1, 25)],
        ]
        scale_id = (await sent(vendor, "/v1/common-scales", SCALE, 201))["id"]
        await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED)
        percent = await drafted(vendor, "percent", PERCENT)
        await sent(vendor, f"/v1/crosswalks/{percent}/sign", SIGNED)
        oak, elm, ash = await ask(vendor)
        # WTS is below expected, and of two bands below nobody knows which
        assert count_bands(oak) == ({"at": 2, "above": 1, BELOW: 1}, 4)
        assert count_bands(elm) == ({"below": 1, "at": 2, "above": 1}, 4)
        assert ash["bands"] == {"counts": None, "of": None, "reason": NO_PLACE}
        (trust,) = await ask(vendor, "subject")
        assert count_bands(trust) == ({"below": 1, "at": 4, "above": 2, BELOW: 1, NO_PLACE: 4}, 8)
        assert [(count["label"], count["percent"]) for count in trust["bands"]["counts"]] == [
            *[("Well-Below", 0), ("Below", 13), ("At", 50), ("Above", 25), (None, 13), (None, None)]
        ]
        assert trust["expected"] == 6 == sum(c["pupils"] for c in trust["bands"]["counts"] if c["band"] in ("at", "above"))
        for rows in (await ask(vendor, subject="rwm"), await ask(vendor, "sex", "rwm")):
            assert {row[name]["reason"] for row in rows if row["eligible"] for name in ("bands", "grades")} == {"conjunction"}
        assert {row["bands"]["reason"] for row in await ask(vendor, "eal") if not row["eligible"]} == {"nobody-eligible"}
        # a mark that is withdrawn, and a status: neither is below
        gone = [judged(10, "reading", None, withdrawn=True), judged(11, "reading", None, status="absent")]
        await sent(vendor, "/v1/judgements", batch("Elm", gone, window=WINDOW))
        assert count_bands((await ask(vendor))[1]) == ({"at": 1, "above": 1, NO_MARK: 2}, 4)
        points = await drafted(vendor, "points", band_points("wwb-aA"))
        await sent(vendor, f"/v1/crosswalks/{points}/sign", SIGNED)
        # 4 points are judged, and mapped to no band: in no percentage
        assert count_bands((await ask(vendor))[2]) == ({"well-below": 1, "below": 1, "above": 1, NO_PLACE: 1}, 3)


async def test_files_have_a_column_for_each_band_and_grade(small_trust: Trust, vendor: Any) -> None:
    with freeze_clock(LATER):
        scale_id = (await sent(vendor, "/v1/common-scales", SCALE, 201))["id"]
        await sent(vendor, f"/v1/common-scales/{scale_id}/sign", SIGNED)
        url = f"/v1/aggregates?window={WINDOW}&subject=writing&groupBy=school&include=grades,bands&format=csv"
        (oak, elm, ash), (one,) = [
            list(csv.DictReader(io.StringIO((await vendor.get(url + more)).text))) for more in ("", "&first=1")
        ]
        assert (one, set(oak) == set(elm) == set(ash)) == (oak, True)
        assert (oak["bands.at.pupils"], oak["noBand.below-expected.pupils"], oak["bands.well-below.percent"]) == ("2", "1", "0")
        assert (oak["grades.ks2-writing-ta.EXS.pupils"], oak["grades.points.4.pupils"], ash["grades.points.4.pupils"]) == (
            "2",
            "0",
            "3",
        )
        assert (elm["bands.reason"], elm["bands.at.pupils"]) == ("no-place", "")
        wide = list(csv.DictReader(io.StringIO((await vendor.get(f"{url}&shape=wide")).text)))
        assert [row["writing.bands.at.pupils"] for row in wide] == ["2", "z", "z"]
        assert "bands" not in (await vendor.get(url.replace("&include=grades,bands", ""))).text


async def test_readers_of_the_public_figures_are_refused(small_trust: Trust, vendor: Any) -> None:
    portal = await small_trust.client("portal", f"trust:{TRUST}=aggregates:read")
    url = f"/v1/aggregates?window={WINDOW}&groupBy=school,subject"
    refused = await portal.get(f"{url}&include=bands,grades")
    assert (refused.status_code, issues(refused.json())) == (403, {"bands": "scope-missing", "grades": "scope-missing"})
    query = f'{{ aggregates(window: "{WINDOW}", groupBy: [school, subject]) {{ nodes {{ subject bands {{ of }} }} }} }}'
    assert "bands needs the scope aggregates:internal" in (await portal.post("/graphql", json={"query": query})).text
    mixed = await small_trust.client("mixed", f"trust:{TRUST}=aggregates:read", "school:100002=aggregates:internal")
    assert len((await mixed.get(url)).json()["data"]) > 3
    assert {row["schoolName"] for row in (await mixed.get(f"{url}&include=bands")).json()["data"]} == {"Elm"}
    bad = await vendor.get(f"{url}&include=band,grades,grades&view=public")
    assert bad.status_code == 400
    assert [issue["code"] for issue in bad.json()["issues"]] == ["parameter-invalid", "parameter-invalid", "parameter-repeated"]
