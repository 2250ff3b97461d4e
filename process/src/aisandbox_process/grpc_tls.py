"""gRPC's servers and channels with TLS and tokens, made of what :mod:`aisandbox_process.tls` has read.

The only place that makes a port or a channel, so each can be plain text or not. Needs the extra
``aisandbox-process[grpc]``. Must not know which settings the files come from, or what is called.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import grpc

from aisandbox_process.tls import ChannelSecurity, ServerCertificate

Options = Sequence[tuple[str, int | str]]


def add_port(server: grpc.Server | grpc.aio.Server, address: str, certificate: ServerCertificate | None = None) -> int:
    """Lets ``server``, which is not started, listen on host:port; returns the port. None: without TLS.

    A certificate that is renewed is used for the connections that begin after it. Raises RuntimeError if the address
    cannot be had.
    """
    if certificate is None:
        return server.add_insecure_port(address)
    return server.add_secure_port(address, _server_credentials(certificate))


def channel_credentials(security: ChannelSecurity) -> grpc.ChannelCredentials | None:
    """The credentials of a channel; None: without TLS. Raises InvalidChannelSecurity."""
    if not security.tls:
        return None
    pair = security.key_pair()
    return grpc.ssl_channel_credentials(
        security.authorities(), None if pair is None else pair.key, None if pair is None else pair.certificate
    )


def name_options(security: ChannelSecurity) -> list[tuple[str, int | str]]:
    """The options of a channel by which the server's certificate must be for another name than the host's."""
    return [("grpc.ssl_target_name_override", security.server_name)] if security.tls and security.server_name else []


def open_channel(address: str, security: ChannelSecurity, options: Options = ()) -> grpc.Channel:
    """A channel to ``address``, host:port or a target of gRPC, whose calls carry the token.

    Raises InvalidChannelSecurity, here or, if the token cannot be read any more, from a call.
    """
    credentials = channel_credentials(security)
    all_options = [*options, *name_options(security)]
    if credentials is None:
        channel = grpc.insecure_channel(address, options=all_options)
    else:
        channel = grpc.secure_channel(address, credentials, options=all_options)
    if not security.has_token:
        return channel
    security.metadata(address)  # what is wrong with it is said here, not at the first call
    return grpc.intercept_channel(channel, _TokenSender(lambda: security.metadata(address)))


def open_aio_channel(target: str, security: ChannelSecurity, options: Options = ()) -> grpc.aio.Channel:
    """As :func:`open_channel`, for an event loop and without the token: a server's calls have those of its callers."""
    credentials = channel_credentials(security)
    all_options = [*options, *name_options(security)]
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=all_options)
    return grpc.aio.secure_channel(target, credentials, options=all_options)


def _server_credentials(certificate: ServerCertificate) -> grpc.ServerCredentials:
    served = certificate.current()

    def renewed() -> Any:
        """Asked by gRPC at each handshake: the configuration to use, or None for the one before."""
        nonlocal served
        now = certificate.current()
        if now is served:
            return None
        served = now
        return configuration()

    def configuration() -> grpc.ServerCertificateConfiguration:
        pair = served.pair
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)], served.client_ca)

    return grpc.dynamic_ssl_server_credentials(configuration(), renewed, certificate.asks_clients)


class _CallDetails(grpc.ClientCallDetails):
    """The details of a call with other metadata."""

    def __init__(self, details: grpc.ClientCallDetails, metadata: tuple[tuple[str, str], ...]) -> None:
        given: Any = details
        self.method = given.method
        self.timeout = given.timeout
        self.metadata = (*(given.metadata or ()), *metadata)
        self.credentials = given.credentials
        self.wait_for_ready = given.wait_for_ready
        self.compression = given.compression


class _TokenSender(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Adds the token to each call."""

    def __init__(self, metadata: Callable[[], tuple[tuple[str, str], ...]]) -> None:
        self._metadata = metadata

    def _call(self, continuation: Any, details: grpc.ClientCallDetails, request: Any) -> Any:
        return continuation(_CallDetails(details, self._metadata()), request)

    intercept_unary_unary: Any = _call
    intercept_unary_stream: Any = _call
    intercept_stream_unary: Any = _call
    intercept_stream_stream: Any = _call
