"""What the server and the process that protects an edition say to each other, as JSON."""

from msgspec import Struct

from domain.publishing.frozen import Frozen


class DecidedGroup(Struct):
    """Which rows of a group of schools are hidden, by split, [school + 1][year + 1], and which schools the trust's rows pool,
    [school][year + 1]. The empty name is that of all pupils.

    `reasons` say why rows are hidden by their own figures, by split, [school + 1][year + 1][side], empty where they are not; of whole groups alone.
    """

    hidden: dict[str, list[list[bool]]]
    pooled: dict[str, list[list[bool]]]
    reasons: dict[str, list[list[list[str]]]] = {}


class Task(Struct):
    """What is to be decided. `done` are the parts that were decided before; `processes` how many there may be at a time."""

    frozen: Frozen
    level: str
    sizes_from: int
    attainment_from: int
    seed: int
    done: dict[str, DecidedGroup]
    processes: int


class Parts(Struct):
    """How many parts there are."""

    number: int


class DonePart(Struct):
    """A part that is decided."""

    part: str
    decided: DecidedGroup


class Outcome(Struct, omit_defaults=True):
    """A line of output: one of these. `problem` is the code of what made it end."""

    parts: Parts | None = None
    done: DonePart | None = None
    decided: list[DecidedGroup] | None = None
    problem: str | None = None
