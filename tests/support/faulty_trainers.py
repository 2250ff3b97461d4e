"""Real trainers for the fault suite: forked in a moment, with faults, and tiny runs for them to do.

Owns the fork server and its forks, and what a tiny run is. Must not know what is to hold.
"""

from __future__ import annotations

import os
import signal
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pytest
from aisandbox_api.local.warm_launcher import TrainerProgram
from aisandbox_crds import Lesson, LessonEnd, StopWhen
from aisandbox_crds.spec import Algorithm, Environment, GymnasiumEnvironment, TrainingRunSpec
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_model_store import RunFolder, RunStore
from aisandbox_process.fork_server import ForkedProcess, ForkServer
from faulty_disk import FREEING, Operation, Plan, operations
from faulty_simulator import Script

PROGRAM = TrainerProgram()
PATIENCE_SECONDS = 120.0
INTERVAL = 64
TOTAL = 192
SMALL_LSTM = "dict(lstm_hidden_size=8, net_arch=[8])"
TAUGHT = "PPO, lessons and an early end"
MASKED = "MaskablePPO"
KINDS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "PPO": ("PPO", {"n_steps": 32, "batch_size": 32, "n_epochs": 1}),
    TAUGHT: ("PPO", {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "stats_window_size": 2}),
    "RecurrentPPO": ("RecurrentPPO", {"n_steps": 32, "batch_size": 32, "n_epochs": 1, "policy_kwargs": SMALL_LSTM}),
    "PPO, normalised": ("PPO", {"n_steps": 16, "batch_size": 32, "n_epochs": 1, "n_envs": 2, "normalize": True}),
    "A2C": ("A2C", {"n_steps": 8}),
    "DQN": ("DQN", {"learning_starts": 16, "buffer_size": 500, "train_freq": 4, "batch_size": 16}),
    MASKED: ("MaskablePPO", {"n_steps": 32, "batch_size": 32, "n_epochs": 1}),
}  # fmt: skip
"""Tiny runs: a checkpoint every INTERVAL steps is at a boundary of each."""
MORE: Mapping[str, dict[str, Any]] = {
    TAUGHT: {
        "environment": GymnasiumEnvironment("taught_cart_pole:TaughtCartPole-v0"),
        "lessons": (
            Lesson("upright", {"high": {"uniform": [0.01, 0.02]}}, LessonEnd(timesteps=INTERVAL)),
            Lesson("oblique", {"high": {"choice": [0.05, 0.1]}}),
        ),
        # In the last lesson only, and before TOTAL.
        "stop_when": StopWhen(episode_reward_mean=1.0, times_in_a_row=2),
    },
    MASKED: {"environment": GymnasiumEnvironment("masked_cart_pole:MaskedCartPole-v0")},
}
"""What else the spec of a kind has; the environment, unless the run is on another one."""
LEARNERS = ("DQN", "DQN", "PPO", "A2C", "RecurrentPPO", MASKED, TAUGHT)
"""The kinds that learn from simulators, some of them more often."""


def script_for(kind: str, served: Path, **more: Any) -> Script:
    """The script of a simulator for a kind of run: with masks and a parameter where that needs them."""
    return Script(served, masked=kind == MASKED, taught=kind == TAUGHT, **more)


def is_taught(high: float) -> bool:
    """Whether a lesson of TAUGHT has such a value of its parameter."""
    return 0.01 <= high <= 0.02 or high in (0.05, 0.1)


class Trainer:
    """A forked trainer."""

    def __init__(self, process: ForkedProcess) -> None:
        self.pid = process.pid
        self.code: int | None = None
        self.changed = threading.Event()
        self._process = process
        threading.Thread(target=self._wait, daemon=True).start()

    def _wait(self) -> None:
        self.code = self._process.read_exit_code()
        self.changed.set()
        self._process.close()

    def wait(self, seconds: float = PATIENCE_SECONDS) -> int:
        """Its exit code, 128 + signal if it was killed. Raises TimeoutError, after killing it."""
        if not self.changed.wait(seconds):
            self.signal(signal.SIGKILL)
            raise TimeoutError(f"the trainer did not end within {seconds:g} s")
        assert self.code is not None, "the fork server has died before the trainer"
        return self.code

    def signal(self, number: signal.Signals) -> None:
        """Sends it to the trainer and whatever it has forked, unless it has ended."""
        if self.code is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)


class Trainers:
    """The fork server and what it has forked. For several threads."""

    def __init__(self) -> None:
        self._server = ForkServer(["faulty_trainer_preload"])
        path = os.pathsep.join((str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", path)  # where the preload is found
            self._server.start()
        self._ended = threading.Thread(target=self._server.wait, daemon=True)
        self._ended.start()
        self._trainers: list[Trainer] = []
        with TemporaryFile() as output:
            code = self._server.fork(PROGRAM.check, (), output.fileno()).read_exit_code()
            output.seek(0)
            assert code == 0, output.read().decode()

    def fork(self, environ: Mapping[str, str], log: Path) -> Trainer:
        """Starts a trainer with these variables."""
        with log.open("ab") as output:
            trainer = Trainer(self._server.fork(PROGRAM.run, (dict(environ),), output.fileno()))
        self._trainers.append(trainer)
        return trainer

    def close(self) -> None:
        for trainer in self._trainers:
            trainer.signal(signal.SIGKILL)
        self._server.kill()
        self._ended.join(PATIENCE_SECONDS)


@contextmanager
def warm_trainers() -> Iterator[Trainers]:
    trainers = Trainers()
    try:
        yield trainers
    finally:
        trainers.close()


class TinyRun:
    """A run below ``folder`` and the attempts at it."""

    def __init__(
        self,
        trainers: Trainers,
        folder: Path,
        kind: str,
        *,
        root: Path | None = None,
        environment: Environment | None = None,
        total: int = TOTAL,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.kind = folder, kind
        self.root = (folder / "models" if root is None else root).absolute()
        self.root.mkdir(exist_ok=True)
        self._trainers = trainers
        self._settings = dict(settings or {})
        self._steps = folder / "steps"
        self._steps.write_bytes(bytes(8))
        self.attempts = 0
        algorithm, hyperparameters = KINDS[kind]
        fields: dict[str, Any] = {"environment": GymnasiumEnvironment("CartPole-v1"), **MORE.get(kind, {})}
        if environment is not None:
            fields["environment"] = environment
        self.spec = TrainingRunSpec(
            algorithm=Algorithm(algorithm),
            total_timesteps=total,
            seed=7,
            hyperparameters={key: str(value) for key, value in hyperparameters.items()},
            model_output_path="out/model.zip",
            checkpoint_every_timesteps=INTERVAL,
            **fields,
        )

    @property
    def run(self) -> RunFolder:
        return RunStore(self.root).run("run")

    @property
    def steps(self) -> int:
        """Steps of the environments in all attempts."""
        return int(struct.unpack("<q", self._steps.read_bytes())[0])

    def start(self, **plan: Any) -> Trainer:
        """Starts the next attempt, with the faults of a :class:`Plan`."""
        self.attempts += 1
        number = self.attempts
        start = TrainerStart(
            "run", None, self.spec, self.root, self.root, termination_message_path=self._message(number)
        )
        planned = Plan(root=str(self.root), log=str(self.operations_log(number)), **plan)
        environ = {**start.to_environ(), **planned.to_environ(), **self._settings, "FAULTS_STEPS": str(self._steps)}
        return self._trainers.fork(environ, self.log(number))

    def log(self, attempt: int) -> Path:
        return self.folder / f"attempt-{attempt}.log"

    def operations_log(self, attempt: int) -> Path:
        return self.folder / f"attempt-{attempt}.operations"

    def operations(self, attempt: int | None = None) -> list[Operation]:
        """What an attempt did to the files; the last one's if not said."""
        return operations(self.operations_log(attempt or self.attempts))

    def message(self, attempt: int | None = None) -> TerminationMessage:
        return TerminationMessage.from_json(self._message(attempt or self.attempts).read_text())

    def _message(self, attempt: int) -> Path:
        return self.folder / f"attempt-{attempt}.message"

    def finish(self) -> float:
        """Lets it continue to its end without faults; the seconds until it trained again, or had ended."""
        before, began = self.steps, time.monotonic()
        trainer = self.start()
        while self.steps == before and not trainer.changed.is_set():
            time.sleep(0.005)
        recovered = time.monotonic() - began
        code = trainer.wait()
        assert code == 0, f"exit code {code}\n{self.tail()}"
        return recovered

    def tail(self) -> str:
        """The end of the last attempt's log."""
        log = self.log(self.attempts)
        return log.read_text()[-2500:] if log.exists() else "no log"

    def ended_well(self) -> bool:
        """Whether it has a final model, of all its timesteps or of an early end that it asked for."""
        published = self.run.load_model("final").published
        return published.timesteps >= self.spec.total_timesteps or self.message().early_stop is not None

    def check_end(self, reference: TinyRun, attempt: int | None = None) -> None:
        """Raises AssertionError unless it ended as one to which nothing happened, and left nothing lying about.

        ``attempt``: which one ended it, if not the one that was started last.
        """
        assert self.final() == reference.final(), "another final model than without the fault"
        ended, expected = self.message(attempt), reference.message()
        assert (ended.timesteps, ended.early_stop) == (expected.timesteps, expected.early_stop)
        assert (ended.early_stop is None) == (self.spec.stop_when is None)
        assert (ended.timesteps == self.spec.total_timesteps) == (ended.early_stop is None)
        self.run.load_model("latest")
        self.run.load_model("best")
        newest = self.run.newest_checkpoint()
        assert newest is not None
        assert newest.timesteps == ended.timesteps
        output = self.root / "out" / "model.zip"
        if ended.early_stop is None:
            assert output.read_bytes() == (newest.path / "model.zip").read_bytes()
        else:
            assert output.exists()  # the best model
        left = [str(path.relative_to(self.root)) for path in self.root.rglob("*") if path.name.startswith(".")]
        not_freed = [one for one in self.operations(attempt) if one.kind in FREEING and "EIO" in one.error]
        assert not left or not_freed, f"left behind: {left}"

    def final(self) -> dict[str, bytes]:
        """The files of the final model."""
        return dict(self.run.load_model("final").files)

    def whole_checkpoint(self) -> int:
        """The timesteps of the newest whole checkpoint, 0 if there is none; sets nothing aside."""
        from aisandbox_model_store import Damaged
        from aisandbox_model_store.manifest import verify_folder

        for published in self.run.checkpoints():
            with suppress(Damaged, OSError):
                verify_folder(published.path, published.manifest)
                return published.timesteps
        return 0


def references(trainers: Trainers, folder: Path) -> dict[str, TinyRun]:
    """A run of each kind to which nothing happens; its operations say where faults can be."""
    found = {}
    for number, kind in enumerate(KINDS):
        run = found[kind] = TinyRun(trainers, folder / f"reference-{number}", kind)
        run.finish()
        run.check_end(run)
    return found
