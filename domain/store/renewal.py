"""Empties a tenant and restores clients, for a sandbox that is made new. A superuser runs it: nothing here is for an installation with children."""

from collections.abc import Mapping
from uuid import UUID

from domain.store.database import Connection

KEPT = ("schools", "reach", "tenant_versions", "school_versions")
"""Tables of a tenant whose rows stay: the register, who reaches it, and the versions by which clients and caches notice a change."""
OF_CLIENTS = ("idempotency", "jobs", "job_issues", "job_parts", "job_schools", "staged_rows")
"""Tables whose rows belong to a client, of whatever trust."""

_LIST_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id'
WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relnamespace = 'public'::regnamespace AND c.relname <> ALL ($1) ORDER BY c.relname
"""
_TRUST = "SELECT id FROM trusts WHERE group_uid = $1"
_MODIFY = (
    "UPDATE tenant_versions SET version = version + 1, xid = pg_current_xact_id() WHERE tenant_id = $1",
    "UPDATE school_versions SET version = version + 1 WHERE tenant_id = $1",
)
_RESTORE = """
UPDATE clients SET revoked_at = NULL, auth_method = 'client_secret', jwks = NULL, origins = '{}', reach_version = reach_version + 1 WHERE id = $1
"""
_OTHERS = """
SELECT id FROM clients WHERE revoked_at IS NULL AND id <> ALL ($2) AND (of_tenant = $1 OR display_name = ANY ($3) OR EXISTS (
    SELECT 1 FROM reach r WHERE r.client_id = clients.id AND r.tenant_id = $1
))
"""


async def remove_rows(connection: Connection, trust_id: UUID) -> dict[str, int]:
    """Removes the trust's rows, as a superuser: without triggers, since everything goes that they would derive. Returns how many rows
    of each table there were."""
    await connection.execute("SET LOCAL session_replication_role = replica")
    removed = {}
    for table in [row["relname"] for row in await connection.fetch(_LIST_TABLES, list(KEPT))]:
        removed[table] = _read_count(await connection.execute(f"DELETE FROM {table} WHERE tenant_id = $1", trust_id))
    for table in OF_CLIENTS:
        removed[table] = _read_count(await connection.execute(f"DELETE FROM {table}"))
    await connection.execute("DELETE FROM tenants WHERE id = $1", trust_id)
    for statement in _MODIFY:
        await connection.execute(statement, trust_id)
    await connection.execute("UPDATE data_versions SET version = version + 1, xid = pg_current_xact_id()")
    return {table: count for table, count in removed.items() if count}


def _read_count(status: str) -> int:
    """Returns the number in the status of a statement, such as `DELETE 3`."""
    return int(status.rsplit(" ", 1)[-1])


async def find_trust(connection: Connection, group_uid: int) -> UUID:
    """Returns the id of the trust with this GIAS group UID, which there is."""
    trust_id: UUID = await connection.fetchval(_TRUST, group_uid)
    return trust_id


async def list_other_clients(connection: Connection, tenant_id: UUID, clients: Mapping[str, UUID]) -> list[UUID]:
    """Returns the clients that are not revoked and belong to the tenant, reach it, or have the name of one of these; not these themselves."""
    return [row["id"] for row in await connection.fetch(_OTHERS, tenant_id, list(clients.values()), list(clients))]


async def restore_client(connection: Connection, client_id: UUID, digest: bytes) -> None:
    """Lets a client authenticate by the secret with this hash and nothing else, also where it was revoked. Its reach is to be derived then."""
    await connection.execute(_RESTORE, client_id)
    await connection.execute("DELETE FROM client_secrets WHERE client_id = $1", client_id)
    await connection.execute("INSERT INTO client_secrets (client_id, sha256) VALUES ($1, $2)", client_id, digest)


async def derive_reach(connection: Connection, client_id: UUID) -> None:
    """Derives the reach of a client from its grants, with the triggers that say what it may do, so not in a transaction of `remove_rows`."""
    await connection.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)


async def count_rows(connection: Connection, tenant_id: UUID) -> dict[str, int]:
    """Returns how many rows of each table the tenant has, of those that `remove_rows` removes."""
    counts = {
        row["relname"]: int(await connection.fetchval(f"SELECT count(*) FROM {row['relname']} WHERE tenant_id = $1", tenant_id))
        for row in await connection.fetch(_LIST_TABLES, list(KEPT))
    }
    return {table: count for table, count in counts.items() if count}
