"""The environment, typed. Nothing secret has a default: `demo` makes its own and keeps them in its data folder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from domain.store.database import READ_SECONDS, WRITE_SECONDS

NUMBERS = {
    "pool_size": ("MARKONCE_POOL_SIZE", 1, 100),
    "rate": ("MARKONCE_RATE", 1, 100_000),
    "burst": ("MARKONCE_BURST", 1, 1_000_000),
    "read_seconds": ("MARKONCE_READ_SECONDS", 1, 3600),
    "write_seconds": ("MARKONCE_WRITE_SECONDS", 1, 3600),
    "cache_mb": ("MARKONCE_CACHE_MB", 0, 100_000),
    "request_seconds": ("MARKONCE_REQUEST_SECONDS", 1, 3600),
}
"""By field, its variable, and the least and the most it may be."""
WORDS = {"MARKONCE_INTROSPECTION": ("on", "off"), "MARKONCE_LOG": ("requests", "warnings")}
"""By variable, what it may say, first what it says when it is not set."""


class SettingsError(Exception):
    """A setting is missing or cannot be read; says which, and what it is for."""


@dataclass(frozen=True)
class Settings:
    """See the README for the table of settings. URLs are postgresql:// URLs; `secret` is at least 32 bytes.

    `rate` is in requests a second and `burst` in requests, both for each tenant that a client reaches.
    """

    database_url: str
    secret: bytes
    base_url: str = "http://127.0.0.1:8000"
    pool_size: int = 10
    introspection: bool = True
    rate: int = 100
    burst: int = 1000
    read_seconds: int = READ_SECONDS
    write_seconds: int = WRITE_SECONDS
    request_seconds: int = 120
    cache_mb: int = 32

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Raises SettingsError, naming every setting that is missing or wrong."""
        wrong = []
        for name, purpose in (
            ("DATABASE_URL", "the app role's database"),
            ("MARKONCE_SECRET", "32 random bytes or more, which protect keys and cursors"),
        ):
            if not environment.get(name):
                wrong.append(f"{name} is not set: {purpose}")
        secret = environment.get("MARKONCE_SECRET", "").encode()
        if secret and len(secret) < 32:
            wrong.append("MARKONCE_SECRET is shorter than 32 bytes")
        numbers: dict[str, int] = {}
        for field, (name, least, most) in NUMBERS.items():
            text = environment.get(name, str(getattr(cls, field)))
            if text.isascii() and text.isdigit() and least <= int(text) <= most:
                numbers[field] = int(text)
            else:
                wrong.append(f"{name} is not a number from {least} to {most}")
        wrong += [
            f"{name} is {' or '.join(known)}" for name, known in WORDS.items() if environment.get(name, known[0]) not in known
        ]
        if wrong:
            raise SettingsError("; ".join(wrong) + ".")
        return cls(
            database_url=environment["DATABASE_URL"],
            secret=secret,
            base_url=environment.get("MARKONCE_BASE_URL", cls.base_url).rstrip("/"),
            introspection=environment.get("MARKONCE_INTROSPECTION", "on") != "off",
            **numbers,
        )
