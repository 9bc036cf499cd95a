"""Creates the demonstration's clients, grants and data. The data is written through the real commands.

Repeating it changes nothing, but that one window stays open. The operator client is created after the data, so the next start completes an interrupted
one, and runs no commands after a complete one.
"""

import json
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.progress import Progress

from api.demo import assessment_data, collection_data, school_data, window_data
from api.demo.files import DemoSecrets
from api.demo.story import Story
from domain import COMMANDS, RESOURCES
from domain.access.caller import Caller
from domain.assessment.tenant_setup import prepare_tenant
from domain.clients import clients, grants, signing_keys
from domain.read import prepared
from domain.read.cursors import Cursors
from domain.read.query import FieldValue, ListQuery, PageRows
from domain.roster.gias import parse
from domain.roster.gias.apply import apply_gias
from domain.store.database import Connection, Database
from domain.store.renewal import derive_reach
from domain.store.single_transaction import run_single_transaction
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
        "collections:read,collections:write,publications:write,clients:write,grants:write"
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
KINDS: dict[str, grants.Kind] = {VENDOR: "sync", MANAGER: "front-end", "partner-app": "front-end", "trust-portal": "front-end"}
"""What each client does with the data."""


async def prepare_data(app_url: str, operator_url: str, demo_secrets: DemoSecrets, console: Console) -> dict[str, Any]:
    """Creates clients, grants and data where they are missing. Returns what demo.json says of them."""

    async def register_writers(connection: Connection) -> tuple[bool, Caller, Caller]:
        await signing_keys.ensure_signing_key(connection, demo_secrets.markonce.encode())
        is_complete = await clients.find_client(connection, OPERATOR) is not None
        if not is_complete:
            await apply_gias(connection, parse.parse_gias(school_data.make_register()), demo_secrets.day)
        elif demo_secrets.is_renewing:
            trust = grants.parse_grant(GRANTS[VENDOR][0])
            await prepare_tenant(connection, await grants.find_tenant_of(connection, trust))
            await restore_grants(connection, demo_secrets)
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
        with Progress(console=console) as progress:
            seed = Seed(database, cursors, vendor, manager, progress, Story(demo_secrets.day))
            await (seed.keep_open() if is_complete and not demo_secrets.is_renewing else seed.record_all())
            demo_secrets.is_renewing = False
        scopes = await run_single_transaction(operator_url, register_others)
        demo_secrets.write()
        rows = {
            plural: await list_rows(database, cursors, manager, plural, names)
            for plural, names in (
                ("trusts", ("id", "name")),
                ("schools", ("id", "urn", "name")),
                ("windows", ("id", "code", "state", "template")),
            )
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
                await grants.approve_grant(
                    connection, client_id, request, purpose="demonstration", approved_by=school_data.TRUST, kind=KINDS.get(name)
                )
        elif demo_secrets.clients.get(name, ("", ""))[0] != str(client.id):
            client_id, secret = client.id, await clients.rotate_secret(connection, client.id)
        else:
            continue
        demo_secrets.clients[name] = (str(client_id), secret)


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
            await derive_reach(connection, client_id)
            continue
        for grant in in_force:
            await grants.revoke_grant(connection, grant.id)
        for request in requests:
            await grants.approve_grant(
                connection, client_id, request, purpose="demonstration", approved_by=school_data.TRUST, kind=KINDS.get(name)
            )
        changed.append(name)
    return changed


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
    story: Story

    async def record_all(self) -> None:
        """Records everything, in an order that each command's rules allow."""
        story, now = self.story, clock.read_now()
        everybody = school_data.make_pupils(story)
        await self._perform_all("Rolls", self.vendor, "record_pupils", school_data.make_rolls(everybody, story))
        await self._perform_all("Classes", self.vendor, "record_groups", school_data.make_classes(everybody, story))
        schemes = await self._drop_existing("schemes", window_data.make_schemes())
        await self._perform_all("Schemes", self.manager, "create_scheme", schemes)
        await self._agree_on_scale()
        windows = await self._drop_existing("windows", window_data.make_windows(story, now))
        await self._perform_all("Windows", self.manager, "create_window", windows)
        codes = {window.code for window in window_data.list_windows(story) if window.term.stage == "open"}
        await self._open_windows(codes)
        judgements = assessment_data.make_judgements(everybody, story, now)
        await self._perform_all("Judgements", self.vendor, "record_judgements", judgements)
        await self._perform_all("Targets", self.vendor, "record_targets", assessment_data.make_targets(everybody, story, now))
        await self._stop_accepting()
        answers = collection_data.make_collection_answers(clock.read_today())
        await self._perform_all("Audit", self.manager, "record_collection_answer", answers)

    async def keep_open(self) -> None:
        """Reopens the window that closed last where no other is open: a demonstration that is started again weeks later goes on."""
        windows = await list_rows(self.database, self.cursors, self.manager, "windows", ("id", "state", "closesAt", "template"))
        closed = [window for window in windows if window["state"] == "closed" and window["template"] is None]
        if closed and not any(window["state"] == "open" for window in windows):
            latest = max(closed, key=itemgetter("closesAt"))
            closes_at = (clock.read_now() + timedelta(21)).isoformat()
            body = {"id": latest["id"], "closesAt": closes_at, "reason": "The demonstration goes on."}
            await self._perform_all("Reopening", self.manager, "reopen_window", [body])

    async def _agree_on_scale(self) -> None:
        """Drafts and signs the common scale and the crosswalks to it, and leaves one crosswalk a draft."""
        scale = await self._draft("commonScales", "create_common_scale", window_data.SCALE, {})
        await self._sign("sign_common_scale", scale)
        for scheme in window_data.IN_YEAR.values():
            if scheme.bands:
                body = window_data.make_crosswalk(scheme.code, scheme.bands)
                await self._sign(
                    "sign_crosswalk", await self._draft("crosswalks", "create_crosswalk", body, {"schemeCode": scheme.code})
                )
        code, bands = window_data.DRAFT
        await self._draft(
            "crosswalks", "create_crosswalk", window_data.make_crosswalk(code, bands), {"schemeCode": code, "fromOn": None}
        )

    async def _draft(self, plural: str, command: str, body: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
        """Returns the row with these facts, which is drafted where there is none."""
        names = ("id", "fromOn", *facts.keys() - {"fromOn"})
        if not (found := await self._list_with(plural, names, facts)):
            await self._perform_all("Scale", self.manager, command, [body])
            found = await self._list_with(plural, names, facts)
        return found[0]

    async def _list_with(self, plural: str, names: tuple[str, ...], facts: dict[str, Any]) -> list[dict[str, Any]]:
        rows = await list_rows(self.database, self.cursors, self.manager, plural, names)
        return [row for row in rows if facts.items() <= row.items()]

    async def _sign(self, command: str, row: dict[str, Any]) -> None:
        if row["fromOn"] is None:
            await self._perform_all("Scale", self.manager, command, [{"id": row["id"], **window_data.SIGNATURE}])

    async def _perform_all(self, title: str, caller: Caller, command: str, bodies: list[dict[str, Any]]) -> None:
        definition = COMMANDS[command]
        for body in self.progress.track(bodies, description=f"{title:<12}") if bodies else ():
            await perform(self.database, definition, caller, definition.parse(body))

    async def _drop_existing(self, plural: str, bodies: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Returns the bodies whose code does not exist yet."""
        existing = {row["code"] for row in await list_rows(self.database, self.cursors, self.manager, plural, ("code",))}
        return [body for body in bodies if body["code"] not in existing]

    async def _open_windows(self, codes: set[str]) -> None:
        """Opens those of these windows that are planned still."""
        windows = await list_rows(self.database, self.cursors, self.manager, "windows", ("id", "code", "state"))
        due = [{"id": window["id"]} for window in windows if window["state"] == "planned" and window["code"] in codes]
        await self._perform_all("Opening", self.manager, "open_window", due)

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
