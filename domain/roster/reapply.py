"""Applies entries of the ledger about pupils again: new identities, and UPNs that were taken from pupils."""

from collections.abc import Mapping
from datetime import date
from typing import Any
from uuid import UUID

from domain.roster.new_identity import replace_identity
from domain.roster.record_pupils.changes import PupilFacts, touch_pupils
from domain.store.database import Connection, transpose
from domain.store.ledger_reapply import Reapplied
from domain.write.locks import SchoolLocks

_PUPIL = "SELECT p.* FROM pupils p WHERE p.tenant_id = $1 AND p.id = $2"
_IS_TAKEN = """
SELECT EXISTS (SELECT 1 FROM upns u WHERE u.tenant_id = $1 AND u.upn = $2 AND u.pupil_id <> $5) AS upn, EXISTS (
    SELECT 1 FROM external_ids e WHERE e.tenant_id = $1 AND e.source = $3 AND e.kind = 'pupil' AND e.school_id = $6 AND e.value = $4 AND e.id <> $5
) AS reference
"""
_WITH_UPNS = """
SELECT p.id, p.school_id, u.upn FROM upns u JOIN pupils p ON p.tenant_id = u.tenant_id AND p.id = u.pupil_id
JOIN unnest($2::text[], $3::uuid[]) g (upn, pupil_id) ON g.upn = u.upn AND g.pupil_id = u.pupil_id WHERE u.tenant_id = $1
"""
_DROP_CURRENT = """
UPDATE pupils p SET upn = NULL FROM unnest($2::text[], $3::uuid[]) g (upn, pupil_id)
WHERE p.tenant_id = $1 AND p.id = g.pupil_id AND p.upn = g.upn
"""


async def reapply_identity(connection: Connection, facts: Mapping[str, Any]) -> Reapplied:
    """Gives a child the new identity that it had. Where the child is not there, what it was named by is refused all the same.

    The UPN and the reference are left out where another pupil has them meanwhile.
    """
    tenant_id, old_id, new_id, client_id = (UUID(facts[name]) for name in ("tenant", "from", "to", "client"))
    hashes = [bytes.fromhex(text) for text in facts["hashes"]]
    has_key = await connection.fetchval("SELECT retire_hashes($1, $2, $3)", tenant_id, bytes.fromhex(facts["key"]), hashes)
    found = await connection.fetchrow(_PUPIL, tenant_id, old_id)
    if found is not None:
        locks = SchoolLocks(connection, tenant_id)
        await locks.lock([found["school_id"]], [old_id])
        found = await connection.fetchrow(_PUPIL, tenant_id, old_id)
    if found is not None:
        named = (facts["upn"], client_id, facts["reference"], old_id, found["school_id"])
        taken = await connection.fetchrow(_IS_TAKEN, tenant_id, *named)
        assert taken is not None
        new_facts = PupilFacts(
            school_id=found["school_id"],
            upn=None if taken["upn"] else facts["upn"],
            surname=facts["surname"],
            forename=facts["forename"],
            date_of_birth=date.fromisoformat(facts["dateOfBirth"]),
            sex=facts["sex"],
            year_group=found["year_group"],
        )
        reference = None if taken["reference"] else facts["reference"]
        await replace_identity(connection, client_id, locks, found, new_id, new_facts, reference)
    if not has_key:
        return Reapplied.KEY_LOST
    return Reapplied.NOTHING_TO_DO if found is None else Reapplied.DONE


async def reapply_released_upns(connection: Connection, facts: Mapping[str, Any]) -> Reapplied:
    """Takes UPNs from pupils again for whom they were recorded in error, current ones too: the correction of them may be lost."""
    tenant_id, client_id = UUID(facts["tenant"]), UUID(facts["client"])
    released = [(upn, UUID(pupil_id)) for upn, pupil_id in facts["released"]]
    rows = await connection.fetch(_WITH_UPNS, tenant_id, *transpose(released, 2))
    if not rows:
        return Reapplied.NOTHING_TO_DO
    pupil_ids = sorted({row["id"] for row in rows})
    locks = SchoolLocks(connection, tenant_id)
    await locks.lock({row["school_id"] for row in rows}, pupil_ids)
    pairs = [(row["upn"], row["id"]) for row in rows]
    await connection.execute("SELECT release_upns($1, $2, $3, $4)", tenant_id, *transpose(pairs, 2), client_id)
    await connection.execute(_DROP_CURRENT, tenant_id, *transpose(pairs, 2))
    await touch_pupils(connection, tenant_id, pupil_ids)
    await locks.increment_versions()
    return Reapplied.DONE
