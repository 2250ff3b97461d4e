"""A run that shall train: its Job is made, set going, and followed."""

from __future__ import annotations

from aisandbox_crds.status import Phase

from aisandbox_operator.accounting import account_of
from aisandbox_operator.decision import CreateJob, Decision, SuspendJob
from aisandbox_operator.policies.failures import describe_pod
from aisandbox_operator.policies.stall import seconds_to_stall
from aisandbox_operator.situation import Situation
from aisandbox_operator.views import JobView

STARTING = Decision(Phase.STARTING, "TrainerStarting", "the trainer's pod is being started")
QUEUED = Decision(Phase.PENDING, "Queued", "Kueue has not admitted the run yet", is_queued=True)


def created(situation: Situation) -> Decision | None:
    """Makes the Job, with what is left of the backoff limit."""
    if situation.job is not None:
        return None
    queued = situation.is_queued
    spent = account_of(situation).restarts_count_towards_max
    told = QUEUED if queued else STARTING
    return Decision(
        told.phase,
        told.reason,
        told.message,
        action=CreateJob(suspended=queued, failures_before=spent),
        is_queued=queued,
    )


def admitted(situation: Situation) -> Decision | None:
    """Sets a suspended Job going, or waits for Kueue to do so."""
    job = situation.job
    if job is None or not job.is_suspended:
        return None
    if not situation.is_queued:
        action = SuspendJob(job.uid, suspended=False)
        return Decision(Phase.STARTING, STARTING.reason, STARTING.message, action=action)
    if situation.has_stopped:
        return QUEUED
    message = "Kueue has taken the run's place back: its trainer writes a checkpoint"
    return Decision(situation.phase_at_work, "Preempted", message)


def followed(situation: Situation) -> Decision:
    """The Job is going: its trainer runs, starts, or is awaited."""
    job, pod = situation.job, situation.present_pod
    if pod is not None and pod.is_running:
        return _running(situation)
    last = situation.last_ended
    if pod is None and job is not None and last is not None and last.job_uid == job.uid:
        return _between_attempts(situation, job)
    if situation.run.status.phase is Phase.RUNNING and pod is not None and pod.exit_code is not None:
        return Decision(Phase.RUNNING, "TrainerEnding", "the trainer has ended, its pod not yet")
    return STARTING


def _running(situation: Situation) -> Decision:
    left = seconds_to_stall(situation)
    if left <= 0:
        seconds = situation.settings.stall_seconds
        message = f"the trainer runs and has reported no progress for {seconds} s"
        return Decision(Phase.RUNNING, "TrainerRunning", message, has_stalled=True)
    return Decision(Phase.RUNNING, "TrainerRunning", "the trainer runs", look_again=left)


def _between_attempts(situation: Situation, job: JobView) -> Decision:
    last = situation.last_ended
    if last is None or last.phase == "Succeeded":
        return Decision(situation.phase_at_work, "TrainerEnding", "the trainer has ended, its Job not yet")
    failure = describe_pod(last)
    message = f"the last trainer has ended, the next one follows: {failure.reason}: {failure.message}"
    return Decision(Phase.PENDING, "Retrying", message, is_trouble=job.failed > 0)
