"""A run with everything that was seen of it, and the questions that several policies ask of that.

Owns what the facts amount to ("its trainers have stopped"). Must not decide anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from aisandbox_crds.status import Phase
from aisandbox_crds.times import seconds_since
from aisandbox_crds.trainer_exit import TerminationMessage

from aisandbox_operator.names import QUEUE_LABEL
from aisandbox_operator.settings import Settings
from aisandbox_operator.views import JobView, Observed, PodView, RunView

ABANDONED_SECONDS = 300
"""After a pod's grace is over: as long as Kubernetes needs to give up a node, so nobody waits for one for ever."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What was seen, the settings and the time."""

    run: RunView
    observed: Observed
    settings: Settings
    now: datetime

    @property
    def job(self) -> JobView | None:
        """The run's Job."""
        job = self.observed.job
        return job if job is not None and job.owner_uid == self.run.uid else None

    @property
    def other_job(self) -> JobView | None:
        """A Job that has the run's name and is not its own."""
        job = self.observed.job
        return job if job is not None and job.owner_uid != self.run.uid else None

    @property
    def pods(self) -> tuple[PodView, ...]:
        """The run's pods, of all its Jobs, oldest first."""
        return _by_age(pod for pod in self.observed.pods if pod.run_uid == self.run.uid)

    @property
    def job_pods(self) -> tuple[PodView, ...]:
        """The pods of the run's present Job, oldest first."""
        job = self.job
        return _by_age(pod for pod in self.observed.pods if job is not None and pod.job_uid == job.uid)

    @property
    def lingering(self) -> tuple[PodView, ...]:
        """Pods with the run's name, whosever, that may still do something."""
        return _by_age(pod for pod in self.observed.pods if not pod.is_over and not self._is_abandoned(pod))

    @property
    def present_pod(self) -> PodView | None:
        """The newest pod of the Job that is not over."""
        return next((pod for pod in reversed(self.job_pods) if not pod.is_over), None)

    @property
    def last_ended(self) -> PodView | None:
        """The pod of the run that ended last."""
        over = [pod for pod in self.pods if pod.is_over]
        return max(over, key=lambda pod: (_stamp(pod.ended or pod.created), pod.name), default=None)

    @property
    def endings(self) -> tuple[TerminationMessage, ...]:
        """What trainers of the run have said at their ends."""
        return (*(pod.ending for pod in self.pods if pod.ending is not None), *self.observed.heard)

    @property
    def is_queued(self) -> bool:
        """Whether Kueue decides when the Job may run."""
        return self.run.spec is not None and bool(self.run.spec.labels.get(QUEUE_LABEL))

    @property
    def has_stopped(self) -> bool:
        """Whether the Job is suspended and no pod of it is left that may do something."""
        job = self.job
        if job is None or not (job.is_suspended and job.has_settled) or job.active:
            return False
        return all(pod.is_over or self._is_abandoned(pod) for pod in self.job_pods)

    @property
    def phase_at_work(self) -> Phase:
        """The phase to stay in while something is still ending: Running if a trainer has begun, whoever has seen it."""
        pod = self.present_pod
        if pod is not None and pod.started is not None and pod.deletion_time is None:
            return Phase.RUNNING
        phase = self.run.status.phase
        return phase if phase in (Phase.STARTING, Phase.RUNNING, Phase.SUSPENDED) else Phase.PENDING

    def _is_abandoned(self, pod: PodView) -> bool:
        """A pod whose grace is long over, on a node that does not answer; the store's fence keeps its trainer out."""
        overdue = seconds_since(pod.deletion_time, self.now) if pod.deletion_time else None
        return overdue is not None and overdue > ABANDONED_SECONDS


def _by_age(pods: Iterable[PodView]) -> tuple[PodView, ...]:
    return tuple(sorted(pods, key=lambda pod: (_stamp(pod.created), pod.name)))


def _stamp(time: datetime | None) -> float:
    return 0.0 if time is None else time.timestamp()
