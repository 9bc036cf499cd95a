"""Reads the settings from environment variables. No secret has a default: `demo` generates its own and stores them in
its data folder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from urllib.parse import urlsplit

from api.setting_names import compare_names
from api.watch.traces import is_installed
from domain.store.database import READ_SECONDS, WRITE_SECONDS
from domain.store.role_names import ROLE_NAME, RoleNames
from domain.store.urls import find_url_faults, read_url
from domain.write.command import MAX_ENTRIES

NUMBERS = {
    "workers": ("MARKONCE_WORKERS", 1, 64),
    "pool_size": ("MARKONCE_POOL_SIZE", 1, 100),
    "rate": ("MARKONCE_RATE", 1, 100_000),
    "burst": ("MARKONCE_BURST", 1, 1_000_000),
    "read_seconds": ("MARKONCE_READ_SECONDS", 1, 3600),
    "write_seconds": ("MARKONCE_WRITE_SECONDS", 1, 3600),
    "cache_mb": ("MARKONCE_CACHE_MB", 0, 100_000),
    "request_seconds": ("MARKONCE_REQUEST_SECONDS", 1, 240),
    "stream_rows": ("MARKONCE_STREAM_ROWS", 1, MAX_ENTRIES),
    "staging_mb": ("MARKONCE_STAGING_MB", 1, 10_000_000),
    "job_share": ("MARKONCE_JOB_SHARE", 1, 100),
    "ops_port": ("MARKONCE_OPS_PORT", 0, 65_535),
    "drain_seconds": ("MARKONCE_DRAIN_SECONDS", 0, 60),
    "trace_one_in": ("MARKONCE_TRACE_ONE_IN", 0, 1_000_000),
}
"""The environment variable of each numeric field, and its minimum and maximum. A request ends before the documented overlap
for polling does (POLLING_OVERLAP), since a row is seen that much later than its time."""
CHOICES = {
    "MARKONCE_INTROSPECTION": ("on", "off"),
    "MARKONCE_LOG": ("requests", "warnings"),
    "MARKONCE_POOLER": ("none", "transaction"),
    "MARKONCE_LOG_FORMAT": ("text", "json"),
}
"""The values that each of these variables may have. Unless set, the first is taken; the format of logs is then text on a
terminal and json elsewhere."""
PROXIES = "MARKONCE_TRUSTED_PROXIES"
OTHER_SECRET = "MARKONCE_OTHER_SECRET"  # noqa: S105 (a name)
"""The variable of a second secret, by which is read and never written: the one before while MARKONCE_SECRET is rotated."""
MIN_SECRET = 32
"""Bytes."""
URLS = ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_OPERATOR_URL")
ROLES = {"owner": "MARKONCE_OWNER_ROLE", "app": "MARKONCE_APP_ROLE", "operator": "MARKONCE_OPERATOR_ROLE"}
"""The environment variable of the name of each role."""
OTHERS = (
    "DATABASE_REPLICA_URL",
    "MARKONCE_OPS_HOST",
    "MARKONCE_SECRET",
    OTHER_SECRET,
    "MARKONCE_BASE_URL",
    "MARKONCE_LEDGER",
    "MARKONCE_POSTGRES",
    PROXIES,
    *ROLES.values(),
)
SETTINGS = {*URLS, *OTHERS, *CHOICES, *(name for name, *_ in NUMBERS.values())}
"""The name of every environment variable that is read, PostgreSQL's own (PG…) aside."""


class SettingsError(Exception):
    """Settings are missing or invalid. The message names each and its purpose; `faults` are its sentences."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults) + ".")
        self.faults = faults


@dataclass(frozen=True)
class Settings:
    """The settings, which the README describes. `database_url` is a postgresql:// URL, `secret` is at least 32 bytes.

    `rate` is in requests a second and `burst` in requests, both for each tenant that a client reaches.
    A stream of more than `stream_rows` rows becomes a job. `staging_mb` are the megabytes of rows that all clients may stage at once, and `job_share`
    is the percentage of its time for which the server applies them. `ops_port` is 0 where there is no operations port, and `trace_one_in`
    where no request is traced. With `pooled` the database is reached by way of a pooler in transaction mode.
    """

    database_url: str
    secret: bytes
    base_url: str = "http://127.0.0.1:8000"
    pool_size: int = 10
    workers: int = 1
    introspection: bool = True
    rate: int = 100
    burst: int = 1000
    read_seconds: int = READ_SECONDS
    write_seconds: int = WRITE_SECONDS
    request_seconds: int = 120
    cache_mb: int = 32
    stream_rows: int = MAX_ENTRIES
    staging_mb: int = 20_000
    job_share: int = 50
    ledger: Path | None = None
    ops_port: int = 0
    drain_seconds: int = 2
    trace_one_in: int = 0
    ops_host: str = "127.0.0.1"
    pooled: bool = False
    replica_urls: tuple[str, ...] = ()
    other_secret: bytes = b""
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """MARKONCE_SECRET, by which everything is written, and then the other one by which is read, where there is one."""
        return (self.secret, self.other_secret) if self.other_secret else (self.secret,)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Reads the settings; an empty one is as if it were not set. Raises SettingsError, naming every setting that is missing or invalid."""
        problems = compare_names(environment, SETTINGS)[0]
        environment = {name: value for name, value in environment.items() if value}
        for name, purpose in (
            ("DATABASE_URL", "the app role's database"),
            ("MARKONCE_SECRET", "32 random bytes or more, which protect keys and cursors"),
        ):
            if not environment.get(name):
                problems.append(f"{name} is not set: {purpose}")
        secret = environment.get("MARKONCE_SECRET", "").encode()
        problems += [
            f"{name} is shorter than {MIN_SECRET} bytes"
            for name in ("MARKONCE_SECRET", OTHER_SECRET)
            if 0 < len(environment.get(name, "").encode()) < MIN_SECRET
        ]
        problems += find_url_problems(environment, "DATABASE_URL") + find_replica_problems(environment)
        base_url = environment.get("MARKONCE_BASE_URL", cls.base_url)
        if problem := _find_base_url_problem(base_url):
            problems.append(problem)
        numbers: dict[str, int] = {}
        for field, (name, minimum, maximum) in NUMBERS.items():
            text = environment.get(name, str(getattr(cls, field)))
            if text.isascii() and text.isdigit() and minimum <= int(text) <= maximum:
                numbers[field] = int(text)
            else:
                service = " (Kubernetes sets it so for a service markonce-ops: enableServiceLinks: false)" if "://" in text else ""
                problems.append(f"{name} is not a number from {minimum} to {maximum}{service}")
        problems += [
            f"{name} is {' or '.join(choices)}"
            for name, choices in CHOICES.items()
            if environment.get(name, choices[0]) not in choices
        ]
        if numbers.get("trace_one_in") and not is_installed():
            problems.append("MARKONCE_TRACE_ONE_IN needs the packages of requirements-traces.lock (pip install markonce[traces])")
        trusted_proxies, faults = _read_networks(environment.get(PROXIES, ""))
        if problems := problems + faults:
            raise SettingsError(problems)
        return cls(
            database_url=environment["DATABASE_URL"],
            secret=secret,
            other_secret=environment.get(OTHER_SECRET, "").encode(),
            base_url=base_url.rstrip("/"),
            introspection=environment.get("MARKONCE_INTROSPECTION", "on") != "off",
            ledger=Path(environment["MARKONCE_LEDGER"]).expanduser() if environment.get("MARKONCE_LEDGER") else None,
            ops_host=environment.get("MARKONCE_OPS_HOST", cls.ops_host),
            pooled=is_pooled(environment),
            trusted_proxies=trusted_proxies,
            replica_urls=list_replica_urls(environment),
            **numbers,
        )


def is_pooled(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether DATABASE_URL leads to a pooler in transaction mode."""
    return environment.get("MARKONCE_POOLER") == "transaction"


def list_replica_urls(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """Returns the URLs of the replicas, which stand in one setting with blanks between them."""
    return tuple(environment.get("DATABASE_REPLICA_URL", "").split())


def find_replica_problems(environment: Mapping[str, str]) -> list[str]:
    """Returns what is wrong with the URLs of the replicas, without their passwords. Each names one server: of several behind one name, one
    would show less than another did before."""
    problems = []
    for url in list_replica_urls(environment):
        problems += [f"DATABASE_REPLICA_URL: {fault}" for fault in find_url_faults(url)]
        if len(read_url(url).hosts) > 1:
            problems.append("DATABASE_REPLICA_URL: a URL names one replica; several URLs stand with blanks between them")
    return problems


def read_read_seconds(environment: Mapping[str, str] = os.environ) -> int:
    """Returns the time limit of a statement that reads. A wrong one is as if it were not set; `serve` refuses it."""
    text = environment.get("MARKONCE_READ_SECONDS", "")
    return int(text) if text.isascii() and text.isdigit() else READ_SECONDS


def read_secrets(environment: Mapping[str, str] = os.environ) -> tuple[bytes, ...]:
    """Returns MARKONCE_SECRET, and MARKONCE_OTHER_SECRET where it is set; nothing where the first is not set."""
    first, other = (environment.get(name, "").encode() for name in ("MARKONCE_SECRET", OTHER_SECRET))
    return tuple(secret for secret in (first, other) if first and secret)


def find_url_problems(environment: Mapping[str, str], *names: str) -> list[str]:
    """Returns what is wrong with the database URLs of these names that are set, without their passwords."""
    return [f"{name}: {fault}" for name in names if environment.get(name) for fault in find_url_faults(environment[name])]


def read_role_names(environment: Mapping[str, str] = os.environ) -> RoleNames:
    """Returns the names of the roles. Raises SettingsError, naming every one that SQL would have to quote."""
    chosen = {role: environment[name] for role, name in ROLES.items() if environment.get(name)}
    wrong = [ROLES[role] for role, name in chosen.items() if not ROLE_NAME.fullmatch(name)]
    if wrong:
        raise SettingsError([f"{name} is the name of a role: small letters, digits and _, at most 63" for name in wrong])
    names = RoleNames(**chosen)
    if len({names.owner, names.app, names.operator}) < len(ROLES):
        raise SettingsError([f"{', '.join(ROLES.values())} name three different roles"])
    return names


def _read_networks(text: str) -> tuple[tuple[IPv4Network | IPv6Network, ...], list[str]]:
    """Returns the networks of trusted proxies, and what is wrong with each that is none."""
    networks, faults = [], []
    for part in filter(None, (part.strip() for part in text.split(","))):
        try:
            network = ip_network(part)
        except ValueError as problem:
            faults.append(f"{PROXIES} has addresses and networks with commas, such as 10.0.0.5,10.1.0.0/16: {problem}")
            continue
        if network.prefixlen == 0:
            faults.append(f"{PROXIES} has {part}, which is everybody: whoever sends X-Forwarded-For would be believed")
        networks.append(network)
    return tuple(networks), faults


def _find_base_url_problem(base_url: str) -> str | None:
    """Returns what is wrong with the base URL, None if nothing. It becomes the issuer of tokens, which RFC 8414 wants
    without query and fragment."""
    try:
        parts = urlsplit(base_url)
        has_host = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        has_host = False
    if not base_url.startswith(("https://", "http://")) or not has_host:
        return "MARKONCE_BASE_URL is how clients reach the server, with its scheme, such as https://api.example.org"
    if parts.query or parts.fragment or parts.username or parts.password:
        return "MARKONCE_BASE_URL has no login, no ? and no #"
    return None
