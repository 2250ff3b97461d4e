"""Attempts, suspensions, restarts and spent retries of a run."""

from dataclasses import replace

from aisandbox_crds.conditions import ConditionType
from aisandbox_crds.status import Phase, Progress
from aisandbox_crds.status_values import Failure
from aisandbox_operator.decision import SuspendJob
from operator_objects import (
    NOW,
    QUEUE,
    RUNNING,
    ago,
    condition,
    ended_pod,
    ending,
    job,
    planned,
    pod,
    reconciled,
    run,
    running_pod,
    spec,
)


def test_suspended_trainer_without_a_termination_message_is_taken_to_have_claimed_its_attempt() -> None:
    wish = run(replace(RUNNING, attempt=0), of=spec(suspend=True))
    paused, _ = reconciled(wish, job(is_suspended=True))
    back = planned(run(paused.status), job(active=1), running_pod(), ended_pod(143, termination_message=ending(2, 143)))
    assert back.status is not None
    assert (back.status.attempt, back.status.suspensions, back.status.restarts) == (2, 1, 0)


def test_suspended_trainer_that_had_not_claimed_an_attempt_does_not_count() -> None:
    over = ended_pod(143, termination_message=ending(0, 143, timesteps=0))
    begun = run(replace(RUNNING, attempt=0), of=spec(suspend=True))
    paused, _ = reconciled(begun, job(is_suspended=True), over)
    assert (paused.status.attempt, paused.status.suspensions) == (0, 0)


def test_attempt_is_never_guessed_since_it_fences_reports() -> None:
    status = replace(
        RUNNING, attempt=1, restarts=3, progress=Progress(attempt=1)
    )  # three ended before they claimed one
    over = ended_pod(143, termination_message=ending(1, 143))
    paused, _ = reconciled(run(status, of=spec(suspend=True)), job(is_suspended=True), over)
    assert (paused.status.attempt, paused.status.suspensions) == (1, 1)


def test_pod_that_an_earlier_suspend_ends_does_not_count() -> None:
    leaving = running_pod(deletion_time=ago(5), was_disrupted=True)
    paused = replace(RUNNING, phase=Phase.SUSPENDED, attempt=1, suspensions=1)
    back, _ = reconciled(run(paused), job(active=1), leaving)
    assert back.status.phase is Phase.STARTING
    again, _ = reconciled(run(back.status, of=spec(suspend=True)), job(is_suspended=True))
    assert (again.status.attempt, again.status.suspensions) == (1, 1)


def test_eviction_is_a_restart_that_does_not_count_towards_the_limit() -> None:
    evicted = replace(RUNNING, progress=Progress(attempt=2))
    step = planned(run(evicted), job(active=1), running_pod())
    assert step.status is not None
    assert (step.status.restarts, step.status.restarts_count_towards_max) == (1, 0)


def test_counts_never_decrease() -> None:
    many = replace(RUNNING, attempt=9, suspensions=2, restarts=6, restarts_count_towards_max=3)
    found, _ = reconciled(run(many), job(), ended_pod(1, termination_message=ending(1, 1)))
    assert found.status.attempt == 9
    assert (found.status.suspensions, found.status.restarts, found.status.restarts_count_towards_max) == (2, 6, 3)


def test_permanent_failure_spends_no_retry() -> None:
    failure = Failure("InvalidHyperparameter", "learning_rate: must be positive")
    step = planned(
        run(RUNNING),
        job(end="Failed", end_reason="PodFailurePolicy", failed=1),
        ended_pod(78, termination_message=ending(1, 78, 0, failure)),
    )
    assert step.status is not None
    assert step.status.failure == failure
    assert step.status.restarts_count_towards_max == 0


def test_resume_is_not_a_restart() -> None:
    paused = replace(RUNNING, phase=Phase.SUSPENDED, suspensions=1)
    step = planned(run(paused), job(is_suspended=True))
    assert step.action == SuspendJob("job-uid", suspended=False)
    back = planned(run(replace(paused, progress=Progress(attempt=2))), job(active=1), running_pod())
    assert back.status is not None
    assert (back.status.phase, back.status.attempt, back.status.restarts) == (Phase.RUNNING, 2, 0)


def test_preemption_by_kueue_spends_no_retry() -> None:
    at_work = run(RUNNING, of=spec(labels=QUEUE))
    ending_ = planned(at_work, job(is_suspended=True, queue="gpus"), running_pod(deletion_time=NOW))
    assert ending_.status is not None
    assert (ending_.action, ending_.status.phase) == (None, Phase.RUNNING)
    found, _ = reconciled(at_work, job(is_suspended=True, queue="gpus"))
    assert found.status.phase is Phase.PENDING
    assert (found.status.suspensions, found.status.restarts_count_towards_max) == (1, 0)


def test_trainer_that_was_killed_before_it_reported_counts_as_a_restart() -> None:
    killed = ended_pod(137, name="walk-a", created=ago(100))
    step = planned(run(RUNNING), job(active=1, failed=1), killed, running_pod())
    assert step.status is not None
    assert (step.status.attempt, step.status.restarts) == (1, 1)


def test_pod_that_has_not_started_does_not_count_as_a_restart() -> None:
    killed = ended_pod(137, name="walk-a", created=ago(100))
    step = planned(run(RUNNING), job(active=1, failed=1), killed, pod(scheduled=ago(1)))
    assert step.status is not None
    assert (step.status.attempt, step.status.restarts) == (1, 0)


def test_failures_spend_at_most_the_backoff_limit() -> None:
    over = ended_pod(75, termination_message=ending(4, 75))
    step = planned(run(RUNNING), job(end="Failed", end_reason="BackoffLimitExceeded", failed=4), over)
    assert step.status is not None
    assert step.status.restarts_count_towards_max == 3
    assert step.status.failure is not None
    assert condition(step.status, ConditionType.FAILED).reason == step.status.failure.reason == "TrainerCrashed"
