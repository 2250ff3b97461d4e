"""The server's end of a stream over a Unix socket: what comes is read in the event loop, a reply is sent by any thread.

Owns the order of a stream's frames, what is held for a peer that reads slowly, and how it ends. Must not know what the
bytes mean, or where streams come from.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Mapping

import grpc

from aisandbox_process.grpc_direct import Take
from aisandbox_process.local_streams.frames import (
    FINISH,
    MESSAGE,
    START,
    START_BYTES,
    FrameReader,
    InvalidFrame,
    OversizedFrame,
    frame,
    metadata_of,
    status_frame,
)

_OUTBOX_BYTES = 4 * 1024 * 1024
"""While more than this is held for a client that reads slowly, its next message waits."""
_LOST = "the connection was lost, or the stream cancelled"


class ServedLocalStream:
    """One stream. For the event loop, but for :meth:`exchange` and :meth:`ask`.

    ``on_lost`` is called once when the client has cancelled the stream or is lost. ``metadata``: what the client has
    sent first, keys in lower case; known after :meth:`start`.
    """

    peer = "127.0.0.1"
    """The host of the peer, for limits and the log."""

    def __init__(self, connection: socket.socket, largest_message: int, on_lost: Callable[[], object]) -> None:
        self.metadata: Mapping[str, str] = {}
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._on_lost = on_lost
        self._frames = FrameReader(largest_message, START_BYTES)
        self._start: asyncio.Future[bytes] = self._loop.create_future()
        self._incoming: deque[bytes | None] = deque()  # not asked for yet; None: the client sends no more
        self._is_paused = False
        self._reader: asyncio.Future[bytes | None] | None = None
        self._take: Take | None = None
        self._drained: asyncio.Future[None] | None = None
        self._lock = threading.Lock()  # of the socket's writing side, and of what follows
        self._asked = False
        self._outbox = bytearray()
        self._ended = False  # the status is sent, or on its way
        self._lost = False
        self._closed: asyncio.Event = asyncio.Event()
        connection.setblocking(False)
        self._loop.add_reader(connection.fileno(), self._on_readable)

    # For users of the stream.

    async def start(self) -> None:
        """Waits for the metadata. Raises InvalidFrame."""
        self.metadata = metadata_of(await self._start)

    def ask(self) -> None:
        """Asks for the next message, which the reader waits for or finds; again: nothing. For any thread."""
        with self._lock:
            waits, self._asked = not self._asked and bool(self._incoming), True
        if waits:
            self._loop.call_soon_threadsafe(self._deliver)

    def exchange(self, message: bytes) -> None:
        """Sends a message, unless the stream has ended, and asks for the next one. For any thread."""
        self.ask()  # first: with the message the client may send the next one
        self._send(frame(MESSAGE, message))

    async def read(self, take: Take | None = None) -> bytes | None:
        """The next message that ``take``, which is asked in the event loop, does not deal with.

        None if there will be none. After a message that ``take`` has dealt with the next one is read when :meth:`ask`
        or :meth:`exchange` is called. Raises ConnectionError if the client has cancelled the stream or is lost.
        """
        self._check()
        reader: asyncio.Future[bytes | None] = self._loop.create_future()
        self._reader = reader
        self._take = take
        with self._lock:
            self._asked = True
        self._deliver()
        return await reader

    async def write(self, message: bytes) -> None:
        """Sends a message; returns when the client has room for more. Raises ConnectionError."""
        self._check()
        if not self._send(frame(MESSAGE, message)):
            drained = self._drained = self._loop.create_future()
            await drained

    def end(self, code: grpc.StatusCode, details: str) -> None:
        """Sends the status, and closes the connection when the client has read it; again: nothing."""
        number: int = code.value[0]
        if self._lost or self._send(status_frame(number, details), last=True):
            self.close()

    def close(self) -> None:
        """Closes the connection at once; again: nothing."""
        if self._closed.is_set():
            return
        self._loop.remove_reader(self._socket.fileno())
        self._loop.remove_writer(self._socket.fileno())
        with self._lock:
            self._ended = True
            self._closed.set()
            self._socket.close()
        self._wake()

    async def wait_closed(self) -> None:
        """Waits until the connection is closed: the client has been sent everything, or is lost."""
        await self._closed.wait()

    # What comes.

    def _on_readable(self) -> None:
        try:
            data = self._socket.recv(self._frames.read_bytes)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._lose()
            return
        try:
            for kind, content in self._frames.feed(data):
                self._sort(kind, content)
        except OversizedFrame as error:
            self._break(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except InvalidFrame as error:
            self._break(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        else:
            self._deliver()
            if self._incoming and not self._is_paused and not self._closed.is_set():
                self._is_paused = True
                self._loop.remove_reader(self._socket.fileno())

    def _sort(self, kind: int, content: bytes) -> None:
        if (kind == START) is self._start.done() or kind not in (START, MESSAGE, FINISH):
            raise InvalidFrame(f"a client sends no frame of kind {kind} here")
        if kind == START:
            self._start.set_result(content)
        else:
            self._incoming.append(content if kind == MESSAGE else None)

    def _deliver(self) -> None:
        """Gives what has come to its reader, as far as it is asked for and the client reads what is sent."""
        while self._incoming and self._reader is not None and not self._reader.done():
            with self._lock:
                waits = not self._asked or len(self._outbox) > _OUTBOX_BYTES
                if waits and self._incoming[0] is not None:
                    return
                self._asked = False
            message = self._incoming.popleft()
            if message is None or self._take is None or not self._take(message):
                reader, self._reader = self._reader, None
                reader.set_result(message)
        if self._is_paused and not self._incoming and not self._lost and not self._closed.is_set():
            self._is_paused = False
            self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def _break(self, code: grpc.StatusCode, details: str) -> None:
        """Ends a stream whose client breaks its rules, as gRPC does it: for the server it is cancelled."""
        self.end(code, details)
        self._lose()

    def _lose(self) -> None:
        if self._lost:
            return
        self._lost = True
        if not self._closed.is_set():
            self._loop.remove_reader(self._socket.fileno())
        self._wake()
        self._on_lost()

    def _wake(self) -> None:
        for waiting in (self._reader, self._drained):
            if waiting is not None and not waiting.done():
                waiting.set_exception(ConnectionResetError(_LOST))
                waiting.exception()  # seen, also if nobody waits any more

    def _check(self) -> None:
        if self._lost or self._ended:
            raise ConnectionResetError(_LOST)

    # What goes.

    def _send(self, data: bytes, *, last: bool = False) -> bool:
        """Sends after what was sent before, unless the stream has ended; whether nothing of it is left. Any thread."""
        with self._lock:
            if self._ended:
                return self._closed.is_set() or not self._outbox
            self._ended = last
            if not self._outbox:
                try:
                    data = data[self._socket.send(data) :]
                except (BlockingIOError, InterruptedError):
                    pass
                except OSError:  # nothing can be sent any more; the reader may not be reading
                    self._loop.call_soon_threadsafe(self._lose)
                    return True
                if not data:
                    return True
            begins = not self._outbox
            self._outbox += data
        if begins:
            self._loop.call_soon_threadsafe(self._watch)
        return False

    def _watch(self) -> None:
        if not self._closed.is_set():
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        with self._lock:
            try:
                del self._outbox[: self._socket.send(self._outbox)]
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._outbox.clear()
                self._loop.call_soon(self._lose)
            is_empty = not self._outbox
        if is_empty:
            self._loop.remove_writer(self._socket.fileno())
            if self._ended:
                self.close()
            elif self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
        self._deliver()  # a message may have waited for this
