"""Gymnasium's environments as a simulation, without a network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from aisandbox_environment.errors import InvalidOptions
from aisandbox_environment.gymnasium_host import GymnasiumSimulation
from aisandbox_wire.errors import InvalidSpace
from aisandbox_wire.gymnasium_spaces import split
from gymnasium import spaces

SPACES: dict[str, gym.Space[Any]] = {
    "box": spaces.Box(-2, 2, (3,), np.float32),
    "discrete": spaces.Discrete(4, start=1),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(3),
}


class Echo(gym.Env[Any, Any]):
    """Observes the number of steps (a Dict) and keeps the actions it was given."""

    def __init__(self, action: str = "box", length: int = 3, truncates: bool = False) -> None:
        self.action_space = SPACES[action]
        self.observation_space = spaces.Dict(
            steps=spaces.Box(0, 100, (1,), np.float32),
            seen=spaces.Discrete(2),
            image=spaces.Box(0, 255, (2, 2), np.uint8),
        )
        self._length = length
        self._truncates = truncates
        self.given: list[Any] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self.given.append(action)
        self._steps += 1
        end = self._steps == self._length
        return self._observe(), 0.5, end and not self._truncates, end and self._truncates, {}

    def _observe(self) -> dict[str, Any]:
        steps = np.array([self._steps], np.float32)
        return {"image": np.full((2, 2), self._steps, np.uint8), "seen": self._steps % 2, "steps": steps}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    gym.register("Echo-v0", lambda **kwargs: Echo(**kwargs))
    gym.register("EchoLimited-v0", lambda **kwargs: Echo(**kwargs), max_episode_steps=2)
    yield
    for name in ("Echo-v0", "EchoLimited-v0"):
        del gym.registry[name]


@pytest.mark.parametrize("action", list(SPACES))
def test_every_kind_of_action_arrives_as_the_environment_knows_it(action: str) -> None:
    batch = GymnasiumSimulation("Echo-v0").make(2, {"action": action})
    batch.reset(None)
    space = gym.vector.utils.batch_space(SPACES[action], 2)
    for _ in range(5):
        (array,) = split(SPACES[action], space.sample())
        array.flags.writeable = False
        batch.step(array)
    batch.close()


def test_leaves_come_in_the_order_of_the_space() -> None:
    simulation = GymnasiumSimulation("Echo-v0")
    batch = simulation.make(2, {})
    keys = [leaf.key for leaf in simulation.spec.observation_leaves]
    assert sorted(keys) == ["image", "seen", "steps"]
    batch.reset(None)
    result = batch.step(np.zeros((2, 3), np.float32))
    by_key = dict(zip(keys, result.observations, strict=True))
    assert by_key["steps"].tolist() == [[1.0], [1.0]]
    assert by_key["seen"].tolist() == [1, 1]
    assert by_key["image"].shape == (2, 2, 2)
    batch.close()


@pytest.mark.parametrize(
    ("id_", "options", "terminated", "truncated"),
    [
        ("Echo-v0", {"length": 2}, True, False),
        ("Echo-v0", {"length": 2, "truncates": True}, False, True),
        ("EchoLimited-v0", {"length": 9}, False, True),
        ("EchoLimited-v0", {"length": 2}, True, True),
    ],
)
def test_end_of_an_episode_gives_its_final_and_the_next_first_observation(
    id_: str, options: dict[str, Any], terminated: bool, truncated: bool
) -> None:
    batch = GymnasiumSimulation(id_).make(3, options)
    keys = [leaf.key for leaf in batch.spec.observation_leaves]
    batch.reset(None)
    actions = np.zeros((3, 3), np.float32)
    assert batch.step(actions).ended.tolist() == []
    result = batch.step(actions)
    assert result.ended.tolist() == [0, 1, 2]
    assert result.terminated.tolist() == [terminated] * 3
    assert result.truncated.tolist() == [truncated] * 3
    assert dict(zip(keys, result.observations, strict=True))["steps"].tolist() == [[0.0]] * 3
    assert dict(zip(keys, result.final_observations, strict=True))["steps"].tolist() == [[2.0]] * 3
    assert batch.step(actions).ended.tolist() == []
    batch.close()


def test_cart_pole_gives_the_same_steps_as_in_gymnasium() -> None:
    batch = GymnasiumSimulation("CartPole-v1").make(2, {})
    reference = [gym.make("CartPole-v1"), gym.make("CartPole-v1")]
    observations = batch.reset([11, 12]).observations[0]
    expected = [environment.reset(seed=11 + i)[0] for i, environment in enumerate(reference)]
    np.testing.assert_array_equal(observations, expected)
    random = np.random.default_rng(0)
    ends = 0
    for _ in range(200):
        actions = random.integers(0, 2, 2)
        result = batch.step(actions)
        finals = list(result.final_observations[0]) if len(result.ended) else []
        for i, environment in enumerate(reference):
            observation, reward, terminated, truncated, _ = environment.step(actions[i])
            assert (result.rewards[i], result.terminated[i], result.truncated[i]) == (reward, terminated, truncated)
            if terminated or truncated:
                ends += 1
                np.testing.assert_array_equal(finals.pop(0), observation)
                observation = environment.reset()[0]
            np.testing.assert_array_equal(result.observations[0][i], observation)
    assert ends > 4
    batch.close()


def test_spec_has_the_time_limit() -> None:
    assert GymnasiumSimulation("CartPole-v1").spec.max_episode_steps == 500


@pytest.mark.parametrize("id_", ["NoSuch-v0", "CartPole-v99", "no_such_module:X-v0"])
def test_unknown_id_is_refused(id_: str) -> None:
    with pytest.raises(InvalidOptions, match=f"gymnasium.make\\('{id_}'"):
        GymnasiumSimulation(id_)


def test_id_names_the_module_that_registers_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plant_of_a_user.py").write_text(
        "import gymnasium\n"
        "entry_point = 'gymnasium.envs.classic_control:CartPoleEnv'\n"
        "gymnasium.register('Plant-v0', entry_point=entry_point, max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert GymnasiumSimulation("plant_of_a_user:Plant-v0").spec.max_episode_steps == 7
    finally:
        gym.registry.pop("Plant-v0", None)


def test_unknown_option_is_refused_by_name() -> None:
    simulation = GymnasiumSimulation("CartPole-v1")
    with pytest.raises(InvalidOptions, match="gravity"):
        simulation.make(2, {"gravity": 1})


def test_space_without_a_form_on_the_wire_is_refused() -> None:
    gym.register("Words-v0", lambda **_: _Words())
    try:
        with pytest.raises(InvalidSpace, match="Text has no wire format"):
            GymnasiumSimulation("Words-v0")
    finally:
        del gym.registry["Words-v0"]


class _Words(Echo):
    def __init__(self) -> None:
        super().__init__()
        self.observation_space = spaces.Text(4)
