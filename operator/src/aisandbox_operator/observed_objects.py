"""What the operator reads of the cluster, as frozen values: a run, its Job, its pods.

Owns which fields matter. Must not know their JSON form (:mod:`aisandbox_operator.decoding`) nor what follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from aisandbox_crds import TerminationMessage, TrainingRunSpec, TrainingRunStatus

from aisandbox_operator.job_manifest import JobOrigin


@dataclass(frozen=True, slots=True)
class ObservedRun:
    """A TrainingRun. ``problem``: why its spec cannot be trained, or empty; ``spec`` None: it cannot be read at all.

    ``problem_may_be_new``: it is one of a field that can be changed after the run is created.
    ``labels`` are those of its metadata.
    """

    name: str
    uid: str
    spec: TrainingRunSpec | None
    status: TrainingRunStatus = field(default_factory=TrainingRunStatus)
    problem: str = ""
    problem_may_be_new: bool = False
    generation: int = 0
    resource_version: str = ""
    created: datetime | None = None
    is_being_deleted: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def files_uid(self) -> str:
        """The uid that its files belong to: that of another run if it was restored from a backup with its status."""
        return self.status.files_uid or self.uid


@dataclass(frozen=True, slots=True)
class ObservedJob:
    """A Job. ``owner_kind`` and ``owner_uid`` are its controller's, empty without one.

    ``files_uid``: whose files its trainers continue; empty if they are not a run's. ``origin``: what it was created
    from. ``resumed_generation``: the generation of the run for which the operator last let it run; 0 if it never did.
    ``suspended_by``: the field manager that last set its ``spec.suspend``.

    ``failed`` counts the pods that spent its backoff limit; ``failures_before`` those of earlier Jobs of the run.
    ``end`` is "Complete", "Failed" or empty, with its ``end_reason`` and ``end_message``.
    ``is_finishing``: its end is decided, its pods may not have ended yet. ``is_suspended`` is its ``spec.suspend``,
    ``has_settled`` whether the Job controller has acted on that. ``queue``: its label for Kueue, empty without one.
    """

    name: str
    uid: str
    owner_kind: str = ""
    owner_uid: str = ""
    files_uid: str = ""
    origin: JobOrigin | None = None
    resumed_generation: int = 0
    suspended_by: str = ""
    is_being_deleted: bool = False
    is_finishing: bool = False
    is_suspended: bool = False
    has_settled: bool = False
    active: int = 0
    failed: int = 0
    failures_before: int = 0
    end: str = ""
    end_reason: str = ""
    end_message: str = ""
    ended: datetime | None = None
    created: datetime | None = None
    started: datetime | None = None
    queue: str = ""


@dataclass(frozen=True, slots=True)
class ObservedPod:
    """A pod of a run and its container ``trainer``.

    ``phase``: Pending, Running, Succeeded, Failed or Unknown. ``reason`` and ``message`` are the pod's own ("Evicted").
    ``job_uid``: the Job it belongs to, ``files_uid``: whose files its trainer continues. ``waits_for`` and
    ``wait_message``: why the trainer has not started. ``unscheduled``: why the pod has no node, with
    ``unscheduled_message``. ``exit_code`` None: has not ended. ``termination_message`` is the trainer's, ``log_tail``
    the end of its log where it left none. ``deletion_time``: when its grace period ends. ``node``: where it runs.
    ``image``: the trainer's. ``lost_since``: since when its node has not answered, if it has a node that does not.
    ``sidecars``: its other containers that run.
    """

    name: str
    uid: str
    phase: str = "Pending"
    job_uid: str = ""
    files_uid: str = ""
    created: datetime | None = None
    scheduled: datetime | None = None
    deletion_time: datetime | None = None
    node: str = ""
    image: str = ""
    lost_since: datetime | None = None
    sidecars: tuple[str, ...] = ()
    reason: str = ""
    message: str = ""
    was_disrupted: bool = False
    unscheduled: str = ""
    unscheduled_message: str = ""
    waits_for: str = ""
    wait_message: str = ""
    is_running: bool = False
    started: datetime | None = None
    exit_code: int | None = None
    exit_reason: str = ""
    ended: datetime | None = None
    termination_message: TerminationMessage | None = None
    log_tail: str = ""

    @property
    def is_over(self) -> bool:
        """Whether none of its containers will run again."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class RelatedObjects:
    """The Job that has the run's name, whatever created it, and all pods labelled with that name.

    ``recorded_messages``: termination messages of the run's trainers whose pods may be deleted; lost when the operator
    restarts. ``job_refusal``: why the API server does not accept the run's Job, ``is_refused_permanently``: it never
    will, ``is_webhook_down``: an admission webhook does not answer it. ``pod_refusal``: why the API server does not
    accept the Job's pod.
    """

    job: ObservedJob | None = None
    pods: tuple[ObservedPod, ...] = ()
    recorded_messages: tuple[TerminationMessage, ...] = ()
    job_refusal: str = ""
    is_refused_permanently: bool = False
    is_webhook_down: bool = False
    pod_refusal: str = ""
