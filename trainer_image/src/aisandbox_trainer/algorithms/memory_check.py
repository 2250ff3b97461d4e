"""Whether a run fits into the memory of its trainer, from its spaces, before anything is allocated.

Owns the size of a Gymnasium space. The estimate is :mod:`aisandbox_crds.memory`.
"""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
from aisandbox_crds import Algorithm, Hyperparameters, SpaceSize, memory_need
from gymnasium import spaces

from aisandbox_trainer.algorithms.policy_choice import Space, is_image
from aisandbox_trainer.errors import NotEnoughMemory


def check_memory(
    algorithm: Algorithm,
    hyperparameters: Hyperparameters,
    observation_space: Space,
    action_space: Space,
    environments: int,
    bound: int,
) -> None:
    """Raises NotEnoughMemory, with the number of bytes, if a trainer needs more than ``bound``."""
    observation, action = size_of(observation_space), size_of(action_space)
    need = memory_need(algorithm, hyperparameters, observation, action, environments)
    if (rule := need.rule(bound)) is not None:
        raise NotEnoughMemory(
            f"{rule}; the observation space is {_name(observation_space)}, the action space {_name(action_space)}"
        )


def most_environments(
    algorithm: Algorithm,
    hyperparameters: Hyperparameters,
    observation_space: Space,
    action_space: Space,
    most: int,
    bound: int,
) -> int:
    """How many environments, of at most ``most``, a trainer may have that takes at most ``bound`` bytes; 0 if none."""
    observation, action = size_of(observation_space), size_of(action_space)

    def total(environments: int) -> int:
        return memory_need(algorithm, hyperparameters, observation, action, environments).total

    return bisect_right(range(1, most + 1), bound, key=total)


def size_of(space: Space) -> SpaceSize:
    """The size of one value; images have no features here, since they go through convolutions."""
    if isinstance(space, spaces.Dict):
        return sum((size_of(each) for each in space.spaces.values()), SpaceSize(0, 0))
    if isinstance(space, spaces.Discrete):
        return SpaceSize(8, int(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return SpaceSize(8 * space.nvec.size, sum(int(n) for n in space.nvec.flat))
    count = math.prod(int(extent) for extent in space.shape or ())
    stored = count * np.dtype(space.dtype or np.float32).itemsize
    return SpaceSize(stored, 0 if is_image(space) else count)


def _name(space: Space) -> str:
    return f"{space!s:.200}"
