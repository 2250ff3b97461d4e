"""A stream of messages to a peer of the relay: a simulator or a trainer, over whatever carries it.

Owns the link over grpc.aio. Must not know what the messages mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import grpc

Context = grpc.aio.ServicerContext[Any, Any]


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
        """The next message; None if there will be none."""
        ...

    async def write(self, message: bytes) -> None:
        """Sends a message. Raises if the peer is lost."""
        ...


class GrpcLink:
    """The stream of a call of a grpc.aio server, whose messages are bytes."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.peer = host_of(context.peer())
        self.metadata = text_metadata(context)

    async def read(self) -> bytes | None:
        """See Link."""
        message = await self._context.read()
        return None if message is grpc.aio.EOF else message

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
