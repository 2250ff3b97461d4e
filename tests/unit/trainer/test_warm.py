"""A request and a SIGTERM at the same time; whole attempts are in tests/integration."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from aisandbox_trainer.warm.fork_server import _Forks

CHILD = 4_000_000
"""Above the highest process id there is."""


@pytest.fixture
def forks() -> Iterator[_Forks]:
    forks = _Forks()
    before = signal.signal(signal.SIGTERM, forks._stop)
    yield forks
    signal.signal(signal.SIGTERM, before)
    for descriptor in (*forks.lifeline, *forks.wakeup):
        os.close(descriptor)


def _request(folder: Path) -> bytes:
    return json.dumps({"id": "one", "environ": {}, "log_path": str(folder / "log")}).encode()


def test_sigterm_during_a_fork_reaches_the_new_child(
    forks: _Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fork() -> int:
        signal.raise_signal(signal.SIGTERM)
        return CHILD

    told: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr(os, "kill", lambda *call: told.append(call))
    forks._handle(_request(tmp_path))
    assert told == [(CHILD, signal.SIGTERM)]
    assert forks.children == {CHILD: "one"}


def test_sigterm_before_a_fork_leaves_no_child(
    forks: _Forks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    real = os.open

    def late(*arguments: object) -> int:
        signal.raise_signal(signal.SIGTERM)
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", late)
    monkeypatch.setattr(os, "fork", lambda: CHILD)
    forks._handle(_request(tmp_path))
    assert forks.children == {}
    answer = json.loads(capfd.readouterr().out)
    assert answer == {"id": "one", "error": "stopping, no more attempts are started"}
