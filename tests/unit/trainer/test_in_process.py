from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from aisandbox_trainer.environments.in_process import AdaptedEnv, gymnasium_env
from aisandbox_trainer.errors import InvalidEnvironmentReply, UnknownEnvironment
from gymnasium import spaces

VECTOR = spaces.Box(-1, 1, (3,), np.float32)
PARTS = spaces.Dict({"speed": VECTOR, "gear": spaces.Discrete(4)})
GOOD = np.zeros(3, np.float32)


class Answering(gym.Env[Any, Any]):
    """Answers every step with what it was given."""

    def __init__(self, space: gym.Space[Any], observation: Any, reward: Any = 0.0) -> None:
        self.observation_space = space
        self.action_space = spaces.Discrete(2)
        self._answer = observation, reward

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        return *self._answer, False, False, {}


@pytest.mark.parametrize(
    ("space", "observation", "reward", "message"),
    [
        (VECTOR, GOOD[:2], 0.0, r"observation of shape \(2,\); its space has \(3,\)"),
        (VECTOR, np.zeros((1, 3), np.float32), 0.0, r"shape \(1, 3\)"),
        (VECTOR, 0.0, 0.0, r"shape \(\)"),
        (VECTOR, np.full(3, np.inf, np.float32), 0.0, "not finite"),
        (spaces.Box(-np.inf, np.inf, (3,), np.float64), np.full(3, 1e300), 0.0, "not finite as float32"),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([1, 256]), 0.0, r"element \[1\] is 256, which is no uint8"),
        (spaces.Box(0, 255, (2,), np.uint8), np.array([0.5, 1.0]), 0.0, r"element \[0\] is 0.5, which is no uint8"),
        (spaces.Box(-9, 9, (1,), np.int32), np.array([-np.inf]), 0.0, r"is -inf, which is no int32"),
        (spaces.Discrete(4), 2.5, 0.0, "2.5, which is no int64"),
        (spaces.Discrete(4), 4, 0.0, r"is 4, which is outside 0 \.\. 3"),
        (spaces.MultiBinary(2), np.array([0, 2]), 0.0, r"outside 0 \.\. 1"),
        (VECTOR, np.array(["a", "b", "c"]), 0.0, "has dtype"),
        (VECTOR, GOOD, float("nan"), "reward of nan"),
        (VECTOR, GOOD, None, "reward of None"),
        (PARTS, GOOD, 0.0, "Dict of .*speed"),
        (PARTS, {"speed": GOOD}, 0.0, "Dict of .*gear"),
        (PARTS, {"speed": GOOD[:1], "gear": 1}, 0.0, r"observation\['speed'\] of shape \(1,\)"),
    ],
)
def test_environment_that_breaks_its_spaces_fails_with_the_element(
    space: gym.Space[Any], observation: Any, reward: Any, message: str
) -> None:
    with pytest.raises(InvalidEnvironmentReply, match=message):
        AdaptedEnv(Answering(space, observation, reward)).step(0)


@pytest.mark.parametrize(("space", "observation"), [(VECTOR, GOOD), (PARTS, {"gear": np.int64(3), "speed": GOOD})])
def test_environment_that_keeps_its_spaces_is_shown_as_it_is(space: gym.Space[Any], observation: Any) -> None:
    assert AdaptedEnv(Answering(space, observation, np.float64(2))).step(0)[:2] == (observation, 2.0)


def test_module_that_is_not_found_is_refused_with_where_modules_are() -> None:
    with pytest.raises(UnknownEnvironment, match=r"No module named 'module_of_nobody'.*[^.]\. Trainers import"):
        gymnasium_env("module_of_nobody:Walker-v0", {})
    with pytest.raises(UnknownEnvironment) as caught:
        gymnasium_env("NoSuchEnvironment-v0", {})
    assert "PYTHONPATH" not in str(caught.value)
