"""A run_id that is empty or of no run, in every call that has one: one status and one sentence, whoever answers.

The calls are found in the descriptor of the service, so that a new one is held to it too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aisandbox_inference
import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_api import Settings, create_server
from aisandbox_api.kubernetes import KubernetesBackend
from aisandbox_api.local import LocalBackend
from aisandbox_api.metrics import Metrics
from fake_kubernetes import NAMESPACE, FakeKubernetes
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.rpc import code_pb2, error_details_pb2
from grpc_status import rpc_status
from kubernetes.aio.client import Configuration

SERVICE = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"]
POLICY_CALLS = {"Act", "ActBatch", "ActStream", "GetModel", "DescribeModel"}
SERVICES = ["local with policies", "local without policies", "kubernetes with an inference-server", "inference-server"]


class NoTrainers:
    """A launcher for services that start no run."""

    async def start(self) -> None: ...
    async def close(self) -> None: ...
    async def ready(self) -> None: ...

    async def launch(self, start: Any, log_path: Path) -> Any:
        raise AssertionError(start)


def _request(method: MethodDescriptor, run_id: str) -> Any:
    """The request with that run_id; None if the method has none."""
    message: Any = GetMessageClass(method.input_type)()
    holder = message.request if "request" in method.input_type.fields_by_name else message
    if "run_id" not in holder.DESCRIPTOR.fields_by_name:
        return None
    holder.run_id = run_id
    return message


METHODS = [method for method in SERVICE.methods if _request(method, "") is not None]


def test_every_call_about_a_run_has_its_id() -> None:
    others = {method.name for method in SERVICE.methods} - {method.name for method in METHODS}
    starts = {"StartTraining", "StartTrainingPPO", "StartTrainingA2C", "StartTrainingDQN"}
    assert others == {*starts, "ListTrainingRuns", "WhoAmI"}
    assert {method.name for method in METHODS} > POLICY_CALLS


@pytest.fixture(params=SERVICES)
async def service(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[grpc.aio.Channel, set[str]]]:
    """A channel, and the names of the calls that are served."""
    async with AsyncExitStack() as stack:
        names = {method.name for method in METHODS}
        if request.param == "inference-server":
            address, names = await _inference_server(stack, tmp_path), POLICY_CALLS
        elif request.param.startswith("kubernetes"):
            address = await _kubernetes(stack, tmp_path, await _inference_server(stack, tmp_path))
        else:
            address = await _local(stack, tmp_path, request.param == "local with policies")
        yield await stack.enter_async_context(grpc.aio.insecure_channel(address)), names


async def _inference_server(stack: AsyncExitStack, models_dir: Path) -> str:
    server = aisandbox_inference.create_server(aisandbox_inference.Settings(models_dir=models_dir, grpc_port=0))
    server.start()
    stack.push_async_callback(asyncio.to_thread, server.stop, 0)
    return server.address


async def _kubernetes(stack: AsyncExitStack, models_dir: Path, inference_address: str) -> str:
    cluster = FakeKubernetes()
    await cluster.start()
    stack.push_async_callback(cluster.stop)

    async def load() -> Configuration:
        return Configuration(host=cluster.url)

    settings = Settings(
        grpc_port=0,
        models_dir=models_dir,
        backend="kubernetes",
        pod_namespace=NAMESPACE,
        inference_address=inference_address,
    )
    return await _started(stack, create_server(settings, backend=KubernetesBackend(settings, Metrics(), load)))


async def _local(stack: AsyncExitStack, models_dir: Path, with_policies: bool) -> str:
    settings = Settings(grpc_port=0, models_dir=models_dir)
    policies = None
    if with_policies:
        own = aisandbox_inference.Settings(models_dir=models_dir, grpc_port=0)
        policies = aisandbox_inference.create_policy_servicer(own)
        stack.callback(policies.close)
    backend = LocalBackend(settings, NoTrainers())
    return await _started(stack, create_server(settings, backend=backend, policy_calls=policies))


async def _started(stack: AsyncExitStack, server: Any) -> str:
    await server.start()
    stack.push_async_callback(server.stop, grace=0)
    address: str = server.address
    return address


async def _refusal(channel: grpc.aio.Channel, method: MethodDescriptor, run_id: str) -> tuple[int, str, Any]:
    """Code, message and details: of the call, or of the reply in a stream of replies."""
    request, reply = _request(method, run_id), GetMessageClass(method.output_type)
    kinds: dict[tuple[bool, bool], Callable[..., Any]] = {
        (False, False): channel.unary_unary,
        (False, True): channel.unary_stream,
        (True, True): channel.stream_stream,
    }
    call = kinds[method.client_streaming, method.server_streaming](
        f"/{SERVICE.full_name}/{method.name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=reply.FromString,
    )([request] if method.client_streaming else request, timeout=20)
    try:
        answers = [answer async for answer in call] if method.server_streaming else [await call]
    except grpc.aio.AioRpcError as error:
        status = rpc_status.from_call(error)
        return error.code().value[0], error.details() or "", status.details[0] if status else None
    (answer,) = answers
    return answer.error.code, answer.error.message, None


@pytest.mark.parametrize("run_id", ["unknown", "../unknown", "A B", "x" * 5000])
async def test_unknown_run_is_not_found_in_every_call(service: tuple[grpc.aio.Channel, set[str]], run_id: str) -> None:
    channel, names = service
    for method in METHODS:
        if method.name in names:
            code, message, details = await _refusal(channel, method, run_id)
            assert (method.name, code, message) == (
                method.name, code_pb2.NOT_FOUND, f"run {run_id[:100]!r} does not exist"
            )  # fmt: skip
            resource = error_details_pb2.ResourceInfo()
            assert details is None or details.Unpack(resource), method.name


async def test_empty_run_id_is_an_invalid_argument_in_every_call(service: tuple[grpc.aio.Channel, set[str]]) -> None:
    channel, names = service
    for method in METHODS:
        if method.name in names:
            code, message, details = await _refusal(channel, method, "")
            assert (method.name, code, message) == (
                method.name,
                code_pb2.INVALID_ARGUMENT,
                "run_id: is required: the run_id that the start call returned",
            )
            request = error_details_pb2.BadRequest()
            assert details is None or details.Unpack(request), method.name
            assert details is None or request.field_violations[0].field == "run_id"
