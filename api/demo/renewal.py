"""`python -m api.demo.renewal FOLDER AHEAD`: makes the trust of a running demonstration new, and prints what it did as JSON.

All rows of the trust go, but for the schools and who reaches them. Its clients get the secrets and grants that they were made with; other clients
of the trust are revoked. Then the story is recorded as of today, as at the first start. AHEAD are the seconds by which the calendar is ahead.
"""

import asyncio
import io
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

from rich.console import Console

from api.demo import school_data
from api.demo.files import DemoSecrets, write_private
from api.demo.run import gather_statistics
from api.demo.seed import GRANTS, KINDS, prepare_data
from domain.clients import clients, grants
from domain.store import embedded
from domain.store.database import Connection
from domain.store.single_transaction import run_single_transaction
from domain.support import clock
from domain.support.keys import hash_secret

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


async def remove_data(connection: Connection, trust_id: UUID) -> dict[str, int]:
    """Removes the trust's rows, as a superuser: without triggers, since everything goes that they would derive. Returns how many rows
    of each table there were."""
    await connection.execute("SET LOCAL session_replication_role = replica")
    removed = {}
    for table in [row["relname"] for row in await connection.fetch(_LIST_TABLES, list(KEPT))]:
        removed[table] = count_rows(await connection.execute(f"DELETE FROM {table} WHERE tenant_id = $1", trust_id))
    for table in OF_CLIENTS:
        removed[table] = count_rows(await connection.execute(f"DELETE FROM {table}"))
    await connection.execute("DELETE FROM tenants WHERE id = $1", trust_id)
    for statement in _MODIFY:
        await connection.execute(statement, trust_id)
    await connection.execute("UPDATE data_versions SET version = version + 1, xid = pg_current_xact_id()")
    return {table: count for table, count in removed.items() if count}


def count_rows(status: str) -> int:
    """Returns the number in the status of a statement, such as `DELETE 3`."""
    return int(status.rsplit(" ", 1)[-1])


async def restore_clients(connection: Connection, trust_id: UUID, demo_secrets: DemoSecrets) -> list[str]:
    """Gives the clients of the demonstration the secret that they were made with and no other way to authenticate, in the
    transaction that `remove_data` began. Returns the names of other clients of the trust, which are to be revoked."""
    ids = {name: UUID(client_id) for name, (client_id, _) in demo_secrets.clients.items()}
    others = [row["id"] for row in await connection.fetch(_OTHERS, trust_id, list(ids.values()), list(ids))]
    for other in others:
        await clients.revoke_client(connection, other)
    for name, client_id in ids.items():
        await connection.execute(_RESTORE, client_id)
        await connection.execute("DELETE FROM client_secrets WHERE client_id = $1", client_id)
        digest = hash_secret(demo_secrets.clients[name][1])
        await connection.execute("INSERT INTO client_secrets (client_id, sha256) VALUES ($1, $2)", client_id, digest)
    return [str(other) for other in others]


async def restore_grants(connection: Connection, demo_secrets: DemoSecrets) -> list[str]:
    """Gives each client the grants that it was made with, where they are not in force or there are others. Returns whose grants were changed."""
    changed = []
    for name, texts in GRANTS.items():
        client_id = UUID(demo_secrets.clients[name][0])
        requests = [grants.parse_grant(text) for text in texts]
        wanted = {(text.partition("=")[0], request.scopes) for text, request in zip(texts, requests, strict=True)}
        in_force = [grant for grant in await grants.list_grants(connection, client_id) if not grants.has_ended(grant)]
        found = {(grant.target, tuple(grant.scopes)) for grant in in_force}
        if found == wanted and len(in_force) == len(wanted) and all(grant.expires_at is None for grant in in_force):
            await connection.execute("SELECT derive_reach(ARRAY[$1::uuid])", client_id)
            continue
        for grant in in_force:
            await grants.revoke_grant(connection, grant.id)
        for request in requests:
            await grants.approve_grant(
                connection, client_id, request, purpose="demonstration", approved_by=school_data.TRUST, kind=KINDS.get(name)
            )
        changed.append(name)
    return changed


async def renew(folder: Path) -> dict[str, Any]:
    """Makes the trust new, and returns what was done."""
    begun, demo_secrets = time.monotonic(), DemoSecrets.read(folder / "secrets.json")
    urls = {name: os.environ[name] for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_OPERATOR_URL")}
    passwords = json.loads((folder / "postgresql" / "passwords.json").read_text())
    parts = urlsplit(urls["DATABASE_URL"])
    host = parts.netloc.rpartition("@")[2]
    superuser = urlunsplit(parts._replace(netloc=f"{embedded.SUPERUSER}:{passwords[embedded.SUPERUSER]}@{host}"))
    demo_secrets.day, demo_secrets.is_renewing = clock.read_today(), True
    demo_secrets.write()

    async def empty(connection: Connection) -> tuple[dict[str, int], list[str]]:
        trust_id = await connection.fetchval(_TRUST, school_data.GROUP_UID)
        removed = await remove_data(connection, trust_id)
        return removed, await restore_clients(connection, trust_id, demo_secrets)

    removed, revoked = await run_single_transaction(superuser, empty)
    changed = await run_single_transaction(urls["DATABASE_OPERATOR_URL"], lambda c: restore_grants(c, demo_secrets))
    facts = await prepare_data(urls["DATABASE_URL"], urls["DATABASE_OPERATOR_URL"], demo_secrets, Console(file=io.StringIO()))
    await run_single_transaction(urls["DATABASE_OWNER_URL"], gather_statistics)
    facts = {"baseUrl": os.environ["MARKONCE_BASE_URL"], **facts}
    write_private(folder / "demo.json", json.dumps(facts, indent=2) + "\n")
    recorded = await run_single_transaction(superuser, count_recorded)
    return {
        "trust": school_data.TRUST,
        "datesGoOn": str(demo_secrets.day),
        "removedRows": removed,
        "recordedRows": recorded,
        "clientsRevoked": revoked,
        "grantsRestored": changed,
        "clients": {name: client["clientId"] for name, client in facts["clients"].items()},
        "windows": facts["windows"],
        "seconds": round(time.monotonic() - begun, 1),
    }


async def count_recorded(connection: Connection) -> dict[str, int]:
    """Returns how many rows of each table the trust has."""
    trust_id = await connection.fetchval(_TRUST, school_data.GROUP_UID)
    tables = [row["relname"] for row in await connection.fetch(_LIST_TABLES, list(KEPT))]
    counts = {
        table: int(await connection.fetchval(f"SELECT count(*) FROM {table} WHERE tenant_id = $1", trust_id)) for table in tables
    }
    return {table: count for table, count in counts.items() if count}


if __name__ == "__main__":
    clock.move_clock(timedelta(seconds=float(sys.argv[2])))
    print(json.dumps(asyncio.run(renew(Path(sys.argv[1])))))
