"""The import of gRPC's private modules, in one place. ``cygrpc`` is None where this version of gRPC has no such module.

What uses it fails with an AttributeError where a name is missing; the self-test finds that before anything else does.
"""

from __future__ import annotations

from typing import Any

cygrpc: Any
try:
    import grpc._channel  # noqa: F401 -- gRPC loads it at the first channel, that is in each fork again
    from grpc._cython import cygrpc  # type: ignore[attr-defined, no-redef]
except ImportError:  # pragma: no cover -- a gRPC without its Cython layer
    cygrpc = None
