"""The access control of a synchronous gRPC server: of its handlers by an interceptor, of direct methods by an answer.

Owns the event loop of the authenticators, in a thread of its own. Needs the extra ``aisandbox-access[grpc]``. Must not
know services.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import grpc
from aisandbox_process.coroutines import FutureCoroutine, run_blocking, wait_for
from aisandbox_process.grpc_context import text_metadata

from aisandbox_access.access_control import AccessControl
from aisandbox_access.aio_auth import status_of
from aisandbox_access.authorizers import Target
from aisandbox_access.errors import AccessError
from aisandbox_access.permissions import Permission
from aisandbox_access.principals import Caller

T = TypeVar("T")

_MAKERS = {
    (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
    (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
    (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
    (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
}


class ThreadAccessControl:
    """An access control whose questions are asked from any thread. ``make`` makes it, in the event loop."""

    def __init__(self, make: Callable[[], Coroutine[Any, Any, AccessControl]]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="access", daemon=True)
        self._thread.start()
        try:
            self.inner = self._run(make()).result()
            self._run(self.inner.start()).result()
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        """Ends the thread."""
        self._run(self.inner.close()).result()
        self._end()

    def admit(self, method: str, metadata: Any) -> FutureCoroutine[Caller]:
        """Who makes the call; waits only for what is not known. Raises AccessError."""
        texts = text_metadata(metadata)
        if (caller := self.inner.admit_now(method, texts)) is not None:
            return caller
        return (yield from wait_for(self._run(self.inner.admit(method, texts))))

    def check(
        self, caller: Caller, permission: Permission, target: Target, peer: Callable[[], str]
    ) -> FutureCoroutine[None]:
        """As AccessControl.check; ``peer`` is only called where the permission is not known to be there."""
        if self.inner.may_now(caller, permission, target):
            return
        yield from wait_for(self._run(self.inner.check(caller, permission, target, peer())))

    def _run(self, question: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(question, self._loop)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class ThreadAuthInterceptor(grpc.ServerInterceptor):
    """Admits the calls of handlers in the thread of each, but those of ``service``, which are admitted where they are
    served.
    """

    def __init__(self, access_control: ThreadAccessControl, service: str) -> None:
        self._access_control = access_control
        self._own = f"/{service}/"

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """The method's handler, which admits the call first."""
        method: str = handler_call_details.method
        handler = continuation(handler_call_details)
        rule = self._access_control.inner.rule(method)
        if method.startswith(self._own) or (rule is not None and rule.permission is None):
            return handler
        if handler is None or rule is None:
            return grpc.stream_stream_rpc_method_handler(self._admitting(method, None))
        name, make = _MAKERS[handler.request_streaming, handler.response_streaming]
        return make(
            self._admitting(method, getattr(handler, name)), handler.request_deserializer, handler.response_serializer
        )

    def _admitting(self, method: str, behavior: Callable[..., Any] | None) -> Callable[..., Any]:
        def answer(request: Any, context: grpc.ServicerContext) -> Any:
            try:
                run_blocking(self._access_control.admit(method, context.invocation_metadata()))
            except AccessError as error:
                self._access_control.inner.record_refusal(error, Caller(method), context.peer())
                context.abort(status_of(error), str(error))
            if behavior is None:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, f"{method}: there is no such method")
            return behavior(request, context)

        return answer
