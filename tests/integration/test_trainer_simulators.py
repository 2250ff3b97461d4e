"""Attempts against a simulator in another process, which ends episodes in two ways, breaks, hangs and lies."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from aisandbox.v1.policy_trainer_pb2 import DescribeModelResponse
from aisandbox_crds.spec import Algorithm, Evaluation, GrpcEnvironment, TrainingRunSpec
from aisandbox_crds.status_values import Activity
from aisandbox_crds.trainer_exit import TerminationMessage
from aisandbox_crds.trainer_start import TrainerStart
from aisandbox_inference.policy import Policy
from aisandbox_model_store import RunFolder, RunStore
from aisandbox_model_store.served_model import METADATA_FILE
from aisandbox_trainer.environments.slow_replies import SlowReplies
from aisandbox_trainer.run import attempt as attempts
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from google.protobuf import json_format
from replay_files import read_replay_file
from stable_baselines3 import DQN, PPO
from waiting import wait_until

SCRIPT = Path(__file__).with_name("trainer_simulator.py")
GAMMA = 0.9
QUICK = {
    "PPO": {"n_steps": 60, "batch_size": 60, "n_epochs": 1},
    "DQN": {"learning_starts": 20, "buffer_size": 5000},
}


class Simulators:
    """Simulator processes; all of them end with the test."""

    def __init__(self) -> None:
        self.processes: list[subprocess.Popen[str]] = []

    def start(self, behaviour: str, trouble: int = 0, port: str = "0") -> str:
        """Its address."""
        process = subprocess.Popen(
            [sys.executable, str(SCRIPT), port, behaviour, str(trouble)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        assert process.stdout is not None
        return f"127.0.0.1:{int(process.stdout.readline())}"

    def next_line(self) -> str:
        """Waits for the next line that the newest one prints."""
        lines = self.processes[-1].stdout
        assert lines is not None
        return lines.readline().strip()

    def replace_when_gone(self, address: str) -> threading.Thread:
        """Starts a well-behaved one at the same address once the newest has ended by itself."""

        def replace() -> None:
            self.processes[-1].wait(60)
            self.start("good", port=address.rpartition(":")[2])

        thread = threading.Thread(target=replace)
        thread.start()
        return thread


@pytest.fixture
def simulators() -> Iterator[Simulators]:
    simulators = Simulators()
    yield simulators
    for process in simulators.processes:
        process.kill()
        process.communicate()


class Attempts:
    """Attempts at one run, with a record of what was told about them."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.told: list[tuple[Activity, str]] = []
        self.notices: list[str] = []
        told, notices = self.told, self.notices

        class Recorded(ProgressTracker):
            def __setattr__(self, name: str, value: Any) -> None:
                super().__setattr__(name, value)
                if name == "warning":
                    told.append((self.activity, value))
                if name == "notices":
                    notices.extend(value.values())

        monkeypatch.setattr(attempts, "ProgressTracker", Recorded)

    @property
    def run(self) -> RunFolder:
        return RunStore(self.folder).run("run-1")

    @property
    def failure(self) -> Any:
        return TerminationMessage.from_json((self.folder / "message").read_text()).failure

    def start(self, address: str, algorithm: str, total: int, **options: Any) -> TrainerStart:
        hyperparameters = {**QUICK.get(algorithm, {}), **options.get("hyperparameters", {})}
        spec = TrainingRunSpec(
            algorithm=Algorithm(algorithm),
            total_timesteps=total,
            environment=GrpcEnvironment(address, options.get("environments", 0)),
            seed=3,
            hyperparameters={key: str(value) for key, value in hyperparameters.items()},
            evaluation=options.get("evaluation"),
        )
        message = self.folder / "message"
        return TrainerStart("run-1", 1, spec, self.folder, self.folder, termination_message_path=message)

    def attempt(self, address: str, algorithm: str = "PPO", total: int = 300, **options: Any) -> int:
        patience, timeout = options.pop("patience", 30.0), options.pop("timeout", 30.0)
        start = self.start(address, algorithm, total, **options)
        return attempts.run_attempt(start, Stop(), Settings(patience, timeout))

    def checkpoint(self) -> Path:
        checkpoint = self.run.newest_checkpoint()
        assert checkpoint is not None
        return checkpoint.path


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Attempts:
    return Attempts(tmp_path, monkeypatch)


def _value_of_the_only_state(trainer: Attempts, algorithm: str) -> float:
    observation = torch.tensor([[0.0, 0.0, 1.0]])
    path = trainer.checkpoint() / "model.zip"
    with torch.no_grad():
        if algorithm == "DQN":
            return float(DQN.load(path, device="cpu").q_net(observation).max())
        return float(PPO.load(path, device="cpu").policy.predict_values(observation))


LEARN_VALUES = {
    "PPO": {"n_steps": 50, "batch_size": 50, "n_epochs": 20, "learning_rate": 3e-3},
    "DQN": {
        "learning_starts": 50,
        "train_freq": 2,
        "gradient_steps": 4,
        "target_update_interval": 20,
        "learning_rate": 3e-3,
    },
}


@pytest.mark.parametrize("algorithm", ["PPO", "DQN"])
def test_value_of_a_state_distinguishes_a_time_limit_from_an_end(
    trainer: Attempts, simulators: Simulators, algorithm: str
) -> None:
    """Every step earns 0.1 and all states look the same.

    Beyond a time limit the rewards continue without end, and the state is worth 0.1 / (1 - gamma) = 1. Where the fifth
    step is the end, it is worth 0.1 / (1 - 0.8 gamma) = 0.36 to one-step learning, and less to learning from whole
    episodes.
    """
    values = {}
    for behaviour in ("truncated", "terminated"):
        (trainer.folder / behaviour).mkdir()
        one = Attempts(trainer.folder / behaviour, trainer.monkeypatch)
        hyperparameters = {"gamma": GAMMA, **LEARN_VALUES[algorithm]}
        assert one.attempt(simulators.start(behaviour), algorithm, total=1000, hyperparameters=hyperparameters) == 0
        values[behaviour] = _value_of_the_only_state(one, algorithm)
    assert values["truncated"] == pytest.approx(1.0, rel=0.2)
    assert 0.15 < values["terminated"] < 0.5


@pytest.mark.parametrize(
    ("hyperparameters", "observed"),
    [
        ({}, ["session", "step", "age"]),
        ({"normalize": "True"}, ["session", "step", "age"]),
        ({"frame_stack": 2}, ["session t-1", "step t-1", "age t-1", "session t", "step t", "age t"]),
    ],
)
def test_names_that_the_simulator_declares_are_in_the_published_model(
    trainer: Attempts, simulators: Simulators, hyperparameters: dict[str, Any], observed: list[str]
) -> None:
    assert trainer.attempt(simulators.start("none"), total=60, hyperparameters=hyperparameters) == 0
    files = trainer.run.read_model(trainer.run.model("final")).files
    found = json_format.Parse(files[METADATA_FILE], DescribeModelResponse())
    assert list(found.observation_space.box.names) == observed
    assert list(found.action_space.discrete.names) == ["stay", "leave"]
    served = Policy("run-1", trainer.run.read_model(trainer.run.model("final")), np.random.default_rng(0))
    assert served.description.observation_space == found.observation_space


@pytest.mark.parametrize("algorithm", ["PPO", "A2C"])
def test_run_continues_when_its_simulator_is_replaced(
    trainer: Attempts, simulators: Simulators, algorithm: str
) -> None:
    address = simulators.start("exit", trouble=100)
    thread = simulators.replace_when_gone(address)
    assert trainer.attempt(address, algorithm) == 0
    thread.join()
    assert trainer.run.model("final").timesteps == 300
    waiting = [text for activity, text in trainer.told if activity == Activity.WAITING_FOR_SIMULATOR]
    assert any(address in text and "trying again" in text for text in waiting)
    assert any("the simulator failed" in text and "available again" in text for _, text in trainer.told)
    assert trainer.told[-1][1] == "", "the warning goes with the next checkpoint"


def test_dqn_stores_no_step_across_the_break(trainer: Attempts, simulators: Simulators) -> None:
    address = simulators.start("exit", trouble=101)
    thread = simulators.replace_when_gone(address)
    assert trainer.attempt(address, "DQN") == 0
    thread.join()
    stored = read_replay_file(trainer.checkpoint() / "replay_buffer.bin")
    rows = stored["pos"]
    sessions = stored["arrays"]["observations"][:rows, 0, 0]
    assert len(set(sessions)) == 2
    np.testing.assert_array_equal(sessions, stored["arrays"]["next_observations"][:rows, 0, 0])
    steps = np.rint(stored["arrays"]["next_observations"][:rows, 0, 1] * 10_000)
    np.testing.assert_array_equal(stored["arrays"]["dones"][:rows, 0], steps % 5 == 0)
    assert np.count_nonzero(sessions == sessions[0]) == 100


def test_dqn_adds_up_no_rewards_across_the_break(trainer: Attempts, simulators: Simulators) -> None:
    address = simulators.start("exit", trouble=103)  # in the middle of an episode
    thread = simulators.replace_when_gone(address)
    assert trainer.attempt(address, "DQN", hyperparameters={"n_steps": 3}) == 0
    thread.join()
    stored = read_replay_file(trainer.checkpoint() / "replay_buffer.bin")
    arrays, rows = stored["arrays"], stored["pos"]
    sessions = arrays["observations"][:rows, 0, 0]
    last = int(np.flatnonzero(sessions == sessions[0])[-1])
    assert last < rows - 1
    assert arrays["dones"][last, 0] == 0
    assert arrays["timeouts"][last, 0] == 1


def test_simulator_that_hangs_is_given_up_and_retried(trainer: Attempts, simulators: Simulators) -> None:
    """Each of its sessions gets through one rollout before it hangs; the next one is tried again."""
    assert trainer.attempt(simulators.start("hang", trouble=70), total=180, timeout=0.3) == 0
    assert trainer.run.model("final").timesteps == 180


def test_run_waits_for_a_simulator_at_a_breakpoint_and_says_so(
    trainer: Attempts, simulators: Simulators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In training and in an evaluation: each session halts for longer than a simulator is usually waited for."""
    timeout = 0.3
    monkeypatch.setattr(attempts, "SlowReplies", partial(SlowReplies, slow_seconds=3 * timeout))
    address = simulators.start("halted", trouble=7)
    (simulator,) = simulators.processes

    def go_on() -> None:
        said = itertools.count(1)
        while simulators.next_line() == "halts":
            wait_until(partial(waited, trainer, next(said)))
            os.waitpid(simulator.pid, os.WUNTRACED)  # it has printed, and stops
            simulator.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=go_on)
    thread.start()
    evaluation = Evaluation(episodes=3)
    assert trainer.attempt(address, "PPO", total=60, timeout=timeout, evaluation=evaluation) == 0
    simulator.kill()
    thread.join()
    assert waited(trainer, 2)
    assert not any(
        "failed" in text or "not possible" in text for text in [*trainer.notices, *dict(trainer.told).values()]
    )
    assert trainer.run.pointer("best") is not None


def waited(trainer: Attempts, times: int) -> bool:
    """Whether the status has said so often that a simulator is waited for that asked for it."""
    return sum("asks for up to 600 s" in notice for notice in trainer.notices) >= times


def test_simulator_that_breaks_repeatedly_ends_the_attempt(trainer: Attempts, simulators: Simulators) -> None:
    assert trainer.attempt(simulators.start("break", trouble=7)) == 75
    assert trainer.failure.reason == "SimulatorSessionsTooShort"
    assert "choose n_steps of " in trainer.failure.message
    assert "the physics exploded" in trainer.failure.message


def test_missing_simulator_is_waited_for_a_bounded_time(trainer: Attempts) -> None:
    began = time.monotonic()
    assert trainer.attempt("127.0.0.1:1", patience=1.0) == 75
    assert 0.5 < time.monotonic() - began < 60
    assert trainer.failure.reason == "SimulatorUnreachable"
    assert "127.0.0.1:1" in trainer.failure.message
    assert any(activity == Activity.WAITING_FOR_SIMULATOR for activity, _ in trainer.told)


@pytest.mark.parametrize(
    ("behaviour", "reason", "message"),
    [
        ("nan", "SimulatorInvalidReply", "rewards"),
        ("short", "SimulatorInvalidReply", "rewards"),
        ("version", "SimulatorProtocol", "version 7"),
    ],
)
def test_simulator_that_breaks_the_contract_ends_the_run(
    trainer: Attempts, simulators: Simulators, behaviour: str, reason: str, message: str
) -> None:
    assert trainer.attempt(simulators.start(behaviour, trouble=65)) == 78
    assert trainer.failure.reason == reason
    assert message in trainer.failure.message


def test_environments_are_distributed_over_all_addresses(trainer: Attempts, simulators: Simulators) -> None:
    addresses = ",".join(simulators.start("good") for _ in range(2))
    assert trainer.attempt(addresses, "DQN", environments=5) == 0
    stored = read_replay_file(trainer.checkpoint() / "replay_buffer.bin")
    sessions = stored["arrays"]["observations"][0, :, 0]
    assert [int(np.count_nonzero(sessions == one)) for one in dict.fromkeys(sessions)] == [3, 2]


def test_evaluation_has_a_session_of_its_own(trainer: Attempts, simulators: Simulators) -> None:
    assert trainer.attempt(simulators.start("good"), evaluation=Evaluation(episodes=3)) == 0
    pointer = trainer.run.pointer("best")
    assert pointer is not None
    assert pointer.reward_mean == pytest.approx(0.5)


def test_simulator_without_room_for_evaluation_trains_all_the_same(trainer: Attempts, simulators: Simulators) -> None:
    assert trainer.attempt(simulators.start("full"), evaluation=Evaluation(episodes=3)) == 0
    assert trainer.run.pointer("best") is not None, "chosen by the returns of training"
    assert any("the last evaluation was not possible" in notice for notice in trainer.notices)
    assert trainer.run.model("final").timesteps == 300


def test_sigterm_is_handled_while_the_simulator_hangs(trainer: Attempts, simulators: Simulators) -> None:
    address = simulators.start("hang", trouble=100)
    start = trainer.start(address, "PPO", 10_000)
    with subprocess.Popen(
        [sys.executable, "-m", "aisandbox_trainer", "run"], env={**os.environ, **start.to_environ()}
    ) as process:
        assert simulators.next_line() == "hangs"
        process.send_signal(signal.SIGTERM)
        assert process.wait(55) == 143, "the simulator has 60 seconds"
    assert trainer.run.checkpoints()[0].timesteps == 60
