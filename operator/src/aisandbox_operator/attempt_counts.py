"""How often a run was tried: attempts, suspensions, restarts, and what was spent of the backoff limit.

Every number only grows, and each follows from what the cluster shows now and what the status has already, so an
operator that was away, or counts twice, gets the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from aisandbox_crds import ExitCode, Phase

from aisandbox_operator.decision import Decision, SuspendJob
from aisandbox_operator.observed_state import ObservedState


@dataclass(frozen=True, slots=True)
class AttemptCounts:
    """The counts in a run's status."""

    attempt: int
    suspensions: int
    restarts: int
    restarts_count_towards_max: int


def count_attempts(state: ObservedState, decision: Decision | None = None) -> AttemptCounts:
    """The counts now; ``decision`` is what was decided about the run, if it has been.

    ``attempt`` is what trainers have claimed, because it is their fence. One that was killed may not have reported its
    claim, so for restarts the pods that started count as well. A trainer was stopped by a suspend if the run was
    Running until the decision says that it is suspended or queued, or is resumed after that. It is taken to have
    claimed its attempt, unless its termination message says that it has not; ``attempt`` itself is never a guess, as it
    fences reports.
    """
    status = state.run.status
    claims = [message.attempt for message in state.termination_messages]
    attempt = max(status.attempt, status.progress.attempt, *claims, 0)
    stops = decision is not None and (
        decision.phase is Phase.SUSPENDED
        or decision.is_queued
        or (isinstance(decision.action, SuspendJob) and not decision.action.suspended)
    )
    suspensions = status.suspensions
    if stops and status.phase is Phase.RUNNING:
        claimed = attempt if 0 in claims else max(attempt, status.suspensions + status.restarts + 1)
        suspensions += suspensions < claimed
    started = sum(pod.started is not None for pod in state.pods)
    restarts = max(status.restarts, max(attempt, started) - 1 - suspensions)
    return AttemptCounts(attempt, suspensions, restarts, _spent_retries(state))


def _spent_retries(state: ObservedState) -> int:
    """The failures that spent the backoff limit: not the one that no retry can cure."""
    recorded = state.run.status.restarts_count_towards_max
    job, spec = state.job, state.run.spec
    if job is None or spec is None:
        return recorded
    last = state.last_finished_pod
    permanent = bool(job.end) and last is not None and last.exit_code == ExitCode.PERMANENT
    counted = job.failures_before + job.failed - (1 if permanent else 0)
    return max(recorded, min(counted, spec.backoff_limit))
