"""Which pod is marked as disrupted: ``disruption.pod_to_mark``, a row a rule."""

from dataclasses import replace

import pytest
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod
from aisandbox_operator.rules.disruption import pod_to_mark
from operator_objects import NOW, RUNNING, job, planned, run, running_pod
from rule_cases import observed

DELETED = running_pod(deletion_time=NOW)
ACTIVE = job(active=1)


@pytest.mark.parametrize(
    ("job_", "pod", "is_marked"),
    [
        pytest.param(ACTIVE, DELETED, True, id="a pod that is being deleted"),
        pytest.param(ACTIVE, running_pod(), False, id="a pod that runs"),
        pytest.param(ACTIVE, replace(DELETED, was_disrupted=True), False, id="a pod that is marked already"),
        pytest.param(ACTIVE, replace(DELETED, phase="Failed", exit_code=137), False, id="a pod that has ended"),
        pytest.param(job(is_suspended=True), DELETED, False, id="a pod that a suspend ends"),
        pytest.param(job(is_being_deleted=True), DELETED, False, id="a pod that the deletion of its Job ends"),
        pytest.param(job(is_finishing=True), DELETED, False, id="a pod that the end of its Job ends"),
        pytest.param(job(end="Failed"), DELETED, False, id="a pod of a failed Job"),
        pytest.param(None, DELETED, False, id="a pod without a Job"),
    ],
)
def test_pod_is_marked_if_nothing_but_its_deletion_ends_it(
    job_: ObservedJob | None, pod: ObservedPod, is_marked: bool
) -> None:
    assert pod_to_mark(observed(run(RUNNING), job_, pod)) == (pod if is_marked else None)


def test_plan_has_the_pod_to_mark() -> None:
    assert planned(run(RUNNING), ACTIVE, DELETED).disrupted_pod == DELETED
