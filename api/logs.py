"""Configures the logs: a JSON object on each line, or readable text on a terminal. No field ever holds a query, body,
name or UPN."""

import logging
import os
import sys

import structlog


def configure_logging(*, quiet: bool = False) -> None:
    """Configures structlog to write to stderr. With `quiet`, or MARKONCE_LOG=warnings, only warnings and errors are
    logged. MARKONCE_LOG_FORMAT is text or json; unless set it is text on a terminal."""
    text = os.environ.get("MARKONCE_LOG_FORMAT", "text" if sys.stderr.isatty() else "json") == "text"
    level = logging.WARNING if quiet or os.environ.get("MARKONCE_LOG") == "warnings" else logging.INFO
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
