"""The errors of the wire codec.

    WireError (ValueError)
    ├── InvalidTensor       bytes, dtype and shape of a tensor do not fit together
    ├── InvalidSpace        a space breaks the rules of tensor.proto
    ├── InvalidValue        a value is not a point of its space
    └── OversizedMessage    a message has more bytes or fields than are parsed

Every one names the field and the rule it breaks; none is transient: the same bytes fail again.
"""

from __future__ import annotations


class WireError(ValueError):
    """Something breaks the wire contract: ``field`` says what, ``rule`` says how; ``str`` is ``field: rule``."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}")
        self.field = field
        self.rule = rule


class InvalidTensor(WireError):
    """The bytes, the dtype and the shape of a tensor do not fit together."""


class InvalidSpace(WireError):
    """A space breaks the rules of tensor.proto, or has no wire format."""


class InvalidValue(WireError):
    """A value is not a point of its space."""


class OversizedMessage(WireError):
    """A message has more bytes or fields than are parsed of a peer that nobody vouches for."""
