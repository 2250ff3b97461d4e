"""The gRPC handlers of a service, made from its descriptor.

Needed because the methods of one service are implemented by two objects, because forwarded messages are not parsed,
and because gRPC ends a call whose request cannot be parsed with UNKNOWN and a traceback in the log: it is parsed here,
within bounds, and refused with INVALID_ARGUMENT.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
from aisandbox_access import AccessControl, counted, recorded
from aisandbox_process.grpc_direct import AsyncStreams
from aisandbox_wire import OversizedMessage, bounded_parser
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass

Context: TypeAlias = grpc.aio.ServicerContext[Any, Any]


def handlers(
    service: ServiceDescriptor, calls: object, access_control: AccessControl | None = None, *, raw: bool = False
) -> dict[str, Any]:
    """A handler for every method of ``service`` that ``calls`` has by name. ``raw``: they take and return bytes.

    ``access_control``: records the calls that change something, and bounds the streams of a peer; None: nothing does.
    """
    return {
        method.name: _handler(method, getattr(calls, method.name), access_control, raw)
        for method in service.methods
        if hasattr(calls, method.name)
    }


def add_service(server: grpc.aio.Server, service: ServiceDescriptor, methods: Mapping[str, Any]) -> None:
    """Lets ``server`` serve ``methods``. Raises ValueError if one of the service's is missing."""
    missing = {method.name for method in service.methods} - methods.keys()
    if missing:
        raise ValueError(f"{service.full_name} lacks {', '.join(sorted(missing))}")
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, dict(methods)),))


def add_relay(
    server: grpc.aio.Server,
    service: ServiceDescriptor,
    calls: object,
    access_control: AccessControl,
    streams: AsyncStreams,
    interceptors: Sequence[Any],
) -> None:
    """Lets ``server`` serve ``service`` by the methods of ``calls``, which take and return bytes.

    Messages of its streams take the way of ``streams``. ``interceptors``: those of the server.
    """
    methods = handlers(service, calls, access_control, raw=True)
    add_service(server, service, methods)
    for method in service.methods:
        if method.client_streaming:
            behavior = methods[method.name].stream_stream
            streams.take_over(server, f"/{service.full_name}/{method.name}", behavior, interceptors)


def _handler(
    method: MethodDescriptor, behavior: Callable[..., Any], access_control: AccessControl | None, raw: bool
) -> Any:
    makers = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    maker = makers[method.client_streaming, method.server_streaming]
    if access_control is not None:
        path = f"/{method.containing_service.full_name}/{method.name}"
        behavior = (
            counted(access_control, path, behavior)
            if method.server_streaming
            else recorded(access_control, path, behavior)
        )
    if raw:
        return maker(behavior)
    parse = bounded_parser(GetMessageClass(method.input_type))
    behavior = _with_parsed_stream(behavior, parse) if method.client_streaming else _with_parsed(behavior, parse)
    return maker(behavior, response_serializer=GetMessageClass(method.output_type).SerializeToString)


def _with_parsed(behavior: Callable[..., Any], parse: Callable[[bytes], Any]) -> Callable[..., Any]:
    """``behavior``, which takes one message, for its bytes; an asynchronous generator stays one: gRPC looks."""
    if inspect.isasyncgenfunction(behavior):

        async def replies(data: bytes, context: Context) -> AsyncIterator[Any]:
            async for reply in behavior(await _parsed(data, parse, context), context):
                yield reply

        return replies

    async def reply(data: bytes, context: Context) -> Any:
        return await behavior(await _parsed(data, parse, context), context)

    return reply


def _with_parsed_stream(behavior: Callable[..., Any], parse: Callable[[bytes], Any]) -> Callable[..., Any]:
    """``behavior``, an asynchronous generator that takes messages, for their bytes."""

    async def replies(stream: AsyncIterator[bytes], context: Context) -> AsyncIterator[Any]:
        messages = _parsed_all(stream, parse, context)
        async with contextlib.aclosing(behavior(messages, context)) as answers, contextlib.aclosing(messages):
            async for reply in answers:
                yield reply

    return replies


async def _parsed_all(
    stream: AsyncIterator[bytes], parse: Callable[[bytes], Any], context: Context
) -> AsyncGenerator[Any, None]:
    async for data in stream:
        yield await _parsed(data, parse, context)


async def _parsed(data: bytes, parse: Callable[[bytes], Any], context: Context) -> Any:
    try:
        return parse(data)
    except DecodeError:
        problem = "the request cannot be parsed: it is not a message of this method"
    except OversizedMessage as error:
        problem = f"the request {error.rule}"
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, problem)
    raise AssertionError("abort returned")
