"""A pod that does not start: ``start_failure.handle_start_failure``, a row a rule."""

from dataclasses import replace
from datetime import timedelta

import pytest
from aisandbox_crds.conditions import Condition, ConditionStatus, ConditionType
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_operator.observed_objects import ObservedRun
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.start_failure import handle_start_failure
from operator_objects import NOW, RUNNING, ago, condition, job, planned, pod, reconciled, run, running_pod
from rule_cases import Decided, check, observed, table

STUCK = {"phase": "Pending", "scheduled": ago(1999), "created": ago(2000)}
ACTIVE = job(active=1)
ATTENTION = frozenset({"needs_attention"})
STALLED = frozenset({"needs_attention", "has_stalled"})
NO_CLAIM = '0/1 nodes are available: persistentvolumeclaim "aisandbox-models" not found.'


def waits(reason: Reason, requeue_after: float = 600, message: str = "") -> Decided:
    return Decided(Phase.STARTING, reason, requeue_after=requeue_after, message=message, flags=STALLED)


def seen_since(time: str, reason: Reason = Reason.CANNOT_START) -> ObservedRun:
    stalled = Condition(ConditionType.PROGRESS_STALLED, ConditionStatus.TRUE, reason, last_transition_time=time)
    return run(replace(RUNNING, conditions=(stalled,)))


@table(
    ("a pod that runs has no trouble", observed(run(), ACTIVE, running_pod(waits_for="ErrImagePull")), None),
    (
        "a pod whose container is being created has none",
        observed(run(), ACTIVE, pod(waits_for="ContainerCreating")),
        None,
    ),
    ("a pod of a suspended Job is left alone", observed(run(), job(is_suspended=True), pod(**STUCK)), None),
    (
        "a pod that is being deleted is left alone",
        observed(run(), ACTIVE, pod(**STUCK, waits_for="ErrImagePull", deletion_time=NOW)),
        None,
    ),
    *(
        (
            f"{waits_for} waits for the deadline, whatever the pod did since it got its node",
            observed(run(), ACTIVE, pod(**STUCK, waits_for=waits_for, wait_message="as it is")),
            waits(reason, message=": as it is"),
        )
        for waits_for, reason in [
            ("ErrImagePull", Reason.IMAGE_PULL_BACK_OFF),
            ("ImagePullBackOff", Reason.IMAGE_PULL_BACK_OFF),
            ("RegistryUnavailable", Reason.IMAGE_PULL_BACK_OFF),
            ("ErrImageNeverPull", Reason.ERR_IMAGE_NEVER_PULL),
            ("InvalidImageName", Reason.INVALID_IMAGE_NAME),
            ("ImageInspectError", Reason.IMAGE_INSPECT_ERROR),
            ("CreateContainerConfigError", Reason.CREATE_CONTAINER_CONFIG_ERROR),
            ("CreateContainerError", Reason.CREATE_CONTAINER_ERROR),
            ("RunContainerError", Reason.RUN_CONTAINER_ERROR),
        ]
    ),
    (
        "the image in the message is the pod's",
        observed(run(), ACTIVE, pod(**STUCK, waits_for="ErrImagePull", image="example.com/wrong:1")),
        waits(Reason.IMAGE_PULL_BACK_OFF, message="'example.com/wrong:1' cannot be pulled"),
    ),
    (
        "a missing claim waits for the deadline",
        observed(run(), ACTIVE, pod(unscheduled="Unschedulable", unscheduled_message=NO_CLAIM)),
        waits(Reason.CLAIM_NOT_FOUND, message="MODELS_CLAIM"),
    ),
    (
        "the time is counted from when it was first seen",
        observed(seen_since("2026-03-01T11:50:10Z"), ACTIVE, pod(**STUCK, waits_for="ErrImagePull")),
        waits(Reason.IMAGE_PULL_BACK_OFF, requeue_after=10),
    ),
    (
        "the run fails at the deadline",
        observed(seen_since("2026-03-01T11:50:00Z"), ACTIVE, pod(**STUCK, waits_for="ErrImagePull")),
        Decided(Phase.FAILED, Reason.IMAGE_PULL_BACK_OFF, message="(given up after 600 s)"),
    ),
    (
        "time without progress is not time without a start",
        observed(
            seen_since("2026-03-01T09:00:00Z", Reason.NO_PROGRESS), ACTIVE, pod(**STUCK, waits_for="ErrImagePull")
        ),
        waits(Reason.IMAGE_PULL_BACK_OFF),
    ),
    (
        "a pod for which no node has room waits without end",
        observed(
            run(),
            ACTIVE,
            pod(unscheduled="Unschedulable", unscheduled_message="Insufficient cpu", created=ago(10**6)),
        ),
        Decided(Phase.STARTING, Reason.UNSCHEDULABLE, message="Insufficient cpu", flags=ATTENTION),
    ),
)
def test_pod_that_cannot_start(state: ObservedState, decided: Decided | None) -> None:
    check(handle_start_failure(state), decided)


@pytest.mark.parametrize("waits_for", ["ErrImagePull", "CreateContainerConfigError"])
def test_run_whose_pod_cannot_start_fails_at_the_deadline_and_its_job_is_deleted(waits_for: str) -> None:
    stuck = pod(**STUCK, waits_for=waits_for)
    first = planned(run(), ACTIVE, stuck)
    assert first.status is not None
    assert condition(first.status, ConditionType.RUNNING).reason == first.events[0].reason
    assert condition(first.status, ConditionType.PROGRESS_STALLED).reason == Reason.CANNOT_START
    seen = run(first.status)
    assert planned(seen, ACTIVE, stuck, now=NOW + timedelta(seconds=590)).requeue_after == 10
    found, left = reconciled(seen, ACTIVE, stuck, now=NOW + timedelta(seconds=600))
    assert found.status.phase is Phase.FAILED
    assert left is not None
    assert left.is_being_deleted


def test_trouble_that_ended_and_came_back_has_its_whole_deadline_again() -> None:
    stuck = pod(**STUCK, waits_for="ImagePullBackOff")
    seen, _ = reconciled(run(), ACTIVE, stuck, now=ago(900))
    pulling, _ = reconciled(seen, ACTIVE, pod(**STUCK, waits_for="ContainerCreating"), now=ago(301))
    assert condition(pulling.status, ConditionType.PROGRESS_STALLED).status is ConditionStatus.FALSE
    again, _ = reconciled(pulling, ACTIVE, stuck)
    assert again.status.phase is Phase.STARTING


def test_missing_claim_fails_the_run_at_the_deadline() -> None:
    stuck = pod(unscheduled="Unschedulable", unscheduled_message=NO_CLAIM, created=ago(601))
    seen, _ = reconciled(run(), ACTIVE, stuck, now=ago(601))
    found, _ = reconciled(seen, ACTIVE, stuck)
    assert found.status.failure is not None
    assert found.status.failure.reason == Reason.CLAIM_NOT_FOUND
