"""The gRPC handlers of a service, made from its descriptor.

Needed because the methods of one service are implemented by two objects, and because forwarded messages are not
parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass


def handlers(service: ServiceDescriptor, calls: object, *, raw: bool = False) -> dict[str, Any]:
    """A handler for every method of ``service`` that ``calls`` has by name. ``raw``: they take and return bytes."""
    return {
        method.name: _handler(method, getattr(calls, method.name), raw)
        for method in service.methods
        if hasattr(calls, method.name)
    }


def add_service(server: grpc.aio.Server, service: ServiceDescriptor, methods: Mapping[str, Any]) -> None:
    """Lets ``server`` serve ``methods``. Raises ValueError if one of the service's is missing."""
    missing = {method.name for method in service.methods} - methods.keys()
    if missing:
        raise ValueError(f"{service.full_name} lacks {', '.join(sorted(missing))}")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, dict(methods)),))


def _handler(method: MethodDescriptor, behavior: Callable[..., Any], raw: bool) -> Any:
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    maker = makers[method.client_streaming, method.server_streaming]
    if raw:
        return maker(behavior)
    request, response = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    return maker(behavior, request_deserializer=request.FromString, response_serializer=response.SerializeToString)
