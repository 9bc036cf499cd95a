"""The restore drill: a base backup and the log from before, restored to a moment; and nobody is back whose access ended after it.

A demonstration with a ledger serves meanwhile. What was acknowledged before the moment is there, what came after is not, the counts are those
of the moment, and what was revoked, released or given a new identity since is so again.
"""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import asyncpg
import httpx2

from domain.store import embedded
from domain.store.programs import find_binaries
from tests.fixtures.server import free_port
from tests.fixtures.settings import ROOT
from tests.operations.upgrade import clean_environment, run_new_server

COUNTED = """
SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1
"""
RECOUNT = """
SELECT w.code, j.subject_no, count(*), count(*) FILTER (WHERE j.status_code IS NULL),
    md5(string_agg(concat(j.pupil_id, ' ', j.grade_no, ' ', j.version), ',' ORDER BY j.pupil_id, j.aspect_no))
FROM judgements j JOIN windows w ON w.tenant_id = j.tenant_id AND w.no = j.window_no GROUP BY 1, 2 ORDER BY 1, 2
"""


def check_recovery(folder: Path) -> None:
    """Runs the drill. Raises AssertionError."""
    data, archive, ledger = folder / "data", folder / "archive", folder / "ledgers" / "one.ledger"
    for path in folder.parents:
        if path != Path(path.anchor):
            path.chmod(path.stat().st_mode | 0o011)
    folder.chmod(0o755)
    for path in (archive, ledger.parent):
        path.mkdir()
    archive.chmod(0o777)
    _begin_archive(data, archive)
    port = free_port()
    command = [sys.executable, "-m", "api", "demo", "--port", str(port), "--data-dir", str(data)]
    log = folder / "demo.log"
    with log.open("w") as output:
        demo = subprocess.Popen(
            command, cwd=ROOT, stdout=output, stderr=output, env=clean_environment({"MARKONCE_LEDGER": str(ledger)})
        )
    try:
        while not (data / "demo.json").exists():
            assert demo.poll() is None, log.read_text()[-2000:]
            time.sleep(0.2)
        facts = json.loads((data / "demo.json").read_text())
        environment = dict(re.findall(r"export (\w+)='?([^'\n]+)", (data / "demo.env").read_text())) | {
            "MARKONCE_LEDGER": str(ledger)
        }
        superuser = _find_superuser(data, environment)
        _run_postgres("pg_basebackup", f"--pgdata={folder / 'base'}", "--checkpoint=fast", f"--dbname={superuser}")
        with httpx2.Client(base_url=facts["baseUrl"], timeout=60) as http:
            entry = _write(http, facts, "before")
            time.sleep(0.2)
            moment, counts, recount = asyncio.run(_read_moment(superuser))
            time.sleep(0.2)
            _write(http, facts, "after", entry)
            pupils = _take_away(http, facts, environment)
        asyncio.run(_archive_all(superuser, archive))
    finally:
        demo.terminate()
        demo.wait(60)
    begun = time.monotonic()
    cluster = _restore(data, folder / "base", archive, moment)
    try:
        superuser = cluster.url(embedded.DATABASE, embedded.SUPERUSER)
        _, restored, again = asyncio.run(_read_moment(superuser))
        assert restored == counts, {name: (counts[name], restored[name]) for name in counts if counts[name] != restored[name]}
        assert again == recount
        seconds = time.monotonic() - begun
        urls = {
            name: cluster.url(embedded.DATABASE, f"markonce_{role}")
            for name, role in (("DATABASE_URL", "app"), ("DATABASE_OWNER_URL", "owner"), ("DATABASE_OPERATOR_URL", "operator"))
        }
        _check_nobody_is_back(facts, environment | urls, pupils)
    finally:
        cluster.stop()
    print(
        f"    {sum(counts.values()):,} rows of {len(counts)} tables restored to {moment} in {seconds:.1f} s; what ended since has ended",
        flush=True,
    )


def _begin_archive(data: Path, archive: Path) -> None:
    """Makes the cluster of the demonstration, which archives its log."""
    data.mkdir()
    cluster = embedded.start(data / "postgresql")

    async def set_up() -> None:
        connection = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
        await connection.execute("ALTER SYSTEM SET archive_mode = on")
        await connection.execute(f"ALTER SYSTEM SET archive_command = 'test ! -f {archive}/%f && cp %p {archive}/%f'")
        await connection.close()

    try:
        asyncio.run(set_up())
    finally:
        cluster.stop()


def _find_superuser(data: Path, environment: Mapping[str, str]) -> str:
    password = json.loads((data / "postgresql" / "passwords.json").read_text())[embedded.SUPERUSER]
    host = environment["DATABASE_URL"].rpartition("@")[2]
    return f"postgresql://{embedded.SUPERUSER}:{password}@{host}"


def _run_postgres(program: str, *arguments: str) -> None:
    done = subprocess.run([find_binaries().folder / program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


async def _read_moment(url: str) -> tuple[str, dict[str, int], list[tuple[Any, ...]]]:
    """The time by the database, the rows of every table, and a recount of the judgements of each window and subject."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            names = [row["relname"] for row in await connection.fetch(COUNTED)]
            counts = {name: int(await connection.fetchval(f"SELECT count(*) FROM {name}")) for name in names}
            recount = [tuple(row) for row in await connection.fetch(RECOUNT)]
            return str(await connection.fetchval("SELECT clock_timestamp()")), counts, recount
    finally:
        await connection.close()


async def _archive_all(url: str, archive: Path) -> None:
    """Waits until the log up to now is in the archive."""
    connection = await asyncpg.connect(url)
    try:
        name = await connection.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
    finally:
        await connection.close()
    until = time.monotonic() + 60
    while not (archive / name).exists():
        assert time.monotonic() < until, "the log is not archived"
        await asyncio.sleep(0.1)


def authorise(http: httpx2.Client, facts: Any, name: str) -> httpx2.Response:
    client = facts["clients"][name]
    return http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=(client["clientId"], client["clientSecret"]))


def _headers(http: httpx2.Client, facts: Any, name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {authorise(http, facts, name).json()['access_token']}"}


def _write(http: httpx2.Client, facts: Any, actor: str, entry: Any = None) -> Any:
    """Changes one judgement, and returns what was sent."""
    headers = _headers(http, facts, "mis-vendor")
    if entry is None:
        window = next(window for window in facts["windows"] if window["state"] == "open")
        fields = "subjectCode,schoolId,pupil.reference,grade"
        rows = http.get(
            f"/v1/judgements?windowCode={window['code']}&first=20&include=pupil&fields={fields}", headers=headers
        ).json()["data"]
        row = next(row for row in rows if row["grade"] in ("WTS", "EXS", "GDS"))
        entry = {"school": {"id": row["schoolId"]}, "window": window["code"]}
        entry["entries"] = [{"reference": row["pupil"]["reference"], "subject": row["subjectCode"], "grade": row["grade"]}]
    of = entry["entries"][0]
    of |= {"grade": "GDS" if of["grade"] == "EXS" else "EXS", "actor": actor}
    answer = http.post("/v1/judgements", json=entry, headers=headers)
    assert (answer.status_code, answer.json().get("updated")) == (200, 1), answer.text
    return entry


def run_command(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "api", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=clean_environment(environment), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _take_away(http: httpx2.Client, facts: Any, environment: Mapping[str, str]) -> dict[str, Any]:
    """Revokes a client, ends a grant and rotates a secret; gives a pupil a new identity and releases the UPN of another one."""
    run_command(environment, "client", "revoke", "partner-app")
    listed = run_command(environment, "grant", "list", "trust-portal")
    grant = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", listed)
    assert grant is not None, listed
    run_command(environment, "grant", "end", grant[0])
    run_command(environment, "client", "rotate", "trust-data-manager")
    given = run_command(
        environment,
        "grant",
        "add",
        "mis-vendor",
        "trust:99901=pupils:read,pupils:name,pupils:upn,privacy:write",
        "--purpose",
        "drill",
        "--approved-by",
        "drill",
    )
    assert given
    time.sleep(5.5)  # until servers read the grants again
    headers = _headers(http, facts, "mis-vendor")
    rows = http.get("/v1/pupils?first=50&fields=id,version,upn,surname,forename,yearGroup", headers=headers).json()["data"]
    renamed, released = [row for row in rows if row["upn"]][:2]
    body = {"expectedVersion": renamed["version"], "surname": "Newname", "forename": "Alex"}
    answer = http.post(f"/v1/pupils/{renamed['id']}/new-identity", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    matching = headers | {"If-Match": f'"{released["version"]}"'}
    answer = http.patch(f"/v1/pupils/{released['id']}", json={"upn": "P207000016049"}, headers=matching)
    assert answer.status_code == 200, answer.text
    answer = http.post(f"/v1/pupils/{released['id']}/release-upn", json={"upn": released["upn"]}, headers=headers)
    assert answer.status_code == 200, answer.text
    return {"renamed": renamed, "released": released}


def _restore(data: Path, base: Path, archive: Path, moment: str) -> embedded.Cluster:
    """Puts the base backup in place of the cluster, and starts it: PostgreSQL replays the log to the moment, and promotes."""
    place = data / "postgresql" / "postgresql"
    owner = place.stat()
    shutil.move(place, data / "damaged")
    shutil.move(base, place)
    settings = {
        "restore_command": f"cp {archive}/%f %p",
        "recovery_target_time": moment,
        "recovery_target_action": "promote",
        "archive_mode": "off",
    }
    with (place / "postgresql.auto.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    (place / "recovery.signal").touch()
    if os.geteuid() == 0:
        for path in (place, *place.rglob("*")):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
    place.chmod(0o700)
    cluster = embedded.start(data / "postgresql")

    url, until = cluster.url("postgres", embedded.SUPERUSER), time.monotonic() + 120
    while asyncio.run(_is_in_recovery(url)):
        assert time.monotonic() < until, "it is not promoted"
        time.sleep(0.2)
    return cluster


async def _is_in_recovery(url: str) -> bool:
    connection = await asyncpg.connect(url)
    try:
        return bool(await connection.fetchval("SELECT pg_is_in_recovery()"))
    finally:
        await connection.close()


def _check_nobody_is_back(facts: Any, environment: Mapping[str, str], pupils: Mapping[str, Any]) -> None:
    """Starts `serve` with the ledger, and asks as everybody whose access ended after the moment."""
    with run_new_server(environment) as url, httpx2.Client(base_url=url, timeout=60) as http:
        assert authorise(http, facts, "partner-app").status_code == 401, "a revoked client"
        assert authorise(http, facts, "trust-data-manager").status_code == 401, "a secret that was exchanged"
        portal = authorise(http, facts, "trust-portal").json().get("access_token")
        assert http.get("/v1/schools", headers={"Authorization": f"Bearer {portal}"}).status_code in (401, 403), (
            "a grant that was ended"
        )
        headers = _headers(http, facts, "mis-vendor")
        renamed, released = pupils["renamed"], pupils["released"]
        assert http.get(f"/v1/pupils/{renamed['id']}", headers=headers).status_code == 404, "the old identity leads nowhere"
        found = http.post(
            "/v1/pupils/lookup", json={"where": {"surname": renamed["surname"], "forename": renamed["forename"]}}, headers=headers
        )
        assert renamed["id"] not in [row["id"] for row in found.json()["data"]]
        kept = http.get(f"/v1/pupils/{released['id']}?fields=id,upn", headers=headers)
        assert kept.status_code == 200, kept.text
        assert kept.json()["upn"] != released["upn"], "a UPN that was released"
