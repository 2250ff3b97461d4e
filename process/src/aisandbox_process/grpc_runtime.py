"""How gRPC's native core runs in a program of this project.

Owns the environment variables it reads when it starts. Must not import grpc.
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
# With epoll one thread polls for all and wakes the one that a message is for; with poll each polls for its own, which
# costs more the more connections there are. docs/decisions/0009-a-session-waits-on-its-own-completion-queue.md
_POLL_STRATEGY = {"GRPC_POLL_STRATEGY": "poll,epoll1"}


def set_up_grpc(*, few_connections: bool = False) -> None:
    """To be called before grpc is imported; what the user has set stays."""
    for name, value in (_DEFAULTS | (_POLL_STRATEGY if few_connections else {})).items():
        os.environ.setdefault(name, value)
