"""What the server and the process that protects an edition say to each other, as JSON."""

from msgspec import Struct

from domain.publishing.frozen import Frozen

Rows = list[list[bool]]
"""Of rows of a split: [school + 1][year + 1], the last school is the trust and the last year all of them."""


class DecidedGroup(Struct):
    """Which rows of a group of schools are hidden, by split, and which schools the trust's rows pool, [school][year + 1]. The empty name is that
    of all pupils.

    `held` are rows that are not hidden and keep the figures last shown, and `releasable` those of them that may be shown anew by a decision.
    `there` are the years of which a school has rows, [school][year]. `reasons` say why rows are hidden by their own figures, by split,
    [school + 1][year + 1][side], empty where they are not; of whole groups alone.
    """

    hidden: dict[str, Rows]
    pooled: dict[str, Rows]
    held: dict[str, Rows] = {}
    releasable: dict[str, Rows] = {}
    there: Rows = []
    reasons: dict[str, list[list[list[str]]]] = {}


class ShownPart(Struct):
    """What has been shown of schools that were protected together, by split: the last row is that of their sum.

    `shown` are rows that this edition or an earlier one showed, `fresh` those that have this edition's own figures, and `released` those that
    have them once it is released. `pooled` [school][year + 1]. `in_trust`: the trust's rows pool their sums.
    """

    schools: list[str]
    years: list[str]
    in_trust: bool
    there: Rows
    pooled: Rows
    shown: dict[str, Rows]
    fresh: dict[str, Rows]
    released: dict[str, Rows]


class EarlierEdition(Struct):
    """What a later edition needs of an earlier one. `fresh` of its parts is what was shown of it, also by its release."""

    frozen: Frozen
    parts: list[ShownPart]


class Basis(Struct):
    """What is kept of an edition for later ones, and for its release."""

    frozen: Frozen
    decided: list[DecidedGroup]
    parts: list[ShownPart]


class Task(Struct):
    """What is to be decided. `done` are the parts that were decided before; `processes` how many there may be at a time; `earlier` are the
    editions of the same pupils that have been shown, the oldest first."""

    frozen: Frozen
    level: str
    sizes_from: int
    attainment_from: int
    seed: int
    done: dict[str, DecidedGroup]
    processes: int
    earlier: list[EarlierEdition] = []


class Parts(Struct):
    """How many parts there are."""

    number: int


class DonePart(Struct):
    """A part that is decided."""

    part: str
    decided: DecidedGroup


class DecidedAll(Struct):
    """What is decided of each group, and what is then shown of each part."""

    groups: list[DecidedGroup]
    parts: list[ShownPart]


class Outcome(Struct, omit_defaults=True):
    """A line of output: one of these. `problem` is the code of what made it end."""

    parts: Parts | None = None
    done: DonePart | None = None
    decided: DecidedAll | None = None
    problem: str | None = None
