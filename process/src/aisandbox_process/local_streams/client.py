"""The client's end of a stream over a Unix socket, whose reader waits in the system call itself.

The same to its user as a stream of gRPC (:class:`~aisandbox_process.grpc_direct.ClientStream`). Must not know what the
bytes mean.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Iterable
from pathlib import Path

import grpc

from aisandbox_process.grpc_direct import StreamEnded
from aisandbox_process.local_streams.frames import (
    FINISH,
    MESSAGE,
    STATUS,
    FrameReader,
    InvalidFrame,
    frame,
    start_frame,
    status_of,
)

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_SEND_SECONDS = 60
"""How long the server may leave what is sent to it unread."""
_LONGEST = 2**32
"""Of a frame that the server sends: whoever uses the stream says how long a message may be."""


class LocalStream:
    """See ClientStream. Opens the connection at once: raises OSError if nothing answers at the socket ``path``."""

    def __init__(self, path: Path, metadata: Iterable[tuple[str, str]] = ()) -> None:
        self._frames = FrameReader(_LONGEST)
        self._received: deque[bytes] = deque()
        self._end: StreamEnded | None = None
        self._cancelled = False
        self._lock = threading.RLock()  # held where the socket is closed or shut down
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", _SEND_SECONDS, 0))
            self._socket.connect(str(path))
            self._socket.sendall(start_frame(metadata))
        except BaseException:
            self._socket.close()
            raise

    def send(self, request: bytes) -> None:
        """See ClientStream."""
        self._send(frame(MESSAGE, request))

    def start_receive(self) -> None:
        """See ClientStream."""

    def receive(self) -> bytes:
        """See ClientStream."""
        while not self._received:
            if self._end is not None:
                raise self._end
            self._read()
        return self._received.popleft()

    def is_connected(self) -> bool:
        """See ClientStream. A socket of this machine is connected at once."""
        return self._end is None

    def cancel(self) -> None:
        """See ClientStream."""
        self._cancelled = True
        with self._lock, contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def finish(self) -> None:
        """See ClientStream."""
        self._send(frame(FINISH))
        while self._end is None:
            self._read()

    def close(self) -> None:
        """See ClientStream."""
        if self._end is None:
            self._end = StreamEnded(grpc.StatusCode.CANCELLED, "cancelled by the client")
        with self._lock:
            self._socket.close()

    def _send(self, data: bytes) -> None:
        if self._end is not None:
            return
        try:
            self._socket.sendall(data)
        except BlockingIOError:  # a part of it may be sent: nothing can follow
            self._end = StreamEnded(grpc.StatusCode.UNAVAILABLE, f"the service reads nothing for {_SEND_SECONDS} s")
        except OSError:
            pass  # what is received says why

    def _read(self) -> None:
        """Waits for something to be received."""
        try:
            data = self._socket.recv(self._frames.read_bytes)
        except OSError:
            data = b""
        if not data:
            self._end = self._lost()
            return
        try:
            for kind, content in self._frames.feed(data):
                if kind == MESSAGE:
                    self._received.append(content)
                elif kind == STATUS:
                    code, details = status_of(content)
                    self._end = StreamEnded(_CODES.get(code, grpc.StatusCode.UNKNOWN), details)
                else:
                    raise InvalidFrame(f"a server sends no frame of kind {kind}")
        except InvalidFrame as error:
            self._end = StreamEnded(grpc.StatusCode.INTERNAL, str(error))

    def _lost(self) -> StreamEnded:
        if self._cancelled:
            return StreamEnded(grpc.StatusCode.CANCELLED, "cancelled by the client")
        return StreamEnded(grpc.StatusCode.UNAVAILABLE, "Socket closed")
