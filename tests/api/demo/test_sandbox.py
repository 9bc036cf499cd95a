"""The sandbox of the demonstration: faults, the clock and the renewal, and that `serve` has none of them."""

import asyncio
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import pytest

from api.app import build_app
from api.demo import sandbox
from api.demo.sandbox_clock import SandboxError, read_ahead
from api.server import supervisor
from api.setting_names import compare_names
from api.settings import SETTINGS, Settings
from domain.clients import clients, grants
from domain.support import clock
from tests.fixtures.demo import Demonstration
from tests.fixtures.settings import ROOT, SECRET
from tests.fixtures.small_trust import BASE, Trust

EVERY_VARIABLE = {"MARKONCE_NOW": "2027-03-05T09:00:00Z", "MARKONCE_FAULT": "503", "MARKONCE_SANDBOX": "on"}


async def test_faults_are_as_the_real_ones_and_hold_no_connection(
    small_trust: Trust, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    vendor = await small_trust.client("vendor", "trust:4128=all")
    settings = Settings(small_trust.databases.app_url, SECRET.encode(), BASE)
    app = build_app(settings, small_trust.database, sandbox.make_extras(tmp_path))
    monkeypatch.setattr(sandbox, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(sandbox, "TIMEOUT_SECONDS", 0.2)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE, headers=vendor.headers) as http:

        async def ask(fault: str, path: str = "/v1/schools", method: str = "GET", **more: Any) -> httpx2.Response:
            return await http.request(method, path, headers={"Markonce-Fault": fault}, **more)

        for path, method in (("/v1/schools", "GET"), ("/v1/judgements", "POST"), ("/graphql", "POST"), ("/v1/none", "GET")):
            for fault in ("503", "429", "timeout"):
                answer = await ask(fault, path, method)
                assert answer.status_code == (429 if fault == "429" else 503)
                assert answer.headers["content-type"] == "application/problem+json"
                assert int(answer.headers["retry-after"]) > 0
                assert answer.headers["x-request-id"]
                assert ("ratelimit" in answer.headers) == (fault == "429")
                assert answer.json()["type"].endswith("quota-exceeded" if fault == "429" else "/problems/busy")
            for bad in ("", "500", "503, 429", "Slow"):
                answer = await ask(bad, path, method)
                assert answer.status_code == 400
                assert answer.json()["issues"][0]["message"] == "Markonce-Fault is one of 503, 429, timeout, slow."
        token = await ask("429", "/oauth/token", "POST", data={"grant_type": "client_credentials"})
        assert (token.status_code, token.json()["error"]) == (429, "temporarily_unavailable")
        assert token.headers["retry-after"] == "3"
        assert (await http.get("/v1/schools", headers={"Markonce-Fault": "429", "Authorization": "Bearer x"})).status_code == 401
        assert (await http.get("/health/live", headers={"Markonce-Fault": "503"})).status_code == 200
        plain, slow = await http.get("/v1/schools"), await ask("slow")
        assert (slow.status_code, slow.content) == (200, plain.content)

        monkeypatch.setattr(sandbox, "SLOW_SECONDS", 60)
        monkeypatch.setattr(sandbox, "MAX_WAITING", 3)
        held = [asyncio.create_task(ask("slow")) for _ in range(3)]
        await asyncio.sleep(0.05)
        beyond = await ask("timeout")
        assert (beyond.status_code, "held back already" in beyond.json()["detail"]) == (503, True)
        assert (await http.get("/v1/schools")).status_code == 200
        for task in held:
            task.cancel()
        await asyncio.gather(*held, return_exceptions=True)
        monkeypatch.setattr(sandbox, "SLOW_SECONDS", 0)
        assert (await ask("slow")).status_code == 200, "who went away is held back no more"


async def test_serve_has_no_route_header_or_setting_of_the_sandbox(small_trust: Trust) -> None:
    vendor = await small_trust.client("vendor", "trust:4128=schools:read")
    environment = {
        "DATABASE_URL": small_trust.databases.app_url,
        "MARKONCE_SECRET": SECRET,
        "MARKONCE_BASE_URL": BASE,
        **EVERY_VARIABLE,
    }
    app = build_app(Settings.from_environment(environment), small_trust.database)
    paths = {str(getattr(route, "path", route)) for route in app.routes}
    assert [path for path in paths if "sandbox" in path] == []
    assert len(paths) > 100
    assert not any(middleware.cls is sandbox.FaultInjection for middleware in app.user_middleware)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url=BASE, headers=vendor.headers) as http:
        for fault in (*sandbox.FAULTS, "x"):
            assert (await http.get("/v1/schools", headers={"Markonce-Fault": fault})).status_code == 200
        for method, path in (("GET", "/sandbox"), ("POST", "/sandbox/renew")):
            assert (await http.request(method, path)).status_code == 404
    assert abs(clock.read_now() - datetime.now(UTC)) < timedelta(seconds=1)
    assert SETTINGS.isdisjoint(EVERY_VARIABLE)
    assert compare_names(environment, SETTINGS) == (
        [],
        [f"{name} is no setting, and has no effect" for name in sorted(EVERY_VARIABLE)],
    )
    assert supervisor.WORKER == ("api.server.worker",)
    loading = "import sys, api.server.worker, api.app; print([name for name in sys.modules if name.startswith('api.demo')])"
    done = await asyncio.create_subprocess_exec(sys.executable, "-c", loading, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    assert (await done.communicate())[0] == b"[]\n", "a server loads nothing of it"


def test_no_role_can_set_the_clock_in_sql() -> None:
    schema = (ROOT / "docs" / "schema.sql").read_text()
    assert set(re.findall(r"current_setting\('([a-z_.]+)'", schema)) <= {
        "markonce.caller",
        "markonce.program",
        "server_version_num",
    }


def test_the_clock_is_an_instant_of_the_years_that_were_tried() -> None:
    assert read_ahead({}) == timedelta(0)
    ahead = read_ahead({"MARKONCE_NOW": "2027-03-05T09:00:00+01:00"})
    assert abs(datetime.now(UTC) + ahead - datetime(2027, 3, 5, 8, tzinfo=UTC)) < timedelta(seconds=1)
    for wrong in ("2027-03-05", "2027-03-05T09:00:00", "tomorrow", "1999-01-01T00:00:00Z", "2036-01-01T00:00:00Z"):
        with pytest.raises(SandboxError, match="MARKONCE_NOW is an instant with its zone"):
            read_ahead({"MARKONCE_NOW": wrong})
    with pytest.raises(SandboxError, match="MARKONCE_NOE is no setting; did you mean MARKONCE_NOW"):
        read_ahead({"MARKONCE_NOE": "x"})


async def test_a_renewal_makes_the_trust_as_it_was(demonstration: Demonstration) -> None:
    facts, folder = demonstration.facts, demonstration.folder
    words = dict(re.findall(r"export (\w+)='?([^'\n]+)", (folder / "demo.env").read_text()))
    async with httpx2.AsyncClient(base_url=facts["baseUrl"], timeout=300) as http:

        async def authorise(name: str) -> dict[str, str]:
            of = facts["clients"][name]
            answer = await http.post(
                "/oauth/token", data={"grant_type": "client_credentials"}, auth=(of["clientId"], of["clientSecret"])
            )
            return {"Authorization": f"Bearer {answer.json()['access_token']}"}

        async def list_pupils() -> Any:
            fields = {"fields": "id,version,reference,surname,upn,yearGroup", "sort": "reference", "first": 1000}
            return await http.get("/v1/pupils", params=fields, headers=vendor)

        vendor, manager = await authorise("mis-vendor"), await authorise("trust-data-manager")
        before = await list_pupils()
        made = await http.post("/v1/clients", json={"name": "Of the trust"}, headers=manager)
        assert made.status_code == 201
        pupil = before.json()["data"][0]
        matching = vendor | {"If-Match": f'"{pupil["version"]}"'}
        changed = await http.patch(f"/v1/pupils/{pupil['id']}", json={"surname": "Otherwise"}, headers=matching)
        assert changed.status_code == 200, changed.text
        operator = await asyncpg.connect(words["DATABASE_OPERATOR_URL"])
        try:
            await clients.revoke_client(operator, facts["clients"]["partner-app"]["clientId"])
            portal = await grants.list_grants(operator, facts["clients"]["trust-portal"]["clientId"])
            await grants.revoke_grant(operator, portal[0].id)
        finally:
            await operator.close()
        assert (await http.post("/sandbox/renew", headers=await authorise("trust-portal"))).status_code == 403
        answer = await http.post("/sandbox/renew", headers=vendor)
        assert answer.status_code == 200, answer.text
        told = answer.json()
        assert told["datesGoOn"] == str(clock.read_today())
        assert told["clientsRevoked"] == [made.json()["id"]]
        assert told["grantsRestored"] == ["trust-portal"]
        for table in ("pupils", "enrolments", "judgements", "targets", "groups", "windows", "schemes", "cells"):
            assert told["recordedRows"][table] == told["removedRows"][table] > 0, table
        after = await list_pupils()
        assert after.headers["etag"] != before.headers["etag"]
        assert [[row[name] for name in ("reference", "surname", "upn", "yearGroup")] for row in after.json()["data"]] == [
            [row[name] for name in ("reference", "surname", "upn", "yearGroup")] for row in before.json()["data"]
        ]
        assert {row["id"] for row in after.json()["data"]}.isdisjoint(row["id"] for row in before.json()["data"])
        for name in facts["clients"]:
            me = await http.get("/v1/me", headers=await authorise(name))
            assert me.status_code == 200, name
            in_force = [grant for grant in me.json()["grants"] if grant["state"] == "in-force"]
            assert sorted({scope for grant in in_force for scope in grant["scopes"]}) == facts["clients"][name]["scopes"]
        demonstration.facts = json.loads((folder / "demo.json").read_text())
        assert demonstration.facts["windows"] == told["windows"]
        assert (await http.get("/sandbox")).json()["isRenewing"] is False
