"""The fields of a serialized protobuf message, read without its type and without copies.

Must not know which messages there are.

Source of the format: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

from google.protobuf.message import DecodeError

LENGTH_DELIMITED = 2
"""The wire type of bytes, texts, messages and packed numbers."""
_VARINT, _FIXED64, _FIXED32 = 0, 1, 5


def read_fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """The number, the wire type and the content of each field: its bytes, or the number that a varint is.

    Raises DecodeError.
    """
    position, end = 0, len(message)
    while position < end:
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, kind, value
            continue
        if kind == LENGTH_DELIMITED:
            size, position = _varint(message, position)
        elif kind in (_FIXED32, _FIXED64):
            size = 4 if kind == _FIXED32 else 8
        else:  # groups are of proto2, and no message of ours has one
            raise DecodeError(f"wire type {kind}")
        if size > end - position:
            raise DecodeError("a length is greater than what follows it")
        yield tag >> 3, kind, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise DecodeError("a number does not end")
