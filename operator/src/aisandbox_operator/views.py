"""What the operator sees of the cluster, as frozen values: a run, its Job, its pods.

Owns which fields matter. Must not know the raw form (:mod:`aisandbox_operator.decoding`) nor what follows from them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_crds.status import TrainingRunStatus
from aisandbox_crds.trainer_exit import TerminationMessage


@dataclass(frozen=True, slots=True)
class RunView:
    """A TrainingRun. ``problem``: why its spec cannot be trained, or empty; ``spec`` None: it cannot even be read."""

    name: str
    uid: str
    spec: TrainingRunSpec | None
    status: TrainingRunStatus = field(default_factory=TrainingRunStatus)
    problem: str = ""
    generation: int = 0
    resource_version: str = ""
    created: datetime | None = None
    is_being_deleted: bool = False


@dataclass(frozen=True, slots=True)
class JobView:
    """A Job. ``owner_kind`` and ``owner_uid`` are its controller's, empty without one.

    ``failed`` counts the pods that spent its backoff limit; ``failures_before`` those of earlier Jobs of the run.
    ``end`` is "Complete", "Failed" or empty, with its ``end_reason`` and ``end_message``.
    ``is_finishing``: that is decided, its pods may not have ended yet. ``is_suspended`` is its spec, ``has_settled``
    whether the Job controller has acted on that.
    """

    name: str
    uid: str
    owner_kind: str = ""
    owner_uid: str = ""
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


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of a run and its container ``trainer``.

    ``phase``: Pending, Running, Succeeded, Failed or Unknown. ``reason`` and ``message`` are the pod's own ("Evicted").
    ``job_uid`` and ``run_uid``: whose it is. ``waits_for`` and ``wait_message``: why the trainer has not started.
    ``unscheduled``: why the pod has no node, with ``unscheduled_message``. ``exit_code`` None: has not ended.
    ``ending`` is the trainer's termination message, ``last_words`` what it left instead of one.
    ``deletion_time``: when its grace is over.
    """

    name: str
    uid: str
    phase: str = "Pending"
    job_uid: str = ""
    run_uid: str = ""
    created: datetime | None = None
    scheduled: datetime | None = None
    deletion_time: datetime | None = None
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
    ending: TerminationMessage | None = None
    last_words: str = ""

    @property
    def is_over(self) -> bool:
        """Whether none of its containers will ever run again."""
        return self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Observed:
    """The Job that has the run's name, if any, whoever made it, and all pods labelled with it.

    ``heard``: what trainers of the run have said whose pods may be gone; lost when the operator is started anew.
    ``refused``: why the API server does not take the run's Job, and ``refused_for_good`` whether it never will.
    """

    job: JobView | None = None
    pods: tuple[PodView, ...] = ()
    heard: tuple[TerminationMessage, ...] = ()
    refused: str = ""
    refused_for_good: bool = False
