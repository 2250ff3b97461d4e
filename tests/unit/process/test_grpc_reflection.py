"""A server says in both versions of reflection what it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from aisandbox_process.grpc_reflection import enable_reflection
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2  # noqa: F401 -- the descriptor of a service
from grpc_reflection.v1alpha import reflection_pb2

HEALTH = "grpc.health.v1.Health"
VERSIONS = ("grpc.reflection.v1alpha", "grpc.reflection.v1")


@pytest.fixture
async def channel() -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.server(ThreadPoolExecutor(4))
    enable_reflection(server, [HEALTH])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    server.stop(0).wait()


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_listed_service_can_be_described(channel: grpc.aio.Channel, version: str) -> None:
    call: Any = channel.stream_stream(
        f"/{version}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = [service.name for service in (await call.read()).list_services_response.service]
    assert sorted(names) == sorted([HEALTH, *(f"{each}.ServerReflection" for each in VERSIONS)])
    for name in names:
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name))
        (data, *_) = (await call.read()).file_descriptor_response.file_descriptor_proto
        file = descriptor_pb2.FileDescriptorProto.FromString(data)
        assert f"{file.package}.{file.service[0].name}" == name
        assert file.service[0].method[0].input_type.startswith(f".{file.package}.")
    await call.done_writing()
