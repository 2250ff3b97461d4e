"""The plan as a whole: which actions, events and writes follow from a decision, and in which order."""

from datetime import timedelta

from aisandbox_crds.conditions import ConditionStatus, ConditionType
from aisandbox_crds.status import Phase
from aisandbox_crds.status_values import Failure
from aisandbox_operator.decision import CreateJob
from operator_objects import (
    NOW,
    QUEUE,
    RUNNING,
    ago,
    condition,
    job,
    planned,
    reconciled,
    run,
    running_pod,
    spec,
)


def test_new_run_gets_a_job_and_starts() -> None:
    step = planned(run())
    assert step.action == CreateJob(suspended=False, failures_before=0)
    assert step.status is not None
    assert step.status.phase is Phase.STARTING
    assert step.status.observed_generation == 1
    assert [event.reason for event in step.events] == ["JobCreated"]


def test_running_trainer_makes_the_run_running_since_its_start() -> None:
    step = planned(run(), job(active=1), running_pod())
    assert step.action is None
    assert step.status is not None
    assert step.status.phase is Phase.RUNNING
    assert step.status.start_time == "2026-03-01T11:59:20Z"
    assert condition(step.status, ConditionType.RUNNING).status is ConditionStatus.TRUE
    assert [event.reason for event in step.events] == ["TrainerRunning"]


def test_unchanged_run_has_an_empty_plan() -> None:
    found, _ = reconciled(run(), job(active=1), running_pod())
    assert planned(found, job(active=1), running_pod()).is_empty


def test_deleted_job_is_created_again_only_after_its_pods_have_ended() -> None:
    step = planned(run(RUNNING), None, running_pod(deletion_time=NOW + timedelta(seconds=60)))
    assert step.action is None
    assert step.requeue_after is not None
    over = planned(run(RUNNING), None, running_pod(deletion_time=ago(3600)))
    assert isinstance(over.action, CreateJob)


def test_run_with_an_unreadable_spec_fails_and_its_job_is_deleted() -> None:
    found, left = reconciled(
        run(RUNNING, spec=None, problem="spec.algorithm: is required"), job(active=1), running_pod()
    )
    assert found.status.phase is Phase.FAILED
    assert left is not None
    assert left.is_being_deleted


def test_job_is_deleted_only_after_its_counts_are_recorded() -> None:
    step = planned(
        run(RUNNING, of=spec(labels=QUEUE, cancel=True)), job(active=1, failed=2, queue="gpus"), running_pod()
    )
    assert step.action is None
    assert step.status is not None
    assert step.status.restarts_count_towards_max == 2
    assert step.requeue_after == 0.0


def test_run_with_an_invalid_spec_fails_before_anything_is_created() -> None:
    step = planned(run(problem="spec.hyperparameters.gamma: must be at most 1"))
    assert step.action is None
    assert step.status is not None
    assert step.status.failure == Failure("InvalidRun", "spec.hyperparameters.gamma: must be at most 1")
    assert [(event.reason, event.is_warning) for event in step.events] == [("InvalidRun", True)]
