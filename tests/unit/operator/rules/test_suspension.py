"""Suspend and cancel: the rules of ``suspension``, a row a case, and what follows over several plans."""

from dataclasses import replace

import pytest
from aisandbox_crds.conditions import ConditionStatus, ConditionType
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_operator.decision import CreateJob, DeleteJob, SuspendJob
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.suspension import cancel, suspend
from operator_objects import (
    JOB_UID,
    NOW,
    QUEUE,
    RUNNING,
    condition,
    ended_pod,
    ending,
    job,
    planned,
    reconciled,
    run,
    running_pod,
    spec,
)
from rule_cases import Decided, check, observed, table

CANCEL, SUSPEND = run(RUNNING, of=spec(cancel=True)), run(RUNNING, of=spec(suspend=True))
QUEUED_CANCEL = run(RUNNING, of=spec(cancel=True, labels=QUEUE))
QUEUED_SUSPEND = run(RUNNING, of=spec(suspend=True, labels=QUEUE))
STOP = SuspendJob(JOB_UID, suspended=True)
CANCELLED = Decided(Phase.CANCELLED, Reason.CANCELLED)
SUSPENDED = Decided(Phase.SUSPENDED, Reason.SUSPENDED)
ACTIVE, STOPPED = job(active=1), job(is_suspended=True)
KUEUES, KUEUES_STOPPED = job(active=1, queue="gpus"), job(is_suspended=True, queue="gpus")


@table(
    ("a run that is not cancelled continues", observed(run(RUNNING), ACTIVE), None),
    ("a run without a Job is cancelled at once", observed(run(of=spec(cancel=True))), CANCELLED),
    (
        "the Job is suspended so that its trainer stops",
        observed(CANCEL, ACTIVE, running_pod()),
        Decided(Phase.RUNNING, Reason.CANCELLING, STOP),
    ),
    (
        "a Job of Kueue is deleted",
        observed(QUEUED_CANCEL, KUEUES),
        Decided(Phase.RUNNING, Reason.CANCELLING, DeleteJob(JOB_UID)),
    ),
    (
        "a trainer that is stopping is waited for",
        observed(CANCEL, STOPPED, running_pod(deletion_time=NOW)),
        Decided(Phase.RUNNING, Reason.CANCELLING),
    ),
    (
        "a Job whose controller has not acted is waited for",
        observed(CANCEL, job(is_suspended=True, has_settled=False)),
        Decided(Phase.RUNNING, Reason.CANCELLING),
    ),
    ("the run is cancelled when its trainer has stopped", observed(CANCEL, STOPPED, ended_pod(143)), CANCELLED),
)
def test_cancel(state: ObservedState, decided: Decided | None) -> None:
    check(cancel(state), decided)


@table(
    ("a run that is not suspended continues", observed(run(RUNNING), ACTIVE), None),
    (
        "a run without a Job gets a suspended one",
        observed(run(replace(RUNNING, restarts_count_towards_max=2), of=spec(suspend=True))),
        Decided(Phase.SUSPENDED, Reason.SUSPENDED, CreateJob(suspended=True, failures_before=2)),
    ),
    ("a run of Kueue without a Job gets none", observed(QUEUED_SUSPEND), SUSPENDED),
    (
        "a run whose Job the API server refuses is suspended without one",
        observed(run(of=spec(suspend=True)), job_refusal="403: exceeded quota"),
        SUSPENDED,
    ),
    (
        "the Job is suspended so that its trainer stops",
        observed(SUSPEND, ACTIVE, running_pod()),
        Decided(Phase.RUNNING, Reason.SUSPENDING, STOP),
    ),
    (
        "a Job of Kueue is deleted",
        observed(QUEUED_SUSPEND, KUEUES, running_pod()),
        Decided(Phase.RUNNING, Reason.SUSPENDING, DeleteJob(JOB_UID)),
    ),
    (
        "a Job of Kueue is deleted also when it has stopped",
        observed(QUEUED_SUSPEND, KUEUES_STOPPED),
        Decided(Phase.RUNNING, Reason.SUSPENDING, DeleteJob(JOB_UID)),
    ),
    ("the run is suspended when its trainer has stopped", observed(SUSPEND, STOPPED, ended_pod(143)), SUSPENDED),
)
def test_suspend(state: ObservedState, decided: Decided | None) -> None:
    check(suspend(state), decided)


def test_cancelled_run_has_the_progress_of_its_trainer_and_its_job_is_deleted() -> None:
    found, left = reconciled(CANCEL, STOPPED, ended_pod(143, termination_message=ending(1, 143, 700)))
    assert found.status.phase is Phase.CANCELLED
    assert found.status.progress.timesteps == 700
    assert left is not None
    assert left.is_being_deleted


def test_cancel_of_a_suspended_run_ends_it() -> None:
    found, _ = reconciled(run(replace(RUNNING, phase=Phase.SUSPENDED), of=spec(cancel=True)), STOPPED)
    assert found.status.phase is Phase.CANCELLED


def test_suspend_counts_once() -> None:
    found, _ = reconciled(SUSPEND, STOPPED)
    assert found.status.phase is Phase.SUSPENDED
    assert (found.status.suspensions, found.status.restarts) == (1, 0)
    assert condition(found.status, ConditionType.SUSPENDED).status is ConditionStatus.TRUE
    again, _ = reconciled(found, STOPPED)
    assert again.status.suspensions == 1


def test_run_created_suspended_has_no_suspension() -> None:
    step = planned(run(of=spec(suspend=True)))
    assert step.status is not None
    assert (step.status.phase, step.status.suspensions) == (Phase.SUSPENDED, 0)


@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.SUSPENDED])
def test_trainer_that_was_not_seen_running_is_recorded_before_it_is_suspended(phase: Phase) -> None:
    wish = run(replace(RUNNING, phase=phase, suspensions=1, attempt=1), of=spec(suspend=True))
    first = planned(wish, ACTIVE, running_pod())
    assert first.action is None, "the pod is the only record of it"
    assert first.status is not None
    assert first.status.phase is Phase.RUNNING
    then = planned(run(first.status, of=spec(suspend=True)), ACTIVE, running_pod())
    assert then.action == STOP
    paused, _ = reconciled(run(first.status, of=spec(suspend=True)), STOPPED)
    assert (paused.status.suspensions, paused.status.restarts) == (2, 0)


def test_suspend_of_a_queued_run_gives_its_quota_back() -> None:
    found, left = reconciled(QUEUED_SUSPEND, job(active=1, failed=1, queue="gpus"), running_pod())
    assert left is not None
    assert left.is_being_deleted
    assert found.status.restarts_count_towards_max == 1
    done, none = reconciled(found, None)
    assert done.status.phase is Phase.SUSPENDED
    assert none is None
