"""The options of EnvironmentService's channels and servers, and the client's stream; see `Life` in environment.proto.

A channel must be opened in the process that uses it: gRPC does not survive a fork.
"""

from __future__ import annotations

from aisandbox_process.grpc_direct import ClientStream, open_stream

KEEPALIVE_SECONDS = 10
"""A client pings this often, also while no request is in flight: a learner's update is minutes of silence."""

KEEPALIVE_TIMEOUT_SECONDS = 20
"""A peer that does not answer a ping within this time is dead."""

_UNLIMITED_MESSAGES = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

CLIENT_OPTIONS: list[tuple[str, int | str]] = [
    *_UNLIMITED_MESSAGES,
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A connection for each session: two sessions to one simulator do not share a window or a fate.
    ("grpc.use_local_subchannel_pool", 1),
    # Whoever wants another try makes another session: a channel that goes on connecting behind a session that has
    # failed would only delay the next one's first attempt.
    ("grpc.enable_retries", 0),
]
"""Options of a client's channel."""

SERVER_OPTIONS: list[tuple[str, int | str]] = [
    *_UNLIMITED_MESSAGES,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    # The server pings too: a session whose client has vanished without a word frees its environments.
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.http2.max_pings_without_data", 0),
    # Two servers on one port is a mistake, and the second one is told so.
    ("grpc.so_reuseport", 0),
]
"""Options of a simulator's server."""

SESSION_METHOD = "/aisandbox.v1.EnvironmentService/Session"
"""The full name of the streaming call."""


def open_session_stream(address: str, *, direct: bool | None = None) -> ClientStream:
    """A Session stream to ``address`` on a channel of its own; see ``aisandbox_process.grpc_direct.open_stream``."""
    return open_stream(address, SESSION_METHOD, CLIENT_OPTIONS, direct=direct)
