"""The status of a TrainingRun: what has become of it, as frozen values and the table of its fields; a trainer's report.

Owns names, types and descriptions of the fields: the resource's schema and the page for users are generated from them
(see :mod:`aisandbox_crds.field_rules`). What a report makes of a status is in :mod:`aisandbox_crds.progress`. Must not
know who writes a status or where.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from aisandbox_crds.conditions import Condition
from aisandbox_crds.field_rules import about
from aisandbox_crds.status_values import Activity, Artifact, CloningProgress, EarlyStop, Failure, LessonProgress

_ATOMIC = {"x-kubernetes-map-type": "atomic"}


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
class ProgressReport:
    """A snapshot of a run by its trainer: the fields of ReportRequest in training_progress.proto, apart from its run.

    Those that :class:`Progress` or :class:`TrainingRunStatus` have too are described there; a measurement that is not
    known yet is None. ``unsaved``: why the last scheduled checkpoint or model is not saved; empty if it is saved.
    """

    attempt: int
    timesteps: int
    activity: Activity = Activity.STARTING
    fps: float = 0.0
    episode_reward_mean: float | None = None
    episode_length_mean: float | None = None
    evaluation_reward_mean: float | None = None
    latest_checkpoint: Artifact | None = None
    latest_model: Artifact | None = None
    best_model: Artifact | None = None
    resumed_from: Artifact | None = None
    warning: str = ""
    unsaved: str = ""
    timesteps_dropped: int = 0
    early_stop: EarlyStop | None = None
    lesson: LessonProgress | None = None
    started_from: Artifact | None = None
    trained_algorithm: str | None = None
    cloning: CloningProgress | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the run is."""

    timesteps: int = field(
        default=0,
        metadata=about(
            "Environment steps taken, over all environments. It falls when an attempt resumes from a checkpoint."
        ),
    )
    total_timesteps: int = field(
        default=0,
        metadata=about("The totalTimesteps of the spec."),
    )
    progress_percentage: float = field(
        default=0.0,
        metadata=about("timesteps in percent of totalTimesteps, at most 100."),
    )
    fps: float = field(
        default=0.0,
        metadata=about("Environment steps per second, including the time of updates."),
    )
    estimated_remaining_seconds: float | None = field(
        default=None,
        metadata=about("Seconds until totalTimesteps at the present speed."),
    )
    episode_reward_mean: float | None = field(
        default=None,
        metadata=about("Mean undiscounted return of the last episodes of training (100, or stats_window_size)."),
    )
    episode_length_mean: float | None = field(
        default=None,
        metadata=about("Mean length of those episodes, in environment steps."),
    )
    evaluation_reward_mean: float | None = field(
        default=None,
        metadata=about("Mean undiscounted return of the latest evaluation."),
    )
    activity: str = field(
        default="",
        metadata=about(
            "What the trainer is doing. Starting, Cloning (learning from demonstrations), Training, Evaluating, "
            "WaitingForSimulator, or, where it takes long, Updating (the policy) or WaitingForStep (the simulator is "
            "connected and has not answered a step).",
        ),
    )
    warning: str = field(
        default="",
        metadata=about("What the user should know of, in a sentence, such as a simulator that does not answer."),
    )
    last_updated_time: str | None = field(
        default=None,
        metadata=about(
            "When the trainer reported this.",
            time=True,
        ),
    )
    attempt: int = field(
        default=0,
        metadata=about(
            "The attempt that reported it.",
            bits=32,
        ),
    )
    timesteps_dropped: int = field(
        default=0,
        metadata=about(
            "Environment steps that this attempt has taken and dropped: rollouts that a stop or the simulator "
            "interrupted.",
        ),
    )
    lesson: LessonProgress | None = field(
        default=None,
        metadata=about("The lesson that the run is in. Without lessons, none."),
    )
    trained_algorithm: str | None = field(
        default=None,
        metadata=about(
            "The algorithm that trains: that of the spec, or MaskablePPO where that is PPO and the environment "
            "declares action masks.",
        ),
    )
    cloning: CloningProgress | None = field(
        default=None,
        metadata=about("How far the policy has learned from spec.demonstrations. Without them, none."),
    )


@dataclass(frozen=True, slots=True)
class TrainingRunStatus:
    """What has become of a run. Times are RFC 3339 in UTC."""

    phase: Phase = field(
        default=Phase.PENDING,
        metadata=about(
            "Where the run is in its life, for people; programs read conditions. Pending: accepted, or waiting "
            "for Kueue or for the next attempt. Starting: its Job exists, its trainer does not run yet. "
            "Running: its trainer runs. Suspended: stopped by suspend. Succeeded, Failed, Cancelled: done, for "
            "good.",
        ),
    )
    start_time: str | None = field(
        default=None,
        metadata=about(
            "When the first trainer of the run began.",
            time=True,
        ),
    )
    completion_time: str | None = field(
        default=None,
        metadata=about(
            "When the run was done. ttlSecondsAfterFinished counts from here.",
            time=True,
        ),
    )
    progress: Progress = field(
        default_factory=Progress,
        metadata=about("How far the run is, as its trainer last reported."),
    )
    latest_checkpoint: Artifact | None = field(
        default=None,
        metadata=about(
            "The latest state that training can continue from; only trainers read it.",
            schema=_ATOMIC,
        ),
    )
    latest_model: Artifact | None = field(
        default=None,
        metadata=about(
            "The latest model that can be served.",
            schema=_ATOMIC,
        ),
    )
    best_model: Artifact | None = field(
        default=None,
        metadata=about(
            "The model of the best evaluation.",
            schema=_ATOMIC,
        ),
    )
    resumed_from: Artifact | None = field(
        default=None,
        metadata=about(
            "The checkpoint that the present attempt resumed from; absent if it started from scratch.",
            schema=_ATOMIC,
        ),
    )
    attempt: int = field(
        default=0,
        metadata=about(
            "How many trainers have begun, the present one included.",
            bits=32,
        ),
    )
    suspensions: int = field(
        default=0,
        metadata=about(
            "How many of them a suspend has stopped.",
            bits=32,
        ),
    )
    restarts: int = field(
        default=0,
        metadata=about(
            "Attempts after the first that no suspend explains, for failures and for disruptions.",
            bits=32,
        ),
    )
    restarts_count_towards_max: int = field(
        default=0,
        metadata=about(
            "Restarts that count towards spec.backoffLimit; never more than it.",
            bits=32,
        ),
    )
    timesteps_lost: int = field(
        default=0,
        metadata=about(
            "Environment steps that were taken and are taken again, over all restarts and interrupted rollouts."
        ),
    )
    failure: Failure | None = field(
        default=None,
        metadata=about(
            "Why the run failed; set with the phase Failed.",
            schema=_ATOMIC,
        ),
    )
    early_stop: EarlyStop | None = field(
        default=None,
        metadata=about(
            "Why the run ended before totalTimesteps, by spec.stopWhen; its final model is the best one then.",
            schema=_ATOMIC,
        ),
    )
    started_from: Artifact | None = field(
        default=None,
        metadata=about(
            "What the run started from, by spec.startFrom.",
            schema=_ATOMIC,
        ),
    )
    observed_generation: int = field(
        default=0,
        metadata=about("The metadata.generation of the spec that phase and conditions are about."),
    )
    conditions: tuple[Condition, ...] = field(
        default=(),
        metadata=about(
            "The conditions of the run, for programs, as in kubectl wait --for=condition=Complete. Types: "
            "Suspended, Running, Complete, Failed, ProgressStalled, CheckpointsSaved; Ready, Reconciling and Stalled "
            "are for tools that know no TrainingRun (kstatus).",
            schema={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    )
    files_uid: str = field(
        default="",
        metadata=about(
            "The uid that the run's files belong to: its own, or, if it was restored from a backup with its "
            "status, that of the run that was backed up.",
            max_length=63,
            schema={"pattern": "^[0-9A-Za-z][-0-9A-Za-z]*$"},
        ),
    )
