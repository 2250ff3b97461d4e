"""How a run is judged while it trains, and what ends it early: frozen values, and the tables of their fields.

Must not know how the trainer measures.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from aisandbox_crds.field_rules import about

MAX_TIMESTEPS = 10**12


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Episodes played during training on an environment of their own."""

    every_timesteps: int = field(
        default=0,
        metadata=about(
            "Environment steps of training between evaluations. 0 means as often as checkpoints.",
            minimum=0,
            maximum=MAX_TIMESTEPS,
        ),
    )
    episodes: int = field(
        default=10,
        metadata=about(
            "Episodes an evaluation plays.",
            minimum=1,
            maximum=10_000,
            bits=32,
        ),
    )
    stochastic: bool = field(
        default=False,
        metadata=about(
            "Whether evaluations draw actions from the policy, instead of taking the likeliest.",
        ),
    )


@dataclass(frozen=True, slots=True)
class StopWhen:
    """What ends a run before totalTimesteps, as Succeeded: whichever of them comes first."""

    episode_reward_mean: float | None = field(
        default=None,
        metadata=about(
            "Stop when the mean training return reaches this value: that of the last episodes (100, or "
            "stats_window_size), once there have been so many. It is checked after each rollout in which an episode "
            "has ended.",
        ),
    )
    evaluation_reward_mean: float | None = field(
        default=None,
        metadata=about(
            "Stop when the mean return of an evaluation reaches this value. Needs evaluation.",
        ),
    )
    times_in_a_row: int = field(
        default=1,
        metadata=about(
            "How many times in a row the mean return must be reached.",
            minimum=1,
            maximum=10_000,
            bits=32,
        ),
    )
    evaluations_without_improvement: int = field(
        default=0,
        metadata=about(
            "Stop after this many evaluations in a row without a better mean return than the best before them. Needs "
            "evaluation. 0 means no limit.",
            minimum=0,
            maximum=10_000,
            bits=32,
        ),
    )
    training_seconds: int = field(
        default=0,
        metadata=about(
            "Stop after this many seconds of training, over all attempts, evaluations and waits for simulators "
            "included; what a restart repeats is counted once. The run ends with the rollout in which they have "
            "passed. 0 means no limit.",
            minimum=0,
            maximum=2**31 - 1,
        ),
    )
