"""A ledger of the application in process, and the settings of commands that use it."""

from pathlib import Path

import pytest

from domain.store.ledger import Ledger
from tests.fixtures.settings import SECRET
from tests.fixtures.small_trust import Trust


@pytest.fixture
def ledger(tmp_path: Path, small_trust: Trust) -> Ledger:
    """The ledger of the application in process."""
    made = small_trust.database.ledger = Ledger(tmp_path / "server.ledger", SECRET.encode())
    made.prepare()
    return made


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, ledger: Ledger) -> pytest.MonkeyPatch:
    """The settings of this process, for the functions of commands."""
    for name in ("DATABASE_URL", "DATABASE_OWNER_URL", "DATABASE_OPERATOR_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MARKONCE_SECRET", SECRET)
    monkeypatch.setenv("MARKONCE_LOG_FORMAT", "text")
    monkeypatch.setenv("MARKONCE_LEDGER", str(ledger.path))
    return monkeypatch
