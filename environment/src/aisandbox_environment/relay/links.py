"""A stream of messages to a peer of the relay: a simulator or a trainer, over whatever carries it.

Owns the link over grpc.aio. Must not know what the messages mean.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import grpc
from aisandbox_process.grpc_context import host_of, text_metadata
from aisandbox_process.grpc_direct import ServedStream, Take

Context = grpc.aio.ServicerContext[Any, Any]


class PeerLost(ConnectionError):
    """The peer has cancelled its stream, or its connection was lost."""


_LOST = "the connection was lost, or the stream cancelled"


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

    @property
    def exchange(self) -> Callable[[bytes], None] | None:
        """Sends a message without waiting and asks for the next one, from any thread; see :meth:`read`.

        None: this link has only :meth:`write`.
        """
        ...

    def ask(self) -> None:
        """Asks for the next message, from any thread; again, or without :attr:`exchange`: nothing."""

    async def read(self, take: Take | None = None) -> bytes | None:
        """The next message that ``take`` has not dealt with; None if the peer sends no more. Raises PeerLost.

        A link that has :attr:`exchange` asks ``take``, in a thread of its own. After a message that ``take`` has dealt
        with the next one is read when :meth:`ask` or :attr:`exchange` is called. Other links return every message.
        """
        ...

    async def write(self, message: bytes) -> None:
        """Sends a message. Raises if the peer is lost."""
        ...


class GrpcLink:
    """The stream of a call of a grpc.aio server, whose messages are bytes. To be made in the task of the call."""

    exchange = None

    def __init__(self, context: Context) -> None:
        self._context = context
        self._call = asyncio.current_task()
        self.peer = host_of(context.peer())
        self.metadata = text_metadata(context.invocation_metadata())

    def ask(self) -> None:
        """See Link."""

    async def read(self, _take: Take | None = None) -> bytes | None:
        """See Link."""
        message: Any = await self._context.read()
        if isinstance(message, bytes):
            return message
        # So ends a stream that was cancelled too; the cancellation, which comes to the task of the call, is one event
        # later. Events come in order: before the answer to a second read.
        await self._context.read()
        if self._call is not None and self._call.cancelling():
            raise PeerLost(_LOST)
        return None

    async def write(self, message: bytes) -> None:
        """See Link."""
        await self._context.write(message)


class DirectLink:
    """The same of a call whose messages are taken off a queue of their own."""

    __slots__ = ("_stream", "peer")

    def __init__(self, stream: ServedStream) -> None:
        self._stream = stream
        self.peer = host_of(stream.peer())

    @property
    def metadata(self) -> Mapping[str, str]:
        """See Link."""
        return text_metadata(self._stream.invocation_metadata())

    def exchange(self, message: bytes) -> None:
        """See Link."""
        self._stream.exchange(message)

    def ask(self) -> None:
        """See Link."""
        self._stream.ask()

    async def read(self, take: Take | None = None) -> bytes | None:
        """See Link."""
        message = await self._stream.read(take)
        if message is None and await self._stream.is_cancelled():
            raise PeerLost(_LOST)
        return message

    async def write(self, message: bytes) -> None:
        """See Link."""
        await self._stream.write(message)


def link_of(context: Context | ServedStream) -> Link:
    """The link over the stream of a call."""
    return DirectLink(context) if isinstance(context, ServedStream) else GrpcLink(context)
