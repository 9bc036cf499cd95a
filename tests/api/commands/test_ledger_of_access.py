"""What was taken from clients in any way, by the API or the command line, is taken again after a restore, before `serve` listens."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from joserfc.jwk import ECKey

from api.commands.console import run_as_operator
from api.commands.ledger import reapply_before_serving
from domain import COMMANDS
from domain.clients import clients, grants
from domain.declare.scopes import Scope
from domain.roster.gias.extract_day import record_extract_day
from domain.store.backup import write_backup
from domain.store.ledger import Ledger, read_ledgers
from domain.support.keys import hash_secret
from tests.fixtures.databases import drop_database
from tests.fixtures.registration import list_public, present_key
from tests.fixtures.restored import restore
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, TRUST, Trust, open_application, sent

WHOLE = {"trust": {"groupUid": TRUST}}
GIVES = "pupils:read,pupils:name,clients:write,grants:write,windows:read"
SOON, LATE = datetime(2090, 1, 1, tzinfo=UTC), datetime(2095, 1, 1, tzinfo=UTC)
OLD, NEW = (ECKey.generate_key("P-256", {"kid": kid}) for kid in ("old", "new"))
BY_API, BY_COMMAND = "api", "command"
TAKES = {
    *("release_pupil_upn", "reidentify_pupil", "revoke_calendar_link", "rotate_client_secret", "set_client_keys"),
    *("remove_client_keys", "revoke_client", "narrow_grant", "end_grant", "withdraw_publication"),
}
"""Commands that take from somebody what a restore may not give back. test_ledger.py has those of pupils."""
TAKES_NOTHING = {
    "delete_group": "an MIS sends its groups again",
    "delete_window": "nobody reads what it never collected",
    "distinguish_pupil": "a question about a roll is asked again",
    "lock_target": "who may see it sees it unlocked too",
    "lock_window": "whoever may unlock it may write there",
    "merge_pupil": "both records are of one child, for the same readers; the roll reports the pair again",
    "release_publication": "it shows more, and a restore without it shows less",
    "retire_aspect": "a code of the tenant's",
    "retire_scheme": "a code of the tenant's",
    "retire_subject": "a code of the tenant's",
    "split_pupil": "both records stay at their school, for the same readers",
    "unlock_target": "it gives",
    "unlock_window": "it gives",
    "withdraw_discount": "a figure of the tenant's",
    "withdraw_planned_roll": "an MIS withdraws it again before its day",
    "withdraw_scheme_progress": "a figure of the tenant's",
}
VERBS = {name.split("_")[0] for name in TAKES | TAKES_NOTHING.keys()} | {"remove", "end", "set"}


def test_each_command_that_takes_away_is_in_the_ledger_or_says_why_not() -> None:
    assert {name for name in COMMANDS if name.split("_")[0] in VERBS} == TAKES | TAKES_NOTHING.keys()


async def _make(here: Trust, giver: Any) -> dict[str, str]:
    """A client for each thing to be taken, by both ways; the ids of clients and of their grants (`….grant`) by name."""
    ids: dict[str, str] = {}
    for way in (BY_API, BY_COMMAND):
        for what in ("narrowed", "shortened", "ended", "rotated", "overlapping", "revoked", "to-keys", "of-keys", "one-key"):
            keys = {"publicKeys": list_public(OLD)} if what == "of-keys" else {}
            keys = {"publicKeys": list_public(OLD, NEW)} if what == "one-key" else keys
            made = await sent(giver, "/v1/clients", {"name": f"{what} {way}", "tenant": WHOLE} | keys, 201)
            ids[f"{what} {way}"] = made["id"]
            here.credentials[f"{what} {way}"] = made["id"], made["clientSecret"]
            body = {
                "client": made["id"],
                "target": WHOLE,
                "scopes": ["pupils:name", "pupils:read"],
                "purpose": "p",
                "approvedBy": "a",
            }
            ids[f"{what} {way}.grant"] = (await sent(giver, "/v1/grants", body | {"expiresAt": None}, 201))["id"]
    return ids


async def _take_by_api(giver: Any, ids: dict[str, str]) -> None:
    def path(what: str, of: str = "") -> str:
        return f"/v1/{'grants' if of else 'clients'}/{ids[f'{what} {BY_API}{of}']}"

    await sent(giver, f"{path('narrowed', '.grant')}/narrow", {"scopes": ["pupils:read"]})
    await sent(giver, f"{path('shortened', '.grant')}/narrow", {"expiresAt": SOON.isoformat()})
    await sent(giver, f"{path('ended', '.grant')}/end")
    await sent(giver, f"{path('rotated')}/rotate-secret", {})
    await sent(giver, f"{path('overlapping')}/rotate-secret", {"overlapHours": 1})
    await sent(giver, f"{path('revoked')}/revoke")
    await sent(giver, f"{path('to-keys')}/set-keys", {"publicKeys": list_public(NEW)})
    await sent(giver, f"{path('of-keys')}/remove-keys")
    await sent(giver, f"{path('one-key')}/set-keys", {"publicKeys": list_public(NEW)})


async def _take_by_command(ids: dict[str, str]) -> None:
    def id_of(what: str) -> UUID:
        return UUID(ids[what.replace(".", f" {BY_COMMAND}.") if "." in what else f"{what} {BY_COMMAND}"])

    steps: list[Callable[[Any], Awaitable[Any]]] = [
        lambda connection: grants.narrow_grant(connection, id_of("narrowed.grant"), [Scope.PUPILS_READ]),
        lambda connection: grants.narrow_grant(connection, id_of("shortened.grant"), expires_at=SOON),
        lambda connection: grants.revoke_grant(connection, id_of("ended.grant")),
        lambda connection: clients.rotate_secret(connection, id_of("rotated")),
        lambda connection: clients.rotate_secret(connection, id_of("overlapping"), timedelta(hours=1)),
        lambda connection: clients.revoke_client(connection, id_of("revoked")),
        lambda connection: clients.set_keys(connection, id_of("to-keys"), {"keys": list_public(NEW)}),
        lambda connection: clients.remove_keys(connection, id_of("of-keys")),
        lambda connection: clients.set_keys(connection, id_of("one-key"), {"keys": list_public(NEW)}),
    ]
    for step in steps:
        await asyncio.to_thread(run_as_operator, step)


_ENDS = "SELECT expires_at IS NOT NULL FROM client_secrets WHERE client_id = $1 AND sha256 = $2"


async def _read_access(here: Trust, ids: dict[str, str], way: str) -> dict[str, Any]:
    """What each client may: the status of a request for a token by its first secret and by its first key, its grant and reach, and whether that secret
    ends."""
    found: dict[str, Any] = {}
    for name in (name for name in ids if name.endswith(way)):
        answer = await here.http.post(
            "/oauth/token", data={"grant_type": "client_credentials"}, auth=(ids[name], here.credentials[name][1] or "none")
        )
        key = await present_key(here.http, ids[name], OLD, BASE)
        grant = await here.operator.fetchrow(
            "SELECT scopes, expires_at, revoked_at IS NULL AS is_in_force FROM grants WHERE id = $1", UUID(ids[f"{name}.grant"])
        )
        reach = await here.value("SELECT array_agg(DISTINCT s) FROM reach, unnest(scopes) s WHERE client_id = $1", UUID(ids[name]))
        ends = await here.value(_ENDS, UUID(ids[name]), hash_secret(here.credentials[name][1] or "none"))
        found[name.removesuffix(f" {way}")] = (answer.status_code, key, *grant, sorted(reach or []), ends)
    return found


async def _check_taken(here: Trust, ids: dict[str, str], way: str) -> None:
    both, one = ["pupils:name", "pupils:read"], ["pupils:read"]
    assert await _read_access(here, ids, way) == {
        "narrowed": (200, 401, one, None, True, one, False),
        "shortened": (200, 401, both, SOON, True, both, False),
        "ended": (200, 401, both, None, False, [], False),
        "rotated": (401, 401, both, None, True, both, True),
        "overlapping": (200, 401, both, None, True, both, True),
        "revoked": (401, 401, both, None, True, [], False),
        "to-keys": (401, 401, both, None, True, both, True),
        "of-keys": (401, 401, both, None, True, both, None),
        "one-key": (401, 401, both, None, True, both, None),
    }, way


async def test_whatever_was_taken_from_clients_is_taken_again_after_a_restore(
    small_trust: Trust,
    vendor: Any,
    environment: pytest.MonkeyPatch,
    ledger: Ledger,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    giver = await small_trust.client("giver", f"trust:{TRUST}={GIVES}")
    leaver = await small_trust.client("leaver", f"trust:{TRUST}={GIVES}")
    ids = await _make(small_trust, giver)
    link = await sent(giver, f"/v1/trusts/{small_trust.ids['trust']}/calendar-links", {}, 201)
    receiver = await sent(leaver, "/v1/clients", {"name": "receiver", "tenant": WHOLE}, 201)
    body = {"client": receiver["id"], "target": WHOLE, "purpose": "p", "approvedBy": "a", "expiresAt": LATE.isoformat()}
    awaiting, later = [
        UUID((await sent(leaver, "/v1/grants", body | {"scopes": [scope]}, 201))["id"]) for scope in ("pupils:name", "pupils:read")
    ]
    kept = [Scope.PUPILS_READ, Scope.CLIENTS_WRITE, Scope.GRANTS_WRITE]
    (of_leaver,) = await grants.list_grants(small_trust.operator, UUID(small_trust.credentials["leaver"][0]))
    assert await grants.narrow_grant(small_trust.operator, of_leaver.id, kept) == [awaiting]
    async with small_trust.operator.transaction():
        await record_extract_day(small_trust.operator, date(2018, 5, 1), force=False)
    await asyncio.to_thread(write_backup, small_trust.databases.owner_url, "DATABASE_OWNER_URL", tmp_path / "a.dump")

    environment.setenv("DATABASE_OPERATOR_URL", small_trust.databases.operator_url)
    await _take_by_api(giver, ids)
    await _take_by_command(ids)
    await sent(giver, f"/v1/calendar-links/{link['id']}/revoke", {})
    at_once = datetime.now(UTC) + timedelta(days=1)
    await asyncio.to_thread(run_as_operator, lambda connection: grants.narrow_grant(connection, awaiting, expires_at=at_once))
    await asyncio.to_thread(run_as_operator, lambda connection: clients.revoke_client(connection, of_leaver.client_id))
    for day in (date(2018, 5, 15), date(2018, 6, 1)):
        await asyncio.to_thread(run_as_operator, lambda connection, day=day: record_extract_day(connection, day, force=False))
    for way in (BY_API, BY_COMMAND):
        await _check_taken(small_trust, ids, way)
    kinds = [entry.kind for entry in read_ledgers(ledger.path, SECRET.encode())[ledger.path]]
    assert kinds == [*_kinds_of_one_way(), *_kinds_of_one_way(), "calendar-link", "grant", "client", "register", "register"]

    restored = await restore(small_trust.databases, tmp_path / "a.dump")
    try:
        environment.setenv("DATABASE_OPERATOR_URL", restored.operator_url)
        (left,) = await asyncio.to_thread(reapply_before_serving, restored.app_url)
        assert "The register is of an extract of 2018-05-01, and one of 2018-06-01 was imported after this backup" in left
        await asyncio.to_thread(run_as_operator, lambda connection: record_extract_day(connection, date(2018, 7, 1), force=False))
        capsys.readouterr()
        environment.setenv("MARKONCE_LOG_FORMAT", "json")
        assert await asyncio.to_thread(reapply_before_serving, restored.app_url) == []
        told = capsys.readouterr()
        line = json.loads(told.err)
        assert (told.out, line["level"], line["event"]) == (
            *("", "info"),
            "From the ledger: 2 imports of the register with nothing to do.",
        )
        async with open_application(restored, await asyncpg.connect(restored.operator_url), small_trust.ids) as here:
            here.credentials |= small_trust.credentials
            for way in (BY_API, BY_COMMAND):
                await _check_taken(here, ids, way)
            assert (await here.http.get(link["path"])).status_code == 404
            states = {each.id: each for each in await grants.list_unconfirmed(here.operator)}
            assert (set(states), states[awaiting].expires_at) == ({awaiting, later}, at_once)
            await grants.confirm_grant(here.operator, awaiting)
            assert await here.value("SELECT expires_at FROM grants WHERE id = $1", awaiting) == at_once
    finally:
        drop_database(restored)


def _kinds_of_one_way() -> list[str]:
    return [*["grant"] * 3, *["client"] * 6]
