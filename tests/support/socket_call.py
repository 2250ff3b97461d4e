"""A trainer's session over the service's Unix socket, message by message, with the methods of a call of grpc.aio.

For one event loop. Must not know what the messages mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from pathlib import Path
from typing import Any

import grpc
from aisandbox.v1 import environment_pb2
from aisandbox_process.local_streams.frames import FINISH, MESSAGE, STATUS, FrameReader, frame, start_frame, status_of

_CODES = {code.value[0]: code for code in grpc.StatusCode}


class SocketCall:
    """One stream of SimulatorRequests and SimulatorReplies."""

    def __init__(self, path: Path, metadata: tuple[tuple[str, str], ...]) -> None:
        self._opening = asyncio.ensure_future(self._open(path, metadata))
        self._frames = FrameReader(2**30)
        self._received: list[tuple[int, bytes]] = []
        self._status: tuple[grpc.StatusCode, str] | None = None

    @staticmethod
    async def _open(path: Path, metadata: Any) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(connection, str(path))
        await loop.sock_sendall(connection, start_frame(metadata))
        return connection

    async def _send(self, data: bytes) -> None:
        """What cannot be sent is left out: what is received says why."""
        connection = await asyncio.shield(self._opening)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(connection, data)

    async def write(self, message: environment_pb2.SimulatorRequest) -> None:
        await self._send(frame(MESSAGE, message.SerializeToString()))

    async def done_writing(self) -> None:
        await self._send(frame(FINISH))

    async def read(self) -> Any:
        connection = await asyncio.shield(self._opening)
        while not self._received and self._status is None:
            try:
                data = await asyncio.get_running_loop().sock_recv(connection, self._frames.read_bytes)
            except ConnectionError:
                data = b""
            self._received += self._frames.feed(data)
            if not data:
                self._status = grpc.StatusCode.UNAVAILABLE, "Socket closed"
        if self._received:
            kind, content = self._received.pop(0)
            if kind == MESSAGE:
                return environment_pb2.SimulatorReply.FromString(content)
            assert kind == STATUS
            code, details = status_of(content)
            self._status = _CODES[code], details
        connection.close()
        return grpc.aio.EOF

    def cancel(self) -> None:
        self._opening.add_done_callback(lambda opened: opened.result().shutdown(socket.SHUT_RDWR))

    async def code(self) -> grpc.StatusCode:
        assert self._status is not None
        return self._status[0]

    async def details(self) -> str:
        assert self._status is not None
        return self._status[1]
