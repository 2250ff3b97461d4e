"""A proxy before a gRPC server that drops responses: a request is served, and the client gets no response.

Owns the reading of HTTP/2 frames as far as it takes to know that an answer begins. Must not know what is asked.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

_HEADERS = 1
_FRAME_HEAD = 9


class DroppingProxy:
    """Passes bytes on; where an answer begins, with the probability ``drops`` the connection is cut instead."""

    def __init__(self, port: int, drops: float, chance: random.Random) -> None:
        self._target = port
        self._drops = drops
        self._chance = chance
        self.dropped = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        passing = [
            asyncio.create_task(self._requests(reader, target_writer)),
            asyncio.create_task(self._answers(target_reader, writer)),
        ]
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
        for task in passing:
            task.cancel()
            with suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                await task
        for end in (writer, target_writer):
            end.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        streams: set[bytes] = set()
        while True:
            head = await reader.readexactly(_FRAME_HEAD)
            body = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == _HEADERS and head[5:] not in streams:
                streams.add(head[5:])  # the headers that follow are the trailers of the same answer
                if self._chance.random() < self._drops:
                    self.dropped += 1
                    return
            writer.write(head + body)
            await writer.drain()


@asynccontextmanager
async def dropping(port: int, drops: float, chance: random.Random) -> AsyncIterator[DroppingProxy]:
    """A proxy to ``port`` of this machine."""
    proxy = DroppingProxy(port, drops, chance)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = int(server.sockets[0].getsockname()[1])
    try:
        yield proxy
    finally:
        server.close()
