"""A run that is interrupted, wherever and however often, ends bit for bit like one that was not."""

from __future__ import annotations

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields, replace
from pathlib import Path
from threading import Lock
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from aisandbox_crds import ALGORITHMS, Lesson, LessonEnd, has_parameter
from aisandbox_crds.spec import (
    Algorithm,
    Environment,
    Evaluation,
    GrpcEnvironment,
    GymnasiumEnvironment,
    StopWhen,
    TrainingRunSpec,
)
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_environment.gymnasium_host import GymnasiumSimulation
from aisandbox_environment.server import create_environment_server
from aisandbox_model_store import CHECKPOINT_ZIP, RunFolder, RunStore
from aisandbox_trainer.checkpoints import files as checkpoints
from aisandbox_trainer.checkpoints import random_state
from aisandbox_trainer.checkpoints.episodes import Episodes
from aisandbox_trainer.checkpoints.weights import WEIGHTS, read_weights, read_zip
from aisandbox_trainer.errors import StopRequested
from aisandbox_trainer.run.attempt import run_attempt
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training import episode_capture
from aisandbox_trainer.training.loop import TrainingLoop
from replay_files import read_replay_file
from stable_baselines3.common.save_util import load_from_zip_file

ON_STEP: list[Callable[[], None]] = []
"""Called at every step of every environment."""


class Watched(gym.Wrapper[Any, Any, Any, Any]):
    def step(self, action: Any) -> Any:
        for call in ON_STEP:
            call()
        return self.env.step(action)


class Noisy(gym.Wrapper[Any, Any, Any, Any]):
    """Draws from all there is to draw from, and rewards by it."""

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        drawn = random.random() + np.random.rand() + torch.rand(1).item() + self.np_random.random()
        return observation, float(reward) + 0.1 * drawn, *rest


class Taught(gym.Wrapper[Any, Any, Any, Any]):
    """Has a parameter, which each episode is rewarded by."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        super().__init__(env)
        self.metadata = {"parameters": {"bonus": {"default": 0.0, "minimum": 0.0, "maximum": 9.0}}}

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        assert options is not None
        self.bonus = options["bonus"]
        return self.env.reset(seed=seed)

    def step(self, action: Any) -> Any:
        observation, reward, *rest = self.env.step(action)
        return observation, float(reward) + self.bonus, *rest


def _watched(inner: str, noisy: bool = False, taught: bool = False, **kwargs: Any) -> gym.Env[Any, Any]:
    env = Watched(gym.make(inner, **kwargs))
    return Taught(env) if taught else Noisy(env) if noisy else env


entry_point: Any = _watched
gym.register("Watched-v0", entry_point=entry_point, disable_env_checker=True, order_enforce=False)


def watched(inner: str = "CartPole-v1", noisy: bool = False, **kwargs: Any) -> GymnasiumEnvironment:
    return GymnasiumEnvironment("Watched-v0", {"inner": inner, "noisy": noisy, **kwargs})


@pytest.fixture(autouse=True)
def _nobody_watches() -> Any:
    yield
    ON_STEP.clear()


PPO: dict[str, Any] = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "learning_rate": "lin_3e-4"}
DQN: dict[str, Any] = {
    "learning_starts": 60,
    "buffer_size": 200,
    "target_update_interval": 50,
    "batch_size": 16,
    "train_freq": 4,
}
QRDQN: dict[str, Any] = {**DQN, "policy_kwargs": "dict(net_arch=[16], n_quantiles=5)"}
RECURRENT: dict[str, Any] = {
    **PPO,
    "n_epochs": 1,
    "policy_kwargs": "dict(net_arch=[8], lstm_hidden_size=8)",
}
CONTINUOUS: dict[str, Any] = {
    "learning_starts": 60,
    "buffer_size": 200,
    "batch_size": 16,
    "train_freq": 8,
    "policy_kwargs": "dict(net_arch=[16])",
}
PENDULUM = watched("Pendulum-v1")


def spec(algorithm: str, total: int = 384, environment: Environment | None = None, **more: Any) -> TrainingRunSpec:
    evaluation = more.pop("evaluation", None)
    chosen = Algorithm(algorithm)
    traits = ALGORITHMS[chosen]
    if traits.has_critics:
        environment = environment or PENDULUM
    sizes = CONTINUOUS if traits.has_critics else DQN if traits.off_policy else PPO
    sizes = {"A2C": {}, "QRDQN": QRDQN, "RecurrentPPO": RECURRENT}.get(algorithm, sizes)
    defaults = {key: value for key, value in sizes.items() if has_parameter(chosen, key)}
    return TrainingRunSpec(
        algorithm=chosen,
        total_timesteps=total,
        environment=environment or watched(),
        seed=7,
        hyperparameters={key: str(value) for key, value in {**defaults, **more}.items()},
        checkpoint_every_timesteps=128,
        evaluation=evaluation,
    )


def attempt(folder: Path, spec: TrainingRunSpec, stop_after: int = 0, crash_after: int = 0) -> int:
    """One attempt, which is to stop or crash at that step of it (of all environments, those of evaluations too)."""
    stop, seen = Stop(), 0

    def step() -> None:
        nonlocal seen
        seen += 1
        if seen == stop_after:
            stop.request()
        if seen == crash_after:
            raise KeyError("a bug")

    ON_STEP[:] = [step]
    folder.mkdir(exist_ok=True)
    return run_attempt(TrainerStart("run", None, spec, folder, folder, termination_message_path=folder / "end"), stop)


def run_of(folder: Path) -> RunFolder:
    return RunStore(folder).run("run")


def message_of(folder: Path) -> TerminationMessage:
    return TerminationMessage.from_json((folder / "end").read_text())


def uninterrupted(folder: Path, spec: TrainingRunSpec) -> dict[str, Any]:
    assert attempt(folder, spec) == 0
    return everything(folder, spec)


def interrupted(folder: Path, spec: TrainingRunSpec, after: int, times: int = 1) -> dict[str, Any]:
    """Stops the run ``times`` times, each ``after`` steps, which is inside a rollout."""
    stopped = [attempt(folder, spec, stop_after=after) for _ in range(times)]
    assert stopped[0] == 143
    assert message_of(folder).latest_checkpoint is not None
    assert attempt(folder, spec) == 0
    assert message_of(folder).resumed_from is not None
    return everything(folder, spec)


def everything(folder: Path, spec: TrainingRunSpec) -> dict[str, Any]:
    """All that a run has come to, by names: leaves are bytes, numbers and arrays."""
    run = run_of(folder)
    checkpoint = run.newest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.manifest.details["episodes"] == "go on"
    data, parameters, variables = load_from_zip_file(checkpoint.path / CHECKPOINT_ZIP, device="cpu")
    assert data is not None
    state: checkpoints.TrainingState = pickle.loads((checkpoint.path / checkpoints.STATE).read_bytes())
    assert state.episodes is not None
    kept = (
        "num_timesteps",
        "_n_updates",
        "_episode_num",
        "exploration_rate",
        "_n_calls",
        "_current_progress_remaining",
    )
    found: dict[str, Any] = {
        "parameters": parameters,
        "variables": variables,
        "action noise": [
            vars(one) for one in getattr(data.get("action_noise"), "noises", [data.get("action_noise")]) if one
        ],
        "counters": {name: data.get(name) for name in kept},
        "learning curve": [(episode["r"], episode["l"]) for episode in data["ep_info_buffer"]],
        "evaluation_results": (
            state.evaluation_results.best_reward_mean,
            state.evaluation_results.last_reward_mean,
            state.evaluation_results.last_timesteps,
        ),
        "early stopping": [getattr(state.early_stopping, each.name) for each in fields(state.early_stopping)],
        "random": [
            getattr(state.random, name) for name in ("python", "numpy", "torch", "action_space", "environments")
        ],
        "seen last": [
            state.episodes.last_observation,
            state.episodes.started,
            state.episodes.last_original_observation,
        ],
        "lessons": None if state.lessons is None else asdict(state.lessons),
        "frames": state.episodes.frames,
        "LSTM state": state.episodes.lstm_state,
        "discounted returns": state.episodes.returns,
        "final model": run.model("final").digest,
        "models": [(model.timesteps, model.digest) for model in run.models() if model.timesteps % 128 == 0],
    }
    if (path := checkpoint.path / checkpoints.NORMALIZATION).exists():
        normalize = pickle.loads(path.read_bytes())
        found["statistics"] = {
            name: [rms.mean, rms.var, rms.count] for name in ("obs_rms", "ret_rms") if (rms := getattr(normalize, name))
        }
    if (path := checkpoint.path / checkpoints.REPLAY_BUFFER).exists():
        found["replay buffer"] = read_replay_file(path)
    return {f"{name}{key}": leaf for name, tree in found.items() for key, leaf in flat(tree)}


def flat(tree: Any) -> list[tuple[str, Any]]:
    if isinstance(tree, dict):
        return [(f".{key}{more}", leaf) for key, value in tree.items() for more, leaf in flat(value)]
    if isinstance(tree, list | tuple):
        return [(f"[{index}]{more}", leaf) for index, value in enumerate(tree) for more, leaf in flat(value)]
    if isinstance(tree, torch.Tensor | np.ndarray):
        array = np.asarray(tree.detach() if isinstance(tree, torch.Tensor) else tree)
        return [("", (array.dtype.str, array.shape, array.tobytes()))]
    return [("", tree)]


def differences(one: dict[str, Any], other: dict[str, Any]) -> set[str]:
    """The names whose values differ, by what is before the first dot or bracket."""
    names = one.keys() | other.keys()
    different = [name for name in names if one.get(name, "missing") != other.get(name, "missing")]
    return {name.partition("[")[0].partition(".")[0] for name in different}


LESSONS = (
    Lesson("low", {"bonus": {"uniform": [0, 1]}}, LessonEnd(episodes=6)),
    Lesson("middle", {"bonus": {"choice": [1, 2]}}, LessonEnd(reward=25.0, over_episodes=4, timesteps=100)),
    Lesson("high", {"bonus": {"log_uniform": [1, 9]}}),
)
TAUGHT = GymnasiumEnvironment("Watched-v0", {"inner": "CartPole-v1", "taught": True})
CASES: dict[str, TrainingRunSpec] = {
    "PPO": spec("PPO"),
    "PPO-3": spec("PPO", total=768, n_envs=3),
    "PPO-normalized-evaluated": spec("PPO", normalize=True, evaluation=Evaluation(100, 2, stochastic=True)),
    "PPO-2-normalized-stacked": spec("PPO", n_envs=2, normalize=True, frame_stack=3),
    "PPO-sde": spec("PPO", environment=PENDULUM, use_sde=True, sde_sample_freq=4, normalize=True),
    "PPO-kl": spec("PPO", environment=watched("Acrobot-v1"), n_envs=2, target_kl=0.001),
    "PPO-masked": spec("PPO", environment=watched("masked_worlds:Masked-v0"), n_envs=2, normalize=True, frame_stack=2),
    "MaskablePPO-evaluated": spec(
        "MaskablePPO",
        environment=watched("masked_worlds:Masked-v0", kind="multi_binary"),
        evaluation=Evaluation(100, 2, stochastic=True),
    ),
    "A2C": spec("A2C", total=256),
    "A2C-3-normalized": spec("A2C", total=512, n_envs=3, normalize=True, evaluation=Evaluation(100, 1)),
    "A2C-stacked": spec("A2C", total=256, frame_stack=2),
    "A2C-sde": spec("A2C", total=256, environment=PENDULUM, use_sde=True, n_envs=2),
    "DQN": spec("DQN", exploration_fraction=0.9),
    "DQN-3-normalized": spec("DQN", n_envs=3, normalize=True),
    "DQN-evaluated-stacked": spec("DQN", frame_stack=2, evaluation=Evaluation(100, 2)),
    "DQN-n-step": spec("DQN", n_steps=3, environment=watched("MountainCar-v0")),
    "DQN-episodes": spec("DQN", train_freq="(1, 'episode')", gradient_steps=-1),
    "DQN-memory": spec(
        "DQN", optimize_memory_usage=True, replay_buffer_kwargs="dict(handle_timeout_termination=False)"
    ),
    "QRDQN": spec("QRDQN", 256, exploration_fraction=0.9),
    "SAC": spec("SAC", 256, noise_type="ornstein-uhlenbeck", noise_std=0.2),
    "SAC-2-normalized-sde": spec("SAC", 512, n_envs=2, normalize=True, use_sde=True, ent_coef=0.1),
    "TD3-2": spec("TD3", 512, n_envs=2, noise_type="ornstein-uhlenbeck", noise_std=0.2, frame_stack=2),
    "TQC": spec("TQC", 256, ent_coef="auto_0.5", evaluation=Evaluation(300, 1)),
    "CrossQ": spec("CrossQ", 256, normalize=True, gradient_steps=3),
    "RecurrentPPO-2-normalized-stacked": spec("RecurrentPPO", n_envs=2, normalize=True, frame_stack=2, batch_size=64),
    "PPO-2-lessons": replace(spec("PPO", 512, environment=TAUGHT, n_envs=2), lessons=LESSONS),
    "DQN-lessons-evaluated": replace(spec("DQN", environment=TAUGHT, evaluation=Evaluation(100, 1)), lessons=LESSONS),
}


BACK, ON, CRASH = "back to the rollback point before", "on to the next one", "back to the last checkpoint"


def interruptions() -> Iterator[Any]:
    """Every case in every way; all but one way of a case, in turn, are slow tests."""
    for number, (name, case) in enumerate(CASES.items()):
        # Off-policy algorithms always continue.
        ways = (ON, CRASH) if ALGORITHMS[case.algorithm].off_policy else (BACK, ON, CRASH)
        for way in ways:
            yield pytest.param(name, way, marks=() if way == ways[number % len(ways)] else pytest.mark.slow)


@pytest.mark.parametrize(("name", "way"), list(interruptions()))
def test_interrupted_run_ends_like_one_that_was_not(
    name: str, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = CASES[name]
    monkeypatch.setattr(episode_capture, "SHARE_OF_TIME", 1e9 if way == BACK else -1.0)
    expected = uninterrupted(tmp_path / "a", case)
    environments = int(case.hyperparameters.get("n_envs", 1))
    if way == CRASH:
        assert attempt(tmp_path / "b", case, crash_after=case.total_timesteps - 60) == 75
        assert attempt(tmp_path / "b", case) == 0
        assert message_of(tmp_path / "b").resumed_from is not None
        found = everything(tmp_path / "b", case)
    else:
        found = interrupted(tmp_path / "b", case, after=115 * environments, times=2)
    assert differences(expected, found) == set()
    if case.environment == watched():
        assert "learning curve[3][0]" in found, "episodes have ended"
    if case.lessons:
        assert found["lessons.lesson"] == len(case.lessons) - 1, "lessons have ended"


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            replace(
                spec("A2C", 5_000, evaluation=Evaluation(60, 1)),
                stop_when=StopWhen(evaluation_reward_mean=1, times_in_a_row=4),
            ),
            "RewardReached",
        ),
        (
            replace(
                spec("PPO", 5_000, evaluation=Evaluation(64, 2)), stop_when=StopWhen(evaluations_without_improvement=1)
            ),
            "NoImprovement",
        ),
        (
            replace(
                spec("DQN", 5_000, stats_window_size=2), stop_when=StopWhen(episode_reward_mean=1, times_in_a_row=6)
            ),
            "RewardReached",
        ),
    ],
    ids=["evaluation", "no improvement", "training"],
)
def test_interrupted_run_ends_early_where_one_does_that_was_not(
    case: TrainingRunSpec, reason: str, tmp_path: Path
) -> None:
    case = replace(case, model_output_path="final.zip")
    expected = uninterrupted(tmp_path / "a", case)
    message, run = message_of(tmp_path / "a"), run_of(tmp_path / "a")
    assert message.early_stop is not None
    assert message.early_stop.reason == reason
    assert message.timesteps < case.total_timesteps
    best = run.model("best")
    assert run.model("final").digest == best.digest
    weights = read_weights(run.weights_of(best).path / WEIGHTS).policy
    zipped = read_zip(tmp_path / "a/final.zip", 1 << 20).policy
    assert all(torch.equal(tensor, zipped[name]) for name, tensor in weights.items())
    assert differences(expected, interrupted(tmp_path / "b", case, after=70)) == set()
    assert attempt(tmp_path / "a", case) == 0, "a finished run is not trained further"
    again = message_of(tmp_path / "a")
    assert (again.early_stop, again.timesteps) == (message.early_stop, message.timesteps)


ENDS_AT = 512


def _drop(**fields: Any) -> Callable[[Any, Any], None]:
    """Sets fields of the episodes to something else than was stored."""

    def drop(state: checkpoints.TrainingState, model: Any) -> None:
        del model
        assert state.episodes is not None
        for name, change in fields.items():
            assert getattr(state.episodes, name) is not None
            object.__setattr__(state.episodes, name, change(getattr(state.episodes, name)))

    return drop


def _redraw(name: str) -> Callable[[Any, Any], None]:
    def redraw(state: checkpoints.TrainingState, model: Any) -> None:
        model.action_space.seed(5)  # it is stored with the environments too
        object.__setattr__(state.random, name, getattr(random_state.RandomState.capture(model.action_space), name))

    return redraw


def _untrained(state: checkpoints.TrainingState, model: Any) -> None:
    for parameter in model.policy.parameters():
        parameter.data.mul_(1.01)


def _no_moments(state: checkpoints.TrainingState, model: Any) -> None:
    model.policy.optimizer.state.clear()


def _no_curve(state: checkpoints.TrainingState, model: Any) -> None:
    model.ep_info_buffer.clear()


def _counter(name: str) -> Callable[[Any, Any], None]:
    return lambda state, model: setattr(model, name, 1)


def _normal(name: str) -> Callable[[Any, Any], None]:
    def forget(state: checkpoints.TrainingState, model: Any) -> None:
        rms = getattr(model.get_vec_normalize_env(), name)
        rms.mean, rms.var, rms.count = np.zeros_like(rms.mean), np.ones_like(rms.var), 1e-4

    return forget


def _same_target(state: checkpoints.TrainingState, model: Any) -> None:
    model.q_net_target.load_state_dict(model.q_net.state_dict())


def _empty(state: checkpoints.TrainingState, model: Any) -> None:
    model.replay_buffer.reset()


def _saved_now(state: checkpoints.TrainingState, model: Any) -> None:
    object.__setattr__(state, "saved_at", model.num_timesteps)


def _new_episodes(state: checkpoints.TrainingState, model: Any) -> None:
    for one in model.get_env().unwrapped.envs:
        one.reset(seed=1)


def _nothing(state: Any, model: Any) -> None:
    pass


BOTH: dict[str, Callable[[Any, Any], None]] = {
    "weights": _untrained,
    "optimizer": _no_moments,
    "episodes that have ended": _no_curve,
    "number of updates": _counter("_n_updates"),
    "statistics of observations": _normal("obs_rms"),
    "statistics of returns": _normal("ret_rms"),
    "discounted returns": _drop(returns=np.zeros_like),
    "last observation": _drop(last_observation=np.zeros_like),
    "frames": _drop(frames=np.zeros_like),
    "Python's generator": _redraw("python"),
    "NumPy's generator": _redraw("numpy"),
    "torch's generator": _redraw("torch"),
    "environments": _new_episodes,
}
OFF_POLICY: dict[str, Callable[[Any, Any], None]] = {
    "action space's generator": _redraw("action_space"),
    "target network": _same_target,
    "replay buffer": _empty,
    "number of steps": _counter("_n_calls"),
    "number of episodes": _counter("_episode_num"),
    "exploration": _counter("exploration_rate"),
    "last stored observation": _drop(last_original_observation=np.zeros_like),
}
ACTOR_CRITIC: dict[str, Callable[[Any, Any], None]] = {
    "action noise": lambda state, model: model.action_noise.reset(),
    "entropy coefficient": lambda state, model: model.log_ent_coef.data.add_(0.1),
    "entropy optimizer": lambda state, model: model.ent_coef_optimizer.state.clear(),
    "actor's optimizer": lambda state, model: model.actor.optimizer.state.clear(),
    "target critics": lambda state, model: model.critic_target.load_state_dict(model.critic.state_dict()),
}
BATCH_NORM: dict[str, Callable[[Any, Any], Any]] = {
    "statistics of layers": lambda state, model: [each.zero_() for each in model.critic.buffers()],
}
LSTM: dict[str, Callable[[Any, Any], Any]] = {
    "LSTM state": _drop(lstm_state=lambda arrays: tuple(np.zeros_like(array) for array in arrays)),
}
PIECES = [("PPO", piece) for piece in [*BOTH, "what is due"]] + [("DQN", piece) for piece in [*BOTH, *OFF_POLICY]]
PIECES += [("SAC", piece) for piece in ACTOR_CRITIC] + [("CrossQ", piece) for piece in BATCH_NORM]
PIECES += [("RecurrentPPO", piece) for piece in LSTM]
SLOW = {(algorithm, piece) for algorithm, piece in PIECES if piece in {*ACTOR_CRITIC, *LSTM} - {"action noise"}}


def _rich(algorithm: str) -> TrainingRunSpec:
    """A run in which every piece of the state counts."""
    own: dict[str, dict[str, Any]] = {
        "DQN": {"exploration_fraction": 1.0, "exploration_final_eps": 0.5},
        "SAC": {"noise_type": "ornstein-uhlenbeck", "noise_std": 0.5},
    }
    more = own.get(algorithm, {"n_envs": 2})
    environment = watched(PENDULUM.kwargs["inner"] if algorithm in ("SAC", "CrossQ") else "CartPole-v1", noisy=True)
    return spec(algorithm, ENDS_AT, environment, normalize=True, frame_stack=2, **more)


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("rich")
    known: dict[str, dict[str, Any]] = {}

    def result(algorithm: str) -> dict[str, Any]:
        if algorithm not in known:
            known[algorithm] = uninterrupted(folder / algorithm, _rich(algorithm))
        return known[algorithm]

    return result


@pytest.mark.parametrize(
    ("algorithm", "piece"),
    [
        pytest.param(*case, marks=[pytest.mark.slow] if case in SLOW else [])
        for case in (*PIECES, *((each, "nothing") for each in ("PPO", "DQN", "SAC")))
    ],
)
def test_run_without_one_piece_of_the_state_ends_differently(
    algorithm: str,
    piece: str,
    rich: Callable[[str], dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pieces: dict[str, Callable[[Any, Any], Any]] = {
        **BOTH,
        **OFF_POLICY,
        **ACTOR_CRITIC,
        **BATCH_NORM,
        **LSTM,
        "what is due": _saved_now,
        "nothing": _nothing,
    }
    load, restore = checkpoints.load, Episodes.restore
    monkeypatch.setattr(episode_capture, "SHARE_OF_TIME", -1.0)

    def of_episodes() -> bool:
        return piece in ("discounted returns", "last observation", "frames", "last stored observation", "memory")

    def forgetful_restore(self: Episodes, model: Any) -> None:
        if of_episodes():
            pieces[piece](SimpleNamespace(episodes=self), model)
        restore(self, model)

    def forgetful_load(*arguments: Any) -> Any:
        model, state = load(*arguments)
        if not of_episodes():
            pieces[piece](state, model)
        return model, state

    expected = rich(algorithm)
    case = _rich(algorithm)
    different: set[str] = set()
    # That an action is drawn, say, is not so everywhere.
    for after in (290,) if piece == "nothing" else (290, 150, 210, 250, 330, 350):
        folder = tmp_path / str(after)
        assert attempt(folder, case, stop_after=after) == 143
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "load", forgetful_load)
            patch.setattr(Episodes, "restore", forgetful_restore)
            assert attempt(folder, case) == 0
        different |= differences(expected, everything(folder, case))
        if different:
            break
    assert bool(different) == (piece != "nothing"), different


class Lost(gym.Wrapper[Any, Any, Any, Any]):
    """Holds what no pickle can; with ``gone``, something that is stored and of no use to another process."""

    ours = 0

    def __init__(self, env: gym.Env[Any, Any], kind: str) -> None:
        super().__init__(env)
        self.held: Any = Lock() if kind == "lock" else None
        self.session = -1
        self.kind = kind

    def reset(self, **keywords: Any) -> Any:
        self.session = Lost.ours
        return self.env.reset(**keywords)

    def step(self, action: Any) -> Any:
        if self.kind == "gone" and self.session != Lost.ours:
            raise ConnectionError("no such session")
        return self.env.step(action)


def _lost(kind: str) -> gym.Env[Any, Any]:
    return Lost(_watched("CartPole-v1"), kind)


entry_point = _lost
gym.register("Lost-v0", entry_point=entry_point, disable_env_checker=True, order_enforce=False)


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_environment_that_cannot_be_stored_starts_new_episodes(algorithm: str, tmp_path: Path) -> None:
    case = spec(algorithm, environment=GymnasiumEnvironment("Lost-v0", {"kind": "lock"}))
    assert attempt(tmp_path, case, stop_after=115) == 143
    checkpoint = run_of(tmp_path).newest_checkpoint()
    assert checkpoint is not None
    assert "cannot pickle" in checkpoint.manifest.details["episodes"]
    assert attempt(tmp_path, case) == 0


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_environment_that_does_not_continue_starts_new_episodes(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    case = spec(algorithm, environment=GymnasiumEnvironment("Lost-v0", {"kind": "gone"}))
    assert attempt(tmp_path, case, stop_after=115) == 143
    monkeypatch.setattr(Lost, "ours", 1)
    assert attempt(tmp_path, case) == 0
    assert "restored episodes failed" in capsys.readouterr().out


def test_environment_that_has_changed_starts_new_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = spec("PPO")
    assert attempt(tmp_path, case, stop_after=115) == 143

    class Renamed(Watched):
        pass

    monkeypatch.setitem(globals(), "Watched", Renamed)
    assert attempt(tmp_path, case) == 0


def _start(folder: Path, case: TrainingRunSpec) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    start = TrainerStart("run", None, case, folder, folder, termination_message_path=folder / "end", run_uid="1-2-3")
    environ = {**os.environ, **start.to_environ()}
    return subprocess.Popen(
        [sys.executable, "-m", "aisandbox_trainer", "run"], env=environ, stderr=(folder / "log").open("ab")
    )


@pytest.mark.slow
@pytest.mark.parametrize(("algorithm", "total"), [("PPO", 6_000), ("DQN", 3_000)])
def test_stopped_process_is_continued_by_another_one(algorithm: str, total: int, tmp_path: Path) -> None:
    more = {"n_steps": 256, "n_epochs": 1, "n_envs": 2} if algorithm == "PPO" else {"train_freq": 16}
    case = spec(algorithm, total, GymnasiumEnvironment("CartPole-v1"), normalize=True, **more)
    case = replace(case, checkpoint_every_timesteps=total // 8)
    assert _start(tmp_path / "a", case).wait(150) == 0
    with _start(tmp_path / "b", case) as process:
        until = time.monotonic() + 150
        while not run_of(tmp_path / "b").checkpoints():
            assert time.monotonic() < until, "waited too long"
            time.sleep(0.001)
        process.send_signal(signal.SIGTERM)
        assert process.wait(150) == 143
    stopped = message_of(tmp_path / "b")
    assert 0 < stopped.timesteps < total
    assert _start(tmp_path / "b", case).wait(150) == 0
    assert message_of(tmp_path / "b").resumed_from == stopped.latest_checkpoint
    assert differences(everything(tmp_path / "a", case), everything(tmp_path / "b", case)) == set()


@pytest.mark.parametrize("algorithm", ["PPO", "A2C", "DQN"])
def test_model_of_a_simulator_is_as_good_after_a_resume_as_before(
    algorithm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each rollback point is rated; the first one of the next attempt must equal the last one of the attempt before."""
    rated: list[tuple[int, float | None, dict[str, Any]]] = []
    prepare_rollout = TrainingLoop.prepare_rollout

    def rate(self: TrainingLoop) -> None:
        evaluator = self.publisher.evaluator
        assert evaluator is not None
        learner = dict(flat(self.model.get_parameters()))
        rated.append((self.model.num_timesteps, evaluator.mean_reward(self.model, 1), learner))
        if len(rated) == 8:
            stop.request()
        prepare_rollout(self)

    def rate_and_stop(self: TrainingLoop) -> None:
        rate(self)
        raise StopRequested

    monkeypatch.setattr(TrainingLoop, "prepare_rollout", rate)
    stop = Stop()
    with create_environment_server(GymnasiumSimulation("CartPole-v1"), capacity=8) as server:
        environment = GrpcEnvironment(f"127.0.0.1:{server.port}", 2)
        case = spec(algorithm, 3000, environment, normalize=True, evaluation=Evaluation(3000, 2))
        start = TrainerStart("run", None, case, tmp_path, tmp_path, termination_message_path=tmp_path / "end")
        assert run_attempt(start, stop) == 143
        assert (message_of(tmp_path).timesteps, len(rated)) == (rated[-1][0], 8)
        rated.append(rated[-1])
        stop = Stop()
        monkeypatch.setattr(TrainingLoop, "prepare_rollout", rate_and_stop)
        assert run_attempt(start, stop) == 143
    before, after = rated[8], rated[9]
    assert before[0] == after[0] > 0
    assert before[1] is not None
    assert before[1:] == after[1:]
    checkpoint = run_of(tmp_path).newest_checkpoint()
    assert checkpoint is not None
    assert "simulator" in checkpoint.manifest.details["episodes"]
