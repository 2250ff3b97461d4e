"""The five calls of PolicyTrainerService that act with published policies.

Owns what a request means and how it is answered. Must not know files, sockets or the process it runs in: the
inference-server serves it alone, `aisandbox up` beside the training calls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

import grpc
import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_model_store import RunStore
from aisandbox_wire.tensors import encode_tensor
from google.rpc import code_pb2
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from aisandbox_inference.errors import InvalidField, Stopping
from aisandbox_inference.metrics import Metrics
from aisandbox_inference.model_cache import ModelCache
from aisandbox_inference.observations import Feed
from aisandbox_inference.policy import Policy
from aisandbox_inference.settings import Settings
from aisandbox_inference.statuses import abort, status_of

Array = NDArray[Any]
Context = grpc.aio.ServicerContext[Any, Any]

_LONG_SECONDS = 1e-3
"""A policy that takes longer than this runs beside the event loop: the hand-over costs a tenth of it."""
_PART_BYTES = 1 << 20


class PolicyCalls:
    """The servicer; all of it for one event loop."""

    def __init__(self, settings: Settings, models: ModelCache, metrics: Metrics) -> None:
        self.models = models
        self._metrics = metrics
        self._limit = settings.max_batch_observations
        self._threads = ThreadPoolExecutor(settings.inference_threads, thread_name_prefix="inference")
        self._stopping = False
        self._waiting: set[asyncio.Task[Any] | None] = set()
        self._acted = metrics.observations.inc
        self._act_seconds = metrics.seconds.labels("Act").observe
        self._batch_seconds = metrics.seconds.labels("ActBatch").observe
        self._stream_seconds = metrics.seconds.labels("ActStream").observe

    def stop_streams(self) -> None:
        """End every stream between an answer and the next request, with UNAVAILABLE: a client opens one elsewhere."""
        self._stopping = True
        for task in self._waiting:
            if task is not None:
                task.cancel()

    def close(self) -> None:
        """Let go of threads; policies that are in use go on."""
        self.models.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def Act(self, request: pb.ActRequest, context: Context) -> pb.ActResponse:  # noqa: N802 -- the service's name
        """Answer one observation."""
        start = time.perf_counter()
        try:
            response = await self._answer(request, request.run_id, request.model, request.stochastic)
        except Exception as error:
            await self._refuse("Act", error, context)
        self._act_seconds(time.perf_counter() - start)
        return response

    async def ActBatch(self, request: pb.ActBatchRequest, context: Context) -> pb.ActBatchResponse:  # noqa: N802
        """Answer many observations with one model."""
        start = time.perf_counter()
        try:
            policy = await self._policy(request.run_id, request.model)
            feed, count = policy.observations.from_tensors(request.observations, self._limit)
            actions = await self._act(policy, feed, count, request.stochastic)
        except Exception as error:
            await self._refuse("ActBatch", error, context)
        self._batch_seconds(time.perf_counter() - start)
        return pb.ActBatchResponse(
            actions=encode_tensor(actions), model=policy.digest, model_timesteps=policy.timesteps
        )

    async def ActStream(  # noqa: N802
        self, requests: AsyncIterable[pb.ActStreamRequest], context: Context
    ) -> AsyncIterator[pb.ActStreamResponse]:
        """Answer each observation of a stream in its turn, refusals in band."""
        task = asyncio.current_task()
        self._waiting.add(task)
        try:
            async for reply in self._replies(task, requests):
                yield reply
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

    async def _replies(
        self, task: asyncio.Task[Any] | None, requests: AsyncIterable[pb.ActStreamRequest]
    ) -> AsyncIterator[pb.ActStreamResponse]:
        run_id, model, stochastic = "", "", False
        async for message in requests:
            self._waiting.discard(task)
            start = time.perf_counter()
            request = message.request
            if request.run_id:
                run_id, model, stochastic = request.run_id, request.model, request.stochastic
            try:
                answer = await self._answer(request, run_id, model, stochastic)
                reply = pb.ActStreamResponse(response=answer)
            except Exception as error:
                status = status_of(error)
                self._metrics.refusals.labels("ActStream", code_pb2.Code.Name(status.code)).inc()
                reply = pb.ActStreamResponse(error=pb.ActStreamError(code=status.code, message=status.message))
            else:
                self._stream_seconds(time.perf_counter() - start)
            yield reply

    async def GetModel(  # noqa: N802
        self, request: pb.GetModelRequest, context: Context
    ) -> AsyncIterator[pb.GetModelResponse]:
        """Send the ONNX file in parts, what else is known of it with the first."""
        try:
            policy = await self._policy(request.run_id, request.model)
        except Exception as error:
            await self._refuse("GetModel", error, context)
        onnx = policy.onnx
        first = pb.GetModelResponse(
            description=policy.description, size=len(onnx), file_digest=policy.file_digest, part=onnx[:_PART_BYTES]
        )
        yield first
        for offset in range(_PART_BYTES, len(onnx), _PART_BYTES):
            yield pb.GetModelResponse(part=onnx[offset : offset + _PART_BYTES])

    async def DescribeModel(  # noqa: N802
        self, request: pb.DescribeModelRequest, context: Context
    ) -> pb.DescribeModelResponse:
        """Say what a policy takes and gives."""
        try:
            return (await self._policy(request.run_id, request.model)).description
        except Exception as error:
            await self._refuse("DescribeModel", error, context)

    async def _answer(self, request: pb.ActRequest, run_id: str, model: str, stochastic: bool) -> pb.ActResponse:
        policy = self.models.at_hand(run_id, model)
        if policy is None:
            policy = await self._policy(run_id, model)
        feed = policy.observations.from_numbers(request.observation)
        if policy.seconds(1) < _LONG_SECONDS:
            self._acted()
            actions = policy.act_one(feed, stochastic)
        else:
            actions = await self._act(policy, feed, 1, stochastic)
        return pb.ActResponse(action=actions.ravel().tolist(), model=policy.digest, model_timesteps=policy.timesteps)

    async def _policy(self, run_id: str, model: str) -> Policy:
        if not run_id:
            raise InvalidField("run_id", "must name a run")
        return await self.models.policy(run_id, model)

    async def _act(self, policy: Policy, feed: Feed, count: int, stochastic: bool) -> Array:
        self._acted(count)
        if policy.seconds(count) < _LONG_SECONDS:
            return policy.act(feed, count, stochastic)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, policy.act, feed, count, stochastic)

    async def _refuse(self, call: str, error: Exception, context: Context) -> NoReturn:
        status = status_of(error)
        self._metrics.refusals.labels(call, code_pb2.Code.Name(status.code)).inc()
        await abort(context, status)


def create_policy_calls(settings: Settings, registry: CollectorRegistry | None = None) -> PolicyCalls:
    """Return the five calls for a server of the caller's, with metrics in ``registry`` (None: nobody reads them).

    For one event loop. The caller calls ``stop_streams`` when it begins to stop and ``close`` when it has stopped.
    """
    metrics = Metrics(registry or CollectorRegistry())
    random = np.random.default_rng()
    models = ModelCache(
        RunStore(settings.models_dir),
        lambda run_id, bundle: Policy(run_id, bundle, random),
        settings.model_cache_bytes,
        metrics,
    )
    return PolicyCalls(settings, models, metrics)
