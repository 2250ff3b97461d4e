"""A world for learning.py, with and without action masks: sb3-contrib's, in which half of the actions are forbidden.

The observation is one of 40 states, and the action with its number is rewarded by 1; an episode has 100 steps. In each
step 20 of the other actions are forbidden. The world without masks is the same, and takes them as any wrong action.
No benchmark by itself.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
from sb3_contrib.common.envs import InvalidActionEnvDiscrete

STATES, FORBIDDEN = 40, 20


def masked() -> gym.Env[Any, Any]:
    """With masks."""
    return InvalidActionEnvDiscrete(dim=STATES, n_invalid_actions=FORBIDDEN)


class Unmasked(gym.Env[Any, Any]):
    """Without."""

    def __init__(self) -> None:
        self._inner = masked()
        self.observation_space = self._inner.observation_space
        self.action_space = self._inner.action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode."""
        super().reset(seed=seed)
        return self._inner.reset(seed=seed)

    def step(self, action: Any) -> Any:
        """Takes any action."""
        return self._inner.step(action)


entry_points: Any = {"MaskedIdentity-v0": masked, "Identity-v0": Unmasked}
for name, entry_point in entry_points.items():
    gym.register(name, entry_point, disable_env_checker=True)
