"""The errors of this package: what is wrong with the spec, status or start of a run.

    CrdError (ValueError)
    ├── InvalidRun              one or more FieldErrors: which field, which rule
    ├── InvalidParameter        one value of a hyperparameter breaks the rule of its type
    └── MalformedValue          the text of a hyperparameter is not in the notation

All of them are permanent: the same text is refused again. The last two stay inside this package, which turns them into
FieldErrors of an InvalidRun.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable
from dataclasses import dataclass


class CrdError(ValueError):
    """Base of the errors this package raises."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """A field (dotted, as in the JSON form) and the rule it broke, as a phrase for people."""

    field: str
    rule: str

    def __str__(self) -> str:
        return f"{self.field}: {self.rule}"


class InvalidRun(CrdError):
    """A spec, status, hyperparameter or start of a trainer breaks its rules; ``errors`` has at least one entry."""

    def __init__(self, errors: Iterable[FieldError]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(str(error) for error in self.errors))

    def __reduce__(self) -> tuple[type[InvalidRun], tuple[tuple[FieldError, ...]]]:
        return type(self), (self.errors,)


class InvalidParameter(CrdError):
    """A value breaks the rule of its type; ``path`` leads to it from the hyperparameter (".net_arch", "")."""

    def __init__(self, rule: str, path: str = "") -> None:
        super().__init__(rule)
        self.rule = rule
        self.path = path


class MalformedValue(CrdError):
    """A text is not in the notation of hyperparameters; the message is a phrase that says why."""


class _ShortRepr(reprlib.Repr):
    """Bounds what a message repeats of its input; a huge integer has no decimal form within Python's limit."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = self.maxlong = 80
        self.maxlevel = 3

    def repr_int(self, x: int, level: int) -> str:
        return repr(x) if x.bit_length() <= 256 else f"a whole number of {x.bit_length()} bits"


short_repr = _ShortRepr().repr
"""``repr`` for error messages: never longer than a line or two, whatever the input."""


def printable(text: str, keep: str = "") -> str:
    """The text with every character escaped that is neither printable nor one of ``keep``.

    What trainers and simulators say is shown in terminals, which obey control characters. (aisandbox_process has the
    same, and this package imports no other.)
    """
    if text.isprintable():
        return text
    shown = (each if each.isprintable() or each in keep else each.encode("unicode_escape").decode() for each in text)
    return "".join(shown)
