"""Simulators that attach to a pool, and trainers that use them, over the service's relay."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_crds import (
    Activity,
    Algorithm,
    Evaluation,
    ExitCode,
    Lesson,
    PoolEnvironment,
    TerminationMessage,
    TrainerStart,
    TrainingRunSpec,
)
from aisandbox_environment import (
    AdapterSimulation,
    AtCapacity,
    Attachment,
    AttachRefused,
    FakeExternalEnvAdapter,
    SimulationFailed,
    SimulatorSession,
    SimulatorUnreachable,
    check_simulator,
    list_simulators,
    open_session_stream,
)
from aisandbox_environment.gymnasium_host import GymnasiumSimulation
from aisandbox_inference.policy import Policy
from aisandbox_model_store import RunStore
from aisandbox_process.local_streams import IS_AVAILABLE
from aisandbox_trainer.environments import pool_sessions
from aisandbox_trainer.run import attempt as attempts
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.settings import Settings
from aisandbox_trainer.runtime.stop import Stop
from masked_worlds import MaskedWorld
from pool_service import PoolService
from waiting import wait_until

POOL = "arena"
QUICK = {"PPO": {"n_steps": 32, "batch_size": 32, "n_epochs": 1}, "DQN": {"learning_starts": 20, "buffer_size": 5000}}


class Attached:
    """Attachments, each in a thread; all of them end with the test."""

    def __init__(self, service: PoolService) -> None:
        self.service = service
        self.refused: list[AttachRefused] = []
        self._threads: list[tuple[Attachment, threading.Thread]] = []

    def add(self, environments: int = 1, simulation: Any = None, **options: Any) -> Attachment:
        simulation = simulation or AdapterSimulation(FakeExternalEnvAdapter)
        pool = options.pop("pool", POOL)
        attachment = Attachment(
            simulation, self.service.address, pool, environments=environments, first_pause=0.02, **options
        )
        thread = threading.Thread(target=self._run, args=(attachment,), daemon=True)
        self._threads.append((attachment, thread))
        thread.start()
        return attachment

    def remove(self, attachment: Attachment) -> None:
        attachment.stop()
        thread = next(thread for one, thread in self._threads if one is attachment)
        thread.join(60)
        assert not thread.is_alive()

    def close(self) -> None:
        for attachment, _ in self._threads:
            attachment.stop()
        for _, thread in self._threads:
            thread.join(60)

    def _run(self, attachment: Attachment) -> None:
        try:
            attachment.run()
        except AttachRefused as error:
            self.refused.append(error)


over_the_socket = pytest.mark.parametrize("service", ["socket"], indirect=True)


@pytest.fixture
def service(request: pytest.FixtureRequest) -> Iterator[PoolService]:
    """By gRPC; with the parameter "socket" trainers have their sessions over the Unix socket."""
    if getattr(request, "param", "grpc") == "socket" and not IS_AVAILABLE:
        pytest.skip("no Unix sockets here")
    service = PoolService(by_socket=getattr(request, "param", "grpc") == "socket")
    service.start()
    yield service
    service.stop()


@pytest.fixture
def attached(service: PoolService) -> Iterator[Attached]:
    attached = Attached(service)
    yield attached
    attached.close()


def session(service: PoolService, environments: int = 8) -> SimulatorSession:
    stream = partial(open_session_stream, socket=service.socket)
    return SimulatorSession.connect(service.address, environments, run_id="run-1", pool=POOL, stream=stream)


class Broken(FakeExternalEnvAdapter):
    """Fails in its third step."""

    def __init__(self) -> None:
        super().__init__()
        self.left = 3

    def step(self, action: Any) -> Any:
        self.left -= 1
        if not self.left:
            raise ValueError("the wheel fell off")
        return super().step(action)


@pytest.mark.parametrize(
    ("direct", "service"), [(True, "socket"), (True, "grpc"), (False, "socket")], indirect=["service"]
)
def test_attached_simulator_serves_one_session_after_another(
    service: PoolService, attached: Attached, direct: bool
) -> None:
    attached.add(2, instance="one", direct=direct, reply_timeout=90)
    service.wait_for(2)
    for _ in range(3):
        with session(service) as one:
            assert (one.environments, one.reply_timeout) == (2, 90)
            first = one.reset([1, 2]).observations[0].copy()
            assert one.step(np.zeros(2, np.int64)).observations[0].shape == (2, *first.shape[1:])
            with pytest.raises(AtCapacity):
                session(service)
            (listed,) = list_simulators(service.address, POOL)
            assert (listed.instance, listed.run_id, listed.in_session) == ("one", "run-1", True)
    (listed,) = list_simulators(service.address)
    assert (listed.environments, listed.steps, listed.in_session) == (2, 6, False)


@pytest.mark.parametrize("service", ["grpc", "socket"], indirect=True)
def test_simulation_that_fails_ends_its_session_and_stays_attached(service: PoolService, attached: Attached) -> None:
    attached.add(simulation=AdapterSimulation(Broken))
    service.wait_for(1)
    for _ in range(2):
        with session(service) as one:
            one.reset()
            for _ in range(2):
                one.step(np.zeros(1, np.int64))
            with pytest.raises(SimulationFailed, match="the wheel fell off"):
                one.step(np.zeros(1, np.int64))
        service.wait_for(1, free=True)


def test_simulator_attaches_again_when_the_service_comes_back(service: PoolService, attached: Attached) -> None:
    attached.add(2)
    service.wait_for(2)
    service.stop()
    with pytest.raises(SimulatorUnreachable):
        session(service)
    service.start()
    service.wait_for(2)
    with session(service) as one:
        one.reset()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pool": "No_Name"}, "pool"),
        ({"environments": 5000}, "environments"),
        ({"instance": "a\nb"}, "instance"),
    ],
)
def test_refused_simulator_raises_the_sentence_of_the_service(
    service: PoolService, attached: Attached, options: Mapping[str, Any], says: str
) -> None:
    attached.add(**options)
    wait_until(lambda: bool(attached.refused))
    assert says in attached.refused[0].message


def test_simulator_with_other_spaces_than_its_pool_is_refused(service: PoolService, attached: Attached) -> None:
    gymnasium = pytest.importorskip("gymnasium")
    from aisandbox_environment import GymnasiumSimulation

    assert gymnasium is not None
    attached.add()
    service.wait_for(1)
    attached.add(simulation=GymnasiumSimulation("CartPole-v1"))
    wait_until(lambda: bool(attached.refused))
    assert "refuses the simulator" in str(attached.refused[0])


@pytest.mark.parametrize("places", [1, 2])
def test_attached_simulator_passes_the_checks(service: PoolService, attached: Attached, places: int) -> None:
    for _ in range(places):
        attached.add(3)
    service.wait_for(3 * places)
    results = check_simulator(service.address, pool=POOL, timeout=30)
    assert [(result.name, result.message) for result in results if not result.ok] == []
    checked = {result.name for result in results if not result.skipped}
    assert ("sessions do not influence each other" in checked) == (places == 2)
    assert {
        "seeds reproduce episodes",
        "another protocol version is refused",
        "a half-close ends the session with OK",
    } <= checked


class Runs:
    """Attempts at one run, and what its status said."""

    def __init__(self, folder: Path, service: PoolService, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.service = folder, service
        self.said: list[str] = []
        self.others: list[str] = []
        self.stop = Stop()
        self.on_said: Callable[[str], None] = lambda _: None
        runs = self

        class Recorded(ProgressTracker):
            def __setattr__(self, name: str, value: Any) -> None:
                super().__setattr__(name, value)
                if name == "warning" and value:
                    runs.note(f"{self.activity}: {value}")
                if name == "activity":
                    runs.note(str(value))
                if name == "notices":
                    runs.note(value.get("pool", "no notice"))
                    runs.others.extend(value.values())

        monkeypatch.setattr(attempts, "ProgressTracker", Recorded)

    def note(self, text: str) -> None:
        self.said.append(text)
        self.on_said(text)

    def attempt(self, pool: PoolEnvironment, algorithm: str = "PPO", total: int = 400, **options: Any) -> int:
        hyperparameters = {key: str(value) for key, value in QUICK[algorithm].items()}
        fields = {key: options[key] for key in ("evaluation", "lessons") if key in options}
        spec = TrainingRunSpec(Algorithm(algorithm), total, pool, 3, hyperparameters, **fields)
        message = self.folder / "message"
        start = TrainerStart(
            *("run-1", None, spec, self.folder, self.folder),
            progress_address=options.get("service", self.service.address),
            session_socket=self.service.socket,
            termination_message_path=message,
        )
        return attempts.run_attempt(start, self.stop, Settings(30.0, 30.0))

    def train_until_stopped(self, pool: PoolEnvironment, algorithm: str, act: Callable[[str], None]) -> None:
        """An attempt that would go on for long, until ``act`` stops it; then one of a few hundred steps more."""
        self.on_said = act
        assert self.attempt(pool, algorithm, total=100_000) == ExitCode.CANCELLED
        self.stop, self.on_said = Stop(), lambda _: None
        checkpoint = RunStore(self.folder).run("run-1").newest_checkpoint()
        total = (0 if checkpoint is None else checkpoint.timesteps) + 200
        assert self.attempt(pool, algorithm, total=total) == 0
        assert self.timesteps() >= total

    @property
    def failure(self) -> Any:
        return TerminationMessage.from_json((self.folder / "message").read_text()).failure

    def timesteps(self) -> int:
        checkpoint = RunStore(self.folder).run("run-1").newest_checkpoint()
        assert checkpoint is not None
        return checkpoint.timesteps


@pytest.fixture
def runs(tmp_path: Path, service: PoolService, monkeypatch: pytest.MonkeyPatch) -> Runs:
    monkeypatch.setattr(pool_sessions, "LOOK_SECONDS", 0.05)
    return Runs(tmp_path, service, monkeypatch)


@pytest.mark.parametrize(("algorithm", "service"), [("PPO", "socket"), ("DQN", "grpc")], indirect=["service"])
def test_run_waits_for_its_pool_takes_late_joiners_and_survives_leavers(
    runs: Runs, attached: Attached, algorithm: str
) -> None:
    """It begins with two environments of four, gets four, loses one, and then all but one of those that it has."""
    first: list[Attachment] = []
    later: list[Attachment] = []
    gone: list[Attachment] = []

    def act(said: str) -> None:
        if "0 of 2 environments are there" in said and not first:
            first.extend([attached.add(), attached.add()])
        elif "training with 2 of 4" in said and not later:
            later.append(attached.add(2))
        elif said == "no notice" and later and len(first) == 2:
            attached.remove(first.pop())
        elif "training with 3 of 4" in said and len(first) == 1:
            gone.append(later[0])
            attached.remove(later[0])
            first.append(attached.add())
        elif "training with 2 of 4" in said and gone:
            runs.stop.request()

    runs.train_until_stopped(PoolEnvironment(POOL, 4, 2), algorithm, act)
    told = "\n".join(runs.said)
    assert f"{Activity.WAITING_FOR_SIMULATOR}: 0 of 2 environments are there, waiting for simulators of pool" in told
    assert "training with 2 of 4 environments of pool 'arena'" in told
    assert "training with 3 of 4 environments of pool 'arena'" in told
    assert "timesteps were dropped" in told


@over_the_socket  # that of the service that comes back is another one: the trainer uses gRPC then
def test_run_goes_on_when_the_service_and_its_simulators_are_back(
    runs: Runs, service: PoolService, attached: Attached
) -> None:
    attached.add(2)
    service.wait_for(2)
    restarts: list[threading.Thread] = []

    def restart() -> None:
        service.stop()
        service.start()

    def act(said: str) -> None:
        if said == str(Activity.TRAINING) and not restarts:  # its sessions are open
            restarts.append(threading.Thread(target=restart))
            restarts[0].start()
        elif "timesteps were dropped" in said:
            restarts[0].join(60)
            runs.stop.request()

    runs.train_until_stopped(PoolEnvironment(POOL, 2), "PPO", act)
    assert any("timesteps were dropped" in said for said in runs.said)


def test_run_resumes_with_another_number_of_environments(runs: Runs, service: PoolService, attached: Attached) -> None:
    one = attached.add(3)
    service.wait_for(3)
    assert runs.attempt(PoolEnvironment(POOL, 4, 1), "DQN", total=200) == 0
    attached.remove(one)
    attached.add(2)
    service.wait_for(2)
    assert runs.attempt(PoolEnvironment(POOL, 4, 1), "DQN", total=400) == 0
    assert runs.timesteps() >= 400


@over_the_socket
def test_evaluation_takes_a_free_simulator_and_is_left_out_with_the_reason_where_there_is_none(
    runs: Runs, service: PoolService, attached: Attached, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_sessions, "EVALUATION_PATIENCE", 0.1)
    attached.add()
    service.wait_for(1)
    evaluation = Evaluation(every_timesteps=64, episodes=2)
    assert runs.attempt(PoolEnvironment(POOL), total=128, evaluation=evaluation) == 0
    reason = "the last evaluation was not possible: .* no simulator of pool 'arena' was free for evaluation"
    assert any(re.search(reason, said) for said in [*runs.said, *runs.others])
    runs.said.clear()
    runs.others.clear()
    attached.add()
    service.wait_for(2)
    assert runs.attempt(PoolEnvironment(POOL), total=256, evaluation=evaluation) == 0
    assert not any("the last evaluation was not possible" in said for said in [*runs.said, *runs.others])


def test_run_on_masks_of_attached_simulators_does_nothing_forbidden(
    runs: Runs, service: PoolService, attached: Attached
) -> None:
    MaskedWorld.forbidden = 0
    for _ in range(2):
        attached.add(2, simulation=GymnasiumSimulation("masked_worlds:Masked-v0"))
    service.wait_for(4)
    assert runs.attempt(PoolEnvironment(POOL, 2), total=128, evaluation=Evaluation(64, 2, stochastic=True)) == 0
    assert MaskedWorld.forbidden == 0
    model = RunStore(runs.folder).run("run-1")
    policy = Policy("run-1", model.read_model(model.model("final")), np.random.default_rng(0))
    assert policy.description.algorithm == pb.ALGORITHM_MASKABLEPPO


def test_lessons_are_compared_with_the_first_simulator_that_attaches(runs: Runs, attached: Attached) -> None:
    first: list[Attachment] = []

    def act(said: str) -> None:
        if "0 of 1 environments are there" in said and not first:
            first.append(attached.add())

    runs.on_said = act
    lessons = (Lesson("only", {"gravity": 3}),)
    assert runs.attempt(PoolEnvironment(POOL, 1), lessons=lessons) == ExitCode.PERMANENT
    assert runs.failure.reason == "InvalidRun"
    assert "lessons[0].parameters.gravity: is unknown; the environment declares start" in runs.failure.message


def test_trainer_that_knows_no_service_refuses_a_pool(runs: Runs) -> None:
    assert runs.attempt(PoolEnvironment(POOL), service=None) != 0
    assert "environment.pool: PROGRESS_ADDRESS is not set" in runs.failure.message
