from __future__ import annotations

import errno
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_trainer.algorithms.builder import class_of
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints.episodes import Episodes
from aisandbox_trainer.checkpoints.files import CheckpointFiles, EvaluationResults, TrainingState
from aisandbox_trainer.checkpoints.rollback import RollbackPoint, truncate_stored_episodes
from aisandbox_trainer.environments.in_process import vectorized
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecNormalize

MODELS: dict[str, Any] = {
    "PPO": lambda env: PPO("MlpPolicy", env, n_steps=32, batch_size=32, n_epochs=2, seed=1, device="cpu"),
    "A2C": lambda env: A2C("MlpPolicy", env, seed=1, device="cpu"),
    "DQN": lambda env: DQN("MlpPolicy", env, learning_starts=20, buffer_size=500, seed=1, device="cpu"),
}


def _env() -> Any:
    return VecNormalize(vectorized(lambda: gym.make("CartPole-v1"), 2))


def _weights(model: BaseAlgorithm) -> dict[str, Any]:
    return {
        f"{name}.{key}": value
        for name, parameters in model.get_parameters().items()
        for key, value in _flat(parameters)
    }


def _flat(tree: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [leaf for key, value in tree.items() for leaf in _flat(value, f"{prefix}.{key}")]
    if isinstance(tree, list | tuple):
        return [leaf for key, value in enumerate(tree) for leaf in _flat(value, f"{prefix}.{key}")]
    return [(prefix, tree)]


def _assert_same_learner(one: BaseAlgorithm, other: BaseAlgorithm) -> None:
    first, second = _weights(one), _weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]) if isinstance(value, torch.Tensor) else value == second[name], name


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
def test_checkpoint_restores_the_whole_learner(algorithm: str, tmp_path: Path) -> None:
    model = MODELS[algorithm](_env())
    model.learn(200)
    spec = TrainingRunSpec(Algorithm(algorithm), 1000)
    checkpoints.save(tmp_path, model, spec, TrainingState.capture(model, EvaluationResults(best_reward_mean=3.0), 0))
    drawn = random.random(), np.random.rand(), torch.rand(1).item(), model.action_space.sample()

    env: Any = VecNormalize.load(
        str(tmp_path / checkpoints.NORMALIZATION), vectorized(lambda: gym.make("CartPole-v1"), 2)
    )
    loaded, state = checkpoints.load(CheckpointFiles.in_folder(tmp_path), class_of(spec.algorithm), env, "cpu")
    state.random.restore(loaded.action_space, env)

    _assert_same_learner(model, loaded)
    assert (random.random(), np.random.rand(), torch.rand(1).item(), loaded.action_space.sample()) == drawn
    assert state.evaluation_results.best_reward_mean == 3.0
    for name in ("num_timesteps", "_episode_num", "_n_updates", "_current_progress_remaining"):
        assert getattr(loaded, name) == getattr(model, name), name
    assert list(loaded.ep_info_buffer or ()) == list(model.ep_info_buffer or ())
    normalize: Any = model.get_vec_normalize_env()
    assert normalize is not None
    np.testing.assert_array_equal(env.obs_rms.mean, normalize.obs_rms.mean)
    assert env.ret_rms.var == normalize.ret_rms.var
    if isinstance(model, DQN):
        assert isinstance(loaded, DQN)
        _assert_same_buffer(model, loaded)
        assert loaded.exploration_rate == model.exploration_rate
        assert loaded._n_calls == model._n_calls


def _assert_same_buffer(one: DQN, other: DQN) -> None:
    first, second = one.replay_buffer, other.replay_buffer
    assert first is not None
    assert second is not None
    assert (first.pos, first.full) == (second.pos, second.full)
    assert first.pos > 0
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        np.testing.assert_array_equal(getattr(first, name)[: first.pos], getattr(second, name)[: first.pos])


def test_checkpoint_of_a_replay_buffer_has_only_what_is_filled(tmp_path: Path) -> None:
    env = vectorized(lambda: gym.make("CartPole-v1"), 1)
    model = DQN("MlpPolicy", env, buffer_size=50_000, learning_starts=1000, device="cpu")
    model.learn(100)
    checkpoints.save(
        tmp_path, model, TrainingRunSpec(Algorithm.DQN, 1000), TrainingState.capture(model, EvaluationResults(), 0)
    )
    assert (tmp_path / checkpoints.REPLAY_BUFFER).stat().st_size < 20_000


def _with_pickled_header(path: Path) -> None:
    """As an earlier version wrote it."""
    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = pickle.dumps(json.loads(data[8:start]))
    path.write_bytes(len(header).to_bytes(8, "little") + header + data[start:])


@pytest.mark.parametrize("change", [lambda path: None, _with_pickled_header], ids=["now", "earlier version"])
def test_checkpoint_of_a_full_replay_buffer_goes_round(change: Callable[[Path], None], tmp_path: Path) -> None:
    env = vectorized(lambda: gym.make("CartPole-v1"), 1)
    model = DQN("MlpPolicy", env, buffer_size=50, learning_starts=1000, device="cpu")
    model.learn(70)
    checkpoints.save(
        tmp_path, model, TrainingRunSpec(Algorithm.DQN, 1000), TrainingState.capture(model, EvaluationResults(), 0)
    )
    change(tmp_path / checkpoints.REPLAY_BUFFER)
    loaded, _ = checkpoints.load(
        CheckpointFiles.in_folder(tmp_path), DQN, vectorized(lambda: gym.make("CartPole-v1"), 1), "cpu"
    )
    assert isinstance(loaded, DQN)
    assert loaded.replay_buffer is not None
    assert model.replay_buffer is not None
    assert (loaded.replay_buffer.full, loaded.replay_buffer.pos) == (True, model.num_timesteps - 50)
    np.testing.assert_array_equal(loaded.replay_buffer.observations, model.replay_buffer.observations)


SEAMS: dict[str, dict[str, Any]] = {
    "n-step": {"n_steps": 3},
    "memory": {
        "optimize_memory_usage": True,
        "replay_buffer_kwargs": {"handle_timeout_termination": False},
    },
}


class Counting(gym.Env[Any, Any]):
    """Counts its steps in ever higher hundreds, one hundred an episode; no episode ends by itself."""

    observation_space = gym.spaces.Box(0, 1e6, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    hundred = 0

    def reset(self, **_: Any) -> tuple[Any, dict[str, Any]]:
        """The next hundred."""
        Counting.hundred += 100
        self.at = Counting.hundred
        return np.array([self.at], np.float32), {}

    def step(self, _: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Its reward is what is observed."""
        self.at += 1
        return np.array([self.at], np.float32), float(self.at), False, False, {}


def _counting(size: int, keywords: dict[str, Any]) -> DQN:
    env = vectorized(Counting, 1)
    return DQN("MlpPolicy", env, buffer_size=size, learning_starts=1000, gamma=1.0, device="cpu", **keywords)


@pytest.mark.parametrize("kind", SEAMS)
@pytest.mark.parametrize("size", [100, 8], ids=["growing", "full"])
@pytest.mark.parametrize("how", ["break", "load"])
def test_no_target_reaches_from_one_episode_into_another(kind: str, size: int, how: str, tmp_path: Path) -> None:
    model = _counting(size, SEAMS[kind])
    model.learn(8)  # the small buffer is full, and its position is 0
    model._last_obs = None
    if how == "load":
        checkpoints.save(
            tmp_path, model, TrainingRunSpec(Algorithm.DQN, 1000), TrainingState.capture(model, EvaluationResults(), 0)
        )
        loaded, _ = checkpoints.load(CheckpointFiles.in_folder(tmp_path), DQN, vectorized(Counting, 1), "cpu")
        assert isinstance(loaded, DQN)
        model = loaded
    else:
        truncate_stored_episodes(model)
    model.learn(4, reset_num_timesteps=False)

    assert model.replay_buffer is not None
    rows = model.replay_buffer.sample(500)
    first, last = rows.observations.numpy()[:, 0], rows.next_observations.numpy()[:, 0]
    lives = rows.dones.numpy()[:, 0] == 0
    assert {100, 200} <= set(first // 100 * 100 - first.min() // 100 * 100 + 100), "both episodes are seen"
    np.testing.assert_array_equal(last[lives] // 100, first[lives] // 100)
    steps = np.where(lives, last - first, 1)
    np.testing.assert_array_equal(rows.rewards.numpy()[:, 0], steps * first + steps * (steps + 1) / 2)
    if kind == "n-step":
        assert lives.all(), "a simulator that failed is no end of an episode"


def test_truncating_an_empty_buffer_changes_nothing() -> None:
    model = _counting(8, SEAMS["n-step"])
    truncate_stored_episodes(model)
    assert model.replay_buffer is not None
    assert not model.replay_buffer.timeouts.any()


class _Interrupt(BaseCallback):
    """Takes a rollback point at each rollout and aborts the third one in its middle."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[RollbackPoint] = []
        self.weights: dict[str, Any] = {}

    def _on_rollout_start(self) -> None:
        self.points.append(RollbackPoint.capture(self.model))
        self.weights = {key: value.clone() for key, value in self.model.policy.state_dict().items()}

    def _on_step(self) -> bool:
        return not (len(self.points) == 3 and self.n_calls % 32 == 15)


def test_rollback_point_undoes_a_rollout_that_was_aborted() -> None:
    env = _env()
    model = MODELS["PPO"](env)
    callback = _Interrupt()
    model.learn(1000, callback)
    point = callback.points[-1]
    statistics: Any = point.statistics
    assert model.num_timesteps > point.timesteps == 2 * 64
    assert env.obs_rms.count > statistics["obs_rms"].count

    point.restore(model)

    assert model.num_timesteps == point.timesteps
    assert env.obs_rms.count == statistics["obs_rms"].count
    again = RollbackPoint.capture(model)
    assert again.finished == point.finished
    assert torch.equal(again.random.torch, point.random.torch)
    assert again.random.environments == point.random.environments
    for key, value in model.policy.state_dict().items():
        assert torch.equal(value, callback.weights[key])


class _Unreadable:
    """Can be pickled, and not be made of what was pickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_rollback_point_is_restored_also_when_its_episodes_cannot_be(tmp_path: Path) -> None:
    env = vectorized(lambda: gym.make("CartPole-v1"), 2)
    inner: Any = env.envs[0].unwrapped
    inner.gadget = _Unreadable()
    model = MODELS["PPO"](env)
    model.learn(64)
    point = RollbackPoint.capture(model, Episodes.capture(model))
    model.num_timesteps += 10

    point.restore(model)

    assert model.num_timesteps == point.timesteps
    state = TrainingState.capture(model, EvaluationResults(), 0)
    assert state.restart_reason
    checkpoints.save(tmp_path, model, TrainingRunSpec(Algorithm.PPO, 1000), state)
    restored, state = checkpoints.load(CheckpointFiles.in_folder(tmp_path), PPO, env, "cpu")
    assert state.episodes is None
    restored.learn(64, reset_num_timesteps=False)


def test_error_of_the_disk_is_raised_and_not_torchs_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_on_a_disk_full_for_a_moment(*_: Any, **__: Any) -> None:
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 5120 vs 5012")

    model = MODELS["PPO"](_env())
    monkeypatch.setattr(torch, "save", write_on_a_disk_full_for_a_moment)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoints.save(
            tmp_path, model, TrainingRunSpec(Algorithm.PPO, 1), TrainingState.capture(model, EvaluationResults(), 0)
        )
    assert caught.value.errno == errno.ENOSPC
