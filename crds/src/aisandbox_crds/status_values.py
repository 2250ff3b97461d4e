"""The values that a status is made of: artifacts, activity, lesson, cloning, failure; and the tables of their fields.

A trainer reports most of them (:class:`aisandbox_crds.status.ProgressReport`). Must not know which ones a status has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from aisandbox_crds.field_rules import about


class Activity(StrEnum):
    """What a trainer is doing, as ``status.progress.activity`` spells it."""

    STARTING = "Starting"
    TRAINING = "Training"
    WAITING_FOR_SIMULATOR = "WaitingForSimulator"
    EVALUATING = "Evaluating"
    UPDATING = "Updating"
    WAITING_FOR_STEP = "WaitingForStep"
    CLONING = "Cloning"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a run failed: one CamelCase word for programs and a sentence for people."""

    reason: str = field(
        metadata=about(
            "Why, in one CamelCase word. docs/trainingrun.md has all of them.",
        )
    )
    message: str = field(
        metadata=about(
            "Why, in a sentence, and what can be done.",
        )
    )


@dataclass(frozen=True, slots=True)
class EarlyStop:
    """Why a run has ended before its totalTimesteps: one CamelCase word for programs and a sentence for people."""

    reason: str = field(
        metadata=about(
            "Which rule of spec.stopWhen was met: RewardReached, NoImprovement or TimeReached.",
        )
    )
    message: str = field(
        metadata=about(
            "What was reached, in a sentence.",
        )
    )


@dataclass(frozen=True, slots=True)
class Artifact:
    """A checkpoint or model of the run."""

    path: str = field(
        metadata=about(
            "Its folder, relative to the run's folder; of startedFrom, relative to the volume of models.",
        )
    )
    timesteps: int = field(
        metadata=about(
            "The environment steps of training it was made after.",
        )
    )
    digest: str = field(
        metadata=about(
            "Its identity, as sha256:..., of all its files.",
        )
    )
    reward_mean: float | None = field(
        default=None,
        metadata=about(
            "The mean undiscounted return of the evaluation it was chosen by, if any.",
        ),
    )
    time: str | None = field(
        default=None,
        metadata=about(
            "When it was published.",
            time=True,
        ),
    )


@dataclass(frozen=True, slots=True)
class LessonProgress:
    """The lesson that the run is in."""

    name: str = field(metadata=about("Its name."))
    number: int = field(metadata=about("Its number, from 1.", bits=32))
    count: int = field(metadata=about("How many lessons the run has.", bits=32))
    episodes: int = field(default=0, metadata=about("How many of its episodes have ended."))
    timesteps: int = field(default=0, metadata=about("Environment steps taken in it, over all environments."))
    reward_mean: float | None = field(
        default=None,
        metadata=about("Mean undiscounted return of its last episodes, as many as its end is decided by."),
    )


@dataclass(frozen=True, slots=True)
class CloningProgress:
    """How far the policy has learned from demonstrations."""

    epoch: int = field(metadata=about("The epoch that it is in, from 1; when it is done, the last one.", bits=32))
    epochs: int = field(metadata=about("How many epochs there are.", bits=32))
    loss: float | None = field(
        default=None,
        metadata=about("The mean loss of the last epoch that is complete. What it is depends on the algorithm."),
    )
    episodes: int = field(default=0, metadata=about("How many episodes it learns from."))
    steps: int = field(default=0, metadata=about("How many steps they have."))
