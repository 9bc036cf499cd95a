"""What waits in the database, of all clients together: jobs, planned rolls that are due, the age of the register. No row is told from another."""

from typing import NamedTuple

from domain.store.database import Database
from domain.support import clock

JOBS, ROLLS = "jobs", "planned_rolls"


class Backlogs(NamedTuple):
    """`jobs` are those that are not done, by their state. `waiting` says of each backlog how many items wait, and for how
    many seconds the oldest has. `register_days` are the days since the day of the last extract of GIAS, if there is one.
    """

    jobs: dict[str, int]
    waiting: dict[str, tuple[int, float]]
    staged_bytes: int
    register_days: int | None


async def read_backlogs(database: Database) -> Backlogs:
    """Reads the backlogs. Raises Busy."""
    async with database.without_caller() as connection:
        rows = await connection.fetch("SELECT kind, number, age FROM read_backlogs($1)", clock.read_today())
    found = {row["kind"]: (int(row["number"] or 0), float(row["age"] or 0.0)) for row in rows}
    register = next((row["number"] for row in rows if row["kind"] == "register"), None)
    return Backlogs(
        {kind: found[kind][0] for kind in ("receiving", "queued", "running")},
        {kind: found[kind] for kind in (JOBS, ROLLS)},
        found["staged_bytes"][0],
        None if register is None else int(register),
    )
