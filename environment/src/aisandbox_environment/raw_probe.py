"""What answers at an address where no gRPC call succeeds: HTTP/1.1, TLS, or a server that closes the connection.

Connects at most three times, for a bounded time, and is used only after a call has failed; a caller that tries again
and again asks :class:`ProbeCache`. Must not know gRPC or sessions.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from aisandbox_process import InvalidHostPort, split_host_port

INTERVAL_SECONDS = 30.0
"""How long what was found at an address is repeated, before it is connected to again."""
MOST_ADDRESSES = 1024
"""How many addresses are remembered: as many as a run may have."""
TIMEOUT_SECONDS = 1.0
"""How long one connection may take, until its first bytes have arrived."""

_GOAWAY_SECONDS = 0.2
# RFC 9113: the client's preface and an empty SETTINGS frame; a frame has its type at byte 3.
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
_SETTINGS, _GOAWAY, _HEADER_BYTES = 4, 7, 9
_HTTP_1_1_REQUIRED = 13
# RFC 8446: the types of the records alert and handshake, and the major version.
_TLS_RECORDS = (b"\x15\x03", b"\x16\x03")

_NEEDED = "simulators are served with HTTP/2 without TLS"
_TLS = (
    f"a server with TLS answers there, and {_NEEDED}: turn TLS off on this port (in Kestrel, no UseHttps); for the "
    "service itself, name the CA of its certificate"
)
_HTTP_1_1 = (
    f"an HTTP/1.1 server answers there, and {_NEEDED}: is it the simulator's port? In Kestrel, set "
    "Protocols = HttpProtocols.Http2 for this port"
)
_CLOSES = (
    "what listens there closes each connection at once: is it the simulator's port, and does a proxy or a port "
    "forwarding stand between?"
)
_OTHER = f"what answers there speaks neither HTTP/2 nor HTTP/1.1, and {_NEEDED}: is it the simulator's port?"
_SILENT = f"what listens there accepts the connection and sends nothing within {TIMEOUT_SECONDS:g} s: is it stopped?"


def what_answers(address: str, timeout: float = TIMEOUT_SECONDS) -> str:
    """A sentence about what answers at ``address`` (``host:port``) in place of a gRPC server.

    Empty if nothing listens there, or if an HTTP/2 server does. Takes at most three times ``timeout`` seconds and
    the time of resolving the name.
    """
    try:
        host, port = split_host_port(address)
        answer = _first_bytes(host, port, _PREFACE, timeout)
    except (InvalidHostPort, OSError, UnicodeError):
        return ""
    if answer is None:
        return _SILENT
    if not answer:
        if _speaks_tls(host, port, timeout):
            return _TLS
        return _HTTP_1_1 if _speaks_http_1_1(host, port, timeout) else _CLOSES
    if answer.startswith(_TLS_RECORDS):
        return _TLS
    if answer.startswith(b"HTTP/1."):
        # A TLS server of Go, nginx or Apache says in HTTP/1 that it expected TLS.
        return _TLS if b"HTTPS" in answer and _speaks_tls(host, port, timeout) else _HTTP_1_1
    if _is_http_2(answer):
        return _HTTP_1_1 if _requires_http_1_1(answer) else ""
    # Python's http.server answers HTTP/2's preface with a page and no status line.
    return _HTTP_1_1 if _speaks_http_1_1(host, port, timeout) else _OTHER


class ProbeCache:
    """What answers at addresses, each asked at most once in INTERVAL_SECONDS. For several threads.

    A trainer that waits for its simulator tries for minutes: what listens there must not get a second connection, with
    bytes that it does not understand, for each attempt.
    """

    def __init__(self, ask: Callable[[str], str] = what_answers, clock: Callable[[], float] = time.monotonic) -> None:
        self._ask = ask
        self._clock = clock
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[float, str]] = {}

    def of(self, address: str) -> str:
        """As :func:`what_answers`, of at most INTERVAL_SECONDS ago."""
        with self._lock:
            asked, answer = self._answers.get(address, (float("-inf"), ""))
        if self._clock() - asked < INTERVAL_SECONDS:
            return answer
        answer = self._ask(address)
        with self._lock:
            if len(self._answers) >= MOST_ADDRESSES:
                self._answers.clear()
            self._answers[address] = (self._clock(), answer)
        return answer


def _first_bytes(host: str, port: int, request: bytes, timeout: float) -> bytes | None:
    """What the peer sends first in answer to ``request``: empty if it closes, None if it is silent.

    Raises OSError if no connection is accepted.
    """
    deadline = time.monotonic() + timeout
    with socket.create_connection((host, port), timeout) as peer:
        received = b""
        try:
            peer.sendall(request)
            while len(received) < 512:
                peer.settimeout(max(0.001, deadline - time.monotonic()))
                part = peer.recv(512)
                if not part:
                    return received
                received += part
                if _is_http_2(received):  # Kestrel sends its SETTINGS before the GOAWAY with which it refuses HTTP/2
                    deadline = min(deadline, time.monotonic() + _GOAWAY_SECONDS)
                elif received.startswith(_TLS_RECORDS):
                    return received
        except TimeoutError:
            return received or None
        except OSError:  # reset by the peer
            return received
        return received


def _is_http_2(answer: bytes) -> bool:
    return len(answer) >= _HEADER_BYTES and answer[3] in (_SETTINGS, _GOAWAY) and answer[5:9] == b"\0\0\0\0"


def _requires_http_1_1(answer: bytes) -> bool:
    code = _HTTP_1_1_REQUIRED.to_bytes(4, "big")
    return any(kind == _GOAWAY and payload[4:8] == code for kind, payload in _frames(answer))


def _frames(answer: bytes) -> list[tuple[int, bytes]]:
    """The type and payload of each frame."""
    frames = []
    while len(answer) >= _HEADER_BYTES:
        end = _HEADER_BYTES + int.from_bytes(answer[:3], "big")
        frames.append((answer[3], answer[_HEADER_BYTES:end]))
        answer = answer[end:]
    return frames


def _speaks_http_1_1(host: str, port: int, timeout: float) -> bool:
    """Whether the peer answers a request of HTTP/1.1 with a status line."""
    request = b"GET / HTTP/1.1\r\nHost: simulator\r\nConnection: close\r\n\r\n"
    try:
        return (_first_bytes(host, port, request, timeout) or b"").startswith(b"HTTP/1.")
    except OSError:
        return False


def _speaks_tls(host: str, port: int, timeout: float) -> bool:
    """Whether the peer answers the first message of a TLS handshake with one of TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    try:
        return (_first_bytes(host, port, outgoing.read(), timeout) or b"").startswith(_TLS_RECORDS)
    except OSError:
        return False
