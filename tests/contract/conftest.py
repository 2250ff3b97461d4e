"""The backends that the contract is held against, each with trainers that follow a script."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Settings, create_server
from aisandbox_api.backend import Backend
from aisandbox_api.local import LocalBackend
from aisandbox_api.local.launcher import ProcessLauncher
from aisandbox_model_store import RunStore

SCRIPTED_TRAINER = Path(__file__).parent / "scripted_trainer.py"
FOREVER = 10**9
PATIENCE_SECONDS = 30.0


@dataclass
class Service:
    """A running service, and what a test may know of it whatever its backend."""

    stub: Any
    address: str
    store: RunStore

    def request(self, *script: str, total: int = 100, **fields: Any) -> pb.TrainingRequest:
        request = pb.TrainingRequest(experiment_id="lander", total_timesteps=total, **fields)
        request.environment.gymnasium.id = "Scripted-v0"
        request.environment.gymnasium.kwargs.update({"script": list(script) or ["train"]})
        return request

    async def begin(self, *script: str, total: int = 100, **fields: Any) -> str:
        response = await self.stub.StartTrainingPPO(self.request(*script, total=total, **fields))
        return str(response.run_id)

    async def status(self, run: str) -> Any:
        return await self.stub.GetTrainingStatus(pb.StatusRequest(run_id=run))

    async def until(self, run: str, holds: Callable[[Any], object]) -> Any:
        """The first status that holds; fails with the last one when it takes too long."""
        status = None
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not holds(status := await self.status(run)):  # noqa: ASYNC110 - a state of another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not within {PATIENCE_SECONDS} s; the last status: {status}")
        return status

    async def done(self, run: str) -> Any:
        return await self.until(run, lambda status: status.is_done)

    async def training(self, run: str) -> Any:
        return await self.until(run, lambda status: status.phase == pb.PHASE_RUNNING and status.timesteps_done > 0)

    async def refused(self, call: Awaitable[Any]) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call
        return refusal.value


def local_backend(settings: Settings) -> Backend:
    return LocalBackend(settings, ProcessLauncher([sys.executable, str(SCRIPTED_TRAINER), "run"]))


@pytest.fixture(params=[local_backend], ids=["local"])
def make_backend(request: pytest.FixtureRequest) -> Callable[[Settings], Backend]:
    """Add a backend here to hold it against the contract: a place for 2 trainers, 3 more runs may wait."""
    backend: Callable[[Settings], Backend] = request.param
    return backend


@pytest.fixture
async def service(make_backend: Callable[[Settings], Backend], tmp_path: Path) -> AsyncIterator[Service]:
    settings = Settings(
        grpc_port=0, models_dir=tmp_path, max_concurrent_runs=2, max_pending_runs=3, stop_grace_seconds=5
    )
    server = create_server(settings, backend=make_backend(settings))
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Service(PolicyTrainerServiceStub(channel), server.address, RunStore(tmp_path))
    finally:
        await server.stop(grace=0)
