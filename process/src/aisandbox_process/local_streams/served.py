"""The server's end of a stream over a Unix socket: a thread of its own receives, and any thread sends.

Owns the order of a stream's frames, what is held for a peer that reads slowly, and how it ends. Must not know what the
bytes mean, or where streams come from.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress

import grpc
import structlog

from aisandbox_process.grpc_direct import StreamInbox, Take, resolve
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

log = structlog.get_logger(__name__)

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
        self._has_started = False
        self._drained: asyncio.Future[None] | None = None
        self._lock = threading.RLock()  # of the socket's writing side, and of what follows
        self._inbox = StreamInbox(self._loop, self._lock)
        self._asked = False
        self._room = threading.Condition(self._lock)  # the next message is asked for, and the client reads
        self._waits_for_room = False
        self._outbox = bytearray()
        self._ended = False  # the status is sent, or on its way
        self._lost = False
        self._is_receiving = True
        self._closed: asyncio.Event = asyncio.Event()
        connection.setblocking(True)  # for the thread; nothing else waits
        threading.Thread(target=self._receive, name="local-stream", daemon=True).start()

    # For users of the stream.

    async def start(self) -> None:
        """Waits for the metadata. Raises InvalidFrame."""
        self.metadata = metadata_of(await self._start)

    def ask(self) -> None:
        """Asks for the next message, which the reader waits for or finds; again: nothing. For any thread."""
        with self._lock:
            self._asked = True
            self._make_room()
            claimed = self._inbox.claim(None) if self._inbox.has_ended() else None
        if claimed is not None:
            self._inbox.give(*claimed)

    def exchange(self, message: bytes) -> None:
        """Sends a message, unless the stream has ended, and asks for the next one. For any thread."""
        self.ask()  # first: with the message the client may send the next one
        self._send(frame(MESSAGE, message))

    async def read(self, take: Take | None = None) -> bytes | None:
        """The next message that ``take``, which is asked in the receiving thread, does not deal with.

        None if there will be none. After a message that ``take`` has dealt with the next one is read when :meth:`ask`
        or :meth:`exchange` is called. Raises ConnectionError if the client has cancelled the stream or is lost.
        """
        self._check()
        reader: asyncio.Future[bytes | None] = self._loop.create_future()
        if self._inbox.read(reader, take):
            self.ask()
        message = await reader
        if message is None:
            self._check()
        return message

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
        self._loop.remove_writer(self._socket.fileno())
        with self._lock:
            self._ended = True
            self._closed.set()
            self._make_room()
            if self._is_receiving:  # its thread closes the socket
                with suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)
            else:
                self._socket.close()
        self._wake()

    async def wait_closed(self) -> None:
        """Waits until the connection is closed: the client has been sent everything, or is lost."""
        await self._closed.wait()

    # What comes, in the receiving thread.

    def _receive(self) -> None:
        try:
            while data := self._received():
                for kind, content in self._frames.feed(data):
                    self._sort(kind, content)
        except OversizedFrame as error:
            self._call(self._break, grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except InvalidFrame as error:
            self._call(self._break, grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception as error:  # of a reader's function
            log.exception("stream failed")
            self._call(self._break, grpc.StatusCode.UNKNOWN, f"unexpected {type(error).__name__}")
        finally:
            with self._lock:
                self._is_receiving = False
                if self._closed.is_set():
                    self._socket.close()
            self._call(self._lose_connection)

    def _received(self) -> bytes:
        """What comes next; nothing at the end."""
        try:
            return self._socket.recv(self._frames.read_bytes)
        except OSError:
            return b""

    def _sort(self, kind: int, content: bytes) -> None:
        if (kind == START) is self._has_started or kind not in (START, MESSAGE, FINISH):
            raise InvalidFrame(f"a client sends no frame of kind {kind} here")
        if kind == START:
            self._has_started = True
            self._call(resolve, self._start, content)
        elif kind == MESSAGE:
            self._deliver(content)
        else:
            self._deliver(None)

    def _deliver(self, message: bytes | None) -> None:
        """Gives a message to its reader as soon as it is asked for, and the client reads what is sent."""
        with self._lock:
            while message is not None and not self._closed.is_set() and not self._has_room():
                self._waits_for_room = True
                self._room.wait()
            self._asked = self._waits_for_room = False
            claimed = self._inbox.claim(message)
        if self._inbox.give(*claimed):
            self.ask()

    def _has_room(self) -> bool:
        return self._asked and len(self._outbox) <= _OUTBOX_BYTES

    def _make_room(self) -> None:
        """Wakes the thread if it waits. For those who hold the lock."""
        if self._waits_for_room:
            self._room.notify()

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        """Calls a function in the event loop, if there is one still."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    # How it ends.

    def _break(self, code: grpc.StatusCode, details: str) -> None:
        """Ends a stream whose client breaks its rules, as gRPC does it: for the server it is cancelled."""
        self.end(code, details)
        self._lose()

    def _lose_connection(self) -> None:
        """The client is lost, unless the connection was closed here."""
        if not self._closed.is_set():
            self._lose()

    def _lose(self) -> None:
        if self._lost:
            return
        self._lost = True
        self._wake()
        self._on_lost()

    def _wake(self) -> None:
        """Lets nobody wait for the client any more."""
        with self._lock:
            claimed = self._inbox.claim(None)
        self._inbox.give(*claimed)
        if self._drained is not None and not self._drained.done():
            self._drained.set_exception(ConnectionResetError(_LOST))
            self._drained.exception()  # seen, also if nobody waits any more

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
                    data = data[self._socket.send(data, socket.MSG_DONTWAIT) :]
                except (BlockingIOError, InterruptedError):
                    pass
                except OSError:  # nothing can be sent any more; the receiving thread may be waiting
                    self._call(self._lose_connection)
                    return True
                if not data:
                    return True
            begins = not self._outbox
            self._outbox += data
        if begins:
            self._call(self._watch)
        return False

    def _watch(self) -> None:
        if not self._closed.is_set():
            self._loop.add_writer(self._socket.fileno(), self._on_writable)

    def _on_writable(self) -> None:
        with self._lock:
            try:
                del self._outbox[: self._socket.send(self._outbox, socket.MSG_DONTWAIT)]
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                self._outbox.clear()
                self._loop.call_soon(self._lose_connection)
            is_empty = not self._outbox
            self._make_room()
        if is_empty:
            self._loop.remove_writer(self._socket.fileno())
            if self._ended:
                self.close()
            elif self._drained is not None and not self._drained.done():
                self._drained.set_result(None)
