"""Waiting for a simulator that is slow to open: the status says so, until it has opened."""

from __future__ import annotations

import pytest
from aisandbox_crds import Activity
from aisandbox_environment import SimulatorUnreachable
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.errors import SimulatorGone
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.stop import Stop
from waiting import wait_until


def test_simulator_that_is_slow_to_open_is_in_the_status_while_it_is_waited_for() -> None:
    progress = ProgressTracker()
    progress.activity, progress.warning = Activity.TRAINING, "something else"
    retry = SimulatorRetry(60.0, progress, Stop(), slow_seconds=0.01)
    seen: list[str] = []

    def open_slowly() -> str:
        wait_until(lambda: "has not opened the session" in (progress.warning or ""))
        seen.append(f"{progress.activity}: {progress.warning}")
        return "open"

    assert retry.call(open_slowly) == "open"
    (said,) = seen
    assert said.startswith("WaitingForSimulator: the simulator has not opened the session after 0.01 s")
    assert "SIMULATOR_OPEN_TIMEOUT_SECONDS" in said
    assert (progress.activity, progress.warning) == (Activity.TRAINING, "something else")


def test_simulator_that_opens_soon_leaves_no_warning() -> None:
    progress = ProgressTracker()
    retry = SimulatorRetry(60.0, progress, Stop(), slow_seconds=3600.0)
    before = (progress.activity, progress.warning)
    assert retry.call(lambda: (progress.activity, progress.warning)) == before
    retry._warn_that_it_is_slow()  # as of a watchdog that was late
    assert (progress.activity, progress.warning) == before


def test_simulator_that_never_answers_is_given_up_with_the_last_error() -> None:
    now = iter(range(1000, 9000, 20))
    retry = SimulatorRetry(30.0, ProgressTracker(), Stop(), clock=lambda: float(next(now)))

    def fail() -> None:
        raise SimulatorUnreachable("a:1", "cannot be reached")

    with pytest.raises(SimulatorGone, match="not available for 40 s: simulator a:1: cannot be reached"):
        retry.call(fail)
