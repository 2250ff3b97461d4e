"""The messages of one call between the polling thread and the reader, who waits in the event loop.

Owns who gets a message: the reader's own function at once, the reader, or, while nobody reads, the next reader.
Must not know gRPC, nor what the bytes mean.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

Take: TypeAlias = Callable[[bytes], bool]
"""Called in a polling thread with a message; whether it has dealt with it. If not, the reader gets the message."""

Claimed: TypeAlias = tuple[bytes | None, "asyncio.Future[Any] | None", Take | None]
"""A message, None if there will be none, and who reads it: a reader and its function, or nobody."""


class StreamInbox:
    """At most one message, or one reader that waits for it. From any thread, under the lock of the call."""

    __slots__ = ("_kept", "_lock", "_loop", "_no_more", "_reader", "_take")

    def __init__(self, loop: asyncio.AbstractEventLoop, lock: threading.RLock) -> None:
        self._loop = loop
        self._lock = lock
        self._reader: asyncio.Future[Any] | None = None
        self._take: Take | None = None
        self._kept: bytes | None = None  # a message that came while nobody was reading; no other is asked for
        self._no_more = False

    def is_full(self) -> bool:
        """Whether a message waits for a reader. For those who hold the lock."""
        return self._kept is not None

    def has_ended(self) -> bool:
        """Whether there will be no other message. For those who hold the lock."""
        return self._no_more

    def read(self, reader: asyncio.Future[Any], take: Take | None) -> bool:
        """Let ``reader`` wait for the next message that ``take`` does not deal with; whether one is to be asked for."""
        with self._lock:
            kept, self._kept = self._kept, None
            if kept is None:
                self._reader, self._take = reader, take
        return kept is None or self.give(kept, reader, take, asks=True)

    def claim(self, message: bytes | None) -> Claimed:
        """Decide who reads a message: nobody else gets one until it is given. For those who hold the lock."""
        reader, take = self._reader, self._take
        self._reader = self._take = None
        if message is None:
            self._no_more = True
        elif reader is None:
            self._kept = message
        return message, reader, take

    def give(
        self, message: bytes | None, reader: asyncio.Future[Any] | None, take: Take | None, asks: bool = False
    ) -> bool:
        """Give a message to its reader; whether one that waits for another and ``asks`` for it still needs it."""
        if reader is None:
            return False
        while message is not None and take is not None and take(message):
            with self._lock:
                message, self._kept = self._kept, None
                waits = message is None and not self._no_more
                if waits:
                    self._reader, self._take = reader, take
            if waits:
                return asks
            asks = True  # what was asked for while a message was kept
        self._loop.call_soon_threadsafe(resolve, reader, message)
        return False


def resolve(future: asyncio.Future[Any], value: Any) -> None:
    """Set the result of a future that may be done. In the event loop."""
    if not future.done():
        future.set_result(value)
