"""A run with everything that was observed of it, and the questions that several rules ask of that.

Owns what the facts amount to ("its trainers have stopped"). Must not decide anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from aisandbox_crds import QUEUE_LABEL, Phase, TerminationMessage, seconds_since

from aisandbox_operator.job_manifest import wanted_labels
from aisandbox_operator.observed_objects import ObservedJob, ObservedPod, ObservedRun, RelatedObjects
from aisandbox_operator.settings import Settings

SILENT_NODE_SECONDS = 30
"""How long a pod may run after its grace period before its node counts as one that does not answer."""
LOST_POD_SECONDS = 300
"""How long a pod may exist after its grace period before it counts as ended: its node is lost.

Kubernetes itself takes as long to evict the pods of a node that does not answer (its default toleration).
"""


@dataclass(frozen=True, slots=True)
class ObservedState:
    """The run, its related objects, the settings and the time."""

    run: ObservedRun
    related: RelatedObjects
    settings: Settings
    now: datetime

    @property
    def job(self) -> ObservedJob | None:
        """The run's Job."""
        job = self.own_job
        return job if job is not None and job.files_uid in ("", self.run.files_uid) else None

    @property
    def own_job(self) -> ObservedJob | None:
        """The run's Job, also if it was created before the run was restored, and continues no files of it."""
        job = self.related.job
        return job if job is not None and job.owner_uid == self.run.uid else None

    @property
    def other_job(self) -> ObservedJob | None:
        """A Job that has the run's name and does not belong to the run."""
        job = self.related.job
        return job if job is not None and job.owner_uid != self.run.uid else None

    @property
    def pods(self) -> tuple[ObservedPod, ...]:
        """The run's pods, of all its Jobs, oldest first."""
        return _by_age(pod for pod in self.related.pods if pod.files_uid == self.run.files_uid)

    @property
    def job_pods(self) -> tuple[ObservedPod, ...]:
        """The pods of the run's present Job, oldest first."""
        job = self.job
        return _by_age(pod for pod in self.related.pods if job is not None and pod.job_uid == job.uid)

    @property
    def active_pods(self) -> tuple[ObservedPod, ...]:
        """Pods labelled with the run's name, of any run, whose containers may still run; oldest first."""
        return _by_age(pod for pod in self.related.pods if not pod.is_over and not self._is_lost(pod))

    @property
    def current_pod(self) -> ObservedPod | None:
        """The newest pod of the Job that is not over."""
        return next((pod for pod in reversed(self.job_pods) if not pod.is_over), None)

    @property
    def last_finished_pod(self) -> ObservedPod | None:
        """The pod of the run that ended last."""
        over = [pod for pod in self.pods if pod.is_over]
        return max(over, key=lambda pod: (_timestamp(pod.ended or pod.created), pod.name), default=None)

    @property
    def termination_messages(self) -> tuple[TerminationMessage, ...]:
        """The termination messages of the run's trainers."""
        of_pods = (pod.termination_message for pod in self.pods if pod.termination_message is not None)
        return (*of_pods, *self.related.recorded_messages)

    @property
    def newest_message(self) -> TerminationMessage | None:
        """The termination message of the newest attempt that has left one."""
        return max(self.termination_messages, key=lambda message: message.attempt, default=None)

    @property
    def queue(self) -> str:
        """The queue of Kueue that the run names, in its spec or else its metadata; empty: none."""
        spec = self.run.spec
        return "" if spec is None else wanted_labels(spec, self.run.labels).get(QUEUE_LABEL, "")

    @property
    def is_queued(self) -> bool:
        """Whether Kueue decides when the Job may run: by the label that the Job has, or will be created with."""
        return bool(self.queue if self.job is None else self.job.queue)

    @property
    def is_stopped(self) -> bool:
        """Whether the Job is suspended and no pod of it may still run."""
        job = self.job
        if job is None or not (job.is_suspended and job.has_settled) or job.active:
            return False
        return all(pod.is_over or self._is_lost(pod) for pod in self.job_pods)

    @property
    def last_known_phase(self) -> Phase:
        """The phase when nothing new is known: Running if a trainer has started, even if that was never seen."""
        pod = self.current_pod
        if pod is not None and pod.started is not None and pod.deletion_time is None:
            return Phase.RUNNING
        phase = self.run.status.phase
        return phase if phase in (Phase.STARTING, Phase.RUNNING, Phase.SUSPENDED) else Phase.PENDING

    def lost_since(self, pod: ObservedPod) -> datetime | None:
        """Since when the pod's node has not answered: it says nothing, or does not end a pod that is overdue."""
        overdue = seconds_since(pod.deletion_time, self.now) if pod.deletion_time else None
        is_silent = overdue is not None and overdue >= SILENT_NODE_SECONDS
        return pod.lost_since or (pod.deletion_time if is_silent else None)

    def _is_lost(self, pod: ObservedPod) -> bool:
        """Whether the pod's node is lost; should its trainer still run, the store's fence keeps it from publishing."""
        overdue = seconds_since(pod.deletion_time, self.now) if pod.deletion_time else None
        return overdue is not None and overdue > LOST_POD_SECONDS


def _by_age(pods: Iterable[ObservedPod]) -> tuple[ObservedPod, ...]:
    return tuple(sorted(pods, key=lambda pod: (_timestamp(pod.created), pod.name)))


def _timestamp(time: datetime | None) -> float:
    return 0.0 if time is None else time.timestamp()
