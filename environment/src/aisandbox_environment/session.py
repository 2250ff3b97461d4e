"""The client's end of one Session: arrays in, arrays out, named errors.

Owns the order of requests, the time allowed for replies, and the check of every reply. Must not know who learns.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self

import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_process.grpc_direct import ClientStream, StreamEnded
from aisandbox_process.tls import PLAINTEXT, ChannelSecurity
from aisandbox_wire import Array, BatchLeaf, WireError
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from aisandbox_environment.addresses import single_address
from aisandbox_environment.calls import LARGEST_SPEC, error_from_status, no_answer, open_session_stream
from aisandbox_environment.errors import (
    InvalidReply,
    RefusedRequest,
    SessionCancelled,
    SimulatorBusy,
    SimulatorError,
    SimulatorHung,
    SimulatorUnreachable,
)
from aisandbox_environment.parameters import ParameterValue, to_struct
from aisandbox_environment.reply_reader import ReplyReader
from aisandbox_environment.request_words import words_of
from aisandbox_environment.simulation import ResetResult, StepResult
from aisandbox_environment.spec import PROTOCOL_VERSION, Spec, check_reply_timeout, read_spec
from aisandbox_environment.watchdog import WatchdogTimer

EpisodeParameters = Mapping[str, ParameterValue]
"""Values for parameters of one episode, by their names; those that are missing have their defaults."""

FIRST_BACKOFF_SECONDS, MAX_BACKOFF_SECONDS = 0.01, 1.0
"""The pause before a request that a busy simulator refused is sent again; doubled each time."""


_LONGEST_WORDS = 1_000
"""Characters of a simulator's own message, so that what stands behind it is shown too."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long a session waits for a simulator, in seconds, each more than 0; accurate to a tenth of a second.

    ``connect``: until the connection is up. ``open``: from dialling until the simulator has opened the session, which
    may have to load a level. ``reset``, ``step``: for one reply, or longer if the simulator asks for that when it
    opens. ``close``: for the simulator to end its side of the stream. Raises ValueError.
    """

    connect: float = 20.0
    open: float = 300.0
    reset: float = 120.0
    step: float = 60.0
    close: float = 2.0

    def __post_init__(self) -> None:
        for name in ("connect", "open", "reset", "step", "close"):
            if not getattr(self, name) > 0:
                raise ValueError(f"timeouts.{name}: must be more than 0 seconds, got {getattr(self, name)}")


class SimulatorSession:
    """The environments of one simulator, from :meth:`connect` until :meth:`close`.

    ``reply_timeout``: how many seconds the simulator asks to be waited for at each reply, 0 if it does not ask.

    Not for two threads at once, except :meth:`cancel`. Open it in the process that uses it, never before a fork. After
    an error that is not an in-band refusal (RefusedRequest, SimulatorBusy) the session has ended: close it.
    """

    def __init__(self, address: str, environments: int, timeouts: Timeouts, stream: ClientStream) -> None:
        self.address = address
        self.environments = environments
        self.spec: Spec
        self.reply_timeout = 0.0
        self._timeouts = timeouts
        self._stream = stream
        self._timer = WatchdogTimer(stream.cancel)
        self._connect_timer = WatchdogTimer(self._check_connected)
        self._opened = False
        self._unconnected = False
        self._cancelled = False
        self._ended = False
        self._largest_reply = LARGEST_SPEC
        self._pending = ""
        self._request = b""

    @classmethod
    def connect(
        cls,
        address: str,
        environments: int,
        options: Mapping[str, Any] | None = None,
        *,
        run_id: str = "",
        evaluation: bool = False,
        timeouts: Timeouts | None = None,
        pool: str = "",
        security: ChannelSecurity = PLAINTEXT,
        stream: Callable[..., ClientStream] = open_session_stream,
    ) -> Self:
        """Open a session with ``environments`` environments at ``address`` (one ``host:port``).

        With ``pool``, ``address`` is the service, and the session is with the simulator of that pool that has the most
        environments, of those that are free and have at most ``environments``; :attr:`environments` is then its number.

        ``options`` are the simulator's own settings: JSON values. ``security``: of the channel to the service, with
        ``pool``. ``stream`` is for tests and measurements.
        Raises InvalidChannelSecurity; SimulatorError: SimulatorUnreachable, AtCapacity, ProtocolMismatch,
        RefusedRequest, InvalidReply, ...
        """
        if environments < 1:
            raise ValueError(f"environments: must be at least 1, got {environments}")
        address = single_address(address)
        settings = Struct()
        settings.update(dict(options or {}))
        opening = pb.OpenRequest(
            protocol_version=PROTOCOL_VERSION,
            environments=environments,
            options=settings,
            run_id=run_id,
            evaluation=evaluation,
        )
        opened = stream(address, pool=pool, security=security) if pool else stream(address)
        session = cls(address, environments, timeouts or Timeouts(), opened)
        try:
            session._open(opening)
        except BaseException:
            session.close()
            raise
        return session

    def reset(
        self, seeds: Sequence[int] | None = None, parameters: Mapping[int, EpisodeParameters] | None = None
    ) -> ResetResult:
        """Start an episode in every environment; returns the first observations.

        ``seeds``: one unsigned 64-bit number for each environment, or None: each continues with its random generator.
        ``parameters``: values for environments, by their numbers from 0; the others keep those they were given last.
        Raises SimulatorError (RefusedRequest for values that are not declared or out of range); ValueError for the
        wrong number of seeds, and for parameters where the simulator declares none.
        """
        if seeds is not None and len(seeds) != self.environments:
            raise ValueError(f"seeds: got {len(seeds)}, expected one for each of {self.environments} environments")
        values = self._structs(parameters or {})
        request = pb.SimulatorRequest(reset=pb.ResetRequest(seeds=seeds, environment_parameters=values))
        self._send(request.SerializeToString(), "reset")
        reply = self._receive("reset", self._timeouts.reset)
        try:
            return self._reader.reset(reply.reset)
        except WireError as error:
            raise self._invalid(str(error)) from None

    def send_step(self, actions: Array, next_parameters: Mapping[int, EpisodeParameters] | None = None) -> None:
        """Send one action for each environment and return at once, so that several sessions may step together.

        ``actions``: an array [N, *shape] of the action space, converted to its dtype. ``next_parameters``: values for
        the next episodes of environments, by their numbers from 0; see StepRequest. Raises InvalidValue (of
        aisandbox_wire) for a wrong shape, NaN or infinity, or a number outside a discrete range; ValueError for
        parameters where the simulator declares none.
        """
        leaf = self.spec.action_leaf
        batch = np.asarray(actions, leaf.dtype)
        leaf.check_batch(batch, self.environments, "actions")
        self._actions.data = batch.tobytes()
        step = self._step_request.step
        if next_parameters:
            for number, struct in self._structs(next_parameters).items():
                step.next_parameters[number].CopyFrom(struct)
        self._send(self._step_request.SerializeToString(), "step")
        if next_parameters:
            step.next_parameters.clear()

    def receive_step(self) -> StepResult:
        """Wait for the result of the last step sent. Raises SimulatorError.

        Its arrays are read-only views on the reply; copy them to change them.
        """
        reply = self._receive("step", self._timeouts.step)
        try:
            return self._reader.step(reply.step)
        except WireError as error:
            raise self._invalid(str(error)) from None

    def step(self, actions: Array) -> StepResult:
        """:meth:`send_step`, then :meth:`receive_step`."""
        self.send_step(actions)
        return self.receive_step()

    def settle(self) -> bool:
        """Wait for a reply that is still due, and drop it; returns whether the session can go on.

        For a client that has several sessions and lets one go: the next request to the others is a reset. Raises
        SimulatorError.
        """
        if self._pending and not self._ended and not self._cancelled:
            timeouts = {"open": self._timeouts.open, "reset": self._timeouts.reset}
            self._receive_bytes(self._pending, timeouts.get(self._pending, self._timeouts.step))
        return not self._ended and not self._cancelled

    def cancel(self) -> None:
        """End the session at once, from any thread or signal handler; a wait in it raises SessionCancelled."""
        self._cancelled = True
        self._stream.cancel()

    def close(self) -> None:
        """End the session and free its connection, with a half-close unless a reply is pending. May be called again."""
        try:
            if not self._ended and not self._pending and not self._cancelled:
                self._timer.start(self._timeouts.close)
                self._stream.finish()
        finally:
            self._ended = True
            self._timer.stop()
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self, opening: pb.OpenRequest) -> None:
        self._send(pb.SimulatorRequest(open=opening).SerializeToString(), "open")
        self._connect_timer.start(self._timeouts.connect)
        try:
            reply = self._receive("open", self._timeouts.open)
        finally:
            self._connect_timer.stop()
        self._opened = True
        if not 0 <= reply.open.environments <= self.environments:
            raise self._invalid(f"open.environments is {reply.open.environments}, of {self.environments} asked for")
        self.environments = reply.open.environments or self.environments
        try:
            self.spec = read_spec(reply.open.spec)
            self.reply_timeout = check_reply_timeout(reply.open.reply_timeout_seconds, "open.reply_timeout_seconds")
        except WireError as error:
            raise self._invalid(str(error)) from None
        self._timeouts = replace(
            self._timeouts,
            reset=max(self._timeouts.reset, self.reply_timeout),
            step=max(self._timeouts.step, self.reply_timeout),
        )
        self._reader = ReplyReader(self.spec, self.environments)
        self._largest_reply = self._reader.largest_reply
        # One message for all steps, in which only the elements of the actions change.
        empty = BatchLeaf(self.spec.action_leaf, self.environments).empty()
        self._step_request = pb.SimulatorRequest(step=pb.StepRequest(actions=empty))
        self._actions = self._step_request.step.actions

    def _structs(self, parameters: Mapping[int, EpisodeParameters]) -> dict[int, Struct]:
        if parameters and not self.spec.parameters:
            raise ValueError(f"parameters: simulator {self.address} declares none")
        return {number: to_struct(values) for number, values in parameters.items()}

    def _check_connected(self) -> None:
        """Called by the watchdog's thread when the time allowed for connecting has passed."""
        if not self._opened and not self._stream.is_connected():
            self._unconnected = True
            self._stream.cancel()

    def _send(self, request: bytes, kind: str) -> None:
        if self._pending or self._ended:
            why = "the session has ended" if self._ended else f"the reply to {self._pending!r} has not been received"
            raise RuntimeError(f"cannot send {kind!r} to simulator {self.address}: {why}")
        self._pending, self._request = kind, request
        self._stream.send(request)

    def _receive(self, kind: str, timeout: float) -> pb.SimulatorReply:
        """The reply to the request sent last; while that is BUSY, retries with backoff for ``timeout`` seconds.

        The replies to all of these count, so that a simulator that is slow to say BUSY holds its client no longer.
        """
        try:
            return self._parse(self._receive_bytes(kind, timeout), kind)
        except SimulatorBusy as busy:
            return self._repeat(kind, timeout, busy)

    def _repeat(self, kind: str, timeout: float, busy: SimulatorBusy) -> pb.SimulatorReply:
        deadline, backoff = time.monotonic() + timeout, FIRST_BACKOFF_SECONDS
        while time.monotonic() + backoff <= deadline:
            time.sleep(backoff)
            backoff = min(2 * backoff, MAX_BACKOFF_SECONDS)
            self._send(self._request, kind)
            try:
                left = max(deadline - time.monotonic(), MAX_BACKOFF_SECONDS)
                return self._parse(self._receive_bytes(kind, min(timeout, left)), kind)
            except SimulatorBusy as again:
                busy = again
        raise busy

    def _receive_bytes(self, kind: str, timeout: float) -> bytes:
        if self._pending != kind:
            raise RuntimeError(f"no {kind!r} has been sent to simulator {self.address}")
        self._timer.start(timeout)
        try:
            data = self._stream.receive()
        except StreamEnded as end:
            self._ended = True
            raise self._error(end, kind, timeout) from None
        except BaseException:
            self._ended = True
            raise
        finally:
            self._timer.stop()
        self._pending = ""
        return data

    def _parse(self, data: bytes, kind: str) -> pb.SimulatorReply:
        if len(data) > self._largest_reply:
            raise self._invalid(f"the reply to {kind!r} has {len(data):,} bytes; at most {self._largest_reply:,}")
        try:
            reply = pb.SimulatorReply.FromString(data)
        except DecodeError:
            raise self._invalid("the reply is not a SimulatorReply: it cannot be parsed") from None
        answer = reply.WhichOneof("reply")
        if answer != kind:
            raise self._refusal(reply, kind) if answer == "error" else self._wrong_kind(answer, kind)
        return reply

    def _error(self, end: StreamEnded, kind: str, timeout: float) -> SimulatorError:
        if self._cancelled:
            return SessionCancelled(self.address, f"cancelled while the reply to {kind!r} was awaited")
        if self._unconnected:
            return no_answer(self.address, f"no connection within {self._timeouts.connect:g} s")
        if not self._timer.expired:
            return error_from_status(self.address, end.code, end.details, opened=self._opened)
        if self._opened:
            return SimulatorHung(self.address, f"no reply to {kind!r} within {timeout:g} s")
        if not self._stream.is_connected():
            return no_answer(self.address, f"no connection within {timeout:g} s")
        return SimulatorUnreachable(
            self.address,
            f"did not open the session within {timeout:g} s; a trainer waits SIMULATOR_OPEN_TIMEOUT_SECONDS",
        )

    def _refusal(self, reply: pb.SimulatorReply, kind: str) -> SimulatorError:
        error = reply.error
        if error.code == pb.SIMULATOR_ERROR_CODE_BUSY:
            return SimulatorBusy(self.address, f"is busy and refused {kind!r}: {error.message[:_LONGEST_WORDS]}")
        sent = words_of(pb.SimulatorRequest.FromString(self._request))
        said = error.message[:_LONGEST_WORDS].rstrip(". ") or "without a message"
        return RefusedRequest(self.address, f"refused {kind!r}: {said}; sent was {sent}")

    def _wrong_kind(self, answer: str | None, kind: str) -> SimulatorError:
        return self._invalid(f"the reply to {kind!r} is {'empty' if answer is None else repr(answer)}")

    def _invalid(self, message: str) -> InvalidReply:
        self._ended = True
        return InvalidReply(self.address, f"sent an invalid reply: {message}")
