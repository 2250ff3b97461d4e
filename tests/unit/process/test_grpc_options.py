"""Options of channels and servers: names that gRPC knows, no proxy, and pings that end no connection."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from aisandbox_environment.channels import CLIENT_OPTIONS
from aisandbox_environment.channels import SERVER_OPTIONS as SIMULATOR
from aisandbox_environment.spec import LONGEST_REPLY_TIMEOUT_SECONDS
from aisandbox_process.grpc_options import channel_options, server_options
from members import ROOT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
PING, PING_ACK, GOAWAY = 6, 1, 7
DEFAULTS: list[tuple[str, int]] = [
    ("grpc.http2.min_ping_interval_without_data_ms", 300_000),
    ("grpc.http2.max_ping_strikes", 2),
]
"""The default ping policy of grpc-go, grpc-java and gRPC's core."""


def sources() -> Iterator[Path]:
    for member in ROOT.glob("*/src"):
        yield from member.rglob("*.py")


def test_every_option_is_one_that_grpc_knows() -> None:
    (core,) = (Path(grpc.__file__).parent / "_cython").glob("cygrpc*.so")
    known = core.read_bytes()
    written = {name for path in sources() for name in re.findall(r'"(grpc\.[a-z0-9_.]+)"', path.read_text())}
    assert written
    assert {name for name in written if name.encode() not in known} == set()
    assert "grpc.http2.min_recv_ping_interval_without_data_ms" not in written


def test_options_of_pings_and_proxies_stand_in_one_module() -> None:
    names = re.compile(r"grpc\.(keepalive|http2\.|enable_http_proxy)")
    assert [path.name for path in sources() if names.search(path.read_text())] == ["grpc_options.py"]


@pytest.mark.parametrize("variable", ["http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY"])
def test_channel_does_not_use_an_http_proxy(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        monkeypatch.setenv(variable, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        server, port = echo_server([])
        for options in (channel_options(ping_seconds=20), CLIENT_OPTIONS):
            with grpc.insecure_channel(f"127.0.0.1:{port}", options) as channel:
                grpc.channel_ready_future(channel).result(20)
        server.stop(0).wait()
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):  # it was asked for nothing
            proxy.accept()


def test_server_lets_a_quiet_client_ping_as_often_as_it_likes() -> None:
    for options in (server_options(ping_seconds=60), SIMULATOR):
        server, port = echo_server(options)
        assert pings_answered(port, 20) == 20
        server.stop(0).wait()


def test_server_of_asyncio_lets_a_quiet_client_ping() -> None:
    async def answered() -> int:
        server = grpc.aio.server(options=server_options(ping_seconds=60, largest_message=1000))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        number = await asyncio.to_thread(pings_answered, port, 20)
        await server.stop(0)
        return number

    assert asyncio.run(answered()) == 20


def test_server_with_the_defaults_of_grpc_ends_the_connection_of_a_client_that_pings() -> None:
    server, port = echo_server(DEFAULTS)
    assert pings_answered(port, 20) < 20
    server.stop(0).wait()


@pytest.mark.parametrize("name", ["grpc.keepalive_time_ms", "grpc.http2.ping_timeout_ms"])
def test_no_ping_of_a_client_ends_the_session_of_a_simulator_that_is_halted_in_a_debugger(name: str) -> None:
    milliseconds = dict(CLIENT_OPTIONS)[name]
    assert isinstance(milliseconds, int)
    assert 1000 * LONGEST_REPLY_TIMEOUT_SECONDS <= milliseconds < 2**31 - 1  # gRPC's core takes that one for "never"


def echo_server(options: Sequence[tuple[str, int | str]]) -> tuple[grpc.Server, int]:
    server = grpc.server(ThreadPoolExecutor(4), options=options)
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(lambda requests, _: requests)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Echo", {"Stream": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def pings_answered(port: int, number: int) -> int:
    """How many PING frames, one after the other on a connection without calls, the server answers before a GOAWAY."""
    with socket.create_connection(("127.0.0.1", port), 20) as peer:
        peer.sendall(PREFACE)
        frames = _frames(peer)
        for answered in range(number):
            peer.sendall(b"\0\0\x08" + bytes([PING, 0, 0, 0, 0, 0]) + answered.to_bytes(8, "big"))
            for kind, flags in frames:
                if kind == GOAWAY:
                    return answered
                if kind == PING and flags == PING_ACK:
                    break
            else:
                return answered
        return number


def _frames(peer: socket.socket) -> Iterator[tuple[int, int]]:
    """The type and the flags of each frame that arrives."""
    buffer = b""
    while True:
        while len(buffer) < 9 or len(buffer) < 9 + int.from_bytes(buffer[:3], "big"):
            part = peer.recv(4096)
            if not part:
                return
            buffer += part
        yield buffer[3], buffer[4]
        buffer = buffer[9 + int.from_bytes(buffer[:3], "big") :]
