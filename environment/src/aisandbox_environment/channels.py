"""The options of the channels and servers of EnvironmentService; see `Lifetime` in environment.proto.

A channel must be opened in the process that uses it: gRPC does not survive a fork.
"""

from __future__ import annotations

from aisandbox_process.grpc_options import Options, channel_options, server_options, unanswered_pings

from aisandbox_environment.spec import LONGEST_REPLY_TIMEOUT_SECONDS

SERVER_PING_SECONDS = 10.0
"""A simulator of ours pings this often: so the environments of a client that vanished are freed."""

_ONE_STREAM: Options = [
    # A connection for each stream: two sessions with one simulator share neither a flow-control window nor an error.
    ("grpc.use_local_subchannel_pool", 1),
    # A new attempt is a new stream: a channel that keeps connecting for one that has failed would only delay the first
    # attempt of the next.
    ("grpc.enable_retries", 0),
]


def client_options(largest_reply: int = -1) -> Options:
    """Options of a client's channel. ``largest_reply``: in bytes; -1: no limit."""
    return [
        # A simulator that is halted in a debugger answers no pings and is not lost: for as long as it may ask to be
        # waited for, none are sent, and those that gRPC sends by itself are waited for. What finds a simulator that is
        # lost is the time allowed for each reply; and that pings are configured at all makes TCP give up a connection
        # on which no byte is acknowledged for PING_TIMEOUT_SECONDS.
        *channel_options(ping_seconds=LONGEST_REPLY_TIMEOUT_SECONDS, largest_reply=largest_reply),
        *unanswered_pings(LONGEST_REPLY_TIMEOUT_SECONDS),
        *_ONE_STREAM,
    ]


CLIENT_OPTIONS = client_options()
"""Options of a client's channel."""

ATTACH_PING_SECONDS = 30.0
"""A simulator that is attached pings this often: routers and proxies forget connections that are silent for longer."""

ATTACH_OPTIONS: Options = [
    *channel_options(ping_seconds=ATTACH_PING_SECONDS),
    *_ONE_STREAM,
]
"""Options of the channel of a simulator that dials the service."""

ATTACH_METHOD = "/aisandbox.v1.SimulatorPoolService/Attach"
"""The full name of the method by which a simulator dials the service."""

SERVER_OPTIONS = server_options(ping_seconds=SERVER_PING_SECONDS)
"""Options of a simulator's server."""

DESCRIBE_METHOD = "/aisandbox.v1.EnvironmentService/Describe"
SESSION_METHOD = "/aisandbox.v1.EnvironmentService/Session"
"""The full names of the methods."""

POOL_METADATA = "aisandbox-pool"
"""The metadata of a call for a pool of simulators at the service: the pool's name."""

RUN_METADATA = "aisandbox-run"
"""The metadata of a trainer's call for its pool: the name of its run."""
