"""One environment in Python: the interface that a custom one implements, and a small one in memory.

Must not know batches, sessions or learning algorithms.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_wire.tensors import Array

Observation = Array | dict[str, Array]
"""An array of the observation space's dtype and shape; for a Dict one array a key."""

Action = Array | np.integer[Any]
"""An array of the action space's dtype and shape; for a Discrete a whole number, NumPy's or an array without shape."""


@runtime_checkable
class ExternalEnvAdapter(Protocol):
    """One environment. Its methods are called one at a time."""

    @property
    def observation_space(self) -> pb.Space:
        """What is observed; see Space in tensor.proto."""
        ...

    @property
    def action_space(self) -> pb.Space:
        """What can be done."""
        ...

    def reset(self, seed: int | None = None) -> Observation:
        """Start an episode; the same seed and the same actions give the same episode. Returns the first observation."""
        ...

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Take one step; returns observation, reward, terminated, truncated, info.

        ``terminated``: a terminal state was reached, the value of what follows is zero. ``truncated``: the episode was
        cut (a time limit). After either, ``reset`` comes next.
        """
        ...

    def close(self) -> None:
        """Free what it holds."""
        ...


class FakeExternalEnvAdapter:
    """A point on the line from -1 to 1 that is pushed left (0) or right (1), rewarded for being near the middle.

    In memory, deterministic, learned within seconds. The observation is the position, float32 [1]; a step is 0.1
    long; the reward is 1 - abs(position); an episode is truncated after ``episode_steps`` steps and never terminates.
    The best policy earns more than 0.9 a step once it is there.
    """

    def __init__(self, episode_steps: int = 50) -> None:
        self._episode_steps = episode_steps
        self._random = np.random.default_rng(0)
        self._position = 0.0
        self._steps = 0

    @property
    def observation_space(self) -> pb.Space:
        """The position."""
        return pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_FLOAT32, shape=[1], low=[-1], high=[1], names=["position"]))

    @property
    def action_space(self) -> pb.Space:
        """Left or right."""
        return pb.Space(discrete=pb.Discrete(n=2, names=["left", "right"]))

    @property
    def max_episode_steps(self) -> int:
        """After how many steps an episode is truncated."""
        return self._episode_steps

    def reset(self, seed: int | None = None) -> Array:
        """Start at a random place."""
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._position = float(self._random.uniform(-1, 1))
        self._steps = 0
        return self._observe()

    def step(self, action: Action) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """Move. Raises ValueError for an action other than 0 and 1."""
        direction = int(action)
        if direction not in (0, 1):
            raise ValueError(f"action: is {direction}; it is 0 or 1")
        self._position = min(1.0, max(-1.0, self._position + (0.1 if direction else -0.1)))
        self._steps += 1
        return self._observe(), 1.0 - abs(self._position), False, self._steps >= self._episode_steps, {}

    def close(self) -> None:
        """Nothing is held."""

    def _observe(self) -> Array:
        return np.array([self._position], np.float32)
