"""The hyperparameters: every keyword of SB3's PPO, A2C and DQN that makes sense as text, and a few of RL Zoo's.

Owns names, types, ranges, defaults and one line on each. A test holds the table against the signatures of
stable-baselines3, so that a keyword it gains, loses or gives another default is noticed. Must not import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aisandbox_crds.errors import InvalidParameter
from aisandbox_crds.parameter_types import (
    BoolType,
    ChoiceType,
    DeviceType,
    DictType,
    FloatType,
    FrequencyType,
    IntType,
    ListType,
    OptionalType,
    ParameterType,
    ScheduleType,
    TextType,
    value_text,
)
from aisandbox_crds.parameter_values import Value
from aisandbox_crds.policy_kwargs import POLICIES, PolicyKwargsType
from aisandbox_crds.spec import Algorithm


@dataclass(frozen=True, slots=True)
class Parameter:
    """A hyperparameter.

    ``default`` is what holds without a value. It is SB3's own and not passed to SB3, unless ``custom``: then it is
    this project's and always passed.
    """

    name: str
    type: ParameterType
    default: Value
    description: str
    custom: bool = False


NORMALIZE_KEYWORDS = DictType(
    {
        "norm_obs": BoolType(),
        "norm_reward": BoolType(),
        "clip_obs": FloatType(0, above=True),
        "clip_reward": FloatType(0, above=True),
        "gamma": FloatType(0, 1),
        "epsilon": FloatType(0, 1, above=True),
        "norm_obs_keys": OptionalType(ListType(TextType(), 1, 100)),
    },
    refused={"training": "is decided by the service: statistics are updated in training and not in evaluation"},
)
"""The keywords of SB3's VecNormalize."""


@dataclass(frozen=True, slots=True)
class NormalizeType:
    """True, False, or the keywords of VecNormalize."""

    def __str__(self) -> str:
        return f"True, False or {NORMALIZE_KEYWORDS}"

    def check(self, value: Value) -> bool | dict[str, object]:
        """As :meth:`ParameterType.check`."""
        if isinstance(value, bool):
            return value
        if isinstance(value, Mapping):
            return NORMALIZE_KEYWORDS.check(value)
        raise InvalidParameter(f"must be {self}, got {value_text(value)}")


ZOO_PARAMETERS: tuple[Parameter, ...] = (
    Parameter(
        "policy", ChoiceType(POLICIES), None, "networks for vectors, images, a Dict; default: by the observation space"
    ),
    Parameter("n_envs", IntType(1, 4096), None, "environments stepped together; see environment.grpc.environments"),
    Parameter("normalize", NormalizeType(), False, "running normalisation of observations and rewards (VecNormalize)"),
    Parameter("frame_stack", IntType(1, 64), None, "how many of the last observations are stacked into one"),
)
"""What RL Zoo knows beside the keywords of the class."""

_RATE = FloatType(0, above=True)
_COEFFICIENT = FloatType(0)
_FRACTION = FloatType(0, 1)


def _shared(algorithm: Algorithm, max_grad_norm: float) -> tuple[Parameter, ...]:
    return (
        Parameter("max_grad_norm", FloatType(0, above=True), max_grad_norm, "gradients are clipped to this norm"),
        Parameter("stats_window_size", IntType(1, 100_000), 100, "number of episodes in the reported means"),
        Parameter("policy_kwargs", PolicyKwargsType(algorithm), None, "networks and optimizer, see below"),
        Parameter("device", DeviceType(), "auto", "where PyTorch computes"),
    )


def _on_policy(algorithm: Algorithm, gae_lambda: float) -> tuple[Parameter, ...]:
    return (
        Parameter("gae_lambda", _FRACTION, gae_lambda, "trades bias (0) for variance (1) of the advantage (GAE)"),
        Parameter("ent_coef", _COEFFICIENT, 0.0, "weight of the entropy in the loss"),
        Parameter("use_sde", BoolType(), False, "state-dependent exploration, for Box actions"),
        Parameter(
            "sde_sample_freq", IntType(-1, 1_000_000), -1, "steps between new noise for use_sde; -1: once a rollout"
        ),
        *_shared(algorithm, 0.5),
    )


_GAMMA = Parameter("gamma", _FRACTION, 0.99, "discount factor", custom=True)

PARAMETERS: Mapping[Algorithm, tuple[Parameter, ...]] = {
    Algorithm.PPO: (
        Parameter("learning_rate", ScheduleType(_RATE), 3e-4, "step size of the optimizer", custom=True),
        Parameter("n_steps", IntType(1, 1_000_000), 2048, "steps of each environment in a rollout", custom=True),
        Parameter("batch_size", IntType(1, 10_000_000), 64, "size of a minibatch", custom=True),
        Parameter("n_epochs", IntType(1, 1000), 10, "passes over a rollout", custom=True),
        _GAMMA,
        Parameter(
            "clip_range",
            ScheduleType(FloatType(0, above=True)),
            0.2,
            "clipping range of the policy's probability ratio",
            custom=True,
        ),
        Parameter(
            "clip_range_vf",
            OptionalType(ScheduleType(FloatType(0, above=True))),
            None,
            "the same for the value network",
        ),
        Parameter("normalize_advantage", BoolType(), True, "whether advantages are normalised in a minibatch"),
        Parameter("vf_coef", _COEFFICIENT, 0.5, "weight of the value network in the loss"),
        Parameter(
            "target_kl", OptionalType(FloatType(0, above=True)), None, "ends an update early beyond 1.5 times this"
        ),
        *_on_policy(Algorithm.PPO, 0.95),
    ),
    Algorithm.A2C: (
        Parameter("learning_rate", ScheduleType(_RATE), 7e-4, "step size of the optimizer", custom=True),
        Parameter("n_steps", IntType(1, 1_000_000), 5, "steps of each environment in a rollout", custom=True),
        _GAMMA,
        Parameter("vf_coef", _COEFFICIENT, 0.5, "weight of the value network in the loss", custom=True),
        Parameter("normalize_advantage", BoolType(), False, "whether advantages are normalised in a rollout"),
        Parameter("use_rms_prop", BoolType(), True, "use RMSprop instead of Adam"),
        Parameter("rms_prop_eps", FloatType(0, 1, above=True), 1e-5, "epsilon of that RMSprop"),
        *_on_policy(Algorithm.A2C, 1.0),
    ),
    Algorithm.DQN: (
        Parameter("learning_rate", ScheduleType(_RATE), 1e-4, "step size of the optimizer", custom=True),
        Parameter("buffer_size", IntType(1, 100_000_000), 50_000, "transitions the replay buffer holds", custom=True),
        Parameter("batch_size", IntType(1, 10_000_000), 32, "transitions in a gradient step", custom=True),
        _GAMMA,
        Parameter("learning_starts", IntType(0, 10**12), 100, "environment steps before the first gradient step"),
        Parameter("train_freq", FrequencyType(IntType(1, 1_000_000)), 4, "steps of each environment between trainings"),
        Parameter(
            "gradient_steps", IntType(-1, 1_000_000), 1, "in each training; -1: as many as transitions were gathered"
        ),
        Parameter("n_steps", IntType(1, 10_000), 1, "length of the returns that are learned from"),
        Parameter(
            "tau", FloatType(0, 1, above=True), 1.0, "share of the new weights in an update of the target network"
        ),
        Parameter("target_update_interval", IntType(1, 10**12), 10_000, "environment steps between those updates"),
        Parameter(
            "exploration_fraction",
            FloatType(0, 1, above=True),
            0.1,
            "fraction of the run in which the exploration rate decreases",
        ),
        Parameter("exploration_initial_eps", _FRACTION, 1.0, "share of random actions at the start"),
        Parameter("exploration_final_eps", _FRACTION, 0.05, "share of random actions after that part"),
        Parameter(
            "optimize_memory_usage", BoolType(), False, "half the memory; needs handle_timeout_termination=False"
        ),
        Parameter(
            "replay_buffer_kwargs",
            DictType({"handle_timeout_termination": BoolType()}, refused={}),
            None,
            "dict(handle_timeout_termination=False): a time limit counts as an end",
        ),
        *_shared(Algorithm.DQN, 10.0),
    ),
}
"""The keywords of each algorithm's class."""

_DECIDED = "is decided by the service"
_CODE = "would run code in the trainer"
_WRAPPER = f"{_CODE}: wrap the environment in the simulator, or use frame_stack and normalize"
REFUSED: Mapping[str, str] = {
    "env": "is the field environment of the request",
    "seed": "is the field seed of the request",
    "verbose": f"{_DECIDED}; see LOG_LEVEL",
    "tensorboard_log": f"{_DECIDED}: TensorBoard files are in the run's folder logs",
    "_init_setup_model": _DECIDED,
    "replay_buffer_class": "follows from the observation space",
    "rollout_buffer_class": "follows from the observation space",
    "rollout_buffer_kwargs": "is not needed: gamma and gae_lambda are hyperparameters of their own",
    "n_timesteps": "is the field total_timesteps of the request",
    "total_timesteps": "is a field of the request, not a hyperparameter",
    "env_wrapper": _WRAPPER,
    "vec_env_wrapper": _WRAPPER,
    "env_kwargs": "is the field environment.gymnasium.kwargs or environment.grpc.options of the request",
    "callback": f"{_CODE}; see the fields evaluation and checkpoint_every_timesteps of the request",
}
"""DictType of SB3 and keys of RL Zoo that are not hyperparameters here, and why."""
