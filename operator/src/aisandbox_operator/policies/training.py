"""A run that shall train: its Job is made, set going, and followed."""

from __future__ import annotations

from dataclasses import replace

from aisandbox_crds.status import Failure, Phase
from aisandbox_crds.times import seconds_since
from aisandbox_crds.trainer_exit import ExitCode

from aisandbox_operator.accounting import account_of
from aisandbox_operator.decision import CreateJob, Decision, SuspendJob
from aisandbox_operator.policies.failures import describe_pod
from aisandbox_operator.policies.stall import seconds_to_stall
from aisandbox_operator.situation import Situation
from aisandbox_operator.views import JobView, PodView

NO_POD_SECONDS = 30
REFUSED_SECONDS = 30.0
STARTING = Decision(Phase.STARTING, "TrainerStarting", "the trainer's pod is being started")
QUEUED = Decision(Phase.PENDING, "Queued", "Kueue has not admitted the run yet", is_queued=True)


def created(situation: Situation) -> Decision | None:
    """Makes the Job, with what is left of the backoff limit."""
    if situation.job is not None:
        return None
    if situation.observed.refused:
        return _refused(situation)
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


def _refused(situation: Situation) -> Decision:
    """The API server was asked and does not take the Job: a rule the spec breaks, or a quota."""
    why = situation.observed.refused[:2000]
    if situation.observed.refused_for_good:
        message = f"the API server does not take the run's Job: {why}"
        return Decision(Phase.FAILED, "JobRefused", message, Failure("JobRefused", message))
    message = f"the API server does not take the run's Job for now: {why}"
    return Decision(Phase.PENDING, "JobForbidden", message, is_trouble=True, look_again=REFUSED_SECONDS)


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
    # One that ends since an earlier suspend is not this trainer.
    is_leaving = pod is not None and pod.deletion_time is not None and situation.run.status.phase is not Phase.RUNNING
    if pod is not None and pod.is_running and not is_leaving:
        return _running(situation)
    last = situation.last_ended
    if pod is None and job is not None and last is not None and last.job_uid == job.uid:
        return _between_attempts(situation, job)
    if situation.run.status.phase is Phase.RUNNING and pod is not None and pod.exit_code is not None:
        return Decision(Phase.RUNNING, "TrainerEnding", "the trainer has ended, its pod not yet")
    if pod is not None:
        return _starting(situation, pod)
    return STARTING if job is None else _without_pod(situation, job)


def _starting(situation: Situation, pod: PodView) -> Decision:
    """A large image on a new node takes its time; a volume that cannot be mounted looks the same from here."""
    patience = situation.settings.start_deadline_seconds
    left = patience - (seconds_since(pod.scheduled or pod.created, situation.now) or 0.0)
    if left > 0 or pod.exit_code is not None:
        return replace(STARTING, look_again=max(left, 1.0))
    message = (
        f"the trainer's container has not begun for {patience} s; `kubectl describe pod {pod.name}` tells why (a "
        "volume that cannot be mounted, an image that is still being pulled)"
    )
    return Decision(STARTING.phase, "StartingSlowly", message, is_trouble=True)


def _without_pod(situation: Situation, job: JobView) -> Decision:
    waited = seconds_since(job.started or job.created, situation.now) or 0.0
    if job.active or waited < NO_POD_SECONDS:
        return replace(STARTING, look_again=max(NO_POD_SECONDS - waited, 1.0))
    message = (
        f"the Job has had no pod for {NO_POD_SECONDS} s; `kubectl describe job {situation.run.name}` tells why (a "
        "quota, an admission rule, a priority class or service account that does not exist)"
    )
    return Decision(situation.phase_at_work, "NoPod", message, is_trouble=True)


def _running(situation: Situation) -> Decision:
    left = seconds_to_stall(situation)
    if left <= 0:
        seconds = situation.settings.stall_seconds
        message = f"the trainer runs and has reported no progress for {seconds} s"
        return Decision(Phase.RUNNING, "TrainerRunning", message, has_stalled=True)
    return Decision(Phase.RUNNING, "TrainerRunning", "the trainer runs", look_again=left)


def _between_attempts(situation: Situation, job: JobView) -> Decision:
    last = situation.last_ended
    if last is None or last.phase == "Succeeded" or job.is_finishing or not _has_counted(situation, job):
        return Decision(situation.phase_at_work, "TrainerEnding", "the trainer has ended, its Job not yet")
    failure = describe_pod(last)
    message = f"the last trainer has ended, the next one follows: {failure.reason}: {failure.message}"
    return Decision(Phase.PENDING, "Retrying", message, is_trouble=job.failed > 0)


def _has_counted(situation: Situation, job: JobView) -> bool:
    """Whether the Job controller knows of the failures that the pods show; before, it may still give up."""
    failures = [
        pod
        for pod in situation.job_pods
        if pod.phase == "Failed" and not pod.was_disrupted and pod.exit_code != ExitCode.CANCELLED
    ]
    return len(failures) <= job.failed
