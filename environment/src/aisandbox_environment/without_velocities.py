"""CartPole without its velocities: a task for a recurrent policy, as RL Zoo has it.

``aisandbox_environment.without_velocities:CartPoleNoVel-v1`` is its id, for ``aisandbox host-gymnasium`` and for runs
of a Gymnasium environment. Must not know algorithms.

Source: ``CartPoleNoVel-v1`` in DLR-RM/rl-baselines3-zoo ``rl_zoo3/import_envs.py``, which sets velocities to 0.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

POSITION_AND_ANGLE = np.array([1, 0, 1, 0], np.float32)


class CartPoleWithoutVelocities(gym.ObservationWrapper[Any, Any, Any]):
    """Observations as of CartPole-v1, with 0 in place of the velocities of the cart and of the pole."""

    def __init__(self, **keywords: Any) -> None:
        super().__init__(gym.make("CartPole-v1", **keywords).unwrapped)

    def observation(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The observation, float32 [4], without velocities."""
        return observation * POSITION_AND_ANGLE


gym.register("CartPoleNoVel-v1", entry_point=CartPoleWithoutVelocities, max_episode_steps=500, reward_threshold=475.0)
