"""The log of a process: events with keys on stderr, one JSON object a line unless a person reads along.

Owns the configuration of structlog and of Python's logging, in which libraries tell theirs. Must not be imported by
library modules: only what runs as a program says how it logs.
"""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable
from typing import TextIO, cast

import structlog


def configure(
    level: str,
    *,
    libraries: str = "warning",
    softened: Callable[[logging.LogRecord], bool] = lambda _: True,
    **context: object,
) -> None:
    """Logs from ``level`` on (debug, info, warning, error), and what libraries log from ``libraries`` on.

    ``softened`` sees each record of a library first, may change it, and says whether it is told at all. ``context`` is
    on every event of the calling thread's context from now on.
    """
    terminal = sys.stderr.isatty()
    stream = cast(TextIO, _Forgiving(sys.stderr))
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.types.Processor = _for_people if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_threshold(level)),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _with_logger],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(softened)
    logging.basicConfig(handlers=[handler], level=_threshold(libraries), force=True)
    logging.captureWarnings(True)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**context)


def _threshold(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


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


def _with_logger(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    return event


def _for_people(_logger: object, _method: str, event: structlog.types.EventDict) -> str:
    """``HH:MM:SS event key=value``: short, for the lines of a terminal; the level unless it is info."""
    level, trace = event.pop("level"), event.pop("exception", "")
    words = [str(event.pop("timestamp")), *([] if level == "info" else [f"{level}:"]), str(event.pop("event"))]
    texts = {key: str(value) for key, value in event.items()}
    words += [f"{key}={text!r}" if " " in text else f"{key}={text}" for key, text in texts.items()]
    return " ".join(words) + (f"\n{trace}" if trace else "")
