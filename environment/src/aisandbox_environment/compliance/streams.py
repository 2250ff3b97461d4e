"""Raw streams and sessions for checks: requests may break the contract, replies are returned as they came.

Owns the time allowed for each reply. Must not know the single checks.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

import grpc
import numpy as np
from aisandbox.v1 import environment_pb2 as pb
from aisandbox_process.grpc_direct import StreamEnded
from aisandbox_wire import Array, Leaf, MaskLayout, WireError, encode_tensor
from google.protobuf.message import DecodeError

from aisandbox_environment.calls import open_session_stream
from aisandbox_environment.compliance.checks import CheckFailed, SimulatorUnderTest
from aisandbox_environment.reply_reader import ReplyReader
from aisandbox_environment.request_words import words_of
from aisandbox_environment.spec import Spec, read_spec
from aisandbox_environment.watchdog import WatchdogTimer


class RawStream:
    """A stream on which nothing has been sent yet. Raises CheckFailed where the simulator does not reply in time."""

    def __init__(self, simulator: SimulatorUnderTest) -> None:
        self._timeout = simulator.timeout
        # Not direct: checks send requests ahead of the replies.
        simulator.wait_for_free_simulator()
        self._stream = open_session_stream(
            simulator.address, pool=simulator.pool, security=simulator.security, direct=False
        )
        self._timer = WatchdogTimer(self._stream.cancel)

    def send(self, request: pb.SimulatorRequest) -> None:
        """Send without waiting."""
        self._stream.send(request.SerializeToString())

    def receive(self) -> pb.SimulatorReply:
        """The next reply. Raises StreamEnded; CheckFailed if none comes in time or it cannot be parsed."""
        self._timer.start(self._timeout)
        try:
            return pb.SimulatorReply.FromString(self._stream.receive())
        except StreamEnded:
            if self._timer.expired:
                raise self._timed_out("a reply, or the end of the stream") from None
            raise
        except DecodeError:
            raise CheckFailed(
                "a SimulatorReply", "bytes that cannot be parsed", "Use the code generated from environment.proto."
            ) from None
        finally:
            self._timer.stop()

    def exchange(self, request: pb.SimulatorRequest) -> pb.SimulatorReply:
        """Send, and receive the reply."""
        self.send(request)
        return self.receive()

    def expect_end(self, request: pb.SimulatorRequest, code: grpc.StatusCode, advice: str) -> str:
        """Send a request that must end the stream with ``code``; returns the status's message."""
        try:
            reply = self.exchange(request)
        except StreamEnded as end:
            if end.code is not code:
                raise CheckFailed(
                    f"the stream to end with {code.name}", f"{end.code.name} ({end.details})", advice
                ) from None
            return end.details
        raise CheckFailed(f"the stream to end with {code.name}", f"a reply of kind {kind_of(reply)}", advice)

    def finish(self) -> grpc.StatusCode:
        """Half-close; returns the status the simulator ends the stream with. Raises CheckFailed if it does not."""
        self._timer.start(self._timeout)
        try:
            self._stream.finish()
            self._stream.receive()
        except StreamEnded as end:
            if self._timer.expired:
                raise self._timed_out("the stream to end after the client's half-close") from None
            return end.code
        finally:
            self._timer.stop()
        raise CheckFailed("the end of the stream", "one more reply", "Answer each request with exactly one reply.")

    def cancel(self) -> None:
        """End the stream at once."""
        self._stream.cancel()

    def close(self) -> None:
        """Free the stream."""
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _timed_out(self, expected: str) -> CheckFailed:
        return CheckFailed(
            expected, f"nothing within {self._timeout:g} s", "Answer every request, in order; see `Order`."
        )


class RawSession(RawStream):
    """An open session with ``n`` environments. ``reader`` reads and checks its replies.

    ``reply_timeout``: what the simulator asks for, unchecked.

    Raises CheckFailed if the session does not open.
    """

    def __init__(self, simulator: SimulatorUnderTest, environments: int) -> None:
        environments = simulator.attached or environments
        simulator.wait_for_free(environments)
        super().__init__(simulator)
        self.n = environments
        try:
            reply = self.expect_reply(simulator.open_request(environments), "open")
            self.proto = reply.open.spec
            self.reply_timeout = reply.open.reply_timeout_seconds
            self.spec: Spec = read_spec(self.proto)
        except WireError as error:
            self.close()
            raise CheckFailed("a valid spec in OpenReply", str(error), "See EnvironmentSpec and Space.") from None
        except BaseException:
            self.close()
            raise
        self.reader = ReplyReader(self.spec, environments)
        self._masks: Array | None = None

    def expect_reply(self, request: pb.SimulatorRequest, kind: str) -> pb.SimulatorReply:
        """Send, and receive a reply of ``kind``. Raises CheckFailed for anything else."""
        try:
            reply = self.exchange(request)
        except StreamEnded as end:
            raise CheckFailed(
                f"a reply to `{kind}`",
                f"the end of the stream: {end.code.name} ({end.details})",
                "See the simulator's log.",
            ) from None
        if reply.WhichOneof("reply") != kind:
            raise CheckFailed(
                f"a reply of kind `{kind}`", f"{kind_of(reply)} to {words_of(request)}", "This request keeps the rules."
            )
        return reply

    def expect_error(self, request: pb.SimulatorRequest, code: pb.SimulatorErrorCode.ValueType, advice: str) -> str:
        """Send a request that must be refused in band with ``code``; returns the error's message."""
        expected = f"an in-band error {pb.SimulatorErrorCode.Name(code)}"
        try:
            reply = self.exchange(request)
        except StreamEnded as end:
            raise CheckFailed(expected, f"the end of the stream: {end.code.name} ({end.details})", advice) from None
        if reply.WhichOneof("reply") != "error":
            raise CheckFailed(expected, f"a reply of kind {kind_of(reply)}", advice)
        if reply.error.code != code:
            raise CheckFailed(expected, f"code {reply.error.code} ({reply.error.message})", advice)
        if not reply.error.message:
            raise CheckFailed(
                "a sentence in SimulatorError.message", "an empty one", "Say which field broke which rule."
            )
        return reply.error.message

    def reset(self, seeds: Sequence[int] = ()) -> pb.ResetReply:
        """Reset; returns the reply unchecked."""
        reply = self.expect_reply(reset_request(seeds), "reset").reset
        self.keep_masks(reply.action_masks)
        return reply

    def step(self, actions: Array) -> pb.StepReply:
        """Step; returns the reply unchecked."""
        reply = self.expect_reply(step_request(actions), "step").step
        self.keep_masks(reply.action_masks)
        return reply

    def sample(self, random: np.random.Generator) -> Array:
        """Random actions [n, *shape] that the last masks allow."""
        return sample_actions(self.spec.action_leaf, self.n, random, self._masks)

    def forbidden(self, random: np.random.Generator) -> Array | None:
        """Random actions as of :meth:`sample`, but one that the mask forbids for each environment that has such a one.

        None if the last masks forbid nothing.
        """
        if self._masks is None or self._masks.all():
            return None
        leaf = self.spec.action_leaf
        actions = self.sample(random)
        rows = actions.reshape(self.n, -1)  # a view
        ends = np.cumsum(MaskLayout.of(leaf).counts)
        for row, mask in zip(rows, self._masks, strict=True):
            if mask.all():
                continue
            place = int(random.choice(np.flatnonzero(mask == 0)))
            dimension = int(np.searchsorted(ends, place, "right"))
            row[dimension] = leaf.start + place - (ends[dimension - 1] if dimension else 0)
        return actions

    def record(self, seeds: Sequence[int], steps: int) -> tuple[list[Array], list[object]]:
        """Reset and take ``steps`` random steps; returns the actions, and the replies to the reset and each step."""
        random = np.random.default_rng(7)
        replies: list[object] = [self.reset(seeds)]
        actions = []
        for _ in range(steps):
            actions.append(self.sample(random))
            replies.append(self.step(actions[-1]))
        return actions, replies

    def replay(self, seeds: Sequence[int], actions: Sequence[Array]) -> list[object]:
        """The replies to a reset and steps with these actions."""
        return [self.reset(seeds), *(self.step(action) for action in actions)]

    def keep_masks(self, data: bytes) -> None:
        """Remember the masks of a reply; those of the wrong size are ignored: a check of its own finds them."""
        width = self.spec.mask_width
        valid = bool(width) and len(data) == self.n * width
        self._masks = np.frombuffer(data, np.uint8).reshape(self.n, width) if valid else None


def reset_request(seeds: Sequence[int] = ()) -> pb.SimulatorRequest:
    """A reset."""
    return pb.SimulatorRequest(reset=pb.ResetRequest(seeds=seeds))


def step_request(actions: Array) -> pb.SimulatorRequest:
    """A step."""
    return pb.SimulatorRequest(step=pb.StepRequest(actions=encode_tensor(actions)))


def kind_of(reply: pb.SimulatorReply) -> str:
    """The kind of a reply, as a message shows it."""
    kind = reply.WhichOneof("reply")
    if kind is None:
        return "nothing (no field of SimulatorReply is set)"
    if kind != "error":
        return f"`{kind}`"
    codes = pb.SimulatorErrorCode
    code = codes.Name(reply.error.code) if reply.error.code in codes.values() else f"code {reply.error.code}"
    return f"`error` ({code.removeprefix('SIMULATOR_ERROR_CODE_')}: {reply.error.message or 'without a message'})"


def sample_actions(leaf: Leaf, n: int, random: np.random.Generator, masks: Array | None = None) -> Array:
    """Random actions [n, *shape] of the action space ``leaf``, of those that ``masks`` [n, mask_width] allow."""
    if leaf.kind == "box":
        assert leaf.low is not None and leaf.high is not None  # noqa: S101, PT018 -- a box has bounds
        if leaf.dtype.kind == "f":
            return random.uniform(leaf.low, leaf.high, (n, *leaf.shape)).astype(leaf.dtype)
        return random.integers(leaf.low, leaf.high, (n, *leaf.shape), leaf.dtype, endpoint=True)
    if leaf.kind == "multi_binary" and masks is None:
        return random.integers(0, 2, (n, *leaf.shape), np.int8)
    columns = []
    first = 0
    for count in MaskLayout.of(leaf).counts:
        weights = random.random((n, count))
        if masks is not None:
            weights = weights * masks[:, first : first + count]
        columns.append(weights.argmax(axis=1))
        first += count
    actions = np.stack(columns, axis=1).astype(leaf.dtype)
    return actions[:, 0] + leaf.start if leaf.kind == "discrete" else actions
