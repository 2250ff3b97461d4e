"""SB3's frame stack for every space of the contract: the entries of a Dict keep their order.

Owns what the stacked space looks like, in training and in the served policy. Must not know normalisation.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecEnv, VecFrameStack
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations

Space = gym.Space[Any]


class FrameStack(VecFrameStack):
    """Stacks the last ``frames`` observations. Raises TypeError for what is no Box."""

    def __init__(self, venv: VecEnv, frames: int) -> None:
        super().__init__(venv, frames)
        self.observation_space = _in_order(self.observation_space, venv.observation_space)


def stacked_space(space: Space, frames: int) -> Space:
    """The space of ``frames`` stacked observations of ``space``; a bare number becomes an array of ``frames``."""
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(key, stacked_space(inner, frames)) for key, inner in space.spaces.items()])
    if isinstance(space, spaces.Box) and not space.shape:
        space = spaces.Box(space.low.reshape(1), space.high.reshape(1), (1,), space.dtype.type)
    return StackedObservations(1, frames, space).stacked_observation_space  # type: ignore[arg-type]


def _in_order(space: Space, order: Space) -> Space:
    """``space`` with its entries in the order of ``order``: SB3 makes a Dict of a dict, whose keys are then sorted."""
    if not isinstance(space, spaces.Dict) or not isinstance(order, spaces.Dict):
        return space
    return spaces.Dict([(key, space[key]) for key in order.spaces])
