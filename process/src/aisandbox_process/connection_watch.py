"""Ends connections of an address that has more of them at a server than its share.

gRPC counts the connections of a port and not those of an address, and gives no way to look at one before it is
accepted. So this process looks at its own sockets, and shuts down what is too much: for gRPC its client has gone.
Needs Linux; elsewhere nothing is looked at. Must not know which server listens.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import structlog

from aisandbox_process.addresses import address_group
from aisandbox_process.connection_limits import ConnectionLimits
from aisandbox_process.token_bucket import bucket_of_log_lines

log = structlog.get_logger(__name__)

_FILES = "/proc/self/fd"
_RULE = "MAX_CONNECTIONS_PER_PEER"
_SECONDS = 1.0
_SECONDS_WHILE_ONE_HAS_TOO_MANY = 0.05
"""Whoever is cut off connects again at once; between two looks there must be places for others."""


class _Seen(NamedTuple):
    """A connection: where it is from, and at which look it was there first."""

    inode: int
    port: int
    group: str
    since: int


class ConnectionWatch:
    """Looks at the connections of ``limits``, by port, from :meth:`start` on, in a thread of its own."""

    def __init__(self, limits: Mapping[int, ConnectionLimits]) -> None:
        self._limits = dict(limits)
        self._fewest = min(each.of_address for each in self._limits.values())
        self._seen: dict[int, _Seen | int] = {}  # by file; the inode alone for what is no connection of these ports
        self._looks = 0
        self._lines = bucket_of_log_lines(time.monotonic)
        self._stopping = threading.Event()
        self._spare = _SpareFile()
        self._thread = threading.Thread(target=self._run, name="connections", daemon=True)

    def start(self) -> None:
        """Begins to look."""
        if sys.platform == "linux":
            self._thread.start()

    def close(self) -> None:
        """Ends the thread."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._spare.close()

    def look(self) -> int:
        """Shuts down the newest connections of each address that has too many; returns how many."""
        self._looks += 1
        files = _open_files()
        if len(files) <= self._fewest:
            self._seen.clear()
            return 0
        found = self._connections(files)
        shut = 0
        for (port, group), connections in found.items():
            too_many = sorted(connections)[self._limits[port].of_address :]
            ended = sum(self._shut_down(file, self._seen[file]) for _, file in too_many)
            if ended and self._lines.take():
                log.warning("an address has too many connections", port=port, address=group, ended=ended, rule=_RULE)
            shut += ended
        return shut

    def _connections(self, files: list[int]) -> dict[tuple[int, str], list[tuple[int, int]]]:
        """The connections by port and address, each as the look at which it was there first, and its file."""
        seen = {}
        found = defaultdict(list)
        for file in files:
            try:
                inode = os.fstat(file).st_ino
            except OSError:  # closed in the meantime
                continue
            known = self._seen.get(file)
            if known is None or (known.inode if isinstance(known, _Seen) else known) != inode:
                known = self._identify(file, inode)
            seen[file] = known
            if isinstance(known, _Seen):
                found[known.port, known.group].append((known.since, file))
        self._seen = seen
        return found

    def _identify(self, file: int, inode: int) -> _Seen | int:
        with self._spare.connection(file) as connection:
            ends = None if connection is None else _ends(connection)
        if ends is None or ends[0] not in self._limits:
            return inode
        return _Seen(inode, ends[0], address_group(ends[1]), self._looks)

    def _shut_down(self, file: int, seen: _Seen | int) -> bool:
        """Shuts down the connection unless the file is another one by now."""
        with self._spare.connection(file) as connection:
            if connection is None or not isinstance(seen, _Seen) or os.fstat(connection.fileno()).st_ino != seen.inode:
                return False
            with contextlib.suppress(OSError):  # its client has gone
                connection.shutdown(socket.SHUT_RDWR)
        return True

    def _run(self) -> None:
        pause = _SECONDS
        while not self._stopping.wait(pause):
            try:
                pause = _SECONDS_WHILE_ONE_HAS_TOO_MANY if self.look() else _SECONDS
            except OSError as error:
                if self._lines.take():
                    log.warning("cannot look at the connections", problem=str(error))


def _open_files() -> list[int]:
    """The files that this process has open. Raises OSError."""
    import resource

    try:
        with os.scandir(_FILES) as entries:
            return [int(entry.name) for entry in entries]
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
        return list(range(resource.getrlimit(resource.RLIMIT_NOFILE)[0]))  # all that it may have


class _SpareFile:
    """A file of its own that stands for a connection while it is looked at: also without a free one, and nothing else
    is closed.
    """

    def __init__(self) -> None:
        self._nothing = os.open(os.devnull, os.O_RDONLY)
        self._file = os.dup(self._nothing)

    @contextlib.contextmanager
    def connection(self, file: int) -> Iterator[socket.socket | None]:
        """The connection that the file is, in the block; None if it is none."""
        found = None
        try:
            with contextlib.suppress(OSError):  # closed in the meantime, or no socket
                os.dup2(file, self._file, inheritable=False)
                found = socket.socket(fileno=self._file)
            yield found
        finally:
            if found is not None:
                found.detach()
            os.dup2(self._nothing, self._file, inheritable=False)

    def close(self) -> None:
        """Gives the files back; again: nothing."""
        for each in (self._file, self._nothing):
            with contextlib.suppress(OSError):
                os.close(each)


def _ends(connection: socket.socket) -> tuple[int, str] | None:
    """The port at this side, and the address of the other one; None if it is not connected by TCP."""
    if connection.family not in (socket.AF_INET, socket.AF_INET6) or connection.type != socket.SOCK_STREAM:
        return None
    try:
        return connection.getsockname()[1], connection.getpeername()[0]
    except OSError:  # it listens, or is closed
        return None
