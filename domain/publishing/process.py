"""`python -m domain.publishing.process`: decides what an edition hides. It reads Frozen figures from its input and writes each part as it is done.

It runs beside the server, with a lower priority: the arithmetic takes seconds of a small trust and minutes of a large one. It reads no database.
"""

import os
import sys
from collections.abc import Iterable, Iterator
from multiprocessing import get_context

import msgspec
import numpy as np

from domain.protection.families import LARGE as LARGE_TRUST
from domain.protection.families import FamilyWork, form_families, join_families, protect_family, take_schools
from domain.protection.figures import Layout, make_figures
from domain.protection.plan import Work
from domain.protection.protect import CannotProtect, Decision, protect
from domain.protection.rules import Level, find_reasons
from domain.protection.tables import TOTAL, Population, SplitFigures, Tables
from domain.publishing.frozen import SPLITS, FrozenGroup
from domain.publishing.messages import DecidedGroup, DonePart, Outcome, Parts, Task

MEASURES = 4
"""Eligible, valid, expected and higher."""


def make_tables(group: FrozenGroup) -> Tables:
    """Returns the tables of a group of schools."""
    conjunction = 1 if group.combined else 0
    subjects = tuple(group.subjects[: len(group.subjects) - conjunction])
    layout = Layout(subjects, group.has_excused, tuple(group.combined))

    def count(name: str) -> np.ndarray:
        counts = np.array(group.figures[name], np.int64)
        shape = (*counts.shape[:2], -1)
        if group.has_excused:
            return make_figures(layout, counts.reshape(shape), np.array(group.pupils[name], np.int64))
        published = np.concatenate([counts[:, :, 0, :1], counts[:, :, :, 1:].reshape(shape)], axis=2)
        return make_figures(layout, published)

    def find_parent(name: str) -> Population:
        return Population(SPLITS[name].parent or TOTAL, "first")

    splits = {name: SplitFigures(find_parent(name), count(name)) for name in group.figures if name}
    return Tables(layout, count(""), splits)


class _Job:
    """The parts of a task: of a large group its families, of any other the group."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.level = Level(task.level, task.sizes_from, task.attainment_from)
        self.tables = [make_tables(group) for group in task.frozen.groups]
        self.families = [self._form_families(tables) for tables in self.tables]

    def _form_families(self, tables: Tables) -> list[tuple[int, ...]]:
        if tables.schools < LARGE_TRUST:
            return [tuple(range(tables.schools))]
        return form_families(tables.splits[TOTAL].frame[: tables.schools, tables.years].tolist())

    def list_parts(self) -> list[str]:
        return [f"{group}.{family}" for group, families in enumerate(self.families) for family in range(len(families))]

    def decide(self, part: str) -> Decision:
        group, family = map(int, part.split("."))
        tables, families = self.tables[group], self.families[group]
        if len(families) == 1:
            return protect(tables, self.level, seed=self.task.seed)
        schools = families[family]
        return protect_family(FamilyWork(schools, take_schools(tables, schools), self.level, self.task.seed + family))

    def join(self, decisions: dict[str, Decision]) -> Iterator[DecidedGroup]:
        """Yields what is decided of each group."""
        for group, (tables, families) in enumerate(zip(self.tables, self.families, strict=True)):
            of_group = {schools: decisions[f"{group}.{family}"] for family, schools in enumerate(families)}
            decision = join_families(tables, of_group) if len(families) > 1 else next(iter(of_group.values()))
            tables.pool(decision.pooled)
            yield write_decision(decision, _explain(self.level, tables))


def _explain(level: Level, tables: Tables) -> dict[str, list[list[list[str]]]]:
    return {_name(name): find_reasons(level, tables.layout, split).tolist() for name, split in tables.splits.items()}


def write_decision(decision: Decision, reasons: dict[str, list[list[list[str]]]] | None = None) -> DecidedGroup:
    return DecidedGroup(
        reasons=reasons or {},
        hidden={_name(name): mask.tolist() for name, mask in decision.hidden.items()},
        pooled={_name(name): mask.tolist() for name, mask in decision.pooled.items()},
    )


def read_decision(decided: DecidedGroup) -> Decision:
    def read(masks: dict[str, list[list[bool]]]) -> dict[str, np.ndarray]:
        return {name or TOTAL: np.array(mask, np.bool_) for name, mask in masks.items()}

    return Decision(read(decided.hidden), read(decided.pooled), Work())


def _name(split: str) -> str:
    return "" if split == TOTAL else split


_job: _Job | None = None


def _start(text: bytes) -> None:
    global _job
    _job = _Job(msgspec.json.decode(text, type=Task))


def _decide(part: str) -> tuple[str, Decision]:
    assert _job is not None
    return part, _job.decide(part)


def run(text: bytes) -> Iterator[Outcome]:
    """Yields how many parts there are, each part when it is decided, and at last what is decided of each group."""
    _start(text)
    assert _job is not None
    decisions = {part: read_decision(decided) for part, decided in _job.task.done.items()}
    parts = _job.list_parts()
    yield Outcome(parts=Parts(len(parts)))
    left = [part for part in parts if part not in decisions]
    for part, decision in _decide_all(left, text, _job.task.processes):
        decisions[part] = decision
        yield Outcome(done=DonePart(part, write_decision(decision)))
    yield Outcome(decided=list(_job.join(decisions)))


def _decide_all(parts: list[str], text: bytes, processes: int) -> Iterable[tuple[str, Decision]]:
    if len(parts) < 2 or processes < 2:
        yield from map(_decide, parts)
        return
    with get_context("spawn").Pool(min(processes, len(parts)), _start, (text,)) as pool:
        yield from pool.imap_unordered(_decide, parts)


def main() -> None:
    os.nice(10)
    try:
        for outcome in run(sys.stdin.buffer.read()):
            _write(outcome)
    except CannotProtect:
        _write(Outcome(problem="cannot-protect"))


def _write(outcome: Outcome) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
