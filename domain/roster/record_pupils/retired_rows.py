"""What the rows of a roll name their pupils by, as the texts that are hashed where an identifier is retired."""

from collections.abc import Iterable, Iterator
from uuid import UUID

from msgspec import UNSET

from domain.roster.record_pupils.entries import PupilEntryRow
from domain.roster.retired import describe_names, describe_reference, describe_upn


def list_identifiers(client_id: UUID, rows: Iterable[PupilEntryRow], *, with_names: bool = True) -> Iterator[tuple[int, str]]:
    """Yields each row's index with its names, legal and preferred, and birthday, its UPNs and its reference."""
    for row in rows:
        entry = row.entry
        surnames, forenames = (entry.surname, entry.preferred_surname), (entry.forename, entry.preferred_forename)
        for name in describe_names(surnames, forenames, entry.date_of_birth) if with_names else ():
            yield row.at, name
        for upn in (row.upn, *row.former_upns):
            if upn is not None:
                yield row.at, describe_upn(upn)
        if row.entry.reference is not UNSET:
            yield row.at, describe_reference(client_id, row.school.id, row.entry.reference)
