"""What is kept of editions for later ones: their frozen figures and what was shown. No reader of aggregates reads it."""

from typing import Any
from uuid import UUID

import msgspec

from domain.publishing.frozen import Frozen, FrozenGroup
from domain.publishing.messages import Basis, EarlierEdition
from domain.roster.years import YEARS
from domain.store.cleanup import Cleanup
from domain.store.database import Connection

CLEANUP = (Cleanup("frozen figures of windows whose last edition is 400 days old", "SELECT remove_old_edition_bases($1)"),)
_READ_SHOWN = """
SELECT b.body, p.released_at FROM publications p JOIN edition_bases b ON b.tenant_id = $1 AND b.publication_id = p.id
WHERE p.tenant_id = $1 AND p.window_no = $2 AND p.published_at IS NOT NULL ORDER BY p.no
"""
_STORE = "INSERT INTO edition_bases (tenant_id, publication_id, body) VALUES ($1, $2, $3)"
_READ_ONE = "SELECT body FROM edition_bases WHERE tenant_id = $1 AND publication_id = $2"


async def read_earlier(connection: Connection, tenant_id: UUID, window_no: int) -> list[EarlierEdition]:
    """Returns the editions of a window that have been shown, the oldest first; those that were withdrawn too, since they were read."""
    rows: list[Any] = await connection.fetch(_READ_SHOWN, tenant_id, window_no)
    return [_describe(msgspec.json.decode(row["body"], type=Basis), is_released=row["released_at"] is not None) for row in rows]


def _describe(basis: Basis, *, is_released: bool) -> EarlierEdition:
    if is_released:
        for part in basis.parts:
            part.fresh = part.released
    return EarlierEdition(basis.frozen, basis.parts)


async def store_basis(connection: Connection, key: tuple[UUID, UUID], basis: Basis) -> None:
    await connection.execute(_STORE, *key, msgspec.json.encode(basis))


async def read_basis(connection: Connection, key: tuple[UUID, UUID]) -> Basis | None:
    body = await connection.fetchval(_READ_ONE, *key)
    return None if body is None else msgspec.json.decode(body, type=Basis)


def add_years(frozen: Frozen, earlier: list[EarlierEdition]) -> None:
    """Adds the year groups that schools of a group had in earlier editions, of nobody: what was shown of them is compared with none."""
    for group in frozen.groups:
        ids = {school.id for school in group.schools}
        years = {*group.years}
        for edition in earlier:
            for before in edition.frozen.groups:
                if not ids.isdisjoint(school.id for school in before.schools):
                    years.update(before.years)
        if len(years) > len(group.years):
            _widen(group, sorted(years, key=YEARS.index))


def _widen(group: FrozenGroup, years: list[str]) -> None:
    def widen(rows: list[Any], make_empty: Any) -> list[Any]:
        of_year = dict(zip(group.years, rows, strict=True))
        return [of_year[year] if year in of_year else make_empty() for year in years]

    for name in group.figures:
        group.figures[name] = [widen(rows, lambda: [[0] * 4 for _ in group.subjects]) for rows in group.figures[name]]
        group.pupils[name] = [widen(rows, int) for rows in group.pupils[name]]
    group.years = years
