"""What history says of the merges into a record: what came from the merged record, and which merge a split undoes."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from domain.roster.names import NAME_KEYS, fold_name, make_name_keys
from domain.store.database import Connection

Reference = tuple[UUID, UUID, str]
"""Of a client, at a school, and its text."""


class ChildFacts(Protocol):
    """By what two children are told apart, besides the UPN."""

    @property
    def surname(self) -> str: ...

    @property
    def forename(self) -> str: ...

    @property
    def date_of_birth(self) -> date: ...


@dataclass(frozen=True)
class StoredMerge:
    """A merge that a split undoes: its merged record had the spells and the facts of the new record."""

    id: UUID
    merged_at: datetime
    details: Mapping[str, Any]

    @property
    def judgements(self) -> list[list[int]]:
        """The keys of the merged record's judgements, the version of the other record's one or 0, and their own version."""
        return list(self.details["judgements"])

    @property
    def replaced_targets(self) -> list[UUID]:
        return [UUID(id_) for id_ in self.details["replacedTargets"]]

    def list_discounts(self, name: str) -> list[UUID]:
        """Returns the ids of the `discounts` of the merged record, or of its `withdrawnDiscounts`: those that the merge
        withdrew. A merge that was recorded by an older release knows of none.
        """
        return [UUID(id_) for id_ in self.details.get(name, ())]

    def list_references(self, name: str) -> set[Reference]:
        """Returns the `references` of the merged record, or the `intoReferences` that the other one had before.

        A merge that was recorded by an older release knows of none.
        """
        return {(UUID(source), UUID(school_id), value) for source, school_id, value in self.details.get(name, ())}


_MERGES = """
SELECT id, changed_at, details FROM record_changes
WHERE tenant_id = $1 AND pupil_id = $2 AND kind = 'merged' AND NOT details ? 'undone' ORDER BY changed_at DESC
"""


async def find_merge(
    connection: Connection, record: Any, new: ChildFacts, new_upn: str | None, spells: Collection[tuple[UUID, date]]
) -> StoredMerge | None:
    """Returns the newest merge into this record whose merged record had these spells (school and first day) and the facts
    of the new record; None if there is none. Spells alone are no proof: two children of one school may have the same.
    """
    wanted = {(str(school_id), str(from_on)) for school_id, from_on in spells}
    for row in await connection.fetch(_MERGES, record["tenant_id"], record["id"]):
        details: dict[str, Any] = msgspec.json.decode(row["details"])
        has_spells = wanted <= {(school_id, from_on) for school_id, from_on, *_ in details["spells"]}
        if has_spells and _is_child(details["facts"], new, new_upn):
            return StoredMerge(row["id"], row["changed_at"], details)
    return None


def _is_child(stored: Mapping[str, Any], new: ChildFacts, new_upn: str | None) -> bool:
    """Whether the names and birthday are the same, and the UPN too where the new record has one."""
    same_names = all(fold_name(stored[name]) == fold_name(getattr(new, name)) for name in ("surname", "forename"))
    return same_names and str(stored["date_of_birth"]) == str(new.date_of_birth) and new_upn in (None, stored["upn"])


_UNDO = """
UPDATE record_changes SET pupil_id = $2, details = CASE WHEN id = $3 THEN details || '{"undone": true}' ELSE details END
WHERE tenant_id = $1 AND (id = $3 OR id = ANY ($4::uuid[]))
"""


_GIVE_HISTORY_BACK = "UPDATE pupil_history SET pupil_id = $2 WHERE tenant_id = $1 AND pupil_id = $3 AND id = ANY ($4::uuid[])"
_TAKE_NAMES_OFF = f"""
UPDATE pupils SET preferred_surname = $3, preferred_forename = $4, {", ".join(f"{name} = ${n}" for n, name in enumerate(NAME_KEYS, 5))}
WHERE tenant_id = $1 AND id = $2
"""


async def undo_merge(connection: Connection, record: Any, merge: StoredMerge | None, new_id: UUID) -> None:
    """Says in history that the merged record is the new one now: its old id leads to the child again, and so do the ids
    of the records that had been merged into it before. The changes of the merged record are the new one's again. The
    record loses the preferred names that the merge gave it.
    """
    if merge is None:
        return
    changes = [UUID(id_) for id_ in merge.details.get("changes", ())]
    await connection.execute(_UNDO, record["tenant_id"], new_id, merge.id, changes)
    history = [UUID(id_) for id_ in merge.details.get("history", ())]
    await connection.execute(_GIVE_HISTORY_BACK, record["tenant_id"], new_id, record["id"], history)
    names = {name: record[name] for name in ("surname", "forename", "preferred_surname", "preferred_forename")}
    facts, taken = merge.details["facts"], merge.details.get("taken", ())
    names |= {name: None for name in taken if names[name] == facts[name]}
    if taken:
        preferred = (names["preferred_surname"], names["preferred_forename"])
        keys = make_name_keys(names["surname"], names["forename"], *preferred)
        await connection.execute(_TAKE_NAMES_OFF, record["tenant_id"], record["id"], *preferred, *keys)
