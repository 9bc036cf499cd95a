"""Configures the logs: a JSON object on each line, or readable text on a terminal. No field ever holds a query, body,
name or UPN."""

import logging
import os
import re
import sys

import structlog

_WORDS = re.compile(r"[A-Za-z ]{1,80}")
"""The beginning of a library's message, before it quotes anything."""


class LibraryLines(logging.Handler):
    """Logs what libraries and Python itself log, as one line of ours: the logger, the first words and the type of the exception. What they
    quote is left out, since it may be the values of a row."""

    def emit(self, record: logging.LogRecord) -> None:
        words = _WORDS.match(str(record.msg))
        kind = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else None
        write = structlog.get_logger().error if record.levelno >= logging.ERROR else structlog.get_logger().warning
        write("library", logger=record.name, message=words[0].strip() if words else "", kind=kind)


def configure_logging(*, quiet: bool = False) -> None:
    """Configures structlog to write to stderr. With `quiet`, or MARKONCE_LOG=warnings, only warnings and errors are
    logged. MARKONCE_LOG_FORMAT is text or json; unless set it is text on a terminal."""
    text = os.environ.get("MARKONCE_LOG_FORMAT", "text" if sys.stderr.isatty() else "json") == "text"
    level = logging.WARNING if quiet or os.environ.get("MARKONCE_LOG") == "warnings" else logging.INFO
    logging.basicConfig(handlers=[LibraryLines()], level=logging.WARNING, force=True)
    logging.captureWarnings(True)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()) if text else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
