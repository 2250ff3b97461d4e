"""The private names of gRPC's Python code, in one place.

``cygrpc`` is None where this version of gRPC has no such module.
What uses it fails with an AttributeError where a name is missing; the self-test finds that before anything else does.
"""

from __future__ import annotations

import gc
from typing import Any

cygrpc: Any
try:
    import grpc._channel  # noqa: F401 -- gRPC loads it at the first channel, that is in each fork again
    from grpc._cython import cygrpc  # type: ignore[attr-defined, no-redef]
except ImportError:  # pragma: no cover -- a gRPC without its Cython layer
    cygrpc = None


def core_channel(channel: Any) -> Any:
    """The ``cygrpc.Channel`` of a channel."""
    return channel._channel


def server_state(server: Any) -> Any:
    """The bookkeeping of a server, whose ``server`` is its ``cygrpc.Server``."""
    return server._state


def core_server(server: Any) -> Any:
    """The ``cygrpc.Server`` of a grpc.aio server, which may get queues and methods of its own before it is started.

    It is an attribute of a class of Cython that Python code cannot name, and gRPC's own code for asyncio hands it out
    nowhere. Raises LookupError if there is not exactly one.
    """
    found = [each for each in gc.get_referents(server._server) if isinstance(each, cygrpc.Server)]
    if len(found) != 1:
        raise LookupError(f"a server of grpc.aio refers to {len(found)} servers of gRPC's core")
    return found[0]
