"""Episodes that never end: training ends at its total, an evaluation after a bounded number of steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from aisandbox_crds.spec import Algorithm, Evaluation, TrainingRunSpec
from aisandbox_environment.errors import SimulatorUnreachable
from aisandbox_model_store import RunStore
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.fast_updates.dqn import FastDQN
from aisandbox_trainer.fast_updates.ppo import FastPPO
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.evaluator import Evaluator
from aisandbox_trainer.training.loop import TrainingLoop
from aisandbox_trainer.training.schedule import CheckpointSchedule
from gymnasium import spaces
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv


class Endless(gym.Env[Any, Any]):
    """Rewards 1 a step; ``length``: after how many steps an episode ends, None: never."""

    def __init__(self, length: int | None = None) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._length = length
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self._steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        return np.zeros(2, np.float32), 1.0, self._steps == self._length, False, {}


class Made:
    """As Environments: ``make`` gives the environments of an evaluation."""

    def __init__(self, make: Callable[[int], VecEnv]) -> None:
        self.evaluation = make

    def wrap_evaluation(self, env: VecEnv, seed: int) -> VecEnv:
        return env


def _model(kind: Any, **keywords: Any) -> Any:
    model: Any = kind("MlpPolicy", vectorized(Endless, 1), seed=1, device="cpu", **keywords)
    model.set_logger(Logger(None, []))
    return model


def _evaluator(length: int | None, episodes: int, steps: float) -> Evaluator:
    made: Any = Made(lambda number: vectorized(lambda: Endless(length), number))
    return Evaluator(made, Evaluation(episodes=episodes), 0, lambda: None, steps)


@pytest.mark.parametrize("frequency", [(1, "episode"), (3, "episode")])
@pytest.mark.parametrize("gradient_steps", [1, -1])
def test_dqn_that_updates_every_episode_ends_at_the_total(
    frequency: tuple[int, str], gradient_steps: int, tmp_path: Path
) -> None:
    model = _model(FastDQN, train_freq=frequency, gradient_steps=gradient_steps, learning_starts=10, buffer_size=500)
    progress, stop = ProgressTracker(), Stop()
    spec = TrainingRunSpec(Algorithm.DQN, 300, checkpoint_every_timesteps=100_000)
    writer = RunStore(tmp_path).run("run").claim(None)
    publisher = ArtifactPublisher(spec, writer, progress, None, None, CheckpointSchedule(100_000))
    TrainingLoop(model, 300, publisher, SimulatorRetry(1.0, progress, stop), progress, stop).run()
    assert model.num_timesteps == 300


@pytest.mark.parametrize(("environments", "counted"), [(1, 40.0), (2, 20.0)])
def test_evaluation_of_episodes_that_never_end_is_bounded_and_says_so(environments: int, counted: float) -> None:
    evaluator = _evaluator(None, episodes=2, steps=20)
    assert evaluator.mean_reward(_model(FastPPO), environments) == counted
    assert "ended after 40 steps" in evaluator.warning
    assert "0 of 2 had ended" in evaluator.warning


def test_evaluation_whose_episodes_end_within_the_bound_says_nothing() -> None:
    evaluator = _evaluator(10, episodes=3, steps=20)
    assert evaluator.mean_reward(_model(FastPPO), 1) == 10.0
    assert evaluator.warning == ""


def test_evaluation_bound_follows_the_length_of_training_episodes() -> None:
    evaluator = _evaluator(100, episodes=2, steps=20)
    model = _model(FastPPO)
    model.ep_info_buffer = [{"r": 15.0, "l": 15, "t": 0.0}]
    assert evaluator.mean_reward(model, 1) == 100.0
    assert evaluator.warning == ""


def _no_room(number: int) -> VecEnv:
    raise SimulatorUnreachable("127.0.0.1:1", "all of its environments are taken")


class Published(ArtifactPublisher):
    """Notes what would be published as the best model."""

    def _publish_if_best(self, model: Any, mean: float) -> None:
        BEST.append(mean)


BEST: list[float] = []


def test_best_model_is_chosen_by_training_where_no_evaluation_is_possible(tmp_path: Path) -> None:
    made: Any = Made(_no_room)
    evaluation = Evaluation(episodes=1, every_timesteps=10)
    evaluator = Evaluator(made, evaluation, 0, lambda: None)
    spec = TrainingRunSpec(Algorithm.PPO, 100, evaluation=evaluation)
    progress, writer = ProgressTracker(), RunStore(tmp_path).run("run").claim(None)
    publisher = Published(spec, writer, progress, evaluator, None, CheckpointSchedule(10))
    model = _model(FastPPO)
    model.num_timesteps, model.ep_info_buffer = 20, [{"r": 7.0, "l": 1, "t": 0.0}]
    BEST.clear()
    publisher.evaluate_if_due(model)
    publisher._rate_by_training(model)
    assert BEST == [7.0]
    assert "all of its environments are taken; until one is, the returns of training" in progress.report(1).warning
    made.evaluation = lambda number: vectorized(lambda: Endless(10), number)
    model.num_timesteps = 40
    publisher.evaluate_if_due(model)
    publisher._rate_by_training(model)
    assert (BEST, progress.report(1).warning) == ([7.0, 10.0], "")


def test_evaluation_gives_a_policy_with_memory_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    env, small = vectorized(Endless, 1), {"lstm_hidden_size": 4}
    model: Any = RecurrentPPO("MlpLstmPolicy", env, n_steps=8, device="cpu", policy_kwargs=small)
    given: list[tuple[Any, list[bool]]] = []
    left: list[Any] = []
    predict = model.predict

    def watched(observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False) -> Any:
        given.append((state, list(episode_start)))
        action, after = predict(observation, state, episode_start, deterministic)
        left.append(after)
        return action, after

    monkeypatch.setattr(model, "predict", watched)
    assert _evaluator(3, 2, 100.0).mean_reward(model, 1) == 3.0
    assert [starts for _, starts in given] == [[True], [False], [False]] * 2
    assert given[0][0] is None
    assert all(state is before for (state, _), before in zip(given[1:], left, strict=False))
