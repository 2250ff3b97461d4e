"""Answers Session streams on one thread each that waits for the stream's own messages.

gRPC's synchronous server takes all messages off one queue with one thread and hands each to the thread of its call,
which hands the reply back. Here each session has a completion queue of its own, and the thread that polls it also steps
the simulation: no other Python thread takes part. It rests on names that gRPC does not promise to keep; where one is
missing the server uses gRPC's own way (bench/bridge.py measures both). All other calls stay with gRPC's server.
Must not know what the bytes mean.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc
import structlog

from aisandbox_environment.channels import SESSION_METHOD
from aisandbox_environment.served_session import ServedSession, SessionEnds

try:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover -- a gRPC without its Cython layer
    cygrpc = None

log = structlog.get_logger(__name__)

_NEEDED = (
    "CompletionQueue", "SendInitialMetadataOperation",
    "ReceiveMessageOperation", "SendMessageOperation", "ReceiveCloseOnServerOperation",
    "SendStatusFromServerOperation",
)  # fmt: skip


# What a batch of operations is for.
_EXCHANGE, _OTHER = object(), object()


class DirectSessions:
    """The Session calls of a gRPC server that has been given no handler for them."""

    def __init__(self, server: grpc.Server, new_session: Callable[[], ServedSession]) -> None:
        self._new_session = new_session
        inner: Any = server
        self._server = inner._state.server
        self._calls = cygrpc.CompletionQueue()
        self._server.register_completion_queue(self._calls)
        self._server.register_method(SESSION_METHOD)
        self._threads: set[threading.Thread] = set()
        self._acceptor = threading.Thread(target=self._accept, name="session-acceptor", daemon=True)

    @staticmethod
    def are_possible() -> bool:
        """Whether this version of gRPC has what this class needs."""
        return (
            cygrpc is not None
            and all(hasattr(cygrpc, name) for name in _NEEDED)
            and hasattr(cygrpc.Server, "request_registered_call")
            and hasattr(cygrpc.Server, "register_method")
        )

    def start(self) -> None:
        """Take calls from now on; the server has been started."""
        self._acceptor.start()

    def join(self, timeout: float) -> None:
        """Wait until the sessions of a server that has stopped are freed, at most ``timeout`` seconds."""
        until = time.monotonic() + timeout
        self._acceptor.join(timeout)
        for thread in list(self._threads):
            thread.join(max(0.0, until - time.monotonic()))

    def _accept(self) -> None:
        while True:
            messages = cygrpc.CompletionQueue()
            try:
                self._server.request_registered_call(messages, self._calls, SESSION_METHOD, "session")
            except ValueError:  # the server is stopping
                break
            event = self._calls.poll()
            if not event.success:
                break
            thread = threading.Thread(target=self._serve, args=(event.call, messages), name="session", daemon=True)
            self._threads.add(thread)
            thread.start()
            del event
        self._calls.shutdown()

    def _serve(self, call: Any, messages: Any) -> None:
        session = self._new_session()
        try:
            _Stream(call, messages).answer(session)
        except Exception:
            log.exception("session broke")
        finally:
            session.close()
            self._threads.discard(threading.current_thread())


class _Stream:
    """One stream: answers until it ends, then waits for all that gRPC still owes."""

    def __init__(self, call: Any, messages: Any) -> None:
        self._call = call
        self._messages = messages
        self._due = 0

    def answer(self, session: ServedSession) -> None:
        code, details = grpc.StatusCode.OK, ""
        self._start(_OTHER, cygrpc.ReceiveCloseOnServerOperation(0))
        self._start(_EXCHANGE, cygrpc.SendInitialMetadataOperation(None, 0), cygrpc.ReceiveMessageOperation(0))
        try:
            while (request := self._next_message()) is not None:
                # One batch for both: one event a round trip, and the next request is in it.
                reply = session.handle(request)
                self._start(_EXCHANGE, cygrpc.SendMessageOperation(reply, 0), cygrpc.ReceiveMessageOperation(0))
        except SessionEnds as end:
            code, details = end.code, end.details
        # Before the status: a client that has it may look whether its environments are free again.
        session.close()
        self._start(_OTHER, cygrpc.SendStatusFromServerOperation(None, code.value[0], details.encode(), 0))
        while self._due:
            self._poll()
        self._messages.shutdown()

    def _start(self, tag: object, *operations: Any) -> None:
        self._call.start_server_batch(operations, tag)
        self._due += 1

    def _poll(self) -> Any:
        event = self._messages.poll()
        self._due -= 1
        return event

    def _next_message(self) -> bytes | None:
        """The next request, or None when there will be none: the client has half-closed, or the stream is cut."""
        while True:
            event = self._poll()
            if event.tag is _EXCHANGE:
                message: bytes | None = event.batch_operations[1].message()
                return message
