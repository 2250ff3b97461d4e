"""Adapts an environment's spaces to those stable-baselines3 supports, and translates values both ways.

Owns the one place where actions are rescaled. Box actions become [-1, 1] (a Gaussian policy starts there, so a
simulator may use any units), float64 becomes float32, Discrete counts from 0, and a Box of shape () gets the shape
(1,), because SB3 supports nothing else. A Dict keeps the order of its entries. Works on single values and on batches.
Must not know where the environment runs.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from aisandbox_environment import NO_ACTION_BOUNDS
from aisandbox_wire import WireError, has_bounds, space_to_proto, wire_space
from gymnasium import spaces
from numpy.typing import NDArray

from aisandbox_trainer.errors import InvalidEnvironmentReply, UnsupportedActionSpace, UnsupportedSpace

Array = NDArray[Any]
Space = gym.Space[Any]


class SpaceAdapter:
    """The spaces SB3 sees, and the translation between them and the environment's own (``inner_...``).

    Raises UnsupportedSpace and UnsupportedActionSpace for spaces that SB3 has no policy for.
    """

    _number = False
    """Whether an action is a bare number; on the class for those restored from checkpoints of earlier versions."""

    def __init__(self, observation_space: Space, action_space: Space) -> None:
        self.inner_observation_space = _wire_space(observation_space, UnsupportedSpace)
        self.inner_action_space = _wire_space(action_space, UnsupportedActionSpace)
        self.observation_space = _adapted_observation_space(self.inner_observation_space)
        self.action_space = _adapted_action_space(self.inner_action_space)
        _check_form(self.inner_observation_space, UnsupportedSpace)
        _check_form(self.inner_action_space, UnsupportedActionSpace)
        self._identity = self.observation_space is observation_space
        self._box: tuple[Array, Array, Array] | None = None
        self._start = 0
        self._number = isinstance(action_space, spaces.Box) and not action_space.shape
        inner = self.inner_action_space
        if isinstance(inner, spaces.Box) and self.action_space is not inner:
            low, high = inner.low, inner.high
            self._box = (low, high, (high - low).astype(low.dtype))
        elif isinstance(action_space, spaces.Discrete):
            self._start = int(action_space.start)

    def action(self, action: Any) -> Any:
        """The environment's action for one SB3 chose: ``low + (a + 1) / 2 * (high - low)`` for a Box."""
        if self._number:
            action = np.asarray(action)[..., 0]
        if self._box is not None:
            low, high, extent = self._box
            scaled = low + 0.5 * (np.asarray(action, low.dtype) + 1.0) * extent
            return np.clip(scaled, low, high, dtype=low.dtype)  # rounding may leave the bounds by one ulp
        return action + self._start if self._start else action

    def inverse_action(self, action: Array) -> Array:
        """The action that SB3 would have chosen for the environment's: the inverse of :meth:`action`."""
        if self._box is not None:
            low, _, extent = self._box
            moved = np.divide(action - low, extent, out=np.full_like(action, 0.5), where=extent > 0)
            action = np.clip(2.0 * moved - 1.0, -1.0, 1.0)
        elif self._start:
            action = action - self._start
        chosen: Array = np.asarray(action, self.action_space.dtype)
        return chosen[..., None] if self._number else chosen

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
    if inner.shape == () and outer.shape == (1,):
        value = np.asarray(value)[..., None]
    if inner.dtype != np.float64:
        return np.asarray(value, outer.dtype)
    with np.errstate(over="ignore"):
        narrow = np.asarray(value, outer.dtype)
    if not np.isfinite(narrow).all():  # finite on the wire, but too large for float32
        raise InvalidEnvironmentReply(f"the environment returned an {name} that is not finite as float32")
    return narrow


def _wire_space(space: Space, error: type[UnsupportedSpace]) -> Space:
    """The space as it travels: what has no wire format could not be served later."""
    if not isinstance(space, spaces.Box):  # of a Box, _adapted_... say more of the dtype and the bounds
        _check_form(space, error)
    try:
        return wire_space(space)
    except WireError as problem:
        raise _unsupported(space, error, problem) from None


def _check_form(space: Space, error: type[UnsupportedSpace]) -> None:
    try:
        space_to_proto(space)
    except WireError as problem:
        raise _unsupported(space, error, problem) from None


def _unsupported(space: Space, error: type[UnsupportedSpace], problem: WireError) -> UnsupportedSpace:
    what = "action" if error is UnsupportedActionSpace else "observation"
    return error(f"the {what} space is {space}: {problem}")


def _adapted_observation_space(space: Space) -> Space:
    if isinstance(space, spaces.Dict):
        inner = {key: _adapted_observation_space(value) for key, value in space.spaces.items()}
        same = all(inner[key] is space[key] for key in inner)
        return space if same else spaces.Dict(list(inner.items()))  # of a dict, the keys would be sorted
    if isinstance(space, spaces.Box):
        if not np.can_cast(space.dtype, np.float64):
            raise UnsupportedSpace(f"the observation space has a Box of {space.dtype}; use float32 or an integer type")
        if space.dtype != np.float64 and space.shape:
            return space
        dtype = np.float32 if space.dtype == np.float64 else space.dtype.type
        shape = space.shape or (1,)
        with np.errstate(over="ignore"):
            low, high = space.low.astype(dtype).reshape(shape), space.high.astype(dtype).reshape(shape)
        return spaces.Box(low, high, shape, dtype)
    if isinstance(space, spaces.Discrete):
        return space if space.start == 0 else spaces.Discrete(space.n)
    return space


def _adapted_action_space(space: Space) -> Space:
    if isinstance(space, spaces.Box):
        if not np.issubdtype(space.dtype, np.floating):
            raise UnsupportedActionSpace(f"the action space is a Box of {space.dtype}: use float32, or MultiDiscrete")
        if not has_bounds(space.low, space.high):
            raise UnsupportedActionSpace(f"the action space is {space}: {NO_ACTION_BOUNDS}")
        if space.shape and space.dtype == np.float32 and (space.low == -1).all() and (space.high == 1).all():
            return space
        return spaces.Box(-1.0, 1.0, space.shape or (1,), np.float32)
    if isinstance(space, spaces.Discrete):
        return space if space.start == 0 else spaces.Discrete(space.n)
    if isinstance(space, spaces.MultiDiscrete | spaces.MultiBinary):
        return space
    raise UnsupportedActionSpace(
        f"the action space is {space}; a policy chooses from Box, Discrete, MultiDiscrete or MultiBinary"
    )
