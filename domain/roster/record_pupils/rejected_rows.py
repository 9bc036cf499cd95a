"""By what the rejected rows of a roll name their pupils, also those that could not be decoded."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from domain.declare.ids import parse_id
from domain.roster.pupil_keys import Key
from domain.roster.record_pupils.entries import PupilEntry
from domain.roster.retired import describe_id, describe_names, describe_reference, describe_upn
from domain.roster.upn import find_upn
from domain.support.texts import clean_text
from domain.write.batch import Batch


@dataclass(frozen=True)
class RejectedRow:
    """What of a rejected row can be read: its index, id and reference, its UPNs in canonical form, its names and its birthday."""

    at: int
    id: str | None
    reference: str | None
    upns: list[str]
    surnames: list[str]
    forenames: list[str]
    date_of_birth: date | None

    def list_keys(self, school_id: UUID) -> Iterator[Key]:
        """Yields the keys by which the row may mean a pupil."""
        if self.id is not None:
            yield school_id, self.id, None, None
        if self.reference is not None:
            yield school_id, None, self.reference, None
        for upn in self.upns:
            yield school_id, None, None, upn

    def list_identifiers(self, client_id: UUID, school_id: UUID) -> Iterator[str]:
        """Yields the texts that are hashed where such an identifier is retired."""
        if self.id is not None and (id_ := parse_id(self.id)) is not None:
            yield describe_id(id_)
        if self.reference is not None:
            yield describe_reference(client_id, school_id, self.reference)
        yield from map(describe_upn, self.upns)
        if self.date_of_birth is not None:
            yield from describe_names(self.surnames, self.forenames, self.date_of_birth)


def list_rejected_rows(batch: Batch[Any, Any]) -> list[RejectedRow]:
    """Returns the rejected rows of a roll."""
    good = {at for at, _ in batch.list_good_rows()}
    rows = []
    for at, entry in batch.rows:
        if at not in good and isinstance(entry, PupilEntry):
            surnames, forenames = (entry.surname, entry.preferred_surname), (entry.forename, entry.preferred_forename)
            upns, born_on = [entry.upn, *entry.former_upns], entry.date_of_birth
            rows.append(_make_row(at, entry.id, entry.reference, upns, surnames, forenames, born_on))
    for at, value in batch.undecoded.items():
        if isinstance(value, dict):
            former = value.get("formerUpns")
            upns = [value.get("upn"), *(former if isinstance(former, list) else [])]
            name_lists = [tuple(value.get(name) for name in names) for names in _NAMES]
            id_, reference = value.get("id"), value.get("reference")
            rows.append(_make_row(at, id_, reference, upns, name_lists[0], name_lists[1], value.get("dateOfBirth")))
    return rows


_NAMES = (("surname", "preferredSurname"), ("forename", "preferredForename"))


def _make_row(
    at: int,
    id_: object,
    reference: object,
    upns: list[Any],
    surnames: tuple[object, ...],
    forenames: tuple[object, ...],
    born_on: object,
) -> RejectedRow:
    return RejectedRow(
        at,
        _read_text(id_),
        _read_text(reference),
        [upn for text in upns if (upn := find_upn(text)) is not None],
        [name for text in surnames if (name := _read_text(text)) is not None],
        [name for text in forenames if (name := _read_text(text)) is not None],
        _read_date(born_on),
    )


def _read_text(value: object) -> str | None:
    return clean_text(value) or None if isinstance(value, str) else None


def _read_date(value: object) -> date | None:
    try:
        return date.fromisoformat(value) if isinstance(value, str) else value if isinstance(value, date) else None
    except ValueError:
        return None
