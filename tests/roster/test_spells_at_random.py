"""On roll on any day is what was last said for that day: random sequences of rolls of two schools against a model of a few lines."""

import random
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from typing import Any

import pytest

from tests.fixtures.recount import miscounted
from tests.fixtures.sizes import choose_size
from tests.fixtures.small_trust import URNS, Trust, entry, opened, roll, upn

SEEDS, STEPS = choose_size(6, 120), choose_size(14, 25)
DAY = timedelta(days=1)
DAYS = [
    date.fromisoformat(day)
    for day in (
        *("2016-09-01", "2016-09-05", "2016-11-01", "2017-01-09", "2017-07-21", "2017-08-31"),
        *("2017-09-01", "2017-09-04", "2017-10-23", "2018-01-08", "2018-05-01", "2018-07-20"),
    )
]
"""Days of two academic years on which rolls are of, and spells begin and end."""
PROBES = sorted({near for day in DAYS for near in (day - DAY, day, day + DAY)})
MAIN = "C"


def year_of(day: date) -> tuple[date, date]:
    start = day.year if day.month >= 9 else day.year - 1
    return date(start, 9, 1), date(start + 1, 8, 31)


@dataclass(frozen=True)
class Span:
    """A spell; `by_absence` says that a complete roll ended it."""

    first: date
    last: date = date.max
    status: str = MAIN
    by_absence: bool = False

    def has(self, day: date) -> bool:
        return self.first <= day <= self.last

    def meets(self, other: "Span") -> bool:
        return self.first <= other.last and other.first <= self.last

    def is_corrected_by(self, other: "Span") -> bool:
        return self.meets(other) and (self.status, year_of(self.first)) == (other.status, year_of(other.first))

    def cut_out(self, others: list["Span"]) -> list["Span"]:
        """Its days that are in none of the others."""
        parts = [self]
        for other in others:
            before = [replace(part, last=min(part.last, other.first - DAY)) for part in parts]
            after = [replace(part, first=max(part.first, other.last + DAY)) for part in parts if other.last < part.last]
            parts = [part for part in before + after if part.first <= part.last]
        return parts

    def end(self, last: date, **changed: Any) -> "Span":
        return replace(self, last=max(self.first, last), **changed)

    def document(self) -> dict[str, Any]:
        ends = {} if self.last == date.max else {"to": str(self.last)}
        return {"from": str(self.first), "status": self.status} | ends


@dataclass
class Model:
    """What was last said: spells by pupil and school, the main school of each pupil, and the day of the newest roll about each at each school."""

    spells: dict[tuple[int, str], list[Span]] = field(default_factory=dict)
    main: dict[int, str] = field(default_factory=dict)
    said_on: dict[tuple[int, str], date] = field(default_factory=dict)

    def of(self, number: int, school: str) -> list[Span]:
        return self.spells.get((number, school), [])

    def say(self, number: int, school: str, as_of: date, said: list[Span] | None) -> None:
        """A row says the whole of the year of its day, and of earlier years what its spells cover."""
        here = (number, school)
        self.said_on[here] = max(as_of, self.said_on.get(here, as_of))
        if said is not None:
            self.spells[here] = [*self._rest(self.of(*here), said, as_of), *said]
        came = next((span.first for span in said or () if span.status == MAIN and span.has(as_of)), None)
        elsewhere = self.main.setdefault(number, school)
        held = [span.first for span in self.of(number, elsewhere) if span.status == MAIN and span.last == date.max]
        if elsewhere != school and came is not None and came >= max(held, default=came):
            self.main[number] = school
            for other in set(URNS) - {school}:
                ended = [s.end(came - DAY) if s.last == date.max and s.status == MAIN else s for s in self.of(number, other)]
                self.spells[number, other] = ended

    @staticmethod
    def _rest(stored: list[Span], said: list[Span], as_of: date) -> list[Span]:
        """What stays of the stored spells beside those that a row says."""
        first, last = year_of(as_of)
        rest = []
        for span in stored:
            if span.first in [other.first for other in said]:
                continue
            is_kept = span.by_absence and said and not any(span.meets(other) for other in said)
            first_main = min((other.first for other in said), default=span.first)
            if span.status != MAIN and first_main > span.first and all(other.status == MAIN for other in said) and not is_kept:
                rest.append(replace(span, last=min(span.last, first_main - DAY)))  # a guest who is taken on
            elif is_kept or span.first > last or span.last < first:
                rest.append(span)
            elif not any(span.is_corrected_by(other) for other in said):
                rest += span.cut_out([*said, Span(first)])
        return rest

    def leave(self, present: set[int], school: str, as_of: date) -> None:
        """Who is absent from a complete roll has left on the day before, unless a newer roll was about the pupil."""
        for number, at in list(self.spells):
            if at != school or number in present or self.said_on.get((number, at), as_of) > as_of:
                continue
            begun = [s for s in self.of(number, at) if s.last == date.max and s.first <= as_of]
            if begun:
                ended = [s.end(as_of - DAY, by_absence=True) if s in begun else s for s in self.of(number, at)]
                self.spells[number, at] = ended
                self.said_on[number, at] = max(as_of, self.said_on.get((number, at), as_of))

    def on_roll(self, school: str, day: date) -> set[str]:
        return {upn(number) for (number, at), spans in self.spells.items() if at == school and any(s.has(day) for s in spans)}


def draw_spells(draw: random.Random, as_of: date, status: str) -> list[Span]:
    """Up to two spells that touch the year of a day, one after the other."""
    first, last = year_of(as_of)
    days = sorted(draw.sample([day for day in DAYS if day <= last], 4))
    spans = [Span(days[0], days[1], status), Span(days[2], draw.choice([days[3], date.max]), status)]
    spans = draw.choice([[], spans, spans[1:], spans[1:], [Span(days[0], date.max, status)], [Span(days[0], days[3], status)]])
    return [span for span in spans if span.last >= first]


SPELLS = "SELECT s.name, u.upn, e.from_on, e.to_on FROM enrolments e JOIN upns u USING (tenant_id, pupil_id) JOIN schools s ON s.id = e.school_id"


async def read_stored(here: Trust) -> dict[tuple[str, date], set[str]]:
    """Who is on roll at each school on each probed day, by the stored spells."""
    spells = [(name, number, Span(first, last or date.max)) for name, number, first, last in await here.operator.fetch(SPELLS)]
    return {
        (school, day): {number for name, number, span in spells if name == school and span.has(day)}
        for school in URNS
        for day in PROBES
    }


async def read_on_roll(client: Any) -> dict[tuple[str, date], set[str]]:
    """The same as a client is told it."""
    lists = " ".join(f'd{n}: onRoll(on: "{day}", first: 20) {{ nodes {{ upn }} }}' for n, day in enumerate(PROBES))
    answer = (await client.post("/graphql", json={"query": f"{{ schools {{ nodes {{ name {lists} }} }} }}"})).json()
    assert "errors" not in answer, answer
    return {
        (row["name"], day): {pupil["upn"] for pupil in row[f"d{n}"]["nodes"]}
        for row in answer["data"]["schools"]["nodes"]
        for n, day in enumerate(PROBES)
    }


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_on_roll_on_any_day_is_what_was_last_said_for_that_day(small_trust: Trust, vendor: Any, seed: int) -> None:
    draw, model, accepted = random.Random(seed), Model(), 0
    await opened(vendor)
    said: list[str] = []
    for _ in range(STEPS):
        school, as_of, complete = draw.choice(["Oak", "Oak", "Elm"]), draw.choice(DAYS), draw.random() < 0.3
        status = draw.choice([MAIN, MAIN, "S"]) if school == "Elm" else MAIN
        rows = {
            number: draw.choice([None, *[draw_spells(draw, as_of, status)] * 4])
            for number in draw.sample(range(1, 5), draw.randint(0, 3))
        }
        entries = [
            entry(
                n,
                reference=f"{school}-{n}",
                enrolments=None if spans is None else [s.document() for s in spans],
                characteristics=None,
            )
            for n, spans in rows.items()
        ]
        body = roll(school, entries, asOf=str(as_of), complete=complete, maxLeavers=100)
        answer = (await vendor.post("/v1/pupils", json=body, headers={"Prefer": "handling=lenient, return=representation"})).json()
        said.append(f"{school} {as_of} {complete} {rows} {answer.get('issues')}")
        outcomes = {result["at"]: result["outcome"] for result in answer.get("results", ())}
        taken = {
            n: spans
            for at, (n, spans) in enumerate(rows.items())
            if outcomes.get(f"/entries/{at}") in ("created", "updated", "unchanged")
        }
        if complete and "results" in answer:
            model.leave(set(rows), school, as_of)
        for number, spans in taken.items():
            model.say(number, school, as_of, spans)
        accepted += len(taken)
        found = await read_stored(small_trust)
        wrong = {place: (who, model.on_roll(*place)) for place, who in found.items() if who != model.on_roll(*place)}
        assert wrong == {}, "\n".join(said)
    shown = await read_on_roll(vendor)
    assert shown == {place: who for place, who in found.items() if (place[0], PROBES[0]) in shown}
    assert accepted > STEPS // 4
    assert await miscounted(small_trust) == (0, 0, 0)
