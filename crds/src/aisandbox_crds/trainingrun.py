"""The TrainingRun as a whole: metadata, spec and status.

The same object is a Kubernetes resource and the file ``trainingrun.json`` of a run on one machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_crds.status import TrainingRunStatus

GROUP = "aisandbox.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
KIND = "TrainingRun"

EXPERIMENT_ANNOTATION = f"{GROUP}/experiment-id"
REQUEST_ANNOTATION = f"{GROUP}/request-id"
REQUEST_DIGEST_ANNOTATION = f"{GROUP}/request-digest"

RUN_LABEL = f"{GROUP}/run"
"""On a run's Job and pods: the name of the run."""

QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
"""Of a run's metadata or its spec: Kueue decides when the run may train (kueue.sigs.k8s.io, "Run A Kubernetes Job")."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """A run. ``name`` is its run_id; ``creation_time`` and ``deletion_time`` are RFC 3339 in UTC.

    ``generation`` counts the changes of the spec, ``resource_version`` names this state of the resource; both are
    set by Kubernetes and empty on one machine.
    """

    name: str
    spec: TrainingRunSpec
    status: TrainingRunStatus = field(default_factory=TrainingRunStatus)
    uid: str = ""
    creation_time: str = ""
    annotations: Mapping[str, str] = field(default_factory=dict)
    generation: int = 0
    resource_version: str = ""
    deletion_time: str = ""

    @property
    def files_uid(self) -> str:
        """The uid that the run's files belong to: that of another one if it was restored from a backup."""
        return self.status.files_uid or self.uid
