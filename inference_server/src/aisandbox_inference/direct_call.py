"""One call of a gRPC server, answered in the thread that polls: what follows each of its events.

Owns the order of a call's operations and its end. direct_calls.py says why and where such calls come from; it looks
whether gRPC has the names that are used here. Must not know what the bytes mean.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Protocol, TypeAlias

import structlog
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from aisandbox_inference.errors import Stopping
from aisandbox_inference.methods import SERVICE, Methods, Unary
from aisandbox_inference.statuses import status_of
from aisandbox_inference.waiting import Work

try:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover -- a gRPC without its Cython layer
    cygrpc = None

log = structlog.get_logger(__name__)

_NO_REQUEST = status_pb2.Status(code=code_pb2.UNIMPLEMENTED, message="exactly one request message is needed")
_BROKEN = status_pb2.Status(code=code_pb2.INTERNAL, message="internal error; the server's log has the details")

_Handled: TypeAlias = tuple[Any, tuple[()]]
"""What gRPC's loop wants of a tag: the call if it has ended, and callbacks."""


class Home(Protocol):
    """What a call needs of the server it belongs to."""

    methods: Methods
    stopping: bool
    streams: set[StreamCall]

    def expect(self, call: Call) -> None:
        """Let ``call`` be the next of its method."""


class Call:
    """One call. Its events come in the polling thread; work that waited goes on in another one."""

    __slots__ = ("_awaited", "_call", "_calls", "_due", "_lock", "_opened", "_over", "_watched", "name", "path")

    def __init__(self, calls: Home, name: str) -> None:
        self.name = name
        self.path = f"/{SERVICE}/{name}"
        self._calls = calls
        self._call: Any = None
        self._lock = threading.RLock()
        self._due = 1  # batches of operations that have not come back; the first brings the call
        self._opened = False  # the initial metadata are sent
        self._watched = False  # gRPC has been asked to tell when the client cancels
        self._over = False  # the status is sent, or nobody would get it
        self._awaited: Future[Any] | None = None

    def arrived(self, event: Any) -> _Handled:
        """A client has called, or the server stops."""
        if not event.success:
            return self, ()
        self._call = event.call
        self._calls.expect(type(self)(self._calls, self.name))  # before anything can go wrong with this one
        return self._handle(self._begin, event)

    def received(self, event: Any) -> _Handled:
        """A request is there, or there will be none."""
        return self._handle(self._take, event)

    def closed(self, event: Any) -> _Handled:
        """The call has ended, or the client has cancelled it."""
        return self._handle(self._notice_end, event)

    def done(self, event: Any) -> _Handled:
        """Something has been sent."""
        return self._handle(self._go_on, event)

    def _handle(self, step: Callable[[Any], None], event: Any) -> _Handled:
        """Take ``step``; an exception would end the loop of all calls."""
        try:
            step(event)
        except Exception:
            self._break()
        with self._lock:
            self._due -= 1
            if self._due or not self._over:
                return None, ()
        self._forget()
        return self, ()

    def _begin(self, _event: Any) -> None:
        self._start(self.received, cygrpc.ReceiveMessageOperation(0))

    def _take(self, event: Any) -> None:
        message = event.batch_operations[0].message()
        if message is None:  # the client has gone, or the message is over the limit: gRPC has told it
            self._end(_NO_REQUEST)
        else:
            self._advance(self._work(message))

    def _work(self, message: bytes) -> Work[Any]:
        raise NotImplementedError

    def _reply(self, value: Any) -> None:
        """Send what the work gave."""
        raise NotImplementedError

    def _go_on(self, _event: Any) -> None:
        """Do what follows something sent."""

    def _forget(self) -> None:
        """The call has ended."""

    def _notice_end(self, event: Any) -> None:
        if event.batch_operations[0].cancelled():
            self._over = True
            if self._awaited is not None:
                self._awaited.cancel()

    def _advance(self, work: Work[Any]) -> None:
        if self._over:
            work.close()
            return
        try:
            future = next(work)
        except StopIteration as end:
            self._reply(end.value)
        except Exception as error:
            self._end(self._calls.methods.refusal(self.name, error))
        else:
            self._watch()
            self._wait_for(future)
            future.add_done_callback(lambda _: self._resume(work))

    def _wait_for(self, future: Future[Any]) -> None:
        self._awaited = future
        if self._over:  # since a moment ago
            future.cancel()

    def _resume(self, work: Work[Any]) -> None:
        """Go on in the thread that has completed what was waited for."""
        try:
            self._advance(work)
        except Exception:
            self._break()

    def _break(self) -> None:
        log.exception("call broke", call=self.name)
        with contextlib.suppress(Exception):
            self._end(_BROKEN)

    def _watch(self) -> None:
        """Ask to be told when the client cancels: not worth an event for a call that is answered at once."""
        if not self._watched:
            self._watched = True
            self._start(self.closed, cygrpc.ReceiveCloseOnServerOperation(0))

    def _start(self, tag: Callable[[Any], _Handled], *operations: Any) -> None:
        with self._lock:
            if self._over:
                return
            self._call.start_server_batch(operations, tag)
            self._due += 1

    def _end(self, status: status_pb2.Status | None, message: bytes | None = None) -> None:
        """Send ``status`` (None: OK), after ``message`` if there is one."""
        last = [] if message is None else [cygrpc.SendMessageOperation(message, 0)]
        with self._lock:
            if self._over:
                return
            self._over = True
            self._call.start_server_batch((*self._opening(), *last, _status(status)), self.done)
            self._due += 1

    def _opening(self) -> tuple[Any, ...]:
        if self._opened:
            return ()
        self._opened = True
        return (cygrpc.SendInitialMetadataOperation(None, 0),)


class UnaryCall(Call):
    """One request, one answer."""

    __slots__ = ()

    def _work(self, message: bytes) -> Work[Any]:
        return self._calls.methods.unary[self.name](message)

    def _reply(self, value: bytes) -> None:
        self._end(None, value)


class PartsCall(Call):
    """One request, and an answer in parts."""

    __slots__ = ("_parts",)

    def _work(self, message: bytes) -> Work[Any]:
        return self._calls.methods.parts[self.name](message)

    def _reply(self, value: Iterator[bytes]) -> None:
        self._parts = value
        self._watch()
        self._go_on(None)

    def _go_on(self, _event: Any) -> None:
        if self._over:
            return
        part = next(self._parts, None)
        if part is None:
            self._end(None)
        else:
            self._start(self.done, *self._opening(), cygrpc.SendMessageOperation(part, 0))


class StreamCall(Call):
    """One reply a request, in order."""

    __slots__ = ("_answer", "_idle")

    def _begin(self, _event: Any) -> None:
        self._answer: Unary = self._calls.methods.streams[self.name]()
        self._idle = True
        self._watch()
        self._calls.streams.add(self)
        self._start(self.received, cygrpc.ReceiveMessageOperation(0), *self._opening())
        if self._calls.stopping:
            self.stop()

    def _take(self, event: Any) -> None:
        with self._lock:
            self._idle = False
        message = event.batch_operations[0].message()
        if message is None:
            self._end(None)
        else:
            self._advance(self._answer(message))

    def _reply(self, value: bytes) -> None:
        with self._lock:
            if self._calls.stopping:
                self._end(status_of(Stopping()), value)
                return
            # One batch for both: one event a round trip, and the next request is in it.
            self._idle = True
            self._start(self.received, cygrpc.ReceiveMessageOperation(0), cygrpc.SendMessageOperation(value, 0))

    def stop(self) -> None:
        """End between an answer and the next request; from any thread."""
        with self._lock:
            if self._idle:
                self._end(status_of(Stopping()))

    def _forget(self) -> None:
        self._calls.streams.discard(self)


def _status(status: status_pb2.Status | None) -> Any:
    if status is None:
        return cygrpc.SendStatusFromServerOperation(None, 0, b"", 0)
    metadata = rpc_status.to_status(status).trailing_metadata
    return cygrpc.SendStatusFromServerOperation(metadata, status.code, status.message.encode(), 0)
