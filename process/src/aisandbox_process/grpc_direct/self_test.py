"""One round trip over loopback, which shows whether gRPC's private names still do what is expected of them.

Must not know the setting, or what uses the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc

from aisandbox_process.grpc_direct.async_streams import DirectAsyncStreams
from aisandbox_process.grpc_direct.client_stream import DirectStream, StreamEnded
from aisandbox_process.grpc_direct.method_server import DirectMethodServer
from aisandbox_process.grpc_direct.methods import Answer, Methods
from aisandbox_process.grpc_direct.served_stream import ServedStream
from aisandbox_process.grpc_direct.stream_server import DirectStreamServer
from aisandbox_process.grpc_options import channel_options

TIMEOUT_SECONDS = 5.0
"""How long the self-test may take; some milliseconds are usual."""

_SERVICE = "aisandbox.SelfTest"
_MESSAGE, _LAST_MESSAGE = b"self-test", b"the last one"
_OPTIONS: list[tuple[str, int | str]] = [
    *channel_options(ping_seconds=60),
    ("grpc.use_local_subchannel_pool", 1),
]


def find_problem(timeout: float = TIMEOUT_SECONDS) -> str:
    """Why direct gRPC does not work in this process; empty if it works. Takes at most ``timeout`` seconds."""
    results: list[str] = []

    def run() -> None:
        try:
            _exchange_messages()
            results.append("")
        except BaseException as error:  # whatever has become of the private names, the public API is still there
            results.append(f"{type(error).__name__}: {error}")

    # In its own thread: a private name whose meaning has changed may never return.
    thread = threading.Thread(target=run, name="grpc-self-test", daemon=True)
    thread.start()
    thread.join(timeout)
    return results[0] if results else f"no result within {timeout:g} s"


async def find_async_problem() -> str:
    """As :func:`find_problem`, of the streams of grpc.aio servers, in the running event loop."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await _exchange_with_aio_server()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


async def _exchange_with_aio_server() -> None:
    """Send messages that are echoed by the queue's threads, and one that is echoed by the event loop."""
    server, streams, method = grpc.aio.server(), DirectAsyncStreams(), f"/{_SERVICE}/Async"
    streams.take_over(server, method, _echo_stream, ())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    streams.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", _OPTIONS) as channel:
            call: Any = channel.stream_stream(method)()
            for message in (_MESSAGE, _MESSAGE, _LAST_MESSAGE):
                await call.write(message)
                _check("the reply of an aio server", await call.read(), message)
            await call.done_writing()
            _check("the status of an aio server", await call.code(), grpc.StatusCode.OK)
    finally:
        await server.stop(0)
        await streams.close()


async def _echo_stream(_requests: Any, stream: ServedStream) -> None:
    def take(message: bytes) -> bool:
        if message == _MESSAGE:
            stream.exchange(message)
        return message == _MESSAGE

    while (message := await stream.read(take)) is not None:
        await stream.write(message)


def _exchange_messages() -> None:
    """Send a message to each kind of direct server, and receive it again."""
    with _echo_server() as address:
        for method in ("Stream", "Bidirectional"):
            with contextlib.closing(DirectStream(address, f"/{_SERVICE}/{method}", _OPTIONS)) as stream:
                _exchange_on(stream)
        with grpc.insecure_channel(address, _OPTIONS) as channel:
            call: Any = channel.unary_unary(f"/{_SERVICE}/Unary")
            _check("the reply to a unary call", call(_MESSAGE, timeout=TIMEOUT_SECONDS), _MESSAGE)


def _exchange_on(stream: DirectStream) -> None:
    for _ in range(2):
        stream.send(_MESSAGE)
        _check("the reply on a stream", stream.receive(), _MESSAGE)
    stream.finish()
    try:
        stream.receive()
    except StreamEnded as end:
        _check("the status of a stream", end.code, grpc.StatusCode.OK)
    else:
        raise RuntimeError("a stream brought a reply after its end")


@contextlib.contextmanager
def _echo_server() -> Iterator[str]:
    """A server whose methods reply with the request; the value is its address."""
    methods = Methods(
        service=_SERVICE,
        unary={"Unary": _echo},
        streaming={},
        bidirectional={"Bidirectional": lambda: _echo},
        status_of=_raise,
        stopping=_STOPPING,
    )
    with ThreadPoolExecutor(1, "grpc-self-test") as pool:
        server = grpc.server(pool, options=_OPTIONS)
        streams = DirectStreamServer(server, f"/{_SERVICE}/Stream", _EchoHandler)
        calls = DirectMethodServer(server, methods)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            streams.start()
            calls.start()
            yield f"127.0.0.1:{port}"
        finally:
            calls.stop_streams()
            server.stop(0).wait()
            streams.join(TIMEOUT_SECONDS)


class _EchoHandler:
    """Replies with the request."""

    def handle(self, request: bytes) -> bytes:
        return request

    def close(self) -> None:
        """Nothing is held."""


def _echo(request: bytes, _caller: object) -> Answer[bytes]:
    yield from ()
    return request


def _raise(_method: str, error: Exception) -> grpc.Status:
    raise error


class _Stopping(grpc.Status):
    code, details, trailing_metadata = grpc.StatusCode.UNAVAILABLE, "the self-test has ended", ()


_STOPPING = _Stopping()


def _check(what: str, found: object, expected: object) -> None:
    if found != expected:
        raise RuntimeError(f"{what} is {found!r}, expected {expected!r}")
