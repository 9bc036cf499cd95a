"""Goldens: texts that people review as diffs. `make contracts` accepts them again (MARKONCE_ACCEPT=1)."""

import os
from pathlib import Path


def check_golden(path: Path, text: str) -> None:
    """Fails where the committed text differs; writes it instead when accepting."""
    if os.environ.get("MARKONCE_ACCEPT") == "1":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert path.exists(), f"{path} is not there: run `make contracts` and review it"
    assert path.read_text() == text, f"{path} differs: run `make contracts` and review the diff"
