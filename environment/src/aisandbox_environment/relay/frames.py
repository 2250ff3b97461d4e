"""The frame around a message of a session: the one field of AttachRequest and AttachResponse.

Both are messages with exactly one field of a message type, so that a frame is a tag, a length and the message's own
bytes, which need not be parsed. Source: protobuf.dev, "Encoding". Must not know what the messages mean.
"""

from __future__ import annotations

_LENGTH_DELIMITED = 2
_LONGEST_VARINT = 5
_MORE = 0x80


class InvalidFrame(ValueError):
    """The bytes are no message with exactly one field of a message type."""


def frame(field: int, message: bytes) -> bytes:
    """The message that has ``message`` as its field number ``field``, at most 15."""
    length = len(message)
    head = bytearray((field << 3 | _LENGTH_DELIMITED,))
    while length >= _MORE:
        head.append(length & 0x7F | _MORE)
        length >>= 7
    head.append(length)
    return bytes(head) + message


def field_of(data: bytes) -> tuple[int, bytes]:
    """The number of the only field of ``data``, and its message. Raises InvalidFrame."""
    if not data or data[0] & 7 != _LENGTH_DELIMITED or data[0] & _MORE:
        raise InvalidFrame
    length = 0
    for i in range(1, min(len(data), 1 + _LONGEST_VARINT)):
        length |= (data[i] & 0x7F) << 7 * (i - 1)
        if data[i] < _MORE:
            if len(data) != i + 1 + length:
                raise InvalidFrame
            return data[0] >> 3, data[i + 1 :]
    raise InvalidFrame
