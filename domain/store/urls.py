"""Reads the URLs of databases, for every command alike, and opens connections to them.

A URL is that of PostgreSQL's own programs (libpq, "Connection URIs"): `postgres://` or `postgresql://`, one host or more,
a folder of sockets as `?host=/run/postgresql` or percent-encoded in place of the host, and libpq's parameters. What a URL
leaves out comes from the PG… variables and the password file. No message repeats a password.
"""

import asyncio
import difflib
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

import asyncpg

from domain.declare.errors import DatabaseError
from domain.store.password_files import find_file_fault, find_password
from domain.store.pool import Connection

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_DRIVER = {
    *("sslcert", "sslkey", "sslcrl", "sslpassword", "sslrootcert", "sslmode", "sslnegotiation", "ssl_min_protocol_version"),
    *("ssl_max_protocol_version", "target_session_attrs", "krbsrvname", "gsslib", "service", "application_name", "options"),
}
"""Parameters that the driver reads, or PostgreSQL itself."""
_PLACE = {"host", "port", "user", "password", "dbname", "passfile", "connect_timeout"}
_WITHOUT_EFFECT = {
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout", "sslsni", "sslcompression"),
    *("fallback_application_name", "client_encoding", "gssencmode", "channel_binding"),
}
"""Parameters of libpq that the driver does not have. They are accepted unless they demand what would then not be done."""
_ENCODE = "a password with one of / ? # @ : % must be percent-encoded (such as %2F for /)"


@dataclass(frozen=True)
class DatabaseUrl:
    """A database URL in its parts. `faults` are sentences without a secret; with any of them it cannot be used."""

    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    passfile: str | None = None
    connect_timeout: float | None = None
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    faults: tuple[str, ...] = ()

    @property
    def where(self) -> str:
        """The server, such as `db.example:5432` or a folder of sockets."""
        ports = self.ports or (5432,) * len(self.hosts)
        named = (
            f"{host} (port {port})" if host.startswith("/") else f"{host}:{port}"
            for host, port in zip(self.hosts, ports, strict=False)
        )
        return " or ".join(named) or os.environ.get("PGHOST") or "the local server"

    def make_arguments(self) -> dict[str, Any]:
        """Returns the arguments of asyncpg.connect. Raises OSError for files of certificates that cannot be read."""
        parameters = dict(self.parameters)
        arguments: dict[str, Any] = {"user": self.user, "password": self.password, "database": self.database}
        if parameters.get("sslrootcert") == "system":  # libpq 16: the system's authorities, and always with the host's name
            del parameters["sslrootcert"]
            parameters.pop("sslmode", None)
            arguments["ssl"] = ssl.create_default_context()
        if self.hosts:
            arguments["host"] = list(self.hosts)
        if self.ports:
            arguments["port"] = list(self.ports) if self.hosts else self.ports[0]
        if not self.password and not os.environ.get("PGPASSWORD") and "service" not in parameters:
            path = self.passfile or os.environ.get("PGPASSFILE") or str(Path("~/.pgpass").expanduser())
            arguments["password"] = find_password(Path(path), self.hosts, self.ports, self.user, self.database)
        return {"dsn": f"postgresql://?{urlencode(parameters)}" if parameters else "postgresql://", **arguments}


def read_url(url: str) -> DatabaseUrl:
    """Reads a URL. It may have faults."""
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in ("postgresql", "postgres"):
        return DatabaseUrl(faults=(_describe_scheme(scheme if separator else ""),))
    try:
        parts = urlsplit(f"postgresql://{rest}")
    except ValueError:
        return DatabaseUrl(faults=(f"the host is not readable; an IPv6 address stands in brackets, and {_ENCODE}",))
    if parts.fragment or "#" in rest or "@" in parts.query or "@" in parts.path:
        return DatabaseUrl(faults=(f"it cannot be taken apart: {_ENCODE}",))
    login, _, server = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    query = {name: value for name, value in parse_qsl(parts.query, keep_blank_values=True) if value}
    faults = [] if all("=" in pair for pair in parts.query.split("&") if pair) else ["a parameter after ? has no ="]
    if "database" in query:
        query.setdefault("dbname", query.pop("database"))
    hosts, ports = _read_servers(server, query, faults)
    faults += _find_parameter_faults(query)
    timeout = query.get("connect_timeout", "")
    return DatabaseUrl(
        hosts,
        ports,
        query.get("user") or unquote(user) or None,
        query.get("password") or unquote(password) or None,
        unquote(parts.path.removeprefix("/")) or query.get("dbname"),
        query.get("passfile"),
        float(timeout) if timeout.isascii() and timeout.isdigit() and timeout != "0" else None,
        {name: value for name, value in query.items() if name in _DRIVER},
        tuple(faults),
    )


def _describe_scheme(scheme: str) -> str:
    begins, _, driver = scheme.partition("+")
    if driver and begins in ("postgresql", "postgres"):
        return "it begins with postgresql://, without the name of a driver"
    return "it begins with postgresql:// or postgres://"


def _read_servers(server: str, query: dict[str, str], faults: list[str]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Returns the hosts and their ports, none where the URL names none. Adds what is wrong to `faults`."""
    named = [each for each in query.get("host", server).split(",") if each]
    hosts, ports = list[str](), list[str]()
    for each in named:
        if each.startswith(("/", "%2F", "%2f")):
            host, port = each, ""
            if not each.startswith("/") and "." not in each and ":" in each:
                host, _, port = each.partition(":")
        elif each.startswith("["):
            host, _, port = each[1:].partition("]")
            port = port.removeprefix(":")
        elif each.count(":") > 1:
            faults.append("an IPv6 address stands in brackets, such as [::1]:5432")
            continue
        else:
            host, _, port = each.partition(":")
        hosts.append(unquote(host))
        ports.append(unquote(port))
    if "port" in query:
        ports = query["port"].split(",")
        ports = ports * len(hosts) if len(ports) == 1 and hosts else ports
        if hosts and len(ports) != len(hosts):
            faults.append(f"it has {len(hosts)} hosts and {len(ports)} ports")
    if any(port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536) for port in ports):
        faults.append(f"the port is not a number from 1 to 65535; {_ENCODE}")
        return tuple(hosts), ()
    if not any(ports):
        return tuple(hosts), ()
    return tuple(hosts), tuple(int(port or "5432") for port in ports)


def _find_parameter_faults(query: Mapping[str, str]) -> list[str]:
    faults = []
    for name in sorted(query.keys() - _DRIVER - _PLACE - _WITHOUT_EFFECT):
        near = difflib.get_close_matches(name, sorted(_DRIVER | _PLACE), n=1, cutoff=0.7)
        faults.append(f"there is no parameter {name[:40]}{f'; did you mean {near[0]}?' if near else ''}")
    mode = query.get("sslmode")
    if mode is not None and mode not in SSL_MODES:
        faults.append(f"sslmode is one of {', '.join(SSL_MODES)}")
    faults += [
        f"{name}=require cannot be met; sslmode=verify-full proves who the server is"
        for name in ("channel_binding", "gssencmode")
        if query.get(name) == "require"
    ]
    if query.get("target_session_attrs", "any") not in _SESSIONS:
        faults.append(f"target_session_attrs is one of {', '.join(_SESSIONS)}")
    if query.get("sslrootcert") == "system" and mode not in (None, "verify-full"):
        faults.append("sslrootcert=system goes with sslmode=verify-full only")
    for name in _FILES:
        path = query.get(name)
        if path and not (name == "sslrootcert" and path == "system") and not os.access(path, os.R_OK):
            faults.append(f"{name} names a file that does not exist or cannot be read: {path}")
    if (timeout := query.get("connect_timeout")) and not (timeout.isascii() and timeout.isdigit()):
        faults.append("connect_timeout is a number of seconds")
    return faults


def find_url_faults(url: str) -> list[str]:
    """Returns what is wrong with a URL and with the password file that it needs, as sentences without a secret."""
    target = read_url(url)
    return [*target.faults, *([] if target.faults else _find_passfile_faults(target))]


def _find_passfile_faults(target: DatabaseUrl) -> list[str]:
    """Returns what is wrong with the password file that the URL or PGPASSFILE names: libpq would pass over it."""
    path = target.passfile or os.environ.get("PGPASSFILE")
    if target.password or os.environ.get("PGPASSWORD") or not path:
        return []
    fault = find_file_fault(Path(path))
    return [f"the file that {'passfile' if target.passfile else 'PGPASSFILE'} names {fault}"] if fault else []


def require_url(url: str, setting: str) -> DatabaseUrl:
    """Returns the parts of a URL. Raises DatabaseError that names the setting and every fault."""
    if faults := find_url_faults(url):
        raise DatabaseError(f"{setting} is wrong: {'; '.join(faults)}.")
    return read_url(url)


async def connect(url: str, setting: str = "DATABASE_URL", *, seconds: float = 10, **options: Any) -> Connection:
    """Opens a connection. Raises DatabaseError for a wrong URL, and else CONNECT_ERRORS (see describe_failure)."""
    return await open_connection(require_url(url, setting), seconds=seconds, **options)


async def open_connection(target: DatabaseUrl, *, seconds: float, **options: Any) -> Connection:
    """Opens a connection to a database whose URL has no faults. Connecting may take `seconds`; the URL may name another number."""
    connection: Connection = await asyncpg.connect(**target.make_arguments(), timeout=target.connect_timeout or seconds, **options)
    return connection


ADMIN_URL = "--admin-url"
"""The option of `init` whose database is not that of the installation."""
CONNECT_ERRORS = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError, ValueError, asyncio.IncompleteReadError)
"""What `connect` raises where no connection is made, beside DatabaseError. TLS errors are OSErrors."""


def describe_failure(problem: BaseException, url: str, setting: str) -> str:
    """Returns why no connection was made, with the setting, the server and what to do; never the password."""
    target = read_url(url)
    role, database = target.user or os.environ.get("PGUSER") or "the user of this process", target.database or target.user
    begin = f"{setting}: "
    if isinstance(problem, ssl.SSLCertVerificationError):
        return (
            f"{begin}the certificate of {target.where} is not trusted ({problem.verify_message}): sslrootcert must name the"
            " certificate of its authority, and with sslmode=verify-full the host must be the one that it names."
        )
    if isinstance(problem, asyncpg.exceptions.ClientConfigurationError):  # such as verify-full without a file of certificates
        return f"{setting} is wrong, or a PG… variable beside it: {_take_first_line(problem)}."
    if isinstance(problem, ssl.SSLError) and (problem.reason or "").startswith("NO_CERTIFICATE"):
        return f"{begin}the file of sslrootcert, sslcert or sslcrl holds no certificate (PEM)."
    if isinstance(problem, ssl.SSLError):
        return f"{begin}TLS with {target.where} failed ({problem.reason or 'no reason is known'})."
    if isinstance(problem, ConnectionError) and "rejected SSL" in str(problem):
        return f"{begin}{target.where} does not offer TLS, which sslmode demands."
    if isinstance(problem, asyncpg.InvalidCatalogNameError):
        hint = "name one that is there, such as postgres" if setting == ADMIN_URL else "create it (`init --print-roles` prints how)"
        return f"{begin}there is no database {database} on {target.where}: {hint}."
    if isinstance(problem, asyncpg.InvalidAuthorizationSpecificationError | asyncpg.InvalidPasswordError):
        hint = " It says so too where there is no such role." if isinstance(problem, asyncpg.InvalidPasswordError) else ""
        if isinstance(problem, asyncpg.InvalidPasswordError) and not _has_password(target):
            hint = " No password was given (URL, PGPASSWORD or ~/.pgpass)."
        elif hint and setting.startswith("DATABASE_"):
            hint += " `init --print-roles` prints the SQL that makes the roles."
        return f"{begin}{target.where} refuses the login of the role {role}: {_take_first_line(problem)}.{hint}"
    if isinstance(problem, asyncpg.PostgresError) and "unsupported startup parameter" in str(problem):
        return f"{begin}a pooler answers at {target.where}, in transaction mode as it seems: set MARKONCE_POOLER=transaction."
    if isinstance(problem, asyncpg.PostgresError):
        return f"{begin}PostgreSQL at {target.where} refuses the role {role}: {_take_first_line(problem)}."
    if isinstance(problem, TimeoutError):
        return f"{begin}{target.where} did not answer in time."
    if isinstance(problem, OSError):
        reason = (
            os.strerror(problem.errno)
            if problem.errno is not None and problem.errno > 0
            else problem.strerror or "none of its addresses answers"
        )
        return f"{begin}PostgreSQL could not be reached at {target.where}: {reason}."
    return f"{begin}PostgreSQL could not be reached at {target.where}: {type(problem).__name__}: {_take_first_line(problem)}."


def _has_password(target: DatabaseUrl) -> bool:
    """Whether the URL, the environment, the password file or a service file may have given a password."""
    arguments = target.make_arguments()
    is_elsewhere = "service" in target.parameters or os.environ.get("PGSERVICE") or os.environ.get("PGPASSWORD")
    return bool(arguments["password"] or is_elsewhere)


def _take_first_line(problem: BaseException) -> str:
    lines = str(problem).splitlines() or [type(problem).__name__]
    return lines[0].rstrip(".")
