"""The hyperparameters of every algorithm, and those around them that RL Zoo knows.

Owns what is common to all algorithms; the keywords of their classes come from :mod:`aisandbox_crds.algorithms`. A test
holds them against the signatures of stable-baselines3 and sb3-contrib, so that a keyword that is gained, lost or gets
another default is noticed. Must not import these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from aisandbox_crds.algorithms import ALGORITHMS
from aisandbox_crds.errors import InvalidParameter
from aisandbox_crds.parameter import Hyperparameter
from aisandbox_crds.parameter_types import (
    BoolType,
    ChoiceType,
    DictType,
    FloatType,
    IntType,
    ListType,
    OptionalType,
    TextType,
    value_text,
)
from aisandbox_crds.parameter_values import Value
from aisandbox_crds.policy_kwargs import POLICIES, RECURRENT_POLICIES
from aisandbox_crds.spec import Algorithm

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


ZOO_PARAMETERS: tuple[Hyperparameter, ...] = (
    Hyperparameter(
        "policy",
        ChoiceType((*POLICIES.values(), *RECURRENT_POLICIES.values())),
        None,
        "networks for vectors, images, a Dict; default: by the observation space",
    ),
    Hyperparameter(
        "n_envs", IntType(1, 4096), None, "environments stepped together; see environment.grpc.environments"
    ),
    Hyperparameter(
        "normalize", NormalizeType(), False, "running normalisation of observations and rewards (VecNormalize)"
    ),
    Hyperparameter("frame_stack", IntType(1, 64), None, "how many of the last observations are stacked into one"),
)
"""What RL Zoo knows beside the keywords of the class."""

NOISE_TYPES = ("normal", "ornstein-uhlenbeck")
NOISE_PARAMETERS: tuple[Hyperparameter, ...] = (
    Hyperparameter("noise_type", ChoiceType(NOISE_TYPES), None, "noise that is added to actions in training"),
    Hyperparameter("noise_std", FloatType(0), None, "standard deviation of that noise, of actions from -1 to 1"),
)
"""What RL Zoo knows for the algorithms with an ``action_noise``."""

PARAMETERS: Mapping[Algorithm, tuple[Hyperparameter, ...]] = {
    algorithm: traits.parameters for algorithm, traits in ALGORITHMS.items()
}
"""The keywords of each algorithm's class."""


def parameters_of(algorithm: Algorithm) -> tuple[Hyperparameter, ...]:
    """Every hyperparameter of the algorithm."""
    noise = NOISE_PARAMETERS if ALGORITHMS[algorithm].action_noise else ()
    return (*PARAMETERS[algorithm], *noise, *ZOO_PARAMETERS)


_DECIDED = "is decided by the service"
_CODE = "would run code in the trainer"
_WRAPPER = f"{_CODE}: wrap the environment in the simulator, or use frame_stack and normalize"
REFUSED: Mapping[str, str] = {
    "env": "is the field environment of the request",
    "seed": "is the field seed of the request",
    "verbose": f"{_DECIDED}; see LOG_LEVEL",
    "tensorboard_log": f"{_DECIDED}: TensorBoard files are in the run's folder logs",
    "_init_setup_model": _DECIDED,
    "action_noise": "is set by noise_type and noise_std",
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
