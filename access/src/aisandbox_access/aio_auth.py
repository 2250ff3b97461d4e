"""The access control of a grpc.aio server: every call passes it before its request is read.

Needs the extra ``aisandbox-access[grpc]``. Must not know services.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import grpc
from aisandbox_process.grpc_context import text_metadata

from aisandbox_access.access_control import AccessControl, status_name
from aisandbox_access.errors import AccessError, LimitReached
from aisandbox_access.permissions import Rule
from aisandbox_access.principals import Caller, current_caller, set_caller

Context = grpc.aio.ServicerContext[Any, Any]


class AioAuthInterceptor(grpc.aio.ServerInterceptor):
    """Admits the calls of a server. Only needed if the access control asks who calls."""

    def __init__(self, access_control: AccessControl) -> None:
        self._access_control = access_control

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """The method's handler, or one that refuses the call without reading it."""
        method: str = handler_call_details.method
        try:
            caller = await self._access_control.admit(method, text_metadata(handler_call_details.invocation_metadata))
        except AccessError as error:
            return grpc.stream_stream_rpc_method_handler(self._refusal(method, error))
        set_caller(caller)
        return await continuation(handler_call_details)

    def _refusal(self, method: str, error: AccessError) -> Callable[..., Awaitable[None]]:
        async def refuse(_requests: Any, context: Context) -> None:
            self._access_control.record_refusal(error, Caller(method), context.peer())
            await context.abort(status_of(error), str(error))

        return refuse


def status_of(error: AccessError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    return grpc.StatusCode[status_name(error)]


def recorded(access_control: AccessControl, method: str, behavior: Callable[..., Any]) -> Callable[..., Any]:
    """``behavior``, a method that takes one message: every call that changes something is recorded with its result."""
    rule: Rule | None = access_control.rule(method)
    if rule is None or not rule.changes or inspect.isasyncgenfunction(behavior):
        return behavior

    async def reply(request: Any, context: Context) -> Any:
        result = "CANCELLED"
        run = getattr(request, "run_id", "")
        why = ""
        try:
            answer = await behavior(request, context)
            result = "OK"
            run = getattr(answer, "run_id", run)
            return answer
        except BaseException:
            code = context.code()
            if isinstance(code, grpc.StatusCode):
                result = code.name
            why = str(context.details() or "")
            raise
        finally:
            access_control.audit.record(current_caller().name, context.peer(), method, run, result, why)

    return reply


def counted(access_control: AccessControl, method: str, behavior: Callable[..., Any]) -> Callable[..., Any]:
    """``behavior``, a method with a stream of messages: its streams count for their peer, who may have only so many."""

    def stream(context: Context) -> contextlib.AbstractContextManager[None]:
        peer = context.peer()
        set_caller(replace(current_caller(), method=method, peer=peer))
        return access_control.streams.stream(peer)

    if inspect.isasyncgenfunction(behavior):

        async def replies(requests: Any, context: Context) -> AsyncIterator[Any]:
            try:
                with stream(context):
                    async with contextlib.aclosing(behavior(requests, context)) as answers:
                        async for reply in answers:
                            yield reply
            except LimitReached as error:
                await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

        return replies

    async def serve(requests: Any, context: Context) -> None:
        try:
            with stream(context):
                await behavior(requests, context)
        except LimitReached as error:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))

    return serve
