"""The options of the channels and servers of EnvironmentService; see `Lifetime` in environment.proto.

A channel must be opened in the process that uses it: gRPC does not survive a fork.
"""

from __future__ import annotations

from aisandbox_process.grpc_options import PATIENT_PING_SECONDS, Options, channel_options, server_options

SERVER_PING_SECONDS = 10.0
"""A simulator of ours pings this often: so the environments of a client that vanished are freed."""


def client_options(ping_seconds: float = PATIENT_PING_SECONDS) -> Options:
    """Options of a client's channel, which pings a silent simulator every ``ping_seconds``.

    A learner's update may be minutes without a request, and simulators have the defaults of their gRPC, so pings are
    rare. What finds a simulator that is lost is the time allowed for each reply.
    """
    return [
        *channel_options(ping_seconds=ping_seconds),
        # A connection for each session: two sessions with one simulator share neither a flow-control window nor an
        # error.
        ("grpc.use_local_subchannel_pool", 1),
        # A new attempt is a new session: a channel that keeps connecting for a session that has failed would only
        # delay the next session's first attempt.
        ("grpc.enable_retries", 0),
    ]


CLIENT_OPTIONS = client_options()
"""Options of a client's channel."""

SERVER_OPTIONS = server_options(ping_seconds=SERVER_PING_SECONDS)
"""Options of a simulator's server."""

SESSION_METHOD = "/aisandbox.v1.EnvironmentService/Session"
"""The full name of the streaming method."""
