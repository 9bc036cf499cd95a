"""Private files of the demonstration: secrets.json, and how files are written."""

import json
import os
import secrets
import stat
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from domain.support import clock


def write_private(path: Path, text: str) -> None:
    """Writes a file atomically. Only its owner may read it."""
    fresh = path.with_name(f"{path.name}.new")
    fresh.unlink(missing_ok=True)
    with open(fresh, "w", opener=lambda name, flags: os.open(name, flags | os.O_EXCL, stat.S_IRUSR | stat.S_IWUSR)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


@dataclass
class DemoSecrets:
    """MARKONCE_SECRET, the id and secret of each client, and the day on which the demonstration was first made or last renewed, on
    which its dates go. `is_renewing` is true from the removal of its data until they are there again. The database stores only the
    hashes of the clients' secrets."""

    path: Path
    markonce: str
    clients: dict[str, tuple[str, str]]
    day: date
    is_renewing: bool = False

    @classmethod
    def read(cls, path: Path) -> "DemoSecrets":
        """Reads the file. Without one, it generates MARKONCE_SECRET and writes the file."""
        if path.exists():
            content = json.loads(path.read_text())
            pairs = {name: (pair[0], pair[1]) for name, pair in content["clients"].items()}
            day = date.fromisoformat(content["day"]) if "day" in content else clock.read_today()
            return cls(path, content["markonceSecret"], pairs, day, content.get("isRenewing", False))
        generated = cls(path, secrets.token_urlsafe(32), {}, clock.read_today())
        generated.write()
        return generated

    def write(self) -> None:
        content = {
            "markonceSecret": self.markonce,
            "clients": self.clients,
            "day": self.day.isoformat(),
            "isRenewing": self.is_renewing,
        }
        write_private(self.path, json.dumps(content))
