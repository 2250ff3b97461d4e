"""A start whose caller gives up while the simulator is asked makes no run, with either backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Settings
from aisandbox_api.backend import Backend
from aisandbox_api.kubernetes import KubernetesBackend
from aisandbox_api.local import LocalBackend
from aisandbox_api.method_handlers import handlers
from aisandbox_api.metrics import Metrics
from aisandbox_api.training_servicer import TrainingServicer
from aisandbox_crds.spec import TrainingRunSpec
from aisandbox_model_store import RunStore
from fake_kubernetes import NAMESPACE, FakeKubernetes
from kubernetes.aio.client import Configuration
from pending_launcher import NeverReady

SERVICE = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"]
PATIENCE_SECONDS = 20.0


class SilentSimulator:
    """The check of a simulator that answers when it is allowed to."""

    def __init__(self) -> None:
        self.asked, self.answer, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, spec: TrainingRunSpec) -> None:
        self.asked.set()
        try:
            await self.answer.wait()
        finally:
            self.ended.set()


@pytest.fixture
def simulator() -> SilentSimulator:
    return SilentSimulator()


@pytest.fixture(params=["local", "kubernetes"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    if request.param == "local":
        local: Backend = LocalBackend(Settings(models_dir=tmp_path), NeverReady())
        await local.open()
        await local.start("127.0.0.1:1", None)
        yield local
        await local.close()
        return
    cluster = FakeKubernetes()
    await cluster.start()

    async def load() -> Configuration:
        return Configuration(host=cluster.url)

    settings = Settings(models_dir=tmp_path, backend="kubernetes", pod_namespace=NAMESPACE)
    backend = KubernetesBackend(settings, Metrics(), load)
    await backend.open()
    yield backend
    await backend.close()
    await cluster.stop()


@pytest.fixture
async def stub(backend: Backend, simulator: SilentSimulator, tmp_path: Path) -> AsyncIterator[Any]:
    calls = TrainingServicer(backend, RunStore(tmp_path), Random(1), check=simulator)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE.full_name, handlers(SERVICE, calls)),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(PATIENCE_SECONDS):
        yield PolicyTrainerServiceStub(channel)
    await calls.close()
    await server.stop(0)


def start_request(**fields: Any) -> pb.TrainingRequest:
    return pb.TrainingRequest(experiment_id="lander", total_timesteps=100, request_id="once", **fields)


@pytest.mark.parametrize("output", ["", "./model.zip"])
async def test_deadline_while_the_simulator_is_asked_makes_no_run(
    stub: Any, backend: Backend, simulator: SilentSimulator, output: str
) -> None:
    request = start_request(model_output_path=output)
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await stub.StartTrainingPPO(request, timeout=0.3)
    assert refusal.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await simulator.ended.wait()
    simulator.answer.set()
    assert list(await backend.list()) == []
    run_id = (await stub.StartTrainingPPO(request)).run_id
    assert [run.name for run in await backend.list()] == [run_id]


async def test_cancelled_call_while_the_simulator_is_asked_makes_no_run(
    stub: Any, backend: Backend, simulator: SilentSimulator
) -> None:
    call = stub.StartTrainingA2C(start_request())
    await simulator.asked.wait()
    call.cancel()
    await simulator.ended.wait()
    simulator.answer.set()
    assert (await stub.ListTrainingRuns(pb.ListTrainingRunsRequest())).runs == []
    assert list(await backend.list()) == []


async def test_start_continues_while_a_retry_waits_for_it(
    stub: Any, backend: Backend, simulator: SilentSimulator
) -> None:
    first = stub.StartTrainingPPO(start_request())
    await simulator.asked.wait()
    retry = asyncio.ensure_future(stub.StartTrainingPPO(start_request(), timeout=PATIENCE_SECONDS))
    await stub.ListTrainingRuns(pb.ListTrainingRunsRequest())  # one connection: the retry arrived before this call
    first.cancel()
    await stub.ListTrainingRuns(pb.ListTrainingRunsRequest())
    assert not simulator.ended.is_set()
    simulator.answer.set()
    run_id = (await retry).run_id
    assert [run.name for run in await backend.list()] == [run_id]
