"""TLS of gRPC's servers and channels, each with a server of this process."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox_process.grpc_direct import Methods, StreamEnded, open_stream, serve_methods
from aisandbox_process.grpc_options import channel_options
from aisandbox_process.grpc_tls import add_port, channel_credentials, name_options, open_aio_channel, open_channel
from aisandbox_process.tls import (
    PLAINTEXT,
    ChannelSecurity,
    InvalidChannelSecurity,
    ServerCertificate,
    ServerFiles,
    connection_problem,
    speaks_tls,
)
from certificates import Certificates

METHOD = "/test.Echo/"
# A connection of its own for each channel: else they would share one, and no second handshake would take place.
OPTIONS = [*channel_options(ping_seconds=60), ("grpc.use_local_subchannel_pool", 1)]


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path / "made")


@pytest.fixture
def security(made: Certificates) -> ChannelSecurity:
    return ChannelSecurity(tls=True, ca_file=made.ca)


class Echo:
    """A server of METHOD that answers with the token it got, served directly and by gRPC's public API."""

    def __init__(self, certificate: ServerCertificate | None) -> None:
        self.server = grpc.server(ThreadPoolExecutor(4))
        methods = Methods(
            service="test.Echo",
            unary={"Direct": _same},
            streaming={},
            bidirectional={"Stream": lambda: _same},
            status_of=_status_of,
            stopping=None,  # type: ignore[arg-type]
        )
        self.direct = serve_methods(self.server, methods)
        handler: Any = grpc.unary_unary_rpc_method_handler(_token)
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Other", {"Call": handler}),))
        self.port = add_port(self.server, "127.0.0.1:0", certificate)
        self.address = f"127.0.0.1:{self.port}"
        self.server.start()
        self.direct.start()


def _same(message: bytes, _caller: object) -> Any:
    yield from ()
    return message


def _status_of(_call: str, error: Exception) -> Any:
    raise error


def _token(_request: bytes, context: grpc.ServicerContext) -> bytes:
    found = dict(context.invocation_metadata() or ())
    return str(found.get("authorization", "")).encode()


@pytest.fixture
def echo(made: Certificates) -> Iterator[Echo]:
    server = Echo(ServerCertificate(ServerFiles(made.certificate, made.key)))
    yield server
    server.server.stop(0).wait()


def _call(address: str, security: ChannelSecurity, method: str = METHOD + "Direct") -> bytes:
    with open_channel(address, security, OPTIONS) as channel:
        call: Any = channel.unary_unary(method)
        answer: bytes = call(b"hello", timeout=30)
        return answer


def _failure(address: str, security: ChannelSecurity) -> str:
    """What the failed call means."""
    with pytest.raises(grpc.RpcError) as caught:
        _call(address, security)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    name = security.server_name or "127.0.0.1"
    return connection_problem(error.details(), name=name, ca_file=str(security.ca_file or "")) or error.details()


async def test_calls_are_answered_over_tls(echo: Echo, security: ChannelSecurity) -> None:
    assert _call(echo.address, security) == b"hello"
    async with open_aio_channel(echo.address, security, OPTIONS) as channel:
        call: Any = channel.unary_unary(METHOD + "Direct")
        assert await call(b"hello", timeout=30) == b"hello"


@pytest.mark.parametrize("direct", [True, False])
def test_streams_are_answered_over_tls(echo: Echo, security: ChannelSecurity, direct: bool) -> None:
    stream = open_stream(
        echo.address, METHOD + "Stream", OPTIONS, credentials=channel_credentials(security), direct=direct
    )
    stream.send(b"hello")
    assert stream.receive() == b"hello"
    stream.close()
    plain = open_stream(echo.address, METHOD + "Stream", OPTIONS, direct=direct)
    plain.send(b"hello")
    with pytest.raises(StreamEnded):
        plain.receive()
    plain.close()


def test_token_goes_with_each_call_and_is_read_again(echo: Echo, security: ChannelSecurity, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one")
    with open_channel(echo.address, replace(security, token_file=token), OPTIONS) as channel:
        call: Any = channel.unary_unary("/test.Other/Call")
        assert call(b"", timeout=30) == b"Bearer one"
        token.write_text("two")
        assert call(b"", timeout=30, metadata=(("other", "x"),)) == b"Bearer two"
        token.unlink()
        with pytest.raises(InvalidChannelSecurity, match="cannot be read"):
            call(b"", timeout=30)
    with pytest.raises(InvalidChannelSecurity, match="plain text"):
        open_channel("service:1", ChannelSecurity(token_file=token))


def test_renewed_certificate_is_used_for_new_connections(
    echo: Echo, made: Certificates, security: ChannelSecurity
) -> None:
    with open_channel(echo.address, security, OPTIONS) as before:
        old: Any = before.unary_unary(METHOD + "Direct")
        assert old(b"1", timeout=30) == b"1"
        made.replace_authority()
        assert _call(echo.address, security) == b"hello"
        made.ca.write_bytes(made.authority.cert_pem.bytes())  # proves that it is the new one
        assert _call(echo.address, security) == b"hello"
        made.key.write_bytes(b"half")
        assert _call(echo.address, security) == b"hello"
        assert old(b"2", timeout=30) == b"2"


def test_clients_need_a_certificate_where_the_server_asks(made: Certificates, tmp_path: Path) -> None:
    server = Echo(ServerCertificate(ServerFiles(made.certificate, made.key, made.ca)))
    security = ChannelSecurity(tls=True, ca_file=made.ca)
    client = replace(security, certificate_file=made.certificate, key_file=made.key)
    assert _call(server.address, client) == b"hello"
    with pytest.raises(grpc.RpcError):
        _call(server.address, security)
    stranger = Certificates(tmp_path / "stranger")
    with pytest.raises(grpc.RpcError):
        _call(server.address, replace(security, certificate_file=stranger.certificate, key_file=stranger.key))
    server.server.stop(0).wait()


def test_failures_are_told_apart(echo: Echo, made: Certificates, security: ChannelSecurity, tmp_path: Path) -> None:
    other = Certificates(tmp_path / "other")
    says = _failure(echo.address, replace(security, ca_file=other.ca))
    assert says == f"its certificate is signed by an authority that is not in {other.ca}"
    assert "not in the list of those that this machine trusts" in _failure(echo.address, ChannelSecurity(tls=True))
    says = _failure(echo.address, replace(security, server_name="service.example"))
    assert says == "its certificate is for another name than service.example; name the right one"
    made.write(expired=True)
    assert _failure(echo.address, security) == "its certificate has expired"
    plain = Echo(None)
    assert "does not use TLS" in _failure(plain.address, security)
    plain.server.stop(0).wait()


def test_plain_text_at_tls_is_recognized(echo: Echo, made: Certificates) -> None:
    with pytest.raises(grpc.RpcError):
        _call(echo.address, PLAINTEXT)
    assert speaks_tls("127.0.0.1", echo.port)
    plain = Echo(None)
    assert not speaks_tls("127.0.0.1", plain.port)
    plain.server.stop(0).wait()
    assert not speaks_tls("127.0.0.1", plain.port)


def test_name_of_the_certificate_may_be_another_than_the_address(
    made: Certificates, echo: Echo, tmp_path: Path
) -> None:
    named = Certificates(tmp_path / "named", "aisandbox-api.sandbox.svc")
    server = Echo(ServerCertificate(ServerFiles(named.certificate, named.key)))
    security = ChannelSecurity(tls=True, ca_file=named.ca, server_name="aisandbox-api.sandbox.svc")
    assert name_options(security)
    assert _call(server.address, security) == b"hello"
    assert "another name than 127.0.0.1" in _failure(server.address, replace(security, server_name=""))
    server.server.stop(0).wait()
