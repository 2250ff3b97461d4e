"""Messages that differ only in the bytes of some fields, written and recognised without a Protobuf parser.

A session sends the same message again and again with other numbers in it. All that surrounds the numbers (tags,
lengths, dtypes, shapes) can be computed once, by Protobuf itself: what :meth:`Stencil.fill` writes is what Protobuf
would. A message that :meth:`Stencil.fits` does not recognise may be a good one all the same (another order of fields,
an unknown field): whoever reads must then parse it. Must not know which messages these are.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class Stencil:
    """A message with holes. ``holes`` are the (offset, length) of each, in the order of the bytes."""

    __slots__ = ("_first", "_fixed", "_last", "_lengths", "_middle", "_size", "holes")

    def __init__(self, message: Callable[[bytes], bytes]) -> None:
        """``message(b)`` serialises the message with every byte of every hole set to ``b``, one byte."""
        one, other = (np.frombuffer(message(byte), np.uint8) for byte in (b"\x00", b"\xff"))
        # Where a run of differing bytes begins or ends.
        edges = np.flatnonzero(np.diff(np.concatenate([[False], one != other, [False]]).astype(np.int8))).tolist()
        self.holes = [(begin, end - begin) for begin, end in zip(edges[::2], edges[1::2], strict=True)]
        bounds = [0, *edges, len(one)]
        self._fixed = [one[begin:end].tobytes() for begin, end in zip(bounds[::2], bounds[1::2], strict=True)]
        self._lengths = [length for _, length in self.holes]
        self._size = len(one)
        self._first, self._last = self._fixed[0], self._fixed[-1]
        self._middle = list(zip(edges[1:-1:2], edges[2:-1:2], self._fixed[1:-1], strict=True))

    def fill(self, *parts: bytes) -> bytes:
        """The message with these bytes in its holes. Raises ValueError if they are not as many and as long as these."""
        if [len(part) for part in parts] != self._lengths:
            raise ValueError(f"parts of {[len(part) for part in parts]} bytes; the holes have {self._lengths}")
        fixed = self._fixed
        if len(parts) == 1:
            return b"".join((fixed[0], parts[0], fixed[1]))
        pieces = [piece for pair in zip(fixed, parts, strict=False) for piece in pair]
        pieces.append(fixed[-1])
        return b"".join(pieces)

    def fits(self, message: bytes) -> bool:
        """Whether this is the message, whatever is in its holes."""
        if len(message) != self._size or not message.startswith(self._first) or not message.endswith(self._last):
            return False
        return all(message[begin:end] == fixed for begin, end, fixed in self._middle)
