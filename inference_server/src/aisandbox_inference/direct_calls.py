"""The methods of a gRPC server, answered by the thread that takes messages off the server's queue.

gRPC's synchronous server hands every call to a thread of a pool, which waits for that call's request, and grpc.aio
hands every event to an event loop: two changes of threads a message. An answer takes less time than one of them, so
here the polling thread gives it at once; only what has to wait goes on in the thread that it waited for.

A call takes part in gRPC's own bookkeeping: its queue, its set of calls under way (``rpc_states``, for which a server
that stops waits) and its loop, which calls an event's tag with the event and is told whether the call has ended. These
are names that gRPC does not promise to keep; where one is missing public_calls.py does the same more slowly
(bench/act.py measures both). Must not know what the bytes mean.
"""

from __future__ import annotations

from typing import Any

import grpc

from aisandbox_inference.direct_call import Call, PartsCall, StreamCall, UnaryCall
from aisandbox_inference.methods import Methods

try:
    from grpc._cython import cygrpc  # type: ignore[attr-defined]
except ImportError:  # pragma: no cover -- a gRPC without its Cython layer
    cygrpc = None

_NEEDED = (
    "ReceiveMessageOperation", "ReceiveCloseOnServerOperation",
    "SendInitialMetadataOperation", "SendMessageOperation", "SendStatusFromServerOperation",
)  # fmt: skip
_NEEDED_OF_STATE = ("server", "completion_queue", "rpc_states", "lock")


class DirectCalls:
    """The calls of a gRPC server that has been given no handlers for these methods, and is not started."""

    def __init__(self, server: grpc.Server, methods: Methods) -> None:
        inner: Any = server
        self._state = inner._state
        self.methods = methods
        self.stopping = False
        self.streams: set[StreamCall] = set()
        kinds = ((UnaryCall, methods.unary), (PartsCall, methods.parts), (StreamCall, methods.streams))
        self._first = [kind(self, name) for kind, names in kinds for name in names]
        for call in self._first:
            self._state.server.register_method(call.path)

    @staticmethod
    def are_possible(server: grpc.Server) -> bool:
        """Whether this version of gRPC has what this class needs."""
        state = getattr(server, "_state", None)
        return (
            cygrpc is not None
            and all(hasattr(cygrpc, name) for name in _NEEDED)
            and all(hasattr(state, name) for name in _NEEDED_OF_STATE)
            and hasattr(cygrpc.Server, "request_registered_call")
            and hasattr(cygrpc.Server, "register_method")
        )

    def start(self) -> None:
        """Take calls from now on; the server has been started."""
        for call in self._first:
            self.expect(call)
        self._first.clear()

    def stop_streams(self) -> None:
        """End every stream between an answer and the next request, with UNAVAILABLE: a client opens one elsewhere."""
        self.stopping = True
        for stream in list(self.streams):
            stream.stop()

    def expect(self, call: Call) -> None:
        """Let ``call`` be the next of its method."""
        state = self._state
        with state.lock:
            state.rpc_states.add(call)
            try:
                state.server.request_registered_call(
                    state.completion_queue, state.completion_queue, call.path, call.arrived
                )
            except ValueError:  # the server is stopping
                state.rpc_states.discard(call)
