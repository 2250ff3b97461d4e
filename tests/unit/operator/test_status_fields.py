"""The operator's part of a status, above all the progress of a termination message."""

from dataclasses import replace

from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.status import Phase, Progress
from aisandbox_crds.status_values import Artifact
from aisandbox_operator.observed_objects import RelatedObjects
from aisandbox_operator.plan import plan
from aisandbox_operator.status_fields import own_fields
from operator_objects import (
    NOW,
    RUNNING,
    SETTINGS,
    ago,
    condition,
    ended_pod,
    ending,
    job,
    planned,
    reconciled,
    run,
    spec,
)


def test_succeeded_run_has_the_progress_of_its_termination_message() -> None:
    over = ended_pod(0, termination_message=ending(2, 0, timesteps=1000))
    step = planned(run(RUNNING), job(end="Complete", ended=ago(3)), over)
    assert step.status is not None
    assert step.status.phase is Phase.SUCCEEDED
    assert step.status.completion_time == "2026-03-01T11:59:57Z"
    assert step.status.attempt == 2
    assert step.status.restarts == 1
    assert (step.status.progress.timesteps, step.status.progress.progress_percentage) == (1000, 100.0)


def test_termination_message_of_an_older_attempt_does_not_set_progress_back() -> None:
    status = replace(RUNNING, attempt=2, progress=Progress(timesteps=900, attempt=2))
    step = planned(run(status), job(end="Complete"), ended_pod(143, termination_message=ending(1, 143, timesteps=100)))
    assert step.status is not None
    assert step.status.progress.timesteps == 900


def test_suspended_run_has_the_progress_of_its_termination_message() -> None:
    reported = Progress(timesteps=600, total_timesteps=1000, attempt=1, last_updated_time="2026-03-01T12:00:00.900000Z")
    known = Artifact("checkpoints/600", 600, "sha256:6", time="2026-03-01T11:59:00Z")
    status = replace(RUNNING, attempt=1, progress=reported, latest_checkpoint=known)
    saved = Artifact("checkpoints/630", 630, "sha256:7")
    over = ended_pod(143, termination_message=replace(ending(1, 143, timesteps=630), latest_checkpoint=saved))
    paused, _ = reconciled(run(status, of=spec(suspend=True)), job(is_suspended=True), over)
    assert paused.status.phase is Phase.SUSPENDED
    assert paused.status.latest_checkpoint == saved
    assert (paused.status.progress.timesteps, paused.status.progress.progress_percentage) == (630, 63.0)
    assert (paused.status.progress.last_updated_time or "") > (reported.last_updated_time or "")
    assert "latestCheckpoint" in own_fields(replace(paused.status, phase=Phase.STARTING))
    assert own_fields(replace(paused.status, phase=Phase.STARTING))["progress"]["timesteps"] == 630
    same = replace(ending(1, 143, timesteps=600), latest_checkpoint=replace(known, time=None))
    paused, _ = reconciled(
        run(status, of=spec(suspend=True)), job(is_suspended=True), ended_pod(143, termination_message=same)
    )
    assert paused.status.latest_checkpoint == known


def test_progress_of_a_termination_message_is_newer_than_every_report() -> None:
    reported = Progress(timesteps=600, attempt=1, last_updated_time="2026-03-01T12:00:05.500000Z")
    over = ended_pod(143, termination_message=ending(2, 143, timesteps=700))
    wish = run(replace(RUNNING, attempt=1, progress=reported), of=spec(suspend=True))
    paused, _ = reconciled(wish, job(is_suspended=True), over)
    assert (paused.status.progress.attempt, paused.status.progress.timesteps) == (2, 700)
    assert paused.status.progress.last_updated_time == "2026-03-01T12:00:05.500001Z"
    assert own_fields(paused.status)["progress"]["attempt"] == 2


def test_trainer_that_was_stopped_before_it_trained_does_not_set_timesteps_back() -> None:
    status = replace(RUNNING, attempt=2, progress=Progress(timesteps=600, attempt=2))
    over = ended_pod(143, termination_message=ending(2, 143, timesteps=0))
    paused, _ = reconciled(run(status, of=spec(suspend=True)), job(is_suspended=True), over)
    assert paused.status.progress.timesteps == 600


def test_trainer_that_was_stopped_before_it_continued_does_not_set_timesteps_back() -> None:
    status = replace(RUNNING, attempt=2, progress=Progress(timesteps=600, attempt=1))
    words = replace(ending(2, 143, timesteps=500), resumed_from=Artifact("checkpoints/500", 500, "d"))
    paused, _ = reconciled(
        run(status, of=spec(suspend=True)), job(is_suspended=True), ended_pod(143, termination_message=words)
    )
    assert paused.status.progress.timesteps == 600


def test_succeeded_run_has_the_condition_checkpoints_saved() -> None:
    full = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.FALSE, "DiskFull", "no space")
    status = replace(RUNNING, conditions=(full,))
    done = planned(run(status), job(end="Complete"), ended_pod(0, termination_message=ending(1, 0)))
    assert done.status is not None
    assert condition(done.status, ConditionType.CHECKPOINTS_SAVED).status is ConditionStatus.TRUE
    assert "CheckpointsSaved" in [each["type"] for each in own_fields(done.status)["conditions"]]


def test_recorded_termination_message_of_a_deleted_pod_counts_as_the_pods_own() -> None:
    related = RelatedObjects(job(is_suspended=True), recorded_messages=(ending(3, 143, 640),))
    found = plan(run(RUNNING, of=spec(cancel=True)), related, SETTINGS, NOW)
    assert found.status is not None
    assert found.status.phase is Phase.CANCELLED
    assert (found.status.attempt, found.status.progress.timesteps) == (3, 640)
