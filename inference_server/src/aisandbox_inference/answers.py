"""What the five calls that act with published policies mean, and how each is answered.

Owns the answers and the choice of the thread that computes them. Must not know files, sockets or the server that
carries the messages: the inference-server's own calls (methods.py) and those of an asyncio server (calls.py) share it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_model_store import InvalidRunId, RunNotFound, RunStore
from aisandbox_wire.tensors import encode_tensor
from google.rpc import code_pb2, status_pb2
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from aisandbox_inference.errors import InvalidField
from aisandbox_inference.metrics import Metrics
from aisandbox_inference.model_cache import ModelCache
from aisandbox_inference.observations import Feed
from aisandbox_inference.policy import Policy
from aisandbox_inference.settings import Settings
from aisandbox_inference.statuses import status_of
from aisandbox_inference.waiting import Work, result_of

Array = NDArray[Any]

_LONG_SECONDS = 1e-3
"""A policy that takes longer than this runs beside the thread that serves: the hand-over costs a tenth of it."""
_PART_BYTES = 1 << 20


class Answers:
    """The answers of one server, from any thread. What they raise, ``refusal`` turns into a status."""

    def __init__(self, settings: Settings, models: ModelCache, metrics: Metrics) -> None:
        self.models = models
        self._metrics = metrics
        self._limit = settings.max_batch_observations
        self._threads = ThreadPoolExecutor(settings.inference_threads, thread_name_prefix="inference")
        self._acted = metrics.observations.inc
        self._act_seconds = metrics.seconds.labels("Act").observe
        self._batch_seconds = metrics.seconds.labels("ActBatch").observe
        self._stream_seconds = metrics.seconds.labels("ActStream").observe

    def close(self) -> None:
        """Let go of threads; policies that are in use go on."""
        self.models.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def refusal(self, call: str, error: Exception) -> status_pb2.Status:
        """Count the refusal of a ``call`` that met ``error``, and return the status to end it with."""
        status = status_of(error)
        self._metrics.refusals.labels(call, code_pb2.Code.Name(status.code)).inc()
        return status

    def can_act(self, run_id: str) -> Work[bool | None]:
        """Whether the run's latest policy answers, which is loaded for that; None if there is no such run."""
        try:
            yield from self.models.policy(run_id, "")
        except (RunNotFound, InvalidRunId):
            return None
        except Exception:  # whatever keeps it from answering; the log and Act say what
            return False
        return True

    def act(self, request: pb.ActRequest) -> Work[pb.ActResponse]:
        """Answer one observation."""
        start = time.perf_counter()
        response = yield from self._answer(request, request.run_id, request.model, request.stochastic)
        self._act_seconds(time.perf_counter() - start)
        return response

    def act_batch(self, request: pb.ActBatchRequest) -> Work[pb.ActBatchResponse]:
        """Answer many observations with one model."""
        start = time.perf_counter()
        policy = yield from self._policy(request.run_id, request.model)
        feed, count = policy.observations.from_tensors(request.observations, self._limit)
        self._acted(count)
        if policy.seconds(count) < _LONG_SECONDS:
            actions = policy.act(feed, count, request.stochastic)
        else:
            actions = yield from self._beside(policy, feed, count, request.stochastic)
        tensor = encode_tensor(actions)
        self._batch_seconds(time.perf_counter() - start)
        return pb.ActBatchResponse(actions=tensor, model=policy.digest, model_timesteps=policy.timesteps)

    def conversation(self) -> Conversation:
        """Return what answers one stream."""
        return Conversation(self)

    def describe_model(self, request: pb.DescribeModelRequest) -> Work[pb.DescribeModelResponse]:
        """Say what a policy takes and gives."""
        policy = yield from self._policy(request.run_id, request.model)
        return policy.description

    def get_model(self, request: pb.GetModelRequest) -> Work[Iterator[pb.GetModelResponse]]:
        """Return the ONNX file in parts, what else is known of it with the first."""
        policy = yield from self._policy(request.run_id, request.model)
        return _parts(policy)

    def in_stream(
        self, request: pb.ActRequest, run_id: str, model: str, stochastic: bool
    ) -> Work[pb.ActStreamResponse]:
        """Answer one observation of a stream, refusals in band."""
        start = time.perf_counter()
        try:
            response = yield from self._answer(request, run_id, model, stochastic)
        except Exception as error:
            status = self.refusal("ActStream", error)
            return pb.ActStreamResponse(error=pb.ActStreamError(code=status.code, message=status.message))
        self._stream_seconds(time.perf_counter() - start)
        return pb.ActStreamResponse(response=response)

    def _answer(self, request: pb.ActRequest, run_id: str, model: str, stochastic: bool) -> Work[pb.ActResponse]:
        policy = self.models.at_hand(run_id, model)
        if policy is None:
            policy = yield from self._policy(run_id, model)
        feed = policy.observations.from_numbers(request.observation)
        self._acted()
        if policy.seconds(1) < _LONG_SECONDS:
            actions = policy.act(feed, 1, stochastic)
        else:
            actions = yield from self._beside(policy, feed, 1, stochastic)
        return pb.ActResponse(action=actions.ravel().tolist(), model=policy.digest, model_timesteps=policy.timesteps)

    def _policy(self, run_id: str, model: str) -> Work[Policy]:
        if not run_id:
            raise InvalidField("run_id", "must name a run")
        return (yield from self.models.policy(run_id, model))

    def _beside(self, policy: Policy, feed: Feed, count: int, stochastic: bool) -> Work[Array]:
        return (yield from result_of(self._threads.submit(policy.act, feed, count, stochastic)))


class Conversation:
    """One stream: what a message leaves out is as in the one before. One message at a time."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._names: tuple[str, str, bool] = ("", "", False)

    def reply(self, message: pb.ActStreamRequest) -> Work[pb.ActStreamResponse]:
        """Answer the next message; refusals are in band."""
        request = message.request
        if request.run_id:
            self._names = (request.run_id, request.model, request.stochastic)
        return self._answers.in_stream(request, *self._names)


def _parts(policy: Policy) -> Iterator[pb.GetModelResponse]:
    onnx = policy.onnx
    yield pb.GetModelResponse(
        description=policy.description, size=len(onnx), file_digest=policy.file_digest, part=onnx[:_PART_BYTES]
    )
    for offset in range(_PART_BYTES, len(onnx), _PART_BYTES):
        yield pb.GetModelResponse(part=onnx[offset : offset + _PART_BYTES])


def create_answers(settings: Settings, registry: CollectorRegistry | None = None) -> Answers:
    """Return the answers from the models of ``settings``, with metrics in ``registry`` (None: nobody reads them)."""
    metrics = Metrics(registry or CollectorRegistry())
    random = np.random.default_rng()
    models = ModelCache(
        RunStore(settings.models_dir),
        lambda run_id, bundle: Policy(run_id, bundle, random),
        settings.model_cache_bytes,
        metrics,
    )
    return Answers(settings, models, metrics)
