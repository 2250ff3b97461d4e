"""The connections of the HTTP port: how many there are, in all and of one address, and how long one may be silent.

aiohttp accepts every connection, and waits for ever for the first request. Owns the listening sockets. Must not know
what is served.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from aisandbox_process import ConnectionLimits, address_group, bucket_of_log_lines

log = structlog.get_logger()

SILENT_SECONDS = 20.0
"""How long a connection may take until its first request has arrived, and TLS before that."""
_BACKLOG = 128
_PAUSE_SECONDS = 0.5


class HttpListener:
    """Accepts connections. ``new_protocol``: of one, as asyncio takes it. For one event loop.

    ``silent_seconds``: see SILENT_SECONDS.
    """

    def __init__(
        self,
        new_protocol: Callable[[], Any],
        limits: ConnectionLimits,
        context: ssl.SSLContext | None = None,
        silent_seconds: float = SILENT_SECONDS,
    ) -> None:
        self._new_protocol = new_protocol
        self._limits = limits
        self._context = context
        self._silent_seconds = silent_seconds
        self._open: Counter[str] = Counter()
        self._silent: dict[Any, asyncio.TimerHandle] = {}
        self._sockets: list[socket.socket] = []
        self._accepting: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._lines = bucket_of_log_lines(time.monotonic)
        self.port = 0

    @property
    def silent(self) -> int:
        """How many connections wait for their first request."""
        return len(self._silent)

    async def start(self, host: str, port: int) -> None:
        """Listens at every address of ``host`` that this machine has; port 0 picks a free one. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        missing: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                self._sockets.append(_listening(family, (address[0], self.port or address[1], *address[2:])))
            except OSError as error:  # localhost has an address of IPv6 also where the machine has no IPv6
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
                continue
            self.port = self._sockets[0].getsockname()[1]
        if not self._sockets:
            raise missing or OSError(f"{host} has no address")
        for each in self._sockets:
            _begin(self._accept(each), self._accepting)

    def has_request(self, transport: Any) -> None:
        """The connection is not silent: to be called when a request has arrived."""
        if (timer := self._silent.pop(transport, None)) is not None:
            timer.cancel()

    async def stop_accepting(self) -> None:
        """Accepts no more; what is open stays open."""
        await _end(self._accepting)
        for each in self._sockets:
            each.close()

    async def close(self) -> None:
        """Ends what is open."""
        await _end(self._serving)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await loop.sock_accept(listening)
            except OSError as error:  # the client has gone, or there are no more files
                log.warning("a connection cannot be accepted", problem=str(error))
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            group = address_group(str(address[0]))
            if self._open.total() >= self._limits.number or self._open[group] >= self._limits.of_address:
                connection.close()
                self._log_refusal(group)
                continue
            self._open[group] += 1
            _begin(self._serve(connection, group), self._serving)

    def _log_refusal(self, group: str) -> None:
        if self._lines.take():
            rule = "MAX_CONNECTIONS" if self._open.total() >= self._limits.number else "MAX_CONNECTIONS_PER_PEER"
            log.warning("a connection was refused", port=self.port, address=group, rule=rule)

    async def _serve(self, connection: socket.socket, group: str) -> None:
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        transport: Any = None
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            new_connection: Any = lambda: _Connection(self._new_protocol(), self._begin_silence, lost)  # noqa: E731
            transport, _ = await loop.connect_accepted_socket(
                new_connection,
                connection,
                ssl=self._context,
                ssl_handshake_timeout=None if self._context is None else self._silent_seconds,
            )
            await lost
        except OSError:  # TLS has failed, or taken too long
            connection.close()
        finally:
            if transport is not None:
                self.has_request(transport)
                transport.abort()
            self._open[group] -= 1
            if not self._open[group]:
                del self._open[group]

    def _begin_silence(self, transport: Any) -> None:
        self._silent[transport] = asyncio.get_running_loop().call_later(self._silent_seconds, transport.abort)


class _Connection:
    """A protocol for asyncio, and word of its beginning and its end."""

    def __init__(self, served: Any, made: Callable[[Any], None], lost: asyncio.Future[None]) -> None:
        self._served = served
        self._made = made
        self._lost = lost

    def __getattr__(self, name: str) -> Any:
        """The other methods are those of the protocol."""
        return getattr(self._served, name)

    def connection_made(self, transport: Any) -> None:
        """See asyncio.Protocol."""
        self._made(transport)
        self._served.connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._served.connection_lost(error)
        if not self._lost.done():
            self._lost.set_result(None)


def _begin(work: Coroutine[Any, Any, None], tasks: set[asyncio.Task[None]]) -> None:
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def _listening(family: int, address: tuple[Any, ...]) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            with contextlib.suppress(OSError):
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
