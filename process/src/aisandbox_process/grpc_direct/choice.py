"""Chooses between direct gRPC and gRPC's public API, and makes streams and servers accordingly.

Owns the setting ``GRPC_DIRECT`` and the fallback. Must not know how either works.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import grpc
import structlog

from aisandbox_process.environ import switch
from aisandbox_process.grpc_direct import self_test
from aisandbox_process.grpc_direct.async_streams import AsyncStreams, DirectAsyncStreams, PublicAsyncStreams
from aisandbox_process.grpc_direct.client_stream import ClientStream, DirectStream, Metadata, Options, PublicStream
from aisandbox_process.grpc_direct.method_server import DirectMethodServer, MethodServer, PublicMethodServer
from aisandbox_process.grpc_direct.methods import Methods
from aisandbox_process.grpc_direct.stream_server import (
    DirectStreamServer,
    PublicStreamServer,
    StreamHandler,
    StreamServer,
)
from aisandbox_process.passed_checks import PASSED_CHECKS

log = structlog.get_logger(__name__)

_CHECK = f"direct use of gRPC {grpc.__version__}"
_lock = threading.Lock()
_works: bool | None = None
_async_work: bool | None = None


def direct_is_used() -> bool:
    """Whether to use gRPC directly: ``GRPC_DIRECT`` is on (the default), and the self-test has succeeded.

    The first call in a process runs the self-test, some milliseconds, unless it has passed in another fork of the same
    parent; if it fails, a warning says why. Raises InvalidSetting for a value of ``GRPC_DIRECT`` other than on and off.
    """
    global _works
    if not switch(os.environ, "GRPC_DIRECT", default=True):
        return False
    with _lock:
        if _works is None:
            problem = "" if _CHECK in PASSED_CHECKS else self_test.find_problem()
            if problem:
                log.warning(
                    "direct gRPC failed its self-test, using the slower public API",
                    problem=problem,
                    grpc_version=grpc.__version__,
                )
            else:
                PASSED_CHECKS.add(_CHECK)
            _works = not problem
        return _works


def open_stream(
    address: str,
    method: str,
    options: Options = (),
    *,
    metadata: Metadata = (),
    credentials: grpc.ChannelCredentials | None = None,
    direct: bool | None = None,
) -> ClientStream:
    """A stream of ``method`` ("/package.Service/Method") at ``address``, on a channel of its own with ``options``.

    ``metadata`` is sent with the call. ``credentials``: of the channel; None: plain text. Does not wait for the
    connection: the first reply shows whether there is one.
    ``direct``: whether the reader polls for its own messages; None: as :func:`direct_is_used` says.
    """
    use_direct = direct_is_used() if direct is None else direct
    return (DirectStream if use_direct else PublicStream)(address, method, options, metadata, credentials)


async def async_streams(*, direct: bool | None = None) -> AsyncStreams:
    """Bidirectional methods of grpc.aio servers of the running event loop.

    ``direct``: whether threads of their own poll for their messages; None: as :func:`direct_is_used` says, if a test of
    its own, some milliseconds at the first call, succeeds too.
    """
    use_direct = direct_is_used() and await _async_streams_work() if direct is None else direct
    return DirectAsyncStreams() if use_direct else PublicAsyncStreams()


async def _async_streams_work() -> bool:
    global _async_work
    if _async_work is None:
        problem = await self_test.find_async_problem()
        if problem:
            log.warning(
                "direct streams of grpc.aio failed their self-test, using the slower public API", problem=problem
            )
        _async_work = not problem
    return _async_work


def serve_streams(
    server: grpc.Server, method: str, new_handler: Callable[[], StreamHandler], *, direct: bool | None = None
) -> StreamServer:
    """Serve the bidirectional ``method`` on ``server``, which is not started and has no handler for it.

    Each stream gets a handler of its own. ``direct``: whether the thread of a stream polls for its own messages; None:
    as :func:`direct_is_used` says.
    """
    use_direct = direct_is_used() if direct is None else direct
    return (DirectStreamServer if use_direct else PublicStreamServer)(server, method, new_handler)


def serve_methods(server: grpc.Server, methods: Methods, *, direct: bool | None = None) -> MethodServer:
    """Serve ``methods`` on ``server``, which is not started and has no handlers for them.

    ``direct``: whether the thread that polls for messages answers them; None: as :func:`direct_is_used` says.
    """
    use_direct = direct_is_used() if direct is None else direct
    return (DirectMethodServer if use_direct else PublicMethodServer)(server, methods)
