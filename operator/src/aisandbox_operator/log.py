"""The operator's log: events with keys, one JSON object a line unless a person reads along.

Owns the configuration of structlog for this process, and brings what libraries log (kopf, aiohttp) into the same form:
their warnings, and everything at debug. Must not be imported by library modules.
"""

from __future__ import annotations

import logging
import sys

import structlog

_WILL_RETRY = "will retry"


def configure(level: str) -> None:
    """Logs to stderr from ``level`` on (debug, info, warning, error)."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    terminal = sys.stderr.isatty()
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if terminal else "iso", utc=not terminal),
        structlog.processors.format_exc_info,
    ]
    renderer = structlog.dev.ConsoleRenderer() if terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, _with_logger],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    handler.addFilter(_soften)
    logging.basicConfig(
        handlers=[handler], level=logging.WARNING if threshold > logging.DEBUG else threshold, force=True
    )
    logging.getLogger("aisandbox_operator").setLevel(threshold)


def _with_logger(_logger: object, _method: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    record = event.get("_record")
    if isinstance(record, logging.LogRecord):
        event["logger"] = record.name
    return event


def _soften(record: logging.LogRecord) -> bool:
    """A failed call that kopf repeats by itself is no error yet."""
    if record.levelno == logging.ERROR and record.name.startswith("kopf.") and _WILL_RETRY in record.getMessage():
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
