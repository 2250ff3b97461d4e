"""The status of a TrainingRun: what has become of it, as frozen values.

Owns the names of the fields and of the phases. Must not know who writes a status or where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum


class Phase(StrEnum):
    """Where a run is in its life, for people."""

    PENDING = "Pending"
    STARTING = "Starting"
    RUNNING = "Running"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def is_done(self) -> bool:
        """Whether the run will never change again."""
        return self in (Phase.SUCCEEDED, Phase.FAILED, Phase.CANCELLED)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed: one CamelCase word for programs and a sentence for people."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Artifact:
    """A checkpoint or model of the run; ``path`` is relative to the run's folder, ``digest`` is its identity."""

    path: str
    timesteps: int
    digest: str
    reward_mean: float | None = None
    time: str | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run is; rewards are undiscounted returns, ``fps`` is environment steps a second.

    ``attempt`` is the one that reported it.
    """

    timesteps: int = 0
    total_timesteps: int = 0
    progress_percentage: float = 0.0
    fps: float = 0.0
    estimated_remaining_seconds: float | None = None
    episode_reward_mean: float | None = None
    episode_length_mean: float | None = None
    evaluation_reward_mean: float | None = None
    activity: str = ""
    warning: str = ""
    last_updated_time: str | None = None
    attempt: int = 0


class ConditionType(StrEnum):
    """What a condition speaks of, for programs (``kubectl wait --for=condition=Complete``)."""

    SUSPENDED = "Suspended"
    RUNNING = "Running"
    COMPLETE = "Complete"
    FAILED = "Failed"
    PROGRESS_STALLED = "ProgressStalled"
    CHECKPOINTS_SAVED = "CheckpointsSaved"


class ConditionStatus(StrEnum):
    """Whether a condition holds."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that is so, or is not, with its reason; Kubernetes' metav1.Condition.

    ``last_transition_time`` is when ``status`` last changed. ``observed_generation`` is that of the spec it speaks of.
    """

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0


@dataclass(frozen=True, slots=True)
class TrainingRunStatus:
    """What has become of a run. Times are RFC 3339 in UTC.

    ``attempt`` counts the trainers that have begun. ``suspensions`` counts those that were stopped by a suspend,
    ``restarts`` the attempts after the first that no suspend explains, and ``restarts_count_towards_max`` those of them
    that spent ``spec.backoff_limit``. ``observed_generation`` and ``conditions`` are Kubernetes'.
    """

    phase: Phase = Phase.PENDING
    start_time: str | None = None
    completion_time: str | None = None
    progress: Progress = field(default_factory=Progress)
    latest_checkpoint: Artifact | None = None
    latest_model: Artifact | None = None
    best_model: Artifact | None = None
    resumed_from: Artifact | None = None
    attempt: int = 0
    suspensions: int = 0
    restarts: int = 0
    restarts_count_towards_max: int = 0
    timesteps_lost: int = 0
    failure: Failure | None = None
    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
