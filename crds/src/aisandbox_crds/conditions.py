"""The conditions of a run, as a status has them: frozen values, and the table of their fields.

Kubernetes' metav1.Condition. Must not know when a condition holds, nor the reasons (:mod:`aisandbox_crds.reasons`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from aisandbox_crds.field_rules import about

_TYPE = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$"


class ConditionType(StrEnum):
    """What a condition is about, for programs (``kubectl wait --for=condition=Complete``)."""

    SUSPENDED = "Suspended"
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"
    PROGRESS_STALLED = "ProgressStalled"
    CHECKPOINTS_SAVED = "CheckpointsSaved"
    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition of the run: whether it holds, and why.

    Kubernetes' metav1.Condition. Its type may be one that this version does not know.
    """

    type: ConditionType = field(
        metadata=about(
            "What the condition is about.",
            max_length=316,
            schema={"enum": None, "pattern": _TYPE},
        )
    )
    status: ConditionStatus = field(
        metadata=about(
            "Whether the condition holds.",
        )
    )
    reason: str = field(
        metadata=about(
            "Why, in one CamelCase word.",
            min_length=1,
            max_length=1024,
            schema={"pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
        )
    )
    message: str = field(
        default="",
        metadata=about(
            "Why, in a sentence.",
            max_length=32768,
        ),
    )
    last_transition_time: str = field(
        default="",
        metadata=about(
            "When status last changed.",
            time=True,
        ),
    )
    observed_generation: int = field(
        default=0,
        metadata=about(
            "The metadata.generation of the spec that the condition is about.",
            minimum=0,
        ),
    )
