"""Private files of the demonstration: secrets.json, and how files are written."""

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path


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
    """MARKONCE_SECRET, and the id and secret of each client. The database stores only the hashes of the clients'
    secrets."""

    path: Path
    markonce: str
    clients: dict[str, tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> "DemoSecrets":
        """Reads the file. Without one, it generates MARKONCE_SECRET and writes the file."""
        if path.exists():
            content = json.loads(path.read_text())
            return cls(path, content["markonceSecret"], {name: (pair[0], pair[1]) for name, pair in content["clients"].items()})
        generated = cls(path, secrets.token_urlsafe(32), {})
        generated.write()
        return generated

    def write(self) -> None:
        write_private(self.path, json.dumps({"markonceSecret": self.markonce, "clients": self.clients}))
