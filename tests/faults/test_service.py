"""The service on one machine: answers lost on their way, trainers and the service itself ended in every way."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from dropping_proxy import dropping
from fault_tally import Fault, Rows
from faulty_trainers import SMALL_LSTM
from service_process import ServiceProcess
from waiting import wait_until

CLIENTS = 16
DROPS = 0.1
TRIES = 30

INTERVAL = 512
TOTAL = 16384


def request_of(total: int, **fields: Any) -> pb.TrainingRequest:
    request = pb.TrainingRequest(experiment_id="faults", total_timesteps=total, seed=1, **fields)
    request.environment.gymnasium.id = "CartPole-v1"
    request.hyperparameters.update({"n_steps": "128", "batch_size": "128", "n_epochs": "1"})
    return request


def test_start_whose_answer_is_lost_is_one_run(row: Rows, tmp_path: Path) -> None:
    with row("starts-retried") as tally:
        places = {"MAX_CONCURRENT_RUNS": "1", "MAX_PENDING_RUNS": str(2 * tally.rounds)}
        service = ServiceProcess(tmp_path, TRAINER_LAUNCHER="process", **places)
        service.start()
        try:
            with tally.fault() as fault:
                _check_runs(service, asyncio.run(_start_all(fault, service.port, tally.rounds)))
        finally:
            service.end(signal.SIGKILL)
        tally.note(f"{tally.rounds} starts from {CLIENTS} clients; what was injected are the answers that were lost.")


async def _start_all(fault: Fault, port: int, number: int) -> dict[str, set[str]]:
    """Every start, by request id the run ids that were answered; a client asks again until it has an answer."""
    answers: dict[str, set[str]] = {f"request-{i}": set() for i in range(number)}
    waiting = list(answers)
    async with dropping(port, DROPS, fault.random) as proxy:
        address = f"127.0.0.1:{proxy.port}"
        await asyncio.gather(*(_client(fault, address, waiting, answers) for _ in range(CLIENTS)))
        fault.injected("answer dropped by the network", times=proxy.dropped)
    return answers


async def _client(fault: Fault, address: str, waiting: list[str], answers: dict[str, set[str]]) -> None:
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 20),
        ("grpc.max_reconnect_backoff_ms", 200),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = PolicyTrainerServiceStub(channel)
        while waiting:
            request = request_of(10**6, request_id=waiting.pop())
            if fault.random.random() < DROPS / 2:
                call = stub.StartTrainingPPO(request)
                await asyncio.sleep(fault.random.uniform(0, 0.01))
                call.cancel()
                fault.injected("client gave up")
            answers[request.request_id].add(await _start(fault, stub, request))


async def _start(fault: Fault, stub: Any, request: pb.TrainingRequest) -> str:
    """The run id, once there is an answer."""
    began = time.monotonic()
    for _ in range(TRIES):
        try:
            answer = await stub.StartTrainingPPO(request, timeout=60)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            continue
        fault.recovered(time.monotonic() - began)
        return str(answer.run_id)
    pytest.fail(f"{request.request_id} was not answered in {TRIES} tries")


def _check_runs(service: ServiceProcess, answers: dict[str, set[str]]) -> None:
    listed: list[str] = []
    token = ""
    while True:
        page = service.stub.ListTrainingRuns(pb.ListTrainingRunsRequest(page_size=500, page_token=token))
        listed += [run.run_id for run in page.runs]
        if not (token := page.next_page_token):
            break
    assert all(len(runs) == 1 for runs in answers.values()), "a request with several runs"
    runs = {next(iter(runs)) for runs in answers.values()}
    assert len(runs) == len(answers), "a run for several requests"
    assert sorted(listed) == sorted(runs), "runs whose start was not answered"
    records = [json.loads(path.read_text()) for path in service.models_dir.glob("runs/*/trainingrun.json")]
    assert len(records) == len(answers)


RECURRENT_TOTAL = 4096
"""Of a RecurrentPPO, whose steps take longer."""
TROUBLES = ("out of memory", "terminated", "crashed", "fork server killed", "service killed")
SPENT = {"out of memory": 1, "terminated": 0, "crashed": 1, "fork server killed": 0, "service killed": 0}
"""How many retries each spends."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    service = ServiceProcess(tmp_path, MAX_CONCURRENT_RUNS="1", TRAINER_LAUNCHER="warm")
    service.start()
    yield service
    service.end(signal.SIGKILL)


def test_run_finishes_whatever_ends_its_trainer(row: Rows, service: ServiceProcess) -> None:
    with row("trainer-ended-locally") as tally:

        def one_round(fault: Fault) -> None:
            recurrent = fault.number // len(TROUBLES) % 3 == 1
            total = RECURRENT_TOTAL if recurrent else TOTAL
            request = request_of(total, checkpoint_every_timesteps=INTERVAL)
            if recurrent:
                request.algorithm = pb.ALGORITHM_RECURRENTPPO
                request.hyperparameters["policy_kwargs"] = SMALL_LSTM
            else:
                request.algorithm = pb.ALGORITHM_PPO
            run = service.stub.StartTraining(request).run_id
            _end(fault, service, run)
            done = wait_until(lambda: _status(service, run), lambda status: status.is_done, seconds=120)
            assert done.phase == pb.PHASE_SUCCEEDED, f"{done}\n{service.tail()}"
            assert done.timesteps_done >= total
            record = json.loads((service.models_dir / "runs" / run / "trainingrun.json").read_text())
            if trouble := next(iter(fault.kinds), ""):
                spent = record["status"].get("restartsCountTowardsMax", 0)
                assert spent == SPENT[trouble], f"{spent} retries spent"
                assert done.timesteps_lost <= INTERVAL + 128, f"{done.timesteps_lost} steps lost"

        tally.run(one_round)


def _status(service: ServiceProcess, run: str) -> Any:
    return service.stub.GetTrainingStatus(pb.StatusRequest(run_id=run), timeout=30)


def _end(fault: Fault, service: ServiceProcess, run: str) -> None:
    """Ends the trainer, its fork server or the service at any time of the training."""
    trouble = TROUBLES[fault.number % len(TROUBLES)]
    wait_until(lambda: _status(service, run), lambda status: status.timesteps_done > 0 or status.is_done, every=0.02)
    fault.wait(0, 1)
    trainer = next(event["pid"] for event in reversed(service.events()) if event["event"] == "trainer started")
    before = _status(service, run)
    if before.is_done:
        return
    case = f"{before.timesteps_done} steps done"
    began = time.monotonic()
    if trouble == "out of memory" and fault.random.random() < 0.5:
        case += ", by a limit of its memory"
        if not _limit_memory(trainer) or _has_trained_all_the_same(service, run):
            return
    elif trouble == "out of memory":
        os.kill(trainer, signal.SIGKILL)
    elif trouble == "terminated":
        os.kill(trainer, signal.SIGTERM)
    elif trouble == "crashed":
        os.kill(trainer, fault.random.choice([signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL]))
    elif trouble == "fork server killed":
        os.kill(next(e["pid"] for e in reversed(service.events()) if e["event"] == "fork server is ready"), 9)
    else:
        service.end(signal.SIGKILL)
        service.start()
    fault.injected(trouble, case)
    _wait_for_recovery(service, run, before, trouble)
    fault.recovered(time.monotonic() - began)


def _limit_memory(trainer: int) -> bool:
    """Lets it have no more than it has, until it meets that; whether it did."""
    try:
        used = int(Path(f"/proc/{trainer}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(trainer, resource.RLIMIT_AS, (used, used))
        wait_until(lambda: not _alive(trainer), seconds=30, every=0.02)
    except (OSError, pytest.fail.Exception):
        return False
    return True


def _has_trained_all_the_same(service: ServiceProcess, run: str) -> bool:
    """Whether the trainer has come to its end without asking for more memory."""
    status = wait_until(lambda: _status(service, run), lambda status: status.is_done or status.restarts, every=0.02)
    return bool(status.phase == pb.PHASE_SUCCEEDED and not status.restarts)


def _alive(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _wait_for_recovery(service: ServiceProcess, run: str, before: Any, trouble: str) -> None:
    def again(status: Any) -> bool:
        restarted = trouble == "fork server killed" or status.restarts > before.restarts
        return bool(status.is_done or (restarted and status.phase == pb.PHASE_RUNNING))

    wait_until(lambda: _status(service, run), again, seconds=120, every=0.02)
