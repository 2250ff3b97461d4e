"""A gRPC client of a bidirectional stream on a bare socket, which writes whatever the server does.

It shows what a server does to a connection on which a client is writing, which gRPC's own client hides. Frames have no
padding.
"""

from __future__ import annotations

import queue
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _GOAWAY = 0, 1, 4, 6, 7
_NO_ERROR = bytes(4)
_ACK, _END_STREAM, _END_HEADERS = 1, 1, 4


class Http2Writer:
    """One call of ``method`` ("/package.Service/Method") at ``address``."""

    def __init__(self, address: str, method: str) -> None:
        host, port = address.rsplit(":", 1)
        self._socket = socket.create_connection((host, int(port)), 30)
        headers = {
            ":method": "POST", ":scheme": "http", ":path": method, ":authority": address,
            "te": "trailers", "content-type": "application/grpc",
        }  # fmt: skip
        # RFC 7541: literal header fields without indexing, no Huffman coding.
        block = b"".join(
            b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
            for name, value in headers.items()
        )
        self._socket.sendall(_PREFACE + _frame(_SETTINGS, 0, 0, b"") + _frame(_HEADERS, _END_HEADERS, 1, block))

        self._sending = threading.Lock()
        self._seen: queue.SimpleQueue[tuple[str, bytes]] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def write(self, message: bytes) -> None:
        """Send a message. Raises OSError if the connection is broken."""
        self._send(_frame(_DATA, 0, 1, b"\0" + len(message).to_bytes(4, "big") + message))

    def ping(self, payload: bytes) -> None:
        """Send a PING frame of eight bytes; its answer is a "pong" with them."""
        self._send(_frame(_PING, 0, 0, payload))

    def wait_for(self, kind: str) -> bytes:
        """The payload of the first "reply" or "pong", or of the "status" that ends the stream.

        Raises ConnectionError, also for a GOAWAY with an error, with which a server ends a client's connection. One
        without an error announces that the server stops, and calls continue.
        """
        while True:
            seen, payload = self._seen.get(timeout=30)
            if seen == kind:
                return payload
            if seen == "goaway":
                raise ConnectionError(f"the server ends the connection: {payload[8:].decode()}")
            if seen == "end":
                raise ConnectionError(f"the connection has ended without a {kind}")

    def _send(self, data: bytes) -> None:
        with self._sending:
            self._socket.sendall(data)

    def _read(self) -> None:
        with suppress(OSError):
            while True:
                head = self._exactly(9)
                payload = self._exactly(int.from_bytes(head[:3], "big"))
                kind, flags, own = head[3], head[4], int.from_bytes(head[5:9], "big") == 1
                if kind == _PING and flags & _ACK:
                    self._seen.put(("pong", payload))
                elif kind == _GOAWAY and payload[4:8] != _NO_ERROR:
                    self._seen.put(("goaway", payload))
                elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                    self._send(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
                elif own and kind == _HEADERS and flags & _END_STREAM:
                    self._seen.put(("status", payload))
                elif own and kind == _DATA:
                    self._seen.put(("reply", payload))
        self._seen.put(("end", b""))

    def _exactly(self, number: int) -> bytes:
        data = b""
        while len(data) < number:
            part = self._socket.recv(number - len(data))
            if not part:
                raise ConnectionError("the connection has ended without a status")
            data += part
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join(30)
        self._socket.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
