"""Keywords that the classes of several algorithms have in common, by their defaults. Must not know algorithms."""

from __future__ import annotations

from collections.abc import Mapping

from aisandbox_crds.parameter import Hyperparameter
from aisandbox_crds.parameter_types import (
    AutoType,
    BoolType,
    DeviceType,
    DictType,
    FloatType,
    FrequencyType,
    IntType,
    OptionalType,
    ParameterType,
    ScheduleType,
)
from aisandbox_crds.parameter_values import Value
from aisandbox_crds.policy_kwargs import PolicyKwargsType

FRACTION = FloatType(0, 1)
POSITIVE = FloatType(0, above=True)
COEFFICIENT = FloatType(0)


def rate(default: float, *, custom: bool = False) -> Hyperparameter:
    """The learning rate."""
    return Hyperparameter("learning_rate", ScheduleType(POSITIVE), default, "step size of the optimizer", custom)


def discount(*, custom: bool = False) -> Hyperparameter:
    """The discount factor."""
    return Hyperparameter("gamma", FRACTION, 0.99, "discount factor", custom)


def common(policy_keywords: Mapping[str, ParameterType]) -> tuple[Hyperparameter, ...]:
    """What every class has; the policies take ``policy_keywords``."""
    return (
        Hyperparameter("stats_window_size", IntType(1, 100_000), 100, "number of episodes in the reported means"),
        Hyperparameter("policy_kwargs", PolicyKwargsType(policy_keywords), None, "networks and optimizer, see below"),
        Hyperparameter("device", DeviceType(), "auto", "where PyTorch computes; not given: `cpu`, for images `auto`"),
    )


def gradient_norm(default: float | None) -> Hyperparameter:
    """The bound of the gradient's norm; None: there may be none."""
    limit: ParameterType = POSITIVE if default is not None else OptionalType(POSITIVE)
    return Hyperparameter("max_grad_norm", limit, default, "gradients are clipped to this norm")


def exploration_by_state() -> tuple[Hyperparameter, ...]:
    """State-dependent exploration, gSDE (Raffin et al. 2020)."""
    return (
        Hyperparameter("use_sde", BoolType(), False, "state-dependent exploration, for Box actions"),
        Hyperparameter(
            "sde_sample_freq", IntType(-1, 1_000_000), -1, "steps between new noise for use_sde; -1: once a rollout"
        ),
    )


def on_policy(gae_lambda: float, exploration: tuple[Hyperparameter, ...] | None = None) -> tuple[Hyperparameter, ...]:
    """What learns from rollouts; ``exploration`` None: by state-dependent exploration, for Box actions."""
    return (
        Hyperparameter("gae_lambda", FRACTION, gae_lambda, "trades bias (0) for variance (1) of the advantage (GAE)"),
        Hyperparameter("ent_coef", COEFFICIENT, 0.0, "weight of the entropy in the loss"),
        *(exploration_by_state() if exploration is None else exploration),
        gradient_norm(0.5),
    )


def clipped_updates(*, custom: bool = False) -> tuple[Hyperparameter, ...]:
    """What PPO (Schulman et al. 2017) and what follows from it have for their loss."""
    ratio = "clipping range of the policy's probability ratio"
    return (
        Hyperparameter("clip_range", ScheduleType(POSITIVE), 0.2, ratio, custom),
        Hyperparameter("clip_range_vf", OptionalType(ScheduleType(POSITIVE)), None, "the same for the value network"),
        Hyperparameter("normalize_advantage", BoolType(), True, "whether advantages are normalised in a minibatch"),
        Hyperparameter("vf_coef", COEFFICIENT, 0.5, "weight of the value network in the loss"),
        Hyperparameter("target_kl", OptionalType(POSITIVE), None, "ends an update early beyond 1.5 times this"),
    )


def replay(
    buffer_size: int, batch_size: int, train_freq: int, tau: float | None, *, custom: bool = False
) -> tuple[Hyperparameter, ...]:
    """What learns from a replay buffer; without target networks (``tau`` None) nothing is averaged."""
    share = "share of the new weights in an update of the target network"
    return (
        Hyperparameter(
            "buffer_size", IntType(1, 100_000_000), buffer_size, "transitions the replay buffer holds", custom
        ),
        Hyperparameter("batch_size", IntType(1, 10_000_000), batch_size, "transitions in a gradient step", custom),
        Hyperparameter("learning_starts", IntType(0, 10**12), 100, "environment steps before the first gradient step"),
        Hyperparameter(
            "train_freq",
            FrequencyType(IntType(1, 1_000_000)),
            train_freq,
            "steps of each environment between trainings",
        ),
        Hyperparameter(
            "gradient_steps",
            IntType(-1, 1_000_000),
            1,
            "in each training; -1: as many as transitions were gathered; 0 only with demonstrations",
        ),
        Hyperparameter("n_steps", IntType(1, 10_000), 1, "length of the returns that are learned from"),
        *((Hyperparameter("tau", FloatType(0, 1, above=True), tau, share),) if tau is not None else ()),
        Hyperparameter(
            "optimize_memory_usage", BoolType(), False, "half the memory; needs handle_timeout_termination=False"
        ),
        Hyperparameter(
            "replay_buffer_kwargs",
            DictType({"handle_timeout_termination": BoolType()}, refused={}),
            None,
            "dict(handle_timeout_termination=False): a time limit counts as an end",
        ),
    )


def epsilon_greedy(fraction: float, final: float) -> tuple[Hyperparameter, ...]:
    """What explores by random actions."""
    return (
        target_updates(10_000),
        Hyperparameter(
            "exploration_fraction",
            FloatType(0, 1, above=True),
            fraction,
            "fraction of the run in which the exploration rate decreases",
        ),
        Hyperparameter("exploration_initial_eps", FRACTION, 1.0, "share of random actions at the start"),
        Hyperparameter("exploration_final_eps", FRACTION, final, "share of random actions after that part"),
    )


def target_updates(default: int) -> Hyperparameter:
    """How often target networks are updated."""
    unit = "environment steps" if default > 1 else "gradient steps"
    return Hyperparameter("target_update_interval", IntType(1, 10**12), default, f"{unit} between those updates")


def maximum_entropy() -> tuple[Hyperparameter, ...]:
    """What SAC (Haarnoja et al. 2018) and what follows from it have in addition."""
    auto: Value = "auto"
    return (
        Hyperparameter(
            "ent_coef", AutoType(COEFFICIENT, initial=True), auto, "weight of the entropy; auto: is learned"
        ),
        Hyperparameter(
            "target_entropy",
            AutoType(FloatType(-1e9, 1e9)),
            auto,
            "entropy that a learned ent_coef leads to; auto: minus the number of actions",
        ),
        *exploration_by_state(),
        Hyperparameter("use_sde_at_warmup", BoolType(), False, "whether use_sde is used before learning_starts too"),
    )
