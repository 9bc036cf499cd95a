"""Whether the running command is a dry run, for commands whose dry run comes first (merging, splitting)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_is_dry_run: ContextVar[bool] = ContextVar("is_dry_run", default=False)


@contextmanager
def run_dry(is_dry_run: bool) -> Iterator[None]:
    """Says within the block whether the command is rolled back in the end."""
    token = _is_dry_run.set(is_dry_run)
    try:
        yield
    finally:
        _is_dry_run.reset(token)


def is_dry_run() -> bool:
    return _is_dry_run.get()
