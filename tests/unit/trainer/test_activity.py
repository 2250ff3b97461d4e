"""What takes long is an activity of its own, and does not lower the reported speed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from aisandbox_crds.progress import is_training, status_after_last_report, status_after_report
from aisandbox_crds.status import Progress as StatusProgress
from aisandbox_crds.status import ProgressReport, TrainingRunStatus
from aisandbox_crds.status_values import Activity, Artifact
from aisandbox_trainer.runtime.progress import LONG_STEP_SECONDS, LONG_UPDATE_SECONDS, ProgressTracker, Rate, Reporter

NOW = "2026-01-01T00:00:00Z"


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _reporter() -> tuple[Reporter, ProgressTracker, Clock, Any]:
    clock, learner = Clock(), SimpleNamespace(num_timesteps=0, ep_info_buffer=[])
    progress = ProgressTracker(activity=Activity.TRAINING, model=learner, clock=clock)
    start: Any = SimpleNamespace(progress_address=None, run_id="run")
    reporter = Reporter(start, 1, progress)
    reporter._rate = Rate(clock)
    return reporter, progress, clock, learner


def _collect(reporter: Reporter, clock: Clock, learner: Any, seconds: int) -> ProgressReport:
    for _ in range(seconds):
        clock.now += 1
        learner.num_timesteps += 100
        report = reporter._snapshot()
    return report


def test_long_update_is_shown_and_the_speed_stays() -> None:
    reporter, progress, clock, learner = _reporter()
    progress.collecting_starts()
    before = _collect(reporter, clock, learner, 10)
    progress.update_starts()
    clock.now += LONG_UPDATE_SECONDS - 1
    assert reporter._snapshot().activity is Activity.TRAINING
    clock.now += 29
    during = reporter._snapshot()
    assert during.activity is Activity.UPDATING
    assert during.fps == pytest.approx(before.fps, rel=0.2)
    progress.update_ends()
    progress.collecting_starts()
    after = _collect(reporter, clock, learner, 1)
    assert after.activity is Activity.TRAINING
    assert after.fps == pytest.approx(1000 / (9 + LONG_UPDATE_SECONDS + 29), rel=0.2)
    assert _collect(reporter, clock, learner, 5).fps == after.fps


def test_simulator_that_does_not_answer_a_step_is_shown_and_the_speed_stays() -> None:
    reporter, progress, clock, learner = _reporter()
    progress.collecting_starts()
    before = _collect(reporter, clock, learner, 10)
    clock.now += LONG_STEP_SECONDS
    assert (reporter._snapshot().activity, reporter._snapshot().fps) == (Activity.WAITING_FOR_STEP, before.fps)
    assert _collect(reporter, clock, learner, 1).activity is Activity.TRAINING


def test_speed_of_an_attempt_that_resumes_is_of_its_own_steps() -> None:
    reporter, progress, clock, learner = _reporter()
    progress.model, progress.activity = None, Activity.STARTING
    assert _collect(reporter, clock, learner, 2).fps == 0
    learner.num_timesteps = 100_000
    progress.resumed_from = Artifact("checkpoints/100000", 100_000, "sha256:0")
    progress.model, progress.activity = learner, Activity.TRAINING
    assert _collect(reporter, clock, learner, 5).fps <= 100


def test_checkpoint_that_is_found_during_a_report_is_no_speed() -> None:
    class FoundMeanwhile(ProgressTracker):
        @property
        def timesteps(self) -> int:
            before = super().timesteps
            self.resumed_from = Artifact("checkpoints/100000", 100_000, "sha256:0")
            return before

    reporter, _, clock, _ = _reporter()
    reporter._progress = FoundMeanwhile()
    for _ in range(3):
        clock.now += 1
        assert reporter._snapshot().fps == 0


@pytest.mark.parametrize("activity", [Activity.EVALUATING, Activity.WAITING_FOR_SIMULATOR, Activity.STARTING])
def test_other_activities_stay_what_they_are(activity: Activity) -> None:
    _, progress, clock, _ = _reporter()
    progress.collecting_starts()
    progress.activity = activity
    clock.now += 100
    assert progress.shown_activity(100) is activity


@pytest.mark.parametrize("activity", [Activity.UPDATING, Activity.WAITING_FOR_STEP])
def test_new_activities_are_training(activity: Activity) -> None:
    assert is_training(ProgressReport(1, 10, activity))


def test_dropped_steps_are_counted_once_however_often_they_are_reported() -> None:
    before = TrainingRunStatus(timesteps_lost=5)
    status = before
    for dropped in (0, 40, 40, 70):
        report = ProgressReport(1, 100, Activity.TRAINING, timesteps_dropped=dropped)
        status = status_after_report(status, report, before, running=True, total=1000, now=NOW)
        again = status_after_report(status, report, None, running=True, total=1000, now=NOW)
        assert status.timesteps_lost == again.timesteps_lost == 5 + dropped
    last = status_after_last_report(status, ProgressReport(1, 60, timesteps_dropped=90), total=1000, now=NOW)
    assert (last.timesteps_lost, last.progress.timesteps) == (95, 60)


def test_attempt_that_dropped_all_it_took_shows_the_step_it_resumes_from() -> None:
    start = Artifact("checkpoints/100", 100, "sha256:1")
    status = TrainingRunStatus(attempt=2, progress=StatusProgress(timesteps=900, attempt=2))
    report = ProgressReport(2, 100, resumed_from=start, timesteps_dropped=800)
    after = status_after_last_report(status, report, total=1000, now=NOW)
    assert (after.progress.timesteps, after.timesteps_lost) == (100, 800)
