"""Writes of every kind, whose values are found nowhere else, and the ledger of what was answered to them."""

import asyncio
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.faults.laboratory.asking import NOTHING_WRITTEN, Answer, Asker
from tests.faults.laboratory.result import Result
from tests.faults.laboratory.site import EACH, SCHOOLS
from tests.fixtures.small_trust import SCALED, URNS, batch, entry, roll, upn

RETRIED = {0, 409, 429, 503}
"""What a client sends again."""
NEWCOMERS = 1_000
"""The first number of a pupil who is on no roll of the template."""


@dataclass
class Write:
    """A request, and the values that are in the database once if it was carried out."""

    kind: str
    path: str
    body: Any
    values: tuple[str, ...]
    headers: dict[str, str] = field(default_factory=dict)
    is_acknowledged: bool = False
    attempts: int = 0
    disclaimers: int = 0
    """How many of the answers said that nothing was written."""

    async def send(self, asker: Asker) -> Answer:
        """Sends it, perhaps again."""
        self.attempts += 1
        answer = await asker.ask("POST", self.path, self.body, **self.headers)
        self.is_acknowledged = self.is_acknowledged or answer.status == 200
        self.disclaimers += NOTHING_WRITTEN in answer.detail.lower()
        return answer


@dataclass
class Maker:
    """Makes the writes of one writer among `of`, who judge pupils of their own, so that no other replaces what they wrote."""

    draw: random.Random
    numbers: "count[int]"
    writer: int = 0
    of: int = 1
    schools: tuple[str, ...] = SCHOOLS[:3]
    keyed: bool | None = None
    """Whether requests have an Idempotency-Key; by chance unless said."""

    def make(self, kind: str) -> Write:
        """A write of this kind, of KINDS."""
        school = self.draw.choice(self.schools)
        return KINDS[kind](self, school)

    def own(self, school: str) -> list[int]:
        first = SCHOOLS.index(school) * EACH
        return [n for n in range(first, first + EACH) if n % self.of == self.writer]

    def number(self) -> int:
        return next(self.numbers)

    def has_key(self) -> bool:
        return self.draw.random() < 0.5 if self.keyed is None else self.keyed

    def rest(self, kind: str, path: str, body: Any, values: list[str]) -> Write:
        key = {"Idempotency_Key": f"key-{values[0]}".replace(" ", "-")} if self.has_key() else {}
        return Write(kind, path, body, tuple(values), key)

    def graphql(self, kind: str, mutation: str, type_: str, body: Any, values: list[str]) -> Write:
        document = (
            f"mutation ($input: {type_}!, $key: String) {{ {mutation}(input: $input, idempotencyKey: $key)"
            " { received created updated unchanged superseded rejected } }"
        )
        key = f"key-{values[0]}".replace(" ", "-") if self.has_key() else None
        return Write(kind, "/graphql", {"query": document, "variables": {"input": body, "key": key}}, tuple(values))

    def judgements(self, school: str, how_many: int) -> tuple[Any, list[str]]:
        """Judgements without recordedAt, each with a mark of its own."""
        pairs = [(n, subject) for n in self.own(school) for subject in ("reading", "maths")]
        numbers = [self.number() for _ in range(min(how_many, len(pairs)))]
        rows = [
            {"upn": upn(n), "subject": subject, "grade": self.draw.randrange(80, 121), "mark": number / 100}
            for (n, subject), number in zip(self.draw.sample(pairs, len(numbers)), numbers, strict=True)
        ]
        return batch(school, rows), [f"j:{number // 100}.{number % 100:02}" for number in numbers]

    def newcomers(self, school: str) -> tuple[Any, list[str]]:
        numbers = [self.number() for _ in range(3)]
        rows = [entry(NEWCOMERS + n, upn=upn(NEWCOMERS + n), surname=f"Value{n}") for n in numbers]
        return roll(school, rows), [f"p:Value{n}" for n in numbers]

    def targets(self, school: str, how_many: int = 4) -> tuple[Any, list[str]]:
        numbers = [self.number() for _ in range(how_many)]
        rows = [
            {
                "upn": upn(self.draw.choice(self.own(school))),
                "subject": "reading",
                "grade": str(self.draw.randrange(80, 121)),
                "scheme": SCALED,
                "horizon": {"academicYear": "2017-18", "point": f"Value {n}"},
                "basis": "teacher",
            }
            for n in numbers
        ]
        return {"school": {"urn": URNS[school]}, "entries": rows}, [f"t:Value {n}" for n in numbers]

    def groups(self, school: str) -> tuple[Any, list[str]]:
        number = self.number()
        members = [{"upn": upn(n)} for n in self.own(school)[:5]]
        rows = [{"code": f"V{number}", "name": f"Value {number}", "kind": "class", "members": members}]
        body = {"school": {"urn": URNS[school]}, "academicYear": "2017-18", "asOf": "2018-05-01", "entries": rows}
        return body, [f"g:V{number}"]


KINDS: dict[str, Callable[[Maker, str], Write]] = {
    "single": lambda m, at: m.rest("single", "/v1/judgements", *m.judgements(at, 1)),
    "bulk": lambda m, at: m.rest("bulk", "/v1/judgements", *m.judgements(at, 30)),
    "roll": lambda m, at: m.rest("roll", "/v1/pupils", *m.newcomers(at)),
    "targets": lambda m, at: m.rest("targets", "/v1/targets", *m.targets(at)),
    "single target": lambda m, at: m.rest("single target", "/v1/targets", *m.targets(at, 1)),
    "groups": lambda m, at: m.rest("groups", "/v1/groups", *m.groups(at)),
    "graphql single": lambda m, at: m.graphql("graphql single", "recordJudgements", "JudgementBatchInput", *m.judgements(at, 1)),
    "graphql judgements": lambda m, at: m.graphql(
        "graphql judgements", "recordJudgements", "JudgementBatchInput", *m.judgements(at, 3)
    ),
    "graphql roll": lambda m, at: m.graphql("graphql roll", "recordPupils", "PupilBatchInput", *m.newcomers(at)),
    "graphql targets": lambda m, at: m.graphql("graphql targets", "recordTargets", "TargetBatchInput", *m.targets(at)),
}


@dataclass
class Ledger:
    """All writes of a trial, and the statuses of the answers to them."""

    writes: list[Write] = field(default_factory=list)
    statuses: "Counter[int]" = field(default_factory=Counter)

    @property
    def acknowledged(self) -> int:
        """Values that were answered 200."""
        return sum(len(write.values) for write in self.writes if write.is_acknowledged)

    async def send(self, write: Write, asker: Asker, result: Result) -> Answer:
        """Sends a write, notes it and checks its answer."""
        if not write.attempts:
            self.writes.append(write)
        answer = await write.send(asker)
        self.statuses[answer.status] += 1
        answer.check(result, write.kind)
        result.expect(answer.status in RETRIED | {200, 500}, "a write that is sent is understood", f"{write.kind}: {answer}")
        result.expect(
            answer.status != 200 or _count(answer.data, "superseded") == 0,
            "a write without recordedAt is not superseded",
            f"{write.kind}: {answer.data}",
        )
        return answer

    def compare(self, found: "Counter[str]", result: Result) -> None:
        """Holds the ledger against what stands in the database."""
        for write in self.writes:
            times = {value: found[value] for value in write.values}
            lost = [value for value, n in times.items() if n == 0]
            doubled = [value for value, n in times.items() if n > 1]
            told = f"{write.kind}, {write.attempts} attempts"
            if write.is_acknowledged and lost:
                result.add_break("no acknowledged value is lost", f"{told}: {lost[:3]} of {len(times)}", len(lost))
            if doubled:
                result.add_break("no value is written twice", f"{told}: {doubled[:3]} of {len(times)}", len(doubled))
            if not write.is_acknowledged and 0 < len(lost) < len(times):
                result.add_break("a write is whole or absent", f"{told}: {len(lost)} of {len(times)} are absent")
            if write.attempts == write.disclaimers and not write.is_acknowledged and len(lost) < len(times):
                result.add_break(f"“{NOTHING_WRITTEN}” is true", told)


def _count(data: Any, outcome: str) -> int:
    """An outcome of an answer, in either interface."""
    if isinstance(data, dict) and "data" in data:
        return sum(_count(one, outcome) for one in (data["data"] or {}).values() if one)
    return int(data.get(outcome, 0)) if isinstance(data, dict) else 0


async def write_until(stopped: asyncio.Event, asker: Asker, maker: Maker, kinds: list[str], ledger: Ledger, result: Result) -> None:
    """A writer: sends writes one after another; what is not answered 200 it sends again until it is, or gives up by chance."""
    while not stopped.is_set():
        write = maker.make(maker.draw.choice(kinds))
        persists = maker.draw.random() < 0.7
        while (await ledger.send(write, asker, result)).status != 200 and not stopped.is_set():
            await asyncio.sleep(maker.draw.uniform(0.02, 0.2))
            if not persists:
                break
