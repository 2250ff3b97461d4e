"""A stream of messages to a peer of the relay: a simulator or a trainer, over whatever carries it.

Owns the link over grpc.aio. Must not know what the messages mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Protocol

import grpc

Context = grpc.aio.ServicerContext[Any, Any]


class PeerLost(ConnectionError):
    """The peer has cancelled its stream, or its connection was lost."""


class Link(Protocol):
    """One stream. One read and one write at a time; a write returns when the peer has room for more."""

    @property
    def peer(self) -> str:
        """The host of the peer, for limits and the log."""
        ...

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the peer has sent before the first message; keys in lower case."""
        ...

    async def read(self) -> bytes | None:
        """The next message; None if the peer sends no more. Raises PeerLost."""
        ...

    async def write(self, message: bytes) -> None:
        """Sends a message. Raises if the peer is lost."""
        ...


class GrpcLink:
    """The stream of a call of a grpc.aio server, whose messages are bytes. To be made in the task of the call."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._call = asyncio.current_task()
        self.peer = host_of(context.peer())
        self.metadata = text_metadata(context)

    async def read(self) -> bytes | None:
        """See Link."""
        message: Any = await self._context.read()
        if isinstance(message, bytes):
            return message
        # So ends a stream that was cancelled too; the cancellation, which comes to the task of the call, is one event
        # later. Events come in order: before the answer to a second read.
        await self._context.read()
        if self._call is not None and self._call.cancelling():
            raise PeerLost("the connection was lost, or the stream cancelled")
        return None

    async def write(self, message: bytes) -> None:
        """See Link."""
        await self._context.write(message)


def text_metadata(context: Context) -> dict[str, str]:
    """The metadata of a call, without binary entries; the first of each key."""
    found: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            found.setdefault(key, value)
    return found


def host_of(peer: str) -> str:
    """The host of a peer as gRPC writes it, ``ipv4:127.0.0.1:5000``."""
    return peer.partition(":")[2].rpartition(":")[0] or peer
