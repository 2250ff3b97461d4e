"""Requests of the small services of a synchronous server: health, reflection, Describe.

gRPC ends a call whose request cannot be parsed with INTERNAL and a traceback in the log, and parses one as large as
the server's largest message. Here such a request is refused with INVALID_ARGUMENT, and before it is parsed if it is
over LARGEST_REQUEST. Methods that take bytes are left as they are. Must not know the services.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc

LARGEST_REQUEST = 64 * 1024
"""Bytes."""

_MAKERS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}
_NON_BLOCKING = ("experimental_non_blocking", "experimental_thread_pool")
"""What gRPC looks for at a method that answers by a callback, as a watch of health."""


class SmallRequests(grpc.ServerInterceptor):
    """An interceptor for ``grpc.server``."""

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The handler, with the requests parsed here."""
        handler = continuation(handler_call_details)
        if handler is None or handler.request_deserializer is None:
            return handler
        name, make = _MAKERS[handler.request_streaming, handler.response_streaming]
        behavior = _with_parsed(getattr(handler, name), handler.request_deserializer, handler.request_streaming)
        return make(behavior, response_serializer=handler.response_serializer)


def _with_parsed(behavior: Any, parse: Callable[[bytes], Any], streaming: bool) -> Callable[..., Any]:
    def answer(data: Any, context: grpc.ServicerContext, *rest: Any) -> Any:
        request = _parsed_all(data, parse, context) if streaming else _parsed(data, parse, context)
        return behavior(request, context, *rest)

    for attribute in _NON_BLOCKING:
        if hasattr(behavior, attribute):
            setattr(answer, attribute, getattr(behavior, attribute))
    return answer


def _parsed_all(stream: Iterator[bytes], parse: Callable[[bytes], Any], context: grpc.ServicerContext) -> Iterator[Any]:
    for data in stream:
        yield _parsed(data, parse, context)


def _parsed(data: bytes, parse: Callable[[bytes], Any], context: grpc.ServicerContext) -> Any:
    problem = f"the request has {len(data):,} bytes; at most {LARGEST_REQUEST:,}"
    if len(data) <= LARGEST_REQUEST:
        try:
            return parse(data)
        except Exception:
            problem = "the request cannot be parsed: it is not a message of this method"
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
    raise AssertionError("abort returned")
