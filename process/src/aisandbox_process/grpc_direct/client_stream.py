"""The client's end of a bidirectional stream: bytes out, bytes in, one reply a request.

Owns the thread that waits: with gRPC's public streams a reply crosses three threads before its reader has it, which
costs more than the bytes do. :class:`DirectStream` lets the reader itself wait on the call's own completion queue, as
gRPC's own single-threaded streams do (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, which exists for
unary requests only). :class:`PublicStream` does the same with the public API. Must not know what the bytes mean.
"""

from __future__ import annotations

import queue
from collections.abc import Sequence
from typing import Any, Protocol

import grpc

from aisandbox_process.grpc_direct.private_names import core_channel, cygrpc

Options = Sequence[tuple[str, int | str]]
"""Options of a channel, as ``grpc.insecure_channel`` takes them."""

Metadata = Sequence[tuple[str, str]]
"""The metadata of a call: names in lower case, and their values."""

# The tags of batches of operations: what a batch is for.
_EXCHANGE, _RECEIVE, _STATUS = object(), object(), object()
# How long to wait for gRPC's first word on the state of a channel.
_STATE_SECONDS = 5.0
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class StreamEnded(Exception):
    """The stream has ended with the status ``code`` and its message ``details``."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class ClientStream(Protocol):
    """One stream. Not for two threads at once; only :meth:`cancel` and :meth:`is_connected` from any."""

    def send(self, request: bytes) -> None:
        """Send a request without waiting. One request at a time: :meth:`receive` comes before the next one."""

    def start_receive(self) -> None:
        """Let :meth:`receive` wait for a message that answers no request: of a stream whose server speaks too."""

    def receive(self) -> bytes:
        """Wait for the reply to the last request. Raises StreamEnded. Signal handlers run while it waits."""
        ...

    def is_connected(self) -> bool:
        """Whether the connection is up: the peer speaks HTTP/2. From any thread."""
        ...

    def cancel(self) -> None:
        """End the stream at once: a wait in :meth:`receive` ends with StreamEnded(CANCELLED)."""

    def finish(self) -> None:
        """Half-close the stream, and wait until the server has ended it."""

    def close(self) -> None:
        """Free the stream and its channel; cancels a stream that has not ended."""


def _channel(address: str, options: Options, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)


class DirectStream:
    """A stream whose reader waits on the call's own completion queue: no other Python thread takes part."""

    def __init__(
        self,
        address: str,
        method: str,
        options: Options = (),
        metadata: Metadata = (),
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._channel = _channel(address, options, credentials)
        self._call = core_channel(self._channel).segregated_call(
            cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            method.encode(), None, None, None, None,
            (
                ((cygrpc.SendInitialMetadataOperation(tuple(metadata), 0),), None),
                ((cygrpc.ReceiveInitialMetadataOperation(0),), None),
                ((cygrpc.ReceiveStatusOnClientOperation(0),), _STATUS),
            ),
            None,
        )  # fmt: skip
        # The batches of operations that have not completed. gRPC frees the call with the last one: after that the
        # queue must not be polled again.
        self._pending_batches = 3
        self._end: StreamEnded | None = None

    def send(self, request: bytes) -> None:
        """See ClientStream."""
        # One batch for both operations: one event a round trip.
        if self._end is None and self._call.operate(
            (cygrpc.SendMessageOperation(request, 0), cygrpc.ReceiveMessageOperation(0)), _EXCHANGE
        ):
            self._pending_batches += 1

    def start_receive(self) -> None:
        """See ClientStream."""
        if self._end is None and self._call.operate((cygrpc.ReceiveMessageOperation(0),), _RECEIVE):
            self._pending_batches += 1

    def receive(self) -> bytes:
        """See ClientStream."""
        while self._pending_batches:
            message = self._next_message()
            if message is not None:
                return message
        raise self._end or StreamEnded(grpc.StatusCode.CANCELLED, "interrupted")

    def is_connected(self) -> bool:
        """See ClientStream."""
        try:
            state = core_channel(self._channel).check_connectivity_state(False)
            return bool(state == cygrpc.ConnectivityState.ready)
        except ValueError:  # the channel is closed
            return False

    def cancel(self) -> None:
        """See ClientStream."""
        self._call.cancel(cygrpc.StatusCode.cancelled, "cancelled by the client")

    def finish(self) -> None:
        """See ClientStream."""
        if self._end is None and self._call.operate((cygrpc.SendCloseFromClientOperation(0),), None):
            self._pending_batches += 1
        while self._pending_batches:
            self._next_message()

    def close(self) -> None:
        """See ClientStream."""
        self.cancel()
        while self._pending_batches:
            self._next_message()
        self._channel.close()

    def _next_message(self) -> bytes | None:
        """Wait until one batch completes; returns the message it received, if any."""
        try:
            event = self._call.next_event()
        except BaseException:
            # A signal handler raised: gRPC has freed the call.
            self._pending_batches = 0
            raise
        self._pending_batches -= 1
        if event.tag is _EXCHANGE or event.tag is _RECEIVE:
            message: bytes | None = event.batch_operations[-1].message()
            return message
        if event.tag is _STATUS:
            (status,) = event.batch_operations
            self._end = StreamEnded(_CODES.get(status.code(), grpc.StatusCode.UNKNOWN), status.details() or "")
        return None


class PublicStream:
    """A stream with gRPC's public API. It also takes several requests before their replies are received."""

    def __init__(
        self,
        address: str,
        method: str,
        options: Options = (),
        metadata: Metadata = (),
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self._channel = _channel(address, options, credentials)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies: Any = self._channel.stream_stream(method)(
            iter(self._requests.get, None),  # type: ignore[arg-type]
            metadata=tuple(metadata),
        )

    def send(self, request: bytes) -> None:
        """See ClientStream."""
        self._requests.put(request)

    def start_receive(self) -> None:
        """See ClientStream."""

    def receive(self) -> bytes:
        """See ClientStream."""
        try:
            reply: bytes = next(self._replies)
        except (StopIteration, grpc.RpcError):
            raise StreamEnded(self._replies.code(), self._replies.details()) from None
        return reply

    def is_connected(self) -> bool:
        """See ClientStream."""
        # A callback for as long as the stream lives would let close() wait for gRPC's next look at the state (0.2 s).
        states: queue.SimpleQueue[grpc.ChannelConnectivity] = queue.SimpleQueue()
        notice = states.put
        self._channel.subscribe(notice)
        try:
            return states.get(timeout=_STATE_SECONDS) is grpc.ChannelConnectivity.READY
        except queue.Empty:
            return False
        finally:
            self._channel.unsubscribe(notice)

    def cancel(self) -> None:
        """See ClientStream."""
        self._replies.cancel()

    def finish(self) -> None:
        """See ClientStream."""
        self._requests.put(None)
        self._replies.code()

    def close(self) -> None:
        """See ClientStream."""
        self._requests.put(None)
        self._replies.cancel()
        self._channel.close()
