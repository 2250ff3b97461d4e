"""A Unix socket in a folder of its own, at which clients open streams.

Owns the socket's file, the tasks of the streams, and what status an exception is. Must not know what the bytes mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import glob
import os
import shutil
import socket
import stat
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import structlog

from aisandbox_process.grpc_direct import StreamAborted
from aisandbox_process.local_streams.frames import InvalidFrame, status_frame
from aisandbox_process.local_streams.served import ServedLocalStream
from aisandbox_process.token_bucket import bucket_of_log_lines

log = structlog.get_logger(__name__)

IS_AVAILABLE = os.name == "posix" and hasattr(socket, "AF_UNIX")
"""Whether this machine has such sockets; event loops of Windows watch none."""

_PREFIX, _NAME = "aisandbox-", "socket"
_BACKLOG = 128
_START_SECONDS = 30.0
"""How long a connection may take to say its metadata."""
_STATUS_SECONDS = 1.0
"""How long a client may take to read the status of a stream that ends because the server closes."""
_UNREAD_SECONDS = 60.0
"""How long a client may leave the end of its stream unread."""
_PAUSE_SECONDS = 1.0
"""After a connection that could not be accepted: the process may have no files left."""


class LocalStreamServer:
    """Serves each stream by ``behavior``, which raises StreamAborted for a status other than OK. For one event loop.

    Streams whose client is lost are cancelled. ``largest_message``: in bytes. ``most``: how many connections there may
    be; one more ends at once with RESOURCE_EXHAUSTED.
    """

    def __init__(
        self, behavior: Callable[[ServedLocalStream], Awaitable[None]], largest_message: int, most: int = 1_000
    ) -> None:
        self._behavior = behavior
        self._largest = largest_message
        self._most = most
        self._lines = bucket_of_log_lines(time.monotonic)
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._folder: Path | None = None

    def open(self) -> Path:
        """Listens; returns the path of the socket, which only this process's user may use. Raises OSError.

        Removes those of processes that were killed.
        """
        _remove_abandoned(Path(tempfile.gettempdir()))
        self._folder = Path(tempfile.mkdtemp(prefix=_PREFIX))  # short: a socket's path has at most 107 bytes
        path, unnamed = self._folder / _NAME, self._folder / "new"
        listener = socket.socket(socket.AF_UNIX)
        try:
            listener.bind(str(unnamed))
            listener.listen(_BACKLOG)
            unnamed.rename(path)  # what has the name answers, or is abandoned
            listener.setblocking(False)
        except OSError:
            listener.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._accepting = asyncio.create_task(self._accept(listener))
        return path

    async def close(self) -> None:
        """Ends the streams that are left, and removes the socket."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
        for _ in range(2):  # at the first time a stream ends with a status, which its client may not read
            for task in self._tasks:
                task.cancel()
            if self._tasks:
                await asyncio.wait(list(self._tasks), timeout=_STATUS_SECONDS)
        if self._folder is not None:
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.closing(listener):
            while True:
                try:
                    connection, _ = await loop.sock_accept(listener)
                except OSError as error:
                    log.warning("a connection could not be accepted", error=str(error))
                    await asyncio.sleep(_PAUSE_SECONDS)
                    continue
                if len(self._tasks) < self._most:
                    try:
                        self._begin(connection)
                    except RuntimeError as error:  # no thread can be started
                        connection.close()
                        log.warning("a connection could not be served", error=str(error))
                else:
                    self._refuse(connection)

    def _refuse(self, connection: socket.socket) -> None:
        details = f"{self._most:,} connections are open at this socket already"
        if self._lines.take():
            log.warning("a connection was refused", problem=details)
        with contextlib.closing(connection), contextlib.suppress(OSError):
            connection.setblocking(False)
            connection.send(status_frame(grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], details))

    def _begin(self, connection: socket.socket) -> None:
        stream = ServedLocalStream(connection, self._largest, lambda: task.cancel())
        task = asyncio.create_task(self._serve(stream))
        self._tasks.add(task)

        def done(_: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            stream.close()

        task.add_done_callback(done)

    async def _serve(self, stream: ServedLocalStream) -> None:
        code, details = grpc.StatusCode.OK, ""
        try:
            async with asyncio.timeout(_START_SECONDS):
                await stream.start()
            await self._behavior(stream)
        except StreamAborted as status:
            code, details = status.code, status.details
        except InvalidFrame as error:
            code, details = grpc.StatusCode.INVALID_ARGUMENT, str(error)
        except asyncio.CancelledError:
            code, details = grpc.StatusCode.CANCELLED, "cancelled"
        except TimeoutError:
            code, details = grpc.StatusCode.DEADLINE_EXCEEDED, "no metadata came"
        except Exception as error:
            log.exception("stream failed")
            code, details = grpc.StatusCode.UNKNOWN, f"unexpected {type(error).__name__}"
        stream.end(code, details)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_UNREAD_SECONDS):
                await stream.wait_closed()


def _remove_abandoned(folder: Path) -> None:
    """Removes the sockets of this user in ``folder`` at which nobody listens any more, each with its own folder."""
    for name in glob.glob(f"{_PREFIX}*/{_NAME}", root_dir=folder):
        path = folder / name
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            status = path.lstat()
            if not stat.S_ISSOCK(status.st_mode) or status.st_uid != os.getuid():
                continue
            client.setblocking(False)
            if client.connect_ex(str(path)) == errno.ECONNREFUSED:
                path.unlink()
                path.parent.rmdir()
