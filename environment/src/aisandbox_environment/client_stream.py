"""The client's end of a Session stream: bytes out, bytes in, one reply a request.

Owns the thread that waits: with gRPC's public streams a reply crosses three threads before its reader has it, which
costs more than the bytes do. :class:`DirectStream` lets the reader itself wait on the call's own completion queue, as
gRPC's own single-threaded streams do (grpc.experimental.ChannelOptions.SingleThreadedUnaryStream, which exists for
unary requests only); it rests on names that gRPC does not promise to keep. Where one is missing, :func:`open_stream`
falls back to :class:`PublicStream`, which does the same more slowly (bench/bridge.py measures both).
Must not know what the bytes mean.
"""

from __future__ import annotations

import queue
from typing import Any, Protocol

import grpc

from aisandbox_environment.channels import CLIENT_OPTIONS, SESSION_METHOD

try:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover -- a gRPC without its Cython layer
    cygrpc = None

_NEEDED = (
    "PropagationConstants", "StatusCode", "SendInitialMetadataOperation",
    "ReceiveInitialMetadataOperation", "SendMessageOperation", "ReceiveMessageOperation",
    "SendCloseFromClientOperation", "ReceiveStatusOnClientOperation",
)  # fmt: skip
# What a batch of operations is for.
_EXCHANGE, _STATUS = object(), object()
_CODES = {code.value[0]: code for code in grpc.StatusCode}


class StreamEnded(Exception):
    """The stream has ended with this status."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class ClientStream(Protocol):
    """One stream; not for two threads, but for :meth:`cancel`, which any thread and any signal handler may call."""

    def send(self, request: bytes) -> None:
        """Send a request, and begin to wait for its reply. One request at a time."""

    def receive(self) -> bytes:
        """Wait for the reply to the last request. Raises StreamEnded. Signal handlers run while it waits."""
        ...

    def cancel(self) -> None:
        """End the stream at once: a wait in :meth:`receive` ends with StreamEnded(CANCELLED)."""

    def finish(self) -> None:
        """End the stream well: half-close, and wait until the other side has ended it too."""

    def close(self) -> None:
        """Free the stream and its channel; cancels a stream that has not ended."""


def open_stream(address: str) -> ClientStream:
    """A stream to ``address``, on a channel of its own. Opens nothing yet: the first reply shows whether it works."""
    return DirectStream(address) if direct_is_possible() else PublicStream(address)


def direct_is_possible() -> bool:
    """Whether this version of gRPC has what :class:`DirectStream` needs."""
    return (
        cygrpc is not None
        and all(hasattr(cygrpc, name) for name in _NEEDED)
        and hasattr(cygrpc.Channel, "segregated_call")
    )


class DirectStream:
    """A stream whose reader waits on its own completion queue: no other Python thread takes part."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, CLIENT_OPTIONS)
        inner: Any = self._channel
        self._call = inner._channel.segregated_call(
            cygrpc.PropagationConstants.GRPC_PROPAGATE_DEFAULTS,
            SESSION_METHOD.encode(), None, None, None, None,
            (
                ((cygrpc.SendInitialMetadataOperation(None, 0),), None),
                ((cygrpc.ReceiveInitialMetadataOperation(0),), None),
                ((cygrpc.ReceiveStatusOnClientOperation(0),), _STATUS),
            ),
            None,
        )  # fmt: skip
        # Batches of operations that have not come back. The call is freed with the last one: after that the queue
        # must not be asked again.
        self._due = 3
        self._end: StreamEnded | None = None

    def send(self, request: bytes) -> None:
        """See ClientStream."""
        # One batch for both: one event a round trip.
        if self._end is None and self._call.operate(
            (cygrpc.SendMessageOperation(request, 0), cygrpc.ReceiveMessageOperation(0)), _EXCHANGE
        ):
            self._due += 1

    def receive(self) -> bytes:
        """See ClientStream."""
        while self._due:
            message = self._next()
            if message is not None:
                return message
        raise self._ended()

    def cancel(self) -> None:
        """See ClientStream."""
        self._call.cancel(cygrpc.StatusCode.cancelled, "cancelled by the client")

    def finish(self) -> None:
        """See ClientStream."""
        if self._end is None and self._call.operate((cygrpc.SendCloseFromClientOperation(0),), None):
            self._due += 1
        while self._due:
            self._next()

    def close(self) -> None:
        """See ClientStream."""
        self.cancel()
        while self._due:
            self._next()
        self._channel.close()

    def _next(self) -> bytes | None:
        """Wait for one batch; returns the message it brought, if it did."""
        try:
            event = self._call.next_event()
        except BaseException:
            # A signal handler raised: gRPC has freed the call.
            self._due = 0
            raise
        self._due -= 1
        if event.tag is _EXCHANGE:
            message: bytes | None = event.batch_operations[1].message()
            return message
        if event.tag is _STATUS:
            (status,) = event.batch_operations
            self._end = StreamEnded(_CODES.get(status.code(), grpc.StatusCode.UNKNOWN), status.details() or "")
        return None

    def _ended(self) -> StreamEnded:
        return self._end or StreamEnded(grpc.StatusCode.CANCELLED, "interrupted")


class PublicStream:
    """The same with gRPC's public streams."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.insecure_channel(address, CLIENT_OPTIONS)
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies: Any = self._channel.stream_stream(SESSION_METHOD)(iter(self._requests.get, None))  # type: ignore[arg-type]

    def send(self, request: bytes) -> None:
        """See ClientStream."""
        self._requests.put(request)

    def receive(self) -> bytes:
        """See ClientStream."""
        try:
            reply: bytes = next(self._replies)
        except StopIteration:
            raise StreamEnded(self._replies.code(), self._replies.details()) from None
        except grpc.RpcError:
            raise StreamEnded(self._replies.code(), self._replies.details()) from None
        return reply

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
