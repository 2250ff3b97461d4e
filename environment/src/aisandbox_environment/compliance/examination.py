"""What the checks work with: raw streams whose waits are bounded, sessions, and the results.

Must not know the single checks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_process.grpc_direct import StreamEnded
from aisandbox_wire.errors import WireError
from aisandbox_wire.spaces import Leaf
from aisandbox_wire.tensors import Array, encode_tensor
from google.protobuf.message import DecodeError
from google.protobuf.struct_pb2 import Struct

from aisandbox_environment.channels import open_session_stream
from aisandbox_environment.description import describe
from aisandbox_environment.replies import ReplyReader
from aisandbox_environment.spec import PROTOCOL_VERSION, Spec, read_spec
from aisandbox_environment.watchdog import Wait


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found. ``message``: what was seen; after a failure what was expected, what came, what to do."""

    name: str
    ok: bool
    message: str


class Failed(Exception):
    """A check has failed."""

    def __init__(self, expected: str, came: str, advice: str) -> None:
        super().__init__(f"expected {expected}; got {came}. {advice}")


@dataclass(slots=True)
class Examination:
    """One run of the suite against the simulator at ``address``; ``timeout`` is in seconds and for each reply."""

    address: str
    options: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 10.0
    long_idle: bool = False
    capacity: int = 0
    in_use: int = 0

    def describe(self) -> pb.DescribeResponse:
        """Asks; raises SimulatorError."""
        return describe(self.address, self.timeout)

    def room(self, most: int, sessions: int = 1) -> int:
        """How many environments each of ``sessions`` sessions may have, at most ``most``; 0 if there is no room."""
        if self.capacity == 0:
            return most
        return min(most, (self.capacity - self.in_use) // sessions)

    def stream(self) -> Probe:
        """A stream on which nothing has been said."""
        return Probe(self.address, self.timeout)

    def opening(self, environments: int, version: int = PROTOCOL_VERSION, **more: Any) -> pb.SimulatorRequest:
        """The request that opens a session."""
        options = Struct()
        options.update({**self.options, **more})
        return pb.SimulatorRequest(
            open=pb.OpenRequest(
                protocol_version=version, environments=environments, options=options, run_id="check-simulator"
            )
        )

    def session(self, environments: int) -> Driver:
        """An open session. Raises Failed if it does not open."""
        return Driver(self, environments)


class Probe:
    """One raw stream. Its waits end after ``timeout`` seconds."""

    def __init__(self, address: str, timeout: float) -> None:
        self._timeout = timeout
        self._stream = open_session_stream(address, direct=False)  # checks send requests ahead of replies
        self._wait = Wait(self._stream.cancel)

    def send(self, request: pb.SimulatorRequest) -> None:
        """Send, without waiting for anything."""
        self._stream.send(request.SerializeToString())

    def receive(self) -> pb.SimulatorReply:
        """The next reply. Raises StreamEnded; Failed if none comes in time or it cannot be read."""
        self._wait.within(self._timeout)
        try:
            return pb.SimulatorReply.FromString(self._stream.receive())
        except StreamEnded:
            if self._wait.expired:
                raise self._silent("a reply, or the end of the stream") from None
            raise
        except DecodeError:
            raise Failed(
                "a SimulatorReply", "bytes that are none", "Use the code generated from environment.proto."
            ) from None
        finally:
            self._wait.over()

    def ask(self, request: pb.SimulatorRequest) -> pb.SimulatorReply:
        """Send, and receive the reply."""
        self.send(request)
        return self.receive()

    def expect_end(self, request: pb.SimulatorRequest, code: grpc.StatusCode, advice: str) -> str:
        """Send what must end the stream with ``code``; returns the status's message."""
        try:
            reply = self.ask(request)
        except StreamEnded as end:
            if end.code is not code:
                raise Failed(
                    f"the stream to end with {code.name}", f"{end.code.name} ({end.details})", advice
                ) from None
            return end.details
        raise Failed(f"the stream to end with {code.name}", f"a reply of kind {kind_of(reply)}", advice)

    def finish(self) -> grpc.StatusCode:
        """Half-close; returns the status the simulator ends the stream with. Raises Failed if it does not."""
        self._wait.within(self._timeout)
        try:
            self._stream.finish()
            self._stream.receive()
        except StreamEnded as end:
            if self._wait.expired:
                raise self._silent("the stream to end after the client's half-close") from None
            return end.code
        finally:
            self._wait.over()
        raise Failed("the end of the stream", "one more reply", "Answer each request with exactly one reply.")

    def cut(self) -> None:
        """Break the stream off."""
        self._stream.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.close()

    def _silent(self, expected: str) -> Failed:
        return Failed(expected, f"nothing within {self._timeout:g} s", "Answer every request, in order; see `Order`.")


class Driver(Probe):
    """An open session, driven with raw messages. ``reader`` checks its replies."""

    def __init__(self, examination: Examination, environments: int) -> None:
        super().__init__(examination.address, examination.timeout)
        self.n = environments
        try:
            reply = self.answer(examination.opening(environments), "open")
            self.proto = reply.open.spec
            self.spec: Spec = read_spec(self.proto)
        except WireError as error:
            self._stream.close()
            raise Failed("a valid spec in OpenReply", str(error), "See EnvironmentSpec and Space.") from None
        except BaseException:
            self._stream.close()
            raise
        self.reader = ReplyReader(self.spec, environments)
        self._masks: Array | None = None

    def answer(self, request: pb.SimulatorRequest, kind: str) -> pb.SimulatorReply:
        """Send, and receive a reply of ``kind``. Raises Failed for any other answer."""
        try:
            reply = self.ask(request)
        except StreamEnded as end:
            raise Failed(
                f"a reply to `{kind}`", f"the end of the stream: {end.code.name} ({end.details})", "Look into its log."
            ) from None
        if reply.WhichOneof("reply") != kind:
            raise Failed(f"a reply of kind `{kind}`", kind_of(reply), "Answer each request with its counterpart.")
        return reply

    def reset(self, seeds: Sequence[int] = ()) -> pb.ResetReply:
        """Reset, and return the reply unchecked."""
        reply = self.answer(reset_request(seeds), "reset").reset
        self._keep_masks(reply.action_masks)
        return reply

    def step(self, actions: Array) -> pb.StepReply:
        """Step, and return the reply unchecked."""
        reply = self.answer(step_request(actions), "step").step
        self._keep_masks(reply.action_masks)
        return reply

    def sample(self, random: np.random.Generator) -> Array:
        """Random actions [n, *shape] that may be chosen now."""
        return sample_actions(self.spec.action_leaf, self.n, random, self._masks)

    def record(self, seeds: Sequence[int], steps: int) -> tuple[list[Array], list[object]]:
        """Reset and play; returns the actions, and the replies: the reset's and each step's."""
        random = np.random.default_rng(7)
        replies: list[object] = [self.reset(seeds)]
        actions = []
        for _ in range(steps):
            actions.append(self.sample(random))
            replies.append(self.step(actions[-1]))
        return actions, replies

    def replay(self, seeds: Sequence[int], actions: Sequence[Array]) -> list[object]:
        """The replies to a reset and these steps."""
        return [self.reset(seeds), *(self.step(action) for action in actions)]

    def _keep_masks(self, data: bytes) -> None:
        """Masks of the wrong size are a check's business, not this one's."""
        width = self.spec.mask_width
        right = bool(width) and len(data) == self.n * width
        self._masks = np.frombuffer(data, np.uint8).reshape(self.n, width) if right else None

    def refused(self, request: pb.SimulatorRequest, code: pb.SimulatorErrorCode.ValueType, advice: str) -> str:
        """Send what must be refused in band with ``code``; returns the message."""
        name = pb.SimulatorErrorCode.Name(code)
        try:
            reply = self.ask(request)
        except StreamEnded as end:
            raise Failed(
                f"an in-band error {name}", f"the end of the stream: {end.code.name} ({end.details})", advice
            ) from None
        if reply.WhichOneof("reply") != "error":
            raise Failed(f"an in-band error {name}", f"a reply of kind {kind_of(reply)}", advice)
        if reply.error.code != code:
            raise Failed(f"an in-band error {name}", f"code {reply.error.code} ({reply.error.message})", advice)
        if not reply.error.message:
            raise Failed("a sentence in SimulatorError.message", "an empty one", "Say which field broke which rule.")
        return reply.error.message


def reset_request(seeds: Sequence[int] = ()) -> pb.SimulatorRequest:
    """A reset."""
    return pb.SimulatorRequest(reset=pb.ResetRequest(seeds=seeds))


def step_request(actions: Array) -> pb.SimulatorRequest:
    """A step."""
    return pb.SimulatorRequest(step=pb.StepRequest(actions=encode_tensor(actions)))


def kind_of(reply: pb.SimulatorReply) -> str:
    """What a reply is, in words."""
    kind = reply.WhichOneof("reply")
    if kind is None:
        return "nothing (no field of SimulatorReply is set)"
    return f"`error` ({reply.error.message})" if kind == "error" else f"`{kind}`"


def sample_actions(leaf: Leaf, n: int, random: np.random.Generator, masks: Array | None = None) -> Array:
    """Random actions [n, *shape] of the action space, those that ``masks`` allows."""
    if leaf.kind == "box":
        assert leaf.low is not None and leaf.high is not None  # noqa: S101, PT018 -- a box has bounds
        if leaf.dtype.kind == "f":
            return random.uniform(leaf.low, leaf.high, (n, *leaf.shape)).astype(leaf.dtype)
        return random.integers(leaf.low, leaf.high, (n, *leaf.shape), leaf.dtype, endpoint=True)
    if leaf.kind == "multi_binary":
        return random.integers(0, 2, (n, *leaf.shape), np.int8)
    counts = [leaf.n] if leaf.nvec is None else leaf.nvec.tolist()
    columns = []
    begin = 0
    for count in counts:
        weights = random.random((n, count))
        if masks is not None:
            weights = weights * masks[:, begin : begin + count]
        columns.append(weights.argmax(axis=1))
        begin += count
    actions = np.stack(columns, axis=1).astype(np.int64)
    return actions if leaf.nvec is not None else actions[:, 0] + leaf.start


def eventually(holds: Callable[[], bool], within: float) -> bool:
    """Whether ``holds`` becomes true within that many seconds."""
    until = time.monotonic() + within
    while not holds():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True
