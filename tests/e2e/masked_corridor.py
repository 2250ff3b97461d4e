"""A simulator for tests of masks and lessons, run by ``python -c`` in a pod: a corridor whose ends forbid a step."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from aisandbox_environment.gymnasium_host import host_gymnasium

LENGTH = 9


class Corridor(gymnasium.Env[Any, Any]):
    """The goal is the last cell. After one forbidden step nothing is rewarded any more, in any corridor."""

    metadata = {  # noqa: RUF012 -- as Gymnasium has it
        "parameters": {"distance": {"default": 8, "minimum": 1, "maximum": 8, "whole": True}}
    }
    observation_space = gymnasium.spaces.Box(0, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)
    forbidden = 0

    def __init__(self) -> None:
        self._cell = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._cell = LENGTH - 1 - (options or {}).get("distance", 8)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        Corridor.forbidden += not self.action_masks()[action]
        self._cell = max(0, min(LENGTH - 1, self._cell + (1 if action == 1 else -1)))
        there = self._cell == LENGTH - 1
        return self._seen(), float(there and not Corridor.forbidden), there, False, {}

    def action_masks(self) -> Any:
        return np.array([self._cell > 0, self._cell < LENGTH - 1])

    def _seen(self) -> Any:
        return np.array([self._cell / (LENGTH - 1)], np.float32)


if __name__ == "__main__":
    entry_point: Any = Corridor
    gymnasium.register("Corridor-v0", entry_point=entry_point, max_episode_steps=40)
    host_gymnasium("Corridor-v0", capacity=64, host="0.0.0.0", port=50061)
