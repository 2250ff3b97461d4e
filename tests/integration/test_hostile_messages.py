"""Single messages of clients and simulators that are made to break a server: refused, and it answers others."""

from __future__ import annotations

import asyncio
import base64
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import environment_pb2, tensor_pb2
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_api import Settings, create_server, simulator_checks
from aisandbox_api.local import LocalBackend
from aisandbox_environment import InvalidReply, describe
from aisandbox_environment.calls import LARGEST_SPEC
from aisandbox_inference import Settings as InferenceSettings
from aisandbox_inference import create_policy_servicer
from aisandbox_inference import create_server as create_inference_server
from google.protobuf.struct_pb2 import Struct, Value
from onnx_policies import LinearPolicy, publish
from pending_launcher import NeverReady

SERVICE = "/aisandbox.v1.PolicyTrainerService/"
HEALTH = "/grpc.health.v1.Health/Check"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
PROGRESS = "/aisandbox.v1.TrainingProgressService/Report"
SECONDS = 30.0
NO_MESSAGE = b"\xff\xff"
EMPTY_TENSORS = b"\x1a\x00" * (10 << 20)
HUGE = 2**62

Call = Callable[..., Any]


def batch(*shape: int, data: bytes = b"") -> bytes:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=shape, data=data)
    return pb.ActBatchRequest(run_id="r", observations=[tensor]).SerializeToString()


def nested(depth: int) -> bytes:
    value = Value(number_value=1)
    for _ in range(depth):
        outer = Value()
        outer.list_value.values.append(value)
        value = outer
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address="127.0.0.1:1", options=Struct(fields={"a": value})))
    return pb.TrainingRequest(experiment_id="e", total_timesteps=1, environment=environment).SerializeToString()


def page(token: bytes) -> bytes:
    return pb.ListTrainingRunsRequest(page_token=base64.urlsafe_b64encode(token).decode()).SerializeToString()


def start_at(address: str) -> bytes:
    environment = pb.Environment(grpc=pb.GrpcEnvironment(address=address))
    return pb.TrainingRequest(experiment_id="e", total_timesteps=1, environment=environment).SerializeToString()


POLICY_CALLS = {
    "huge extents": (SERVICE + "ActBatch", batch(1, *[HUGE] * 80_000)),
    "65 dimensions": (SERVICE + "ActBatch", batch(*[1] * 65, data=bytes(4))),
    "extents that overflow": (SERVICE + "ActBatch", batch(1, 0, HUGE, HUGE)),
    "400 dimensions": (SERVICE + "ActBatch", batch(*[1] * 400, data=bytes(4))),
    "empty tensors": (SERVICE + "ActBatch", EMPTY_TENSORS),
    "no ActBatchRequest": (SERVICE + "ActBatch", NO_MESSAGE),
    "no ActRequest": (SERVICE + "Act", NO_MESSAGE),
    "no DescribeModelRequest": (SERVICE + "DescribeModel", NO_MESSAGE),
    "no HealthCheckRequest": (HEALTH, NO_MESSAGE),
    "unknown fields": (HEALTH, b"\x1a\x00" * (10 << 20)),
}
TRAINING_CALLS = {
    "no TrainingRequest": (SERVICE + "StartTrainingPPO", NO_MESSAGE),
    "nested options": (SERVICE + "StartTrainingPPO", nested(30)),
    "a name again and again": (SERVICE + "StartTrainingPPO", b"\x0a\x00" * (10 << 20)),
    "nested page token": (SERVICE + "ListTrainingRuns", page(b"[" * 100_000)),
    "short nested page token": (SERVICE + "ListTrainingRuns", page(b"[" * 300)),
    "no StatusRequest": (SERVICE + "GetTrainingStatus", NO_MESSAGE),
    "no ReportRequest": (PROGRESS, NO_MESSAGE),
    **{
        address: (SERVICE + "StartTrainingPPO", start_at(address))
        for address in ("unix:50061", "unix-abstract:50061", "xds:443", "google-c2p:443", "XDS:443", "dns:///unix:1",
                        "a:1,vsock:1", "unix:/run/docker.sock", "ipv4:127.0.0.1:1")
    },
}  # fmt: skip


@pytest.fixture
async def call(tmp_path: Path) -> AsyncIterator[Call]:
    """call(method, data) -> the reply's bytes, of one service with everything, as of `aisandbox up`."""
    publish(tmp_path, LinearPolicy())
    settings = Settings(grpc_port=0, models_dir=tmp_path, max_concurrent_runs=1)
    policies = create_policy_servicer(InferenceSettings(models_dir=tmp_path, inference_threads=1))
    server = create_server(settings, backend=LocalBackend(settings, NeverReady()), policy_calls=policies)
    await server.start()
    options = [("grpc.max_send_message_length", -1)]
    async with (
        grpc.aio.insecure_channel(server.address, options=options) as channel,
        grpc.aio.insecure_channel(server.trainer_address, options=options) as trainers,
    ):

        async def call(method: str, data: bytes) -> bytes:
            unary: Any = (trainers if method == PROGRESS else channel).unary_unary(method)
            reply: bytes = await unary(data, timeout=SECONDS)
            return reply

        yield call
    await server.stop(grace=0)
    policies.close()


@pytest.fixture
def call_inference(tmp_path: Path) -> Iterator[Call]:
    """The same of an inference-server."""
    publish(tmp_path, LinearPolicy())
    server = create_inference_server(InferenceSettings(models_dir=tmp_path, grpc_port=0, inference_threads=1))
    server.start()
    with grpc.insecure_channel(server.address, [("grpc.max_send_message_length", -1)]) as channel:
        yield lambda method, data: channel.unary_unary(method)(data, timeout=SECONDS)
    server.stop(0)


def outcome(error: Any) -> str:
    """Empty if the call was refused as it should be."""
    if error.code() is grpc.StatusCode.INVALID_ARGUMENT and len(error.details()) < 2000:
        return ""
    return f"{error.code().name}: {error.details()[:200]}"


async def test_service_refuses_hostile_messages(call: Call, caplog: pytest.LogCaptureFixture) -> None:
    outcomes = {}
    for name, (method, data) in {**POLICY_CALLS, **TRAINING_CALLS}.items():
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call(method, data)
        outcomes[name] = outcome(error.value)
    assert outcomes == dict.fromkeys(outcomes, "")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_inference_server_refuses_hostile_messages(call_inference: Call, caplog: pytest.LogCaptureFixture) -> None:
    outcomes = {}
    for name, (method, data) in POLICY_CALLS.items():
        with pytest.raises(grpc.RpcError) as error:
            call_inference(method, data)
        outcomes[name] = outcome(error.value)
    assert outcomes == dict.fromkeys(outcomes, "")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


async def test_service_refuses_a_hostile_request_of_reflection(tmp_path: Path) -> None:
    settings = Settings(grpc_port=0, models_dir=tmp_path, max_concurrent_runs=1)
    server = create_server(settings, backend=LocalBackend(settings, NeverReady()))
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        method: Any = channel.stream_stream(REFLECTION)
        stream = method(iter([NO_MESSAGE]), timeout=SECONDS)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stream.read()
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    await server.stop(grace=0)


Description = environment_pb2.DescribeResponse | bytes


def description(space: tensor_pb2.Space, actions: tensor_pb2.Space | None = None) -> environment_pb2.DescribeResponse:
    actions = actions or tensor_pb2.Space(discrete=tensor_pb2.Discrete(n=2))
    spec = environment_pb2.EnvironmentSpec(observation_space=space, action_space=actions)
    return environment_pb2.DescribeResponse(protocol_version=1, spec=spec)


def box(*shape: int) -> tensor_pb2.Space:
    return tensor_pb2.Space(box=tensor_pb2.Box(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=shape))


@pytest.fixture
def simulator() -> Iterator[Callable[[Description], str]]:
    """simulator(description) -> the address of a server that describes itself so."""
    servers = []

    def serve(answer: Description) -> str:
        data = answer if isinstance(answer, bytes) else answer.SerializeToString()
        methods: dict[str, Any] = {"Describe": grpc.unary_unary_rpc_method_handler(lambda _request, _context: data)}
        server = grpc.server(ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)])
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("aisandbox.v1.EnvironmentService", methods),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield serve
    for server in servers:
        server.stop(0)


HOSTILE_DESCRIPTIONS: dict[str, Description] = {
    "large box": description(box(2**31 - 1)),
    "huge extents": description(box(*[HUGE] * 80_000)),
    "dimensions": description(box(*[1] * 400)),
    "large dict": description(
        tensor_pb2.Space(
            dict=tensor_pb2.DictSpace(entries=[tensor_pb2.DictEntry(key=str(i), space=box(2**23)) for i in range(4)])
        )
    ),
    "many entries": description(
        tensor_pb2.Space(
            dict=tensor_pb2.DictSpace(entries=[tensor_pb2.DictEntry(key=str(i), space=box(1)) for i in range(5000)])
        )
    ),
    "zero": description(tensor_pb2.Space(multi_discrete=tensor_pb2.MultiDiscrete(n=[1] * 1_000_000 + [0]))),
    "many bytes": description(box(2)).SerializeToString() + b"\x12" + b"\x80\x80\x80\x04" + bytes(8 << 20),
    "no message": NO_MESSAGE,
}


@pytest.mark.parametrize("name", HOSTILE_DESCRIPTIONS)
def test_description_that_would_take_memory_or_time_is_refused(
    simulator: Callable[[Description], str], name: str
) -> None:
    with pytest.raises(InvalidReply) as refused:
        describe(simulator(HOSTILE_DESCRIPTIONS[name]), SECONDS)
    assert len(str(refused.value)) < 2000


def test_description_over_the_limit_names_it(simulator: Callable[[Description], str]) -> None:
    with pytest.raises(InvalidReply, match=f"more than {LARGEST_SPEC:,} bytes"):
        describe(simulator(bytes(LARGEST_SPEC + 1)), SECONDS)


def test_simulators_beyond_those_asked_at_a_time_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(simulator_checks, "_ask", lambda address, *_: asked.append(address))
    monkeypatch.setattr(simulator_checks, "DESCRIBE_SECONDS", 0.01)
    monkeypatch.setattr(simulator_checks, "_TURNS", threading.Semaphore(1))
    simulator_checks._ask_in_turn("a:1", {})
    with simulator_checks._TURNS:
        simulator_checks._ask_in_turn("b:1", {})
    assert asked == ["a:1"]


async def test_other_calls_are_answered_while_a_hostile_one_is_refused(call: Call) -> None:
    hostile = [asyncio.ensure_future(call(SERVICE + "ActBatch", EMPTY_TENSORS)) for _ in range(3)]
    assert await call(HEALTH, b"")
    refused = await asyncio.gather(*hostile, return_exceptions=True)
    assert {error.code() for error in refused if isinstance(error, grpc.aio.AioRpcError)} == {
        grpc.StatusCode.INVALID_ARGUMENT
    }
