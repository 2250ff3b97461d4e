"""How large a status may be, and what is shortened to keep it so.

Owns the limit and the cuts. Must not know codes or errors. A status is sent in HTTP/2 headers, of which peers accept
8 KB altogether; of a larger one the caller sees only that it was too large.
"""

from __future__ import annotations

from collections.abc import Sequence

from aisandbox_crds import FieldError
from google.protobuf.message import Message

LIMIT = 6 * 1024
"""Bytes of message and details on the wire; the rest is for other headers."""

_LONGEST_SENTENCE = 1500
_LONGEST_FIELD = 100
_MOST_FIELDS = 60
_RULE_LENGTHS = (1000, 500, 250, 150, 100, 75, 50)
"""Characters to which rules are cut, one length after another, until all of them fit."""


def is_too_large(message: str, details: Message) -> bool:
    """Whether a status with that message and these details exceeds LIMIT."""
    return _size(message, details.ByteSize()) > LIMIT


def shortened_sentence(text: str) -> str:
    """The beginning of the text that may be both message and description in the details."""
    while _header_bytes(text) > _LONGEST_SENTENCE:
        # Every character takes at least a byte, so the first cut does most of the work.
        text = _cut(text, min(_LONGEST_SENTENCE, len(text) * 9 // 10))
    return text


def shortened_errors(broken: Sequence[FieldError]) -> tuple[FieldError, ...]:
    """As many as fit into one status, as the message and once more in the details; long rules are cut first."""
    fields = [_cut(error.field, _LONGEST_FIELD) for error in broken[:_MOST_FIELDS]]
    for length in _RULE_LENGTHS:
        kept = [FieldError(field, _cut(error.rule, length)) for field, error in zip(fields, broken, strict=False)]
        if len(kept) == len(broken) and _errors_size(kept) <= LIMIT:
            return tuple(kept)
    while True:
        last, rest = kept.pop(), len(broken) - len(kept) - 1
        shown = (*kept, FieldError(last.field, f"{last.rule} (and {rest} more)"))
        if _errors_size(shown) <= LIMIT or not kept:
            return shown


def _errors_size(broken: Sequence[FieldError]) -> int:
    message = "; ".join(map(str, broken))
    return _size(message, len(message.encode()) + 10 * len(broken))  # tags and lengths of a violation's three parts


def _size(message: str, details: int) -> int:
    """Bytes: the message is percent-encoded; it and the details are base64 in a header of their own."""
    return _header_bytes(message) + (len(message.encode()) + details) * 4 // 3


def _header_bytes(text: str) -> int:
    return sum(1 if 0x20 <= byte < 0x7F and byte != ord("%") else 3 for byte in text.encode())


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 3] + "..."
