"""Bands, gaps, conjunctions and changes of random trusts equal a count by another program, which reads nothing but the CSV exports."""

import csv
import io
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.aggregates.test_common_scales import BANDS, PERCENT, POINTS, SCALE, SIGNED
from tests.fixtures.clock import freeze_clock
from tests.fixtures.ready_trusts import Filling, register_vendor
from tests.fixtures.sizes import choose_size
from tests.fixtures.small_trust import TRUST, Trust, batch, entry, judged, opened, roll, sent

OWN, NOW = {"trust": {"groupUid": TRUST}}, datetime(2026, 6, 20, 9, tzinfo=UTC)
WINDOWS = {"2024-25/Spring": "2025-03-01", "2025-26/Spring": "2026-03-01"}
EARLIER, LATER = WINDOWS
SUBJECTS = ("reading", "writing", "maths")
SCHEMES: dict[str, list[str]] = {
    "ks2-writing-ta": ["WTS", "EXS", "GDS"],
    "percent": [str(n) for n in range(10, 101, 5)],
    "points": [str(n) for n in range(1, 7)],
}
STATUTORY = {"WTS": (None, False), "EXS": ("at", True), "GDS": ("above", True)}
"""The band of a grade of the statutory scheme, and whether it is expected: of what is below nothing says which band."""


@pytest.fixture
def fill_trust() -> Filling:
    return prepare_trust


async def prepare_trust(trust: Trust) -> None:
    """A trust with a scale in force and a crosswalk of percentages."""
    client = await register_vendor(trust)
    await sent(client, "/v1/schemes", {"tenant": OWN, "code": "points", "name": "points", "grades": POINTS}, 201)
    await sent(client, "/v1/schemes", {"tenant": OWN, "code": "percent", "name": "percent", "template": "percent"}, 201)
    with freeze_clock(NOW):
        scale = await sent(client, "/v1/common-scales", SCALE, 201)
        await sent(client, f"/v1/common-scales/{scale['id']}/sign", SIGNED)
        crosswalk = {"tenant": OWN, "scheme": "percent", "grades": PERCENT}
        made = await sent(client, "/v1/crosswalks", crosswalk, 201)
        await sent(client, f"/v1/crosswalks/{made['id']}/sign", SIGNED)


async def fill(client: Any, draw: random.Random) -> None:
    """Schools of some pupils each, judged twice in a scheme for each school; some are not judged, and some absent."""
    lines = [{"grade": str(n), "band": draw.choice([*(band["code"] for band in BANDS), None])} for n in range(1, 7)]
    made = await sent(client, "/v1/crosswalks", {"tenant": OWN, "scheme": "points", "grades": lines}, 201)
    await sent(client, f"/v1/crosswalks/{made['id']}/sign", SIGNED)
    schools = {school: draw.choice(list(SCHEMES)) for school in ("Oak", "Elm", "Ash")}
    numbers = {school: range(100 * i, 100 * i + draw.randint(1, 12)) for i, school in enumerate(schools)}
    for school, of in numbers.items():
        rows = []
        for n in of:
            kinds = {"sen": draw.choice("NNKE"), "ever6Fsm": draw.choice(["true", "false", "false", None])}
            facts = [{"kind": kind, "value": value, "from": "2019-09-01"} for kind, value in kinds.items() if value]
            since = [{"from": "2019-09-01", "status": "C"}]
            more = {"sex": draw.choice("FM"), "characteristics": facts, "enrolments": since}
            rows.append(entry(n, dateOfBirth="2015-01-01", yearGroup="5", **more))
        await sent(client, "/v1/pupils", roll(school, rows, asOf="2024-09-30"))
    for code, day in WINDOWS.items():
        collects = [
            {"subject": subject, "scheme": scheme, "schools": [{"urn": {"Oak": 100001, "Elm": 100002, "Ash": 100003}[school]}]}
            for subject in SUBJECTS
            for school, scheme in schools.items()
        ]
        term = {"academicYear": code[:7], "censusOn": day, "opensAt": "2027-01-05T08:00:00Z", "closesAt": "2027-07-31T17:00:00Z"}
        await opened(client, code, collects=collects, yearGroups=["5", "6"], **term)
        for school, of in numbers.items():
            marks = []
            for n in of:
                for subject in SUBJECTS:
                    kind = draw.random()
                    if kind > 0.2:
                        marks.append(judged(n, subject, draw.choice(SCHEMES[schools[school]])))
                    elif kind > 0.1:
                        marks.append(judged(n, subject, None, status="absent"))
            if marks:
                await sent(client, "/v1/judgements", batch(school, marks, window=code))


async def export(client: Any, path: str, **parameters: Any) -> list[dict[str, str]]:
    """Every row of a list, as a spreadsheet has it."""
    answer = await client.get(path, params={"format": "csv", "first": 1000, **parameters})
    assert answer.status_code == 200, answer.text
    assert "link" not in answer.headers
    return list(csv.DictReader(io.StringIO(answer.text)))


def find_scheme(grade: str) -> str | None:
    """The scheme of a grade: no two schemes of these trusts share a code."""
    return next((scheme for scheme, grades in SCHEMES.items() if grade in grades), None)


class OtherProgram:
    """Counts pupils from the exports, by the rules that the documentation gives and no code of the product."""

    def __init__(self, tables: dict[str, list[dict[str, str]]]) -> None:
        self.schools = {row["id"]: row["schoolId"] for row in tables["pupils"]}
        self.kinds: defaultdict[str, dict[str, str]] = defaultdict(dict)
        for row in tables["pupils"]:
            self.kinds[row["id"]]["sex"] = row["sex"]
        for row in tables["characteristics"]:
            self.kinds[row["pupilId"]][row["kind"]] = row["value"]
        self.grades = {
            (row["pupilId"], row["windowCode"], row["subjectCode"]): (find_scheme(row["grade"]), row["grade"])
            for row in tables["judgements"]
        }
        order = [band["code"] for band in BANDS]
        self.bands: dict[tuple[str, str], tuple[str | None, bool | None]] = {
            (row["scheme"], row["grade"]): (row["band"] or None, order.index(row["band"]) >= 2 if row["band"] else None)
            for row in tables["crosswalk"]
        }
        self.bands |= {("ks2-writing-ta", grade): place for grade, place in STATUTORY.items()}
        self.of_school = {school: scheme for pupil, school in self.schools.items() if (scheme := self._find_scheme(pupil))}
        self.placed = {scheme for (scheme, _), (_, expected) in self.bands.items() if expected is not None}

    def _find_scheme(self, pupil: str) -> str | None:
        return next((scheme for (who, _, _), (scheme, _) in self.grades.items() if who == pupil and scheme), None)

    def find_place(self, pupil: str, window: str, subject: str) -> tuple[str, bool | None]:
        """The band of a pupil, or why there is none, and whether it is expected: None for who enters no percentage."""
        scheme, grade = self.grades.get((pupil, window, subject), (None, ""))
        if not grade:
            known = (scheme or self.of_school.get(self.schools[pupil])) in self.placed
            return ("no-mark", False) if known else ("no-place", None)
        band, expected = self.bands[str(scheme), grade]
        return (band or ("no-place" if expected is None else "below-expected")), expected

    def count_bands(self, school: str, window: str, subject: str) -> Counter[str]:
        return Counter(self.find_place(pupil, window, subject)[0] for pupil, of in self.schools.items() if of == school)

    def count(self, school: str | None, window: str, subject: str, **kind: str) -> tuple[int, int]:
        """How many reach the expected standard, and of how many."""
        pupils = [pupil for pupil, of in self.schools.items() if school in (None, of)]
        pupils = [pupil for pupil in pupils if all(self.kinds[pupil].get(name) == value for name, value in kind.items())]
        parts = SUBJECTS if subject == "rwm" else (subject,)
        outcomes = [[self.find_place(pupil, window, part)[1] for part in parts] for pupil in pupils]
        placed = [outcome for outcome in outcomes if None not in outcome]
        return sum(all(outcome) for outcome in placed), len(placed)


def take(difference: Any) -> tuple[Any, ...]:
    return tuple(difference[name] for name in ("pupils", "of", "againstPupils", "againstOf"))


@pytest.mark.parametrize("seed", range(choose_size(2, 50)))
async def test_figures_equal_a_count_from_the_exports(small_trust: Trust, vendor: Any, seed: int) -> None:
    with freeze_clock(NOW):
        await fill(vendor, random.Random(seed))
        crosswalks = await export(vendor, "/v1/crosswalks")
        lines = [
            row | {"scheme": walk["schemeCode"]}
            for walk in crosswalks
            for row in await export(vendor, f"/v1/crosswalks/{walk['id']}/grades")
        ]
        names = ("pupils", "characteristics", "judgements")
        other = OtherProgram({name: await export(vendor, f"/v1/{name}") for name in names} | {"crosswalk": lines})
        compared = 0
        for subject in (*SUBJECTS, "rwm"):
            question = {"window": LATER, "subject": subject, "groupBy": "school"}
            rows = (await vendor.get("/v1/aggregates", params=question | {"include": "bands", "changeFrom": EARLIER})).json()[
                "data"
            ]
            for row in rows:
                school = row["schoolId"]
                now, before = (other.count(school, window, subject) for window in (LATER, EARLIER))
                assert (row["expected"] or 0, row["expectedOf"] or 0) == (now if row["expectedOf"] else (0, 0)), row
                told = row["change"]["expected"]
                if told["reason"] is None:
                    assert take(told) == (*now, *before), row
                    compared += 1
                if row["bands"]["counts"] is not None:
                    counts = Counter({count["band"] or count["why"]: count["pupils"] for count in row["bands"]["counts"]})
                    assert +counts == other.count_bands(school, LATER, subject), row
                    compared += 1
            (row,) = (await vendor.get("/v1/aggregates", params=question | {"groupBy": "subject", "gap": "disadvantaged"})).json()[
                "data"
            ]
            sides = [other.count(None, LATER, subject, ever6Fsm=value) for value in ("true", "false")]
            assert row["gap"]["expected"]["reason"] or take(row["gap"]["expected"]) == (*sides[0], *sides[1]), row
        assert compared
