"""Creates the demonstration's clients, grants and data. The data is written through the real commands.

Repeating it changes nothing. The operator client is created after the data, so the next start completes an interrupted
one, and runs no commands after a complete one.
"""

import json
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.progress import Progress

from api.demo import assessment_data, school_data
from api.demo.files import DemoSecrets
from domain import COMMANDS, RESOURCES
from domain.access.caller import Caller
from domain.clients import clients, grants, signing_keys
from domain.read import prepared
from domain.read.cursors import Cursors
from domain.read.query import FieldValue, ListQuery, PageRows
from domain.roster.gias import parse
from domain.roster.gias.apply import apply_gias
from domain.store.database import Connection, Database, run_single_transaction
from domain.support import clock
from domain.write.run import perform

_TRUST = f"trust:{school_data.GROUP_UID}="
_REGISTER = "trusts:read,schools:read,"
VENDOR, MANAGER, OPERATOR = "mis-vendor", "trust-data-manager", "operator"
GRANTS = {
    VENDOR: [
        f"{_TRUST}{_REGISTER}pupils:read,pupils:name,pupils:upn,pupils:birth,pupils:sensitive,pupils:write,groups:read,groups:write,windows:read,schemes:read,"
        "judgements:read,judgements:write,targets:read,targets:staff,targets:write"
    ],
    MANAGER: [
        f"{_TRUST}{_REGISTER}schools:write,pupils:read,groups:read,windows:read,windows:write,schemes:read,schemes:write,judgements:read,aggregates:read,aggregates:internal,"
        "clients:write,grants:write"
    ],
    "partner-app": [
        f"{_TRUST}{_REGISTER}pupils:read,pupils:name,groups:read,windows:read,schemes:read,judgements:read,judgements:write,targets:read"
    ],
    "trust-portal": [f"{_TRUST}{_REGISTER}windows:read,aggregates:read"],
    OPERATOR: ["installation=trusts:read,schools:read,audit:read,imports:write,clients:write,grants:write"],
}
"""The grants of each client, in the order in which clients are created. The operator runs the installation and reaches
no pupil."""
PURPOSES = {
    VENDOR: "sends rolls, groups, judgements and targets",
    MANAGER: "makes schemes and windows, and gives access",
    "partner-app": "reads pupils and posts judgements",
    "trust-portal": "reads aggregates, and no pupil",
    OPERATOR: "runs the installation",
}
"""What each client is for, as the README says it."""


async def prepare_data(app_url: str, operator_url: str, demo_secrets: DemoSecrets, console: Console) -> dict[str, Any]:
    """Creates clients, grants and data where they are missing. Returns what demo.json says of them."""

    async def register_writers(connection: Connection) -> tuple[bool, Caller, Caller]:
        await signing_keys.ensure_signing_key(connection, demo_secrets.markonce.encode())
        is_complete = await clients.find_client(connection, OPERATOR) is not None
        if not is_complete:
            await apply_gias(connection, parse.parse_gias(school_data.make_register()), school_data.AS_OF)
        await register_clients(connection, demo_secrets, [VENDOR, MANAGER])
        ids = [UUID(demo_secrets.clients[name][0]) for name in (VENDOR, MANAGER)]
        vendor, manager = [Caller(client_id, frozenset(await list_scopes(connection, client_id))) for client_id in ids]
        return is_complete, vendor, manager

    async def register_others(connection: Connection) -> dict[str, list[str]]:
        await register_clients(connection, demo_secrets, list(GRANTS))
        return {name: await list_scopes(connection, UUID(client_id)) for name, (client_id, _) in demo_secrets.clients.items()}

    is_complete, vendor, manager = await run_single_transaction(operator_url, register_writers)
    demo_secrets.write()
    database = await Database.open(app_url, size=1)
    try:
        cursors = Cursors(demo_secrets.markonce.encode())
        if not is_complete:
            with Progress(console=console) as progress:
                await Seed(database, cursors, vendor, manager, progress).record_all()
        scopes = await run_single_transaction(operator_url, register_others)
        demo_secrets.write()
        rows = {
            plural: await list_rows(database, cursors, manager, plural, names)
            for plural, names in (("trusts", ("id", "name")), ("schools", ("id", "urn", "name")), ("windows", ("id", "code")))
        }
    finally:
        await database.close()
    return {
        "clients": {
            name: {"clientId": demo_secrets.clients[name][0], "clientSecret": demo_secrets.clients[name][1], "scopes": scopes[name]}
            for name in GRANTS
        },
        **rows,
    }


async def register_clients(connection: Connection, demo_secrets: DemoSecrets, names: list[str]) -> None:
    """Creates the clients that are missing, with their grants. A client whose secret is lost gets a new one."""
    for name in names:
        client = await clients.find_client(connection, name)
        if client is None:
            client_id, secret = await clients.create_client(connection, name, "client_secret")
            assert secret is not None
            for text in GRANTS[name]:
                request = grants.parse_grant(text)
                await grants.approve_grant(connection, client_id, request, purpose="demonstration", approved_by=school_data.TRUST)
        elif demo_secrets.clients.get(name, ("", ""))[0] != str(client.id):
            client_id, secret = client.id, await clients.rotate_secret(connection, client.id)
        else:
            continue
        demo_secrets.clients[name] = (str(client_id), secret)


async def list_scopes(connection: Connection, client_id: UUID) -> list[str]:
    """Returns the scopes of the client's grants that are not revoked."""
    in_force = [grant for grant in await grants.list_grants(connection, client_id) if grant.revoked_at is None]
    return sorted({scope for grant in in_force for scope in grant.scopes})


async def list_rows(
    database: Database, cursors: Cursors, caller: Caller, plural: str, names: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Returns these fields of every row of a resource within the caller's reach."""
    (resource,) = (resource for resource in RESOURCES.values() if resource.plural == plural)
    row = PageRows(tuple((name, FieldValue(resource.fields[name])) for name in names))
    (body,) = await prepared.read(
        [ListQuery(resource, (("data", row),), first=1000)], database, caller.client_id, cursors, scopes=caller.scopes
    )
    rows: list[dict[str, Any]] = json.loads(body or b"")["data"]
    return rows


@dataclass
class Seed:
    """Writes the trust's data through the commands that an MIS vendor and a trust would use, subject to row-level
    security."""

    database: Database
    cursors: Cursors
    vendor: Caller
    manager: Caller
    progress: Progress

    async def record_all(self) -> None:
        """Records everything, in an order that each command's rules allow."""
        everybody = school_data.make_pupils()
        await self._perform_all("Rolls", self.vendor, "record_pupils", school_data.make_rolls(everybody))
        await self._perform_all("Classes", self.vendor, "record_groups", school_data.make_classes(everybody))
        schemes = await self._drop_existing("schemes", assessment_data.make_schemes())
        await self._perform_all("Schemes", self.manager, "create_scheme", schemes)
        await self._perform_all(
            "Windows",
            self.manager,
            "create_window",
            await self._drop_existing("windows", assessment_data.make_windows(clock.read_now())),
        )
        await self._change_windows("planned", "open_window", {window.code for window in assessment_data.WINDOWS})
        judgements = assessment_data.make_judgements(everybody, clock.read_now())
        await self._perform_all("Judgements", self.vendor, "record_judgements", judgements)
        await self._perform_all("Targets", self.vendor, "record_targets", assessment_data.make_targets(everybody))
        await self._change_windows("open", "close_window", {window.code for window in assessment_data.WINDOWS if window.closed})
        await self._stop_accepting()

    async def _perform_all(self, title: str, caller: Caller, command: str, bodies: list[dict[str, Any]]) -> None:
        definition = COMMANDS[command]
        for body in self.progress.track(bodies, description=f"{title:<12}") if bodies else ():
            await perform(self.database, definition, caller, definition.parse(body))

    async def _drop_existing(self, plural: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the bodies whose code does not exist yet."""
        existing = {row["code"] for row in await list_rows(self.database, self.cursors, self.manager, plural, ("code",))}
        return [body for body in bodies if body["code"] not in existing]

    async def _change_windows(self, state: str, command: str, codes: set[str]) -> None:
        """Runs the command for those of these windows that are in this state."""
        windows = await list_rows(self.database, self.cursors, self.manager, "windows", ("id", "code", "state"))
        due = [{"id": window["id"]} for window in windows if window["state"] == state and window["code"] in codes]
        await self._perform_all("Opening" if state == "planned" else "Closing", self.manager, command, due)

    async def _stop_accepting(self) -> None:
        """Lets windows accept nothing after they closed, now that everything is recorded."""
        names = ("id", "version", "acceptUntil")
        windows = await list_rows(self.database, self.cursors, self.manager, "windows", names)
        changes = [
            {"id": window["id"], "expectedVersion": window["version"], "acceptUntil": None}
            for window in windows
            if window["acceptUntil"] is not None
        ]
        await self._perform_all("Closing", self.manager, "update_window", changes)
