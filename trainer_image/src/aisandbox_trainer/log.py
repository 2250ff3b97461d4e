"""The trainer's log: JSON lines on stderr, or a person's form if stderr is a terminal."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TextIO, cast

import structlog


def configure(level: str, **context: object) -> None:
    """Sets the log up for this process; ``context`` is on every line."""
    terminal = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
            structlog.processors.format_exc_info,
            _for_people if terminal else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Forgiving(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**context)
    logging.captureWarnings(True)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)


class _Forgiving:
    """Writes to ``stream`` what can be written: a full disk or a reader that has gone must not end what is told of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _for_people(_logger: object, _method: str, event: structlog.types.EventDict) -> str:
    """``HH:MM:SS event key=value``: short, for the lines of a terminal; the level unless it is info."""
    level, trace = event.pop("level"), event.pop("exception", "")
    words = [str(event.pop("timestamp")), *([] if level == "info" else [f"{level}:"]), str(event.pop("event"))]
    texts = {key: str(value) for key, value in event.items()}
    words += [f"{key}={text!r}" if " " in text else f"{key}={text}" for key, text in texts.items()]
    return " ".join(words) + (f"\n{trace}" if trace else "")
