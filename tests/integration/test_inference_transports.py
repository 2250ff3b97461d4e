"""The policy calls with each transport: direct gRPC, gRPC's public synchronous API, and grpc.aio."""

from __future__ import annotations

import asyncio
import itertools
import math
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import policy_trainer_pb2_grpc
from aisandbox_inference import Settings, create_policy_servicer, create_server
from aisandbox_inference.model_cache import IDLE_SECONDS
from aisandbox_model_store import RunStore
from aisandbox_wire.tensors import decode_tensor, encode_tensor
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from onnx_policies import LinearPolicy, publish
from waiting import wait_until

OBSERVATION = [0.25, -0.5, 0.75, 1.0]
POLICY = LinearPolicy()
REQUEST = pb.ActRequest(run_id="r", observation=OBSERVATION)
ACTION = POLICY.act([np.array([OBSERVATION], np.float32)]).ravel().tolist()
ALL = pytest.mark.parametrize("transport", ["direct", "public", "aio"], indirect=True)
SYNCHRONOUS = pytest.mark.parametrize("transport", ["direct", "public"], indirect=True)
DIRECT = pytest.mark.parametrize("transport", ["direct"], indirect=True)


class AioServer:
    """An asyncio server of the policy calls, in a thread of its own."""

    def __init__(self, settings: Settings) -> None:
        self.servicer = create_policy_servicer(settings)
        self._policies = self.servicer._service
        self._loop = asyncio.new_event_loop()
        self._stopped = False
        threading.Thread(target=self._loop.run_forever, daemon=True).start()

    def start(self) -> None:
        self.address = f"127.0.0.1:{self.run(self._start())}"

    async def _start(self) -> int:
        self._server = grpc.aio.server()
        stub: Any = policy_trainer_pb2_grpc.add_PolicyTrainerServiceServicer_to_server
        stub(_Servicer(self.servicer), self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return port

    def stop(self, grace: float) -> None:
        if self._stopped:
            return
        self._stopped = True
        self._loop.call_soon_threadsafe(self.servicer.stop_streams)
        self.run(self._server.stop(grace))
        self.servicer.close()
        self._loop.call_soon_threadsafe(self._loop.stop)

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(30)


_Unimplemented: Any = policy_trainer_pb2_grpc.PolicyTrainerServiceServicer


class _Servicer(_Unimplemented):  # type: ignore[misc]
    def __init__(self, calls: Any) -> None:
        for name in ("Act", "ActBatch", "ActStream", "GetModel", "DescribeModel"):
            setattr(self, name, getattr(calls, name))


@pytest.fixture
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("GRPC_DIRECT", "off" if request.param == "public" else "on")
    return str(request.param)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(models_dir=tmp_path, grpc_port=0, inference_threads=1)


@pytest.fixture
def server(transport: str, settings: Settings) -> Iterator[Any]:
    server = AioServer(settings) if transport == "aio" else create_server(settings)
    server.start()
    yield server
    server.stop(0)


@pytest.fixture
def channel(server: Any) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as channel:
        yield channel


@pytest.fixture
def stub(channel: grpc.Channel) -> policy_trainer_pb2_grpc.PolicyTrainerServiceStub:
    return policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)


class Stream:
    """A stream of ActStream, one request at a time."""

    def __init__(self, stub: policy_trainer_pb2_grpc.PolicyTrainerServiceStub) -> None:
        self.requests: queue.SimpleQueue[pb.ActStreamRequest | None] = queue.SimpleQueue()
        self.call: Any = stub.ActStream(iter(self.requests.get, None))

    def send(self, request: pb.ActRequest) -> None:
        self.requests.put(pb.ActStreamRequest(request=request))

    def ask(self, request: pb.ActRequest) -> pb.ActStreamResponse:
        self.send(request)
        reply: pb.ActStreamResponse = next(self.call)
        return reply

    def end(self) -> grpc.StatusCode:
        self.requests.put(None)
        code: grpc.StatusCode = self.call.code()
        return code


@ALL
def test_every_call_answers(stub: Any, tmp_path: Path) -> None:
    digest = publish(tmp_path, LinearPolicy(padding=(3 << 20) // 2)).digest
    expected = LinearPolicy().act([np.array([OBSERVATION], np.float32)]).ravel().tolist()
    assert list(stub.Act(REQUEST).action) == expected
    batch = stub.ActBatch(
        pb.ActBatchRequest(run_id="r", observations=[encode_tensor(np.array([OBSERVATION] * 3, np.float32))])
    )
    assert decode_tensor(batch.actions).tolist() == expected * 3
    assert stub.DescribeModel(pb.DescribeModelRequest(run_id="r")).model == digest
    parts = list(stub.GetModel(pb.GetModelRequest(run_id="r")))
    assert len(parts) == 2
    assert sum(len(part.part) for part in parts) == parts[0].size
    stream = Stream(stub)
    assert list(stream.ask(REQUEST).response.action) == expected
    assert stream.ask(pb.ActRequest(observation=[math.nan] * 4)).error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert list(stream.ask(pb.ActRequest(observation=OBSERVATION)).response.action) == expected
    assert stream.end() is grpc.StatusCode.OK


@ALL
@pytest.mark.parametrize("call", ["Act", "GetModel"])
def test_error_has_its_details(stub: Any, tmp_path: Path, call: str) -> None:
    publish(tmp_path, POLICY)
    request = REQUEST if call == "Act" else pb.GetModelRequest(run_id="r")
    request = type(request).FromString(request.SerializeToString())
    request.model = "newest"
    with pytest.raises(grpc.RpcError) as caught:
        list(getattr(stub, call)(request)) if call == "GetModel" else stub.Act(request)
    status = rpc_status.from_call(caught.value)
    details = error_details_pb2.BadRequest()
    assert status.details[0].Unpack(details)
    assert details.field_violations[0].field == "model"
    assert status.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


@ALL
def test_slow_policy_answers_every_kind_of_call(stub: Any, tmp_path: Path) -> None:
    slow = LinearPolicy(busy=1200)
    publish(tmp_path, slow)
    expected = slow.act([np.array([OBSERVATION], np.float32)]).ravel().tolist()
    assert list(stub.Act(REQUEST).action) == expected
    assert list(Stream(stub).ask(REQUEST).response.action) == expected
    batch = pb.ActBatchRequest(run_id="r", observations=[encode_tensor(np.array([OBSERVATION], np.float32))])
    assert decode_tensor(stub.ActBatch(batch).actions).tolist() == expected


@pytest.mark.parametrize("transport", ["direct", "aio"], indirect=True)
def test_call_cancelled_while_it_waits_is_not_computed(
    server: Any, stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, LinearPolicy(busy=1200))
    stub.Act(REQUEST)
    threads = server._policies._pool
    submitted: list[Any] = []
    submit, may_continue = threads.submit, threading.Event()
    threads.submit(may_continue.wait, 30)  # the one thread there is

    def submit_and_record(*arguments: Any) -> Any:
        submitted.append(submit(*arguments))
        return submitted[-1]

    monkeypatch.setattr(threads, "submit", submit_and_record)
    calls: list[Any] = [stub.Act.future(REQUEST) for _ in range(3)]
    stream = Stream(stub)
    stream.send(REQUEST)
    wait_until(lambda: len(submitted), lambda count: count == 4, every=0.005)
    for call in (*calls, stream.call):
        call.cancel()
    wait_until(lambda: all(each.cancelled() for each in submitted), every=0.005)
    may_continue.set()
    assert stub.Act(REQUEST).model_timesteps == 100


@ALL
def test_streams_end_between_answer_and_request_when_the_server_stops(server: Any, stub: Any, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    stream = Stream(stub)
    stream.ask(REQUEST)
    stopper = threading.Thread(target=server.stop, args=(1,))
    stopper.start()
    assert stream.call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    stopper.join(20)
    assert not stopper.is_alive()


@SYNCHRONOUS
def test_calls_are_answered_while_a_model_loads(
    server: Any, channel: grpc.Channel, stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, POLICY)
    stub.Act(REQUEST)
    may_continue, begun = threading.Event(), threading.Semaphore(0)
    build = server._policies.models._models._build

    def held(run_id: str, bundle: Any) -> Any:
        begun.release()
        assert may_continue.wait(30)
        return build(run_id, bundle)

    monkeypatch.setattr(server._policies.models._models, "_build", held)
    runs = [f"run-{number}" for number in range(5)]
    for run in runs:
        publish(tmp_path, POLICY, run=run)
    loading = [stub.Act.future(pb.ActRequest(run_id=run, observation=OBSERVATION)) for run in runs]
    for _ in range(2):
        assert begun.acquire(timeout=30)
    seconds = itertools.count(time.monotonic(), IDLE_SECONDS / 5)
    monkeypatch.setattr(server._policies.models, "_clock", lambda: next(seconds))
    for _ in range(30):  # in which the disk is checked for newer models several times
        assert list(stub.Act(REQUEST, timeout=60).action) == ACTION
    check = health_pb2_grpc.HealthStub(channel).Check
    assert check(health_pb2.HealthCheckRequest(), timeout=60).status == health_pb2.HealthCheckResponse.SERVING
    assert not any(call.done() for call in loading)
    may_continue.set()
    assert [list(call.result(30).action) for call in loading] == [ACTION] * 5


@DIRECT
def test_many_streams_need_no_threads(stub: Any, settings: Settings, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    stub.Act(REQUEST)
    server = create_server(settings)
    server.start()
    before = {thread for thread in threading.enumerate() if thread.name.startswith("grpc")}
    with grpc.insecure_channel(server.address) as channel:
        other = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
        streams = [Stream(other) for _ in range(100)]
        for _ in range(2):
            for stream in streams:
                stream.send(REQUEST)
            assert [list(next(stream.call).response.action) for stream in streams] == [ACTION] * 100
        assert {thread for thread in threading.enumerate() if thread.name.startswith("grpc")} == before
        for stream in streams:
            stream.end()
    server.stop(5)


@SYNCHRONOUS
def test_bytes_that_are_not_a_message_end_the_call(channel: grpc.Channel, stub: Any, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    path, raw = "/aisandbox.v1.PolicyTrainerService/", cast("Any", channel)
    calls: list[Callable[[], Any]] = [
        lambda: raw.unary_unary(path + "Act")(b"\xff", timeout=30),
        lambda: list(raw.unary_stream(path + "GetModel")(b"\xff", timeout=30)),
        lambda: list(raw.stream_stream(path + "ActStream")(iter([b"\xff"]), timeout=30)),
    ]
    for call in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert list(stub.Act(REQUEST).action) == ACTION


@SYNCHRONOUS
def test_stream_message_over_the_limit_ends_the_stream_and_no_other_call(
    transport: str, settings: Settings, tmp_path: Path
) -> None:
    publish(tmp_path, POLICY)
    server = create_server(replace(settings, max_message_bytes=1024))
    server.start()
    with grpc.insecure_channel(server.address) as channel:
        stub = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
        stream, other = Stream(stub), Stream(stub)
        other.ask(REQUEST)
        stream.ask(REQUEST)
        with pytest.raises(grpc.RpcError):
            stream.ask(pb.ActRequest(run_id="r", observation=[0.0] * 1000))
        assert stream.call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert list(other.ask(REQUEST).response.action) == ACTION
        assert other.end() is grpc.StatusCode.OK
    server.stop(5)


@SYNCHRONOUS
def test_client_that_disappears_does_not_delay_the_stop(server: Any, stub: Any, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    publish(tmp_path, LinearPolicy(padding=8 << 20), run="big")
    with grpc.insecure_channel(server.address) as channel:
        other = policy_trainer_pb2_grpc.PolicyTrainerServiceStub(channel)
        for _ in range(5):
            Stream(other).ask(REQUEST)
        next(other.GetModel(pb.GetModelRequest(run_id="big")))
    assert list(stub.Act(REQUEST).action) == ACTION
    start = time.monotonic()
    server.stop(120)
    assert time.monotonic() - start < 60


@DIRECT
def test_exception_in_a_call_ends_that_call_only(
    server: Any, stub: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, POLICY)

    def broken(*_: Any) -> None:
        raise RuntimeError("secret")

    monkeypatch.setattr("aisandbox_process.grpc_direct.server_call.UnaryCall._reply", broken)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Act(REQUEST, timeout=30)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in (caught.value.details() or "")
    monkeypatch.undo()
    assert list(stub.Act(REQUEST).action) == ACTION


@pytest.mark.parametrize("transport", ["aio"], indirect=True)
def test_servicer_knows_whether_a_run_can_act(server: Any, tmp_path: Path) -> None:
    publish(tmp_path, POLICY)
    RunStore(tmp_path).run("empty").claim(1)
    answers = [server.run(server.servicer.can_act(run)) for run in ("r", "empty", "none")]
    assert answers == [True, False, None], "the api-server's health service calls it"
