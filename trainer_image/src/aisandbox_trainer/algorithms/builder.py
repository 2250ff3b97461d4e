"""From hyperparameters to an algorithm of stable-baselines3 or sb3-contrib.

Owns the mapping of names to classes and torch's objects, and the choice of the device. Must not know where
environments come from or how the model is trained.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import sb3_contrib
import stable_baselines3
import structlog
import torch
from aisandbox_crds import (
    ALGORITHMS,
    OBSERVED_IMAGES,
    ActionNoise,
    Algorithm,
    ClassName,
    Hyperparameters,
    LinearSchedule,
)
from gymnasium import Space
from sb3_contrib import RecurrentPPO
from stable_baselines3.common import torch_layers
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.noise import ActionNoise as NoiseProcess
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.utils import LinearSchedule as TorchLinearSchedule
from stable_baselines3.common.vec_env import VecEnv

from aisandbox_trainer import _torch_internals
from aisandbox_trainer.algorithms.features_extractors import with_fitting_extractor
from aisandbox_trainer.errors import CannotExport, InvalidHyperparameter
from aisandbox_trainer.fast_updates.a2c import FastA2C
from aisandbox_trainer.fast_updates.crossq import FastCrossQ
from aisandbox_trainer.fast_updates.dqn import FastDQN
from aisandbox_trainer.fast_updates.ppo import FastMaskablePPO, FastPPO
from aisandbox_trainer.fast_updates.recurrent_ppo import FastRecurrentPPO
from aisandbox_trainer.fast_updates.sac import FastSAC
from aisandbox_trainer.fast_updates.single_steps import SingleStepMaskablePPO, SingleStepRecurrentPPO
from aisandbox_trainer.fast_updates.td3 import FastTD3
from aisandbox_trainer.fast_updates.tqc import FastTQC

FAST: Mapping[Algorithm, type[BaseAlgorithm]] = {
    Algorithm.PPO: FastPPO,
    Algorithm.A2C: FastA2C,
    Algorithm.DQN: FastDQN,
    Algorithm.MASKABLEPPO: FastMaskablePPO,
    Algorithm.SAC: FastSAC,
    Algorithm.TD3: FastTD3,
    Algorithm.TQC: FastTQC,
    Algorithm.CROSSQ: FastCrossQ,
    Algorithm.RECURRENTPPO: FastRecurrentPPO,
}
"""The algorithms with a fast update."""

PLAIN: Mapping[Algorithm, type[BaseAlgorithm]] = {
    algorithm: getattr(stable_baselines3, algorithm, None) or getattr(sb3_contrib, algorithm) for algorithm in Algorithm
}
"""The classes of the libraries, which have the algorithms' names."""

_SLOW: Mapping[Algorithm, type[BaseAlgorithm]] = {
    **PLAIN,
    Algorithm.MASKABLEPPO: SingleStepMaskablePPO,
    Algorithm.RECURRENTPPO: SingleStepRecurrentPPO,
}
"""The classes that train without a fast update."""

_NOISES: Mapping[str, type[NormalActionNoise | OrnsteinUhlenbeckActionNoise]] = {
    "normal": NormalActionNoise,
    "ornstein-uhlenbeck": OrnsteinUhlenbeckActionNoise,
}

log = structlog.get_logger(__name__)


def class_of(algorithm: Algorithm, *, fast_update: bool = True) -> type[BaseAlgorithm]:
    """The class that trains ``algorithm``: SB3's own, or with ``fast_update`` the one that computes the same faster.

    Where this PyTorch lacks what the fast updates need, it is SB3's own, with a warning.
    """
    if fast_update and not _torch_internals.AVAILABLE:
        log.warning("fast updates are not available with this version of PyTorch", version=torch.__version__)
    fast = FAST if fast_update and _torch_internals.AVAILABLE else {}
    return fast.get(algorithm, _SLOW[algorithm])


def algorithm_of(kind: type[BaseAlgorithm]) -> Algorithm:
    """What a class of :func:`class_of`, or of the libraries, trains. Raises CannotExport for any other."""
    for algorithm, plain in PLAIN.items():
        if issubclass(kind, plain):
            return algorithm
    raise CannotExport(f"model: {kind.__name__} is none of {', '.join(PLAIN)}")


def build(
    kind: type[BaseAlgorithm], hyperparameters: Hyperparameters, policy: str, env: VecEnv, seed: int
) -> BaseAlgorithm:
    """A new model of a class of :func:`class_of` on ``env``.

    Raises InvalidHyperparameter with SB3's message for values that do not fit together.
    """
    keywords = {key: _value(value) for key, value in hyperparameters.keywords.items()}
    device = keywords.pop("device", default_device(policy))
    check_device(device)
    given = keywords.get("policy_kwargs") or {}
    policy_kwargs = with_fitting_extractor(given, env.observation_space, recurrent=issubclass(kind, RecurrentPPO))
    keywords |= {"policy_kwargs": policy_kwargs} if policy_kwargs else {}
    if hyperparameters.noise is not None:
        keywords["action_noise"] = action_noise(hyperparameters.noise, env.action_space)
    algorithm = algorithm_of(kind)
    try:
        return kind(policy, env, seed=seed, device=device, **keywords)
    except (TypeError, ValueError, AssertionError) as error:
        raise InvalidHyperparameter(f"hyperparameters: {algorithm} refused them: {error}") from error


def action_noise(noise: ActionNoise, action_space: Space[Any]) -> NoiseProcess:
    """The noise of one environment's actions, as RL Zoo makes it: without a mean, independent in each dimension."""
    shape = action_space.shape or ()
    return _NOISES[noise.kind](np.zeros(shape), noise.std * np.ones(shape))


def default_device(policy: str) -> str:
    """The CPU for small networks (a copy to a GPU takes longer than their pass), else what is available."""
    return "auto" if policy in _policies_for(OBSERVED_IMAGES) else "cpu"


def check_device(device: str) -> None:
    """Raises InvalidHyperparameter for a device that this machine does not have: SB3 would use the CPU, or fail."""
    kind = device.partition(":")[0]
    missing = (kind == "cuda" and not torch.cuda.is_available()) or (
        kind == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise InvalidHyperparameter(
            f"hyperparameters.device: there is no {kind!r} where the trainer runs; use 'cpu', or 'auto' for the best "
            "device that is there"
        )


def set_threads(policy: str, given: int | None) -> None:
    """PyTorch's threads: as given, else one for small networks (runs share a machine, and one is fastest)."""
    torch.set_num_threads(given or ((os.cpu_count() or 1) if policy in _policies_for(OBSERVED_IMAGES) else 1))


def _policies_for(observed: str) -> frozenset[str]:
    """The policies of all algorithms for what is observed."""
    return frozenset(traits.policies[observed] for traits in ALGORITHMS.values() if observed in traits.policies)


def _value(value: Any) -> Any:
    if isinstance(value, LinearSchedule):
        return TorchLinearSchedule(value.initial, 0.0, 1.0)
    if isinstance(value, ClassName):
        return _symbol(value.name)
    if isinstance(value, Mapping):
        return {key: _value(inner) for key, inner in value.items()}
    return value


def _symbol(name: str) -> Any:
    """The object of a name that aisandbox_crds accepts: nn.ReLU, th.optim.Adam, RMSpropTFLike, an extractor of SB3."""
    plain = name.rpartition(".")[2]
    if plain == RMSpropTFLike.__name__:
        return RMSpropTFLike
    for owner in (torch.nn, torch.optim, torch_layers):
        if hasattr(owner, plain):
            return getattr(owner, plain)
    raise InvalidHyperparameter(f"hyperparameters: neither PyTorch nor stable-baselines3 has {name}")
