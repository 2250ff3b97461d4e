"""The conditions of a run over several plans."""

from dataclasses import replace
from datetime import timedelta

from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.status import Phase, Progress, TrainingRunStatus
from aisandbox_operator.decision import CreateJob
from aisandbox_operator.status_fields import own_fields
from operator_objects import (
    NOW,
    QUEUE,
    RUNNING,
    SETTINGS,
    ago,
    condition,
    job,
    planned,
    reconciled,
    run,
    running_pod,
    spec,
)


def test_condition_keeps_its_time_while_its_status_stays() -> None:
    found, _ = reconciled(run(), job(active=1), running_pod())
    later = NOW + timedelta(hours=1)
    step = planned(found, job(active=1), running_pod(), now=later)
    assert step.status is not None
    assert condition(step.status, ConditionType.PROGRESS_STALLED).last_transition_time == "2026-03-01T13:00:00Z"
    assert condition(step.status, ConditionType.RUNNING).last_transition_time == "2026-03-01T12:00:00Z"


def test_conditions_of_others_are_kept_and_not_written() -> None:
    other = Condition(ConditionType.CHECKPOINTS_SAVED, ConditionStatus.FALSE, "DiskFull", "no space")
    found, _ = reconciled(run(TrainingRunStatus(conditions=(other,))), job(active=1), running_pod())
    assert condition(found.status, ConditionType.CHECKPOINTS_SAVED) == other
    assert "CheckpointsSaved" not in [each["type"] for each in own_fields(found.status)["conditions"]]
    assert planned(found, job(active=1), running_pod()).is_empty


def test_trainer_without_reports_has_stalled_until_it_reports_again() -> None:
    silent = replace(RUNNING, progress=Progress(last_updated_time="2026-03-01T11:49:59Z"))
    old = running_pod(started=ago(9000))
    step = planned(run(silent), job(active=1), old)
    assert step.status is not None
    assert condition(step.status, ConditionType.PROGRESS_STALLED).status is ConditionStatus.TRUE
    assert "ProgressStalled" in [event.reason for event in step.events]
    reported = replace(step.status, progress=Progress(last_updated_time="2026-03-01T11:59:59Z"))
    back = planned(run(reported), job(active=1), old)
    assert back.status is not None
    assert condition(back.status, ConditionType.PROGRESS_STALLED).status is ConditionStatus.FALSE
    assert back.requeue_after == SETTINGS.stall_seconds - 1


def test_queued_run_has_the_condition_suspended() -> None:
    queued = run(of=spec(labels=QUEUE))
    step = planned(queued)
    assert step.action == CreateJob(suspended=True, failures_before=0)
    found, waiting = reconciled(queued, job(is_suspended=True, queue="gpus"))
    assert waiting == job(is_suspended=True, queue="gpus")
    assert found.status.phase is Phase.PENDING
    assert condition(found.status, ConditionType.RUNNING).reason == "Queued"
    assert condition(found.status, ConditionType.SUSPENDED).status is ConditionStatus.TRUE
