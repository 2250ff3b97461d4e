"""The methods of a gRPC server with gRPC's public API: for a version of gRPC that direct_calls.py does not know.

Each call holds a thread of the server's pool while it lasts. Must not know what the bytes mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import grpc
from google.rpc import status_pb2
from grpc_status import rpc_status

from aisandbox_inference.errors import Stopping
from aisandbox_inference.methods import SERVICE, Methods, Stream
from aisandbox_inference.statuses import status_of
from aisandbox_inference.waiting import Work, finish


class PublicCalls:
    """The calls of a gRPC server that is not started."""

    def __init__(self, server: grpc.Server, methods: Methods) -> None:
        self._methods = methods
        self._stopping = False
        makers: list[tuple[Callable[..., Any], Callable[..., Any], Any]] = [
            (grpc.unary_unary_rpc_method_handler, self._unary, methods.unary),
            (grpc.unary_stream_rpc_method_handler, self._parts, methods.parts),
            (grpc.stream_stream_rpc_method_handler, self._stream, methods.streams),
        ]
        handlers = {name: make(kind(name, methods[name])) for make, kind, methods in makers for name in methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    def start(self) -> None:
        """Nothing is left to do."""

    def stop_streams(self) -> None:
        """End every stream after its next answer; one that brings no further request is cut when the grace ends."""
        self._stopping = True

    def _unary(self, name: str, method: Callable[[bytes], Work[bytes]]) -> Any:
        return lambda request, context: self._finish(name, method(request), context)

    def _parts(self, name: str, method: Callable[[bytes], Work[Iterator[bytes]]]) -> Any:
        def parts(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            yield from self._finish(name, method(request), context)

        return parts

    def _stream(self, name: str, method: Stream) -> Any:
        def replies(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            answer = method()
            for request in requests:
                yield self._finish(name, answer(request), context)
                if self._stopping:
                    _abort(context, status_of(Stopping()))

        return replies

    def _finish(self, name: str, work: Work[Any], context: grpc.ServicerContext) -> Any:
        try:
            return finish(work)
        except Exception as error:
            _abort(context, self._methods.refusal(name, error))


def _abort(context: grpc.ServicerContext, status: status_pb2.Status) -> NoReturn:
    context.abort_with_status(rpc_status.to_status(status))
