"""A cart-pole that forbids an action in most steps, for runs with action masks in the fault suite."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.envs.classic_control.cartpole import CartPoleEnv

_NEAR = 0.005


class MaskedCartPole(CartPoleEnv):
    """May not be pushed further away from the centre, unless it is near to it."""

    def action_masks(self) -> Any:
        """bool [2]."""
        place = float(np.asarray(self.state)[0])
        return np.array([place > -_NEAR, place < _NEAR])

    def step(self, action: Any) -> Any:
        """As the cart-pole. Raises ValueError for an action that the mask forbids."""
        if not self.action_masks()[int(action)]:
            raise ValueError(f"the action {action} is forbidden")
        untyped: Any = super()
        return untyped.step(action)


entry_point: Any = MaskedCartPole
gymnasium.register("MaskedCartPole-v0", entry_point=entry_point, max_episode_steps=500)
