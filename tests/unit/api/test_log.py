"""What the servers' logs look like to people and to machines."""

from __future__ import annotations

import errno
import inspect
import io
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from aisandbox_api import log
from aisandbox_inference import log as inference_log
from aisandbox_trainer import log as trainer_log


class Stderr(io.StringIO):
    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    yield
    structlog.reset_defaults()


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


@pytest.mark.parametrize("module", [log, inference_log, trainer_log])
def test_log_that_cannot_be_written_ends_nothing(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", FullDisk(terminal=False))
    module.configure("info")
    structlog.get_logger().warning("not saved, the disk is full")


@pytest.mark.parametrize("part", ["_for_people", "_Forgiving"])
@pytest.mark.parametrize("other", [inference_log, trainer_log])
def test_log_lines_of_all_processes_are_alike(other: object, part: str) -> None:
    assert inspect.getsource(getattr(other, part)) == inspect.getsource(getattr(log, part))
