"""A stream on which nothing happens stays open, however often its client pings.

.NET clients ping every ten seconds or more often; servers with gRPC's default settings end the connection at the third
ping of a quiet stream ("too_many_pings"). Pings without a pause between them stand for hours of silence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aisandbox_api
import aisandbox_inference
import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api.local import LocalBackend
from http2_writer import Http2Writer
from pending_launcher import NeverReady

PINGS = 30
SERVICE = "/aisandbox.v1.PolicyTrainerService/"
ACT = pb.ActStreamRequest(request=pb.ActRequest(run_id="r", observation=[1.0])).SerializeToString()


def ping_while_quiet(address: str, method: str, message: bytes, then: Callable[[Http2Writer], object]) -> None:
    """Opens a stream that gets one reply, pings PINGS times while it is quiet, and goes on with ``then``."""
    with Http2Writer(address, SERVICE + method) as client:
        client.write(message)
        client.wait_for("reply")
        for number in range(PINGS):
            payload = number.to_bytes(8, "big")
            client.ping(payload)
            assert client.wait_for("pong") == payload
        then(client)
        client.wait_for("reply")


async def test_watch_of_a_run_that_waits_survives_the_pings_of_its_client(tmp_path: Path) -> None:
    settings = aisandbox_api.Settings(grpc_port=0, models_dir=tmp_path, max_concurrent_runs=1)
    server = aisandbox_api.create_server(settings, backend=LocalBackend(settings, NeverReady()))
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = PolicyTrainerServiceStub(channel)
        run = (await stub.StartTrainingPPO(pb.TrainingRequest(experiment_id="e", total_timesteps=9))).run_id
        watch = pb.WatchTrainingRequest(run_id=run).SerializeToString()
        loop = asyncio.get_running_loop()

        async def cancelled() -> None:
            await stub.CancelTraining(pb.CancelTrainingRequest(run_id=run))

        def cancel(_: Http2Writer) -> None:
            asyncio.run_coroutine_threadsafe(cancelled(), loop).result(60)

        await asyncio.to_thread(ping_while_quiet, server.address, "WatchTraining", watch, cancel)
    await server.stop(0)


@pytest.mark.parametrize("direct", ["on", "off"])
async def test_quiet_act_stream_survives_the_pings_of_its_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, direct: str
) -> None:
    monkeypatch.setenv("GRPC_DIRECT", direct)
    settings = aisandbox_inference.Settings(models_dir=tmp_path, grpc_port=0, inference_threads=1)
    server = aisandbox_inference.create_server(settings)
    server.start()
    await asyncio.to_thread(ping_while_quiet, server.address, "ActStream", ACT, lambda client: client.write(ACT))
    await asyncio.to_thread(server.stop, 0)


async def test_quiet_act_stream_of_the_service_survives_the_pings_of_its_client(tmp_path: Path) -> None:
    policies = aisandbox_inference.create_policy_servicer(
        aisandbox_inference.Settings(models_dir=tmp_path, grpc_port=0, inference_threads=1)
    )
    server = aisandbox_api.create_server(
        aisandbox_api.Settings(grpc_port=0, models_dir=tmp_path), policy_calls=policies
    )
    await server.start()
    await asyncio.to_thread(ping_while_quiet, server.address, "ActStream", ACT, lambda client: client.write(ACT))
    await server.stop(0)
    policies.close()
