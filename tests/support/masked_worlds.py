"""Small worlds with action masks, for every kind of action space, that count the forbidden actions they are given."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

ACTIONS: dict[str, gym.Space[Any]] = {
    "discrete": spaces.Discrete(4, start=3),
    "multi_discrete": spaces.MultiDiscrete([3, 1, 4]),
    "multi_binary": spaces.MultiBinary(3),
}
COUNTS = {"discrete": (4,), "multi_discrete": (3, 1, 4), "multi_binary": (2, 2, 2)}
"""The choices of each dimension, as masks have them."""


def choices(kind: str, action: Any) -> list[int]:
    """The places in a mask of what an action of ACTIONS chooses."""
    values = [int(action) - 3] if kind == "discrete" else [int(value) for value in action]
    starts = np.cumsum([0, *COUNTS[kind][:-1]])
    return [int(start) + value for start, value in zip(starts, values, strict=True)]


class MaskedWorld(gym.Env[Any, Any]):
    """Rewards large numbers, and forbids about half of the actions, others in each step.

    The observation says nothing of the masks.
    """

    forbidden = 0
    """Forbidden actions, of all environments of the process."""
    says: Any = "the truth"
    """What else it says is allowed; a test sets it, of one environment or of all."""

    def __init__(self, kind: str = "discrete", episode_steps: int = 10) -> None:
        self.observation_space = spaces.Box(-1, 1, (3,), np.float32)
        self.action_space = ACTIONS[kind]
        self._kind = kind
        self._episode_steps = episode_steps
        self._mask: Any = None
        self._step = 0

    def action_masks(self) -> Any:
        """What is allowed now; there is no mask before a reset."""
        assert self._mask is not None
        return self._mask if isinstance(self.says, str) else self.says

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._step = 0
        return self._next(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        MaskedWorld.forbidden += not all(self._mask[place] for place in choices(self._kind, action))
        self._step += 1
        return self._next(), float(np.sum(action)), False, self._step >= self._episode_steps, {}

    def _next(self) -> Any:
        parts = []
        for count in COUNTS[self._kind]:
            part = self.np_random.integers(0, 2, count).astype(bool)
            part[self.np_random.integers(count)] = True
            parts.append(part)
        self._mask = np.concatenate(parts)
        return self.np_random.uniform(-1, 1, 3).astype(np.float32)


entry_point: Any = MaskedWorld
gym.register("Masked-v0", entry_point=entry_point)
