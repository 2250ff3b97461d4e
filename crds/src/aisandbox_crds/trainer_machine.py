"""Fields about the trainer's machine that a spec keeps in Kubernetes' own form: resources and tolerations.

Must not know how the operator makes a pod of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aisandbox_crds.field_rules import Pattern, about
from aisandbox_crds.label_rules import LABEL_KEY, LABEL_NAME


@dataclass(frozen=True, slots=True)
class Resources:
    """The fields of ``resources``, which a spec keeps as Kubernetes has them."""

    requests: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "What is reserved on a node for the trainer, for example {cpu: 500m, memory: 2Gi}. Without it, the limits.",
            max_entries=32,
        ),
    )
    limits: Mapping[str, Any] = field(
        default_factory=dict,
        metadata=about(
            "What the trainer may use at most, for example {cpu: 2, memory: 4Gi, nvidia.com/gpu: 1}. A trainer that "
            "exceeds its memory is killed, and the next attempt continues from the latest checkpoint.",
            max_entries=32,
        ),
    )


@dataclass(frozen=True, slots=True)
class Toleration:
    """The taints that match key, value and effect.

    The fields of an entry of ``tolerations``, which a spec keeps as Kubernetes has them.
    """

    key: str = field(
        default="",
        metadata=about(
            "The key of the taint; without it, with the operator Exists, every taint.",
            max_length=317,
            pattern=Pattern(f"({LABEL_KEY})?", "must be the key of a taint, as a label's"),
        ),
    )
    operator: str = field(
        default="",
        metadata=about(
            "Whether the taint must have the value (Equal) or any (Exists). Without it, Equal.",
            choices=("Exists", "Equal"),
        ),
    )
    value: str = field(
        default="",
        metadata=about(
            "The value of the taint.",
            max_length=63,
            pattern=Pattern(f"({LABEL_NAME})?", "must be the value of a taint, as a label's"),
        ),
    )
    effect: str = field(
        default="",
        metadata=about(
            "The effect of the taint; without it, every effect.",
            choices=("NoSchedule", "PreferNoSchedule", "NoExecute"),
        ),
    )
    toleration_seconds: int | None = field(
        default=None,
        metadata=about(
            "Seconds the trainer stays on a node that gets a taint NoExecute. Without it, without limit.",
        ),
    )
