"""Folders of migrations that the tests make: ours up to one of them, and invented ones after it; and databases without tables."""

import asyncio
import secrets
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg

from domain.store import embedded
from domain.store.migrate import migrate
from domain.store.schema import MIGRATIONS
from tests.conftest import Databases

TEXT = '''"""Invented by a test."""

from alembic import op

from migrations.steps import build_index, run_each

revision = "{revision}"
down_revision = "{before}"


def upgrade() -> None:
{body}
'''


def sql(*statements: str) -> str:
    """The body of a migration that runs these statements."""
    return "\n".join(f"    op.get_bind().exec_driver_sql({statement!r})" for statement in statements)


def folder_of(path: Path, more: Mapping[str, str] | None = None, *, up_to: str = "9999") -> Path:
    """A folder of our migrations up to one of them, and then these, by revision the body of each."""
    (path / "versions").mkdir(parents=True)
    shutil.copy(MIGRATIONS / "env.py", path)
    kept = sorted(file for file in (MIGRATIONS / "versions").glob("0*.py") if file.name[:4] <= up_to)
    for file in kept:
        shutil.copy(file, path / "versions")
    before = kept[-1].name[:4]
    for revision, body in (more or {}).items():
        (path / "versions" / f"{revision}_invented.py").write_text(TEXT.format(revision=revision, before=before, body=body))
        before = revision
    return path


def following(number: int = 1) -> str:
    """The revision that comes so many after our newest."""
    return f"{int(max(file.name[:4] for file in (MIGRATIONS / 'versions').glob('0*.py'))) + number:04}"


def empty_database(cluster: embedded.Cluster) -> Databases:
    """A database without tables, as a new installation has it."""
    name = f"e_{secrets.token_hex(4)}"

    async def create() -> None:
        connection = await asyncpg.connect(cluster.url("postgres", embedded.SUPERUSER))
        await connection.execute(f"CREATE DATABASE {name} OWNER markonce_owner")
        await connection.close()

    with ThreadPoolExecutor(1) as pool:  # an event loop may be running here
        pool.submit(lambda: asyncio.run(create())).result()
    return Databases(cluster, name)


async def migrated(databases: Databases, folder: Path, *, tries: int = 40, lines: list[str] | None = None) -> list[str]:
    """What `migrate` tells, into `lines` at once; in a thread of its own, so that the server of a test goes on."""
    lines = [] if lines is None else lines
    await asyncio.to_thread(migrate, databases.owner_url, lines.append, folder=folder, tries=tries)
    return lines
