"""Simulators that attach to a relay, message by message, and trainers that use their pools, for tests.

For one event loop. Must not know what the relay does with the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import grpc
from aisandbox.v1 import environment_pb2, environment_pb2_grpc, simulator_pool_pb2, simulator_pool_pb2_grpc
from aisandbox_environment import POOL_METADATA, AdapterSimulation, FakeExternalEnvAdapter, SimulatorRelay
from aisandbox_environment.session_handler import Capacity, SessionHandler
from aisandbox_process.grpc_direct import StreamAborted, async_streams
from aisandbox_process.local_streams import IS_AVAILABLE, LocalStreamServer
from socket_call import SocketCall

SECONDS = 60.0
"""How long a test waits for a message."""

SIMULATION = AdapterSimulation(FakeExternalEnvAdapter)
POOL = "arena"
LARGEST_MESSAGE = 4 * 1024 * 1024

Metadata = tuple[tuple[str, str], ...]
AttachRequest = simulator_pool_pb2.AttachRequest
SimulatorRequest = environment_pb2.SimulatorRequest


def registration(instance: str = "one", **fields: Any) -> AttachRequest:
    """A `register` of the pool :data:`POOL` with these fields; by default of one environment of the fake one."""
    values = {"pool": POOL, "protocol_version": 1, "environments": 1, "spec": SIMULATION.spec.to_proto(), **fields}
    return AttachRequest(register=simulator_pool_pb2.RegisterSimulator(instance=instance, **values))


async def read(call: Any) -> Any:
    """The next message of a stream; EOF if it has ended, with whatever status."""
    try:
        return await asyncio.wait_for(call.read(), SECONDS)
    except grpc.aio.AioRpcError:
        return grpc.aio.EOF


async def write(call: Any, message: Any) -> None:
    """Sends a message; nothing if the stream has ended."""
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        await asyncio.wait_for(call.write(message), SECONDS)


class AttachedSimulator:
    """One stream of Attach."""

    def __init__(self, channel: grpc.aio.Channel, metadata: Any = None) -> None:
        self.call: Any = simulator_pool_pb2_grpc.SimulatorPoolServiceStub(channel).Attach(metadata=metadata)

    async def send(self, message: AttachRequest) -> None:
        """Sends one message, unless the stream has ended."""
        await write(self.call, message)

    async def receive(self) -> Any:
        """The next message: an AttachResponse, or EOF."""
        return await read(self.call)

    async def attach(self, message: AttachRequest) -> Any:
        """Registers; returns the answer."""
        await self.send(message)
        return await self.receive()

    async def serve(self, answers: int | None = None) -> None:
        """Answers requests as a simulator does, and the end of each session; returns after so many ``answers``."""
        handler = SessionHandler(SIMULATION, Capacity(0))
        while answers is None or answers > 0:
            message = await self.call.read()
            if message is grpc.aio.EOF:
                return
            if message.WhichOneof("message") == "session_ended":
                handler.close()
                handler = SessionHandler(SIMULATION, Capacity(0))
                await self.call.write(AttachRequest(session_ended=simulator_pool_pb2.SessionEnded()))
            else:
                await self._answer(handler, message.request)
            answers = None if answers is None else answers - 1

    async def _answer(self, handler: SessionHandler, request: SimulatorRequest) -> None:
        try:
            reply = handler.handle(request.SerializeToString())
        except StreamAborted as status:
            number: Any = status.code.value[0]
            ended = simulator_pool_pb2.SessionEnded(code=number, message=status.details)
            await self.call.write(AttachRequest(session_ended=ended))
        else:
            await self.call.write(AttachRequest(reply=environment_pb2.SimulatorReply.FromString(reply)))

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """The status of the stream once it has ended; messages before it are discarded."""
        while await read(self.call) is not grpc.aio.EOF:
            pass
        code = await asyncio.wait_for(self.call.code(), SECONDS)
        return code, await self.call.details()


_SOCKETS: WeakKeyDictionary[grpc.aio.Channel, Path] = WeakKeyDictionary()
"""The Unix sockets of the relays that the channels lead to."""


class PoolSession:
    """One Session of a trainer with a simulator of a pool: by gRPC, or over the relay's Unix socket."""

    by_socket = False

    def __init__(self, channel: grpc.aio.Channel, pool: str = POOL, metadata: Metadata = ()) -> None:
        metadata = ((POOL_METADATA, pool), *metadata) if pool else metadata
        self.call: Any
        if self.by_socket:
            self.call = SocketCall(_SOCKETS[channel], metadata)
        else:
            self.call = environment_pb2_grpc.EnvironmentServiceStub(channel).Session(metadata=metadata)

    async def ask(self, request: SimulatorRequest) -> Any:
        """The reply to a request, or EOF."""
        await write(self.call, request)
        return await read(self.call)

    async def open(self, at_most: int = 1, **fields: Any) -> Any:
        """Opens the session; returns the reply."""
        opening = environment_pb2.OpenRequest(protocol_version=1, environments=at_most, **fields)
        return await self.ask(SimulatorRequest(open=opening))

    async def reset(self) -> Any:
        """Starts the episodes; returns the reply."""
        return await self.ask(SimulatorRequest(reset=environment_pb2.ResetRequest()))

    async def finish(self) -> tuple[grpc.StatusCode, str]:
        """Ends the session normally; returns the status."""
        await self.call.done_writing()
        return await self.status()

    async def status(self) -> tuple[grpc.StatusCode, str]:
        """The status of the stream once it has ended; messages before it are discarded."""
        while await read(self.call) is not grpc.aio.EOF:
            pass
        code = await asyncio.wait_for(self.call.code(), SECONDS)
        return code, await self.call.details()


@contextlib.asynccontextmanager
async def serving(
    channel: grpc.aio.Channel, *registrations: AttachRequest, metadata: Metadata = ()
) -> AsyncIterator[list[AttachedSimulator]]:
    """Simulators that are attached and answer in the background."""
    simulators = [AttachedSimulator(channel, metadata) for _ in registrations]
    for simulator, register in zip(simulators, registrations, strict=True):
        answer = await simulator.attach(register)
        assert answer is not grpc.aio.EOF, await simulator.status()
    tasks = [asyncio.create_task(simulator.serve()) for simulator in simulators]
    try:
        yield simulators
    finally:
        for simulator, task in zip(simulators, tasks, strict=True):
            simulator.call.cancel()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def serve(relay: SimulatorRelay) -> AsyncIterator[tuple[str, grpc.aio.Channel]]:
    """Serves a relay on a port, and its sessions on a Unix socket; gives its address and a channel to it."""
    server, streams = grpc.aio.server(), await async_streams()
    for service, names in (
        ("SimulatorPoolService", {"Attach": True, "ListSimulators": False}),
        ("EnvironmentService", {"Session": True, "Describe": False}),
    ):
        methods: dict[str, Any] = {
            name: (grpc.stream_stream_rpc_method_handler if streams else grpc.unary_unary_rpc_method_handler)(
                getattr(relay, name)
            )
            for name, streams in names.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(f"aisandbox.v1.{service}", methods),))
    for name in ("SimulatorPoolService/Attach", "EnvironmentService/Session"):
        streams.take_over(server, f"/aisandbox.v1.{name}", getattr(relay, name.partition("/")[2]), ())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    streams.start()
    sessions = LocalStreamServer(relay.serve_session, LARGEST_MESSAGE)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        if IS_AVAILABLE:
            _SOCKETS[channel] = sessions.open()
        yield f"127.0.0.1:{port}", channel
    await sessions.close()
    await server.stop(0)
    await streams.close()


async def simulators_of(channel: grpc.aio.Channel, pool: str = POOL, metadata: Metadata = ()) -> list[Any]:
    """What ListSimulators returns."""
    stub: Any = simulator_pool_pb2_grpc.SimulatorPoolServiceStub(channel)
    response = await stub.ListSimulators(simulator_pool_pb2.ListSimulatorsRequest(pool=pool), metadata=metadata)
    return list(response.simulators)


async def describe(channel: grpc.aio.Channel, pool: str = POOL) -> environment_pb2.DescribeResponse:
    """What Describe returns for the pool."""
    stub: Any = environment_pb2_grpc.EnvironmentServiceStub(channel)
    metadata = ((POOL_METADATA, pool),) if pool else ()
    response: environment_pb2.DescribeResponse = await stub.Describe(
        environment_pb2.DescribeRequest(), metadata=metadata
    )
    return response
