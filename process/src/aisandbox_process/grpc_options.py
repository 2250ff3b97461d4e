"""The options of every gRPC channel and server of the project, by names that gRPC's core knows.

gRPC ignores a name that it does not know; the names are those of ``grpc/impl/channel_arg_names.h``. Must not import
grpc, or know what a channel is for.
"""

from __future__ import annotations

Options = list[tuple[str, int | str]]

PING_TIMEOUT_SECONDS = 20.0
"""A peer that does not answer a ping, or does not accept bytes, within this time is considered lost."""

HANDSHAKE_SECONDS = 20.0
"""A connection that has not said what HTTP/2 begins with, after TLS, is closed."""

_SHORTEST_PING_INTERVAL_MS = 1_000
_UNLIMITED = -1


def channel_options(
    *,
    ping_seconds: float,
    ping_timeout_seconds: float = PING_TIMEOUT_SECONDS,
    reconnect_seconds: float | None = None,
    largest_reply: int = _UNLIMITED,
) -> Options:
    """Options of a client's channel: no HTTP proxy, requests of any size, and pings.

    ``largest_reply``: in bytes; default: no limit.
    ``ping_seconds``: how long a connection may be silent before the client pings, with or without a call.
    ``reconnect_seconds``: the longest pause between two attempts to connect; None: gRPC's, two minutes.
    """
    options: Options = [
        # http_proxy, https_proxy and grpc_proxy are for other programs: peers are on this machine or in the cluster.
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_receive_message_length", largest_reply),
        ("grpc.max_send_message_length", _UNLIMITED),
        *_pings(ping_seconds, ping_timeout_seconds),
    ]
    if reconnect_seconds is not None:
        options.append(("grpc.max_reconnect_backoff_ms", round(reconnect_seconds * 1000)))
    return options


def server_options(
    *,
    ping_seconds: float,
    ping_timeout_seconds: float = PING_TIMEOUT_SECONDS,
    largest_message: int = _UNLIMITED,
) -> Options:
    """Options of a server: clients may ping as often as they like, and one that is lost is found by pings.

    ``largest_message``: in bytes, of a request; replies have no limit.
    """
    return [
        # Two servers on one port are a mistake: the second one fails to start, else it would get half of the calls.
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", round(HANDSHAKE_SECONDS * 1000)),
        ("grpc.max_receive_message_length", largest_message),
        ("grpc.max_send_message_length", _UNLIMITED),
        # .NET clients ping every second at most.
        ("grpc.http2.min_ping_interval_without_data_ms", _SHORTEST_PING_INTERVAL_MS),
        ("grpc.http2.max_ping_strikes", 0),
        *_pings(ping_seconds, ping_timeout_seconds),
    ]


def unanswered_pings(seconds: float) -> Options:
    """Options of a channel whose own pings may stay unanswered so long; gRPC's default is a minute.

    gRPC's core pings by itself, keepalive or not, to estimate the bandwidth of a connection on which data arrives.
    """
    return [("grpc.http2.ping_timeout_ms", round(seconds * 1000))]


def connection_age(seconds: float) -> Options:
    """Options of a server that asks every client to connect again after about so many seconds; 0: never.

    New connections find new servers, and leave one that is to stop before it does. Calls continue on the old one.
    """
    return [("grpc.max_connection_age_ms", round(seconds * 1000))] if seconds else []


def connection_limit(number: int) -> Options:
    """Options of a server that has at most so many connections: one more is closed at once."""
    return [("grpc.max_allowed_incoming_connections", number)]


def _pings(seconds: float, timeout_seconds: float) -> Options:
    return [
        ("grpc.keepalive_time_ms", round(seconds * 1000)),
        ("grpc.keepalive_timeout_ms", round(timeout_seconds * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]
