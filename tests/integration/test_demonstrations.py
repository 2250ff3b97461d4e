"""A run that learns from recorded episodes first: it resumes without them, and refuses what does not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import gymnasium
import numpy as np
import pytest
import torch
from aisandbox_crds import ALGORITHMS, ExitCode, TerminationMessage, TrainerStart
from aisandbox_crds.spec import (
    Algorithm,
    DemonstrationSettings,
    Evaluation,
    GymnasiumEnvironment,
    StartFrom,
    TakenPart,
    TrainingRunSpec,
)
from aisandbox_environment import (
    DemonstrationWriter,
    GymnasiumSimulation,
    SimulatorSession,
    Spec,
    create_environment_server,
    make_spec,
    record_episodes,
)
from aisandbox_model_store import CHECKPOINT_ZIP, CheckpointNotFound, RunFolder, RunStore
from aisandbox_trainer.checkpoints.weights import read_weights, read_zip
from aisandbox_trainer.cloning.clone import Cloning
from aisandbox_trainer.run.attempt import run_attempt
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from aisandbox_wire import box, discrete
from demonstration_files import write_demonstrations

POLE = GymnasiumSimulation("CartPole-v1").spec
SMALL = {"policy_kwargs": "dict(net_arch=[8])", "n_steps": "32", "batch_size": "16", "normalize": "True"}
SPEC = TrainingRunSpec(
    Algorithm.PPO,
    64,
    GymnasiumEnvironment("CartPole-v1"),
    seed=7,
    hyperparameters=SMALL,
    demonstrations=DemonstrationSettings("pole.parquet", epochs=3),
    checkpoint_every_timesteps=1000,
)
LARGEST = 1 << 24


def balance(leaves: list[Any]) -> int:
    return int(leaves[0][2] > 0)


class Volume:
    """Runs below one folder, with a file of demonstrations."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.message = folder / "message"
        self.write(POLE, balance)

    def write(self, spec: Spec, act: Any, **more: Any) -> None:
        write_demonstrations(self.folder / "pole.parquet", spec, act, **more)

    def run(self, name: str) -> RunFolder:
        return RunStore(self.folder).run(name)

    def train(self, name: str, spec: TrainingRunSpec = SPEC, stop: Stop | None = None, **settings: Any) -> ExitCode:
        start = TrainerStart(name, None, spec, self.folder, self.folder, termination_message_path=self.message)
        return run_attempt(start, stop or Stop(), Settings(**settings))

    def ending(self) -> TerminationMessage:
        return TerminationMessage.from_json(self.message.read_text())

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """The weights at the end."""
        return dict(read_zip(self.run(name).checkpoint("latest").path / CHECKPOINT_ZIP, LARGEST).policy)

    def best_return(self, name: str) -> float | None:
        """Of the best evaluation."""
        best = self.run(name).pointer("best")
        assert best is not None
        return best.reward_mean

    def refusal(self, spec: TrainingRunSpec = SPEC, **settings: Any) -> str:
        assert self.train("refused", spec, **settings) is ExitCode.PERMANENT
        failure = self.ending().failure
        assert failure is not None
        assert failure.reason == "InvalidDemonstrations"
        return failure.message


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def stopping_after(monkeypatch: pytest.MonkeyPatch, owner: type, method: str) -> Stop:
    """A stop that is requested when the method has been called."""
    stop, called = Stop(), getattr(owner, method)

    def then_stop(*arguments: Any) -> Any:
        called(*arguments)
        stop.request()

    monkeypatch.setattr(owner, method, then_stop)
    return stop


def test_run_resumes_after_cloning_without_the_file(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    assert volume.train("whole") is ExitCode.DONE
    cloning = volume.ending().cloning
    assert cloning is not None
    assert (cloning.epoch, cloning.epochs, cloning.episodes, cloning.steps) == (3, 3, 3, 36)
    first = read_zip(volume.run("whole").checkpoint("step:0").path / CHECKPOINT_ZIP, LARGEST)
    assert first.policy, "what was cloned is the checkpoint of step 0"

    stop = stopping_after(monkeypatch, ArtifactPublisher, "save_start")
    assert volume.train("stopped", stop=stop) is ExitCode.CANCELLED
    assert volume.run("stopped").checkpoint("latest").timesteps == 0
    (volume.folder / "pole.parquet").unlink()
    assert volume.train("stopped") is ExitCode.DONE
    assert equal(volume.weights("stopped"), volume.weights("whole"))


def test_cloning_that_was_stopped_begins_anew(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    stop = stopping_after(monkeypatch, Cloning, "_end_epoch")
    assert volume.train("stopped", stop=stop) is ExitCode.CANCELLED
    with pytest.raises(CheckpointNotFound):
        volume.run("stopped").checkpoint("latest")
    monkeypatch.undo()
    assert volume.train("stopped") is ExitCode.DONE
    assert volume.train("whole") is ExitCode.DONE
    assert equal(volume.weights("stopped"), volume.weights("whole"))
    # Begun anew, it holds to the file of its first attempt, also if that was deleted meanwhile.
    stop = stopping_after(monkeypatch, Cloning, "_end_epoch")
    assert volume.train("refused", stop=stop) is ExitCode.CANCELLED
    written = (volume.folder / "pole.parquet").read_bytes()
    volume.write(POLE, lambda leaves: 0)
    assert "the file 'pole.parquet' has the digest sha256:" in volume.refusal()
    (volume.folder / "pole.parquet").unlink()
    assert "'pole.parquet' is not in MODELS_DIR: it must stay" in volume.refusal()
    monkeypatch.undo()
    (volume.folder / "pole.parquet").write_bytes(written)
    assert volume.train("refused") is ExitCode.DONE, "nothing was lost"


def test_statistics_that_are_taken_over_stay(volume: Volume) -> None:
    assert volume.train("first", replace(SPEC, demonstrations=None)) is ExitCode.DONE
    start = StartFrom("first", take=(TakenPart.NORMALIZATION,))
    source = volume.run("first")
    taken = read_weights(source.weights_of(source.model("latest")).path / "weights.npz").statistics
    assert volume.train("again", replace(SPEC, start_from=start)) is ExitCode.DONE
    kept = np.load(volume.run("again").checkpoint("step:0").path / "normalization.npz")
    assert all((kept[name] == taken[name]).all() for name in taken)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "demonstrations: 'pole.parquet' is not in MODELS_DIR: it must stay until the run has saved its"),
        ("folder", "demonstrations: 'pole.parquet' is not in MODELS_DIR: it must stay until the run has saved its"),
        ("outside", "demonstrations: path '../pole.parquet': must not contain '..'"),
        ("damaged", "is damaged, or no Parquet file"),
        ("text", "is damaged, or no Parquet file"),
        (
            "observations",
            "does not fit: its observations are Box float32 [3], and the environment's are Box float32 [4]",
        ),
        ("action", "row 5 (episode 0, step 5): action is outside of its space: 7"),
        ("memory", "does not fit: its 30,001 rows need"),
    ],
)
def test_file_that_cannot_be_learned_from_is_refused(case: str, message: str, volume: Volume) -> None:
    path = volume.folder / "pole.parquet"
    spec = SPEC
    settings: dict[str, Any] = {}
    if case == "missing":
        path.unlink()
    elif case == "folder":  # what a pod has where there was no file
        path.unlink()
        path.mkdir()
    elif case == "outside":
        path.rename(volume.folder.parent / "pole.parquet")
        spec = replace(SPEC, demonstrations=DemonstrationSettings("../pole.parquet"))
    elif case == "damaged":
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 1
        path.write_bytes(data)
    elif case == "text":
        path.write_text("episode,action\n0,1\n")
    elif case == "observations":
        volume.write(make_spec(box((3,)), discrete(2)), lambda leaves: 0)
    elif case == "action":
        steps = iter(range(100))
        volume.write(POLE, lambda leaves: 7 if next(steps) == 5 else 0)
    else:
        settings = {"memory_bytes": 1_000_000}
        volume.write(make_spec(box((4,)), discrete(2)), lambda leaves: 0, lengths=(30_000,))
    assert message in volume.refusal(spec, **settings)


class Lock(gymnasium.Env[Any, Any]):
    """The lock of examples/06-lessons: of ten digits the last is rewarded. Chance finds them once in a million."""

    code = (2, 0, 3, 1, 1, 3, 2, 0, 3, 1)
    observation_space = gymnasium.spaces.Box(0, 1, (10,), np.float32)
    action_space = gymnasium.spaces.Discrete(4)

    def __init__(self) -> None:
        self.entered = 0

    @classmethod
    def solve(cls, seen: Any, mask: Any) -> int:
        """The right digit."""
        return cls.code[int(np.argmax(seen))]

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.entered = 0
        return self._observed(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        right = action == self.code[self.entered]
        self.entered += int(right)
        is_open = self.entered == len(self.code)
        return self._observed(), float(is_open), is_open or not right, False, {}

    def _observed(self) -> Any:
        return (np.arange(10) == self.entered).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [Algorithm.PPO, Algorithm.DQN])
def test_what_chance_does_not_find_is_learned_from_one_episode(algorithm: Algorithm, volume: Volume) -> None:
    gymnasium.register("Lock-v0", cast(Any, Lock), max_episode_steps=10)
    try:
        with (
            create_environment_server(GymnasiumSimulation("Lock-v0")) as server,
            SimulatorSession.connect(server.address, 1) as session,
        ):
            writer = DemonstrationWriter(volume.folder / "lock.parquet", session.spec, {})
            for episode in record_episodes(session, Lock.solve, 1, seed=0):
                writer.add(episode)
            assert writer.close().return_mean == 1.0
        small = {"n_steps": "64"} if not ALGORITHMS[algorithm].off_policy else {"exploration_initial_eps": "0.1"}
        spec = TrainingRunSpec(
            algorithm,
            256,
            GymnasiumEnvironment("Lock-v0"),
            seed=1,
            hyperparameters=small,
            evaluation=Evaluation(120, episodes=2),
            checkpoint_every_timesteps=1000,
        )
        assert volume.train("without", spec) is ExitCode.DONE
        assert volume.best_return("without") == 0.0
        learning = replace(spec, demonstrations=DemonstrationSettings("lock.parquet", epochs=100))
        assert volume.train("with", learning) is ExitCode.DONE
        assert volume.best_return("with") == 1.0
    finally:
        del gymnasium.registry["Lock-v0"]
