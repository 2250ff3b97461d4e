"""The backends that the contract is held against, each with trainers that follow a script.

``local`` always; ``kubernetes`` when asked for: ``pytest tests/contract --kubernetes-context CONTEXT``, of a cluster
that has the resource definition; the images are those of REGISTRY and TAG.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Settings, create_server
from aisandbox_api.local import LocalBackend
from aisandbox_api.local.launcher import ProcessLauncher
from aisandbox_api.local.warm_launcher import TrainerProgram, WarmLauncher

SCRIPTED_TRAINER = Path(__file__).parent / "scripted_trainer.py"
WARM_SCRIPTED_TRAINER = TrainerProgram("scripted_trainer", "scripted_trainer:check", "scripted_trainer:run_forked")
FOREVER = 10**9


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubernetes-context", default="", help="hold the contract also against the backend of a cluster")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "local(reason): not promised by other backends than the one of one machine")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend_name" in metafunc.fixturenames:
        names: list[Any] = ["local"]
        of_local_only = metafunc.definition.get_closest_marker("local")
        if metafunc.config.getoption("--kubernetes-context") and not of_local_only:
            names.append(pytest.param("kubernetes", marks=pytest.mark.timeout(600)))
        metafunc.parametrize("backend_name", names)


class Files(Protocol):
    """What lies below MODELS_DIR."""

    def read(self, path: str) -> bytes: ...

    def exists(self, path: str) -> bool: ...

    def link(self, path: str, target: str) -> None: ...


@dataclass(frozen=True)
class LocalFiles:
    root: Path

    def read(self, path: str) -> bytes:
        return (self.root / path).read_bytes()

    def exists(self, path: str) -> bool:
        return (self.root / path).exists()

    def link(self, path: str, target: str) -> None:
        (self.root / path).symlink_to(target, target_is_directory=True)


@dataclass
class Service:
    """A running service, and what a test may know of it whatever its backend.

    ``patience``: seconds in which anything that should happen does.
    """

    stub: Any
    address: str
    files: Files
    patience: float

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
            async with asyncio.timeout(self.patience):
                while not holds(status := await self.status(run)):  # noqa: ASYNC110 - a state of another process
                    await asyncio.sleep(0.02)
        except TimeoutError:
            pytest.fail(f"not within {self.patience:g} s; the last status: {status}")
        return status

    async def done(self, run: str) -> Any:
        return await self.until(run, lambda status: status.is_done)

    async def training(self, run: str) -> Any:
        return await self.until(run, lambda status: status.phase == pb.PHASE_RUNNING and status.timesteps_done > 0)

    async def refused(self, call: Awaitable[Any]) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call
        return refusal.value


@asynccontextmanager
async def local_service(root: Path) -> AsyncIterator[Service]:
    """2 trainer slots; 3 more runs may wait."""
    settings = Settings(grpc_port=0, models_dir=root, max_concurrent_runs=2, max_pending_runs=3, stop_grace_seconds=5)
    launcher = WarmLauncher(ProcessLauncher([sys.executable, str(SCRIPTED_TRAINER), "run"]), WARM_SCRIPTED_TRAINER)
    server = create_server(settings, backend=LocalBackend(settings, launcher))
    with pytest.MonkeyPatch.context() as patch:
        path = (str(SCRIPTED_TRAINER.parent), os.environ.get("PYTHONPATH", ""))
        patch.setenv("PYTHONPATH", os.pathsep.join(path))  # where the fork server finds the scripted trainer
        await server.start()
        try:
            async with grpc.aio.insecure_channel(server.address) as channel:
                yield Service(PolicyTrainerServiceStub(channel), server.address, LocalFiles(root), 30.0)
        finally:
            await server.stop(grace=0)


@pytest.fixture(scope="session")
def cluster_service(pytestconfig: pytest.Config) -> Iterator[Callable[[], AbstractAsyncContextManager[Service]]]:
    """An installation on the cluster; each use of it begins without runs."""
    from contract_installation import PodFiles, installed
    from port_forward import PortForward

    context = str(pytestconfig.getoption("--kubernetes-context"))
    with installed(context) as kubectl, PortForward(kubectl, "service/aisandbox-api", 50051) as forward:
        files = PodFiles(kubectl)

        @asynccontextmanager
        async def service() -> AsyncIterator[Service]:
            async with grpc.aio.insecure_channel(forward.address) as channel:
                try:
                    yield Service(PolicyTrainerServiceStub(channel), forward.address, files, 120.0)
                finally:
                    await asyncio.to_thread(kubectl, "delete", "trainingruns", "--all", "--cascade=foreground")
                    await asyncio.to_thread(files.clear)

        yield service


@pytest.fixture
async def service(backend_name: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Service]:
    """A service without runs."""
    if backend_name == "local":
        chosen: AbstractAsyncContextManager[Service] = local_service(tmp_path)
    else:
        chosen = request.getfixturevalue("cluster_service")()
    async with chosen as service:
        yield service
