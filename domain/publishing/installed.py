"""Whether the packages are there that protect an edition (`markonce[publish]`)."""

from importlib.util import find_spec

from domain.declare.errors import Busy

RETRY_AFTER = 3600
"""Seconds after which a client may try again: somebody has to install something first."""


def is_installed() -> bool:
    return find_spec("scipy") is not None and find_spec("numpy") is not None


def require_installed() -> None:
    """Raises Busy where nothing can be published here."""
    if not is_installed():
        message = "Publishing is not installed here: it needs the packages of requirements-publish.lock (markonce[publish])."
        raise Busy(message, code="publishing-not-installed", retry_after=RETRY_AFTER)
