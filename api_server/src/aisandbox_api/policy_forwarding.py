"""PolicyTrainerService's calls about policies, if another process answers them or none does.

Owns the forwarder to the inference-servers, which does not parse messages, and the refusal if there is no
inference-server. Must not know models, nor who says where the inference-servers are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Set
from typing import Any, NoReturn, TypeAlias

import grpc
from aisandbox_process.grpc_options import channel_options
from aisandbox_process.grpc_tls import open_aio_channel
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity
from aisandbox_wire import model_health_service
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aisandbox_api.backend import Backend
from aisandbox_api.errors import FailedPrecondition
from aisandbox_api.requests import given_run_id
from aisandbox_api.status_codes import abort_on_error

SERVICE = "/aisandbox.v1.PolicyTrainerService/"
Context = grpc.aio.ServicerContext[Any, Any]
Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

AUTHORIZATION = "authorization"

_RETRIED = [
    {"service": SERVICE.strip("/"), "method": name} for name in ("Act", "ActBatch", "DescribeModel", "GetModel")
]
_RETRY_POLICY = {
    "maxAttempts": 5,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
    # A server that has begun to stop when a call arrives cancels it.
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
_CHANNEL_OPTIONS = [
    *channel_options(ping_seconds=30, reconnect_seconds=2),
    ("grpc.lb_policy_name", "round_robin"),  # over every address of a headless Service
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),  # gRPC's 30 s would outlast a rollout
    # These calls only read, so another server may be asked again; what is larger than the buffer is tried once.
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": _RETRIED, "retryPolicy": _RETRY_POLICY}]})),
    ("grpc.per_rpc_retry_buffer_size", 4 * 1024 * 1024),
]


class _Connection:
    """A channel, its methods, and how many calls it has; closed when it is retired and has none."""

    def __init__(self, target: str, security: ChannelSecurity) -> None:
        self._channel = open_aio_channel(target, security, _CHANNEL_OPTIONS)
        self.act: Any = self._channel.unary_unary(SERVICE + "Act")
        self.act_batch: Any = self._channel.unary_unary(SERVICE + "ActBatch")
        self.act_stream: Any = self._channel.stream_stream(SERVICE + "ActStream")
        self.get_model: Any = self._channel.unary_stream(SERVICE + "GetModel")
        self.describe_model: Any = self._channel.unary_unary(SERVICE + "DescribeModel")
        self.health = health_pb2_grpc.HealthStub(self._channel)
        self._calls = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def call(self) -> Iterator[_Connection]:
        """A call is under way in the block."""
        self._calls += 1
        self._idle.clear()
        try:
            yield self
        finally:
            self._calls -= 1
            if not self._calls:
                self._idle.set()

    async def retire(self) -> None:
        """Waits for the last call and closes."""
        await self._idle.wait()
        await self._channel.close()

    async def close(self) -> None:
        """Closes at once."""
        await self._channel.close()


class PolicyForwarder:
    """Forwards the five calls to the inference-servers, with deadlines, cancellation and metadata.

    ``address``: where they are, as gRPC understands it; or, with ``follows``, what they are called in errors, and
    :meth:`use` says where they are. ``security``: of the channels to them. ``token``: this service's own, as metadata,
    which replaces that of the client; empty: theirs is passed on. Takes and returns serialized messages. Must
    be created in the event loop that uses it. Raises InvalidChannelSecurity.
    """

    def __init__(
        self,
        address: str,
        *,
        follows: bool = False,
        security: ChannelSecurity = PLAINTEXT,
        token: Callable[[], Metadata] = tuple,
    ) -> None:
        self._address = address
        self._token = token
        self._security = security
        self._target = "" if follows else address
        self._connection: _Connection | None = None
        self.connect_again()
        self._retiring: set[asyncio.Task[None]] = set()
        self._act_streams = 0
        self._stopping = asyncio.Event()

    def use(self, addresses: Set[str]) -> None:
        """New calls go to these, host:port; calls under way stay where they are.

        gRPC's channels share connections to an address, so those that stay are not opened again. Raises
        InvalidChannelSecurity.
        """
        self._target = _target(addresses) if addresses else ""
        self.connect_again()

    def connect_again(self) -> None:
        """New calls use a new channel, which reads the files of ``security`` again; calls under way stay.

        Raises InvalidChannelSecurity.
        """
        connection = _Connection(self._target, self._security) if self._target else None
        before, self._connection = self._connection, connection
        if before is not None:
            task = asyncio.create_task(before.retire())
            self._retiring.add(task)
            task.add_done_callback(self._retiring.discard)

    async def can_act(self, run_id: str, context: Context) -> bool | None:
        """Whether the inference-server serves the run's latest policy; None if it knows no such run."""
        if self._connection is None:
            return False
        request = health_pb2.HealthCheckRequest(service=model_health_service(run_id))
        with self._connection.call() as connection:
            try:
                answer = await connection.health.Check(request, metadata=self._metadata(context))
            except grpc.aio.AioRpcError as error:
                return None if error.code() is grpc.StatusCode.NOT_FOUND else False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def Act(self, request: bytes, context: Context) -> bytes:  # noqa: N802
        """See the proto."""
        return await self._unary("act", request, context)

    async def ActBatch(self, request: bytes, context: Context) -> bytes:  # noqa: N802
        """See the proto."""
        return await self._unary("act_batch", request, context)

    async def DescribeModel(self, request: bytes, context: Context) -> bytes:  # noqa: N802
        """See the proto."""
        return await self._unary("describe_model", request, context)

    async def GetModel(self, request: bytes, context: Context) -> AsyncIterator[bytes]:  # noqa: N802
        """See the proto."""
        async for reply in self._stream("get_model", request, context):
            yield reply

    async def ActStream(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:  # noqa: N802
        """See the proto."""
        self._act_streams += 1
        try:
            call = self._stream("act_stream", requests, context)
            async with contextlib.aclosing(call):
                while (reply := await self._reply_or_stop(call)) is not None:
                    yield reply
        finally:
            self._act_streams -= 1
        if self._stopping.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is stopping: open the stream again")

    def stop_streams(self) -> bool:
        """Ends every ActStream with UNAVAILABLE, and returns whether there were any.

        Their clients may be writing: the connections must stay open until what they have written is read, because a
        client whose write fails does not read the status any more.
        """
        self._stopping.set()
        return self._act_streams > 0

    async def _reply_or_stop(self, replies: AsyncGenerator[bytes, None]) -> bytes | None:
        """The next reply; None at the end of the replies, or when the service stops."""
        reply = asyncio.ensure_future(anext(replies, None))
        stop = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((reply, stop), return_when=asyncio.FIRST_COMPLETED)
            return await reply if reply.done() else None
        finally:
            stop.cancel()
            if not reply.done():
                reply.cancel()
                await asyncio.wait((reply,))

    async def close(self) -> None:
        """Ends the connections."""
        for task in self._retiring:
            task.cancel()
        if self._connection is not None:
            await self._connection.close()

    async def _unary(self, name: str, request: bytes, context: Context) -> bytes:
        with (await self._connected(context)).call() as connection:
            method = getattr(connection, name)
            try:
                reply: bytes = await method(request, timeout=context.time_remaining(), metadata=self._metadata(context))
            except grpc.aio.AioRpcError as error:
                await self._abort(error, context)
        return reply

    async def _stream(self, name: str, requests: Any, context: Context) -> AsyncGenerator[bytes, None]:
        with (await self._connected(context)).call() as connection:
            method = getattr(connection, name)
            call = method(requests, timeout=context.time_remaining(), metadata=self._metadata(context))
            try:
                async for reply in call:
                    yield reply
            except grpc.aio.AioRpcError as error:
                await self._abort(error, context)
            finally:
                call.cancel()  # the client has disconnected; no effect otherwise

    def _metadata(self, context: Context) -> Metadata | None:
        own = self._token()
        given = _client_metadata(context)
        return (*((key, value) for key, value in given if key != AUTHORIZATION or not own), *own) or None

    async def _connected(self, context: Context) -> _Connection:
        if self._connection is None:
            details = f"no inference-server of {self._address} is ready"
            await context.abort(grpc.StatusCode.UNAVAILABLE, details)
        return self._connection

    async def _abort(self, error: grpc.aio.AioRpcError, context: Context) -> NoReturn:
        code, details = error.code(), error.details() or ""
        if code is grpc.StatusCode.CANCELLED:  # by a server that stops: a client that cancels is never answered
            code = grpc.StatusCode.UNAVAILABLE
        if code is grpc.StatusCode.UNAVAILABLE:
            details = f"the inference-server at {self._address} is not available: {details}"
        await context.abort(code, details, tuple(error.trailing_metadata() or ()))


def _target(addresses: Set[str]) -> str:
    """All of them as one target of gRPC; they are of one family."""
    family = "ipv6" if any(each.startswith("[") for each in addresses) else "ipv4"
    return f"{family}:{','.join(sorted(addresses))}"


def _client_metadata(context: Context) -> Metadata:
    """The client's own metadata; grpc-* and the user agent belong to the connection."""
    metadata = context.invocation_metadata() or ()
    return tuple((key, value) for key, value in metadata if key != "user-agent" and not key.startswith("grpc-"))


class PolicyRefuser:
    """Refuses the five calls, because no inference-server is configured."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def can_act(self, run_id: str) -> bool | None:
        """None for every run."""
        return None

    async def Act(self, request: Any, context: Context) -> Any:  # noqa: N802
        """See the proto."""
        await self._refuse(request.run_id, context)

    ActBatch = DescribeModel = Act

    async def GetModel(self, request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """See the proto."""
        await self._refuse(request.run_id, context)
        yield

    async def ActStream(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:  # noqa: N802
        """See the proto."""
        async for first in requests:
            await self._refuse(first.request.run_id, context)
            yield

    async def _refuse(self, run: str, context: Context) -> None:
        async with abort_on_error(context):
            await self._backend.get(given_run_id(run))
            raise _no_inference_server()


def _no_inference_server() -> FailedPrecondition:
    message = (
        "this service has no inference-server: start one and set INFERENCE_ADDRESS to its host:port, or start the "
        "service with `aisandbox up`, which includes one"
    )
    return FailedPrecondition("NoInferenceServer", "INFERENCE_ADDRESS", message)
