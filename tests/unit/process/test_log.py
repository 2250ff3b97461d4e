"""What the logs of all processes look like to people and to machines."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
import warnings
from collections.abc import Iterator

import pytest
import structlog
from aisandbox_operator.__main__ import configure_log
from aisandbox_process import log


class Stderr(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, configured = root.handlers[:], root.level, structlog.get_config()
    yield
    structlog.configure(**configured)
    structlog.contextvars.clear_contextvars()
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)


def _logged(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> str:
    stderr = Stderr(terminal)
    monkeypatch.setattr("sys.stderr", stderr)
    log.configure("info")
    logger = structlog.get_logger()
    logger.debug("unheard")
    logger.info("service listens", address="127.0.0.1:1", seconds=0.5)
    logger.warning("not saved", error="the disk is full")
    return stderr.getvalue()


def test_log_on_a_terminal_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = _logged(monkeypatch, terminal=True).splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d service listens address=127.0.0.1:1 seconds=0.5", first)
    assert second.endswith(" warning: not saved error='the disk is full'")


def test_log_on_a_terminal_has_the_traceback_below(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Stderr(terminal=True)
    monkeypatch.setattr("sys.stderr", stderr)
    log.configure("info")
    try:
        raise ValueError("broken")
    except ValueError:
        structlog.get_logger().exception("it broke", run="r")
    first, second, *_, last = stderr.getvalue().splitlines()
    assert first.endswith("error: it broke run=r")
    assert second.startswith("Traceback")
    assert last == "ValueError: broken"


def test_log_elsewhere_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = map(json.loads, _logged(monkeypatch, terminal=False).splitlines())
    assert (first["event"], first["address"], first["level"]) == ("service listens", "127.0.0.1:1", "info")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", first["timestamp"])
    assert second["error"] == "the disk is full"


class FullDisk(Stderr):
    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def flush(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_log_that_cannot_be_written_does_not_end_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", FullDisk(terminal=False))
    log.configure("info")
    structlog.get_logger().warning("not saved, the disk is full")
    logging.getLogger("somebody").warning("not saved either")


def _heard(monkeypatch: pytest.MonkeyPatch) -> Stderr:
    stderr = Stderr(terminal=False)
    monkeypatch.setattr("sys.stderr", stderr)
    return stderr


def test_warnings_of_libraries_are_logged_in_the_same_form(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = _heard(monkeypatch)
    log.configure("debug", run="r")
    logging.getLogger("kubernetes.client").debug("a token may be in here")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("asyncio").exception("it %s", "broke")
    warnings.warn("old", DeprecationWarning, stacklevel=1)
    broke, old = map(json.loads, stderr.getvalue().splitlines())
    assert (broke["event"], broke["logger"], broke["level"], broke["run"]) == ("it broke", "asyncio", "error", "r")
    assert broke["exception"].endswith("ValueError: broken")
    assert "DeprecationWarning: old" in old["event"]


def test_what_kopf_repeats_by_itself_is_no_error_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = _heard(monkeypatch)
    configure_log("info")
    logging.getLogger("kopf._core.reactor").error("Request attempt #1/9 failed; will retry")
    logging.getLogger("kopf._core.reactor").error("it is over")
    logging.getLogger("kopf._core.reactor").info("not of interest")
    assert [json.loads(line)["level"] for line in stderr.getvalue().splitlines()] == ["warning", "error"]


def test_operator_at_debug_logs_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = _heard(monkeypatch)
    configure_log("debug")
    logging.getLogger("kopf").debug("a detail")
    assert json.loads(stderr.getvalue())["event"] == "a detail"


def test_context_is_that_of_the_last_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = _heard(monkeypatch)
    log.configure("info", run="r", attempt=1)
    log.configure("info", run="s")
    structlog.get_logger().info("here")
    line = json.loads(stderr.getvalue())
    assert (line["run"], "attempt" in line) == ("s", False)
