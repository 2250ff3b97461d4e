"""The options of the channels and servers of EnvironmentService; see `Life` in environment.proto.

A channel must be opened in the process that uses it: gRPC does not survive a fork.
"""

from __future__ import annotations

KEEPALIVE_SECONDS = 10
"""A client pings this often, also while no request is in flight: a learner's update may be minutes without one."""

KEEPALIVE_TIMEOUT_SECONDS = 20
"""A peer that does not answer a ping within this time is considered dead."""

_UNLIMITED_MESSAGES = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]

CLIENT_OPTIONS: list[tuple[str, int | str]] = [
    *_UNLIMITED_MESSAGES,
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A connection for each session: two sessions with one simulator share neither a flow-control window nor an error.
    ("grpc.use_local_subchannel_pool", 1),
    # A new attempt is a new session: a channel that keeps connecting for a session that has failed would only delay
    # the next session's first attempt.
    ("grpc.enable_retries", 0),
]
"""Options of a client's channel."""

SERVER_OPTIONS: list[tuple[str, int | str]] = [
    *_UNLIMITED_MESSAGES,
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_ping_strikes", 0),
    # The server pings too: so the environments of a client that vanished without closing its session are freed.
    ("grpc.keepalive_time_ms", KEEPALIVE_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_SECONDS * 1000),
    ("grpc.http2.max_pings_without_data", 0),
    # Two servers on one port are a mistake: the second one fails to start.
    ("grpc.so_reuseport", 0),
]
"""Options of a simulator's server."""

SESSION_METHOD = "/aisandbox.v1.EnvironmentService/Session"
"""The full name of the streaming method."""
