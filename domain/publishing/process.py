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
from domain.protection.families import FamilyWork, form_families, protect_family, take_schools
from domain.protection.figures import Layout, Mask, make_figures
from domain.protection.plan import Work
from domain.protection.protect import CannotProtect, Decision, protect
from domain.protection.rules import Level, find_reasons
from domain.protection.settled import Settled
from domain.protection.tables import TOTAL, Population, SplitFigures, Tables
from domain.publishing.earlier import History, PartScope, list_scopes
from domain.publishing.frozen import SPLITS, FrozenGroup
from domain.publishing.joining import Joiner
from domain.publishing.messages import DecidedAll, DecidedGroup, DonePart, Outcome, Parts, Task

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
    """The parts of a task: of a large group its families, of any other the group. What earlier editions protected together stays together."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.level = Level(task.level, task.sizes_from, task.attainment_from)
        self.groups = task.frozen.groups
        self.tables = [make_tables(group) for group in self.groups]
        self.scopes = [self._form_scopes(group, tables) for group, tables in zip(self.groups, self.tables, strict=True)]

    def _form_scopes(self, group: FrozenGroup, tables: Tables) -> list[PartScope]:
        scopes, left = list_scopes(group, self.task.earlier)
        if len(left) < LARGE_TRUST:
            return scopes + ([PartScope(tuple(left))] if left else [])
        sizes = tables.splits[TOTAL].frame[left, tables.years].tolist()
        return scopes + [PartScope(tuple(left[at] for at in family)) for family in form_families(sizes)]

    def list_parts(self) -> list[str]:
        return [f"{group}.{scope}" for group, scopes in enumerate(self.scopes) for scope in range(len(scopes))]

    def decide(self, part: str) -> DecidedGroup:
        number, at = map(int, part.split("."))
        scope, scopes = self.scopes[number][at], self.scopes[number]
        tables = take_schools(self.tables[number], scope.schools)
        if scope.latest is not None:
            return self._decide_again(History(self.groups[number], scope, self.task.earlier, self.level), tables)
        if len(scopes) == 1:
            return write_decision(protect(tables, self.level, seed=self.task.seed))
        return write_decision(protect_family(FamilyWork(scope.schools, tables, self.level, self.task.seed + at)))

    def _decide_again(self, history: History, tables: Tables) -> DecidedGroup:
        """Decides what is shown anew: first as if nothing had changed, which is what may be released, then with what few pupils changed."""
        names = {_name(name): name for name in tables.splits}
        closed = {name: history.hidden[short] for short, name in names.items()}
        may_show = self._protect_again(tables, history.settle(closed, with_changes=False))
        shows = self._protect_again(tables, history.settle(may_show, with_changes=True))
        decided = write_decision(Decision(shows, dict.fromkeys(shows, history.pooled), Work()))
        for short, name in names.items():
            shown = history.shown[short]
            decided.hidden[short] = (shows[name] & ~shown).tolist()
            decided.held[short] = (shows[name] & shown).tolist()
            decided.releasable[short] = (shows[name] & shown & ~may_show[name]).tolist()
        return decided

    def _protect_again(self, tables: Tables, settled: Settled) -> dict[str, Mask]:
        """Returns the rows that are not shown anew: all of them where nothing less is safe."""
        try:
            return protect(tables, self.level, seed=self.task.seed, settled=settled).hidden
        except CannotProtect:
            return {name: np.ones(tables.shape, np.bool_) for name in tables.splits}

    def join(self, parts: dict[str, DecidedGroup]) -> DecidedAll:
        """Returns what is decided of each group, and what is then shown of each part."""
        decided = DecidedAll([], [])
        for number, (group, tables, scopes) in enumerate(zip(self.groups, self.tables, self.scopes, strict=True)):
            joiner = Joiner(
                group, scopes, [parts[f"{number}.{at}"] for at in range(len(scopes))], self.task.earlier, in_trust=not number
            )
            joined = joiner.join()
            tables.pool({name: np.array(joined.pooled[_name(name)], np.bool_) for name in tables.splits})
            joined.reasons = _explain(self.level, tables)
            decided.groups.append(joined)
            decided.parts += joiner.list_shown()
        return decided


def _explain(level: Level, tables: Tables) -> dict[str, list[list[list[str]]]]:
    return {_name(name): find_reasons(level, tables.layout, split).tolist() for name, split in tables.splits.items()}


def write_decision(decision: Decision) -> DecidedGroup:
    return DecidedGroup(
        hidden={_name(name): mask.tolist() for name, mask in decision.hidden.items()},
        pooled={_name(name): mask.tolist() for name, mask in decision.pooled.items()},
    )


def _name(split: str) -> str:
    return "" if split == TOTAL else split


_job: _Job | None = None


def _start(text: bytes) -> None:
    global _job
    _job = _Job(msgspec.json.decode(text, type=Task))


def _decide(part: str) -> tuple[str, DecidedGroup]:
    assert _job is not None
    return part, _job.decide(part)


def run(text: bytes) -> Iterator[Outcome]:
    """Yields how many parts there are, each part when it is decided, and at last what is decided of each group."""
    _start(text)
    assert _job is not None
    decisions = dict(_job.task.done)
    parts = _job.list_parts()
    yield Outcome(parts=Parts(len(parts)))
    left = [part for part in parts if part not in decisions]
    for part, decision in _decide_all(left, text, _job.task.processes):
        decisions[part] = decision
        yield Outcome(done=DonePart(part, decision))
    yield Outcome(decided=_job.join(decisions))


def _decide_all(parts: list[str], text: bytes, processes: int) -> Iterable[tuple[str, DecidedGroup]]:
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
