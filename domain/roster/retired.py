"""Retired identifiers: what a child was named by before a new identity. They are stored as keyed hashes alone.

A row that brings one is refused, and the refusal says nothing more: neither of whom the identifier was, nor whether the
rest of the row is right. A hash leads to no pupil. So where a complete list still has such a row, every absent child with a
new identity stays in it, since the row may be any of theirs.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import date
from typing import Any
from uuid import UUID

from domain.roster.names import fold_name
from domain.store.database import Connection
from domain.write.batch import Batch

CODE = "identifier-retired"
MESSAGE = "This row names a pupil in a way that must not be used any more. Ask the school."


def describe_upn(upn: str) -> str:
    """Returns the text that is hashed of a UPN in canonical form."""
    return f"upn {upn}"


def describe_id(pupil_id: UUID) -> str:
    """Returns the text that is hashed of an id. A row that names a pupil by it names nobody, and is refused as such."""
    return f"id {pupil_id}"


def describe_reference(client_id: UUID, school_id: UUID, reference: str) -> str:
    """Returns the text that is hashed of a client's reference at a school."""
    return f"reference {client_id} {school_id} {reference}"


def describe_name(surname: str, forename: str, date_of_birth: date) -> str:
    """Returns the text that is hashed of a name: with the birthday, since a name alone is many children's."""
    return f"name {fold_name(surname)}|{fold_name(forename)}|{date_of_birth}"


def describe_names(surnames: Iterable[object], forenames: Iterable[object], date_of_birth: date) -> set[str]:
    """Returns the texts that are hashed of every surname with every forename, such as the legal and the preferred ones.

    What is no text, a preferred name that is not there, is left out.
    """
    return {
        describe_name(surname, forename, date_of_birth)
        for surname in surnames
        if isinstance(surname, str)
        for forename in forenames
        if isinstance(forename, str)
    }


async def find_retired(connection: Connection, tenant_id: UUID, identifiers: Sequence[tuple[int, str]]) -> set[int]:
    """Returns the indexes of which an identifier is retired. `identifiers` are pairs of index and text. One statement."""
    if not identifiers:
        return set()
    found = await connection.fetchval("SELECT find_retired($1, $2)", tenant_id, [text for _, text in identifiers])
    return {identifiers[n - 1][0] for n in found}


async def find_new_identities(connection: Connection, tenant_id: UUID, pupil_ids: Collection[UUID]) -> set[UUID]:
    """Returns which of these pupils have a new identity. It may decide what is written, and is told to nobody."""
    if not pupil_ids:
        return set()
    return {*await connection.fetchval("SELECT find_new_identities($1, $2)", tenant_id, list(pupil_ids))}


async def copy_new_identity(connection: Connection, tenant_id: UUID, from_id: UUID, to_id: UUID) -> None:
    """Marks a pupil as one with a new identity where another pupil is: of two records that are split, either may be that
    child's.
    """
    await connection.execute("SELECT copy_new_identity($1, $2, $3)", tenant_id, from_id, to_id)


async def reject_retired(
    connection: Connection, batch: Batch[Any, Any], tenant_id: UUID, identifiers: Iterable[tuple[int, str]]
) -> set[int]:
    """Rejects the rows that bring a retired identifier, and returns their indexes.

    Every other issue of such a row is taken back.
    """
    retired = await find_retired(connection, tenant_id, list(identifiers))
    if retired:
        batch.take_back(retired)
        for at in sorted(retired):
            batch.reject_alone(at, "", CODE, MESSAGE)
    return retired
