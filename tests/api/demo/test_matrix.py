"""The matrix of the demonstration equals a count by another program: plain Python over the CSV exports, without any of ours."""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

MAIN = {"C", "M", "F", "O"}


def export(http: httpx2.Client, path: str, **params: Any) -> list[dict[str, str]]:
    """Every row of a list as a spreadsheet has it."""
    rows: list[dict[str, str]] = []
    url: str | None = str(httpx2.URL(path, params={"format": "csv", "first": 1000} | params))
    while url is not None:
        answer = http.get(url)
        assert answer.status_code == 200, answer.text
        rows += csv.DictReader(io.StringIO(answer.text))
        url = answer.links["next"]["url"] if "next" in answer.links else None
    return rows


def find_windows(http: httpx2.Client) -> list[dict[str, str]]:
    """The last summer's window, and the one that is open."""
    rows = export(http, "/v1/windows", fields="code,censusOn,state,season,template,yearGroups,academicYear")
    whole = [row for row in rows if not row["template"] and row["code"].rpartition("/")[2] in ("Autumn", "Spring", "Summer")]
    (to,) = (row for row in whole if row["state"] == "open")
    earlier = [row for row in whole if row["academicYear"] < to["academicYear"] and row["season"] == "summer"]
    return [max(earlier, key=lambda row: row["censusOn"]), to]


def count_by_hand(http: httpx2.Client, windows: list[dict[str, str]], subject: str) -> "Counter[tuple[str, ...]]":
    """(school, from, to) of each pupil who was at one school on both days and has a grade in both windows that is in a band."""
    spells: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
    for spell in export(http, "/v1/enrolments", fields="pupilId,schoolId,status,from,to"):
        spells[spell["pupilId"]].append(spell)

    def find_school(pupil: str, day: str) -> str | None:
        on = [s for s in spells[pupil] if s["status"] in MAIN and s["from"] <= day and (s["to"] or "9999") >= day]
        return max(on, key=lambda s: s["from"])["schoolId"] if on else None

    lines = export(http, "/v1/crosswalk-grades", fields="grade,band,crosswalk.fromOn", include="crosswalk")
    bands = {row["grade"]: row["band"] for row in lines if row["crosswalk.fromOn"]}
    years = {row["id"]: row["yearGroup"] for row in export(http, "/v1/pupils", fields="id,yearGroup", roll="all")}
    placed: list[dict[str, str]] = []
    for window in windows:
        named = {"windowCode": window["code"], "subjectCode": subject, "aspect": "main", "fields": "pupilId,grade"}
        placed.append(
            {row["pupilId"]: bands[row["grade"]] for row in export(http, "/v1/judgements", **named) if row["grade"] in bands}
        )
    before, after = placed
    found: Counter[tuple[str, ...]] = Counter()
    for pupil in before.keys() & after.keys():
        schools = {find_school(pupil, window["censusOn"]) for window in windows}
        year = years[pupil]
        is_collected = year in windows[1]["yearGroups"].split(";") and str(int(year) - 1) in windows[0]["yearGroups"].split(";")
        if len(schools) == 1 and None not in schools and is_collected:
            found[str(schools.pop()), before[pupil], after[pupil]] += 1
    return found


@pytest.fixture
def manager(demo_facts: Path) -> Iterator[httpx2.Client]:
    facts = json.loads(demo_facts.read_text())
    client = facts["clients"]["trust-data-manager"]
    with httpx2.Client(base_url=facts["baseUrl"], timeout=60) as http:
        names = (client["clientId"], client["clientSecret"])
        token = http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=names).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        yield http


@pytest.mark.parametrize("subject", ["reading", "writing"])
def test_the_matrix_equals_a_count_of_the_exports(manager: httpx2.Client, subject: str) -> None:
    windows = find_windows(manager)
    named = {"from": windows[0]["code"], "to": windows[1]["code"], "subject": subject, "groupBy": "school"}
    rows = export(manager, "/v1/aggregates/transitions", **named)
    told = Counter({(row["schoolId"], row["fromPlace"], row["toPlace"]): int(row["pupils"]) for row in rows if not row["leftOut"]})
    assert {row["comparedBy"] for row in rows if not row["leftOut"]} == {"band"}
    assert told == count_by_hand(manager, windows, subject)
    assert told.total() > 300
    answer = manager.get("/v1/aggregates/transitions", params=named | {"first": 1000}).json()
    assert sum(group["matched"] for group in answer["groups"]) == told.total()
    assert sum(group["pupils"] for group in answer["groups"]) == sum(int(row["pupils"]) for row in rows)
    assert {"left", "to-another-school", "from-another-school", "not-placed"} <= {row["leftOut"] for row in rows}
    assert [row["reason"] for row in answer["excluded"]] == ["no-place"], "the school that counts points"
