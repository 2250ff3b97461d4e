"""Adapts an environment's spaces to those stable-baselines3 supports, and translates values both ways.

Owns the one place where actions are rescaled. Box actions become [-1, 1] (a Gaussian policy starts there, so a
simulator may use any units), float64 becomes float32, and Discrete counts from 0, because SB3 supports nothing else.
Works on single values and on batches. Must not know where the environment runs.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from aisandbox_trainer.errors import InvalidEnvironmentReply, UnsupportedActionSpace, UnsupportedSpace

Array = NDArray[Any]
Space = gym.Space[Any]


class SpaceAdapter:
    """The spaces SB3 sees, and the translation between them and the environment's own (``inner_...``).

    Raises UnsupportedSpace and UnsupportedActionSpace for spaces that SB3 has no policy for.
    """

    def __init__(self, observation_space: Space, action_space: Space) -> None:
        self.inner_observation_space = observation_space
        self.inner_action_space = action_space
        self.observation_space = _adapted_observation_space(observation_space)
        self.action_space = _adapted_action_space(action_space)
        self._identity = self.observation_space is observation_space
        self._box: tuple[Array, Array, Array] | None = None
        self._start = 0
        if isinstance(action_space, spaces.Box) and self.action_space is not action_space:
            low, high = action_space.low, action_space.high
            self._box = (low, high, (high - low).astype(low.dtype))
        elif isinstance(action_space, spaces.Discrete):
            self._start = int(action_space.start)

    def action(self, action: Any) -> Any:
        """The environment's action for one SB3 chose: ``low + (a + 1) / 2 * (high - low)`` for a Box."""
        if self._box is not None:
            low, high, extent = self._box
            scaled = low + 0.5 * (np.asarray(action, low.dtype) + 1.0) * extent
            return np.clip(scaled, low, high, dtype=low.dtype)  # rounding may leave the bounds by one ulp
        return action + self._start if self._start else action

    def observation(self, observation: Any) -> Any:
        """The observation for SB3: an array, or a dict of arrays.

        Raises InvalidEnvironmentReply for a float64 that is no finite float32.
        """
        if self._identity:
            return observation
        if isinstance(self.inner_observation_space, spaces.Dict):
            return {
                key: _adapted(space, self.observation_space[key], observation[key], f"observation[{key!r}]")  # type: ignore[index]
                for key, space in self.inner_observation_space.spaces.items()
            }
        return _adapted(self.inner_observation_space, self.observation_space, observation, "observation")


def _adapted(inner: Space, outer: Space, value: Any, name: str) -> Array:
    if isinstance(inner, spaces.Discrete):
        return np.asarray(value - inner.start, outer.dtype)
    if inner.dtype != np.float64:
        return np.asarray(value, outer.dtype)
    with np.errstate(over="ignore"):
        narrow = np.asarray(value, outer.dtype)
    if not np.isfinite(narrow).all():  # finite on the wire, but too large for float32
        raise InvalidEnvironmentReply(f"the environment answered with an {name} that is not finite as float32")
    return narrow


def _adapted_observation_space(space: Space) -> Space:
    if isinstance(space, spaces.Dict):
        inner = {key: _adapted_observation_space(value) for key, value in space.spaces.items()}
        if any(isinstance(value, spaces.Dict) for value in inner.values()):
            raise UnsupportedSpace("the observation space is a Dict inside a Dict; flatten it")
        return space if all(inner[key] is space[key] for key in inner) else spaces.Dict(inner)
    if isinstance(space, spaces.Box):
        if not space.shape:
            raise UnsupportedSpace("the observation space has a Box of shape (), a bare number; give it shape (1,)")
        if space.dtype != np.float64:
            return space
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    if isinstance(space, spaces.Discrete):
        return space if space.start == 0 else spaces.Discrete(space.n)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not np.any(space.start):
        return space
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return space
    raise UnsupportedSpace(
        f"the observation space is {space}; a policy takes Box, Discrete, MultiDiscrete, MultiBinary or a Dict of these"
    )


def _adapted_action_space(space: Space) -> Space:
    if isinstance(space, spaces.Box):
        if not space.shape:
            raise UnsupportedActionSpace("the action space is a Box of shape (), a bare number; give it shape (1,)")
        if not np.issubdtype(space.dtype, np.floating):
            raise UnsupportedActionSpace(f"the action space is a Box of {space.dtype}: use float32, or MultiDiscrete")
        if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
            raise UnsupportedActionSpace("the action space is a Box without finite bounds: give it a low and a high")
        if space.dtype == np.float32 and (space.low == -1).all() and (space.high == 1).all():
            return space
        return spaces.Box(-1.0, 1.0, space.shape, np.float32)
    if isinstance(space, spaces.Discrete):
        return space if space.start == 0 else spaces.Discrete(space.n)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not np.any(space.start):
        return space
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return space
    raise UnsupportedActionSpace(
        f"the action space is {space}; a policy chooses from Box, Discrete, MultiDiscrete or MultiBinary"
    )
