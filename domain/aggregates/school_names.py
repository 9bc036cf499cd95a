"""The names by which a query of aggregates means schools and trusts: ids, URNs, LAESTABs and GIAS group UIDs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from domain.declare.ids import parse_id
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


@dataclass(frozen=True)
class ParsedNames:
    """What the texts of a query may mean: the ids and URNs of its schools, and its trust by id or GIAS group UID. None for what a text is not."""

    school_ids: list[UUID]
    urns: list[int]
    trust_id: UUID | None
    trust_uid: int | None


def parse_names(schools: Sequence[str], trust: str | None) -> ParsedNames:
    """Returns the ids and numbers among the names of a query."""
    return ParsedNames(
        school_ids=[id_ for school in schools if (id_ := parse_id(school))],
        urns=[urn for school in schools if (urn := parse_number(school))],
        trust_id=parse_id(trust or ""),
        trust_uid=parse_number(trust or ""),
    )


def parse_number(text: str) -> int | None:
    """Returns a URN or GIAS group UID, or None where the text is neither."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _find_laestab(name: str) -> str | None:
    """Returns the LAESTAB in its canonical form that names a school, None for another name."""
    with suppress(ValueError):
        return parse_laestab(name)
    return None
