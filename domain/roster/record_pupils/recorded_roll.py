"""The answer to a roll."""

from domain.write.batch import Recorded


class RecordedRoll(Recorded, kw_only=True):
    """What became of a roll; `left` are the pupils whom a complete one took off roll; they are not in received.

    A roll of the coming academic year is planned: plannedRollIds are its ids, one for each school, and the counts and
    results are what would become of it today.
    """

    left: int = 0
    planned_roll_ids: list[str] = []

    @property
    def has_written(self) -> bool:
        return not self.planned_roll_ids and (super().has_written or self.left > 0)
