"""Puts the URLs of the embedded PostgreSQL in place of `embedded:FOLDER`, for the time of one command."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape

from api.commands.console import fail, fail_with_faults
from api.server.supervisor import STOPPING, stop_as_by_interrupt
from api.settings import ROLES, URLS
from domain.store.embedded_urls import PREFIX, is_running, run_embedded
from domain.store.programs import EmbeddedError

_ROLES_OF_URLS = dict(zip(URLS, ("markonce_app", "markonce_owner", "markonce_operator"), strict=True))


def is_embedded() -> bool:
    """Whether a database URL is `embedded:FOLDER`."""
    return any(os.environ.get(name, "").startswith(PREFIX) for name in URLS)


@contextmanager
def replace_embedded_urls(command: str) -> Iterator[Callable[[], bool]]:
    """Runs the embedded PostgreSQL during a command, or uses that which `serve` runs, and sets the URLs of its roles. Yields
    what says whether it runs."""
    chosen = {name: os.environ[name] for name in URLS if os.environ.get(name)}
    folders = {url.removeprefix(PREFIX) for url in chosen.values() if url.startswith(PREFIX)}
    faults = [
        f"{name} is set, and the roles of the embedded database have the names markonce_…"
        for name in ROLES.values()
        if os.environ.get(name)
    ]
    if len(folders) > 1 or any(not url.startswith(PREFIX) for url in chosen.values()):
        faults.append(f"{' and '.join(chosen)} name different databases: of an embedded one set DATABASE_URL alone")
    if "" in folders:
        faults.append("DATABASE_URL names no folder: embedded:FOLDER")
    if command == "init" and {argument.partition("=")[0] for argument in sys.argv} & {"--print-roles", "--admin-url"}:
        faults.append("--print-roles and --admin-url are for a PostgreSQL of your own: an embedded database makes its own roles")
    fail_with_faults(faults)
    folder = Path(folders.pop()).expanduser().absolute()
    if command not in ("init", "restore") and not folder.is_dir():
        fail(f"There is no embedded database in {escape(str(folder))}: `init` makes one.")
    stop_as_by_interrupt()  # so that the server is stopped
    try:
        with run_embedded(folder, is_shared=command != "serve") as urls:
            os.environ.update({name: urls[role] for name, role in _ROLES_OF_URLS.items()})
            try:
                yield lambda: is_running(folder)
            finally:
                for number in STOPPING:
                    signal.signal(number, signal.SIG_IGN)
    except EmbeddedError as problem:
        fail(escape(str(problem)))
