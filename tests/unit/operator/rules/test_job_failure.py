"""Why a pod or a Job has failed, a row a rule."""

import pytest
from aisandbox_crds.reasons import Reason
from aisandbox_crds.status_values import Failure
from aisandbox_operator.attempt_counts import AttemptCounts
from aisandbox_operator.observed_objects import ObservedPod
from aisandbox_operator.rules.job_failure import explain_job, explain_pod
from operator_objects import ended_pod, ending, job

COUNTS = AttemptCounts(attempt=3, suspensions=0, restarts=2, restarts_count_towards_max=2)
UNREACHABLE = Failure("SimulatorUnreachable", "no answer from sim:1")
EVICTED = {"phase": "Failed", "reason": "Evicted", "message": "low on disk"}


@pytest.mark.parametrize(
    ("over", "reason", "words"),
    [
        (ended_pod(137, exit_reason="OOMKilled"), Reason.OOM_KILLED, "spec.resources.limits.memory"),
        (ended_pod(137, exit_reason="OOMKilled", was_disrupted=True), Reason.OOM_KILLED, "more memory"),
        (ended_pod(137, exit_reason="Error"), Reason.TRAINER_KILLED, "SIGKILL"),
        (ended_pod(143), Reason.TRAINER_STOPPED, "SIGTERM"),
        (ended_pod(1, log_tail="ValueError: no"), Reason.TRAINER_CRASHED, "its last lines: ValueError: no"),
        (ended_pod(1, exit_code=None, **EVICTED), Reason.EVICTED, "low on disk"),
        (ended_pod(137, was_disrupted=True), Reason.EVICTED, "evicted"),
        (ended_pod(1, exit_code=None), Reason.POD_FAILED, "before its trainer exited"),
        (ended_pod(1, exit_code=None, reason="UnexpectedAdmissionError"), "UnexpectedAdmissionError", "before"),
        (ended_pod(128, exit_reason="StartError", log_tail="no such file"), Reason.START_ERROR, "no such file"),
        (ended_pod(128, exit_reason="ContainerCannotRun"), Reason.CONTAINER_CANNOT_RUN, "could not be started"),
        (ended_pod(75, termination_message=ending(4, 75, failure=UNREACHABLE)), UNREACHABLE.reason, "sim:1"),
        (
            ended_pod(75, was_disrupted=True, termination_message=ending(4, 75, failure=UNREACHABLE)),
            UNREACHABLE.reason,
            "sim:1",
        ),
        (
            ended_pod(75, termination_message=ending(4, 75, failure=Failure("not a word", "odd"))),
            Reason.TRAINER_FAILED,
            "odd",
        ),
    ],
)
def test_pod_has_a_reason_and_a_sentence(over: ObservedPod, reason: str, words: str) -> None:
    failure = explain_pod(over)
    assert failure.reason == reason
    assert words in failure.message


def test_job_past_its_deadline_names_its_seconds() -> None:
    failure = explain_job(job(end="Failed", end_reason="DeadlineExceeded"), ended_pod(143), 30, COUNTS)
    assert failure.reason == Reason.DEADLINE_EXCEEDED
    assert "30 s" in failure.message


def test_job_without_pods_has_the_jobs_own_message() -> None:
    failed = job(end="Failed", end_reason="BackoffLimitExceeded", end_message="has reached it")
    failure = explain_job(failed, None, None, COUNTS)
    assert failure.reason == Reason.TRAINER_CRASHED
    assert "has reached it (attempt 3, given up after 2 restarts)" in failure.message


def test_job_that_failed_at_once_has_the_trainers_failure_unchanged() -> None:
    over = ended_pod(78, termination_message=ending(1, 78, failure=UNREACHABLE))
    assert explain_job(job(end="Failed", end_reason="PodFailurePolicy"), over, None, COUNTS) == UNREACHABLE
