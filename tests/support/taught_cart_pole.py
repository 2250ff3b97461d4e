"""A cart-pole that declares how it begins as a parameter, for runs with lessons in the fault suite."""

from __future__ import annotations

from typing import Any

import gymnasium
from gymnasium.envs.classic_control.cartpole import CartPoleEnv


class TaughtCartPole(CartPoleEnv):
    """Begins within -0.05 and ``high`` of everything; Gymnasium's reset takes that as an option."""

    metadata = {  # noqa: RUF012 -- as Gymnasium has it
        **CartPoleEnv.metadata,
        "parameters": {"high": {"default": 0.05, "minimum": 0.0, "maximum": 0.2}},
    }


entry_point: Any = TaughtCartPole
gymnasium.register("TaughtCartPole-v0", entry_point=entry_point, max_episode_steps=500)
