"""The methods of a gRPC server, answered by the thread that takes messages off the server's queue.

gRPC's synchronous server hands every call to a thread of a pool, which waits for that call's request, and grpc.aio
hands every event to an event loop: two changes of threads a message. A short answer takes less time than one of them,
so with :class:`DirectMethodServer` the polling thread gives it at once; an answer that has to wait continues in the
thread that completes what it waits for. :class:`PublicMethodServer` does the same with the public API.

A direct call takes part in gRPC's own bookkeeping: the server's queue, its set of active calls (``rpc_states``, for
which a server that stops waits) and its loop, which calls an event's tag with the event and learns from the result
whether the call has ended. Must not know what the bytes mean.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn, Protocol

import grpc

from aisandbox_process.grpc_direct.methods import Answer, BidirectionalMethod, Methods, StreamingMethod, UnaryMethod
from aisandbox_process.grpc_direct.private_names import server_state
from aisandbox_process.grpc_direct.server_call import Call, StreamCall, StreamingCall, UnaryCall


class MethodServer(Protocol):
    """The methods of a gRPC server."""

    def start(self) -> None:
        """Accept calls from now on; the gRPC server has been started."""

    def stop_streams(self) -> bool:
        """End every bidirectional stream after the reply to the request it is answering, with ``Methods.stopping``.

        Returns whether there are any. Their clients may be writing: the connections must stay open until what they have
        written is read, because a client whose write fails does not read the status any more.
        """
        ...


class DirectMethodServer:
    """Calls that the server's polling thread answers. A stream that waits for a request holds no thread."""

    def __init__(self, server: grpc.Server, methods: Methods) -> None:
        self._state = server_state(server)
        self.methods = methods
        self.stopping = False
        self.streams: set[StreamCall] = set()
        kinds = (
            (UnaryCall, methods.unary),
            (StreamingCall, methods.streaming),
            (StreamCall, methods.bidirectional),
        )
        self._first = [kind(self, name) for kind, names in kinds for name in names]
        for call in self._first:
            self._state.server.register_method(call.path)

    def start(self) -> None:
        """See MethodServer."""
        for call in self._first:
            self.request_call(call)
        self._first.clear()

    def stop_streams(self) -> bool:
        """See MethodServer. A stream that waits for a request ends at once."""
        self.stopping = True
        streams = list(self.streams)
        for stream in streams:
            stream.stop()
        return bool(streams)

    def request_call(self, call: Call) -> None:
        """Ask gRPC for the next call of ``call``'s method; ``call`` gets it."""
        state = self._state
        with state.lock:
            state.rpc_states.add(call)
            try:
                state.server.request_registered_call(
                    state.completion_queue, state.completion_queue, call.path, call.on_call
                )
            except ValueError:  # the server is stopping
                state.rpc_states.discard(call)


class PublicMethodServer:
    """Calls with gRPC's public API: each holds a thread of the server's pool while it lasts, a stream two threads."""

    def __init__(self, server: grpc.Server, methods: Methods) -> None:
        self._methods = methods
        self._stopping = False
        self._streams: set[_RequestReader] = set()
        self._lock = threading.Lock()
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(self._unary(name, method))
            for name, method in methods.unary.items()
        }
        for name, streaming in methods.streaming.items():
            handlers[name] = grpc.unary_stream_rpc_method_handler(self._streaming(name, streaming))
        for name, bidirectional in methods.bidirectional.items():
            handlers[name] = grpc.stream_stream_rpc_method_handler(self._bidirectional(name, bidirectional))
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(methods.service, handlers),))

    def start(self) -> None:
        """Nothing to do: the gRPC server accepts the calls."""

    def stop_streams(self) -> bool:
        """See MethodServer. A stream that waits for a request ends at once."""
        with self._lock:
            self._stopping = True
            streams = list(self._streams)
        for stream in streams:
            stream.end()
        return bool(streams)

    def _unary(self, name: str, method: UnaryMethod) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def reply(request: bytes, context: grpc.ServicerContext) -> bytes:
            value: bytes = self._value_of(name, method(request, self._caller(name, context)), context)
            return value

        return reply

    def _streaming(
        self, name: str, method: StreamingMethod
    ) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        def replies(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            caller = self._caller(name, context)
            with self._stream(name, context, caller):
                yield from self._value_of(name, method(request, caller), context)

        return replies

    def _bidirectional(
        self, name: str, new_method: BidirectionalMethod
    ) -> Callable[[Iterator[bytes], grpc.ServicerContext], Iterator[bytes]]:
        def replies(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            caller = self._caller(name, context)
            method = new_method()
            with self._stream(name, context, caller), self._reader(requests) as reader:
                while (request := reader.read()) is not None:
                    yield self._value_of(name, method(request, caller), context)
                    if self._stopping:
                        break
                if self._stopping:
                    _abort(context, self._methods.stopping)

        return replies

    @contextmanager
    def _reader(self, requests: Iterator[bytes]) -> Iterator[_RequestReader]:
        reader = _RequestReader(requests)
        with self._lock:
            self._streams.add(reader)
            stopping = self._stopping
        if stopping:
            reader.end()
        try:
            yield reader
        finally:
            with self._lock:
                self._streams.discard(reader)
            reader.close()

    def _caller(self, name: str, context: grpc.ServicerContext) -> Any:
        """Who makes the call; gRPC has read the request of a unary call by then."""
        return self._value_of(name, self._methods.admit(name, context.invocation_metadata(), context.peer), context)

    @contextmanager
    def _stream(self, name: str, context: grpc.ServicerContext, caller: Any) -> Iterator[None]:
        with ExitStack() as opened:
            if self._methods.stream is not None:
                try:
                    opened.enter_context(self._methods.stream(context.peer(), caller))
                except Exception as error:
                    _abort(context, self._methods.status_of(name, error))
            yield

    def _value_of(self, name: str, answer: Answer[Any], context: grpc.ServicerContext) -> Any:
        try:
            return _run(answer)
        except Exception as error:
            _abort(context, self._methods.status_of(name, error))


class _RequestReader:
    """The requests of a stream, each read by a thread when it is wanted, so that a wait for one can be ended."""

    def __init__(self, requests: Iterator[bytes]) -> None:
        self._requests = requests
        self._read: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._wanted = threading.Semaphore(0)
        self._closed = False
        threading.Thread(target=self._read_requests, name="stream-reader", daemon=True).start()

    def read(self) -> bytes | None:
        """The next request; None if there is none any more, or at :meth:`end`."""
        self._wanted.release()
        return self._read.get()

    def end(self) -> None:
        """End a wait for a request, from any thread."""
        self._read.put(None)

    def close(self) -> None:
        """Let the thread end; one that waits for a request ends with the stream."""
        self._closed = True
        self._wanted.release()

    def _read_requests(self) -> None:
        with suppress(Exception):  # of a client that has cancelled or is lost
            while self._wanted.acquire() and not self._closed:
                self._read.put(next(self._requests))
        self._read.put(None)


def _run(answer: Answer[Any]) -> Any:
    """The value of ``answer``; waits in this thread for its futures."""
    while True:
        try:
            future = next(answer)
        except StopIteration as end:
            return end.value
        wait((future,))


def _abort(context: grpc.ServicerContext, status: grpc.Status) -> NoReturn:
    context.abort_with_status(status)
    raise AssertionError("abort_with_status returned")
