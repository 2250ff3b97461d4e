from dataclasses import replace
from typing import Any

import pytest
from aisandbox_api.errors import AttemptOver
from aisandbox_api.kubernetes.live_progress import LiveProgress, accept_report, is_urgent, looks_same, shown_run
from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.status import Phase, Progress, ProgressReport
from aisandbox_crds.status_values import Activity, Artifact, Failure
from aisandbox_crds.trainingrun import TrainingRun

NOW, LATER = "2025-01-01T00:00:01.000000Z", "2025-01-01T00:00:02.000000Z"
CHECKPOINT = Artifact("checkpoints/400", 400, "sha256:c")


def in_phase(run: TrainingRun, phase: Phase, **status: Any) -> TrainingRun:
    return replace(run, status=replace(run.status, phase=phase, **status))


def report(timesteps: int = 410, attempt: int = 1, **fields: Any) -> ProgressReport:
    return ProgressReport(attempt, timesteps, **{"activity": Activity.TRAINING, "fps": 50.0, **fields})


def test_trainer_that_loads_makes_a_running_pod_a_starting_run(run: TrainingRun) -> None:
    running = in_phase(run, Phase.RUNNING)
    live = accept_report(running, None, report(0, activity=Activity.STARTING), NOW)
    assert shown_run(running, live).status.phase is Phase.STARTING
    live = accept_report(running, live, report(10), NOW)
    assert shown_run(running, live).status.phase is Phase.RUNNING
    waiting = accept_report(running, live, report(10, activity=Activity.WAITING_FOR_SIMULATOR), NOW)
    assert shown_run(running, waiting).status.phase is Phase.RUNNING


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.STARTING, Phase.SUSPENDED, Phase.CANCELLED])
def test_run_without_a_trainer_has_no_pace(run: TrainingRun, phase: Phase) -> None:
    live = accept_report(in_phase(run, Phase.RUNNING), None, report(), NOW)
    progress = shown_run(in_phase(run, phase, progress=live.status.progress), live).status.progress
    assert (progress.timesteps, progress.fps, progress.estimated_remaining_seconds) == (410, 0, None)
    assert progress.activity == ("Starting" if phase is Phase.STARTING else "")


@pytest.mark.parametrize("phase", [Phase.PENDING, Phase.STARTING])
def test_what_keeps_a_pod_from_starting_is_a_warning(run: TrainingRun, phase: Phase) -> None:
    words = "the image cannot be pulled"
    condition = Condition(ConditionType.RUNNING, ConditionStatus.FALSE, "ImagePullBackOff", words)
    assert shown_run(in_phase(run, phase, conditions=(condition,)), None).status.progress.warning == words
    assert shown_run(in_phase(run, Phase.SUSPENDED, conditions=(condition,)), None).status.progress.warning == ""
    condition = replace(condition, reason="TrainerStarting", message="the trainer's pod is being started")
    assert shown_run(in_phase(run, phase, conditions=(condition,)), None).status.progress.warning == ""


def test_node_that_does_not_answer_is_a_warning(run: TrainingRun) -> None:
    condition = Condition(ConditionType.RUNNING, ConditionStatus.UNKNOWN, "NodeLost", "the node 'a' does not answer")
    shown = shown_run(in_phase(run, Phase.RUNNING, conditions=(condition,)), None).status
    assert shown.progress.warning == condition.message
    condition = replace(condition, status=ConditionStatus.TRUE, reason="TrainerRunning")
    assert shown_run(in_phase(run, Phase.RUNNING, conditions=(condition,)), None).status.progress.warning == ""


def test_end_is_what_the_cluster_says(run: TrainingRun) -> None:
    live = accept_report(in_phase(run, Phase.RUNNING), None, report(warning="slow"), NOW)
    progress = Progress(timesteps=1000, warning="slow", fps=50.0)
    done = shown_run(in_phase(run, Phase.FAILED, progress=progress, failure=Failure("R", "m")), live).status
    assert (done.progress.timesteps, done.progress.warning, done.progress.fps) == (1000, "", 0)


def test_newer_of_two_reports_is_shown(run: TrainingRun) -> None:
    running = in_phase(run, Phase.RUNNING)
    live = accept_report(running, None, report(410), NOW)
    elsewhere = in_phase(run, Phase.RUNNING, progress=Progress(timesteps=600, attempt=1, last_updated_time=LATER))
    assert shown_run(elsewhere, live).status.progress.timesteps == 600
    another_attempt = in_phase(run, Phase.RUNNING, progress=Progress(timesteps=5, attempt=2, last_updated_time=NOW))
    assert shown_run(another_attempt, replace(live)).status.progress.timesteps == 5
    assert shown_run(another_attempt, live).status.attempt == 2


def test_reports_of_a_deleted_run_are_not_those_of_its_successor(run: TrainingRun) -> None:
    live = accept_report(in_phase(replace(run, uid="old"), Phase.RUNNING), None, report(410), NOW)
    successor = in_phase(replace(run, uid="new"), Phase.RUNNING)
    assert shown_run(successor, live).status.progress.timesteps == 0
    assert accept_report(successor, live, report(20), LATER).status.progress.timesteps == 20


def test_restart_counts_what_it_lost_once(run: TrainingRun) -> None:
    running = in_phase(run, Phase.RUNNING)
    live = accept_report(running, None, report(500), NOW)
    starting = accept_report(running, live, report(0, attempt=2, activity=Activity.STARTING), NOW)
    assert (starting.status.progress.timesteps, starting.status.timesteps_lost) == (500, 0)
    resumed = accept_report(running, starting, report(405, attempt=2, resumed_from=CHECKPOINT), NOW)
    again = accept_report(running, resumed, report(450, attempt=2, resumed_from=CHECKPOINT), NOW)
    assert (resumed.status.timesteps_lost, again.status.timesteps_lost) == (100, 100)
    assert again.status.resumed_from == CHECKPOINT


@pytest.mark.parametrize(
    ("activity", "lost"), [(Activity.STARTING, 100), (Activity.TRAINING, 0), (Activity.WAITING_FOR_SIMULATOR, 0)]
)
def test_attempt_taken_over_from_another_process_is_counted_once(
    run: TrainingRun, activity: Activity, lost: int
) -> None:
    progress = Progress(timesteps=500, attempt=2, activity=activity, last_updated_time=NOW)
    running = in_phase(run, Phase.RUNNING, progress=progress, attempt=2)
    assert (
        accept_report(running, None, report(405, attempt=2, resumed_from=CHECKPOINT), NOW).status.timesteps_lost == lost
    )


def test_late_report_of_a_suspended_trainer_does_not_replace_its_termination_message(run: TrainingRun) -> None:
    paused = in_phase(
        run, Phase.SUSPENDED, attempt=1, progress=Progress(timesteps=630, attempt=1, last_updated_time=NOW)
    )
    with pytest.raises(AttemptOver):
        accept_report(paused, None, report(600), LATER)
    assert accept_report(paused, None, report(640), LATER).status.progress.timesteps == 640, "its words were not heard"
    assert accept_report(paused, None, report(5, attempt=2), LATER).status.progress.timesteps == 5


def test_report_of_a_run_that_is_done_is_over(run: TrainingRun) -> None:
    with pytest.raises(AttemptOver):
        accept_report(in_phase(run, Phase.SUCCEEDED), None, report(), NOW)


def test_artefact_keeps_the_time_of_its_first_report(run: TrainingRun) -> None:
    running = in_phase(run, Phase.RUNNING)
    first = accept_report(running, None, report(latest_checkpoint=CHECKPOINT), NOW)
    second = accept_report(running, first, report(latest_checkpoint=CHECKPOINT), LATER)
    assert second.status.latest_checkpoint == replace(CHECKPOINT, time=NOW)


@pytest.mark.parametrize(
    ("fields", "urgent"),
    [
        ({"timesteps": 420}, False),
        ({"activity": Activity.EVALUATING}, True),
        ({"attempt": 2}, True),
        ({"latest_checkpoint": CHECKPOINT}, True),
        ({"warning": "simulator not reachable"}, True),
        ({"timesteps": 1000}, True),
        ({"fps": 1.0, "episode_reward_mean": 3.0}, False),
    ],
)
def test_what_others_should_know_at_once_is_urgent(run: TrainingRun, fields: dict[str, Any], urgent: bool) -> None:
    running = in_phase(run, Phase.RUNNING)
    before = accept_report(running, None, report(), NOW)
    after: LiveProgress = accept_report(running, before, report(**{"timesteps": 410, **fields}), LATER)
    assert is_urgent(before.status, after.status) is urgent


def test_versions_and_conditions_are_invisible_to_clients(run: TrainingRun) -> None:
    condition = Condition(ConditionType.RUNNING, ConditionStatus.TRUE, "TrainerRuns")
    changed = replace(run, resource_version="7", status=replace(run.status, conditions=(condition,)))
    assert looks_same(run, changed)
    assert not looks_same(run, in_phase(run, Phase.RUNNING))
