"""The fake environment, and adapters as a simulation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_environment.adapter_host import AdapterSimulation
from aisandbox_environment.adapters import ExternalEnvAdapter, FakeExternalEnvAdapter
from aisandbox_environment.errors import InvalidOptions
from aisandbox_environment.grpc_adapter import GrpcExternalEnvAdapter
from aisandbox_environment.server import create_environment_server
from aisandbox_wire import InvalidValue

LEFT, RIGHT = np.int64(0), np.int64(1)


class Countdown:
    """Observes how many steps are left of ``length``; reuses its array; terminates or is truncated at 0."""

    observation_space = pb.Space(
        dict=pb.DictSpace(
            entries=[
                pb.DictEntry(key="left", space=pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_FLOAT32, shape=[1]))),
                pb.DictEntry(key="even", space=pb.Space(discrete=pb.Discrete(n=2))),
            ]
        )
    )
    action_space = pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_FLOAT32, shape=[2], low=[-1], high=[1]))
    open = 0

    def __init__(self, length: int, truncates: bool) -> None:
        self._length = length
        self._truncates = truncates
        self._left = np.zeros(1, np.float32)
        self.seeds: list[int | None] = []
        Countdown.open += 1

    def reset(self, seed: int | None = None) -> dict[str, Any]:
        self.seeds.append(seed)
        self._left[0] = self._length
        return self._observe()

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action.shape == (2,)
        self._left[0] -= 1
        end = bool(self._left[0] == 0)
        return self._observe(), float(action.sum()), end and not self._truncates, end and self._truncates, {}

    def close(self) -> None:
        Countdown.open -= 1

    def _observe(self) -> dict[str, Any]:
        return {"left": self._left, "even": int(self._left[0]) % 2 == 0}


def test_fake_implements_the_interface_and_rewards_the_best_policy() -> None:
    fake = FakeExternalEnvAdapter(episode_steps=20)
    assert isinstance(fake, ExternalEnvAdapter)
    observation = fake.reset(seed=3)
    total = 0.0
    for step in range(1, 21):
        observation, reward, terminated, truncated, _ = fake.step(LEFT if observation[0] > 0 else RIGHT)
        assert reward == pytest.approx(1 - abs(observation[0]), abs=1e-6)
        assert not terminated
        assert truncated == (step == 20)
        total += reward
    assert total > 20 * 0.5
    away = sum((fake.step(RIGHT)[1] for _ in range(20)), start=0.0)
    assert away < total


def test_fake_is_deterministic_and_follows_its_seed() -> None:
    starts = [float(FakeExternalEnvAdapter().reset(seed)[0]) for seed in (None, None, 1, 1, 2)]
    assert starts[0] == starts[1]
    assert starts[2] == starts[3]
    assert len(set(starts)) == 3


def test_fake_refuses_an_unknown_action() -> None:
    fake = FakeExternalEnvAdapter()
    fake.reset()
    with pytest.raises(ValueError, match="action: must be 0 or 1, got 2"):
        fake.step(np.int64(2))


def test_adapters_restart_in_the_step_that_ends_them() -> None:
    lengths = iter([9, 2, 3, 9])  # the first one is asked for its spaces only
    simulation = AdapterSimulation(lambda: Countdown(next(lengths), truncates=False), "countdown")
    batch = simulation.make(3, {})
    first = batch.reset([5, 6, 7])
    assert [array.tolist() for array in first.observations] == [[[2.0], [3.0], [9.0]], [1, 0, 0]]
    actions = np.full((3, 2), 0.5, np.float32)
    calm = batch.step(actions)
    assert calm.ended.tolist() == []
    assert list(calm.final_observations) == []
    assert calm.rewards.tolist() == [1.0, 1.0, 1.0]
    result = batch.step(actions)
    assert result.ended.tolist() == [0]
    assert result.terminated.tolist() == [True, False, False]
    assert result.truncated.tolist() == [False, False, False]
    # The first observation of the next episode, and the last one of the old, though the adapter reuses its array.
    assert result.observations[0].tolist() == [[2.0], [1.0], [7.0]]
    assert [array.tolist() for array in result.final_observations] == [[[0.0]], [1]]
    result = batch.step(actions)
    assert result.ended.tolist() == [1]
    batch.close()
    assert Countdown.open == 0


def test_adapters_report_truncation_apart_from_termination() -> None:
    batch = AdapterSimulation(lambda: Countdown(1, truncates=True)).make(1, {})
    batch.reset(None)
    result = batch.step(np.zeros((1, 2), np.float32))
    assert (result.terminated.tolist(), result.truncated.tolist()) == ([False], [True])
    batch.close()


def test_adapters_take_no_options() -> None:
    simulation = AdapterSimulation(FakeExternalEnvAdapter)
    assert simulation.name == "FakeExternalEnvAdapter"
    assert simulation.spec.max_episode_steps == 50
    with pytest.raises(InvalidOptions, match="'level' is unknown"):
        simulation.make(1, {"level": 3})


def test_adapters_made_so_far_are_closed_when_one_cannot_be_made() -> None:
    made: list[Countdown] = []

    def factory() -> Countdown:
        if len(made) == 3:
            raise RuntimeError("no more")
        made.append(Countdown(1, truncates=False))
        return made[-1]

    simulation = AdapterSimulation(factory)
    with pytest.raises(RuntimeError, match="no more"):
        simulation.make(4, {})
    assert Countdown.open == 0


class Switches:
    """Two bits; the second may not be 1 once the first has been."""

    observation_space = pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_FLOAT32, shape=[1]))
    action_space = pb.Space(multi_binary=pb.MultiBinary(n=2))

    def __init__(self, wrong: Any = None) -> None:
        self._wrong = wrong
        self._locked = False

    def reset(self, seed: int | None = None) -> Any:
        self._locked = False
        return np.zeros(1, np.float32)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._locked = bool(action[0]) or self._locked
        return np.ones(1, np.float32), 0.0, False, False, {}

    def action_masks(self) -> Any:
        return self._wrong or [1, 1, 1, not self._locked]

    def close(self) -> None: ...


def test_adapter_with_masks_declares_them_and_says_them_after_each_reset_and_step() -> None:
    batch = AdapterSimulation(Switches).make(2, {})
    assert batch.spec.action_masks
    assert not AdapterSimulation(FakeExternalEnvAdapter).spec.action_masks
    first = batch.reset(None).action_masks
    assert first is not None
    assert first.tolist() == [[True] * 4] * 2
    then = batch.step(np.array([[0, 1], [1, 0]], np.int8)).action_masks
    assert then is not None
    assert then.tolist() == [[True] * 4, [True, True, True, False]]


def test_adapter_with_a_wrong_mask_is_named() -> None:
    batch = AdapterSimulation(lambda: Switches(wrong=[1, 1, 1])).make(1, {})
    with pytest.raises(InvalidValue, match=r"action_masks\(\) of environment 0: has 3 values"):
        batch.reset(None)


def test_remote_adapter_has_the_masks_of_its_simulator() -> None:
    with create_environment_server(AdapterSimulation(Switches)) as server:
        adapter = GrpcExternalEnvAdapter(server.address)
        assert AdapterSimulation(lambda: adapter).spec.action_masks
        adapter = GrpcExternalEnvAdapter(server.address)
        with pytest.raises(RuntimeError, match="no mask before a reset"):
            adapter.action_masks()
        adapter.reset()
        assert adapter.action_masks().all()
        adapter.step(np.array([1, 0], np.int8))
        assert adapter.action_masks().tolist() == [True, True, True, False]
        adapter.reset(seed=1)
        assert adapter.action_masks().all()
        adapter.close()
    with create_environment_server(AdapterSimulation(FakeExternalEnvAdapter)) as server:
        adapter = GrpcExternalEnvAdapter(server.address)
        assert not hasattr(adapter, "action_masks")
        adapter.close()
