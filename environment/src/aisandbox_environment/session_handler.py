"""The server's end of one Session: hands requests to a simulation, and its results to the client.

Owns the order of requests, the check of every request, and which errors are in band. Must not know how bytes travel.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc
import structlog
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_wire import BatchLeaf, InvalidValue, WireError
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from aisandbox_environment.errors import Busy, InvalidOptions, RefusalError
from aisandbox_environment.parameters import Parameter, ParameterValue, read_values
from aisandbox_environment.reply_writer import ReplyWriter
from aisandbox_environment.simulation import ParameterizedBatch, Simulation, SimulationBatch
from aisandbox_environment.spec import PROTOCOL_VERSION

log = structlog.get_logger(__name__)


class Capacity:
    """How many environments the sessions of a server may hold together; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_use = 0
        self._changed = threading.Condition()

    def reserve(self, environments: int) -> None:
        """Take that many environments. Raises StreamAborted(RESOURCE_EXHAUSTED) if fewer are free."""
        with self._changed:
            if self.limit and self.in_use + environments > self.limit:
                free = self.limit - self.in_use
                raise StreamAborted(
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    f"{environments} environments were requested and {free} of {self.limit} are free",
                )
            self.in_use += environments

    def release(self, environments: int) -> None:
        """Free environments that were reserved."""
        with self._changed:
            self.in_use -= environments
            self._changed.notify_all()

    def wait_until_free(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds until no environment is in use; returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: self.in_use == 0, timeout)


class SessionHandler:
    """Handles the requests of one session (see ``aisandbox_process.grpc_direct.StreamHandler``).

    ``reply_timeout``: how many seconds the client is asked to wait for each reply; 0: as long as it likes.
    """

    def __init__(self, simulation: Simulation, capacity: Capacity, reply_timeout: float = 0.0) -> None:
        self._simulation = simulation
        self._reply_timeout = reply_timeout
        self._capacity = capacity
        self._batch: SimulationBatch | None = None
        self._n = 0
        self._was_reset = False
        self._request_kind = ""
        self._log = log

    def handle(self, request: bytes) -> bytes:
        """The reply to a request. Raises StreamAborted when the stream has to end."""
        try:
            return self._answer(request)
        except StreamAborted:
            raise
        except WireError as error:
            return _refusal(pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, str(error))
        except RefusalError as error:
            busy = isinstance(error, Busy)
            code = pb.SIMULATOR_ERROR_CODE_BUSY if busy else pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT
            return _refusal(code, error.message)
        except BaseException as error:  # also sys.exit() in an environment: the client must not wait for a reply
            self._log.exception("simulation failed", request=self._request_kind)
            what = f"the simulation failed on {self._request_kind!r}: {type(error).__name__}: {error}"
            raise StreamAborted(grpc.StatusCode.INTERNAL, what) from error

    def _answer(self, request: bytes) -> bytes:
        batch = self._batch
        try:
            message = pb.SimulatorRequest.FromString(request)
        except DecodeError:
            raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, "the request is not a SimulatorRequest") from None
        kind = self._request_kind = message.WhichOneof("request") or ""
        if batch is None:
            if kind != "open":
                raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, "the first request of a session is `open`")
            return self._open(message.open)
        if kind == "step":
            return self._step(batch, message.step)
        if kind == "reset":
            return self._reset(batch, message.reset)
        if kind == "open":
            return _refusal(pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER, "open: the session is open already")
        return _refusal(pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, "request: none of open, reset and step is set")

    def close(self) -> None:
        """Free what the session holds; never raises."""
        batch, self._batch = self._batch, None
        if batch is None:
            return
        try:
            batch.close()
        except Exception:
            self._log.exception("environments could not be closed")
        self._capacity.release(self._n)
        self._log.info("session closed")

    def _open(self, request: pb.OpenRequest) -> bytes:
        if request.protocol_version != PROTOCOL_VERSION:
            raise StreamAborted(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"the client speaks protocol version {request.protocol_version}, this simulator {PROTOCOL_VERSION}",
            )
        n = request.environments
        if n < 1:
            raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, f"open.environments: must be at least 1, got {n}")
        self._capacity.reserve(n)
        try:
            batch = self._simulation.make(n, _options(request))
        except InvalidOptions as error:
            self._capacity.release(n)
            raise StreamAborted(grpc.StatusCode.INVALID_ARGUMENT, f"open.options: {error}") from None
        except BaseException:
            self._capacity.release(n)
            raise
        if batch.spec.parameters and not isinstance(batch, ParameterizedBatch):
            self._capacity.release(n)
            raise TypeError(f"{type(batch).__name__} declares parameters and has no method set_parameters")
        self._batch, self._n = batch, n
        self._log = log.bind(run=request.run_id, environments=n, evaluation=request.evaluation)
        self._log.info("session opened")
        self._action_batch = BatchLeaf(batch.spec.action_leaf, n)
        self._replies = ReplyWriter(batch.spec, n)
        opened = pb.OpenReply(spec=batch.spec.to_proto(), reply_timeout_seconds=self._reply_timeout)
        return pb.SimulatorReply(open=opened).SerializeToString()

    def _reset(self, batch: SimulationBatch, request: pb.ResetRequest) -> bytes:
        seeds = list(request.seeds)
        if seeds and len(seeds) != self._n:
            what = f"reset.seeds: got {len(seeds)}, expected none or one for each of {self._n} environments"
            return _refusal(pb.SIMULATOR_ERROR_CODE_INVALID_ARGUMENT, what)
        values = self._reset_values(batch.spec.parameters, request)
        try:
            self._set_parameters(batch, values)
            reply = self._replies.reset(batch.reset(seeds or None))
        except WireError as error:
            raise _misfit("reset", error) from None
        self._was_reset = True
        return reply

    def _step(self, batch: SimulationBatch, request: pb.StepRequest) -> bytes:
        if not self._was_reset:
            return _refusal(pb.SIMULATOR_ERROR_CODE_OUT_OF_ORDER, "step: the first step needs a reset before it")
        actions = self._action_batch.read(request.actions, "step.actions")
        self._action_batch.leaf.check_bounds(actions, "step.actions")
        values: Mapping[int, Mapping[str, ParameterValue]] = {}
        if request.next_parameters:
            values = self._values(batch.spec.parameters, request.next_parameters, "step.next_parameters")
        try:
            self._set_parameters(batch, values)
            return self._replies.step(batch.step(actions))
        except WireError as error:
            raise _misfit("step", error) from None

    def _reset_values(
        self, parameters: Sequence[Parameter], request: pb.ResetRequest
    ) -> Mapping[int, Mapping[str, ParameterValue]]:
        values: dict[int, Mapping[str, ParameterValue]] = {}
        if request.HasField("parameters"):
            values |= dict.fromkeys(range(self._n), read_values(parameters, request.parameters, "reset.parameters"))
        return values | self._values(parameters, request.environment_parameters, "reset.environment_parameters")

    def _values(
        self, parameters: Sequence[Parameter], by_environment: Mapping[int, Struct], field: str
    ) -> dict[int, Mapping[str, ParameterValue]]:
        for number in by_environment:
            if number >= self._n:
                raise InvalidValue(f"{field}[{number}]", f"the environments are numbered from 0 to {self._n - 1}")
        return {n: read_values(parameters, struct, f"{field}[{n}]") for n, struct in sorted(by_environment.items())}

    def _set_parameters(self, batch: SimulationBatch, values: Mapping[int, Mapping[str, ParameterValue]]) -> None:
        """Nothing of a request has been refused when this is called."""
        for number, each in values.items():
            cast(ParameterizedBatch, batch).set_parameters(number, each)


def _misfit(kind: str, error: WireError) -> StreamAborted:
    """A result that does not fit its space ends the stream with DATA_LOSS: a client does not try that again."""
    log.error("a result does not fit the spaces of the simulation", request=kind, error=str(error))
    return StreamAborted(grpc.StatusCode.DATA_LOSS, f"the result of {kind!r} does not fit its space: {error}")


def _options(request: pb.OpenRequest) -> Mapping[str, Any]:
    """The options as JSON values. JSON has one type of number: 8.0 means the whole number 8."""
    return {key: _with_whole_numbers(value) for key, value in MessageToDict(request.options).items()}


def _with_whole_numbers(value: Any) -> Any:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _with_whole_numbers(inner) for key, inner in value.items()}
        case list():
            return [_with_whole_numbers(inner) for inner in value]
    return value


def _refusal(code: pb.SimulatorErrorCode.ValueType, message: str) -> bytes:
    return pb.SimulatorReply(error=pb.SimulatorError(code=code, message=message)).SerializeToString()
