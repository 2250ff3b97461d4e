"""A model goes on with another number of environments and keeps what it has learned from."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
from aisandbox_trainer.algorithms.environment_count import can_regroup, regroup, set_environments
from aisandbox_trainer.environments.in_process import vectorized
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

BOX = spaces.Box(-1000, 1000, (1,), np.float32)
ACTION = spaces.Discrete(2)


def filled(size: int, environments: int, steps: int) -> ReplayBuffer:
    """Each transition has its number in the order of the steps, in every array."""
    buffer = ReplayBuffer(size, BOX, ACTION, device="cpu", n_envs=environments)
    for step in range(steps):
        numbers = (np.arange(environments) + step * environments).astype(np.float32)
        column = numbers[:, None]
        buffer.add(column, column + 0.5, column % 2, numbers, numbers % 5 == 0, [{} for _ in numbers])
    return buffer


def numbers_of(buffer: ReplayBuffer) -> list[int]:
    rows = buffer.buffer_size if buffer.full else buffer.pos
    numbers = buffer.rewards[:rows]
    np.testing.assert_array_equal(buffer.observations[:rows, :, 0], numbers)
    np.testing.assert_array_equal(buffer.next_observations[:rows, :, 0], numbers + 0.5)
    np.testing.assert_array_equal(buffer.actions[:rows, :, 0], numbers % 2)
    np.testing.assert_array_equal(buffer.dones[:rows], numbers % 5 == 0)
    return sorted(int(number) for number in numbers.ravel())


@pytest.mark.parametrize("environments", [1, 2, 3, 4, 7])
def test_replay_buffer_keeps_whole_transitions(environments: int) -> None:
    buffer = filled(40, 4, 5)
    regroup(buffer, environments)
    kept = 20 // environments * environments
    assert numbers_of(buffer) == list(range(kept))
    assert buffer.n_envs == environments
    assert buffer.observations.shape[:2] == (buffer.buffer_size, environments)
    regroup(buffer, 4)
    assert numbers_of(buffer) == list(range(kept // 4 * 4))


def test_full_replay_buffer_stays_full_and_loses_the_oldest_next() -> None:
    buffer = filled(40, 4, 13)  # 52 steps in 40 places: 12 to 51
    regroup(buffer, 3)
    assert buffer.full
    assert len(numbers_of(buffer)) == 39
    before = set(numbers_of(buffer))
    numbers = np.array([100, 101, 102], np.float32)
    column = numbers[:, None]
    buffer.add(column, column + 0.5, column % 2, numbers, numbers % 5 == 0, [{}] * 3)
    gone = before - set(numbers_of(buffer))
    assert len(gone) == 3
    assert max(gone) <= 16, "the oldest, with those of the row that it shares"


def test_replay_buffer_with_fewer_places_than_environments_begins_again() -> None:
    buffer = filled(4, 2, 2)
    regroup(buffer, 6)
    assert (buffer.size(), buffer.buffer_size, buffer.n_envs) == (0, 1, 6)


def test_replay_buffer_of_a_dict_is_regrouped_by_every_entry() -> None:
    space = spaces.Dict(a=BOX, b=BOX)
    buffer = DictReplayBuffer(12, space, ACTION, device="cpu", n_envs=2)
    row = np.array([[1.0], [2.0]], np.float32)
    seen = {"a": row, "b": row + 10}
    buffer.add(seen, seen, np.zeros((2, 1)), np.zeros(2), np.zeros(2), [{}, {}])
    regroup(buffer, 1)
    assert buffer.observations["a"][:2, 0, 0].tolist() == [1, 2]
    assert buffer.next_observations["b"][:2, 0, 0].tolist() == [11, 12]


def test_buffer_that_reads_the_next_row_cannot_be_regrouped() -> None:
    options: Any = {"device": "cpu", "optimize_memory_usage": True, "handle_timeout_termination": False}
    assert not can_regroup(ReplayBuffer(8, BOX, ACTION, **options))
    assert can_regroup(filled(8, 1, 1))


@pytest.mark.parametrize("kind", [sb3.PPO, sb3.A2C, sb3.DQN])
def test_model_trains_on_with_more_and_fewer_environments(kind: Any) -> None:
    def wrapped(number: int) -> VecNormalize:
        return VecNormalize(vectorized(lambda: gym.make("CartPole-v1"), number))

    keywords = {"learning_starts": 4, "buffer_size": 200} if kind is sb3.DQN else {"n_steps": 8}
    if kind is sb3.PPO:
        keywords |= {"batch_size": 8, "n_epochs": 1}
    model = kind("MlpPolicy", wrapped(2), seed=1, device="cpu", **keywords)
    model.learn(32)
    for number in (3, 1, 2):
        before, counted = model.num_timesteps, model.get_vec_normalize_env().obs_rms.count
        weights = [parameter.detach().clone() for parameter in model.policy.parameters()]
        set_environments(model, wrapped(number))
        assert model.get_vec_normalize_env().obs_rms.count == counted
        for one, other in zip(weights, model.policy.parameters(), strict=True):
            np.testing.assert_array_equal(one, other.detach())
        model.learn(24, reset_num_timesteps=False)
        assert model.num_timesteps >= before + 24
        assert (model.num_timesteps - before) % number == 0
        assert model.n_envs == number
