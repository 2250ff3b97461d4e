"""The end of a run: its Job has finished, or its last trainer has and the Job no longer exists.

Serves ``spec.backoffLimit`` and ``spec.activeDeadlineSeconds``, which the Job counts.
"""

from __future__ import annotations

from aisandbox_crds import ExitCode, Failure, Phase, Reason, bounded_failure

from aisandbox_operator.attempt_counts import count_attempts
from aisandbox_operator.decision import Decision
from aisandbox_operator.observed_state import ObservedState
from aisandbox_operator.resource_words import message_in_resource_words
from aisandbox_operator.rules.job_failure import explain_job, explain_pod

SUCCEEDED = Decision(Phase.SUCCEEDED, Reason.SUCCEEDED, "the training is completed")
CANCELLED = Decision(Phase.CANCELLED, Reason.CANCELLED, "the run was cancelled; its checkpoints are kept")
_NAME_FIELDS = (
    Reason.INVALID_RUN,
    Reason.INVALID_HYPERPARAMETER,
    Reason.CANNOT_START_FROM,
    Reason.INVALID_DEMONSTRATIONS,
)
"""The reasons for which a trainer's message names fields of a start call."""


def complete(state: ObservedState) -> Decision | None:
    """The Job has finished. A success beats a cancel, as it came first; a cancel beats every failure."""
    job = state.job
    if job is None or not job.end:
        return _complete_without_job(state) if job is None or state.is_stopped else None
    if job.end == "Complete":
        return _succeeded(state)
    spec = state.run.spec
    if spec is not None and spec.cancel:
        return CANCELLED
    deadline = spec.active_deadline_seconds if spec is not None else None
    return _failed(explain_job(job, state.last_finished_pod, deadline, count_attempts(state)))


def _complete_without_job(state: ObservedState) -> Decision | None:
    """A trainer that finished the run, or found that none can, was the last one, in whatever state the Job is."""
    if state.active_pods:
        return None
    pod, spec = state.last_finished_pod, state.run.spec
    # Recorded by a watch: how a trainer ended never changes.
    recorded = [message.exit_code for message in state.related.recorded_messages]
    # A container's exit code 0 alone does not do: its pod may have failed, as when its node is shut down.
    if ExitCode.DONE in recorded or (pod is not None and pod.exit_code == ExitCode.DONE and pod.phase == "Succeeded"):
        return _succeeded(state)
    if spec is not None and spec.cancel:
        return None
    if pod is not None and pod.exit_code == ExitCode.PERMANENT:
        return _failed(explain_pod(pod))
    return None


def _failed(failure: Failure) -> Decision:
    """The conditions name the fields of the resource; ``status.failure``, which clients of the API read, theirs."""
    message = failure.message
    if failure.reason in _NAME_FIELDS:
        message = bounded_failure(failure.reason, message_in_resource_words(message)).message
    return Decision(Phase.FAILED, failure.reason, message, failure)


def _succeeded(state: ObservedState) -> Decision:
    """Serves ``spec.stopWhen`` too: a run that it ended has succeeded for a reason of its own."""
    message = state.newest_message
    stop = state.run.status.early_stop if message is None else message.early_stop
    return SUCCEEDED if stop is None else Decision(Phase.SUCCEEDED, stop.reason, stop.message)
