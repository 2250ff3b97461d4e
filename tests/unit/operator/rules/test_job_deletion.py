"""A Job that is being deleted or does not exist: ``job_deletion.wait_for_deletion``, a row a rule."""

from dataclasses import replace
from datetime import timedelta

from aisandbox_crds.reasons import Reason
from aisandbox_crds.status import Phase
from aisandbox_operator.observed_state import LOST_POD_SECONDS, ObservedState
from aisandbox_operator.rules.job_deletion import WAIT_SECONDS, wait_for_deletion
from operator_objects import NOW, RUNNING, ago, ended_pod, job, pod, run, running_pod
from rule_cases import Decided, check, observed, table

ACTIVE = run(RUNNING)
ENDING = Decided(Phase.RUNNING, Reason.ENDING, requeue_after=WAIT_SECONDS, message="pod 'walk-abcde'")


@table(
    ("a Job that exists decides nothing", observed(ACTIVE, job(active=1), running_pod()), None),
    ("no Job and no pod decide nothing", observed(run()), None),
    ("a Job that is being deleted is waited for", observed(ACTIVE, job(is_being_deleted=True), running_pod()), ENDING),
    (
        "a Job that is being deleted without pods is waited for",
        observed(ACTIVE, job(is_being_deleted=True)),
        Decided(Phase.RUNNING, Reason.ENDING, requeue_after=WAIT_SECONDS, message="the Job of this run"),
    ),
    (
        "a pod of a deleted Job is waited for",
        observed(ACTIVE, None, running_pod(deletion_time=NOW + timedelta(seconds=60))),
        ENDING,
    ),
    (
        "a pod of a deleted run of the same name is waited for",
        observed(ACTIVE, None, running_pod(files_uid="old")),
        ENDING,
    ),
    ("a pod that has ended is not waited for", observed(ACTIVE, None, ended_pod(1)), None),
    (
        "a pod is waited for until 300 s after its grace period",
        observed(ACTIVE, None, running_pod(deletion_time=ago(300))),
        ENDING,
    ),
    (
        "a node that does not end a pod that is overdue is named",
        observed(ACTIVE, None, running_pod(node="rack-7", deletion_time=ago(30))),
        replace(ENDING, message="(the node 'rack-7' does not answer)"),
    ),
    (
        "a pod is lost more than 300 s after its grace period",
        observed(ACTIVE, None, running_pod(deletion_time=ago(300.001))),
        None,
    ),
    (
        "a pod that does not start is waited for",
        observed(run(), None, pod()),
        Decided(Phase.PENDING, Reason.ENDING, requeue_after=WAIT_SECONDS, message="pod 'walk-abcde'"),
    ),
)
def test_deletion_is_waited_for(state: ObservedState, decided: Decided | None) -> None:
    check(wait_for_deletion(state), decided)


def test_lost_pod_is_given_as_long_as_kubernetes_gives_a_node() -> None:
    """DefaultTolerationSeconds: pods tolerate a node that is unreachable for 300 s."""
    assert LOST_POD_SECONDS == 300


def test_job_with_a_lost_pod_has_stopped() -> None:
    suspended = job(is_suspended=True)
    assert not observed(ACTIVE, suspended, running_pod(deletion_time=ago(300))).is_stopped
    assert observed(ACTIVE, suspended, running_pod(deletion_time=ago(301))).is_stopped
