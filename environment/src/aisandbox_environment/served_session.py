"""The server's end of one Session: requests to a simulation, its results to replies.

Owns the order of requests, the check of every request and which errors are in band. Must not know how bytes travel.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import structlog
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_wire.batches import BatchColumn
from aisandbox_wire.errors import WireError
from aisandbox_wire.tensors import Array, encode_tensor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError

from aisandbox_environment.errors import Busy, InvalidOptions, RefusalError
from aisandbox_environment.results import ResetResult, StepResult
from aisandbox_environment.simulation import Simulation, SimulationBatch
from aisandbox_environment.spec import PROTOCOL_VERSION, Spec
from aisandbox_environment.stencils import steady_reply, step_request

log = structlog.get_logger(__name__)


class Capacity:
    """How many environments the sessions of a server may hold together; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._changed = threading.Condition()

    def take(self, environments: int) -> None:
        """Raises StreamAborted(RESOURCE_EXHAUSTED) if that many are not free."""
        with self._changed:
            if self.limit and self.in_use + environments > self.limit:
                free = self.limit - self.in_use
                raise StreamAborted(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{environments} environments were asked for and {free} of {self.limit} are free",
                )
            self.in_use += environments

    def give_back(self, environments: int) -> None:
        """The counterpart of :meth:`take`."""
        with self._changed:
            self.in_use -= environments
            self._changed.notify_all()

    def wait_until_free(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds until no environment is in use; returns whether none is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.in_use == 0, timeout)


class ServedSession:
    """One session with a simulation. Not for two threads at once."""

    def __init__(self, simulation: Simulation, capacity: Capacity) -> None:
        self._simulation = simulation
        self._capacity = capacity
        self._batch: SimulationBatch | None = None
        self._n = 0
        self._was_reset = False
        self._handling = ""
        self._log = log

    def handle(self, request: bytes) -> bytes:
        """The reply to a request. Raises StreamAborted when the stream has to end."""
        try:
            return self._answer(request)
        except StreamAborted:
            raise
        except WireError as error:
            return _refused(pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, str(error))
        except RefusalError as error:
            busy = isinstance(error, Busy)
            code = pb.SIMULATOR_ERROR_CODE_BUSY if busy else pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT
            return _refused(code, error.message)
        except BaseException as error:  # also sys.exit() in an environment: the client must not wait for a reply
            self._log.exception("simulation failed", request=self._handling)
            what = f"the simulation failed on {self._handling!r}: {type(error).__name__}: {error}"
            raise StreamAborted(grpc.StatusCode.INTERNAL, what) from error

    def _answer(self, request: bytes) -> bytes:
        batch = self._batch
        if batch is not None and self._was_reset and self._step_request.fits(request):
            actions = self._actions.view(request, self._step_request.holes[0][0])
            if actions is not None:
                return self._act(batch, actions)
        try:
            message = pb.SimulatorRequest.FromString(request)
        except DecodeError:
            raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, "the request is no SimulatorRequest") from None
        kind = self._handling = message.WhichOneof("request") or ""
        if batch is None:
            if kind != "open":
                raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, "the first request of a session is `open`")
            return self._open(message.open)
        if kind == "step":
            return self._step(batch, message.step)
        if kind == "reset":
            return self._reset(batch, message.reset)
        if kind == "open":
            return _refused(pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER, "open: the session is open already")
        return _refused(pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, "request: none of open, reset and step is set")

    def close(self) -> None:
        """Free what the session holds; never raises."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        try:
            batch.close()
        except Exception:
            self._log.exception("environments could not be closed")
        self._capacity.give_back(self._n)
        self._log.info("session closed")

    def _open(self, request: pb.OpenRequest) -> bytes:
        if request.protocol_version != PROTOCOL_VERSION:
            raise StreamAborted(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the client speaks protocol version {request.protocol_version}, this simulator {PROTOCOL_VERSION}",
            )
        n = request.environments
        if n < 1:
            raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, f"open.environments: is {n}; it is at least 1")
        self._capacity.take(n)
        try:
            batch = self._simulation.make(n, _options(request))
        except InvalidOptions as error:
            self._capacity.give_back(n)
            raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, f"open.options: {error}") from None
        except BaseException:
            self._capacity.give_back(n)
            raise
        self._batch, self._n = batch, n
        self._log = log.bind(run=request.run_id, environments=n, evaluation=request.evaluation)
        self._log.info("session opened")
        self._prepare(batch.spec)
        return pb.SimulatorReply(open=pb.OpenReply(spec=batch.spec.to_proto())).SerializeToString()

    def _prepare(self, spec: Spec) -> None:
        """What does not change from step to step."""
        self._actions = BatchColumn(spec.action_leaf, self._n)
        self._bounded = spec.action_leaf.kind == "box"
        self._step_request = step_request(self._actions)
        self._columns = [BatchColumn(leaf, self._n) for leaf in spec.observation_leaves]
        self._steady_reply = steady_reply(self._columns, self._n, spec.mask_width)

    def _reset(self, batch: SimulationBatch, request: pb.ResetRequest) -> bytes:
        seeds = list(request.seeds)
        if seeds and len(seeds) != self._n:
            what = f"reset.seeds: there are {len(seeds)}; there are none, or one for each of {self._n} environments"
            return _refused(pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, what)
        result: ResetResult = batch.reset(seeds or None)
        self._was_reset = True
        reply = pb.ResetReply(
            observations=[
                column.tensor(column.to_bytes(array))
                for column, array in zip(self._columns, result.observations, strict=True)
            ],
            action_masks=_bytes(result.action_masks, np.bool_),
        )
        return pb.SimulatorReply(reset=reply).SerializeToString()

    def _step(self, batch: SimulationBatch, request: pb.StepRequest) -> bytes:
        if not self._was_reset:
            return _refused(pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER, "step: a reset comes before the first step")
        return self._act(batch, self._actions.read(request.actions, "step.actions"))

    def _act(self, batch: SimulationBatch, actions: Array) -> bytes:
        self._handling = "step"
        if self._bounded:
            self._actions.leaf.check_bounds(actions, "step.actions")
        result: StepResult = batch.step(actions)
        terminated, truncated = _bytes(result.terminated, np.bool_), _bytes(result.truncated, np.bool_)
        if 1 in terminated or 1 in truncated:
            return self._reply(result, terminated, truncated)
        parts = [column.to_bytes(array) for column, array in zip(self._columns, result.observations, strict=True)]
        parts.append(_bytes(result.rewards, np.float32))
        if result.action_masks is not None:
            parts.append(_bytes(result.action_masks, np.bool_))
        try:
            return self._steady_reply.fill(*parts)
        except ValueError:
            # The simulation's arrays have wrong shapes: the client says which.
            return self._reply(result, terminated, truncated)

    def _reply(self, result: StepResult, terminated: bytes, truncated: bytes) -> bytes:
        """The reply to any step; the one to a step in which episodes ended is always made here."""
        reply = pb.StepReply(
            observations=[
                column.tensor(column.to_bytes(array))
                for column, array in zip(self._columns, result.observations, strict=True)
            ],
            rewards=_bytes(result.rewards, np.float32),
            terminated=terminated,
            truncated=truncated,
            final_observations=[
                encode_tensor(np.asarray(array, column.leaf.dtype))
                for column, array in zip(self._columns, result.final_observations, strict=False)
            ],
            action_masks=_bytes(result.action_masks, np.bool_),
            episode_metrics=[
                pb.EpisodeMetrics(environment=metrics.environment, values=metrics.values)
                for metrics in result.episode_metrics
            ],
        )
        return pb.SimulatorReply(step=reply).SerializeToString()


def _bytes(array: Array | None, dtype: type[np.generic]) -> bytes:
    if array is None:
        return b""
    return array.tobytes() if array.dtype == dtype else array.astype(dtype).tobytes()


def _options(request: pb.OpenRequest) -> Mapping[str, Any]:
    """The options as JSON values; JSON has one kind of number, and 8.0 is meant as the whole number 8."""
    return {key: _whole(value) for key, value in MessageToDict(request.options).items()}


def _whole(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _whole(inner) for key, inner in value.items()}
        case list():
            return [_whole(inner) for inner in value]
    return value


def _refused(code: pb.SimulatorErrorCode.ValueType, message: str) -> bytes:
    return pb.SimulatorReply(error=pb.SimulatorError(code=code, message=message)).SerializeToString()
