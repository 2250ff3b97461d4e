"""A run that is to train: its Job is created and resumed, and its trainer is observed.

Serves what the Job is made of (``spec.resources``, ``spec.labels`` with Kueue's queue, ...) and ``spec.backoffLimit``,
which the Job gets less what earlier Jobs of the run have spent.
"""

from __future__ import annotations

from dataclasses import replace

from aisandbox_crds import ExitCode, Failure, Phase, Reason, seconds_since

from aisandbox_operator.attempt_counts import count_attempts
from aisandbox_operator.decision import CreateJob, Decision, DeleteJob, SuspendJob
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.policies.job_failure import explain_pod
from aisandbox_operator.policies.stall import seconds_to_stall

NO_POD_SECONDS = 30
REFUSED_SECONDS = 30.0
STARTING = Decision(Phase.STARTING, Reason.TRAINER_STARTING, "the trainer's pod is being started")
QUEUED = Decision(Phase.PENDING, Reason.QUEUED, "Kueue has not admitted the run yet", is_queued=True)


def _queued(queue: str) -> Decision:
    return replace(QUEUED, message=f"Kueue has not admitted the run yet (queue {queue!r})")


def create_job(state: ObservedState) -> Decision | None:
    """The run has no Job: one is created, with what is left of the backoff limit."""
    if state.job is not None:
        return None
    if state.related.job_refusal:
        return _refused(state)
    decision = _queued(state.queue) if state.is_queued else STARTING
    spent = count_attempts(state).restarts_count_towards_max
    return replace(decision, action=CreateJob(suspended=state.is_queued, failures_before=spent))


def _refused(state: ObservedState) -> Decision:
    """The API server was asked and does not accept the Job: a rule the spec breaks, or a quota."""
    why = state.related.job_refusal[:2000]
    if state.related.is_refused_permanently:
        message = f"the API server does not accept the run's Job: {why}"
        return Decision(Phase.FAILED, Reason.JOB_REFUSED, message, Failure(Reason.JOB_REFUSED, message))
    message = f"the API server does not accept the run's Job for now: {why}"
    return Decision(Phase.PENDING, Reason.JOB_FORBIDDEN, message, needs_attention=True, requeue_after=REFUSED_SECONDS)


def resume_job(state: ObservedState) -> Decision | None:
    """The Job is suspended: it is resumed, by Kueue if that admits it."""
    job = state.job
    if job is None or not job.is_suspended:
        return None
    if state.queue and state.queue != job.queue and state.is_stopped:
        return replace(QUEUED, message="the run has been given to another queue", action=DeleteJob(job.uid))
    if not state.is_queued:
        return replace(STARTING, action=SuspendJob(job.uid, suspended=False))
    if state.is_stopped:
        return _queued(job.queue)
    message = "Kueue has preempted the run: its trainer writes a checkpoint"
    return Decision(state.last_known_phase, Reason.PREEMPTED, message)


def observe_trainer(state: ObservedState) -> Decision:
    """The Job is active: its trainer runs, starts, has ended, or is expected."""
    job, pod = state.job, state.current_pod
    # A pod that has been ending since an earlier suspend is not this trainer.
    is_leaving = pod is not None and pod.deletion_time is not None and state.run.status.phase is not Phase.RUNNING
    if pod is not None and pod.is_running and not is_leaving:
        return _running(state)
    last = state.last_finished_pod
    if pod is None and job is not None and last is not None and last.job_uid == job.uid:
        return _between_attempts(state, job)
    if state.run.status.phase is Phase.RUNNING and pod is not None and pod.exit_code is not None:
        message = "the trainer has exited; its pod has not finished yet"
        return Decision(Phase.RUNNING, Reason.TRAINER_ENDING, message)
    if pod is not None:
        return _starting(state, pod)
    return STARTING if job is None else _without_pod(state, job)


def _starting(state: ObservedState, pod: ObservedPod) -> Decision:
    """A large image on a new node takes long to pull; a volume that cannot be mounted looks the same from here."""
    deadline = state.settings.start_deadline_seconds
    left = deadline - (seconds_since(pod.scheduled or pod.created, state.now) or 0.0)
    if left > 0 or pod.exit_code is not None:
        return replace(STARTING, requeue_after=max(left, 1.0))
    message = (
        f"the trainer's container has not started for {deadline} s; `kubectl describe pod {pod.name}` shows why (a "
        "volume that cannot be mounted, an image that is still being pulled)"
    )
    return Decision(STARTING.phase, Reason.STARTING_SLOWLY, message, needs_attention=True)


def _without_pod(state: ObservedState, job: ObservedJob) -> Decision:
    waited = seconds_since(job.started or job.created, state.now) or 0.0
    if job.active or waited < NO_POD_SECONDS:
        return replace(STARTING, requeue_after=max(NO_POD_SECONDS - waited, 1.0))
    message = (
        f"the Job has had no pod for {NO_POD_SECONDS} s; `kubectl describe job {state.run.name}` shows why (a "
        "quota, an admission rule, a priority class or service account that does not exist)"
    )
    return Decision(state.last_known_phase, Reason.NO_POD, message, needs_attention=True)


def _running(state: ObservedState) -> Decision:
    left = seconds_to_stall(state)
    if left <= 0:
        seconds = state.settings.stall_seconds
        message = f"the trainer is running and has reported no progress for {seconds} s"
        return Decision(Phase.RUNNING, Reason.TRAINER_RUNNING, message, has_stalled=True)
    return Decision(Phase.RUNNING, Reason.TRAINER_RUNNING, "the trainer is running", requeue_after=left)


def _between_attempts(state: ObservedState, job: ObservedJob) -> Decision:
    last = state.last_finished_pod
    if last is None or last.phase == "Succeeded" or job.is_finishing or not _has_counted(state, job):
        message = "the trainer has ended; its Job has not finished yet"
        return Decision(state.last_known_phase, Reason.TRAINER_ENDING, message)
    failure = explain_pod(last)
    message = f"the last trainer has failed, and another one will be started: {failure.reason}: {failure.message}"
    return Decision(Phase.PENDING, Reason.RETRYING, message, needs_attention=job.failed > 0)


def _has_counted(state: ObservedState, job: ObservedJob) -> bool:
    """Whether the Job controller has counted the failures that the pods show; before that it may still give up."""
    failures = [
        pod
        for pod in state.job_pods
        if pod.phase == "Failed" and not pod.was_disrupted and pod.exit_code != ExitCode.CANCELLED
    ]
    return len(failures) <= job.failed
