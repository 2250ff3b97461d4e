"""One bidirectional call of a grpc.aio server, whose messages come off a queue of their own.

Owns the order of a call's operations, and how it ends; :mod:`.async_streams` says where calls come from, and
:mod:`.stream_inbox` who gets a message. Must not know what the bytes mean.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NoReturn, TypeAlias

import grpc
import structlog

from aisandbox_process.grpc_direct.private_names import cygrpc
from aisandbox_process.grpc_direct.stream_inbox import Claimed, StreamInbox, Take, resolve

log = structlog.get_logger(__name__)

_APART_SECONDS = 0.1
_FIRST_MESSAGE_SECONDS = 1.0

Behavior: TypeAlias = Callable[[Any, Any], Awaitable[None]]
"""A method as grpc.aio takes one: a coroutine function of the requests, here None, and the context."""

_Sent: TypeAlias = Callable[[bool], None]
"""Called in a polling thread when a message is written (True), or cannot be."""


class ServedStream:
    """The context of the call: what grpc.aio's has, as far as methods and interceptors of streams of bytes use it.

    For the event loop.
    """

    __slots__ = (
        "_call", "_cancelled", "_closed", "_closing", "_ended", "_has_received", "_inbox", "_is_receiving",
        "_is_sending", "_lock", "_loop", "_metadata", "_metadata_is_sent", "_on_gone", "_outbox", "_pending_batches",
        "_sent", "_task", "_trailing",
    )  # fmt: skip

    def __init__(self, event: Any, loop: asyncio.AbstractEventLoop, on_gone: Callable[[ServedStream], None]) -> None:
        self._call = event.call
        self._metadata: Any = event.invocation_metadata
        self._loop = loop
        self._on_gone = on_gone
        self._lock = threading.RLock()
        self._inbox = StreamInbox(loop, self._lock)
        self._is_sending = False
        self._is_receiving = self._has_received = False
        self._sent: _Sent | None = None  # of the message that is being written
        self._outbox: deque[tuple[bytes, _Sent | None]] | None = None
        self._task: asyncio.Task[None] | None = None
        self._trailing: Any = None
        self._pending_batches = 0
        self._metadata_is_sent = False
        self._ended = False  # the status is given to gRPC, or no client would receive it
        self._cancelled = False
        self._closed = False
        self._closing: asyncio.Future[Any] | None = None  # done when it is closed

    # What grpc.aio's contexts have.

    def peer(self) -> str:
        """As grpc.aio.ServicerContext."""
        text: str = self._call.peer().decode()
        return text

    def invocation_metadata(self) -> Any:
        """As grpc.aio.ServicerContext."""
        return self._metadata

    def auth_context(self) -> Any:
        """As grpc.aio.ServicerContext."""
        return cygrpc.auth_context(self._call)

    def set_trailing_metadata(self, metadata: Any) -> None:
        """As grpc.aio.ServicerContext."""
        self._trailing = metadata

    async def is_cancelled(self) -> bool:
        """After the last message: whether the client has cancelled the call or is lost, not only half-closed it.

        gRPC tells both by a message that is none. That of a cancellation is followed by another event, which comes
        before the answer to a second read; but two threads poll, and may be a moment apart: so long it is waited for.
        """
        await self.read()
        with self._lock:
            closing = self._closing = self._loop.create_future()
            if self._closed:
                closing.set_result(None)
        await asyncio.wait((closing,), timeout=_APART_SECONDS)
        return self._cancelled

    def cancelled(self) -> bool:
        """As grpc.aio.ServicerContext."""
        return self._cancelled

    def done(self) -> bool:
        """As grpc.aio.ServicerContext."""
        return self._ended

    async def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> NoReturn:
        """As grpc.aio.ServicerContext, but after the first message: clients that cannot write do not read a status."""
        if not self._has_received:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.read(), _FIRST_MESSAGE_SECONDS)
        self._end(code, details, trailing_metadata or self._trailing)
        raise grpc.aio.AbortError

    async def read(self, take: Take | None = None) -> bytes | None:
        """The next message that ``take`` does not deal with; None if there will be none.

        After a message that it has dealt with the next one is read when :meth:`ask` or :meth:`exchange` is called.
        """
        future: asyncio.Future[bytes | None] = self._loop.create_future()
        if self._inbox.read(future, take):
            self.ask()
        return await future

    async def write(self, message: bytes) -> None:
        """As grpc.aio.ServicerContext. Raises BrokenPipeError if the call has ended."""
        future: asyncio.Future[bool] = self._loop.create_future()

        def sent(is_sent: bool) -> None:
            self._loop.call_soon_threadsafe(resolve, future, is_sent)

        self._send(message, sent)
        if not await future:
            raise BrokenPipeError("the stream has ended")

    # What they do not have: for any thread, without waiting.

    def ask(self) -> None:
        """Ask for the next message, which the reader waits for or finds; again, until it is read: nothing."""
        with self._lock:
            ended = self._ended
            if not ended and not self._is_receiving and not self._inbox.is_full():
                self._is_receiving = True
                self._start(self._on_message, cygrpc.ReceiveMessageOperation(0))
            claimed = self._inbox.claim(None) if ended else None
        if claimed is not None:
            self._give(claimed)

    def exchange(self, message: bytes) -> None:
        """Write a message, unless the call has ended, and ask for the next one.

        One event for both, when the next message has come: until then nothing else is written.
        """
        with self._lock:
            if not (self._ended or self._is_sending or self._is_receiving or self._inbox.is_full()):
                self._is_sending = self._is_receiving = True
                send = cygrpc.SendMessageOperation(message, 0)
                self._start(self._on_exchanged, *self._initial_metadata(), send, cygrpc.ReceiveMessageOperation(0))
                return
        self._send(message, None)
        self.ask()

    # The life of the call.

    def serve(self, behavior: Behavior) -> None:
        """Watch for the end, and run the method. In the polling thread."""
        with self._lock:
            self._start(self._on_close, cygrpc.ReceiveCloseOnServerOperation(0))
        self._loop.call_soon_threadsafe(self._begin, behavior)

    def _begin(self, behavior: Behavior) -> None:
        self._task = asyncio.ensure_future(self._run(behavior))
        if self._cancelled:
            self._task.cancel()

    async def _run(self, behavior: Behavior) -> None:
        try:
            await behavior(None, self)
            self._end(grpc.StatusCode.OK, "", self._trailing)
        except asyncio.CancelledError:
            self._end(grpc.StatusCode.CANCELLED, "cancelled", self._trailing)
        except BaseException as error:
            if not self._ended:
                log.exception("stream failed")
                self._end(grpc.StatusCode.UNKNOWN, f"unexpected {type(error).__name__}", self._trailing)
        finally:
            self._task = None

    def _send(self, message: bytes, sent: _Sent | None) -> None:
        """Write a message after those that are being written."""
        with self._lock:
            ended = self._ended
            if not ended and self._is_sending:
                self._outbox = self._outbox or deque()
                self._outbox.append((message, sent))
            elif not ended:
                self._is_sending, self._sent = True, sent
                self._start(self._on_sent, *self._initial_metadata(), cygrpc.SendMessageOperation(message, 0))
        if ended and sent is not None:
            sent(False)

    def _send_waiting(self) -> None:
        while self._outbox and not self._is_sending:
            self._send(*self._outbox.popleft())

    def _give(self, claimed: Claimed) -> None:
        if self._inbox.give(*claimed):
            self.ask()

    def _end(self, code: grpc.StatusCode, details: str, trailing: Any) -> None:
        number: Any = code.value[0]
        with self._lock:
            if not self._ended:
                self._ended = True
                status = cygrpc.SendStatusFromServerOperation(trailing, number, details.encode(), 0)
                self._start(self._on_other, *self._initial_metadata(), status)

    def _initial_metadata(self) -> tuple[Any, ...]:
        if self._metadata_is_sent:
            return ()
        self._metadata_is_sent = True
        return (cygrpc.SendInitialMetadataOperation(None, 0),)

    def _start(self, tag: Callable[[Any], None], *operations: Any) -> None:
        self._call.start_server_batch(operations, tag)
        self._pending_batches += 1

    # The tags of this call's batches: the polling thread calls them with the batch's event.

    def _on_message(self, event: Any) -> None:
        with self._lock:
            self._is_receiving, self._has_received = False, True
            claimed = self._inbox.claim(event.batch_operations[0].message())
        self._give(claimed)
        self._complete()

    def _on_sent(self, event: Any) -> None:
        with self._lock:
            sent, self._sent = self._sent, None
            self._is_sending = False
            self._send_waiting()
        if sent is not None:
            sent(event.success)
        self._complete()

    def _on_exchanged(self, event: Any) -> None:
        with self._lock:
            self._is_sending = self._is_receiving = False
            claimed = self._inbox.claim(event.batch_operations[-1].message())
            self._send_waiting()
        self._give(claimed)
        self._complete()

    def _on_other(self, _event: Any) -> None:
        self._complete()

    def _on_close(self, event: Any) -> None:
        with self._lock:
            self._closed = True
            if event.batch_operations[0].cancelled():
                self._ended = self._cancelled = True
            claimed = None if self._is_receiving else self._inbox.claim(None)
            closing = self._closing
        if closing is not None:
            self._loop.call_soon_threadsafe(resolve, closing, None)
        if self._cancelled:
            self._loop.call_soon_threadsafe(self._cancel)
        if claimed is not None:
            self._give(claimed)
        self._complete()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _complete(self) -> None:
        with self._lock:
            self._pending_batches -= 1
            gone = self._closed and self._ended and not self._pending_batches
        if gone:
            self._on_gone(self)
