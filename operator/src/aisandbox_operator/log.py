"""What is told of the libraries that the operator works with: their warnings, and everything at debug.

Must not be imported by library modules.
"""

from __future__ import annotations

import logging

from aisandbox_process import log

_WILL_RETRY = "will retry"


def configure(level: str) -> None:
    """Logs to stderr from ``level`` on (debug, info, warning, error)."""
    log.configure(level, libraries="debug" if level == "debug" else "warning", softened=_soften)


def _soften(record: logging.LogRecord) -> bool:
    """A failed call that kopf repeats by itself is no error yet."""
    if record.levelno == logging.ERROR and record.name.startswith("kopf.") and _WILL_RETRY in record.getMessage():
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
