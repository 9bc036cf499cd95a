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
from api.demo.seed import prepare_data, restore_grants
from domain.clients import clients
from domain.store import embedded
from domain.store.database import Connection
from domain.store.renewal import count_rows, find_trust, list_other_clients, remove_rows, restore_client
from domain.store.single_transaction import run_single_transaction
from domain.support import clock
from domain.support.keys import hash_secret


async def restore_clients(connection: Connection, trust_id: UUID, demo_secrets: DemoSecrets) -> list[str]:
    """Gives the clients of the demonstration the secret that they were made with and no other way to authenticate, in the
    transaction that `remove_rows` began. Returns the names of other clients of the trust, which are to be revoked."""
    ids = {name: UUID(client_id) for name, (client_id, _) in demo_secrets.clients.items()}
    others = await list_other_clients(connection, trust_id, ids)
    for other in others:
        await clients.revoke_client(connection, other)
    for name, client_id in ids.items():
        await restore_client(connection, client_id, hash_secret(demo_secrets.clients[name][1]))
    return [str(other) for other in others]


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
        trust_id = await find_trust(connection, school_data.GROUP_UID)
        removed = await remove_rows(connection, trust_id)
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
    return await count_rows(connection, await find_trust(connection, school_data.GROUP_UID))


if __name__ == "__main__":
    clock.move_clock(timedelta(seconds=float(sys.argv[2])))
    print(json.dumps(asyncio.run(renew(Path(sys.argv[1])))))
