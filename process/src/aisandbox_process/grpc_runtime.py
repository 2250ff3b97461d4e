"""How gRPC's native core runs in a program of this project.

Owns the two environment variables it reads when it is imported. Must not import grpc.
"""

from __future__ import annotations

import os

_DEFAULTS = {
    # What gRPC's native log says, the program says too, in words of its own.
    "GRPC_VERBOSITY": "NONE",
    # With its event engine, gRPC hands every message to a thread of a pool that sleeps; without it, whoever waits for
    # the message polls the socket. One call at a time is answered in about half of the time, the slowest in a hundred
    # in an eighth (docs/benchmarks.md). A version of gRPC that does not know the names ignores them.
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
}


def set_up_grpc() -> None:
    """To be called before grpc is imported; what the user has set stays."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
