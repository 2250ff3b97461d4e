"""The inputs of a served policy: each leaf of an observation, from the simulator's form to that of training.

Owns the layout of images and normalisation. Must not know policies or actions.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch as th
from aisandbox_model_store.served_model import observation_input
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from aisandbox_trainer.errors import CannotExport

Array = NDArray[Any]


class LeafInput(nn.Module):
    """One leaf of the observation on its way from the simulator to the policy.

    Takes float32 (uint8 for a uint8 Box) [N, *shape of the simulator]; gives [N, *shape of the policy]: channels first,
    counted from 0, and normalised with the formula of ``VecNormalize.normalize_obs``, in float64 as there.
    """

    mean: th.Tensor
    std: th.Tensor

    def __init__(self, key: str, space: gym.Space[Any], policy_space: gym.Space[Any], normalize: VecNormalize | None):
        super().__init__()
        self.key = key
        self.name = observation_input(key)
        self.space = space
        self.shape = tuple(space.shape or ())
        self.dtype = th.uint8 if space.dtype == np.uint8 else th.float32
        self.start = int(space.start) if isinstance(space, spaces.Discrete) else 0
        self.number = self.shape == () and policy_space.shape == (1,)
        self.transposed = not self.number and _is_transposed(self.name, self.shape, tuple(policy_space.shape or ()))
        self.clip = 0.0
        statistics = _statistics(normalize, key)
        if normalize is not None and statistics is not None:
            if statistics.mean.shape != policy_space.shape:
                raise CannotExport(
                    f"{self.name}: the statistics of VecNormalize have shape {list(statistics.mean.shape)} and the "
                    f"policy takes {list(policy_space.shape or ())}; VecNormalize is the wrapper next to the policy"
                )
            self.clip = float(normalize.clip_obs)
            self.register_buffer("mean", th.as_tensor(statistics.mean, dtype=th.float64))
            std = np.sqrt(statistics.var + normalize.epsilon)
            self.register_buffer("std", th.as_tensor(std, dtype=th.float64))

    def forward(self, value: th.Tensor) -> th.Tensor:
        """The leaf as the policy received it in training."""
        if self.number:
            value = value.unsqueeze(1)
        if self.transposed:
            value = value.permute(0, 3, 1, 2)
        if self.start:
            value = value - self.start
        if self.clip:
            scaled = (value.double() - self.mean) / self.std
            value = th.clamp(scaled, -self.clip, self.clip).float()
        return value

    def raw(self, normalized: Array) -> Array:
        """The simulator's observations, before bounds, that :meth:`forward` would take near ``normalized`` numbers.

        Shape [N, *shape of the simulator], float64.
        """
        if self.clip:
            normalized = normalized * self.std.numpy() + self.mean.numpy()
        if self.transposed:
            normalized = normalized.transpose(0, 2, 3, 1)
        if self.number:
            normalized = normalized[:, 0]
        return normalized

    @property
    def policy_shape(self) -> tuple[int, ...]:
        """The shape of the leaf behind the transposition; a bare number is an array of one."""
        if self.number:
            return (1,)
        return (self.shape[2], *self.shape[:2]) if self.transposed else self.shape


def _is_transposed(name: str, shape: tuple[int, ...], policy_shape: tuple[int, ...]) -> bool:
    """Whether SB3 put a VecTransposeImage in between; it never does where the two shapes would be equal."""
    if shape == policy_shape:
        return False
    if len(shape) == 3 and (shape[2], *shape[:2]) == policy_shape:
        return True
    raise CannotExport(f"{name}: the space has shape {list(shape)} and the policy takes {list(policy_shape)}")


def _statistics(normalize: VecNormalize | None, key: str) -> Any:
    if normalize is None or not normalize.norm_obs:
        return None
    statistics: Any = normalize.obs_rms
    return statistics.get(key) if key else statistics
