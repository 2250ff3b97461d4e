"""Whole attempts over environments in this process: what is on disk afterwards, and how each of them ends."""

from __future__ import annotations

import pickle
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from aisandbox_crds.spec import Algorithm, Environment, Evaluation, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_model_store import CheckpointKey, DiskFull, RunFolder, RunStore, Writer, is_signed
from aisandbox_model_store.manifest import describe_folder
from aisandbox_model_store.signatures import SIGNATURE, signed
from aisandbox_trainer.run import attempt as attempts
from aisandbox_trainer.run.attempt import run_attempt
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training import artifact_publisher, schedule
from gymnasium import spaces
from stable_baselines3 import DQN, PPO
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CARTPOLE = GymnasiumEnvironment("CartPole-v1")
SMALL_LSTM = "dict(net_arch=[8], lstm_hidden_size=8)"


SCRIPTS: list[Callable[[int], float | None]] = []


class Scripted(gym.Env[Any, Any]):
    """Calls a script with the number of the step; its answer, if any, replaces the reward."""

    def __init__(self, script: int) -> None:
        self.observation_space = spaces.Box(-1, 1, (2,), np.float32)
        self.action_space = spaces.Discrete(2)
        self._at_step = SCRIPTS[script]
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self._steps += 1
        answer = self._at_step(self._steps)
        return self._observation(), 1.0 if answer is None else answer, self._steps % 10 == 0, False, {}

    def _observation(self) -> Any:
        return self.np_random.uniform(-1, 1, 2).astype(np.float32)


gym.register(
    "Scripted-v0", entry_point=lambda **kwargs: Scripted(**kwargs), disable_env_checker=True, order_enforce=False
)


def scripted(at_step: Callable[[int], float | None]) -> GymnasiumEnvironment:
    SCRIPTS.append(at_step)
    return GymnasiumEnvironment("Scripted-v0", {"script": len(SCRIPTS) - 1})


class Runs:
    """Attempts at one run below a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.uid = ""
        self.key: str | None = None
        self.accept_unsigned = False
        self.stop = Stop()

    @property
    def run(self) -> RunFolder:
        return RunStore(self.folder).run("run-1")

    @property
    def message(self) -> TerminationMessage:
        return TerminationMessage.from_json((self.folder / "message").read_text())

    def attempt(
        self,
        environment: Environment,
        algorithm: str = "PPO",
        total: int = 256,
        attempt: int | None = None,
        evaluation: Evaluation | None = None,
        output: str = "",
        every: int = 0,
        **hyperparameters: Any,
    ) -> int:
        self.stop.requested = False
        defaults = {"n_steps": 64, "batch_size": 64, "n_epochs": 2} if algorithm == "PPO" else {}
        spec = TrainingRunSpec(
            algorithm=Algorithm(algorithm),
            total_timesteps=total,
            environment=environment,
            seed=5,
            hyperparameters={key: str(value) for key, value in {**defaults, **hyperparameters}.items()},
            model_output_path=output,
            checkpoint_every_timesteps=every,
            evaluation=evaluation,
        )
        start = TrainerStart(
            run_id="run-1",
            attempt=attempt,
            run_uid=self.uid,
            spec=spec,
            models_dir=self.folder,
            checkpoint_dir=self.folder,
            termination_message_path=self.folder / "message",
            checkpoint_key=self.key,
            accept_unsigned_checkpoints=self.accept_unsigned,
        )
        return run_attempt(start, self.stop, Settings(disk_patience=0.2, earlier_run_patience=0.2))


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path)


def _weights(run: RunFolder, algorithm: Any = PPO) -> dict[str, Any]:
    checkpoint = run.newest_checkpoint()
    assert checkpoint is not None
    model = algorithm.load(checkpoint.path / "model.zip", device="cpu")
    return dict(model.policy.state_dict())


def test_attempt_leaves_a_final_model_a_checkpoint_and_the_copy(runs: Runs) -> None:
    assert runs.attempt(CARTPOLE, output="./out/my_model.zip", evaluation=Evaluation(episodes=2)) == 0

    final, latest = runs.run.model("final"), runs.run.model("latest")
    assert final.digest == latest.digest
    assert final.timesteps == 256
    assert {"policy.onnx", "metadata.json", "golden.json"} <= set(runs.run.read_model(final).files)
    assert runs.run.model("best").timesteps <= 256
    pointer = runs.run.pointer("best")
    assert pointer is not None
    assert pointer.reward_mean is not None
    assert pointer.reward_mean > 1
    assert PPO.load(runs.folder / "out" / "my_model.zip", device="cpu").num_timesteps == 256
    curves = EventAccumulator(str(runs.run.logs_path)).Reload()
    assert curves.Scalars("eval/mean_reward")[-1].step == 256
    assert curves.Scalars("rollout/ep_rew_mean")[-1].value > 1
    assert (runs.message.exit_code, runs.message.timesteps, runs.message.failure) == (0, 256, None)


def test_message_repeats_what_was_published(runs: Runs) -> None:
    assert runs.attempt(CARTPOLE, evaluation=Evaluation(episodes=2), every=128) == 0
    message = runs.message
    assert message.attempt == 1
    checkpoint, model, best = message.latest_checkpoint, message.latest_model, message.best_model
    assert checkpoint is not None
    assert model is not None
    assert best is not None
    newest = runs.run.newest_checkpoint()
    assert newest is not None
    assert (checkpoint.path, checkpoint.timesteps, checkpoint.digest) == ("checkpoints/256", 256, newest.digest)
    assert checkpoint.time is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", checkpoint.time)
    assert model.digest == runs.run.model("latest").digest
    assert best.digest == runs.run.model("best").digest
    assert best.reward_mean is not None
    assert message.episode_reward_mean is not None
    assert message.resumed_from is None


@pytest.mark.parametrize("output", ["", "out/my_model.zip"])
def test_finished_run_is_not_run_again(runs: Runs, tmp_path: Path, output: str) -> None:
    steps: list[int] = []
    environment = scripted(steps.append)
    assert runs.attempt(environment, total=200, output=output, every=64) == 0
    first, done = runs.message, len(steps)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.name != "message"}

    assert runs.attempt(environment, total=200, output=output, every=64) == 0

    assert len(steps) == done == 256
    # What it does not know, as which algorithm was trained, stays as it was reported before.
    assert runs.message == replace(first, attempt=2, resumed_from=first.latest_checkpoint, trained_algorithm=None)
    changed = [path.name for path in tmp_path.rglob("*") if before.get(path) != path.stat().st_mtime_ns]
    assert sorted(changed) == ["2", "attempts", "message"]


def test_run_whose_end_was_interrupted_is_completed(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(self: Writer, *_: Any) -> None:
        raise DiskFull(self.run.path)

    with monkeypatch.context() as patch:
        patch.setattr(Writer, "write_output", no_space)
        assert runs.attempt(CARTPOLE, output="model.zip") == 75
    assert runs.run.pointer("final") is None
    assert runs.attempt(CARTPOLE, output="model.zip") == 0
    assert (runs.folder / "model.zip").exists()
    assert runs.run.model("final").timesteps == 256


def test_run_created_again_under_its_name_starts_from_zero(runs: Runs) -> None:
    steps: list[int] = []
    environment = scripted(steps.append)
    runs.uid = "11111111-1111-4111-8111-111111111111"
    assert runs.attempt(environment, total=128) == 0
    runs.uid = "22222222-2222-4222-8222-222222222222"
    assert runs.attempt(environment, total=128) == 0
    assert len(steps) == 256
    assert (runs.message.attempt, runs.message.resumed_from) == (1, None)
    assert runs.run.uid() == runs.uid
    runs.uid = "11111111-1111-4111-8111-111111111111"
    assert runs.attempt(environment, total=128) == 75
    assert runs.message.failure is not None
    assert (runs.message.attempt, runs.message.failure.reason) == (0, "Fenced")


@pytest.mark.parametrize("algorithm", ["A2C", "DQN"])
def test_attempt_trains_the_other_algorithms(runs: Runs, algorithm: str) -> None:
    assert runs.attempt(CARTPOLE, algorithm, total=300) == 0
    assert runs.run.model("final").timesteps >= 300


def test_stop_keeps_the_model_of_the_last_rollback_point(runs: Runs, tmp_path: Path) -> None:
    def stop_at(step: int) -> None:
        if step == 150:
            runs.stop.request()

    assert runs.attempt(scripted(stop_at)) == 143
    checkpoint = runs.run.newest_checkpoint()
    assert checkpoint is not None
    assert checkpoint.timesteps in (128, 192), "back to the rollback point before, or on to the next one"
    assert runs.message.failure is None

    (tmp_path / "other").mkdir()
    other = Runs(tmp_path / "other")
    assert other.attempt(scripted(lambda _: None), total=checkpoint.timesteps) == 0
    mine, others = _weights(runs.run), _weights(other.run)
    assert all(torch.equal(value, others[key]) for key, value in mine.items())


def test_stopped_run_continues_from_its_checkpoint(runs: Runs) -> None:
    seen: list[int] = []

    def stop_at(step: int) -> None:
        seen.append(step)
        if len(seen) == 150:
            runs.stop.request()

    assert runs.attempt(scripted(stop_at)) == 143
    saved = runs.run.newest_checkpoint()
    assert saved is not None
    seen.clear()
    seen.extend(range(1000))
    assert runs.attempt(scripted(stop_at)) == 0
    assert len(seen) - 1000 == 256 - saved.timesteps
    assert runs.run.model("final").timesteps == 256


def test_stop_of_dqn_keeps_every_stored_step(runs: Runs) -> None:
    def stop_at(step: int) -> None:
        if step == 150:
            runs.stop.request()

    assert runs.attempt(scripted(stop_at), "DQN", total=1000) == 143
    checkpoint = runs.run.newest_checkpoint()
    assert checkpoint is not None
    assert 150 <= checkpoint.timesteps <= 152
    model = DQN.load(checkpoint.path / "model.zip", device="cpu")
    assert model.num_timesteps == checkpoint.timesteps


def test_attempt_falls_back_past_a_damaged_checkpoint(runs: Runs) -> None:
    def stop_at(step: int) -> None:
        if step == 200:
            runs.stop.request()

    assert runs.attempt(scripted(stop_at), total=512, every=64) == 143
    newest, before = runs.run.checkpoints()[:2]
    model = newest.path / "model.zip"
    model.write_bytes(model.read_bytes()[:-100])

    steps: list[int] = []
    assert runs.attempt(scripted(steps.append), total=512, every=64) == 0
    assert len(steps) == 512 - before.timesteps
    assert any(path.name.startswith("damaged-") for path in runs.run.checkpoints_path.iterdir())


def test_best_model_survives_a_worse_attempt(runs: Runs) -> None:
    evaluation = Evaluation(every_timesteps=64, episodes=1)
    assert runs.attempt(scripted(lambda step: 5.0), total=128, evaluation=evaluation) == 0
    best = runs.run.model("best")
    assert runs.attempt(scripted(lambda step: 0.1), total=512, evaluation=evaluation) == 0
    assert runs.run.model("final").timesteps == 512
    assert runs.run.model("best").digest == best.digest


def test_damaged_pointer_does_not_end_the_training(runs: Runs) -> None:
    def damage(step: int) -> float:
        if step == 100:
            (runs.run.models_path / "best").write_text("{")
        return 5.0 if step < 64 else 0.1

    evaluation = Evaluation(every_timesteps=64, episodes=1)
    assert runs.attempt(scripted(damage), every=64, evaluation=evaluation) == 0
    best = runs.run.pointer("best")
    assert best is not None, "written again"
    assert runs.run.model("best").timesteps == best.timesteps


@pytest.mark.parametrize("trouble", ["damaged pointer", "removed model"])
def test_best_model_that_cannot_be_served_is_replaced(runs: Runs, trouble: str) -> None:
    evaluation = Evaluation(every_timesteps=64, episodes=1)
    assert runs.attempt(scripted(lambda step: 5.0), total=128, evaluation=evaluation) == 0
    if trouble == "damaged pointer":
        (runs.run.models_path / "best").write_text("{")
    else:
        shutil.rmtree(runs.run.model("best").path)
    assert runs.attempt(scripted(lambda step: 0.1), total=512, evaluation=evaluation) == 0
    assert runs.run.model("best").timesteps > 128, "worse than the lost one, and there"


@pytest.mark.parametrize(
    ("environment", "algorithm", "hyperparameters", "reason", "message"),
    [
        (GymnasiumEnvironment("NoSuch-v9"), "PPO", {}, "UnknownEnvironment", "NoSuch-v9"),
        (GymnasiumEnvironment("CartPole-v1", {"gravel": 1}), "PPO", {}, "UnknownEnvironment", "gravel"),
        (GymnasiumEnvironment("Pendulum-v1"), "DQN", {}, "UnsupportedActionSpace", "Discrete"),
        (CARTPOLE, "PPO", {"n_steps": 1}, "InvalidHyperparameter", "n_steps"),
        (CARTPOLE, "PPO", {"gama": 1}, "InvalidHyperparameter", "did you mean gamma"),
        (CARTPOLE, "PPO", {"policy": "CnnPolicy"}, "InvalidHyperparameter", "MlpPolicy"),
        (
            GymnasiumEnvironment("Sampled-v0", {"kind": "image"}),
            "PPO",
            {"normalize": True},
            "InvalidHyperparameter",
            "norm_obs=False",
        ),
        (CARTPOLE, "PPO", {"use_sde": True}, "InvalidHyperparameter", "needs Box actions"),
        (CARTPOLE, "PPO", {"learning_rate": 1e30}, "NonFiniteTraining", "learning_rate"),
        (
            CARTPOLE,
            "RecurrentPPO",
            {"n_steps": 32, "policy_kwargs": SMALL_LSTM, "learning_rate": 1e30},
            "NonFiniteTraining",
            "learning_rate",
        ),
        (scripted(lambda step: float("nan")), "PPO", {}, "SimulatorInvalidReply", "nan"),
    ],
)
def test_attempt_that_cannot_succeed_reports_the_reason(
    runs: Runs, environment: Any, algorithm: str, hyperparameters: Any, reason: str, message: str
) -> None:
    assert runs.attempt(environment, algorithm, **hyperparameters) == 78
    failure = runs.message.failure
    assert failure is not None
    assert failure.reason == reason
    assert message in failure.message
    assert runs.run.checkpoints() == [], "nothing to continue from"


def test_attempt_that_was_replaced_ends_long_before_it_would_publish(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact_publisher, "FENCE_SECONDS", 0.0)

    def replace_at(step: int) -> None:
        if step == 100:
            runs.run.claim(2)

    assert runs.attempt(scripted(replace_at), attempt=1, every=10_000, total=10_000) == 75
    assert runs.message.failure is not None
    assert runs.message.failure.reason == "Fenced"
    assert runs.message.timesteps < 1000


def test_attempt_that_was_replaced_publishes_nothing(runs: Runs) -> None:
    def replace_at(step: int) -> None:
        if step == 100:
            runs.run.claim(2)

    assert runs.attempt(scripted(replace_at), attempt=1) == 75
    failure = runs.message.failure
    assert failure is not None
    assert failure.reason == "Fenced"
    assert [published.timesteps for published in runs.run.checkpoints()] == [64]
    assert [published.timesteps for published in runs.run.models()] == [64]


def test_full_disk_in_between_does_not_end_the_training(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Writer.publish_checkpoint
    failures: list[int] = []

    def full_once(self: Writer, *arguments: Any) -> Any:
        if not failures:
            failures.append(1)
            raise DiskFull(self.run.path)
        return publish(self, *arguments)

    monkeypatch.setattr(Writer, "publish_checkpoint", full_once)
    warnings: list[str] = []

    class Recorded(ProgressTracker):
        def __setattr__(self, name: str, value: Any) -> None:
            super().__setattr__(name, value)
            if name == "warning":
                warnings.append(value)

    monkeypatch.setattr(attempts, "ProgressTracker", Recorded)
    assert runs.attempt(CARTPOLE, every=64) == 0
    assert failures
    assert runs.run.model("final").timesteps == 256
    told = next(index for index, text in enumerate(warnings) if "no space left" in text)
    assert warnings[told + 1 :], "until the next checkpoint is saved"
    assert set(warnings[told + 1 :]) == {""}


def test_checkpoints_that_take_long_are_made_less_often(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "LARGE_BYTES", 1)
    monkeypatch.setattr(schedule, "SHARE_OF_TIME", 1e-6)
    assert runs.attempt(CARTPOLE, every=64, total=320) == 0
    assert [published.timesteps for published in runs.run.checkpoints()] == [320, 64], "the end is saved in any case"
    assert len(runs.run.models()) == 5

    monkeypatch.setattr(schedule, "SHARE_OF_TIME", 1.0)
    assert runs.attempt(CARTPOLE, every=64, total=512) == 0
    assert [published.timesteps for published in runs.run.checkpoints()][-1] > 320


def test_full_disk_at_the_end_is_waited_for(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    publish = Writer.publish_checkpoint
    failures: list[int] = []

    def full_at_the_end(self: Writer, timesteps: int, *arguments: Any) -> Any:
        if timesteps == 256 and not failures:
            failures.append(1)
            raise DiskFull(self.run.path)
        return publish(self, timesteps, *arguments)

    monkeypatch.setattr(Writer, "publish_checkpoint", full_at_the_end)
    assert runs.attempt(CARTPOLE, every=1000) == 0
    assert failures
    assert runs.run.model("final").timesteps == 256


def test_full_disk_at_the_end_is_retried(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Writer, *_: Any) -> Any:
        raise DiskFull(self.run.path)

    monkeypatch.setattr(Writer, "publish_checkpoint", full)
    assert runs.attempt(CARTPOLE) == 75
    failure = runs.message.failure
    assert failure is not None
    assert failure.reason == "DiskFull"


def test_unknown_exception_is_retried_with_its_text(runs: Runs) -> None:
    def fail(step: int) -> None:
        if step == 30:
            raise KeyError("the simulation's own bug")

    assert runs.attempt(scripted(fail)) == 75
    failure = runs.message.failure
    assert failure is not None
    assert "the simulation's own bug" in failure.message


@pytest.mark.parametrize("algorithm", [PPO, DQN])
def test_evaluation_does_not_change_what_is_learned(runs: Runs, tmp_path: Path, algorithm: Any) -> None:
    # DQN explores long enough to draw from its action space after, and during, an evaluation.
    keywords: dict[str, Any] = {"learning_starts": 20, "exploration_fraction": 1.0} if algorithm is DQN else {}
    name, evaluation = algorithm.__name__, Evaluation(64, 2, stochastic=True)
    assert runs.attempt(CARTPOLE, name, normalize=True, evaluation=evaluation, **keywords) == 0
    (tmp_path / "other").mkdir()
    other = Runs(tmp_path / "other")
    assert other.attempt(CARTPOLE, name, normalize=True, **keywords) == 0
    mine, others = _weights(runs.run, algorithm), _weights(other.run, algorithm)
    assert all(torch.equal(value, others[key]) for key, value in mine.items())


def test_stopped_run_continues_with_its_statistics(runs: Runs) -> None:
    steps: list[int] = []

    def stop_at(step: int) -> None:
        steps.append(step)
        if len(steps) == 150:
            runs.stop.request()

    environment = scripted(stop_at)
    assert runs.attempt(environment, normalize=True, frame_stack=2, evaluation=Evaluation(0, 1)) == 143
    assert runs.attempt(environment, normalize=True, frame_stack=2, evaluation=Evaluation(0, 1)) == 0
    checkpoint = runs.run.newest_checkpoint()
    assert checkpoint is not None
    with (checkpoint.path / "vecnormalize.pkl").open("rb") as file:
        count = pickle.load(file).obs_rms.count
    # Every observation of the steps that count, and the first one: the second attempt continues in its episode.
    assert round(count) == 256 + 1


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_rewards_alone_are_normalised(runs: Runs, algorithm: str) -> None:
    rewards_only = "dict(norm_obs=False, norm_reward=True)"
    assert runs.attempt(CARTPOLE, algorithm, normalize=rewards_only, evaluation=Evaluation(128, 1)) == 0
    assert runs.attempt(CARTPOLE, algorithm, total=512, normalize=rewards_only) == 0
    metadata = runs.run.read_model(runs.run.model("final")).files["metadata.json"].decode()
    assert '"normalizedObservations": true' not in metadata


def test_frames_are_stacked_and_normalised_into_the_model(runs: Runs) -> None:
    assert runs.attempt(CARTPOLE, frame_stack=3, normalize=True, n_envs=2, evaluation=Evaluation(0, 2)) == 0
    metadata = runs.run.read_model(runs.run.model("final")).files["metadata.json"].decode()
    assert '"frameStack": 3' in metadata


def test_attempt_without_evaluation_keeps_the_model_with_the_best_training_episodes(runs: Runs) -> None:
    # Ten steps an episode: 10.0 each up to step 128, then -10.0 each.
    assert runs.attempt(scripted(lambda step: 1.0 if step <= 128 else -1.0), every=64) == 0

    best = runs.run.pointer("best")
    assert best is not None
    assert (best.timesteps, best.reward_mean) == (64, 10.0)
    assert runs.run.model("latest").timesteps == 256


IMAGE = spaces.Box(0, 255, (40, 36, 3), np.uint8)


class Sampled(gym.Env[Any, Any]):
    """Shows random points of a space; episodes have ten steps."""

    def __init__(self, kind: str) -> None:
        named = spaces.Dict({"camera": IMAGE, "gear": spaces.Discrete(3, start=1), "speed": spaces.Box(0.0, 1.0, (2,))})
        self.observation_space = {"image": IMAGE, "dict": named, "discrete": spaces.Discrete(4, start=2)}[kind]
        self.action_space = spaces.Box(np.array([0, 10], np.float32), np.array([1, 20], np.float32))
        self._steps = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(action), action
        self._steps += 1
        return self.observation_space.sample(), 0.0, False, self._steps % 10 == 0, {}


gym.register("Sampled-v0", entry_point=lambda **kwargs: Sampled(**kwargs), disable_env_checker=True)


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("PPO", "image"), ("PPO", "dict"), ("A2C", "dict"), ("A2C", "discrete")]
)
def test_policy_fits_what_is_observed_and_is_restored(runs: Runs, algorithm: str, kind: str) -> None:
    environment = GymnasiumEnvironment("Sampled-v0", {"kind": kind})
    assert runs.attempt(environment, algorithm, total=16, every=16, n_steps=8, evaluation=Evaluation(0, 1)) == 0
    assert runs.attempt(environment, algorithm, total=32, every=16, n_steps=8, evaluation=Evaluation(0, 1)) == 0
    assert runs.run.model("final").timesteps >= 32


KEY = "5a" * 32
RAN: list[str] = []


class Foreign:
    """Code in the place of what a checkpoint has pickled."""

    def __reduce__(self) -> Any:
        return RAN.append, ("foreign code",)


@pytest.mark.parametrize("name", ["state.pkl", "vecnormalize.pkl"])
def test_what_another_program_has_pickled_is_not_unpickled(runs: Runs, name: str) -> None:
    def stop_at(step: int) -> None:
        if step == 200:
            runs.stop.request()

    runs.key = KEY
    assert runs.attempt(scripted(stop_at), total=512, every=64, normalize="true") == 143
    newest, before = runs.run.checkpoints()[:2]
    (newest.path / name).write_bytes(pickle.dumps(Foreign()))
    details = {key: value for key, value in newest.manifest.details.items() if key != SIGNATURE}
    (newest.path / "manifest.json").unlink()
    manifest = describe_folder(newest.path, "checkpoint", newest.timesteps, details)
    forged = signed(manifest, CheckpointKey(b"of another run"))
    (newest.path / "manifest.json").write_bytes(forged.to_bytes())

    steps: list[int] = []
    assert runs.attempt(scripted(steps.append), total=512, every=64, normalize="true") == 0
    assert RAN == []
    assert len(steps) == 512 - before.timesteps
    (reason,) = runs.run.checkpoints_path.glob("damaged-*/reason.txt")
    assert "manifest.json was not made with the key of this run" in reason.read_text()


def test_run_that_began_before_there_were_keys_continues(runs: Runs) -> None:
    def stop_at(step: int) -> None:
        if step == 100:
            runs.stop.request()

    assert runs.attempt(scripted(stop_at), total=512, every=64) == 143
    begun = runs.run.checkpoints()[0].timesteps
    runs.key, runs.accept_unsigned = KEY, True
    steps: list[int] = []
    assert runs.attempt(scripted(steps.append), total=512, every=64) == 0
    assert len(steps) == 512 - begun
    newest = runs.run.checkpoints()[0]
    assert is_signed(newest.manifest)
