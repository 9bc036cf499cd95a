"""Debian's PostgreSQL 15 as an empty server: a superuser by password, and connections by TLS alone."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.fixtures.server import free_port

BINARIES = Path("/usr/lib/postgresql/15/bin")
PROGRAMS = ("psql", "pg_restore", "openssl", "curl", "git", "python3")
DBA = "dba"


def find_missing() -> list[str]:
    """What this machine lacks to follow the page."""
    missing = [] if (BINARIES / "initdb").exists() else ["postgresql-15 (apt-get install postgresql-15)"]
    return missing + [program for program in PROGRAMS if shutil.which(program) is None]


@dataclass
class Server:
    """A server on 127.0.0.1, which `empty` makes anew."""

    folder: Path
    port: int
    password: str

    @property
    def options(self) -> str:
        return f"sslmode=verify-full&sslrootcert={self.folder / 'authority.pem'}"

    @property
    def host(self) -> str:
        return f"localhost:{self.port}"

    @property
    def admin_url(self) -> str:
        return f"postgres://{DBA}:{self.password}@{self.host}/postgres?{self.options}"

    def run(self, program: str, *arguments: str) -> None:
        """Runs one of PostgreSQL's programs, which refuse root."""
        user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
        done = subprocess.run([*user, str(BINARIES / program), *arguments], cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Makes an empty cluster and starts it."""
        data = self.folder / "data"
        self.run("initdb", f"--pgdata={data}", f"--username={DBA}", f"--pwfile={self.folder / 'password'}", "--auth=scram-sha-256")
        (data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")
        settings = {
            "port": self.port, "listen_addresses": "localhost", "unix_socket_directories": "", "ssl": "on", "fsync": "off",
            "ssl_cert_file": self.folder / "server.pem", "ssl_key_file": self.folder / "server.key",
        }  # fmt: skip
        options = " ".join(f"-c {name}='{value}'" for name, value in settings.items())
        self.run("pg_ctl", "start", "--wait", f"--pgdata={data}", f"--log={self.folder / 'log'}", f"--options={options}")

    def stop(self) -> None:
        """Stops it and removes its data."""
        self.run("pg_ctl", "stop", "--wait", "--mode=fast", f"--pgdata={self.folder / 'data'}")
        shutil.rmtree(self.folder / "data")


@contextmanager
def run_debian(folder: Path) -> Iterator[Server]:
    """The server, empty, until the block ends."""
    folder.mkdir(mode=0o755)
    server = Server(folder, free_port(), secrets.token_urlsafe(16))
    (folder / "password").write_text(server.password)
    _make_certificates(folder)
    if os.geteuid() == 0:
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "postgres", "postgres")
        for path in folder.parents:
            if path != Path(path.anchor):
                path.chmod(path.stat().st_mode | 0o011)  # so that the server finds its folder
    server.start()
    try:
        yield server
    finally:
        server.stop()


def _make_certificates(folder: Path) -> None:
    """An authority, and a certificate of it for localhost."""
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "2"]
    authority = ["-subj", "/CN=authority", "-keyout", str(folder / "authority.key"), "-out", str(folder / "authority.pem")]
    signed = ["-CA", str(folder / "authority.pem"), "-CAkey", str(folder / "authority.key"), "-addext", "basicConstraints=CA:FALSE"]
    server = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", str(folder / "server.key")]
    for command in ([*new, *authority], [*new, *server, *signed, "-out", str(folder / "server.pem")]):
        subprocess.run(command, check=True, capture_output=True)
    (folder / "server.key").chmod(0o600)
