"""How often a run was tried: attempts, suspensions, restarts, and what was spent of the backoff limit.

Every number only grows, and each can be told from what the cluster shows now and what the status says already, so an
operator that was away, or counts twice, comes to the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from aisandbox_crds.status import Phase
from aisandbox_crds.trainer_exit import ExitCode

from aisandbox_operator.decision import Decision, SuspendJob
from aisandbox_operator.situation import Situation


@dataclass(frozen=True, slots=True)
class Account:
    """The numbers of a run's status."""

    attempt: int
    suspensions: int
    restarts: int
    restarts_count_towards_max: int


def account_of(situation: Situation, decision: Decision | None = None) -> Account:
    """The numbers now; ``decision`` is what was decided about the run, if it has been.

    ``attempt`` is what trainers have claimed, because it is their fence. One that was killed may have told nobody, so
    where restarts are counted the pods that began count as well. A trainer was stopped by a suspend if the run was
    Running until the decision says it is suspended or queued, or going on after that. It is taken to have claimed its
    attempt, unless it was heard to say that it has not; ``attempt`` itself is never a guess, as it fences reports.
    """
    status = situation.run.status
    said = [ending.attempt for ending in situation.endings]
    attempt = max(status.attempt, status.progress.attempt, *said, 0)
    stops = decision is not None and (
        decision.phase is Phase.SUSPENDED
        or decision.is_queued
        or (isinstance(decision.action, SuspendJob) and not decision.action.suspended)
    )
    suspensions = status.suspensions
    if stops and status.phase is Phase.RUNNING:
        claimed = attempt if 0 in said else max(attempt, status.suspensions + status.restarts + 1)
        suspensions += suspensions < claimed
    begun = sum(pod.started is not None for pod in situation.pods)
    restarts = max(status.restarts, max(attempt, begun) - 1 - suspensions)
    return Account(attempt, suspensions, restarts, _spent(situation))


def _spent(situation: Situation) -> int:
    """The failures that spent the backoff limit: not the one that a retry could not have cured."""
    recorded = situation.run.status.restarts_count_towards_max
    job, spec = situation.job, situation.run.spec
    if job is None or spec is None:
        return recorded
    last = situation.last_ended
    permanent = bool(job.end) and last is not None and last.exit_code == ExitCode.PERMANENT
    counted = job.failures_before + job.failed - (1 if permanent else 0)
    return max(recorded, min(counted, spec.backoff_limit))
