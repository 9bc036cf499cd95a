"""What earlier editions of the same pupils have settled for a later one."""

from collections.abc import Mapping
from dataclasses import dataclass

from domain.protection.figures import Mask
from domain.protection.tables import Population


@dataclass(frozen=True)
class Settled:
    """What a later edition may no longer decide. Its plan says which rows are not shown anew, whether they stay hidden or keep earlier figures.

    `pooled` are the schools that the trust's rows add up, [school, year + 1]: another pool would tell by the difference what is hidden of a
    school. `closed` are rows that are not shown anew, by split, [school + 1, year + 1]. `changed` are populations of which so few pupils
    changed that what they changed is unsafe, at each position.
    """

    pooled: Mask
    closed: Mapping[str, Mask]
    changed: Mapping[Population, Mask]
