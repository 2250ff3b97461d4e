"""Messages of peers that nobody vouches for, parsed only if that takes little memory and time.

A parsed message may take thirty times its bytes: a tensor without elements is 2 bytes on the wire and 60 in memory. So
only elements (the bytes of a tensor, packed floating-point numbers), which are copied as they are, may be large. A
message that is larger than LARGEST_STRUCTURE is looked through, without parsing it, for how much of it is anything
else. Must not know which messages there are.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from aisandbox_wire.errors import OversizedMessage
from aisandbox_wire.wire_format import LENGTH_DELIMITED, read_fields

M = TypeVar("M", bound=Message)

LARGEST_STRUCTURE = 1 << 20
"""Bytes of a message that are not elements: tags, lengths, texts, whole numbers, and whatever else it has."""
MOST_FIELDS = 16_384
"""Fields of a message over LARGEST_STRUCTURE: 4,096 tensors, more than an observation has leaves."""

_ELEMENT_TYPES = (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_BYTES)


def parse_bounded(cls: type[M], data: bytes) -> M:
    """The message of type ``cls`` that ``data`` is.

    Raises OversizedMessage for too much structure (see the module), DecodeError for what is no such message.
    """
    if len(data) > LARGEST_STRUCTURE:
        _Structure(data).check(cls.DESCRIPTOR)
    return cls.FromString(data)


def bounded_parser(cls: type[M]) -> Callable[[bytes], M]:
    """:func:`parse_bounded` for one type, as a server's or stub's deserializer."""
    return partial(parse_bounded, cls)


class _Structure:
    """Counts what of a serialized message is not elements."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._fields = 0
        self._elements = 0

    def check(self, descriptor: Any) -> None:
        """Raises OversizedMessage, DecodeError."""
        self._walk(descriptor, memoryview(self._data))
        if (structure := len(self._data) - self._elements) > LARGEST_STRUCTURE:
            raise OversizedMessage(
                "message",
                f"has {structure:,} bytes beside the elements of tensors; at most {LARGEST_STRUCTURE:,}",
            )

    def _walk(self, descriptor: Any, message: memoryview) -> None:
        for number, kind, value in read_fields(message):
            self._fields += 1
            if self._fields > MOST_FIELDS:
                raise OversizedMessage(
                    "message", f"has more than {MOST_FIELDS:,} fields in {len(self._data):,} bytes, with those in them"
                )
            field = descriptor.fields_by_number.get(number)
            if field is None or kind != LENGTH_DELIMITED or isinstance(value, int):
                continue
            if field.type in _ELEMENT_TYPES:
                self._elements += len(value)
            elif field.message_type is not None and len(value):
                self._walk(field.message_type, value)
