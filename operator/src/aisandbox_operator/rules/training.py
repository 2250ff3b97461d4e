"""A run that is to train: its Job is created and resumed, and its trainer is observed.

Serves what the Job is made of (``spec.resources``, ``spec.labels`` with Kueue's queue, ...) and ``spec.backoffLimit``,
which the Job gets less what earlier Jobs of the run have spent.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from math import inf

from aisandbox_crds import ExitCode, Failure, Phase, Reason, format_time, seconds_since

from aisandbox_operator.attempt_counts import count_attempts
from aisandbox_operator.decision import CreateJob, Decision, DeleteJob, EndPod, SuspendJob
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod
from aisandbox_operator.observed_state import SILENT_NODE_SECONDS, ObservedState
from aisandbox_operator.rules.job_failure import explain_pod
from aisandbox_operator.rules.stall import seconds_to_stall

NO_POD_SECONDS = 30
FIRST_LOOK_SECONDS = 3
"""After so long the events of a Job that has no pod are read."""
REFUSED_SECONDS = 30.0
WEBHOOK_SECONDS = 10.0
SIDECAR_SECONDS = 10
"""How long the other containers of a pod may run after its trainer has exited."""
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
    """The Kubernetes API server was asked and does not accept the Job: a rule the spec breaks, or a quota."""
    why = state.related.job_refusal[:2000]
    if state.related.is_refused_permanently:
        message = f"the Kubernetes API server does not accept the run's Job: {why}"
        return Decision(Phase.FAILED, Reason.JOB_REFUSED, message, Failure(Reason.JOB_REFUSED, message))
    if state.related.is_webhook_down:
        message = f"an admission webhook of the cluster does not answer, so the run's Job cannot be created yet: {why}"
        return Decision(
            Phase.PENDING,
            Reason.WEBHOOK_UNAVAILABLE,
            message,
            needs_attention=True,
            requeue_after=WEBHOOK_SECONDS,
        )
    message = f"the Kubernetes API server does not accept the run's Job for now: {why}"
    return Decision(Phase.PENDING, Reason.JOB_FORBIDDEN, message, needs_attention=True, requeue_after=REFUSED_SECONDS)


def resume_job(state: ObservedState) -> Decision | None:
    """The Job is suspended: it is resumed, by Kueue if that admits it.

    The operator resumes a Job once for each generation of the run, so that it and another controller that suspends Jobs
    do not undo each other's writes for ever.
    """
    job = state.job
    if job is None or not job.is_suspended:
        return None
    if state.queue and state.queue != job.queue and state.is_stopped:
        return replace(QUEUED, message="the run has been given to another queue", action=DeleteJob(job.uid))
    if not state.is_queued and job.resumed_generation == state.run.generation > 0:
        return _held(state, job)
    if not state.is_queued:
        return replace(STARTING, action=SuspendJob(job.uid, suspended=False))
    if state.is_stopped:
        return _queued(job.queue)
    message = "Kueue has preempted the run: its trainer writes a checkpoint"
    return Decision(state.last_known_phase, Reason.PREEMPTED, message)


def _held(state: ObservedState, job: ObservedJob) -> Decision:
    """Another client has suspended the Job that the operator has let run for this spec: it decides."""
    message = (
        f"the run's Job was suspended by {job.suspended_by or 'another client'}. To resume it, set spec.suspend of the "
        "Job to false, or spec.suspend of the run to true and then to false"
    )
    if state.is_stopped:
        return Decision(Phase.PENDING, Reason.JOB_SUSPENDED, message, is_queued=True, needs_attention=True)
    return Decision(state.last_known_phase, Reason.JOB_SUSPENDED, message, needs_attention=True)


def observe_trainer(state: ObservedState) -> Decision:
    """The Job is active: its trainer runs, starts, has ended, or is expected."""
    job, pod = state.job, state.current_pod
    # A pod that has been ending since an earlier suspend is not this trainer.
    is_leaving = pod is not None and pod.deletion_time is not None and state.run.status.phase is not Phase.RUNNING
    if pod is not None and pod.is_running and not is_leaving:
        since = state.lost_since(pod)
        return _running(state, pod) if since is None else _node_lost(pod, since)
    last = state.last_finished_pod
    if pod is None and job is not None and last is not None and last.job_uid == job.uid:
        return _between_attempts(state, job)
    if pod is not None and pod.exit_code is not None and pod.sidecars and pod.deletion_time is None:
        return _end_sidecars(state, pod)
    if state.run.status.phase is Phase.RUNNING and pod is not None and pod.exit_code is not None:
        message = "the trainer has exited; its pod has not finished yet"
        return Decision(Phase.RUNNING, Reason.TRAINER_ENDING, message)
    if pod is not None:
        return _starting(state, pod)
    return STARTING if job is None else _without_pod(state, job)


def _node_lost(pod: ObservedPod, since: datetime) -> Decision:
    """Kubernetes says so 40 to 50 seconds after the node has fallen silent, and evicts the pod five minutes later."""
    message = (
        f"the node {pod.node!r} has not answered since {format_time(since)}. Kubernetes evicts the trainer's pod after "
        "about 5 minutes. The run then continues from the last checkpoint on another node, once this one is back or "
        f"was deleted (kubectl delete node {pod.node})"
    )
    return Decision(Phase.RUNNING, Reason.NODE_LOST, message, needs_attention=True, is_uncertain=True)


def _end_sidecars(state: ObservedState, pod: ObservedPod) -> Decision:
    """Other containers, which a service mesh may have added, keep the pod from ending: it ends as its trainer has."""
    others, phase = ", ".join(pod.sidecars), state.last_known_phase
    left = SIDECAR_SECONDS - (seconds_since(pod.ended, state.now) or 0.0)
    if left > 0:
        message = f"the trainer has exited; other containers of its pod still run: {others}"
        return Decision(phase, Reason.TRAINER_ENDING, message, requeue_after=max(left, 1.0))
    message = f"the trainer has exited, and the other containers of its pod are stopped: {others}"
    end = EndPod(pod.name, pod.uid, "Failed" if pod.exit_code else "Succeeded")
    return Decision(phase, Reason.TRAINER_ENDING, message, action=end)


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
    if why := state.related.pod_refusal:
        message = f"the trainer's pod cannot be created: {why}"
        phase = state.last_known_phase
        return Decision(phase, Reason.NO_POD, message, needs_attention=True, requeue_after=REFUSED_SECONDS)
    waited = seconds_since(job.started or job.created, state.now) or 0.0
    if job.active or waited < NO_POD_SECONDS:
        next_look = FIRST_LOOK_SECONDS if waited < FIRST_LOOK_SECONDS else NO_POD_SECONDS
        return replace(STARTING, requeue_after=max(next_look - waited, 1.0))
    message = (
        f"the Job has had no pod for {NO_POD_SECONDS} s; `kubectl describe job {state.run.name}` shows why (a "
        "quota, an admission rule, a priority class or service account that does not exist)"
    )
    return Decision(state.last_known_phase, Reason.NO_POD, message, needs_attention=True)


def is_without_pod(state: ObservedState) -> bool:
    """Whether the Job should have a pod, and has had none for FIRST_LOOK_SECONDS."""
    job = state.job
    if job is None or job.is_suspended or job.is_being_deleted or job.is_finishing or job.end or job.active:
        return False
    waited = seconds_since(job.started or job.created, state.now) or 0.0
    return state.current_pod is None and waited >= FIRST_LOOK_SECONDS


def _running(state: ObservedState, pod: ObservedPod) -> Decision:
    left = seconds_to_stall(state)
    if left <= 0:
        seconds = state.settings.stall_seconds
        message = f"the trainer is running and has reported no progress for {seconds} s"
        return Decision(Phase.RUNNING, Reason.TRAINER_RUNNING, message, has_stalled=True)
    return Decision(
        Phase.RUNNING,
        Reason.TRAINER_RUNNING,
        "the trainer is running",
        requeue_after=min(left, _seconds_to_silence(state, pod)),
    )


def _seconds_to_silence(state: ObservedState, pod: ObservedPod) -> float:
    """Until the node of a pod that is being deleted counts as silent."""
    if pod.deletion_time is None:
        return inf
    return max(SILENT_NODE_SECONDS - (seconds_since(pod.deletion_time, state.now) or 0.0), 1.0)


def _between_attempts(state: ObservedState, job: ObservedJob) -> Decision:
    last = state.last_finished_pod
    if last is None or last.phase == "Succeeded" or job.is_finishing or not has_counted(state, job):
        message = "the trainer has ended; its Job has not finished yet"
        return Decision(state.last_known_phase, Reason.TRAINER_ENDING, message)
    failure = explain_pod(last)
    message = f"the last trainer has failed, and another one will be started: {failure.reason}: {failure.message}"
    return Decision(Phase.PENDING, Reason.RETRYING, message, needs_attention=job.failed > 0)


def has_counted(state: ObservedState, job: ObservedJob) -> bool:
    """Whether the Job controller has counted the failures that the pods show; before that it may still give up."""
    failures = [
        pod
        for pod in state.job_pods
        if pod.phase == "Failed" and not pod.was_disrupted and pod.exit_code != ExitCode.CANCELLED
    ]
    return len(failures) <= job.failed
