"""A run that starts from what another one has learned: what is taken over, what is refused, and that it resumes."""

from __future__ import annotations

import hashlib
import pickle
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from aisandbox_crds import ALGORITHMS
from aisandbox_crds.spec import Algorithm, GymnasiumEnvironment, StartFrom, TakenPart, TrainingRunSpec
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_model_store import CHECKPOINT_ZIP, Published, RunFolder, RunStore
from aisandbox_trainer.checkpoints.files import NORMALIZATION, REPLAY_BUFFER
from aisandbox_trainer.checkpoints.weights import WEIGHTS, read_weights, read_zip
from aisandbox_trainer.run.attempt import run_attempt
from aisandbox_trainer.runtime.stop import Stop
from aisandbox_trainer.training.artifact_publisher import ArtifactPublisher
from replay_files import read_replay_file

CARTPOLE, PENDULUM = GymnasiumEnvironment("CartPole-v1"), GymnasiumEnvironment("Pendulum-v1")
SMALL = {"policy_kwargs": "dict(net_arch=[8])"}
OFF_POLICY = {**SMALL, "learning_starts": "20", "buffer_size": "200", "batch_size": "8", "train_freq": "8"}
HYPERPARAMETERS: dict[str, dict[str, str]] = {
    "PPO": {**SMALL, "n_steps": "32", "batch_size": "16", "normalize": "True"},
    "A2C": SMALL,
    "RecurrentPPO": {"policy_kwargs": "dict(net_arch=[8], lstm_hidden_size=8)", "n_steps": "32", "batch_size": "16"},
    "DQN": OFF_POLICY,
    "QRDQN": {**OFF_POLICY, "policy_kwargs": "dict(net_arch=[8], n_quantiles=5)"},
}
EVERYTHING = tuple(TakenPart)
OPTIMIZERS = ("policy.optimizer", "actor.optimizer", "critic.optimizer", "ent_coef_optimizer")
LARGEST = 1 << 24


def spec(algorithm: str, total: int = 64, start: StartFrom | None = None, **more: Any) -> TrainingRunSpec:
    discrete = algorithm in HYPERPARAMETERS
    return TrainingRunSpec(
        algorithm=Algorithm(algorithm),
        total_timesteps=total,
        environment=CARTPOLE if discrete else PENDULUM,
        seed=7,
        hyperparameters={**HYPERPARAMETERS.get(algorithm, OFF_POLICY), **more},
        start_from=start,
        checkpoint_every_timesteps=1000,
    )


class Volume:
    """Runs below one folder."""

    def __init__(self, folder: Path, sources: Path) -> None:
        self.folder = folder
        self.sources = sources
        self.message = folder / "message"
        folder.mkdir(parents=True, exist_ok=True)

    def run(self, name: str) -> RunFolder:
        return RunStore(self.folder).run(name)

    def train(self, name: str, spec: TrainingRunSpec, stop: Stop | None = None) -> int:
        start = TrainerStart(name, None, spec, self.folder, self.folder, termination_message_path=self.message)
        return run_attempt(start, stop or Stop())

    def refusal(self, name: str, spec: TrainingRunSpec) -> str:
        assert self.train(name, spec) == 78
        failure = self.ending().failure
        assert failure is not None
        assert failure.reason == "CannotStartFrom"
        return failure.message

    def ending(self) -> TerminationMessage:
        return TerminationMessage.from_json(self.message.read_text())

    def first(self, case: TrainingRunSpec) -> None:
        """The run "first", which is trained once for all tests of a case and copied."""
        trained = self.sources / hashlib.sha256(repr(case).encode()).hexdigest()
        if not trained.exists():
            assert Volume(trained, self.sources).train("first", case) == 0
        shutil.copytree(trained, self.folder, dirs_exist_ok=True)

    def start_of(self, name: str) -> Published:
        """The checkpoint at step 0, or the first that is left."""
        return self.run(name).checkpoint("step:0")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture
def volume(tmp_path: Path, sources: Path) -> Volume:
    return Volume(tmp_path, sources)


def same(one: Any, other: Any) -> bool:
    """Whether two trees of tensors are equal."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(each, marks=() if each in ("PPO", "DQN", "SAC", "CrossQ") else pytest.mark.slow)
        for each in Algorithm
        if not ALGORITHMS[each].masks  # MaskablePPO has the networks of PPO
    ],
)
def test_run_takes_over_what_it_asks_for(algorithm: str, volume: Volume) -> None:
    volume.first(spec(algorithm))
    off_policy = "buffer_size" in spec(algorithm).hyperparameters
    take = [TakenPart.OPTIMIZER, *([TakenPart.REPLAY_BUFFER] if off_policy else [])]
    take += [TakenPart.NORMALIZATION] if "normalize" in spec(algorithm).hyperparameters else []
    assert volume.train("again", spec(algorithm, start=StartFrom("first", checkpoint="latest", take=tuple(take)))) == 0
    source, taken = volume.run("first").checkpoint("latest"), volume.start_of("again")
    before, after = (read_zip(each.path / CHECKPOINT_ZIP, LARGEST, optimizers=OPTIMIZERS) for each in (source, taken))
    assert same(dict(before.policy), dict(after.policy))
    assert same(dict(before.variables), dict(after.variables))
    assert same(dict(before.optimizers), dict(after.optimizers))
    assert before.optimizers["policy.optimizer" if "policy.optimizer" in before.optimizers else "actor.optimizer"][
        "state"
    ]
    if off_policy:
        buffers = [read_replay_file(each.path / REPLAY_BUFFER) for each in (source, taken)]
        assert buffers[0]["pos"] == buffers[1]["pos"] > 0
        assert all((buffers[0]["arrays"][name] == buffers[1]["arrays"][name]).all() for name in ("actions", "rewards"))
    if TakenPart.NORMALIZATION in take:
        statistics = [pickle.loads((each.path / NORMALIZATION).read_bytes()).obs_rms for each in (source, taken)]
        assert (statistics[0].mean == statistics[1].mean).all()
        assert statistics[0].count == statistics[1].count > 1
    ending = volume.ending()
    assert ending.started_from is not None
    assert (ending.started_from.path, ending.started_from.digest) == ("runs/first/" + source.relative, source.digest)
    assert ending.timesteps >= 64


def test_run_starts_from_the_weights_of_a_model_alone(volume: Volume) -> None:
    volume.first(spec("PPO"))
    model = volume.run("first").model("final")
    weights = read_weights(volume.run("first").weights_of(model).path / WEIGHTS)
    shutil.rmtree(volume.run("first").checkpoints_path)
    assert volume.train("again", spec("PPO", start=StartFrom("first", take=(TakenPart.NORMALIZATION,)))) == 0
    taken = read_zip(volume.start_of("again").path / CHECKPOINT_ZIP, LARGEST, optimizers=OPTIMIZERS)
    assert same(dict(weights.policy), dict(taken.policy))
    assert not taken.optimizers["policy.optimizer"]["state"], "the optimizer was not asked for"
    started = volume.ending().started_from
    assert started is not None
    assert started.digest == model.digest


def test_run_starts_from_a_file_of_stable_baselines3(volume: Volume) -> None:
    volume.first(replace(spec("SAC"), model_output_path="team/sac.zip"))
    assert volume.train("again", spec("SAC", start=StartFrom(zip="team/sac.zip"))) == 0
    before = read_zip(volume.folder / "team/sac.zip", LARGEST)
    after = read_zip(volume.start_of("again").path / CHECKPOINT_ZIP, LARGEST)
    assert same(dict(before.policy), dict(after.policy))
    assert same(dict(before.variables), dict(after.variables)), "the entropy coefficient is a weight"


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_run_that_was_stopped_ends_like_one_that_was_not_without_its_source(
    algorithm: str, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume.first(spec(algorithm))
    case = spec(algorithm, 128, StartFrom("first"))
    assert volume.train("whole", case) == 0
    stop, save = Stop(), ArtifactPublisher.save_start
    with monkeypatch.context() as patch:

        def save_and_stop(*given: Any) -> None:
            save(*given)
            stop.request()

        patch.setattr(ArtifactPublisher, "save_start", save_and_stop)
        assert volume.train("again", case, stop) == 143
    assert volume.run("again").checkpoint("latest").timesteps == 0
    shutil.rmtree(volume.run("first").path)
    assert volume.train("again", case) == 0
    assert volume.ending().started_from is not None
    one, other = (volume.run(name).model("final") for name in ("whole", "again"))
    assert one.digest == other.digest


def test_every_attempt_uses_what_the_first_one_has_found(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    volume.first(spec("A2C"))
    found = volume.run("first").model("latest")
    case = spec("A2C", start=StartFrom("first", model="latest"))
    with monkeypatch.context() as patch:
        patch.setattr("aisandbox_trainer.run.starting_model.take_over", lambda *_: 1 / 0)
        assert volume.train("again", case) == 75
    assert volume.train("first", replace(spec("A2C"), total_timesteps=128)) == 0
    assert volume.run("first").model("latest").digest != found.digest
    assert volume.train("again", case) == 0
    started = volume.ending().started_from
    assert started is not None
    assert started.digest == found.digest


def _damage(folder: Path, name: str) -> None:
    path = folder / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _damage_weights(volume: Volume) -> None:
    run = volume.run("first")
    _damage(run.weights_of(run.model("final")).path, WEIGHTS)


def _damage_checkpoint(volume: Volume) -> None:
    _damage(volume.run("first").checkpoint("latest").path, CHECKPOINT_ZIP)


def _save(volume: Volume) -> None:
    """The file a.zip, as stable-baselines3 saves the model of the run "first"."""
    shutil.copy(volume.run("first").checkpoint("latest").path / CHECKPOINT_ZIP, volume.folder / "a.zip")


def _save_damaged(volume: Volume) -> None:
    _save(volume)
    path = volume.folder / "a.zip"
    with zipfile.ZipFile(path) as archive:
        policy = archive.getinfo("policy.pth")
    data = bytearray(path.read_bytes())
    data[policy.header_offset + policy.compress_size // 2] ^= 1
    path.write_bytes(data)


def _empty_run(volume: Volume) -> None:
    """What a pod has where the run was deleted before it started."""
    shutil.rmtree(volume.run("first").path)
    volume.run("first").path.mkdir()


def _empty_file(volume: Volume) -> None:
    """What a pod has where there was no file."""
    (volume.folder / "a.zip").mkdir()


def _write(text: bytes) -> Callable[[Volume], None]:
    def write(volume: Volume) -> None:
        (volume.folder / "a.zip").write_bytes(text)

    return write


def _write_code(volume: Volume) -> None:
    """A zip whose policy runs code when it is unpickled."""
    with zipfile.ZipFile(volume.folder / "a.zip", "w") as archive, archive.open("policy.pth", "w") as file:
        torch.save({"weight": _Made(volume.folder / "executed")}, file)


class _Made:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self._path,))


@pytest.mark.parametrize(
    ("case", "change", "message"),
    [
        (spec("A2C", start=StartFrom("nobody")), None, "run 'nobody' does not exist, or has not begun"),
        (spec("A2C", start=StartFrom("first", "step:7")), None, "run 'first' has no model 'step:7'"),
        (spec("A2C", start=StartFrom("first", checkpoint="step:7")), None, "it has checkpoints of the steps 60"),
        (spec("A2C", start=StartFrom("first", digest="sha256:" + "0" * 64)), None, "has no model 'sha256:0"),
        (spec("A2C", start=StartFrom("first")), _damage_weights, "weights.npz changed after publication"),
        (spec("PPO", start=StartFrom("first")), None, "its algorithm is A2C, and this run's is PPO"),
        (
            replace(spec("A2C", start=StartFrom("first")), environment=GymnasiumEnvironment("Acrobot-v1")),
            None,
            "its observations are Box float32 [4], and this run's are Box float32 [6]",
        ),
        (
            spec("A2C", start=StartFrom("first"), policy_kwargs="dict(net_arch=[4])"),
            None,
            "policy_net.0.weight has the shape [8, 4] there, and the shape [4, 4] in this run",
        ),
        (
            spec("A2C", start=StartFrom("first"), normalize="True"),
            None,
            "",
        ),
        (
            spec("A2C", start=StartFrom("first", take=(TakenPart.NORMALIZATION,)), normalize="True"),
            None,
            "it was trained without normalize",
        ),
        (
            spec(
                "A2C", start=StartFrom("first", checkpoint="latest", take=(TakenPart.OPTIMIZER,)), use_rms_prop="False"
            ),
            None,
            "its policy.optimizer is another one",
        ),
        (
            spec("A2C", start=StartFrom("first", checkpoint="latest"), policy_kwargs="dict(net_arch=[4])"),
            None,
            "policy_net.0.weight has the shape [8, 4] there, and the shape [4, 4] in this run "
            "(policy, policy_kwargs, frame_stack)",
        ),
        (spec("A2C", start=StartFrom("first", checkpoint="latest")), _damage_checkpoint, "model.zip changed after"),
        (spec("A2C", start=StartFrom("first")), _empty_run, "run 'first' does not exist, or has not begun"),
        (spec("A2C", start=StartFrom("first", checkpoint="latest")), _empty_run, "run 'first' does not exist, or"),
        (spec("A2C", start=StartFrom(zip="a.zip")), None, "the file 'a.zip' is not in MODELS_DIR: it must stay until"),
        (spec("A2C", start=StartFrom(zip="a.zip")), _empty_file, "the file 'a.zip' is not in MODELS_DIR: it must stay"),
        (spec("DQN", start=StartFrom(zip="a.zip")), _save, "the file 'a.zip' does not fit: the networks are not the"),
        (
            replace(spec("A2C", start=StartFrom(zip="a.zip")), environment=GymnasiumEnvironment("Acrobot-v1")),
            _save,
            "policy_net.0.weight has the shape [8, 4] there, and the shape [8, 6] in this run",
        ),
        (
            spec("A2C", start=StartFrom(zip="a.zip")),
            _save_damaged,
            "the file 'a.zip' cannot be used: it is damaged, or",
        ),
        (
            spec("A2C", start=StartFrom(zip="a.zip")),
            _write(b"no zip"),
            "it is damaged, or not a zip file of stable-baselines3",
        ),
        (spec("A2C", start=StartFrom(zip="a.zip")), _write_code, "as tensors alone (it has pickled objects of"),
    ],
)
def test_source_that_does_not_fit_is_refused_by_name(
    case: TrainingRunSpec, change: Callable[[Volume], None] | None, message: str, volume: Volume
) -> None:
    volume.first(spec("A2C", 60))
    if change is not None:
        change(volume)
    if message:
        assert message in volume.refusal("again", case)
        assert not (volume.folder / "executed").exists()
    else:
        assert volume.train("again", case) == 0


SOURCES = {
    "model": (StartFrom("first", "final"), "run 'first' does not exist", "the model models/60 of the run 'first' was"),
    "checkpoint": (
        StartFrom("first", checkpoint="latest"),
        "run 'first' does not exist",
        "checkpoints/60 of the run 'first' was",
    ),
    "zip": (StartFrom(zip="a.zip"), "the file 'a.zip' is not in MODELS_DIR", "the file 'a.zip' was"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_source_that_is_deleted_before_the_run_has_read_it_is_named(
    source: str, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, without, meanwhile = SOURCES[source]
    kept = volume.folder / "kept"
    place = volume.folder / ("a.zip" if source == "zip" else "runs/first")
    volume.first(spec("A2C", 60))
    _save(volume)
    case = spec("A2C", start=replace(start, digest=_digest_of(volume, source)))

    def delete(*_: Any) -> None:
        place.rename(kept)

    def restore() -> None:
        kept.rename(place)

    delete()  # a run that was accepted, and waits for its first attempt
    assert without in volume.refusal("waiting", case)
    restore()
    with monkeypatch.context() as patch:  # while the first attempt waits for its simulator
        patch.setattr("aisandbox_trainer.run.starting_model.DryRun.run", delete)
        message = volume.refusal("reading", case)
        assert f"{meanwhile} deleted: it must stay until the run has saved its checkpoint of step 0" in message
    restore()
    with monkeypatch.context() as patch:  # while the run is suspended, before its first checkpoint
        stop = Stop()

        def suspend(*_: Any) -> None:
            stop.request()
            stop.check()

        patch.setattr("aisandbox_trainer.run.starting_model.take_over", suspend)
        assert volume.train("suspended", case, stop) == 143
    delete()
    assert without in volume.refusal("suspended", case)
    restore()
    assert volume.train("suspended", case) == 0, "nothing was lost"


def _digest_of(volume: Volume, source: str) -> str:
    if source == "zip":
        return f"sha256:{hashlib.sha256((volume.folder / 'a.zip').read_bytes()).hexdigest()}"
    run = volume.run("first")
    return (run.model("final") if source == "model" else run.checkpoint("latest")).digest


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"buffer_size": "40"}, "buffer of 49 transitions does not fit in buffer_size=40: set buffer_size=49"),
        ({"buffer_size": "4000"}, ""),
        ({"n_envs": "2"}, ""),
    ],
)
def test_replay_buffer_that_does_not_fit_is_refused(more: dict[str, Any], message: str, volume: Volume) -> None:
    volume.first(spec("DQN", 48))
    case = spec("DQN", start=StartFrom("first", checkpoint="latest", take=(TakenPart.REPLAY_BUFFER,)), **more)
    if message:
        assert message in volume.refusal("again", case)
    else:
        assert volume.train("again", case) == 0
