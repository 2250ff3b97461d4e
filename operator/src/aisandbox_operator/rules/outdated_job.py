"""A Job that was created from an earlier spec or earlier settings: it is created again while its trainer does not run.

Serves the fields of the spec that can be changed while no trainer runs (``spec.resources``, ``spec.nodeSelector`` and
others), and the operator's settings: a run that has not started gets the present ones, as an image whose name was
corrected. A run that has started keeps what it was started with, unless its image can no longer be pulled; so does one
in a queue of Kueue, which would lose its place.
"""

from __future__ import annotations

from aisandbox_crds import Phase, Reason

from aisandbox_operator.decision import Decision, DeleteJob
from aisandbox_operator.job_manifest import job_origin
from aisandbox_operator.observed_objects import ObservedJob
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.rules.start_failure import cannot_pull
from aisandbox_operator.rules.training import has_counted


def replace_outdated_job(state: ObservedState) -> Decision | None:
    """The Job would be created otherwise today, and no trainer of it runs or has just ended."""
    job = state.job
    if job is None or job.is_being_deleted or job.is_finishing or job.end or not _is_idle(state, job):
        return None
    why = _what_has_changed(state, job)
    if not why:
        return None
    message = f"{why} before the trainer ran: its Job is created again"
    return Decision(Phase.PENDING, Reason.REPLACING_JOB, message, action=DeleteJob(job.uid))


def _is_idle(state: ObservedState, job: ObservedJob) -> bool:
    over = [pod for pod in state.job_pods if pod.is_over]
    if any(pod.phase == "Succeeded" for pod in over) or not has_counted(state, job):
        return False  # what the Job makes of that end decides what follows
    return all(pod.started is None and pod.deletion_time is None for pod in state.job_pods if not pod.is_over)


def _what_has_changed(state: ObservedState, job: ObservedJob) -> str:
    run, pod = state.run, state.current_pod
    if run.spec is None or job.origin is None:
        return ""
    now = job_origin(run.name, run.files_uid, run.spec, state.settings)
    if now.spec != job.origin.spec:
        return "the run's spec was changed"
    if now.template == job.origin.template:
        return ""
    has_started = run.status.start_time is not None or any(each.started is not None for each in state.pods)
    is_kept = has_started or state.is_queued
    if not is_kept or (pod is not None and cannot_pull(pod)):
        return "the operator's settings were changed"
    return ""
