"""What answers at an address where no gRPC call succeeds."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import grpc
import pytest
from aisandbox_environment.calls import describe
from aisandbox_environment.errors import SimulatorUnreachable
from aisandbox_environment.raw_probe import INTERVAL_SECONDS, MOST_ADDRESSES, ProbeCache, what_answers

Serve = Callable[[Callable[[socket.socket], object]], str]
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
GOAWAY_HTTP_1_1 = b"\0\0\x08\7\0\0\0\0\0" + b"\0\0\0\0" + b"\0\0\0\x0d"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serves each connection with a function; returns the address."""
    listeners = []

    def serve(behaviour: Callable[[socket.socket], object]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            with suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with peer, suppress(OSError):
                        behaviour(peer)

        threading.Thread(target=accept, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def says(*parts: bytes) -> Callable[[socket.socket], object]:
    def behaviour(peer: socket.socket) -> None:
        peer.recv(1000)
        for part in parts:
            peer.sendall(part)

    return behaviour


def answers_http_1_1_only(otherwise: bytes) -> Callable[[socket.socket], object]:
    """A server that answers a preface of HTTP/2 without a status line."""

    def behaviour(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 404 Not Found\r\n\r\n" if peer.recv(1000).startswith(b"GET ") else otherwise)

    return behaviour


def tls(peer: socket.socket) -> None:
    """The answer of OpenSSL to a first byte that is none of TLS, and to one that is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(peer.recv(4000))
    with suppress(ssl.SSLError):
        connection.do_handshake()
    peer.sendall(outgoing.read())


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), "HttpProtocols.Http2"),
        (says(SETTINGS, GOAWAY_HTTP_1_1), "HttpProtocols.Http2"),
        (says(b"HTTP/1.1 505 HTTP Version Not Supported\r\n\r\n"), "an HTTP/1.1 server answers"),
        (answers_http_1_1_only(b""), "an HTTP/1.1 server answers"),
        (answers_http_1_1_only(b"<!DOCTYPE HTML><p>Error code: 505"), "an HTTP/1.1 server answers"),
        (lambda peer: None, "closes each connection at once"),
        (lambda peer: peer.recv(1000), "closes each connection at once"),
        (says(b"SSH-2.0-OpenSSH_9.6\r\n"), "neither HTTP/2 nor HTTP/1.1"),
        (says(SETTINGS), ""),
        (tls, "a server with TLS answers there"),
    ],
)
def test_probe_says_what_answers(serve: Serve, behaviour: Callable[[socket.socket], object], expected: str) -> None:
    found = what_answers(serve(behaviour))
    assert expected in found if expected else found == ""


def test_tls_server_that_explains_itself_in_http_1_is_one_with_tls(serve: Serve) -> None:
    def go(peer: socket.socket) -> None:
        if peer.recv(1, socket.MSG_PEEK) == b"P":
            says(b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n")(peer)
        else:
            tls(peer)

    assert "a server with TLS" in what_answers(serve(go))


def test_tls_server_that_closes_without_an_alert_is_one_with_tls(serve: Serve) -> None:
    assert "a server with TLS" in what_answers(
        serve(lambda peer: tls(peer) if peer.recv(1, socket.MSG_PEEK) == b"\x16" else None)
    )


def test_address_where_nothing_listens_has_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    assert what_answers(address) == ""


def test_error_of_a_call_says_what_answers(serve: Serve) -> None:
    with pytest.raises(SimulatorUnreachable, match=r"is it running.*a server with TLS answers there"):
        describe(serve(tls))


def test_grpc_server_is_no_other_protocol() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    assert what_answers(f"127.0.0.1:{port}") == ""
    server.stop(0).wait()


def test_address_that_is_tried_again_and_again_is_probed_once_in_an_interval() -> None:
    now = 1000.0
    asked: list[str] = []

    def ask(address: str) -> str:
        asked.append(address)
        return f"answer {len(asked)}"

    answers = ProbeCache(ask, lambda: now)
    assert [answers.of("a:1") for _ in range(3)] == ["answer 1"] * 3
    assert answers.of("b:1") == "answer 2"
    now += INTERVAL_SECONDS
    assert [answers.of("a:1") for _ in range(3)] == ["answer 3"] * 3
    assert asked == ["a:1", "b:1", "a:1"]


def test_addresses_that_are_remembered_are_bounded() -> None:
    asked: list[str] = []

    def ask(address: str) -> str:
        asked.append(address)
        return ""

    answers = ProbeCache(ask, lambda: 0.0)
    for number in range(MOST_ADDRESSES + 1):
        answers.of(f"a:{number}")
    answers.of("a:0")
    assert len(asked) == MOST_ADDRESSES + 2
    answers.of(f"a:{MOST_ADDRESSES}")
    assert len(asked) == MOST_ADDRESSES + 2


def test_errors_of_calls_repeat_what_was_found(serve: Serve) -> None:
    connections: list[bytes] = []

    def behaviour(peer: socket.socket) -> None:
        connections.append(peer.recv(1000))
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    address = serve(behaviour)
    for _ in range(2):
        with pytest.raises(SimulatorUnreachable, match=r"an HTTP/1\.1 server answers there"):
            describe(address, 5)
    # Each call connects by itself; the probe sends an HTTP/2 preface with an empty SETTINGS frame, as no gRPC does.
    assert sum(sent.endswith(b"SM\r\n\r\n\0\0\0\4\0\0\0\0\0") for sent in connections) == 1
