"""The environment, typed. Nothing secret has a default: `demo` makes its own and keeps them in its data folder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass


class SettingsError(Exception):
    """A setting is missing or cannot be read; says which, and what it is for."""


@dataclass(frozen=True)
class Settings:
    """See the README for the table of settings. URLs are postgresql:// URLs; `secret` is at least 32 bytes."""

    database_url: str
    secret: bytes
    base_url: str = "http://127.0.0.1:8000"
    pool_size: int = 10
    introspection: bool = True

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
        pool_size = environment.get("MARKONCE_POOL_SIZE", "10")
        if not pool_size.isdigit() or not 1 <= int(pool_size) <= 100:
            wrong.append("MARKONCE_POOL_SIZE is not a number from 1 to 100")
        if wrong:
            raise SettingsError("; ".join(wrong) + ".")
        return cls(
            database_url=environment["DATABASE_URL"],
            secret=secret,
            base_url=environment.get("MARKONCE_BASE_URL", cls.base_url).rstrip("/"),
            pool_size=int(pool_size),
            introspection=environment.get("MARKONCE_INTROSPECTION", "on") != "off",
        )
