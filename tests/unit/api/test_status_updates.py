from dataclasses import replace
from typing import Any

import pytest
from aisandbox_api.local import status_updates
from aisandbox_api.local.status_updates import AttemptEnd
from aisandbox_crds.status import Phase, ProgressReport
from aisandbox_crds.status_values import Activity, Artifact, Failure
from aisandbox_crds.trainer_exit import ExitCode, TerminationMessage
from aisandbox_crds.trainingrun import TrainingRun

NOW = "2025-01-01T00:00:10.000000Z"
CHECKPOINT = Artifact("checkpoints/400", 400, "sha256:1")


def at_work(run: TrainingRun, timesteps: int = 500) -> TrainingRun:
    begun = status_updates.start_attempt(run, NOW)
    report = ProgressReport(begun.status.attempt, timesteps, Activity.TRAINING, fps=50.0)
    return status_updates.apply_report(begun, report, run.status, NOW)


def test_attempt_begins_with_the_next_number_and_keeps_the_first_start_time(run: TrainingRun) -> None:
    first = status_updates.start_attempt(run, NOW)
    second = status_updates.start_attempt(first, "later")
    assert (first.status.attempt, second.status.attempt) == (1, 2)
    assert (second.status.phase, second.status.start_time) == (Phase.STARTING, NOW)


def test_done_attempt_succeeds_even_if_a_cancel_came_last(run: TrainingRun) -> None:
    wished = replace(at_work(run), spec=replace(run.spec, cancel=True))
    end = AttemptEnd(ExitCode.DONE, TerminationMessage(1, 1000, exit_code=0), stop_asked=True)
    after, _ = status_updates.finish_attempt(wished, end, NOW)
    assert (after.status.phase, after.status.progress.timesteps) == (Phase.SUCCEEDED, 1000)
    assert (after.status.completion_time, after.status.progress.fps) == (NOW, 0)


@pytest.mark.parametrize("code", [ExitCode.CANCELLED, ExitCode.RETRYABLE, ExitCode.PERMANENT, 1, 137, None])
def test_cancelled_run_ends_cancelled_however_its_trainer_ended(run: TrainingRun, code: int | None) -> None:
    wished = replace(at_work(run), spec=replace(run.spec, cancel=True))
    after, _ = status_updates.finish_attempt(wished, AttemptEnd(code, stop_asked=True), NOW)
    assert (after.status.phase, after.status.failure) == (Phase.CANCELLED, None)


def test_permanent_exit_fails_at_once_with_the_trainers_message(run: TrainingRun) -> None:
    failure = Failure("InvalidHyperparameter", "batch_size: too large")
    message = TerminationMessage(1, 0, exit_code=ExitCode.PERMANENT, failure=failure)
    after, _ = status_updates.finish_attempt(at_work(run), AttemptEnd(ExitCode.PERMANENT, message), NOW)
    assert (after.status.phase, after.status.failure, after.status.restarts) == (Phase.FAILED, failure, 0)


def test_stop_that_was_asked_for_costs_nothing(run: TrainingRun) -> None:
    after, delay = status_updates.finish_attempt(at_work(run), AttemptEnd(ExitCode.CANCELLED, stop_asked=True), NOW)
    status = after.status
    assert (status.phase, status.restarts, status.restarts_count_towards_max, delay) == (Phase.PENDING, 0, 0, 0)


def test_stop_from_outside_is_a_restart_that_spends_nothing(run: TrainingRun) -> None:
    after, delay = status_updates.finish_attempt(at_work(run), AttemptEnd(ExitCode.CANCELLED), NOW)
    status = after.status
    assert (status.phase, status.restarts, status.restarts_count_towards_max) == (Phase.PENDING, 1, 0)
    assert delay > 0


@pytest.mark.parametrize("code", [ExitCode.RETRYABLE, 1, 137])
def test_crashes_spend_the_backoff_limit_with_growing_pauses(run: TrainingRun, code: int) -> None:
    delays = []
    for _ in range(run.spec.backoff_limit):
        run, delay = status_updates.finish_attempt(at_work(run), AttemptEnd(code), NOW)
        delays.append(delay)
        assert run.status.phase is Phase.PENDING
        assert "ended" in run.status.progress.warning
    assert delays == [1.0, 2.0]
    run, _ = status_updates.finish_attempt(at_work(run), AttemptEnd(code), NOW)
    assert (run.status.phase, run.status.restarts, run.status.attempt) == (Phase.FAILED, 2, 3)
    assert run.status.failure is not None
    assert "attempt 3" in run.status.failure.message
    assert run.status.progress.warning == ""


def test_backoff_has_an_upper_bound() -> None:
    assert [status_updates.backoff_seconds(n) for n in (1, 2, 6, 7, 1000)] == [1.0, 2.0, 32.0, 60.0, 60.0]


@pytest.mark.parametrize("code", [137, -9])
def test_killed_trainer_is_explained_by_memory(code: int) -> None:
    failure = status_updates.describe(AttemptEnd(code, log_tail=("allocating",)))
    assert failure.reason == "TrainerKilled"
    assert "memory" in failure.message
    assert "allocating" in failure.message


def test_crash_is_explained_by_the_last_lines_of_the_log() -> None:
    failure = status_updates.describe(AttemptEnd(1, log_tail=("Traceback", "ValueError: no")))
    assert failure.reason == "TrainerCrashed"
    assert "exit code 1" in failure.message
    assert "ValueError: no" in failure.message


def test_passed_deadline_fails_with_its_name(run: TrainingRun) -> None:
    run = replace(run, spec=replace(run.spec, active_deadline_seconds=5))
    after, _ = status_updates.finish_attempt(at_work(run), AttemptEnd(ExitCode.CANCELLED, deadline_passed=True), NOW)
    assert after.status.failure is not None
    assert after.status.failure.reason == "DeadlineExceeded"


def test_recovered_run_waits_for_its_next_attempt(run: TrainingRun) -> None:
    recovered = status_updates.recover(at_work(run))
    assert (recovered.status.phase, recovered.status.attempt, recovered.status.restarts) == (Phase.PENDING, 1, 1)
    suspended = status_updates.pause(run, Phase.SUSPENDED)
    assert status_updates.recover(suspended) == suspended


def test_report_of_a_starting_trainer_does_not_set_the_timesteps_back(run: TrainingRun) -> None:
    before, _ = status_updates.finish_attempt(at_work(run), AttemptEnd(1), NOW)
    begun = status_updates.start_attempt(before, NOW)
    starting = status_updates.apply_report(begun, ProgressReport(2, 0), before.status, NOW)
    assert (starting.status.phase, starting.status.progress.timesteps) == (Phase.STARTING, 500)
    assert starting.status.progress.fps == 0


def test_report_counts_what_a_restart_lost(run: TrainingRun) -> None:
    before, _ = status_updates.finish_attempt(at_work(run), AttemptEnd(1), NOW)
    begun = status_updates.start_attempt(before, NOW)
    report = ProgressReport(2, 410, Activity.TRAINING, resumed_from=CHECKPOINT)
    once = status_updates.apply_report(begun, report, before.status, NOW)
    twice = status_updates.apply_report(once, replace(report, timesteps=420), before.status, NOW)
    assert (once.status.timesteps_lost, twice.status.timesteps_lost) == (100, 100)
    assert (twice.status.progress.timesteps, twice.status.resumed_from) == (420, CHECKPOINT)


def test_first_attempt_loses_nothing(run: TrainingRun) -> None:
    assert at_work(run).status.timesteps_lost == 0


def test_full_disk_is_a_condition_until_something_is_saved(run: TrainingRun) -> None:
    before = run

    def report(run: TrainingRun, time: str, **fields: Any) -> TrainingRun:
        said = ProgressReport(1, 100, Activity.TRAINING, **fields)
        return status_updates.apply_report(run, said, before.status, time)

    def saved(run: TrainingRun) -> list[tuple[str, ...]]:
        return [
            (each.type, each.status, each.reason, each.message, each.last_transition_time)
            for each in run.status.conditions
        ]

    run = report(status_updates.start_attempt(run, NOW), "T0")
    assert saved(run) == [], "nothing was due yet"
    run = report(run, "T1", unsaved="no space left")
    assert saved(run) == [("CheckpointsSaved", "False", "DiskFull", "no space left", "T1")]
    run = report(run, "T2", unsaved="no space at all")
    assert saved(run) == [("CheckpointsSaved", "False", "DiskFull", "no space at all", "T1")]
    run = report(run, "T3", latest_checkpoint=CHECKPOINT)
    assert saved(run) == [("CheckpointsSaved", "True", "Saved", "", "T3")]


def test_report_estimates_the_time_that_is_left(run: TrainingRun) -> None:
    progress = at_work(run).status.progress
    assert (progress.progress_percentage, progress.estimated_remaining_seconds) == (50.0, 10.0)


def test_waiting_for_the_simulator_is_starting_before_the_first_step_and_running_after(run: TrainingRun) -> None:
    begun = status_updates.start_attempt(run, NOW)
    report = ProgressReport(1, 0, Activity.WAITING_FOR_SIMULATOR, warning="not there")
    assert status_updates.apply_report(begun, report, run.status, NOW).status.phase is Phase.STARTING
    assert status_updates.apply_report(at_work(run), report, run.status, NOW).status.phase is Phase.RUNNING


@pytest.mark.parametrize(
    ("holders", "said"),
    [
        ({"run-b": "Training", "run-a": "WaitingForSimulator"}, "by: run-a (WaitingForSimulator), run-b (Training)"),
        ({"run-a": ""}, "by: run-a (Starting)"),
        ({f"run-{i}": "Training" for i in range(7)}, "run-4 (Training) and 2 more"),
    ],
)
def test_run_without_a_slot_says_who_has_them(run: TrainingRun, holders: dict[str, str], said: str) -> None:
    activities = {name: (lambda value=value: value) for name, value in holders.items()}
    warned = status_updates.with_warning(run, status_updates.waiting_for_a_slot(len(holders), activities))
    assert warned.status.progress.warning.startswith(f"waiting for a trainer slot; all {len(holders)} ")
    assert warned.status.progress.warning.endswith(said)
