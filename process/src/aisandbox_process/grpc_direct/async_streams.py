"""Bidirectional methods of grpc.aio servers, whose messages are taken off a queue by a thread of their own.

grpc.aio hands every message, and the end of every write, from its polling thread to the event loop. Here the methods
have a completion queue of their own on the same server, so that a message can be dealt with in the thread that polls
it (:class:`.served_stream.ServedStream`); what waits, and what is rare, stays with the event loop.
:class:`PublicAsyncStreams` leaves all to grpc.aio. Must not know what the bytes mean.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import grpc
import structlog

from aisandbox_process.grpc_direct.private_names import core_server, cygrpc
from aisandbox_process.grpc_direct.served_stream import Behavior, ServedStream

log = structlog.get_logger(__name__)

_THREADS = 2
"""gRPC lets one of all waiting threads poll the sockets, and another when that one has got a message: preferably one of
the same queue. With one thread it would be that of grpc.aio, which would have to wake this one for each message."""
_CLOSE_SECONDS = 5.0


class AsyncStreams(Protocol):
    """Bidirectional methods of some servers. For one event loop."""

    def take_over(self, server: grpc.aio.Server, method: str, behavior: Behavior, interceptors: Sequence[Any]) -> None:
        """Serve ``method`` of ``server``, which has a handler with this behavior and is not started.

        ``interceptors`` are those that the server was made with: they are asked as grpc.aio asks them.
        """

    def start(self) -> None:
        """Accept calls from now on; the servers have been started."""

    async def close(self) -> None:
        """Free what is held; the servers have stopped."""


class PublicAsyncStreams:
    """The methods stay grpc.aio's, like all others."""

    def take_over(self, server: grpc.aio.Server, method: str, behavior: Behavior, interceptors: Sequence[Any]) -> None:
        """Nothing to do: the server has its handler."""

    def start(self) -> None:
        """Nothing to do: the server accepts the calls."""

    async def close(self) -> None:
        """Nothing to do: nothing is held."""


class DirectAsyncStreams:
    """One queue and one thread for the methods of all servers. The thread ends when all of them have stopped."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.queue = cygrpc.CompletionQueue()
        self._cores: list[Any] = []
        self._methods: set[_Method] = set()
        self._streams: set[ServedStream] = set()  # of the polling thread
        self._threads = [threading.Thread(target=self._poll, name="streams", daemon=True) for _ in range(_THREADS)]

    def take_over(self, server: grpc.aio.Server, method: str, behavior: Behavior, interceptors: Sequence[Any]) -> None:
        """See AsyncStreams."""
        core = core_server(server)
        if core not in self._cores:
            core.register_completion_queue(self.queue)
            self._cores.append(core)
        core.register_method(method)
        self._methods.add(_Method(self, core, method, behavior, tuple(interceptors)))

    def start(self) -> None:
        """See AsyncStreams."""
        for method in list(self._methods):
            self._request_call(method)
        for thread in self._threads:
            thread.start()

    async def close(self) -> None:
        """See AsyncStreams."""
        for thread in self._threads:
            if thread.is_alive():
                await asyncio.to_thread(thread.join, _CLOSE_SECONDS)
        if self._streams:
            log.warning("streams have not ended", count=len(self._streams))

    def _poll(self) -> None:
        while (event := self.queue.poll()).completion_type is not cygrpc.CompletionType.queue_shutdown:
            try:
                event.tag(event)
            except Exception:
                log.exception("an event of a stream failed")
            if not self._methods and not self._streams:
                self.queue.shutdown()

    def accept(self, method: _Method, event: Any) -> None:
        """A client has called, or the server stops."""
        if not event.success:
            self._methods.discard(method)
            return
        stream = ServedStream(event, self._loop, self._streams.discard)
        self._streams.add(stream)  # first: without a method and a stream the other thread shuts the queue down
        self._request_call(method)
        stream.serve(method.behavior)

    def _request_call(self, method: _Method) -> None:
        try:
            method.request_call()
        except ValueError:  # the server is stopping: there will be no call, and no event that says so
            self._methods.discard(method)


class _CallDetails(NamedTuple):
    """The attributes of grpc.HandlerCallDetails."""

    method: str
    invocation_metadata: Any


class _Method:
    """One method of one server."""

    def __init__(
        self, streams: DirectAsyncStreams, core: Any, path: str, behavior: Behavior, interceptors: tuple[Any, ...]
    ) -> None:
        self._streams = streams
        self._core = core
        self._path = path
        self._handler: Any = grpc.stream_stream_rpc_method_handler(behavior)
        self._interceptors = interceptors
        self.behavior = self._run_intercepted if interceptors else behavior

    def request_call(self) -> None:
        """Ask gRPC for the next call. Raises ValueError if the server is stopping."""
        queue = self._streams.queue
        self._core.request_registered_call(queue, queue, self._path, self._on_call)

    def _on_call(self, event: Any) -> None:
        self._streams.accept(self, event)

    async def _run_intercepted(self, requests: Any, stream: ServedStream) -> None:
        """As grpc.aio calls interceptors: each gives the handler, its own or that of the next."""
        details = _CallDetails(self._path, stream.invocation_metadata())
        handler = await self._handler_of(details, self._interceptors)
        await handler.stream_stream(requests, stream)

    async def _handler_of(self, details: Any, interceptors: tuple[Any, ...]) -> Any:
        if not interceptors:
            return self._handler

        async def continuation(details: Any) -> Any:
            return await self._handler_of(details, interceptors[1:])

        return await interceptors[0].intercept_service(continuation, details)
