"""The names by which a query of aggregates means schools and trusts: ids, URNs, LAESTABs and GIAS group UIDs."""

from collections.abc import Sequence
from contextlib import suppress

from domain.roster.former_laestabs import FIND_SQL
from domain.roster.school_numbers import parse_laestab
from domain.store.database import Database

_FORMER = f"SELECT g.laestab, f.school_id FROM unnest($1::text[]) AS g (laestab) CROSS JOIN LATERAL ({FIND_SQL.format(laestab='g.laestab').strip()}) f"


async def resolve_laestabs(database: Database, names: Sequence[str]) -> tuple[str, ...]:
    """Returns the names of schools with LAESTABs in canonical form, and with the id of a school in place of a LAESTAB that it had before and
    that no other has now.
    """
    laestabs = {name: laestab for name in names if (laestab := _find_laestab(name)) is not None}
    if not laestabs:
        return tuple(names)
    async with database.without_caller() as connection:
        former = dict(map(tuple, await connection.fetch(_FORMER, sorted(laestabs.values()))))
    named = (laestabs.get(name, name) for name in names)
    return tuple(str(former.get(name, name)) for name in named)


def parse_number(text: str) -> int | None:
    """Returns a URN or GIAS group UID, or None where the text is neither."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _find_laestab(name: str) -> str | None:
    """Returns the LAESTAB in its canonical form that names a school, None for another name."""
    with suppress(ValueError):
        return parse_laestab(name)
    return None
