"""The log of a process: events with keys on stderr, one JSON object a line; on a terminal, short lines.

Owns the configuration of structlog and of Python's logging, which libraries use. Must not be imported by library
modules: only a program configures its log.
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
    accept_record: Callable[[logging.LogRecord], bool] = lambda _: True,
    **context: object,
) -> None:
    """Log events of ``level`` (debug, info, warning, error) and above; those of libraries of ``libraries`` and above.

    ``accept_record`` is called with each record of a library, may change it, and returns whether to log it. ``context``
    is added to every event of the calling thread's context from now on.
    """
    terminal = sys.stderr.isatty()
    stream = cast(TextIO, _BestEffortStream(sys.stderr))
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.types.Processor = _render_for_terminal if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_threshold(level)),
        logger_factory=structlog.WriteLoggerFactory(stream),
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(accept_record)
    logging.basicConfig(handlers=[handler], level=_threshold(libraries), force=True)
    logging.captureWarnings(True)
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**context)


def _threshold(level: str) -> int:
    return logging.getLevelNamesMapping()[level.upper()]


class _BestEffortStream:
    """Writes to ``stream`` and ignores failures: a full disk or a closed pipe must not end the program."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._stream.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


def _add_logger_name(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    return event


def _render_for_terminal(_logger: object, _method: str, event: structlog.types.EventDict) -> str:
    """``HH:MM:SS event key=value``, with the level unless it is info."""
    level, trace = event.pop("level"), event.pop("exception", "")
    words = [str(event.pop("timestamp")), *([] if level == "info" else [f"{level}:"]), str(event.pop("event"))]
    texts = {key: str(value) for key, value in event.items()}
    words += [f"{key}={text!r}" if " " in text else f"{key}={text}" for key, text in texts.items()]
    return " ".join(words) + (f"\n{trace}" if trace else "")
