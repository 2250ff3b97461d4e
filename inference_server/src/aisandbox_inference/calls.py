"""The five calls of PolicyTrainerService that act with published policies, for an asyncio server.

Owns the coroutines that such a server calls, and how its streams end. What the calls mean is answers.py's: `aisandbox
up` serves them so beside the training calls, and the inference-server in its own way.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, NoReturn, TypeVar

import grpc
from aisandbox.v1 import policy_trainer_pb2 as pb
from prometheus_client import CollectorRegistry

from aisandbox_inference.answers import Answers, create_answers
from aisandbox_inference.errors import Stopping
from aisandbox_inference.settings import Settings
from aisandbox_inference.statuses import abort, status_of
from aisandbox_inference.waiting import Work, awaited

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")


class PolicyCalls:
    """The servicer; all of it for one event loop."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._stopping = False
        self._waiting: set[asyncio.Task[Any] | None] = set()

    def stop_streams(self) -> None:
        """End every stream between an answer and the next request, with UNAVAILABLE: a client opens one elsewhere."""
        self._stopping = True
        for task in self._waiting:
            if task is not None:
                task.cancel()

    def close(self) -> None:
        """Let go of threads; policies that are in use go on."""
        self._answers.close()

    async def can_act(self, run_id: str) -> bool | None:
        """See Answers.can_act."""
        return await awaited(self._answers.can_act(run_id))

    async def Act(self, request: pb.ActRequest, context: Context) -> pb.ActResponse:  # noqa: N802 -- the service's name
        """See Answers.act."""
        return await self._finish("Act", self._answers.act(request), context)

    async def ActBatch(self, request: pb.ActBatchRequest, context: Context) -> pb.ActBatchResponse:  # noqa: N802
        """See Answers.act_batch."""
        return await self._finish("ActBatch", self._answers.act_batch(request), context)

    async def DescribeModel(  # noqa: N802
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        """See Answers.describe_model."""
        return await self._finish("DescribeModel", self._answers.describe_model(request), context)

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Context
    ) -> AsyncIterator[pb.GetModelResponse]:
        """See Answers.get_model."""
        for part in await self._finish("GetModel", self._answers.get_model(request), context):
            yield part

    async def ActStream(  # noqa: N802
        self, requests: AsyncIterable[pb.ActStreamRequest], context: Context
    ) -> AsyncIterator[pb.ActStreamResponse]:
        """Answer each observation of a stream in its turn."""
        task = asyncio.current_task()
        conversation = self._answers.conversation()
        self._waiting.add(task)
        try:
            async for message in requests:
                self._waiting.discard(task)
                yield await awaited(conversation.reply(message))
                if self._stopping:
                    await abort(context, status_of(Stopping()))
                self._waiting.add(task)
        except asyncio.CancelledError:
            if not self._stopping or task is None:
                raise
            task.uncancel()
            await abort(context, status_of(Stopping()))
        finally:
            self._waiting.discard(task)

    async def _finish(self, call: str, work: Work[T], context: Context) -> T:
        try:
            return await awaited(work)
        except Exception as error:
            await self._refuse(call, error, context)

    async def _refuse(self, call: str, error: Exception, context: Context) -> NoReturn:
        await abort(context, self._answers.refusal(call, error))


def create_policy_calls(settings: Settings, registry: CollectorRegistry | None = None) -> PolicyCalls:
    """Return the five calls for an asyncio server of the caller's, with metrics in ``registry`` (None: nobody reads).

    For one event loop. The caller calls ``stop_streams`` when it begins to stop and ``close`` when it has stopped.
    """
    return PolicyCalls(create_answers(settings, registry))
