"""Why a trainer ended or cannot begin, for people: one word for programs and a sentence that says what to do.

The words are those of the local backend where it has the same trouble, else Kubernetes' own, which people look up.
"""

from __future__ import annotations

import re

from aisandbox_crds.status import Failure

from aisandbox_operator.views import JobView, PodView

_KILLED = 137
_STOPPED = 143
_WORD = re.compile(r"[A-Za-z]([A-Za-z0-9_,:]{0,98}[A-Za-z0-9_])?")
_LONGEST = 4000


def describe_pod(pod: PodView) -> Failure:
    """Why the trainer of a pod that is over did not finish the run."""
    if pod.ending is not None and pod.ending.failure is not None:
        said = pod.ending.failure
        return _failure(said.reason, said.message)
    tail = f"; its last lines: {pod.last_words}" if pod.last_words else ""
    if pod.exit_reason == "OOMKilled":
        return _failure("OOMKilled", f"the trainer needed more memory than its limit: {_LESS_MEMORY}{tail}")
    if pod.was_disrupted or pod.reason in ("Evicted", "Preempting", "NodeLost", "Terminated", "Shutdown"):
        said_by_kubelet = f": {pod.message}" if pod.message else ""
        return _failure(pod.reason or "Evicted", f"the trainer's pod was evicted{said_by_kubelet}")
    if pod.exit_code is None:
        why = f": {pod.message}" if pod.message else ""
        return _failure(pod.reason or "PodFailed", f"the trainer's pod failed before its trainer could end{why}")
    if pod.exit_reason in ("ContainerCannotRun", "StartError"):
        return _failure(pod.exit_reason, f"the trainer could not be started{tail}")
    if pod.exit_code == _KILLED:
        message = f"the trainer was killed (SIGKILL), perhaps because its node ran out of memory: {_LESS_MEMORY}"
        return _failure("TrainerKilled", message + tail)
    if pod.exit_code == _STOPPED:
        return _failure("TrainerStopped", f"the trainer was stopped (SIGTERM){tail}")
    return _failure("TrainerCrashed", f"the trainer ended with exit code {pod.exit_code}, without saying why{tail}")


def describe_job(job: JobView, pod: PodView | None, deadline: int | None, restarts: int) -> Failure:
    """Why the Job failed; ``pod`` is its last one, if it is still there."""
    if job.end_reason == "DeadlineExceeded":
        seconds = f" ({deadline} s)" if deadline is not None else ""
        message = f"the run has trained for its activeDeadlineSeconds{seconds}; its checkpoints stay"
        return Failure("DeadlineExceeded", message)
    if pod is None:
        gone = f"the trainer failed and its pods are gone; the Job says: {job.end_message or job.end_reason}"
        failure = _failure("TrainerCrashed", gone)
    else:
        failure = describe_pod(pod)
    if job.end_reason == "BackoffLimitExceeded":
        given_up = f" (after {restarts} restarts: given up)"
        return _failure(failure.reason, failure.message + given_up)
    return failure


def _failure(reason: str, message: str) -> Failure:
    """Within what the resource's schema takes, whatever the words come from."""
    word = reason if _WORD.fullmatch(reason) else "TrainerFailed"
    return Failure(word, message if len(message) <= _LONGEST else message[:_LONGEST] + "...")


_LESS_MEMORY = (
    "give the run more (spec.resources.limits.memory), or use a smaller buffer_size or n_steps, or fewer environments"
)
