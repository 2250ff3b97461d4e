"""The calls about policies while inference-servers come and go: an api-server follows the EndpointSlices of a Service.

The inference-servers are small gRPC servers that say which of them has answered; the cluster is FakeKubernetes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_api import Settings, create_server
from aisandbox_api.client_port import POLICY_TRAINER
from aisandbox_api.errors import StartupError
from aisandbox_api.kubernetes import KubernetesBackend
from aisandbox_api.method_handlers import handlers
from aisandbox_api.metrics import Metrics
from fake_kubernetes import NAMESPACE, FakeKubernetes
from kubernetes.aio.client import Configuration

SERVICE = "inference"
PATIENCE_SECONDS = 60.0


class InferenceServer:
    """Answers with its name as the model; with ``fails`` every call ends with that status."""

    def __init__(self, name: str, fails: grpc.StatusCode | None = None) -> None:
        self.name = name
        self.calls = 0
        self.fails = fails
        self.port = 0
        self._server: Any = grpc.aio.server()

    async def start(self) -> InferenceServer:
        methods = handlers(POLICY_TRAINER, self)
        handler = grpc.method_handlers_generic_handler(POLICY_TRAINER.full_name, methods)
        self._server.add_generic_rpc_handlers((handler,))
        self.port = self._server.add_insecure_port("127.0.0.1:0")
        await self._server.start()
        return self

    async def stop(self) -> None:
        await self._server.stop(5)

    async def Act(self, request: pb.ActRequest, context: Any) -> pb.ActResponse:
        self.calls += 1
        if self.fails is not None:
            await context.abort(self.fails, "as the test says")
        return pb.ActResponse(model=self.name)

    async def ActStream(self, requests: Any, context: Any) -> AsyncIterator[pb.ActStreamResponse]:
        async for _ in requests:
            yield pb.ActStreamResponse(response=pb.ActResponse(model=self.name))


@pytest.fixture
async def cluster() -> AsyncIterator[FakeKubernetes]:
    cluster = FakeKubernetes()
    await cluster.start()
    yield cluster
    await cluster.stop()


@pytest.fixture
async def servers() -> AsyncIterator[Callable[..., Any]]:
    """Starts an inference-server."""
    started: list[InferenceServer] = []

    async def start(name: str, fails: grpc.StatusCode | None = None) -> InferenceServer:
        started.append(await InferenceServer(name, fails).start())
        return started[-1]

    yield start
    for server in started:
        await server.stop()


@pytest.fixture
async def connect(cluster: FakeKubernetes, tmp_path: Path) -> AsyncIterator[Callable[[], Any]]:
    """Starts the service and connects to it; its inference-servers are those of the Service at that time."""
    async with asyncio.timeout(PATIENCE_SECONDS * 3), _Stack() as stack:

        async def load() -> Configuration:
            return Configuration(host=cluster.url)

        async def start() -> PolicyTrainerServiceStub:
            settings = Settings(
                grpc_port=0,
                models_dir=tmp_path,
                backend="kubernetes",
                pod_namespace=NAMESPACE,
                inference_address=f"kubernetes:///{SERVICE}:grpc",
            )
            server = create_server(settings, backend=KubernetesBackend(settings, Metrics(), load))
            await server.start()
            stack.push(server.stop, 0)
            channel = grpc.aio.insecure_channel(server.address)
            stack.push(channel.close)
            return PolicyTrainerServiceStub(channel)

        yield start


class _Stack:
    """What is to be awaited at the end, the last first."""

    def __init__(self) -> None:
        self._closes: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []

    def push(self, close: Callable[..., Any], *arguments: Any) -> None:
        self._closes.append((close, arguments))

    async def __aenter__(self) -> _Stack:
        return self

    async def __aexit__(self, *_: object) -> None:
        for close, arguments in reversed(self._closes):
            await close(*arguments)


async def act(stub: Any) -> str:
    answer = await stub.Act(pb.ActRequest(run_id="r", observation=[0.0]), timeout=PATIENCE_SECONDS)
    return str(answer.model)


class Acting:
    """Acts all the time with one try a call, and counts who has answered."""

    def __init__(self, stub: Any) -> None:
        self.answers: Counter[str] = Counter()
        self._stub = stub
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            self.answers[await act(self._stub)] += 1
            await asyncio.sleep(0.005)

    async def until(self, holds: Callable[[Counter[str]], bool]) -> None:
        """Waits; raises what a call has raised."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not holds(self.answers):
                if self._task.done():
                    await self._task
                await asyncio.sleep(0.02)

    async def until_only(self, names: set[str], more: int = 50) -> None:
        """Waits until the next ``more`` answers come from all of these and from no other."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                before = self.answers.copy()
                await self.until(lambda now, before=before: now.total() - before.total() >= more)  # type: ignore[misc]
                if set(self.answers - before) == names:
                    return

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            await self._task


async def test_rollout_of_the_inference_servers_fails_no_call(
    cluster: FakeKubernetes, servers: Any, connect: Any
) -> None:
    old = [await servers("a"), await servers("b")]
    cluster.set_endpoints(SERVICE, *(each.port for each in old))
    acting = Acting(await connect())
    await acting.until_only({"a", "b"})
    new = [await servers("c"), await servers("d")]
    cluster.set_endpoints(SERVICE, new[0].port, old[1].port, ending=old[0].port)
    await acting.until_only({"b", "c"})
    await old[0].stop()
    cluster.set_endpoints(SERVICE, *(each.port for each in new), ending=old[1].port)
    await acting.until_only({"c", "d"})
    await old[1].stop()
    await acting.until_only({"c", "d"})
    await acting.stop()


@pytest.mark.parametrize("status", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED])
async def test_call_that_a_stopping_server_drops_is_answered_by_another(
    cluster: FakeKubernetes, servers: Any, connect: Any, status: grpc.StatusCode
) -> None:
    bad, good = await servers("bad", status), await servers("good")
    cluster.set_endpoints(SERVICE, bad.port, good.port)
    stub = await connect()
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not bad.calls:
            assert await act(stub) == "good"


async def test_server_that_ends_is_asked_while_no_other_is_ready(
    cluster: FakeKubernetes, servers: Any, connect: Any
) -> None:
    cluster.set_endpoints(SERVICE, ending=(await servers("last")).port)
    assert await act(await connect()) == "last"


async def test_call_without_any_server_is_unavailable_and_says_whose(
    cluster: FakeKubernetes, servers: Any, connect: Any
) -> None:
    stub = await connect()
    with pytest.raises(grpc.aio.AioRpcError) as refusal:
        await act(stub)
    assert refusal.value.code() is grpc.StatusCode.UNAVAILABLE
    assert refusal.value.details() == f"no inference-server of kubernetes:///{SERVICE}:grpc is ready"
    cluster.set_endpoints(SERVICE, (await servers("first")).port)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            try:
                assert await act(stub) == "first"
                return
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)


async def test_servers_stay_known_while_the_cluster_does_not_answer(
    cluster: FakeKubernetes, servers: Any, connect: Any
) -> None:
    cluster.set_endpoints(SERVICE, (await servers("a")).port)
    acting = Acting(await connect())
    await acting.until_only({"a"})
    cluster.refuse_all = True
    asked = cluster.count("GET", "endpointslices")
    async with asyncio.timeout(PATIENCE_SECONDS):
        while cluster.count("GET", "endpointslices") < asked + 4:  # noqa: ASYNC110 - a count of the other end
            await asyncio.sleep(0.05)
    await acting.until_only({"a"})
    await acting.stop()


async def test_stream_goes_on_at_its_server_after_the_others_have_changed(
    cluster: FakeKubernetes, servers: Any, connect: Any
) -> None:
    first = await servers("first")
    cluster.set_endpoints(SERVICE, first.port)
    stub = await connect()
    stream = stub.ActStream()
    await stream.write(pb.ActStreamRequest())
    assert (await stream.read()).response.model == "first"
    cluster.set_endpoints(SERVICE, (await servers("second")).port, ending=first.port)
    acting = Acting(stub)
    await acting.until_only({"second"})
    await acting.stop()
    await stream.write(pb.ActStreamRequest())
    assert (await stream.read()).response.model == "first"
    await stream.done_writing()


@pytest.mark.parametrize(
    ("address", "rule"),
    [
        (f"kubernetes:///{SERVICE}:grpc", "only with BACKEND kubernetes"),
        (f"kubernetes:///{SERVICE}.games:grpc", "must be host:port or kubernetes:///SERVICE:PORT"),
        (f"kubernetes://{SERVICE}:grpc", "must be host:port or kubernetes:///SERVICE:PORT"),
    ],
)
async def test_address_of_a_service_that_cannot_be_followed_is_refused(tmp_path: Path, address: str, rule: str) -> None:
    settings = Settings(grpc_port=0, models_dir=tmp_path, inference_address=address)
    with pytest.raises(StartupError, match=f"INFERENCE_ADDRESS {address}: {rule}"):
        await create_server(settings).start()


class Peers:
    """Answers Act, and knows from which connections it was asked."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    async def Act(self, request: pb.ActRequest, context: Any) -> pb.ActResponse:
        self.seen.add(context.peer())
        return pb.ActResponse(model="any")

    ActBatch = ActStream = GetModel = DescribeModel = Act


async def test_client_that_is_asked_to_connect_again_loses_no_call(tmp_path: Path) -> None:
    peers = Peers()
    settings = Settings(grpc_port=0, models_dir=tmp_path, max_connection_age_seconds=0.2)
    server = create_server(settings, policy_calls=peers)
    await server.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS), grpc.aio.insecure_channel(server.address) as channel:
            stub = PolicyTrainerServiceStub(channel)
            while len(peers.seen) < 5:
                assert await act(stub) == "any"
    finally:
        await server.stop(grace=0)
