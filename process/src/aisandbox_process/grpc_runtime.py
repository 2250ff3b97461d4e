"""How gRPC's native core runs in a program of this project.

Owns the environment variables that the core reads when grpc is imported. Must not import grpc.
"""

from __future__ import annotations

import os

_DEFAULTS = {
    # The program logs the same problems itself.
    "GRPC_VERBOSITY": "NONE",
    # With its event engine, gRPC hands every message to a sleeping thread of a pool; without it, the thread that waits
    # for the message polls the socket. One call at a time takes about half of the time, the slowest in a hundred an
    # eighth (docs/benchmarks.md). A version of gRPC that does not know the names ignores them.
    "GRPC_EXPERIMENTS": "-event_engine_client,-event_engine_listener",
}
# With epoll one thread polls for all and wakes the one that a message is for; with poll each polls for its own, which
# costs more the more connections there are. docs/decisions/0009-a-session-waits-on-its-own-completion-queue.md
_POLL_STRATEGY = {"GRPC_POLL_STRATEGY": "poll,epoll1"}


def set_up_grpc(*, few_connections: bool = False) -> None:
    """Set the variables that are not set. Call it before grpc is imported.

    ``few_connections``: for a trainer or a simulator; a server of many clients keeps gRPC's shared polling.
    """
    for name, value in (_DEFAULTS | (_POLL_STRATEGY if few_connections else {})).items():
        os.environ.setdefault(name, value)
