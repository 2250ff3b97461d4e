"""Environments of evaluation that are not like those of training are named, in place of an error of a library."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from aisandbox_crds import Evaluation
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.errors import SimulatorChanged
from aisandbox_trainer.training.evaluator import Evaluator
from gymnasium import spaces
from stable_baselines3 import PPO


class World(gym.Env[Any, Any]):
    def __init__(self, numbers: int, actions: int) -> None:
        self.observation_space = spaces.Box(-1, 1, (numbers,), np.float32)
        self.action_space = spaces.Discrete(actions)


class MaskedWorld(World):
    def action_masks(self) -> Any:
        return np.ones(2, bool)


class Made:
    """As Environments."""

    def __init__(self, world: World) -> None:
        self.closed = False
        self._env = vectorized(lambda: world, 1)
        self._env.close = self._close  # type: ignore[method-assign]

    def evaluation(self, number: int) -> Any:
        return self._env

    def _close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("world", "says"),
    [
        (World(3, 2), r"observations are Box\(.* \(3,\), float32\) in evaluation, and Box\(.* \(2,\), float32\) in"),
        (World(2, 4), r"actions are Discrete\(4\) in evaluation, and Discrete\(2\) in training"),
        (MaskedWorld(2, 2), "action masks are declared in evaluation only"),
    ],
)
def test_environments_of_evaluation_that_are_others_end_the_run(world: World, says: str) -> None:
    made: Any = Made(world)
    model = PPO("MlpPolicy", vectorized(lambda: World(2, 2), 1), n_steps=4, batch_size=4, device="cpu")
    with pytest.raises(SimulatorChanged, match=says):
        Evaluator(made, Evaluation(), 0, lambda: None).mean_reward(model, 1)
    assert made.closed
