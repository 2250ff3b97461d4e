"""An update that a stop interrupts leaves the model as it was before its rollout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib
import stable_baselines3 as sb3
from aisandbox_crds.spec import Algorithm, TrainingRunSpec
from aisandbox_model_store import RunStore
from aisandbox_trainer.environments.in_process import vectorized
from aisandbox_trainer.environments.retry import SimulatorRetry
from aisandbox_trainer.errors import StopRequested
from aisandbox_trainer.fast_updates.a2c import FastA2C
from aisandbox_trainer.fast_updates.crossq import FastCrossQ
from aisandbox_trainer.fast_updates.ppo import FastPPO
from aisandbox_trainer.fast_updates.sac import FastSAC
from aisandbox_trainer.fast_updates.td3 import FastTD3
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_trainer.training.loop import TrainingLoop
from aisandbox_trainer.training.schedule import CheckpointSchedule
from aisandbox_trainer.training.update_guard import SHORT_SECONDS, UpdateGuard
from stable_baselines3.common.logger import Logger

TOTAL = 1000
PPO_KEYWORDS: dict[str, Any] = {"n_steps": 64, "batch_size": 16, "n_epochs": 4}
KINDS: dict[Any, dict[str, Any]] = {
    sb3.PPO: PPO_KEYWORDS,
    FastPPO: PPO_KEYWORDS,
    FastA2C: {},
    sb3.A2C: {"use_rms_prop": False},
}


def _model(kind: Any, **keywords: Any) -> Any:
    env = vectorized(lambda: gym.make("CartPole-v1"), 2)
    model: Any = kind("MlpPolicy", env, seed=3, device="cpu", **{**KINDS.get(kind, {}), **keywords})
    model.set_logger(Logger(None, []))
    return model


def _loop(model: Any, folder: Path, stop: Stop) -> TrainingLoop:
    progress = ProgressTracker()
    spec = TrainingRunSpec(Algorithm.PPO, TOTAL, checkpoint_every_timesteps=100_000)
    writer = RunStore(folder).run("run").claim(None)
    publisher = ArtifactPublisher(spec, writer, progress, None, None, CheckpointSchedule(100_000))
    retry = SimulatorRetry(1.0, progress, stop)
    return TrainingLoop(model, TOTAL, publisher, retry, progress, stop, stop_grace_seconds=0.0)


def _state(model: Any) -> list[Any]:
    optimizer = model.policy.optimizer.state_dict()["state"]
    moments = [value for one in optimizer.values() for value in one.values()]
    return [each.detach().clone().numpy() for each in (*model.policy.parameters(), *moments)]


@pytest.mark.parametrize("kind", KINDS)
def test_stop_during_an_update_returns_to_the_point_before_the_rollout(kind: Any, tmp_path: Path) -> None:
    model, stop = _model(kind), Stop()
    loop = _loop(model, tmp_path, stop)
    train, updates, before = model.train, 0, []

    def stopped_in_the_second_update() -> None:
        nonlocal updates
        updates += 1
        if updates == 2:
            loop._update_guard.__exit__(None, None, None)  # take the copy again, however long the first update took
            loop._update_guard._last_seconds = SHORT_SECONDS
            loop._update_guard.__enter__()
            before.extend(_state(model))
            stop.request()
        train()

    model.train = stopped_in_the_second_update
    with pytest.raises(StopRequested):
        loop.run()
    rollout = model.n_steps * model.n_envs
    assert model.num_timesteps == rollout
    for one, other in zip(before, _state(model), strict=True):
        np.testing.assert_array_equal(one, other)
    assert loop.progress.timesteps_dropped == rollout
    assert f"resumes from step {rollout}" in loop.progress.report(1).warning
    del model.train
    model.train()  # no hook is left
    assert not model.policy.optimizer._optimizer_step_pre_hooks


def test_update_after_a_short_one_is_not_copied() -> None:
    times = iter([0.0, SHORT_SECONDS / 2, 1.0, 1.0 + SHORT_SECONDS * 2, 3.0, 4.0])
    model = _model(FastPPO)
    guard = UpdateGuard(model, Stop(), 1.0, clock=lambda: next(times))
    copied = []
    for _ in range(3):
        with guard:
            copied.append(guard._before is not None)
    assert copied == [True, False, True]


def test_stop_waits_for_the_end_of_an_update_that_is_near() -> None:
    now = 0.0
    stop = Stop(clock=lambda: now)
    model = _model(FastPPO)
    guard = UpdateGuard(model, stop, 10.0)
    stop.request()
    with guard:
        guard._before_step()
        now = 10.0
        with pytest.raises(StopRequested):
            guard._before_step()


def test_dqn_is_stopped_between_two_steps_of_its_update() -> None:
    stop = Stop()
    env = vectorized(lambda: gym.make("CartPole-v1"), 1)
    model: Any = sb3.DQN("MlpPolicy", env, learning_starts=10, gradient_steps=50, buffer_size=200, device="cpu")
    model.learn(40)
    guard = UpdateGuard(model, stop, 0.0)
    stop.request()
    with pytest.raises(StopRequested), guard:
        model.train(gradient_steps=50, batch_size=8)
    guard.restore()
    assert model.replay_buffer.size() >= 40


@pytest.mark.parametrize("kind", [sb3.SAC, FastSAC, sb3.TD3, FastTD3, sb3_contrib.TQC, FastCrossQ])
def test_stop_between_two_steps_leaves_every_optimizer_at_the_same_one(kind: Any) -> None:
    env = vectorized(lambda: gym.make("Pendulum-v1"), 1)
    stop = Stop()
    model: Any = kind("MlpPolicy", env, learning_starts=10, train_freq=10, gradient_steps=1, device="cpu")
    model.learn(40)
    critics, entropy = model.policy.critic.optimizer, getattr(model, "ent_coef_optimizer", None)
    before, counted = _steps(critics), model._n_updates
    critics.register_step_post_hook(lambda *_: stop.request())  # after the first step of the next update
    with pytest.raises(StopRequested), UpdateGuard(model, stop, 0.0):
        model.train(gradient_steps=50, batch_size=8)
    assert _steps(critics) == before + 1
    if hasattr(model, "policy_delay"):
        assert model._n_updates == counted + 1
    else:
        assert _steps(entropy) == _steps(critics)


def _steps(optimizer: Any) -> int:
    (steps,) = {int(state["step"]) for state in optimizer.state_dict()["state"].values()}
    return steps


def test_update_of_a_recurrent_policy_whose_critic_has_no_lstm_is_guarded() -> None:
    keywords: dict[str, Any] = {"lstm_hidden_size": 4, "net_arch": [4], "enable_critic_lstm": False}
    env = vectorized(lambda: gym.make("CartPole-v1"), 1)
    model = sb3_contrib.RecurrentPPO("MlpLstmPolicy", env, n_steps=8, device="cpu", policy_kwargs=keywords)
    stop = Stop()
    stop.request()
    with pytest.raises(StopRequested), UpdateGuard(model, stop, 0.0):
        model.policy.optimizer.step()
