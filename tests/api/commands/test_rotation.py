"""Rotation of the signing key and of MARKONCE_SECRET: what was issued before is good until it ends, and ledgers are read afterwards."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from typer.testing import CliRunner

from api.__main__ import app as program
from api.app import build_app
from api.settings import Settings
from domain.declare.errors import DatabaseError
from domain.store.ledger import Entry, Ledger, read_ledgers
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import BASE, Trust

OLD, NEW = SECRET, "another secret of the installation, from today on"
FORM = {"grant_type": "client_credentials"}


@asynccontextmanager
async def open_app(trust: Trust, secret: str, other: str = "") -> AsyncIterator[httpx2.AsyncClient]:
    settings = Settings(trust.databases.app_url, secret.encode(), BASE, other_secret=other.encode())
    transport = httpx2.ASGITransport(build_app(settings, trust.database))
    async with httpx2.AsyncClient(transport=transport, base_url=BASE) as http:
        yield http


async def run(*arguments: str) -> tuple[int, str]:
    done = await asyncio.to_thread(CliRunner().invoke, program, ["rotate", *arguments])
    return done.exit_code, " ".join(done.output.split())


async def test_a_secret_is_rotated_while_clients_go_on(small_trust: Trust, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await small_trust.client("vendor", "trust:4128=schools:read")
    credentials = small_trust.credentials["vendor"]
    entries = [Entry(uuid4(), datetime(2026, 11, 27, 12, n, tzinfo=UTC), "upns", {"n": n}) for n in range(3)]
    path = tmp_path / "one.ledger"
    Ledger(path, OLD.encode()).prepare()
    Ledger(path, OLD.encode()).append(entries[:2])
    monkeypatch.setenv("DATABASE_OPERATOR_URL", small_trust.databases.operator_url)
    monkeypatch.setenv("MARKONCE_LEDGER", str(path))
    monkeypatch.setenv("MARKONCE_SECRET", NEW)

    async def issue(http: httpx2.AsyncClient) -> dict[str, str]:
        answer = await http.post("/oauth/token", data=FORM, auth=credentials)
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def read_on(http: httpx2.AsyncClient, token: dict[str, str], cursor: str) -> Any:
        return await http.get("/v1/schools", params={"first": 1, "after": cursor}, headers=token)

    async with open_app(small_trust, OLD) as http:
        before = await issue(http)
        cursor = (await http.get("/v1/schools", params={"first": 1}, headers=before)).json()["page"]["endCursor"]
        page = (await read_on(http, before, cursor)).json()["data"]
    assert (await run("secret"))[0] == 1, "without the former secret nothing is exchanged"
    monkeypatch.setenv("MARKONCE_OTHER_SECRET", OLD)
    async with open_app(small_trust, NEW, OLD) as http:  # started with both, before the command
        await issue(http)
        assert (await read_on(http, before, cursor)).json()["data"] == page
        serving = Ledger(path, NEW.encode(), OLD.encode())
        status, printed = await run("secret")
        assert (status, "Written anew" in printed) == (0, True), printed
        serving.append(entries[2:])
        between = await issue(http)
        assert (await read_on(http, before, cursor)).json()["data"] == page
        keys = (await http.get("/oauth/jwks")).json()["keys"]
        assert len({key["kid"] for key in keys}) == 2
    assert read_ledgers(path, NEW.encode()) == {path: entries}
    with pytest.raises(DatabaseError, match="MARKONCE_SECRET is not the one that the ledger"):
        read_ledgers(path, OLD.encode())
    status, printed = await run("secret")
    assert (status, "already" in printed, "Written anew" in printed) == (0, True, False), "repeated it changes nothing"
    async with open_app(small_trust, NEW) as http:
        for token in (before, between, await issue(http)):
            assert (await http.get("/v1/schools", headers=token)).status_code == 200
        late = await read_on(http, before, cursor)
        assert (late.status_code, late.json()["issues"][0]["code"]) == (400, "cursor-invalid")
        monkeypatch.delenv("MARKONCE_OTHER_SECRET")
        status, printed = await run("signing-key")
        assert (status, "Tokens are signed by the key" in printed) == (0, True), printed
        after = await issue(http)
        for token in (before, between, after):
            assert (await http.get("/v1/schools", headers=token)).status_code == 200
        assert len((await http.get("/oauth/jwks")).json()["keys"]) == 3


async def test_what_is_wrong_is_said_at_once_and_nothing_is_exchanged(
    small_trust: Trust, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DATABASE_OPERATOR_URL", small_trust.databases.operator_url)
    monkeypatch.delenv("MARKONCE_LEDGER", raising=False)
    kids = await small_trust.operator.fetch("SELECT kid FROM signing_keys")
    for secret, other, said in (
        ("short", "", ("MARKONCE_SECRET is shorter", "MARKONCE_OTHER_SECRET is not set")),
        (NEW, NEW, ("MARKONCE_OTHER_SECRET is the same as MARKONCE_SECRET",)),
        (NEW, "neither of both, and long enough for a secret", ("MARKONCE_SECRET is not the one",)),
    ):
        monkeypatch.setenv("MARKONCE_SECRET", secret)
        monkeypatch.setenv("MARKONCE_OTHER_SECRET", other)
        status, printed = await run("secret")
        assert status == 1
        assert [text for text in said if text not in printed] == [], printed
    assert await small_trust.operator.fetch("SELECT kid FROM signing_keys") == kids
    broken = tmp_path / "broken.ledger"
    ledger = Ledger(broken, OLD.encode())
    ledger.prepare()
    ledger.append([Entry(uuid4(), datetime(2026, 11, 27, tzinfo=UTC), "upns", {})])
    broken.write_bytes(broken.read_bytes()[:-9] + b"AAAAAAAA\n")
    content = broken.read_bytes()
    with pytest.raises(DatabaseError, match="broken in line 2"):
        Ledger(broken, NEW.encode(), OLD.encode()).reseal()
    assert broken.read_bytes() == content
