"""The dated spells of two records of a pupil that become one: on roll, in groups, and characteristics."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.roster.unite_spells import DatedSpell, UnitedSpells, end_earlier_main_spells, unite_spells
from domain.store.database import Connection, transpose

_ENROLMENTS = "SELECT id, pupil_id, school_id, from_on, to_on, status, leaving_reason FROM enrolments WHERE tenant_id = $1 AND pupil_id = ANY ($2)"
_MEMBERS = "SELECT group_id, pupil_id, from_on, to_on FROM group_members WHERE tenant_id = $1 AND pupil_id = ANY ($2)"
_CHARACTERISTICS = "SELECT pupil_id, kind, from_on, to_on, value FROM characteristics WHERE tenant_id = $1 AND pupil_id = ANY ($2)"


@dataclass
class RecordSpells:
    """The spells as they will be. `dropped` are the (kind, first day) of characteristics of the record that goes which
    the other one says already, or says otherwise: these are `contradicting`.
    """

    enrolments: UnitedSpells
    members: UnitedSpells
    dropped: list[tuple[str, Any]]
    contradicting: list[str]
    moving: list[DatedSpell]

    @property
    def moving_count(self) -> int:
        return len(self.moving)

    def describe_moving(self) -> list[list[str | None]]:
        """Returns the spells on roll of the record that goes, as they were, for history."""
        return [[str(s.where), str(s.from_on), None if s.to_on is None else str(s.to_on), s.value] for s in self.moving]

    def list_conflicts(self) -> Iterator[tuple[str, str]]:
        """Yields what both records had: the kind, and since when."""
        for spell in self.enrolments.conflicting:
            yield "enrolment", f"Spell from {spell.from_on}"
        for spell in self.enrolments.simultaneous:
            yield "enrolment", f"Main spells at two schools from {spell.from_on}"
        for spell in self.members.conflicting:
            yield "groupMember", f"Membership from {spell.from_on}"
        for kind in self.contradicting:
            yield "characteristic", kind

    async def write(self, connection: Connection, tenant_id: UUID, from_id: UUID, into_id: UUID) -> None:
        """Writes the spells for `into_id`. Spells of `from_id` that are in others are deleted."""
        both = [from_id, into_id]
        left = [s.id for s in self.enrolments.spells]
        await connection.execute(_KEEP_ENROLMENTS, tenant_id, [s.id for s in self.enrolments.conflicting])
        await connection.execute(_DELETE_ENROLMENTS, tenant_id, both, left)
        rows = [(s.id, s.from_on, s.to_on, s.value, s.note) for s in self.enrolments.spells]
        await connection.execute(_UPDATE_ENROLMENTS, tenant_id, *transpose(rows, 5), into_id)
        await connection.execute("DELETE FROM group_members WHERE tenant_id = $1 AND pupil_id = ANY ($2)", tenant_id, both)
        members = [(s.where, s.from_on, s.to_on) for s in self.members.spells]
        await connection.execute(_INSERT_MEMBERS, tenant_id, *transpose(members, 3), into_id)
        await connection.execute(_KEEP_CHARACTERISTICS, tenant_id, *transpose(self.dropped, 2), from_id)
        await connection.execute(_DELETE_CHARACTERISTICS, tenant_id, *transpose(self.dropped, 2), from_id)


_KEEP_ENROLMENTS = """
INSERT INTO enrolment_history (tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason, until)
SELECT tenant_id, id, pupil_id, school_id, status, from_on, to_on, leaving_reason, clock_timestamp()
FROM enrolments WHERE tenant_id = $1 AND id = ANY ($2)
"""
_KEEP_CHARACTERISTICS = """
INSERT INTO characteristic_history (tenant_id, pupil_id, kind, from_on, school_id, to_on, value, until)
SELECT c.tenant_id, c.pupil_id, c.kind, c.from_on, c.school_id, c.to_on, c.value, clock_timestamp()
FROM characteristics c JOIN unnest($2::text[], $3::date[]) AS g (kind, from_on) ON c.kind = g.kind AND c.from_on = g.from_on
WHERE c.tenant_id = $1 AND c.pupil_id = $4
"""
_DELETE_ENROLMENTS = "DELETE FROM enrolments WHERE tenant_id = $1 AND pupil_id = ANY ($2) AND NOT id = ANY ($3::uuid[])"
_UPDATE_ENROLMENTS = """
UPDATE enrolments e SET pupil_id = $7, from_on = g.from_on, to_on = g.to_on, status = g.status, leaving_reason = g.leaving_reason
FROM unnest($2::uuid[], $3::date[], $4::date[], $5::text[], $6::text[]) AS g (id, from_on, to_on, status, leaving_reason)
WHERE e.tenant_id = $1 AND e.id = g.id
"""
_INSERT_MEMBERS = """
INSERT INTO group_members (tenant_id, group_id, pupil_id, from_on, school_id, to_on)
SELECT $1, g.group_id, $5, g.from_on, x.school_id, g.to_on FROM unnest($2::uuid[], $3::date[], $4::date[]) AS g (group_id, from_on, to_on)
JOIN groups x ON x.tenant_id = $1 AND x.id = g.group_id
"""
_DELETE_CHARACTERISTICS = """
DELETE FROM characteristics c USING unnest($2::text[], $3::date[]) AS g (kind, from_on)
WHERE c.tenant_id = $1 AND c.pupil_id = $4 AND c.kind = g.kind AND c.from_on = g.from_on
"""


async def read_record_spells(connection: Connection, tenant_id: UUID, from_id: UUID, into_id: UUID) -> RecordSpells:
    """Returns the spells of both records, put together. Three statements."""
    arguments = (tenant_id, [from_id, into_id])
    on_roll = [
        DatedSpell(r["id"], r["school_id"], r["from_on"], r["to_on"], r["status"], r["leaving_reason"], r["pupil_id"] == into_id)
        for r in await connection.fetch(_ENROLMENTS, *arguments)
    ]
    enrolments = unite_spells(on_roll)
    end_earlier_main_spells(enrolments)
    members = unite_spells(
        DatedSpell((r["group_id"], r["from_on"]), r["group_id"], r["from_on"], r["to_on"], None, None, r["pupil_id"] == into_id)
        for r in await connection.fetch(_MEMBERS, *arguments)
    )
    characteristics = await connection.fetch(_CHARACTERISTICS, *arguments)
    remaining = sorted((r for r in characteristics if r["pupil_id"] == into_id), key=lambda r: r["from_on"])
    dropped, contradicting = [], []
    for row in characteristics:
        if row["pupil_id"] == from_id:
            covering = [
                r["value"]
                for r in remaining
                if r["kind"] == row["kind"]
                and r["from_on"] <= row["from_on"]
                and (r["to_on"] is None or r["to_on"] >= row["from_on"])
            ]
            if covering:  # the record that remains says it already
                dropped.append((row["kind"], row["from_on"]))
                contradicting += [row["kind"]] * (covering[-1] != row["value"])
    moving = [spell for spell in on_roll if not spell.is_remaining]
    return RecordSpells(enrolments, members, dropped, contradicting, moving)
