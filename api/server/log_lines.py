"""The supervisor's lines of the log, in the form of the worker's (`api/logs.py`), whose library would take a third of its memory."""

import json
import os
import sys
from datetime import UTC, datetime


def is_text(stream_is_terminal: bool) -> bool:
    """Whether the log is text and not JSON: as MARKONCE_LOG_FORMAT says, else where it is read on a terminal."""
    return os.environ.get("MARKONCE_LOG_FORMAT", "text" if stream_is_terminal else "json") == "text"


def write_line(level: str, event: str, **fields: object) -> None:
    """Writes one line to stderr. With MARKONCE_LOG=warnings only warnings and errors are written."""
    if level == "info" and os.environ.get("MARKONCE_LOG") == "warnings":
        return
    at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    if is_text(sys.stderr.isatty()):
        line = " ".join([at, f"[{level}]", event, *(f"{name}={value}" for name, value in fields.items())])
    else:
        line = json.dumps({**fields, "event": event, "level": level, "timestamp": at})
    print(line, file=sys.stderr, flush=True)
