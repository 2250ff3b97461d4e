"""The service is killed with simulators attached; peers of a pool misbehave while a run trains on it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_crds.spec import PoolEnvironment
from aisandbox_environment import POOL_METADATA, RelayLimits, list_simulators
from aisandbox_model_store import RunFolder, RunStore
from fault_tally import Fault, Rows
from faulty_simulator import POOL, READ_AGAIN, Script, Simulator, simulators
from faulty_trainers import (
    INTERVAL,
    KINDS,
    LEARNERS,
    MASKED,
    TAUGHT,
    TOTAL,
    TinyRun,
    Trainer,
    Trainers,
    is_taught,
    script_for,
)
from pool_peers import OPTIONS, Peer, registration, silent_trainer, spec_of
from pool_service import PoolService
from served_transitions import ENVIRONMENTS, check_parameters, check_replay_buffer, check_rollouts, read_lines
from service_process import ServiceProcess
from waiting import wait_until

SETTINGS = {"SIMULATOR_PATIENCE_SECONDS": "60"}
IMPATIENT = {"SIMULATOR_TIMEOUT_SECONDS": "0.6"}
"""For a simulator that is to be missed soon; elsewhere one that is slow must not be."""
LIMITS = RelayLimits(burst=20, per_second=1.0, end_seconds=1.0)
START_SECONDS = 300.0
"""How long a trainer that is started by the service may take until it has come as far as it must."""
PLAIN = ("DQN", "PPO", "A2C", "RecurrentPPO")
"""The kinds that learn from the simulator that peers register like."""
AHEAD = 3_000
"""Steps that a trainer sends and does not read the replies of: more than a stream holds."""


def steps_of(served: Path) -> int:
    return sum("actions" in line for line in read_lines(served))


def test_service_killed_with_simulators_attached(row: Rows, trainers: Trainers, tmp_path: Path) -> None:
    with row("pool-service-killed") as tally:
        context = simulators()
        service = ServiceProcess(tmp_path / "service", MAX_CONCURRENT_RUNS="1", TRAINER_LAUNCHER="process", **SETTINGS)
        service.start()

        def one_round(fault: Fault) -> None:
            folder = tmp_path / str(fault.number)
            folder.mkdir()
            simulator = Simulator(context, f"127.0.0.1:{service.port}")
            try:
                if fault.number % 2:
                    _kill_the_service_of_a_trainer_elsewhere(fault, trainers, folder, service, simulator)
                else:
                    _kill_the_service_and_its_trainer(fault, folder, service, simulator)
            finally:
                simulator.close()

        try:
            tally.run(one_round)
        finally:
            service.end(signal.SIGKILL)


def _kill(fault: Fault, service: ServiceProcess, served: Path, ended: Callable[[], bool]) -> None:
    at = fault.random.randrange(1, 90)
    wait_until(lambda: steps_of(served) >= at or ended(), every=0.01, seconds=START_SECONDS)
    service.end(signal.SIGKILL)
    fault.wait(0, 0.7)
    before, began = steps_of(served), time.monotonic()
    service.start()
    wait_until(lambda: steps_of(served) > before or ended(), every=0.02, seconds=START_SECONDS)
    fault.recovered(time.monotonic() - began)


def _kill_the_service_and_its_trainer(
    fault: Fault, folder: Path, service: ServiceProcess, simulator: Simulator
) -> None:
    script = Script(served=folder / "served")
    simulator.start(script)
    kind = "RecurrentPPO" if fault.number % 4 == 2 else "DQN"
    request = pb.TrainingRequest(
        experiment_id="pool",
        algorithm=pb.ALGORITHM_DQN if kind == "DQN" else pb.ALGORITHM_RECURRENTPPO,
        total_timesteps=TOTAL,
        seed=7,
        checkpoint_every_timesteps=INTERVAL,
    )
    request.environment.pool.name, request.environment.pool.environments = POOL, ENVIRONMENTS
    request.hyperparameters.update({key: str(value) for key, value in KINDS[kind][1].items()})
    run = service.stub.StartTraining(request).run_id

    def status() -> Any:
        return service.stub.GetTrainingStatus(pb.StatusRequest(run_id=run), timeout=60, wait_for_ready=True)

    fault.injected("the service and its trainer", f"{kind}, run {run}")
    _kill(fault, service, script.served, lambda: bool(status().is_done))
    done = wait_until(status, lambda status: status.is_done, seconds=START_SECONDS)
    assert done.phase == pb.PHASE_SUCCEEDED, f"{done}\n{service.tail()}"
    assert done.timesteps_done >= TOTAL
    record = json.loads((service.models_dir / "runs" / run / "trainingrun.json").read_text())
    assert record["status"].get("restartsCountTowardsMax", 0) == 0
    checkpoint = _newest(RunStore(service.models_dir).run(run))
    if kind == "DQN":
        check_replay_buffer(script.served, checkpoint)
    _check_simulator_was_told(script.served)


def _kill_the_service_of_a_trainer_elsewhere(
    fault: Fault, trainers: Trainers, folder: Path, service: ServiceProcess, simulator: Simulator
) -> None:
    """As on Kubernetes, where trainers are in pods of their own."""
    kind = fault.random.choice(LEARNERS)
    script = script_for(kind, folder / "served")
    simulator.start(script)
    run, trainer, rollouts = _train(kind, trainers, folder, f"127.0.0.1:{service.port}")
    fault.injected("the service alone", run.kind)
    _kill(fault, service, script.served, trainer.changed.is_set)
    _check_run(run, trainer, script.served, rollouts)
    _check_simulator_was_told(script.served)


def _check_simulator_was_told(served: Path) -> None:
    left = [line for line in read_lines(served) if "left" in line]
    assert left
    assert all(line["left"] == "UNAVAILABLE" and line["details"] for line in left), left


def _train(kind: str, trainers: Trainers, folder: Path, service: str, **settings: str) -> tuple[TinyRun, Trainer, Path]:
    """A run on the pool: with its trainer, and where it leaves its rollouts."""
    rollouts = folder / "rollouts"
    rollouts.mkdir()
    run = TinyRun(
        trainers,
        folder,
        kind,
        environment=PoolEnvironment(POOL, ENVIRONMENTS),
        settings={**SETTINGS, **settings, "FAULTS_ROLLOUTS": str(rollouts), "PROGRESS_ADDRESS": service},
    )
    return run, run.start(), rollouts


def _check_run(run: TinyRun, trainer: Trainer, served: Path, rollouts: Path) -> None:
    code = trainer.wait()
    assert code == 0, f"exit code {code}\n{run.tail()}"
    assert run.ended_well()
    checkpoint = _newest(run.run)
    if run.kind == "DQN":
        check_replay_buffer(served, checkpoint)
    assert check_rollouts(served, rollouts, masked=run.kind == MASKED) or run.kind == "DQN"
    if run.kind == TAUGHT:
        check_parameters(served, is_taught)


def _newest(folder: RunFolder) -> Path:
    checkpoint = folder.newest_checkpoint()
    assert checkpoint is not None
    return checkpoint.path


@dataclass
class Pool:
    """A pool with a simulator, and a run that trains on it."""

    fault: Fault
    service: PoolService
    simulator: Simulator
    served: Path
    channel: grpc.Channel

    def told(self, kind: str, register: Any, code: grpc.StatusCode, sentence: str) -> None:
        """Lets a simulator register, and raises AssertionError unless it is refused with the sentence."""
        peer = Peer(self.channel, register)
        refusal = peer.refusal()
        peer.leave()
        assert refusal is not None, f"{kind}: it has a place"
        assert refusal[0] is code, refusal
        assert sentence in refusal[1], refusal


def _other_spec(pool: Pool) -> None:
    spec = pool.fault.random.choice([spec_of(3), spec_of(5), spec_of(4, actions=3)])
    pool.told(
        "another spec",
        registration(POOL, "other", spec=spec),
        grpc.StatusCode.FAILED_PRECONDITION,
        f"register.spec: pool '{POOL}' has simulators with another spec; ",
    )


def _taken_instance(pool: Pool) -> None:
    (there,) = list_simulators(pool.service.address, POOL)
    pool.told(
        "an instance that is taken",
        registration(POOL, there.instance),
        grpc.StatusCode.ALREADY_EXISTS,
        f"register.instance: pool '{POOL}' has an instance '{there.instance}' already; a simulator whose",
    )


def _other_version(pool: Pool) -> None:
    version = pool.fault.random.choice([0, 2, 3, 2**32 - 1])
    pool.told(
        "another protocol version",
        registration(POOL, "other", protocol_version=version),
        grpc.StatusCode.FAILED_PRECONDITION,
        f"register.protocol_version: the simulator speaks version {version}, this service 1",
    )


def _no_name(pool: Pool) -> None:
    names = ["", "Arena", "-arena", "arena-", "a" * 64, "a b", "arena\n", "../arena", "\u0430rena"]
    pool.told(
        "a pool name that is none",
        registration(pool.fault.random.choice(names), "other"),
        grpc.StatusCode.INVALID_ARGUMENT,
        'register.pool: must be 1 to 63 lower-case letters, digits and "-", beginning and ending with a letter or',
    )


def _flood(pool: Pool) -> None:
    """More registrations than one host may send; when it is over, the next one is accepted."""
    number = pool.fault.random.randrange(40, 80)
    peers = [Peer(pool.channel, registration("flood", f"{i}")) for i in range(number)]
    refusals = [refusal for peer in peers if (refusal := peer.refusal()) is not None]
    for peer in peers:
        peer.leave()
    assert refusals, f"none of {number} was refused"
    for code, details in refusals:
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, details
        assert details == "too many registrations from 127.0.0.1: more than 1 a second; try again with backoff"

    def accepted() -> bool:
        peer = Peer(pool.channel, registration("flood", "after"))
        refusal = peer.refusal()
        peer.leave()
        return refusal is None

    wait_until(accepted, every=0.05)
    wait_until(lambda: not list_simulators(pool.service.address, "flood"), every=0.05)


def _silent_trainer(pool: Pool) -> None:
    """It has the other simulator; when it is gone, the place is free again."""
    metadata = ((POOL_METADATA, POOL),)
    with silent_trainer(pool.service.address, metadata, AHEAD):
        wait_until(lambda: any(each.run_id == "silent" and each.steps for each in _listed(pool)), every=0.05)
        pool.fault.wait(0, 0.5)
    wait_until(lambda: not any(each.run_id == "silent" for each in _listed(pool)), every=0.05)


def _listed(pool: Pool) -> list[Any]:
    return list(list_simulators(pool.service.address, POOL))


PEERS: dict[str, Callable[[Pool], None]] = {
    "another spec": _other_spec,
    "an instance that is taken": _taken_instance,
    "another protocol version": _other_version,
    "a pool name that is none": _no_name,
    "a flood of registrations": _flood,
    "a trainer that reads no more": _silent_trainer,
}
READS_NO_MORE = "a simulator that reads no more"


def test_peers_that_misuse_a_pool_are_told_and_disturb_no_run(row: Rows, trainers: Trainers, tmp_path: Path) -> None:
    with row("pool-peers") as tally:
        context = simulators()
        kinds = [*PEERS, READS_NO_MORE]

        def one_round(fault: Fault) -> None:
            folder = tmp_path / str(fault.number)
            folder.mkdir()
            service = PoolService(LIMITS, by_socket=fault.random.random() < 0.5)
            service.start()
            simulator = Simulator(context, service.address)
            kind = kinds[fault.number % len(kinds)]
            try:
                with grpc.insecure_channel(service.address, OPTIONS) as channel:
                    pool = Pool(fault, service, simulator, folder / "served", channel)
                    if kind == READS_NO_MORE:
                        _train_with_one_that_reads_no_more(pool, trainers, folder)
                    else:
                        _train_beside(pool, kind, trainers, folder)
            finally:
                simulator.close()
                service.stop()

        tally.run(one_round, workers=2)
        tally.note("Each was told with the status and the sentence that its test expects.")


def _train_beside(pool: Pool, kind: str, trainers: Trainers, folder: Path) -> None:
    """A run whose simulators are not those that misbehave: it has one session, and loses no step."""
    pool.simulator.start(Script(pool.served))
    silent = kind == "a trainer that reads no more"
    if silent:
        pool.simulator.start(Script(pool.served))
    pool.service.wait_for(ENVIRONMENTS * (1 + silent))
    run, trainer, rollouts = _train(
        pool.fault.random.choice(PLAIN), trainers, folder, pool.service.address, **pool.service.variables
    )
    at = pool.fault.random.randrange(1, 60)
    wait_until(lambda: steps_of(pool.served) >= at or trainer.changed.is_set(), every=0.01)
    pool.fault.injected(kind, f"{run.kind}, at step {at}, {pool.service.way}")
    PEERS[kind](pool)
    _check_run(run, trainer, pool.served, rollouts)
    sessions = {line["session"] for line in read_lines(pool.served) if "actions" in line}
    assert len(sessions) == 1 + silent, f"sessions {sessions}: the run was disturbed"


def _train_with_one_that_reads_no_more(pool: Pool, trainers: Trainers, folder: Path) -> None:
    """The simulator of the run reads no more; it loses its session, and then its place. Another one goes on."""
    at = pool.fault.random.randrange(1, 60)
    process = pool.simulator.start(Script(pool.served, trouble="read no more", at=at))
    pool.service.wait_for(ENVIRONMENTS)
    run, trainer, rollouts = _train(
        pool.fault.random.choice(PLAIN), trainers, folder, pool.service.address, **IMPATIENT, **pool.service.variables
    )
    pool.fault.injected(READS_NO_MORE, f"{run.kind}, at step {at}")
    wait_until(lambda: any("trouble" in line for line in read_lines(pool.served)), every=0.01)
    before, began = steps_of(pool.served), time.monotonic()
    pool.simulator.start(Script(pool.served))
    wait_until(lambda: steps_of(pool.served) > before or trainer.changed.is_set(), every=0.01)
    pool.fault.recovered(time.monotonic() - began)
    _check_run(run, trainer, pool.served, rollouts)
    wait_until(lambda: not any(each.instance.startswith(f"{process.pid}-") for each in _listed(pool)), every=0.05)
    (folder / READ_AGAIN).touch()
    sentence = "session_ended: the simulator did not end its side of the session within 1 s"
    told = wait_until(lambda: [line for line in read_lines(pool.served) if "left" in line], every=0.05)
    assert (told[0]["left"], told[0]["details"]) == ("UNAVAILABLE", sentence)
