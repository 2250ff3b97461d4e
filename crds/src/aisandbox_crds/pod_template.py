"""What a run may change of its trainer's pod: the part of Kubernetes' PodTemplateSpec that a spec has.

Owns names, sizes and descriptions of the fields, which are Kubernetes' own; what a table cannot state is in
:mod:`aisandbox_crds.pod_template_rules`. Must not know what an administrator allows, nor how a pod is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aisandbox_crds.field_rules import ATOMIC, Pattern, about
from aisandbox_crds.label_rules import (
    ANNOTATION_KEYS,
    LABEL_KEYS,
    LABEL_VALUES,
    RESERVED_LABEL_RULES,
    object_name,
)


@dataclass(frozen=True, slots=True)
class LocalObject:
    """An object of the run's namespace.

    The fields of an entry of ``imagePullSecrets``, which a spec keeps as Kubernetes has them.
    """

    name: str = field(
        metadata=about("The name of the Secret.", min_length=1, max_length=253, pattern=object_name("Secret")),
    )


@dataclass(frozen=True, slots=True)
class TrainerContainer:
    """What is changed of the trainer's container."""

    name: str = field(metadata=about("The container; there is one, trainer.", choices=("trainer",)))
    image: str = field(
        default="",
        metadata=about(
            "The image of the trainer: the service's own, or one built on it, of the same version. Without it, the "
            "operator's TRAINER_IMAGE.",
            max_length=512,
            pattern=Pattern("([^ \\t\\r\\n]+)?", "must be the name of an image, without spaces"),
        ),
    )
    volume_mounts: tuple[Mapping[str, Any], ...] = field(
        default=(),
        metadata=about(
            "Where volumes of this template are mounted, as in a pod: {name: data, mountPath: /data, readOnly: true}.",
            max_entries=32,
            schema=ATOMIC,
        ),
    )


@dataclass(frozen=True, slots=True)
class PodMetadata:
    """Labels and annotations of the trainer's pod."""

    labels: Mapping[str, str] = field(
        default_factory=dict,
        metadata=about(
            "Labels of the pod only; spec.labels are on the Job too.",
            max_entries=64,
            max_length=63,
            key_pattern=LABEL_KEYS,
            pattern=LABEL_VALUES,
            cel=RESERVED_LABEL_RULES,
        ),
    )
    annotations: Mapping[str, str] = field(
        default_factory=dict,
        metadata=about(
            'Annotations of the pod, for example {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}.',
            max_entries=64,
            max_length=16_384,
            key_pattern=ANNOTATION_KEYS,
        ),
    )


@dataclass(frozen=True, slots=True)
class PodSpec:
    """Where and as whom the trainer's pod runs, and what is mounted into it."""

    service_account_name: str = field(
        default="",
        metadata=about(
            "The ServiceAccount of the pod; its token for the Kubernetes API is not mounted. Without it, the "
            "operator's TRAINER_SERVICE_ACCOUNT.",
            max_length=253,
            pattern=object_name("ServiceAccount"),
        ),
    )
    image_pull_secrets: tuple[Mapping[str, Any], ...] = field(
        default=(),
        metadata=about(
            "Secrets that nodes pull the image with, for example [{name: registry}]. Without it, those of "
            "the ServiceAccount.",
            max_entries=16,
            shape=LocalObject,
            schema=ATOMIC,
        ),
    )
    runtime_class_name: str = field(
        default="",
        metadata=about(
            "The RuntimeClass of the pod, for example gvisor or nvidia. Without it, the node's default.",
            max_length=253,
            pattern=object_name("RuntimeClass"),
        ),
    )
    scheduler_name: str = field(
        default="",
        metadata=about(
            "The scheduler of the pod. Without it, the cluster's default.",
            max_length=253,
            pattern=object_name("scheduler"),
        ),
    )
    affinity: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about("Node and pod affinity, as in a pod. Without it, none."),
    )
    topology_spread_constraints: tuple[Mapping[str, Any], ...] = field(
        default=(),
        metadata=about(
            "How trainers are spread over nodes and zones, as in a pod. Without it, the cluster's default.",
            max_entries=16,
            schema=ATOMIC,
        ),
    )
    security_context: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "As whom the trainer runs: runAsUser, runAsGroup, fsGroup, fsGroupChangePolicy, supplementalGroups and "
            "seLinuxOptions, as in a pod. Without it, user and group 65532, or what the operator is configured with."
        ),
    )
    volumes: tuple[Mapping[str, Any], ...] = field(
        default=(),
        metadata=about(
            "Volumes for the trainer beside that of the models, as in a pod: {name: data, persistentVolumeClaim: "
            "{claimName: data-set, readOnly: true}}.",
            max_entries=32,
            schema=ATOMIC,
        ),
    )
    containers: tuple[TrainerContainer, ...] = field(
        default=(),
        metadata=about(
            "The trainer's container, by its name: [{name: trainer, image: ..., volumeMounts: [...]}].",
            max_entries=1,
            schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    )


@dataclass(frozen=True, slots=True)
class PodTemplate:
    """What the trainer's pod has beside, or instead of, what the operator gives it."""

    metadata: PodMetadata | None = field(default=None, metadata=about("Labels and annotations of the pod."))
    spec: PodSpec | None = field(default=None, metadata=about("Where and as whom the pod runs, and its volumes."))
