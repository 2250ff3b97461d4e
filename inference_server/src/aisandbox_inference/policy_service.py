"""What the five calls that act with published policies do: Act, ActBatch, ActStream, GetModel and DescribeModel.

Owns the answers and the choice of the thread that computes them. Must not know files, sockets or gRPC servers: the
inference-server (rpc_methods.py) and an asyncio server (aio_servicer.py) carry the messages.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_model_store import (
    RUN_ID_REQUIRED,
    InvalidRunId,
    ModelNotFound,
    RunNotFound,
    RunStore,
    parse_selector,
)
from aisandbox_process.coroutines import FutureCoroutine, wait_for
from aisandbox_wire import encode_tensor
from google.rpc import code_pb2, status_pb2
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry

from aisandbox_inference.episode_states import model_of
from aisandbox_inference.errors import InvalidField
from aisandbox_inference.metrics import Metrics
from aisandbox_inference.model_cache import ModelCache
from aisandbox_inference.observations import Feed
from aisandbox_inference.policy import Policy
from aisandbox_inference.settings import Settings
from aisandbox_inference.status_codes import status_of

Array = NDArray[Any]

_INLINE_SECONDS = 1e-3
"""A policy that takes longer runs in a thread pool instead of the thread that serves: the hand-over costs a tenth."""
_INLINE_NUMBERS = 1 << 20
"""A batch of more numbers, states included, is read, checked and answered in the thread pool.

In the thread that serves, others would wait.
"""
_PART_BYTES = 1 << 20

NOT_RECURRENT = "the policy is not recurrent: leave it empty"


class PolicyService:
    """The five calls, for any threads. ``error_status`` turns what they raise into a status."""

    def __init__(self, settings: Settings, models: ModelCache, metrics: Metrics) -> None:
        self.models = models
        self._metrics = metrics
        self._max_batch = settings.max_batch_observations
        self._max_message_bytes = settings.max_message_bytes
        self._pool = ThreadPoolExecutor(settings.inference_threads, thread_name_prefix="inference")
        # Looked up once, not on every call.
        self._count_observations = metrics.observations.inc
        self._act_seconds = metrics.seconds.labels("Act").observe
        self._batch_seconds = metrics.seconds.labels("ActBatch").observe
        self._stream_seconds = metrics.seconds.labels("ActStream").observe

    def close(self) -> None:
        """Release the threads; calls that are running still finish."""
        self.models.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def error_status(self, call: str, error: Exception) -> status_pb2.Status:
        """Return the status that a ``call`` ends with when it raises ``error``, and count it."""
        status = status_of(error)
        self._metrics.refusals.labels(call, code_pb2.Code.Name(status.code)).inc()
        return status

    def can_act(self, run_id: str) -> FutureCoroutine[bool | None]:
        """Load the run's latest policy and return whether that succeeds; None if there is no such run."""
        try:
            yield from self.models.policy(run_id, "")
        except (RunNotFound, InvalidRunId):
            return None
        except Exception:  # the log and Act have the reason
            return False
        return True

    def act(self, request: pb.ActRequest) -> FutureCoroutine[pb.ActResponse]:
        """Return the action for one observation."""
        start = time.perf_counter()
        response = yield from self._act(request, request.run_id, request.model, request.stochastic, request.state)
        self._act_seconds(time.perf_counter() - start)
        return response

    def act_batch(self, request: pb.ActBatchRequest) -> FutureCoroutine[pb.ActBatchResponse]:
        """Return the actions of one model for many observations."""
        start = time.perf_counter()
        policy = yield from self._policy(request.run_id, request.model)
        if policy.states is not None or any(request.state):
            policy = yield from self._model_of_batch(request, policy)
        state_size = policy.states.size if policy.states is not None else 0
        is_small = policy.observations.stated_numbers(request.observations, state_size) <= _INLINE_NUMBERS
        if is_small:
            feed, count = self._read_batch(request, policy)
        else:
            feed, count = yield from wait_for(self._pool.submit(self._read_batch, request, policy))
        self._count_observations(count)
        if is_small and policy.expected_seconds(count) < _INLINE_SECONDS:
            actions, states = policy.act_and_remember(feed, count, request.stochastic)
        else:
            actions, states = yield from self._act_in_pool(policy, feed, count, request.stochastic)
        tensor = encode_tensor(actions)
        self._batch_seconds(time.perf_counter() - start)
        return pb.ActBatchResponse(actions=tensor, model=policy.digest, model_timesteps=policy.timesteps, state=states)

    def act_stream(self) -> ActStream:
        """Return what answers one stream."""
        return ActStream(self)

    def describe_model(self, request: pb.DescribeModelRequest) -> FutureCoroutine[pb.DescribeModelResponse]:
        """Return what a policy takes and gives."""
        policy = yield from self._policy(request.run_id, request.model)
        return policy.description

    def get_model(self, request: pb.GetModelRequest) -> FutureCoroutine[Iterator[pb.GetModelResponse]]:
        """Return the ONNX file in parts; the first has its description, size and digest too."""
        policy = yield from self._policy(request.run_id, request.model)
        return _parts(policy)

    def act_in_stream(
        self, request: pb.ActRequest, run_id: str, model: str, stochastic: bool, state: bytes
    ) -> FutureCoroutine[pb.ActStreamResponse]:
        """Return the reply to one request of a stream; an error is part of the reply."""
        start = time.perf_counter()
        try:
            response = yield from self._act(request, run_id, model, stochastic, state)
        except Exception as error:
            status = self.error_status("ActStream", error)
            return pb.ActStreamResponse(error=pb.ActStreamError(code=status.code, message=status.message))
        self._stream_seconds(time.perf_counter() - start)
        return pb.ActStreamResponse(response=response)

    def _act(
        self, request: pb.ActRequest, run_id: str, model: str, stochastic: bool, state: bytes
    ) -> FutureCoroutine[pb.ActResponse]:
        policy = self.models.cached(run_id, model)
        if policy is None:
            policy = yield from self._policy(run_id, model)
        if policy.states is None and request.state:
            raise InvalidField("state", NOT_RECURRENT)
        if policy.states is not None and not request.episode_start:
            policy = yield from self._model_of_state(state, "state", policy, run_id, model)
        feed = policy.observations.from_numbers(request.observation)
        if request.action_mask:
            feed |= policy.masks.from_flags(request.action_mask)
        if policy.states is not None:
            feed |= policy.states.beginning(1) if request.episode_start else policy.states.from_state(state)
        self._count_observations()
        if policy.expected_seconds(1) < _INLINE_SECONDS:
            actions, after = policy.act_and_remember(feed, 1, stochastic)
        else:
            actions, after = yield from self._act_in_pool(policy, feed, 1, stochastic)
        numbers = actions.ravel().tolist()
        return pb.ActResponse(
            action=numbers, model=policy.digest, model_timesteps=policy.timesteps, state=after[0] if after else b""
        )

    def _model_of_state(
        self, state: bytes, field: str, selected: Policy, run_id: str, selector: str
    ) -> FutureCoroutine[Policy]:
        """The policy that gave the state; a selector that may name a newer one by now does not change it.

        Raises InvalidField if the run does not have it, or the selector names another one for good.
        """
        digest = model_of(state, field)
        if digest == selected.digest:
            return selected
        if not parse_selector(selector).pointer:
            raise InvalidField(field, f"belongs to the model {digest}, and the request selects {selected.digest}")
        try:
            policy = yield from self.models.policy(run_id, digest)
        except ModelNotFound:
            rule = (
                f"belongs to the model {digest}, which the run {run_id} does not have, or no longer has; send "
                "episode_start, and begin a new episode with another model"
            )
            raise InvalidField(field, rule) from None
        if policy.states is None:
            raise InvalidField(field, f"belongs to the model {digest}, which is not recurrent")
        return policy

    def _model_of_batch(self, request: pb.ActBatchRequest, selected: Policy) -> FutureCoroutine[Policy]:
        """The policy that gave the states, which is looked at in the first one that counts."""
        if selected.states is None:
            raise InvalidField("state", NOT_RECURRENT)
        starts = request.episode_start
        for row, state in enumerate(request.state):
            if row >= len(starts) or not starts[row]:
                return (
                    yield from self._model_of_state(state, f"state[{row}]", selected, request.run_id, request.model)
                )
        return selected

    def _read_batch(self, request: pb.ActBatchRequest, policy: Policy) -> tuple[Feed, int]:
        """The inputs of the policy, and for how many observations."""
        feed, count = policy.observations.from_tensors(request.observations, self._max_batch)
        if request.HasField("action_masks"):
            feed = feed | policy.masks.from_tensor(request.action_masks, count)
        if policy.states is not None:
            feed |= policy.states.from_states(request.state, request.episode_start, count, self._max_message_bytes)
        return feed, count

    def _policy(self, run_id: str, model: str) -> FutureCoroutine[Policy]:
        if not run_id:
            raise InvalidField("run_id", RUN_ID_REQUIRED)
        return (yield from self.models.policy(run_id, model))

    def _act_in_pool(
        self, policy: Policy, feed: Feed, count: int, stochastic: bool
    ) -> FutureCoroutine[tuple[Array, list[bytes]]]:
        return (yield from wait_for(self._pool.submit(policy.act_and_remember, feed, count, stochastic)))


class ActStream:
    """One stream of ActStream: the fields that a request leaves out have the values of the last one that had a run_id.

    So has a state that is left out the value of the last response. What a request says of the state holds also if it
    fails: its episode has begun, or is another one, for the caller. Answers one request at a time.
    """

    def __init__(self, service: PolicyService) -> None:
        self._service = service
        self._run_id, self._model, self._stochastic = "", "", False
        self._state = b""

    @property
    def run_id(self) -> str:
        """The run of the last request that named one."""
        return self._run_id

    def reply(self, message: pb.ActStreamRequest) -> FutureCoroutine[pb.ActStreamResponse]:
        """Return the reply to the next request; an error is part of the reply."""
        request = message.request
        if request.run_id:
            self._run_id, self._model, self._stochastic = request.run_id, request.model, request.stochastic
        if request.episode_start:
            self._state = b""
        elif request.state:
            self._state = request.state
        selected = self._run_id, self._model, self._stochastic
        reply = yield from self._service.act_in_stream(request, *selected, self._state)
        if reply.HasField("response"):
            self._state = reply.response.state
        return reply


def _parts(policy: Policy) -> Iterator[pb.GetModelResponse]:
    onnx = policy.onnx
    yield pb.GetModelResponse(
        description=policy.description, size=len(onnx), file_digest=policy.file_digest, part=onnx[:_PART_BYTES]
    )
    for offset in range(_PART_BYTES, len(onnx), _PART_BYTES):
        yield pb.GetModelResponse(part=onnx[offset : offset + _PART_BYTES])


def create_policy_service(settings: Settings, registry: CollectorRegistry | None = None) -> PolicyService:
    """Return the calls with the models and limits of ``settings``, and metrics in ``registry`` (None: not exported)."""
    metrics = Metrics(registry or CollectorRegistry())
    random = np.random.default_rng()
    models = ModelCache(
        RunStore(settings.models_dir),
        lambda run_id, bundle: Policy(run_id, bundle, random),
        settings.model_cache_bytes,
        metrics,
    )
    return PolicyService(settings, models, metrics)
