"""The end of a run: its Job has finished, or its last trainer has and the Job is gone."""

from __future__ import annotations

from aisandbox_crds.status import Phase
from aisandbox_crds.trainer_exit import ExitCode

from aisandbox_operator.accounting import Account, account_of
from aisandbox_operator.decision import Decision
from aisandbox_operator.policies.failures import describe_job, describe_pod
from aisandbox_operator.situation import Situation

SUCCEEDED = Decision(Phase.SUCCEEDED, "Succeeded", "the run has trained to its end")
CANCELLED = Decision(Phase.CANCELLED, "Cancelled", "the run was cancelled; its checkpoints stay")


def finished(situation: Situation) -> Decision | None:
    """The Job has finished. Done beats cancelled, as it came first; cancelled beats every other end."""
    job = situation.job
    if job is None or not job.end:
        return _finished_without_job(situation) if job is None or situation.has_stopped else None
    if job.end == "Complete":
        return SUCCEEDED
    spec = situation.run.spec
    if spec is not None and spec.cancel:
        return CANCELLED
    account: Account = account_of(situation)
    deadline = spec.active_deadline_seconds if spec is not None else None
    failure = describe_job(job, situation.last_ended, deadline, account.restarts)
    return Decision(Phase.FAILED, failure.reason, failure.message, failure)


def _finished_without_job(situation: Situation) -> Decision | None:
    """A trainer that did its work, or said that none can, was the last one whatever became of the Job."""
    if situation.lingering:
        return None
    pod, spec = situation.last_ended, situation.run.spec
    heard = [ending.exit_code for ending in situation.observed.heard]  # by a watch; such an end is never undone
    if ExitCode.DONE in heard or (pod is not None and pod.exit_code == ExitCode.DONE and pod.phase == "Succeeded"):
        return SUCCEEDED
    if spec is not None and spec.cancel:
        return None
    if pod is not None and pod.exit_code == ExitCode.PERMANENT:
        failure = describe_pod(pod)
        return Decision(Phase.FAILED, failure.reason, failure.message, failure)
    return None
