"""Frames on a socket: the kind in one byte, the length in four, and that many bytes.

Owns the kinds and the form of their contents. Must not know sockets.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Mapping

START, MESSAGE, FINISH, STATUS = 1, 2, 3, 4
"""The client sends a START with the metadata, then any number of MESSAGE, and FINISH, empty, when it sends no more.
The server sends any number of MESSAGE, and a STATUS at the end."""

_HEAD = struct.Struct(">BI")
START_BYTES = 64 * 1024
"""The most that a START has: who sends it is not known yet."""
READ_BYTES = 64 * 1024
"""How much is read at once; more while a longer frame is incomplete."""
_MOST_BYTES = 1024 * 1024


class InvalidFrame(ValueError):
    """The peer sends what is no frame, or not in this place."""


class OversizedFrame(ValueError):
    """A frame is longer than what is taken. The words are gRPC's."""

    def __init__(self, length: int, largest: int) -> None:
        super().__init__(f"Received message larger than max ({length} vs. {largest})")


def frame(kind: int, content: bytes = b"") -> bytes:
    """A frame as it travels."""
    return _HEAD.pack(kind, len(content)) + content


def start_frame(metadata: Iterable[tuple[str, str]]) -> bytes:
    """The first frame of a client."""
    return frame(START, json.dumps(list(metadata)).encode())


def metadata_of(content: bytes) -> Mapping[str, str]:
    """What a START has; the first of each key. Raises InvalidFrame."""
    try:
        found: dict[str, str] = {}
        for key, value in json.loads(content):
            if not isinstance(key, str) or not isinstance(value, str):
                raise InvalidFrame("the metadata must be texts")
            found.setdefault(key, value)
        return found
    except (ValueError, TypeError, RecursionError):
        raise InvalidFrame("the first frame of a stream must be its metadata") from None


def status_frame(code: int, details: str) -> bytes:
    """The last frame of a server."""
    return frame(STATUS, bytes((code,)) + details.encode("utf-8", "replace"))


def status_of(content: bytes) -> tuple[int, str]:
    """The code and the message of a STATUS. Raises InvalidFrame."""
    if not content:
        raise InvalidFrame("the status is empty")
    return content[0], content[1:].decode("utf-8", "replace")


class FrameReader:
    """Cuts what is received into frames, of which none is longer than ``largest`` bytes, the first than ``first``."""

    def __init__(self, largest: int, first: int | None = None) -> None:
        self._largest = largest
        self._most = largest if first is None else first  # of the next frame
        self._buffer = bytearray()
        self.read_bytes = READ_BYTES

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The frames, kind and content, that are complete now. Raises OversizedFrame."""
        if not self._buffer and len(data) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(data)
            if len(data) == _HEAD.size + length <= _HEAD.size + self._most:
                self._most = self._largest
                return [(kind, data[_HEAD.size :])]  # as nearly always
        self._buffer += data
        found: list[tuple[int, bytes]] = []
        while len(self._buffer) >= _HEAD.size:
            kind, length = _HEAD.unpack_from(self._buffer)
            if length > self._most:
                raise OversizedFrame(length, self._most)
            end = _HEAD.size + length
            if len(self._buffer) < end:
                self.read_bytes = min(max(end - len(self._buffer), READ_BYTES), _MOST_BYTES)
                return found
            found.append((kind, bytes(self._buffer[_HEAD.size : end])))
            del self._buffer[:end]
            self._most = self._largest
        self.read_bytes = READ_BYTES
        return found
