"""The import of gRPC's private module, in one place. None where this version of gRPC has no such module.

What uses it fails with an AttributeError where a name is missing; the self-test finds that before anything else does.
"""

from __future__ import annotations

from typing import Any

cygrpc: Any
try:
    from grpc._cython import cygrpc  # type: ignore[attr-defined, no-redef]
except ImportError:  # pragma: no cover -- a gRPC without its Cython layer
    cygrpc = None
