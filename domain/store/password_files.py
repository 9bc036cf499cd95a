"""Reads libpq's password file (PostgreSQL documentation, "The Password File"): host:port:database:user:password on a line.

The driver has a reader of its own, which keeps the backslashes of an escaped colon in the password.
"""

import getpass
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path

_FIELDS = re.compile(r"((?:[^:\\]|\\.)*):((?:[^:\\]|\\.)*):((?:[^:\\]|\\.)*):((?:[^:\\]|\\.)*):(.*)")
_ESCAPED = re.compile(r"\\(.)")


def find_file_fault(path: Path) -> str | None:
    """Returns why a password file would not be used, as the rest of a sentence; None if it would."""
    try:
        mode = path.stat().st_mode
        with path.open():
            pass
    except OSError as problem:
        return f"cannot be read: {path} ({problem.strerror})"
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        return f"may be read by others, so that it is not used: chmod 600 {path}"
    return None


def find_password(path: Path, hosts: Sequence[str], ports: Sequence[int], user: str | None, database: str | None) -> str | None:
    """Returns the password of the first line that names one of the hosts, with what is None from the PG… variables.

    Returns None where no line does, or the file may not be used.
    """
    if find_file_fault(path):
        return None
    user = user or os.environ.get("PGUSER") or getpass.getuser()
    database = database or os.environ.get("PGDATABASE") or user
    hosts = hosts or (os.environ.get("PGHOST") or "localhost").split(",")
    default = (os.environ.get("PGPORT") or "5432").split(",")[0]
    servers = [
        ("localhost" if host.startswith("/") else host, str(ports[at]) if at < len(ports) else default)
        for at, host in enumerate(hosts)
    ]
    for line in path.read_text().splitlines():
        match = None if line.startswith("#") else _FIELDS.fullmatch(line)
        if match is None:
            continue
        *fields, password = (_ESCAPED.sub(r"\1", part) for part in match.groups())
        for host, port in servers:
            wanted = (host, port, database, user)
            if all(named in ("*", value) for named, value in zip(fields, wanted, strict=True)):
                return password
    return None
