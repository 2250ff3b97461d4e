"""Pools of the whole service: its address, its settings, and its stop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as training_pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Server, Settings, create_server
from aisandbox_api.errors import StartupError
from aisandbox_api.local import LocalBackend
from attached_simulators import POOL, AttachedSimulator, PoolSession, describe, registration, serving, simulators_of
from pending_launcher import NeverReady
from prometheus_client import CollectorRegistry

Code = grpc.StatusCode


def service(models_dir: Path, registry: CollectorRegistry | None = None, **fields: Any) -> Server:
    settings = Settings(grpc_port=0, models_dir=models_dir, **fields)
    return create_server(settings, backend=LocalBackend(settings, NeverReady()), registry=registry)


@asynccontextmanager
async def started(
    models_dir: Path, registry: CollectorRegistry | None = None, **fields: Any
) -> AsyncIterator[tuple[Server, grpc.aio.Channel]]:
    server = service(models_dir, registry, **fields)
    await server.start()
    try:
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield server, channel
    finally:
        await server.stop(grace=0)


async def test_simulator_attaches_and_trains_at_the_address_of_the_service(tmp_path: Path) -> None:
    async with started(tmp_path) as (_, channel), serving(channel, registration()) as (simulator,):
        session = PoolSession(channel)
        assert (await session.open(run_id="run-1")).open.environments == 1
        (found,) = await simulators_of(channel)
        assert (found.instance, found.run_id) == ("one", "run-1")
        assert (await describe(channel)).in_use == 1
        assert (await session.finish())[0] is Code.OK
        assert not simulator.call.done()


async def test_start_on_a_pool_is_checked_with_what_its_simulators_declare(tmp_path: Path) -> None:
    request = training_pb.TrainingRequest(experiment_id="e", total_timesteps=100)
    request.environment.pool.name = POOL
    request.lessons.add(name="only").parameters.update({"gravity": 3})
    async with started(tmp_path) as (_, channel):
        start = PolicyTrainerServiceStub(channel).StartTrainingPPO
        assert (await start(request)).run_id, "nobody has declared anything yet"
        async with serving(channel, registration()):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await start(request)
    assert refused.value.code() is Code.INVALID_ARGUMENT
    said = "lessons[0].parameters.gravity: is unknown; pool 'arena' declares start"
    assert refused.value.details() == said


async def test_metrics_count_the_simulators_of_this_process(tmp_path: Path) -> None:
    registry = CollectorRegistry()

    def numbers() -> list[float | None]:
        return [registry.get_sample_value("aisandbox_simulators", {"state": state}) for state in ("in_session", "free")]

    async with started(tmp_path, registry) as (_, channel):
        assert numbers() == [0, 0]
        async with serving(channel, registration("one"), registration("two"), registration("three")):
            session = PoolSession(channel)
            await session.open()
            assert numbers() == [1, 2]
            await session.finish()
            assert numbers() == [0, 3]


async def test_stop_of_the_service_is_told_to_simulators_and_trainers(tmp_path: Path) -> None:
    async with started(tmp_path) as (server, channel), serving(channel, registration()) as (simulator,):
        session = PoolSession(channel)
        await session.open()
        await server.stop(grace=1)
        assert await simulator.status() == (Code.UNAVAILABLE, "the service is stopping: attach again")
        assert await session.status() == (Code.UNAVAILABLE, "the service is stopping: open the session again")


async def test_replicas_are_those_of_the_setting(tmp_path: Path) -> None:
    async with started(tmp_path / "a") as (first, own):
        replicas = f"127.0.0.1:1, {first.address}"
        async with (
            serving(own, registration(environments=3)),
            started(tmp_path / "b", replicas_address=replicas) as (_, other),
        ):
            assert (await PoolSession(other).open(4)).open.environments == 3
            assert [each.pool for each in await simulators_of(other)] == [POOL]


async def test_limit_of_simulators_is_the_setting(tmp_path: Path) -> None:
    async with started(tmp_path, max_simulators=0) as (_, channel):
        code, details = await AttachedSimulator(channel).status()
        assert (code, details.split(":")[0]) == (Code.RESOURCE_EXHAUSTED, "MAX_SIMULATORS")


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        ("kubernetes:///aisandbox-api:grpc", "only with BACKEND kubernetes"),
        ("kubernetes:///aisandbox-api", "must be host:port or kubernetes:///SERVICE:PORT"),
        ("127.0.0.1:50051,somewhere", "'somewhere'"),
        ("unix:/tmp/socket", "must be host:port"),
    ],
)
async def test_address_of_replicas_that_is_none_is_refused_at_the_start(
    tmp_path: Path, address: str, rule: str
) -> None:
    with pytest.raises(StartupError, match="REPLICAS_ADDRESS") as refusal:
        await service(tmp_path, replicas_address=address).start()
    assert rule in str(refusal.value)
