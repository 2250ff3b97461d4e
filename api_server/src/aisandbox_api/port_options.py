"""How much the ports of the service take: the size of a message, connections, and how long a peer may be silent.

Must not know what is served there.
"""

from __future__ import annotations

from aisandbox_process.connection_limits import ConnectionLimits
from aisandbox_process.grpc_options import (
    Options,
    connection_age,
    connection_limit,
    server_options,
    unanswered_pings,
)

from aisandbox_api.settings import LOOPBACK_HOSTS, Settings

LARGEST_MESSAGE = 64 * 1024 * 1024
"""Bytes: a batch of 64 images of 512 x 512 x 3 fits."""

_OPTIONS = server_options(ping_seconds=30, largest_message=LARGEST_MESSAGE)

HALTED_SECONDS = 3600.0
_LOOPBACK_OPTIONS = [
    # The kernel tells when a process of the same machine is gone. One that answers no pings there is halted, as an
    # attached simulator is at a breakpoint, and keeps its place.
    *server_options(ping_seconds=30, ping_timeout_seconds=HALTED_SECONDS, largest_message=LARGEST_MESSAGE),
    *unanswered_pings(HALTED_SECONDS),
]

SHARE_OF_CLIENTS, SHARE_OF_TRAINERS, SHARE_OF_HTTP = 0.5, 0.25, 0.125
"""Of the files that this process may have open, for connections; the rest is for files and its own calls. Of trainers
on this machine half are at the Unix socket."""


def limits_of_clients(settings: Settings) -> ConnectionLimits:
    """The connections of clients over gRPC."""
    return settings.access.connection_limits(SHARE_OF_CLIENTS)


def limits_of_trainers(settings: Settings) -> ConnectionLimits:
    """Those of trainers, at their port; as many at their Unix socket."""
    return settings.access.connection_limits(
        SHARE_OF_TRAINERS / 2 if settings.backend == "local" else SHARE_OF_TRAINERS
    )


def limits_of_http(settings: Settings) -> ConnectionLimits:
    """Those over HTTP, with WebSockets."""
    return settings.access.connection_limits(SHARE_OF_HTTP)


def client_options(settings: Settings, limits: ConnectionLimits) -> Options:
    """The options of the gRPC server of clients."""
    options = _LOOPBACK_OPTIONS if settings.grpc_host in LOOPBACK_HOSTS else _OPTIONS
    return [*options, *connection_age(settings.max_connection_age_seconds), *connection_limit(limits.number)]


def trainer_options(settings: Settings, limits: ConnectionLimits) -> Options:
    """The options of the gRPC server of trainers."""
    return [*_OPTIONS, *connection_age(settings.max_connection_age_seconds), *connection_limit(limits.number)]
