"""One call of a gRPC server, answered in the thread that polls the server's completion queue.

Owns the order of a call's operations and how it ends; :mod:`.method_server` says where calls come from. Must not know
what the bytes mean.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeAlias

import grpc
import structlog

from aisandbox_process.grpc_direct.methods import Answer, Methods, UnaryMethod
from aisandbox_process.grpc_direct.private_names import cygrpc

log = structlog.get_logger(__name__)


class _Status(NamedTuple):
    """The attributes of ``grpc.Status``."""

    code: grpc.StatusCode
    details: str
    trailing_metadata: Any = None


_NO_REQUEST = _Status(grpc.StatusCode.UNIMPLEMENTED, "exactly one request message is needed")
_INTERNAL = _Status(grpc.StatusCode.INTERNAL, "internal error; the server's log has the details")

_Handled: TypeAlias = tuple[Any, tuple[()]]
"""What gRPC's polling loop expects of a tag: the call if it has ended, and callbacks."""


class CallServer(Protocol):
    """What a call needs of the server it belongs to."""

    methods: Methods
    stopping: bool
    streams: set[StreamCall]

    def request_call(self, call: Call) -> None:
        """Ask gRPC for the next call of ``call``'s method; ``call`` gets it."""


class Call:
    """One call. Its events arrive in the polling thread; an answer that waited continues in another thread."""

    __slots__ = (
        "_call", "_caller", "_cancel_is_watched", "_counted", "_ended", "_lock", "_metadata_is_sent",
        "_pending_batches", "_server", "_waits_for", "name", "path",
    )  # fmt: skip

    def __init__(self, server: CallServer, name: str) -> None:
        self.name = name
        self.path = f"/{server.methods.service}/{name}"
        self._server = server
        self._call: Any = None
        self._caller: Any = None
        self._lock = threading.RLock()
        self._pending_batches = 1  # batches of operations that have not completed; the first one brings the call
        self._metadata_is_sent = False
        self._cancel_is_watched = False  # gRPC has been asked for an event when the client cancels
        self._ended = False  # the status is sent, or no client would receive it
        self._waits_for: Future[Any] | None = None
        self._counted = contextlib.ExitStack()  # what Methods.stream returned is open

    # The tags of this call's batches: gRPC's loop calls them with the batch's event.

    def on_call(self, event: Any) -> _Handled:
        """A client has called, or the server stops."""
        if not event.success:
            return self, ()
        self._call = event.call
        self._server.request_call(type(self)(self._server, self.name))  # before anything can fail in this one
        return self._handle(self._admit, event)

    def on_request(self, event: Any) -> _Handled:
        """A request has arrived, or there will be none."""
        return self._handle(self._receive, event)

    def on_close(self, event: Any) -> _Handled:
        """The call has ended, or the client has cancelled it."""
        return self._handle(self._notice_cancel, event)

    def on_sent(self, event: Any) -> _Handled:
        """Something has been sent."""
        return self._handle(self._continue, event)

    def _handle(self, step: Callable[[Any], None], event: Any) -> _Handled:
        """Call ``step``; an exception that left it would end the loop of all calls."""
        try:
            step(event)
        except Exception:
            self._fail()
        with self._lock:
            self._pending_batches -= 1
            if self._pending_batches or not self._ended:
                return None, ()
        self._discard()
        return self, ()

    def _admit(self, event: Any) -> None:
        """Ask who calls before anything of the request is read."""
        admit = self._server.methods.admit
        self._advance(admit(self.name, event.invocation_metadata, lambda: _text(event.call.peer())), self._admitted)

    def _admitted(self, caller: Any) -> None:
        self._caller = caller
        self._begin()

    def _begin(self) -> None:
        self._start(self.on_request, cygrpc.ReceiveMessageOperation(0))

    def _receive(self, event: Any) -> None:
        message = event.batch_operations[0].message()
        if message is None:  # the client has gone, or the message is over the limit: gRPC has answered it
            self._end(_NO_REQUEST)
        else:
            self._advance(self._answer(message), self._reply)

    def _answer(self, message: bytes) -> Answer[Any]:
        raise NotImplementedError

    def _reply(self, value: Any) -> None:
        """Send the value of the answer."""
        raise NotImplementedError

    def _continue(self, _event: Any) -> None:
        """Do what follows something sent."""

    def _discard(self) -> None:
        """The call has ended."""
        self._counted.close()

    def _begin_counted(self, begin: Callable[[], None]) -> None:
        """``begin`` a call that counts as one of its peer's streams, unless the peer has too many or it has ended."""
        methods = self._server.methods
        if methods.stream is not None:
            try:
                self._counted.enter_context(methods.stream(_text(self._call.peer()), self._caller))
            except Exception as error:
                self._end(methods.status_of(self.name, error))
                return
        with self._lock:
            if self._ended:  # the client has cancelled while it was asked who calls
                self._counted.close()
            else:
                begin()

    def _notice_cancel(self, event: Any) -> None:
        if event.batch_operations[0].cancelled():
            self._ended = True
            if self._waits_for is not None:
                self._waits_for.cancel()

    def _advance(self, answer: Answer[Any], use: Callable[[Any], None]) -> None:
        """Continue ``answer``; ``use`` gets its value."""
        if self._ended:
            answer.close()
            return
        try:
            future = next(answer)
        except StopIteration as end:
            use(end.value)
        except Exception as error:
            self._end(self._server.methods.status_of(self.name, error))
        else:
            self._watch_cancel()
            self._wait_for(future)
            future.add_done_callback(lambda _: self._resume(answer, use))

    def _wait_for(self, future: Future[Any]) -> None:
        self._waits_for = future
        if self._ended:  # the client has cancelled in the meantime
            future.cancel()

    def _resume(self, answer: Answer[Any], use: Callable[[Any], None]) -> None:
        """Continue in the thread that has completed the future."""
        try:
            self._advance(answer, use)
        except Exception:
            self._fail()

    def _fail(self) -> None:
        log.exception("call failed", call=self.name)
        with contextlib.suppress(Exception):
            self._end(_INTERNAL)

    def _watch_cancel(self) -> None:
        """Ask for an event when the client cancels: not worth its cost for a call that is answered at once."""
        if not self._cancel_is_watched:
            self._cancel_is_watched = True
            self._start(self.on_close, cygrpc.ReceiveCloseOnServerOperation(0))

    def _start(self, tag: Callable[[Any], _Handled], *operations: Any) -> None:
        with self._lock:
            if self._ended:
                return
            self._call.start_server_batch(operations, tag)
            self._pending_batches += 1

    def _end(self, status: grpc.Status | _Status | None, message: bytes | None = None) -> None:
        """Send ``status`` (None: OK), after ``message`` if there is one."""
        last = [] if message is None else [cygrpc.SendMessageOperation(message, 0)]
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._call.start_server_batch((*self._initial_metadata(), *last, _status_operation(status)), self.on_sent)
            self._pending_batches += 1

    def _initial_metadata(self) -> tuple[Any, ...]:
        if self._metadata_is_sent:
            return ()
        self._metadata_is_sent = True
        return (cygrpc.SendInitialMetadataOperation(None, 0),)


class UnaryCall(Call):
    """One request, one reply."""

    __slots__ = ()

    def _answer(self, message: bytes) -> Answer[Any]:
        return self._server.methods.unary[self.name](message, self._caller)

    def _reply(self, value: bytes) -> None:
        self._end(None, value)


class StreamingCall(Call):
    """One request, several replies."""

    __slots__ = ("_replies",)

    def _begin(self) -> None:
        self._begin_counted(super()._begin)

    def _answer(self, message: bytes) -> Answer[Any]:
        return self._server.methods.streaming[self.name](message, self._caller)

    def _reply(self, value: Iterator[bytes]) -> None:
        self._replies = value
        self._watch_cancel()
        self._continue(None)

    def _continue(self, _event: Any) -> None:
        if self._ended:
            return
        reply = next(self._replies, None)
        if reply is None:
            self._end(None)
        else:
            self._start(self.on_sent, *self._initial_metadata(), cygrpc.SendMessageOperation(reply, 0))


class StreamCall(Call):
    """One reply a request, in order."""

    __slots__ = ("_idle", "_method")

    def _begin(self) -> None:
        self._begin_counted(self._begin_stream)

    def _begin_stream(self) -> None:
        self._method: UnaryMethod = self._server.methods.bidirectional[self.name]()
        self._idle = True
        self._watch_cancel()
        self._server.streams.add(self)
        self._start(self.on_request, cygrpc.ReceiveMessageOperation(0), *self._initial_metadata())
        if self._server.stopping:
            self.stop()

    def _receive(self, event: Any) -> None:
        with self._lock:
            self._idle = False
        message = event.batch_operations[0].message()
        if message is None:
            self._end(None)
        else:
            self._advance(self._method(message, self._caller), self._reply)

    def _reply(self, value: bytes) -> None:
        with self._lock:
            if self._server.stopping:
                self._end(self._server.methods.stopping, value)
                return
            # One batch for both operations: one event a round trip, which brings the next request.
            self._idle = True
            self._start(self.on_request, cygrpc.ReceiveMessageOperation(0), cygrpc.SendMessageOperation(value, 0))

    def stop(self) -> None:
        """End between a reply and the next request; from any thread."""
        with self._lock:
            if self._idle:
                self._end(self._server.methods.stopping)

    def _discard(self) -> None:
        super()._discard()
        self._server.streams.discard(self)


def _text(peer: str | bytes) -> str:
    return peer.decode("ascii", "replace") if isinstance(peer, bytes) else peer


def _status_operation(status: grpc.Status | _Status | None) -> Any:
    if status is None:
        return cygrpc.SendStatusFromServerOperation(None, 0, b"", 0)
    return cygrpc.SendStatusFromServerOperation(
        status.trailing_metadata, status.code.value[0], status.details.encode(), 0
    )
