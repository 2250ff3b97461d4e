"""A model goes on with another number of environments and keeps what it has learned from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_trainer.algorithms.environment_count import can_regroup, regroup, set_environments
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints import replay_file
from aisandbox_trainer.checkpoints.files import CheckpointFiles, EvaluationResults, TrainingState
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.fast_updates.recurrent_ppo import FastRecurrentPPO
from aisandbox_trainer.fast_updates.single_steps import SingleStepRecurrentPPO
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise
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


def test_replay_buffer_that_the_new_rows_fill_is_full() -> None:
    buffer = filled(100, 1, 99)
    regroup(buffer, 3)
    assert (buffer.full, buffer.pos) == (True, 0)
    assert numbers_of(buffer) == list(range(99))


def stored_and_loaded(folder: Path, buffer: ReplayBuffer, size: int, environments: int) -> ReplayBuffer:
    """What a trainer with so many environments, whose replay buffer has ``size`` places, reads from a checkpoint."""
    model: Any = None  # only other kinds of buffers ask it
    replay_file.save(model, buffer, folder / "replay")
    loaded = filled(size, environments, 0)
    replay_file.load(model, loaded, folder / "replay")
    assert loaded.n_envs == environments
    assert loaded.observations.shape[:2] == (loaded.buffer_size, environments)
    return loaded


@pytest.mark.parametrize("steps", [50, 5])
@pytest.mark.parametrize("environments", [1, 2, 3, 4, 7, 8])
@pytest.mark.parametrize("stored", [1, 3, 8])
def test_stored_replay_buffer_is_loaded_for_another_number(
    tmp_path: Path, stored: int, environments: int, steps: int
) -> None:
    buffer = filled(100, stored, steps)
    before = numbers_of(buffer)
    loaded = stored_and_loaded(tmp_path, buffer, 100, environments)
    kept = numbers_of(loaded)
    assert set(kept) <= set(before)
    assert len(before) - environments < len(kept) <= len(before)


def test_stored_replay_buffer_has_no_transitions_that_were_not_taken(tmp_path: Path) -> None:
    buffer = filled(100, 8, 20)
    regroup(buffer, 1)
    loaded = stored_and_loaded(tmp_path, buffer, 100, 1)
    assert numbers_of(loaded) == numbers_of(buffer)
    assert min(numbers_of(loaded)) > 0


def test_stored_replay_buffer_of_other_spaces_is_dropped(tmp_path: Path) -> None:
    model: Any = None
    other = ReplayBuffer(100, spaces.Box(0, 1, (2,), np.float32), ACTION, device="cpu", n_envs=3)
    replay_file.save(model, other, tmp_path / "replay")
    loaded = filled(100, 2, 0)
    replay_file.load(model, loaded, tmp_path / "replay")
    assert (loaded.size(), loaded.buffer_size, loaded.n_envs) == (0, 50, 2)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_model_with_action_noise_is_resumed_with_another_number(tmp_path: Path, number: int) -> None:
    def pendulums(number: int) -> Any:
        return vectorized(lambda: gym.make("Pendulum-v1"), number)

    noise = NormalActionNoise(np.zeros(1), np.ones(1))
    model = sb3.TD3("MlpPolicy", pendulums(3), action_noise=noise, buffer_size=90, learning_starts=30, device="cpu")
    model.learn(36)
    spec = TrainingRunSpec(Algorithm.TD3, 1000)
    checkpoints.save(tmp_path, model, spec, TrainingState.capture(model, EvaluationResults(), 0))
    loaded, _ = checkpoints.load(CheckpointFiles.in_folder(tmp_path), sb3.TD3, pendulums(number), "cpu")
    loaded.learn(12, reset_num_timesteps=False)
    assert loaded.num_timesteps == 48


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


@pytest.mark.parametrize("kind", [sb3.PPO, sb3.A2C, sb3.DQN, FastRecurrentPPO, SingleStepRecurrentPPO])
def test_model_trains_on_with_more_and_fewer_environments(kind: Any) -> None:
    def wrapped(number: int) -> VecNormalize:
        return VecNormalize(vectorized(lambda: gym.make("CartPole-v1"), number))

    keywords = {"learning_starts": 4, "buffer_size": 200} if kind is sb3.DQN else {"n_steps": 9}
    recurrent = issubclass(kind, RecurrentPPO)
    if recurrent or kind is sb3.PPO:
        keywords |= {"batch_size": 8, "n_epochs": 1}  # with one environment the last minibatch has one step
    policy = "MlpLstmPolicy" if recurrent else "MlpPolicy"
    model = kind(policy, wrapped(2), seed=1, device="cpu", **keywords)
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
