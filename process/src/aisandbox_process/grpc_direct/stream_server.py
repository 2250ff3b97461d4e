"""One bidirectional method of a gRPC server, answered by one thread for each stream.

gRPC's synchronous server takes all messages off one queue with one thread and hands each to the thread of its call,
which hands the reply back. With :class:`DirectStreamServer` each stream has a completion queue of its own, and the
thread that polls it also computes the reply: no other Python thread takes part. :class:`PublicStreamServer` does the
same with the public API. All other methods stay with gRPC's server. Must not know what the bytes mean.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

import grpc
import structlog

from aisandbox_process.grpc_direct.private_names import cygrpc, server_state

log = structlog.get_logger(__name__)

# The tags of batches of operations: what a batch is for.
_EXCHANGE, _OTHER = object(), object()


class StreamAborted(Exception):
    """Raised by a handler: the stream ends with the status ``code`` and its message ``details``."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(code, details)
        self.code = code
        self.details = details


class StreamHandler(Protocol):
    """Answers the requests of one stream. Its methods are called from one thread."""

    def handle(self, request: bytes) -> bytes:
        """The reply to a request. Raises StreamAborted to end the stream."""
        ...

    def close(self) -> None:
        """Free what the stream holds; may be called again. Called before the client learns that the stream ended."""


class StreamServer(Protocol):
    """The streams of one method of a server."""

    def start(self) -> None:
        """Accept streams from now on; the gRPC server has been started."""

    def join(self, timeout: float) -> None:
        """Wait until the streams of a gRPC server that has stopped are closed, at most ``timeout`` seconds."""


class DirectStreamServer:
    """Streams that are each polled by a thread of their own."""

    def __init__(self, server: grpc.Server, method: str, new_handler: Callable[[], StreamHandler]) -> None:
        self._method = method
        self._new_handler = new_handler
        self._server = server_state(server).server
        self._calls = cygrpc.CompletionQueue()
        self._server.register_completion_queue(self._calls)
        self._server.register_method(method)
        self._threads: set[threading.Thread] = set()
        self._acceptor = threading.Thread(target=self._accept, name="stream-acceptor", daemon=True)

    def start(self) -> None:
        """See StreamServer."""
        self._acceptor.start()

    def join(self, timeout: float) -> None:
        """See StreamServer."""
        deadline = time.monotonic() + timeout
        self._acceptor.join(timeout)
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _accept(self) -> None:
        while True:
            messages = cygrpc.CompletionQueue()
            try:
                self._server.request_registered_call(messages, self._calls, self._method, "stream")
            except ValueError:  # the server is stopping
                break
            event = self._calls.poll()
            if not event.success:
                break
            thread = threading.Thread(target=self._serve, args=(event.call, messages), name="stream", daemon=True)
            self._threads.add(thread)
            thread.start()
            del event
        self._calls.shutdown()

    def _serve(self, call: Any, messages: Any) -> None:
        handler = self._new_handler()
        try:
            _ServerStream(call, messages).serve(handler)
        except Exception:
            log.exception("stream failed", method=self._method)
        finally:
            handler.close()
            self._threads.discard(threading.current_thread())


class _ServerStream:
    """One stream: answers until it ends, then waits for every batch of operations that has not completed."""

    def __init__(self, call: Any, messages: Any) -> None:
        self._call = call
        self._messages = messages
        self._pending_batches = 0

    def serve(self, handler: StreamHandler) -> None:
        code, details = grpc.StatusCode.OK, ""
        self._start(_OTHER, cygrpc.ReceiveCloseOnServerOperation(0))
        self._start(_EXCHANGE, cygrpc.SendInitialMetadataOperation(None, 0), cygrpc.ReceiveMessageOperation(0))
        try:
            while (request := self._next_request()) is not None:
                # One batch for both operations: one event a round trip, which brings the next request.
                reply = handler.handle(request)
                self._start(_EXCHANGE, cygrpc.SendMessageOperation(reply, 0), cygrpc.ReceiveMessageOperation(0))
        except StreamAborted as abort:
            code, details = abort.code, abort.details
        # Before the status is sent: a client that has received it may count on what the stream held being free.
        handler.close()
        self._start(_OTHER, cygrpc.SendStatusFromServerOperation(None, code.value[0], details.encode(), 0))
        while self._pending_batches:
            self._poll()
        self._messages.shutdown()

    def _start(self, tag: object, *operations: Any) -> None:
        self._call.start_server_batch(operations, tag)
        self._pending_batches += 1

    def _poll(self) -> Any:
        event = self._messages.poll()
        self._pending_batches -= 1
        return event

    def _next_request(self) -> bytes | None:
        """The next request, or None if there will be none: the client half-closed or cancelled, or was lost."""
        while True:
            event = self._poll()
            if event.tag is _EXCHANGE:
                message: bytes | None = event.batch_operations[1].message()
                return message


class PublicStreamServer:
    """Streams with gRPC's public API: each holds a thread of the server's pool while it lasts."""

    def __init__(self, server: grpc.Server, method: str, new_handler: Callable[[], StreamHandler]) -> None:
        self._new_handler = new_handler
        service, name = method[1:].split("/")
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.stream_stream_rpc_method_handler(self._serve)
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))

    def start(self) -> None:
        """Nothing to do: the gRPC server accepts the streams."""

    def join(self, timeout: float) -> None:
        """Nothing to do: the gRPC server waits for its handlers."""

    def _serve(self, requests: Iterable[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        handler = self._new_handler()
        try:
            for request in requests:
                yield handler.handle(request)
        except StreamAborted as abort:
            context.abort(abort.code, abort.details)
        finally:
            handler.close()
