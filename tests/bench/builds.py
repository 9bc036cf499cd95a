"""Another commit of the product as it can be run beside this one: its tree, and an interpreter with what it needs."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from tests.bench.servers import NOW, Build

LOCK = "requirements.lock"


@contextmanager
def check_out(revision: str, folder: Path, console: Console) -> Iterator[tuple[str, Build]]:
    """A commit's short name and its build, in a worktree that is removed afterwards; `self` is this tree as it is on disk."""
    if revision == "self":
        yield "self", NOW
        return
    name = _git("rev-parse", "--verify", "--short", f"{revision}^{{commit}}")
    with tempfile.TemporaryDirectory(prefix="markonce-bench-") as temporary:
        root = Path(temporary).resolve() / "tree"
        _git("worktree", "add", "--detach", "--quiet", str(root), name)
        try:
            yield name, Build(root, _interpreter(root, folder, console))
        finally:
            _git("worktree", "remove", "--force", str(root))


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(NOW.root), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"`git {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout.strip()


def _interpreter(root: Path, folder: Path, console: Console) -> str:
    """This one where the commit needs the same packages, else one of an environment that is kept for the next time."""
    wanted = (root / LOCK).read_bytes()
    if wanted == (NOW.root / LOCK).read_bytes():
        return sys.executable
    venv = folder / "venvs" / hashlib.sha256(wanted).hexdigest()[:12]
    python, ready = venv / "bin" / "python", venv / "ready"
    if not ready.exists():
        console.print(f"Setting up {venv} …", soft_wrap=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(venv)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes"]
        subprocess.run([*pip, "-r", str(root / LOCK)], check=True)
        ready.touch()
    return str(python)


def schema_of(build: Build) -> str:
    """The same for builds whose migrations are the same."""
    files = sorted((build.root / "migrations").rglob("*.py"))
    return hashlib.sha256(b"".join(file.name.encode() + file.read_bytes() for file in files)).hexdigest()[:12]
