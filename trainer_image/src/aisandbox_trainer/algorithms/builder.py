"""From hyperparameters to a stable-baselines3 algorithm.

Owns the mapping of names to torch's objects and the choice of the device. Must not know where environments come from
or what becomes of the model.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import torch
from aisandbox_crds.hyperparameters import ClassName, Hyperparameters, LinearSchedule
from aisandbox_crds.spec import Algorithm
from stable_baselines3.common import torch_layers
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import LinearSchedule as TorchLinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer.errors import InvalidHyperparameter
from aisandbox_trainer.fast_updates.dqn import FastDQN
from aisandbox_trainer.fast_updates.on_policy import FastA2C, FastPPO

CLASSES: Mapping[Algorithm, type[BaseAlgorithm]] = {
    Algorithm.PPO: FastPPO,
    Algorithm.A2C: FastA2C,
    Algorithm.DQN: FastDQN,
}


def class_of(algorithm: Algorithm) -> type[BaseAlgorithm]:
    """The class that trains ``algorithm``."""
    return CLASSES[algorithm]


def build(algorithm: Algorithm, hyperparameters: Hyperparameters, policy: str, env: VecEnv, seed: int) -> BaseAlgorithm:
    """A new model on ``env``. Raises InvalidHyperparameter with SB3's words for what does not go together."""
    keywords = {key: _value(value) for key, value in hyperparameters.keywords.items()}
    device = keywords.pop("device", default_device(policy))
    try:
        return class_of(algorithm)(policy, env, seed=seed, device=device, **keywords)
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidHyperparameter(f"hyperparameters: {algorithm} refuses them: {error}") from error


def default_device(policy: str) -> str:
    """The CPU for small networks (a copy to a GPU takes longer than their pass), else what there is."""
    return "auto" if policy == "CnnPolicy" else "cpu"


def set_threads(policy: str, given: int | None) -> None:
    """PyTorch's threads: as given, else one for small networks (runs share a machine, and one is fastest)."""
    torch.set_num_threads(given or ((os.cpu_count() or 1) if policy == "CnnPolicy" else 1))


def _value(value: Any) -> Any:
    if isinstance(value, LinearSchedule):
        return TorchLinearSchedule(value.initial, 0.0, 1.0)
    if isinstance(value, ClassName):
        return _symbol(value.name)
    if isinstance(value, Mapping):
        return {key: _value(inner) for key, inner in value.items()}
    return value


def _symbol(name: str) -> Any:
    """The object of a name the crds know: nn.ReLU, th.optim.Adam, RMSpropTFLike, a features extractor of SB3."""
    plain = name.rpartition(".")[2]
    if plain == RMSpropTFLike.__name__:
        return RMSpropTFLike
    for owner in (torch.nn, torch.optim, torch_layers):
        if hasattr(owner, plain):
            return getattr(owner, plain)
    raise InvalidHyperparameter(f"hyperparameters: {name} is not known here")
