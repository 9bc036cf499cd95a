"""Runs the application under granian, which closes slow and oversized headers by itself."""

from granian import Granian
from granian.constants import Interfaces, Loops
from granian.http import HTTP1Settings
from starlette.applications import Starlette

from api.app import build_app
from api.logs import configure_logging
from api.settings import Settings

HEADER_TIMEOUT_MS = 5_000


def from_environment() -> Starlette:
    """What each worker runs."""
    configure_logging()
    return build_app(Settings.from_environment())


def run(host: str, port: int) -> None:
    """Serves until told to stop."""
    Granian(
        "api.server:from_environment",
        factory=True,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        loop=Loops.uvloop,
        workers=1,
        websockets=False,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MS),
        log_enabled=False,
        respawn_failed_workers=True,
        workers_kill_timeout=10,
    ).serve()
