"""Refuses what is made or named for predicted progress: a subject, an aspect, a scheme."""

from typing import Any

from domain.declare.errors import Issue
from domain.write.checks import Checks
from domain.write.predicted_progress import PREDICTED_PROGRESS, is_predicted_progress


def refuse_predicted_progress(named: Any, checks: Checks) -> None:
    """Adds an issue for the code and for the name of an input, where it is of predicted progress."""
    for field in ("code", "name"):
        text = getattr(named, field, None)
        if isinstance(text, str) and is_predicted_progress(text):
            checks.add(Issue(f"/{field}", "predicted-progress", PREDICTED_PROGRESS))
