"""Logs: one JSON object a line, readable on a terminal. No query, body, name or UPN is ever a field."""

import logging
import os
import sys

import structlog


def configure_logging(*, quiet: bool = False) -> None:
    terminal = sys.stderr.isatty()
    level = logging.WARNING if quiet or os.environ.get("MARKONCE_LOG") == "warnings" else logging.INFO
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(level),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
