"""The server's log: events with keys, one JSON object a line unless a person reads along.

Owns the configuration of structlog for this process. Must not be imported by library modules.
"""

from __future__ import annotations

import logging
import sys

import structlog


def configure(level: str) -> None:
    """Log to stderr from ``level`` on (debug, info, warning, error)."""
    renderer: structlog.types.Processor = structlog.processors.JSONRenderer()
    if sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
