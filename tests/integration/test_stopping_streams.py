"""A client that is writing to ActStream while a server of policies stops gets the status of its stream."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aisandbox_api
import aisandbox_inference
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from http2_writer import Http2Writer

METHOD = "/aisandbox.v1.PolicyTrainerService/ActStream"
MESSAGE = pb.ActStreamRequest(request=pb.ActRequest(run_id="r", observation=[1.0])).SerializeToString()
UNAVAILABLE = b"14"


def write_while(address: str, stop: Callable[[], Any]) -> bytes:
    """The status of a stream whose client continues to write while ``stop`` is called."""
    with Http2Writer(address, METHOD) as client:
        client.write(MESSAGE)
        client.wait_for("reply")
        stopping = threading.Thread(target=stop)
        stopping.start()
        pause = threading.Event()
        for _ in range(30):
            client.write(MESSAGE)
            pause.wait(0.01)
        status = client.wait_for("status")
    stopping.join(60)
    assert not stopping.is_alive()
    return status


def inference_settings(folder: Path) -> aisandbox_inference.Settings:
    return aisandbox_inference.Settings(models_dir=folder, grpc_port=0, inference_threads=1)


def test_writer_gets_the_status_when_the_inference_server_stops(tmp_path: Path) -> None:
    server = aisandbox_inference.create_server(inference_settings(tmp_path))
    server.start()
    assert UNAVAILABLE in write_while(server.address, lambda: server.stop(10))


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "forwarded"])
async def test_writer_gets_the_status_when_the_service_stops(tmp_path: Path, inside: bool) -> None:
    inference = aisandbox_inference.create_server(inference_settings(tmp_path))
    inference.start()
    policies = aisandbox_inference.create_policy_servicer(inference_settings(tmp_path)) if inside else None
    address = None if inside else inference.address
    settings = aisandbox_api.Settings(grpc_port=0, models_dir=tmp_path, inference_address=address)
    server = aisandbox_api.create_server(settings, policy_calls=policies)
    await server.start()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        asyncio.run_coroutine_threadsafe(server.stop(10), loop).result(60)

    assert UNAVAILABLE in await asyncio.to_thread(write_while, server.address, stop)
    if policies is not None:
        policies.close()
    await asyncio.to_thread(inference.stop, 0)


async def test_writer_gets_the_status_when_the_inference_server_behind_the_service_stops(tmp_path: Path) -> None:
    inference = aisandbox_inference.create_server(inference_settings(tmp_path))
    inference.start()
    settings = aisandbox_api.Settings(grpc_port=0, models_dir=tmp_path, inference_address=inference.address)
    server = aisandbox_api.create_server(settings)
    await server.start()
    status = await asyncio.to_thread(write_while, server.address, lambda: inference.stop(10))
    await server.stop(0)
    assert UNAVAILABLE in status
