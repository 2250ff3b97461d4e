"""The five calls of PolicyTrainerService that act with published policies, for a grpc.aio server.

Owns the coroutines that such a server calls, and how its streams end; policy_service.py has what the calls do.
`aisandbox up` serves them beside the training calls. The inference-server answers in the thread that polls instead.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, NoReturn, TypeVar

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_process.coroutines import FutureCoroutine, run_in_event_loop
from google.rpc import status_pb2
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from aisandbox_inference.errors import Stopping
from aisandbox_inference.policy_service import PolicyService, create_policy_service
from aisandbox_inference.settings import Settings
from aisandbox_inference.status_codes import status_of

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")


class PolicyServicer:
    """The servicer; its methods belong to one event loop."""

    def __init__(self, service: PolicyService) -> None:
        self._service = service
        self._stopping = False
        self._streams = 0
        self._idle_streams: set[asyncio.Task[Any] | None] = set()

    def stop_streams(self) -> bool:
        """End every stream after the reply to its current request, with UNAVAILABLE: the client opens a new one.

        Returns whether there are any.
        """
        self._stopping = True
        any_streams = self._streams > 0
        for task in self._idle_streams:
            if task is not None:
                task.cancel()
        return any_streams

    def close(self) -> None:
        """Release the threads; calls that are running still finish."""
        self._service.close()

    async def can_act(self, run_id: str) -> bool | None:
        """See PolicyService.can_act."""
        return await run_in_event_loop(self._service.can_act(run_id))

    async def Act(self, request: pb.ActRequest, context: Context) -> pb.ActResponse:  # noqa: N802 -- the service's name
        """See PolicyService.act."""
        return await self._run("Act", self._service.act(request), context)

    async def ActBatch(self, request: pb.ActBatchRequest, context: Context) -> pb.ActBatchResponse:  # noqa: N802
        """See PolicyService.act_batch."""
        return await self._run("ActBatch", self._service.act_batch(request), context)

    async def DescribeModel(  # noqa: N802
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        """See PolicyService.describe_model."""
        return await self._run("DescribeModel", self._service.describe_model(request), context)

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Context
    ) -> AsyncIterator[pb.GetModelResponse]:
        """See PolicyService.get_model."""
        for part in await self._run("GetModel", self._service.get_model(request), context):
            yield part

    async def ActStream(  # noqa: N802
        self, requests: AsyncIterable[pb.ActStreamRequest], context: Context
    ) -> AsyncIterator[pb.ActStreamResponse]:
        """Reply to each request of a stream, in order."""
        task = asyncio.current_task()
        stream = self._service.act_stream()
        self._idle_streams.add(task)
        self._streams += 1
        try:
            async for message in requests:
                self._idle_streams.discard(task)
                yield await run_in_event_loop(stream.reply(message))
                if self._stopping:
                    await _abort(context, status_of(Stopping()))
                self._idle_streams.add(task)
        except asyncio.CancelledError:
            if not self._stopping or task is None:
                raise
            task.uncancel()
            await _abort(context, status_of(Stopping()))
        finally:
            self._streams -= 1
            self._idle_streams.discard(task)

    async def _run(self, call: str, coroutine: FutureCoroutine[T], context: Context) -> T:
        try:
            return await run_in_event_loop(coroutine)
        except Exception as error:
            await _abort(context, self._service.error_status(call, error))


async def _abort(context: Context, status: status_pb2.Status) -> NoReturn:
    """End the call with ``status``, its details included."""
    grpc_status = rpc_status.to_status(status)
    await context.abort(grpc_status.code, grpc_status.details, grpc_status.trailing_metadata)
    raise AssertionError("abort returned")


def create_policy_servicer(settings: Settings, registry: CollectorRegistry | None = None) -> PolicyServicer:
    """Return a servicer of the five calls, with metrics in ``registry`` (None: not exported).

    For one event loop. The caller calls ``stop_streams`` when it begins to stop and ``close`` when it has stopped.
    """
    return PolicyServicer(create_policy_service(settings, registry))


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the ``loop_factory`` of asyncio.Runner with which the calls are fastest: uvloop's, or None on Windows.

    With uvloop a reply on a stream takes three quarters of the time (bench/act.py).
    """
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop
