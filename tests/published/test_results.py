"""Published results come back: the DfE's key stage 2 figures of the academic year 2018-19, over HTTP, through both interfaces. See published/results.py."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from domain.store import embedded
from tests.fixtures.databases import fresh_database
from tests.fixtures.server import serving
from tests.published import results, whole_pupils

DATA = Path(__file__).with_name("data")
WINDOW = "2018-19/KS2"
LATER = "140810"  # joined its trust, GLF Schools (3190), in September 2019


@pytest.fixture(scope="module")
def loaded(cluster: embedded.Cluster) -> Iterator[results.Loaded]:
    with serving(fresh_database(cluster)) as server:
        yield results.load(
            server, DATA / "ks2-2018.csv", [DATA / name for name in ("establishments.csv", "groups.csv", "group_links.csv")]
        )


pytestmark = pytest.mark.xdist_group("published")


@pytest.mark.parametrize("interface", results.INTERFACES.values(), ids=results.INTERFACES)
def test_an_internal_reader_gets_every_published_figure(loaded: results.Loaded, interface: Any) -> None:
    figures = [
        (school.urn, figure, results.percent(figure, row))
        for school, figure, row in results.compared(loaded, interface, "manager")
        if figure.value is not None
    ]
    assert len(figures) > 500
    assert [wrong for wrong in figures if wrong[1].value != wrong[2]] == []


@pytest.mark.parametrize("interface", results.INTERFACES.values(), ids=results.INTERFACES)
def test_the_portal_gets_nothing_that_was_suppressed_and_nothing_wrong(loaded: results.Loaded, interface: Any) -> None:
    shown, suppressed = 0, 0
    for school, figure, row in results.compared(loaded, interface, "portal"):
        if figure.value is None:
            suppressed += 1
            assert row["status"] == "c", (school.urn, figure)
        if row["status"] == "c":
            assert all(
                row[name] is None
                for name in ("eligible", "valid", "expected", "expectedPercent", "higher", "higherPercent", "average")
            )
        else:
            shown += 1
            assert results.percent(figure, row) == figure.value, (school.urn, figure)
    assert suppressed > 100
    assert shown > 300


@pytest.mark.parametrize("interface", results.INTERFACES.values(), ids=results.INTERFACES)
@pytest.mark.parametrize(
    ("trust", "members", "absent"),
    [("16307", 8, None), ("3201", 7, None), ("3190", 1, LATER)],
    ids=["Xavier", "Good Shepherd", "GLF"],
)
def test_a_trust_pools_the_pupils_of_its_members_on_the_census_date(
    loaded: results.Loaded, interface: Any, trust: str, members: int | None, absent: str | None
) -> None:
    """Pooled, not the mean of percentages; a school that joined later counts for itself and not for the trust."""
    with loaded.server.client("manager") as client:
        pooled = {row["subject"]: row for row in interface(client, WINDOW, ["subject"], trust=trust)}
        schools = {str(row["schoolUrn"]) for row in interface(client, WINDOW, ["school", "subject"], trust=trust)}
        everywhere = {str(row["schoolUrn"]) for row in interface(client, WINDOW, ["school", "subject"])}
    assert absent is None or (absent not in schools and absent in everywhere)
    pupils = [pupil for school, made in loaded.pupils.items() if school.urn in schools for pupil in made]
    for measure in ("reading", "writing", "maths", "rwm"):
        assert pooled[measure]["eligible"] == len(pupils)
        for level in ("expected", "higher"):
            assert pooled[measure][f"{level}Percent"] == whole_pupils.percentage(pupils, measure, level, "all")
    assert members is None or pooled["rwm"]["schools"] == members


def test_the_closed_window_takes_no_more(loaded: results.Loaded) -> None:
    school, pupils = next(iter(loaded.pupils.items()))
    body = whole_pupils.judgements(school, pupils)
    body["entries"] = [
        {**body["entries"][0], "grade": "80" if body["entries"][0]["grade"] != "80" else "81", "recordedAt": "2019-09-01T09:00:00Z"}
    ]
    with loaded.server.client("vendor") as vendor:
        answer = vendor.post("/v1/judgements", json=body)
    assert answer.status_code == 422
    assert answer.json()["issues"][0]["code"] == "window-closed"
