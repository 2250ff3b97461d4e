"""The training loop learns what ``model.learn`` learns, with SB3's own classes too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import stable_baselines3 as sb3
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_model_store import RunStore
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.errors import StopRequested
from aisandbox_trainer.fast_updates.a2c import FastA2C
from aisandbox_trainer.fast_updates.dqn import FastDQN
from aisandbox_trainer.fast_updates.ppo import FastPPO
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.loop import TrainingLoop
from aisandbox_trainer.training.schedule import CheckpointSchedule
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import Logger

KEYWORDS: dict[type[BaseAlgorithm], dict[str, Any]] = {
    sb3.PPO: {"n_steps": 32, "batch_size": 16, "n_epochs": 2, "learning_rate": lambda left: 1e-3 * left},
    sb3.A2C: {},
    sb3.DQN: {"learning_starts": 20, "train_freq": 4, "buffer_size": 300, "target_update_interval": 30},
    RecurrentPPO: {"n_steps": 32, "batch_size": 16, "n_epochs": 1, "policy_kwargs": {"lstm_hidden_size": 8}},
    FastPPO: {"n_steps": 32, "batch_size": 16, "n_epochs": 2},
    FastA2C: {},
    FastDQN: {"learning_starts": 20, "train_freq": (1, "episode"), "gradient_steps": -1, "buffer_size": 300},
}
TOTAL = 256


class Recorder(Logger):
    def __init__(self) -> None:
        super().__init__(None, [])
        self.records: list[tuple[str, Any]] = []
        self.dumps: list[int] = []

    def record(self, key: str, value: Any, exclude: Any = None) -> None:
        if not key.startswith("time/"):
            self.records.append((key, value))

    def dump(self, step: int = 0) -> None:
        self.dumps.append(step)


def _model(kind: type[BaseAlgorithm], **keywords: Any) -> Any:
    env = vectorized(lambda: gym.make("CartPole-v1"), 1 if kind is FastDQN else 2)
    policy = "MlpLstmPolicy" if kind is RecurrentPPO else "MlpPolicy"
    model: Any = kind(policy, env, seed=3, device="cpu", **{**KEYWORDS[kind], **keywords})
    model.set_logger(Recorder())
    return model


def _loop(model: Any, folder: Path, stop: Stop | None = None) -> TrainingLoop:
    spec = TrainingRunSpec(Algorithm.PPO, TOTAL, checkpoint_every_timesteps=100_000)
    progress, stop = ProgressTracker(), stop or Stop()
    writer = RunStore(folder).run("run").claim(None)
    publisher = ArtifactPublisher(spec, writer, progress, None, None, CheckpointSchedule(100_000))
    return TrainingLoop(model, TOTAL, publisher, SimulatorRetry(1.0, progress, stop), progress, stop)


@pytest.mark.parametrize("kind", KEYWORDS)
def test_training_loop_gives_the_numbers_of_learn(kind: type[BaseAlgorithm], tmp_path: Path) -> None:
    expected = _model(kind)
    expected.learn(TOTAL)
    model = _model(kind)  # seeds every generator again
    _loop(model, tmp_path).run()
    for one, other in zip(expected.policy.parameters(), model.policy.parameters(), strict=True):
        np.testing.assert_array_equal(other.detach(), one.detach())
    np.testing.assert_equal(model.logger.records, expected.logger.records)
    assert model.logger.dumps == expected.logger.dumps
    assert model.num_timesteps == expected.num_timesteps >= TOTAL


@pytest.mark.parametrize("kind", [sb3.PPO, sb3.A2C, FastPPO])
def test_training_loop_that_is_stopped_leaves_the_model_at_a_rollback_point(
    kind: type[BaseAlgorithm], tmp_path: Path
) -> None:
    model, stop = _model(kind), Stop(clock=lambda: 0.0)
    loop = _loop(model, tmp_path, stop)
    points: list[int] = []

    class Observed(TrainingLoop):
        def prepare_rollout(self) -> None:
            points.append(self.model.num_timesteps)
            if len(points) == 3:
                stop.request()
            super().prepare_rollout()

    observed = Observed(model, TOTAL, loop.publisher, loop.retry, loop.progress, stop)
    with pytest.raises(StopRequested):
        observed.run()
    assert model.num_timesteps == points[2] > 0
