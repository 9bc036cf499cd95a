"""A restore brings nobody back: new identities, released UPNs and what was taken from clients are done again before `serve` listens."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio
import typer

from api.commands.console import run_as_operator
from api.commands.ledger import reapply, reapply_before_serving
from domain.clients.clients import revoke_client, rotate_secret, set_origins
from domain.clients.grants import list_grants, revoke_grant
from domain.store import embedded
from domain.store.backup import write_backup
from domain.store.ledger import Ledger, read_ledgers
from tests.fixtures.clock import freeze_clock
from tests.fixtures.databases import drop_database
from tests.fixtures.restored import restore
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import Trust, entry, issues, open_application, roll, sent, upn

KEY = SECRET.encode()
NEW = {"surname": "Newname", "forename": "Mara", "upn": upn(77), "reference": "N1"}


async def fill(vendor: Any) -> dict[str, Any]:
    """Three pupils, the third once recorded with a UPN that is not hers. Returns the ids by reference."""
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(1), entry(2), entry(3, upn=upn(50))]))
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(3)], asOf="2018-05-02"))
    found = await sent(vendor, "/v1/pupils/lookup", {"where": {"reference": ["P1", "P2", "P3"]}})
    return {row["surname"].removeprefix("Surname"): row for row in found["data"]}


async def test_a_restore_brings_nobody_back(
    small_trust: Trust, vendor: Any, environment: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A backup; then a new identity, a joiner with one, a released UPN, and things taken from clients; the backup again; serve."""
    pupils = await fill(vendor)
    await small_trust.client("reader", "trust:4128=pupils:read,pupils:name", "school:100001=pupils:read,schools:read")
    await small_trust.client("gone", "trust:4128=pupils:read")
    await small_trust.client("browser", "trust:4128=pupils:read")
    reader_id, gone_id, browser_id = (UUID(small_trust.credentials[name][0]) for name in ("reader", "gone", "browser"))
    await set_origins(small_trust.operator, browser_id, ["https://a.example", "https://b.example"])
    before = (await vendor.get("/v1/pupils")).headers["ETag"]
    await asyncio.to_thread(write_backup, small_trust.databases.owner_url, "DATABASE_OWNER_URL", tmp_path / "a.dump")
    # after the backup
    await sent(vendor, "/v1/pupils", roll("Oak", [entry(9)]))
    (joiner,) = (await sent(vendor, "/v1/pupils/lookup", {"where": {"reference": ["P9"]}}))["data"]
    for pupil, new in ((pupils["1"], NEW), (joiner, {"surname": "Other", "forename": "Joy"})):
        await sent(vendor, f"/v1/pupils/{pupil['id']}/new-identity", {"expectedVersion": pupil["version"], **new})
    (child,) = (await sent(vendor, "/v1/pupils/lookup", {"where": {"reference": ["N1"]}}))["data"]
    await sent(vendor, f"/v1/pupils/{pupils['3']['id']}/release-upn", {"upn": upn(50)})

    async def take(connection: Any) -> None:
        await revoke_client(connection, gone_id)
        await set_origins(connection, browser_id, ["https://b.example"])
        ended = next(grant for grant in await list_grants(connection, reader_id) if grant.target.startswith("trust"))
        await revoke_grant(connection, ended.id)
        await rotate_secret(connection, browser_id)

    environment.setenv("DATABASE_OPERATOR_URL", small_trust.databases.operator_url)
    await asyncio.to_thread(run_as_operator, take)
    restored = await restore(small_trust.databases, tmp_path / "a.dump")
    try:
        environment.delenv("DATABASE_OPERATOR_URL")
        (fault,) = await asyncio.to_thread(reapply_before_serving, restored.app_url)
        assert "The ledger holds 7 entries that the database does not have" in fault
        environment.setenv("DATABASE_OPERATOR_URL", restored.operator_url)
        capsys.readouterr()
        assert await asyncio.to_thread(reapply_before_serving, restored.app_url) == []
        assert capsys.readouterr().out.splitlines() == [
            "From the ledger: 3 changes of clients done again.",
            "From the ledger: 1 end of a grant done again.",
            "From the ledger: 1 new identity done again.",
            "From the ledger: 1 new identity with nothing to do.",
            "From the ledger: 1 release of UPNs done again.",
        ]
        async with open_application(restored, await asyncpg.connect(restored.operator_url), small_trust.ids) as here:
            here.http.headers.update(vendor.headers)
            await check_nobody_is_back(small_trust, here.http, pupils, child, before)
            states = [await here.everything()]
            await asyncio.to_thread(reapply)
            assert [await here.everything()] == states
        assert capsys.readouterr().out.splitlines()[-1] == "The database has everything that the ledger holds."
        environment.delenv("MARKONCE_LEDGER")
        (fault,) = await asyncio.to_thread(reapply_before_serving, restored.app_url)
        assert "keeps a ledger, and MARKONCE_LEDGER is not set" in fault
    finally:
        drop_database(restored)


async def check_nobody_is_back(here: Trust, http: Any, pupils: dict[str, Any], child: dict[str, Any], before: str) -> None:
    """The old identities and keys lead nowhere and are refused; the clients may what they might before the restore."""
    assert (await http.get(f"/v1/pupils/{pupils['1']['id']}")).status_code == 404
    (found,) = (await sent(http, "/v1/pupils/lookup", {"where": {"reference": ["N1"]}}))["data"]
    assert {name: found[name] for name in ("id", "surname", "upn")} == {name: child[name] for name in ("id", "surname", "upn")}
    for old in (entry(1), entry(1, upn=None, reference="X"), entry(9), entry(9, reference=None)):
        refused = await sent(http, "/v1/pupils", roll("Oak", [old], asOf="2018-05-03"), 422)
        assert issues(refused) == {"/entries/0": "identifier-retired"}
    assert (await sent(http, "/v1/pupils/lookup", {"where": {"upn": [upn(50)]}}))["data"] == []
    again = await http.get("/v1/pupils", headers={"If-None-Match": before})
    assert (again.status_code, [row["surname"] for row in again.json()["data"]].count("Newname")) == (200, 1)
    for name, status in (("gone", 401), ("browser", 401), ("reader", 200)):
        answer = await http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=here.credentials[name])
        assert answer.status_code == status, (name, answer.text)
    me = await http.get("/v1/me", headers={"Authorization": f"Bearer {answer.json()['access_token']}"})
    assert [(grant["target"], grant["state"]) for grant in me.json()["grants"]] == [("school", "in-force"), ("trust", "revoked")]


async def test_what_cannot_be_written_into_the_ledger_is_refused(small_trust: Trust, vendor: Any, ledger: Ledger) -> None:
    """Nothing of it is committed. A dry run needs no ledger, and a refused or repeated request leaves no entry."""
    pupils = await fill(vendor)
    url, body = f"/v1/pupils/{pupils['3']['id']}/release-upn", {"upn": upn(50)}
    ledger.path.rename(ledger.path.with_suffix(".away"))
    before = await small_trust.everything()
    assert (await sent(vendor, f"{url}?dryRun=true", body))["outcome"] == "released"
    refused = await vendor.post(url, json=body)
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
    assert "nothing of this request was written" in refused.json()["detail"]
    taken = await vendor.post("/v1/pupils", json=roll("Oak", [entry(4, upn=upn(50))], asOf="2018-05-03"))
    identity = {"expectedVersion": pupils["1"]["version"], **NEW}
    given = await vendor.post(f"/v1/pupils/{pupils['1']['id']}/new-identity", json=identity)
    assert ({taken.status_code, given.status_code} <= {503, 422}, given.status_code) == (True, 503), taken.text
    assert await small_trust.everything() == before
    ledger.path.with_suffix(".away").rename(ledger.path)
    assert read_ledgers(ledger.path, KEY) == {ledger.path: []}
    assert (await sent(vendor, url, body))["outcome"] == "released"
    assert (await sent(vendor, url, body))["outcome"] == "unchanged"
    await sent(vendor, f"/v1/pupils/{pupils['1']['id']}/new-identity", identity | {"expectedVersion": 99}, 412)
    (only,) = read_ledgers(ledger.path, KEY)[ledger.path]
    assert (only.kind, only.facts["released"]) == ("upns", [[upn(50), pupils["3"]["id"]]])


@pytest_asyncio.fixture
async def operator(small_trust: Trust) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(small_trust.databases.cluster.url(small_trust.databases.name, embedded.SUPERUSER))
    yield connection
    await connection.close()


async def test_an_entry_whose_commit_failed_is_given_up(
    small_trust: Trust, vendor: Any, ledger: Ledger, operator: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client is told that nothing was written, and so it stays. Where that cannot be said in the ledger, the outcome is unknown."""
    pupils = await fill(vendor)
    await operator.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE check_violation; END';"
        " CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON ledger_entries DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    answer = await vendor.post(f"/v1/pupils/{pupils['3']['id']}/release-upn", json={"upn": upn(50)})
    assert answer.status_code == 500
    assert read_ledgers(ledger.path, KEY) == {ledger.path: []}
    assert len(ledger.path.read_bytes().splitlines()) == 3  # the header, the entry and that it was given up

    def fail(ids: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ledger, "give_up", fail)
    answer = await vendor.post(f"/v1/pupils/{pupils['3']['id']}/release-upn", json={"upn": upn(50)})
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (503, "outcome-unknown")
    assert [entry.kind for entry in read_ledgers(ledger.path, KEY)[ledger.path]] == ["upns"]


async def test_a_command_without_the_ledger_is_refused_where_one_is_kept(
    small_trust: Trust, vendor: Any, ledger: Ledger, environment: pytest.MonkeyPatch
) -> None:
    pupils = await fill(vendor)
    await sent(vendor, f"/v1/pupils/{pupils['3']['id']}/release-upn", {"upn": upn(50)})
    client_id = UUID(small_trust.credentials["vendor"][0])
    environment.setenv("DATABASE_OPERATOR_URL", small_trust.databases.operator_url)
    environment.delenv("MARKONCE_LEDGER")
    with pytest.raises(typer.Exit):
        await asyncio.to_thread(run_as_operator, lambda connection: revoke_client(connection, client_id))
    assert (await vendor.get("/v1/me")).status_code == 200
    environment.setenv("MARKONCE_LEDGER", str(ledger.path))
    await asyncio.to_thread(run_as_operator, lambda connection: revoke_client(connection, client_id))
    assert [each.kind for each in read_ledgers(ledger.path, KEY)[ledger.path]] == ["upns", "client"]


async def test_a_ledger_is_kept_from_the_first_start_with_it(
    small_trust: Trust, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before its first entry: a server or a command without the setting is refused from then on, and a file that was lost is missed."""
    url = small_trust.databases.app_url
    environment.delenv("MARKONCE_LEDGER")
    assert await asyncio.to_thread(reapply_before_serving, url) == []
    environment.undo()
    environment.setenv("MARKONCE_SECRET", SECRET)
    environment.setenv("MARKONCE_LEDGER", str(small_trust.database.ledger.path))  # type: ignore[union-attr]
    assert await asyncio.to_thread(reapply_before_serving, url) == []
    environment.delenv("MARKONCE_LEDGER")
    (fault,) = await asyncio.to_thread(reapply_before_serving, url)
    assert "keeps a ledger, and MARKONCE_LEDGER is not set" in fault
    assert "was not there" not in capsys.readouterr().err
    environment.setenv("MARKONCE_LEDGER", str(small_trust.database.ledger.path.with_name("lost.ledger")))  # type: ignore[union-attr]
    for expected in (True, False):
        assert await asyncio.to_thread(reapply_before_serving, url) == []
        assert ("lost.ledger was not there, and is a new file now" in capsys.readouterr().err) is expected


async def test_a_planned_roll_is_in_the_ledger_from_its_day_on(small_trust: Trust, vendor: Any, ledger: Ledger) -> None:
    """It is tried when it is sent, and undone: what it would release is released by then, and not before."""
    owner = entry(
        4, upn=upn(50), dateOfBirth="2008-01-01", characteristics=None, enrolments=[{"from": "2018-09-01", "status": "C"}]
    )
    with freeze_clock(datetime(2018, 6, 20, 9, tzinfo=UTC)):
        await fill(vendor)
        planned = await sent(vendor, "/v1/pupils", roll("Oak", [owner], asOf="2018-09-01"))
        assert (planned["created"], read_ledgers(ledger.path, KEY)) == (1, {ledger.path: []})
    with freeze_clock(datetime(2018, 9, 1, 9, tzinfo=UTC)):
        assert (await vendor.get("/v1/pupils")).status_code == 200
        (only,) = read_ledgers(ledger.path, KEY)[ledger.path]
    assert [number for number, _ in only.facts["released"]] == [upn(50)]


async def test_what_clients_take_from_others_is_in_the_ledger(small_trust: Trust, ledger: Ledger) -> None:
    """By the API: a grant narrowed and ended, a secret rotated, a client revoked. What is given, and a dry run, is not."""
    manager = await small_trust.client(
        "manager", "trust:4128=trusts:read,schools:read,pupils:read,pupils:name,clients:write,grants:write"
    )
    made = await sent(manager, "/v1/clients", {"name": "App", "tenant": {"trust": {"groupUid": 4128}}}, 201)
    client = f"/v1/clients/{made['id']}"
    wanted = {"client": made["id"], "target": {"trust": {"groupUid": 4128}}, "scopes": ["pupils:read", "pupils:name"]}
    grant = f"/v1/grants/{(await sent(manager, '/v1/grants', wanted | {'purpose': 'Lists', 'approvedBy': 'DPO'}, 201))['id']}"
    await sent(manager, f"{grant}/end?dryRun=true")
    assert read_ledgers(ledger.path, KEY) == {ledger.path: []}
    await sent(manager, f"{grant}/narrow", {"scopes": ["pupils:read"]})
    await sent(manager, f"{client}/rotate-secret", {})
    await sent(manager, f"{grant}/end")
    await sent(manager, f"{client}/revoke")
    narrowed, rotated, ended, revoked = (entry.facts for entry in read_ledgers(ledger.path, KEY)[ledger.path])
    assert (narrowed["scopes"], narrowed["revokedAt"], ended["revokedAt"] is None) == (["pupils:read"], None, False)
    assert (len(rotated["secrets"]), rotated["revokedAt"], revoked["revokedAt"] is None) == (1, None, False)
