"""The types of hyperparameters: each checks a value and describes itself in words.

Must not know which hyperparameters there are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aisandbox_crds.errors import InvalidParameter, short_repr
from aisandbox_crds.parameter_values import ClassName, LinearSchedule, Value

SMALLEST_SIZE, LARGEST_SIZE = 1e-37, 1e38
"""Of a number that is not 0. PyTorch computes with 32 bits, where smaller ones are 0 and larger ones infinite."""


class ParameterType(Protocol):
    """The type of a hyperparameter."""

    def check(self, value: Value) -> Any:
        """The value in its own type (1e5 becomes 100000 for an IntType). Raises InvalidParameter."""
        ...

    def __str__(self) -> str:
        """What is allowed, to follow "must be"."""
        ...


@dataclass(frozen=True, slots=True)
class BoolType:
    """True or False."""

    def __str__(self) -> str:
        return "True or False"

    def check(self, value: Value) -> bool:
        """As :meth:`ParameterType.check`."""
        if isinstance(value, bool):
            return value
        raise _error(self, value)


@dataclass(frozen=True, slots=True)
class IntType:
    """A whole number in a closed range; 1e6 is one."""

    minimum: int
    maximum: int

    def __str__(self) -> str:
        return f"a whole number from {self.minimum:,} to {self.maximum:,}"

    def check(self, value: Value) -> int:
        """As :meth:`ParameterType.check`."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum:
            return value
        raise _error(self, value)


@dataclass(frozen=True, slots=True)
class FloatType:
    """A number in a range that is closed, but for ends that are said to be open; its size is one of 32-bit numbers."""

    minimum: float = 0.0
    maximum: float | None = None
    above: bool = False
    below: bool = False

    def __str__(self) -> str:
        low = f"greater than {self.minimum:g}" if self.above else f"of at least {self.minimum:g}"
        if self.maximum is None:
            return f"a number {low}"
        return f"a number {low} and {'less than' if self.below else 'at most'} {self.maximum:g}"

    def check(self, value: Value) -> float:
        """As :meth:`ParameterType.check`."""
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise _error(self, value)
        high = self.maximum is None or (value < self.maximum if self.below else value <= self.maximum)
        if not high or not (value > self.minimum if self.above else value >= self.minimum):
            raise _error(self, value)
        if not _has_size(value):
            raise _error(self, value)
        return float(value)


@dataclass(frozen=True, slots=True)
class ScheduleType:
    """A number, or one that falls to 0 over the training: ``lin_3e-4``."""

    number: FloatType

    def __str__(self) -> str:
        return f"{self.number}, or lin_ and such a number for one that falls linearly to 0"

    def check(self, value: Value) -> float | LinearSchedule:
        """As :meth:`ParameterType.check`."""
        try:
            if isinstance(value, LinearSchedule):
                return LinearSchedule(self.number.check(value.initial))
            return self.number.check(value)
        except InvalidParameter:
            raise _error(self, value) from None


@dataclass(frozen=True, slots=True)
class OptionalType:
    """None, or a value of another type."""

    inner: ParameterType

    def __str__(self) -> str:
        return f"None or {self.inner}"

    def check(self, value: Value) -> Any:
        """As :meth:`ParameterType.check`."""
        if value is None:
            return None
        try:
            return self.inner.check(value)
        except InvalidParameter as error:
            if error.path:
                raise
            raise _error(self, value) from None


@dataclass(frozen=True, slots=True)
class ChoiceType:
    """One of the given words."""

    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"

    def check(self, value: Value) -> str:
        """As :meth:`ParameterType.check`."""
        if isinstance(value, str) and value in self.words:
            return value
        raise _error(self, value)


@dataclass(frozen=True, slots=True)
class AutoType:
    """A number, or auto for one that the algorithm finds; with ``initial`` also auto_ and a number to begin with."""

    number: FloatType
    initial: bool = False

    def __str__(self) -> str:
        begin = ", or auto_ and a number greater than 0 to begin with" if self.initial else ""
        return f"auto{begin}, or {self.number}"

    def check(self, value: Value) -> float | str:
        """As :meth:`ParameterType.check`."""
        if isinstance(value, str):
            start = re.fullmatch(r"auto_([0-9.]+([eE][+-]?[0-9]+)?)", value)
            if value == "auto" or (self.initial and start and _is_positive(start[1])):
                return value
            raise _error(self, value)
        try:
            return self.number.check(value)
        except InvalidParameter:
            raise _error(self, value) from None


@dataclass(frozen=True, slots=True)
class DeviceType:
    """A PyTorch device."""

    def __str__(self) -> str:
        return "auto, cpu, cuda, cuda:N or mps"

    def check(self, value: Value) -> str:
        """As :meth:`ParameterType.check`."""
        if isinstance(value, str) and re.fullmatch(r"auto|cpu|mps|cuda(:[0-9]{1,2})?", value):
            return value
        raise _error(self, value)


@dataclass(frozen=True, slots=True)
class FrequencyType:
    """How much is played between trainings: steps, or a pair of a number and its unit."""

    count: IntType

    def __str__(self) -> str:
        return f"{self.count}, or such a number and its unit: (4, 'step') or (1, 'episode')"

    def check(self, value: Value) -> int | tuple[int, str]:
        """As :meth:`ParameterType.check`."""
        try:
            if isinstance(value, list | tuple) and len(value) == 2 and value[1] in ("step", "episode"):
                return (self.count.check(value[0]), str(value[1]))
            return self.count.check(value)
        except InvalidParameter:
            raise _error(self, value) from None


@dataclass(frozen=True, slots=True)
class ListType:
    """A list or tuple of values of one type."""

    item: ParameterType
    minimum: int
    maximum: int

    def __str__(self) -> str:
        count = str(self.minimum) if self.minimum == self.maximum else f"{self.minimum} to {self.maximum}"
        return f"a list of {count} entries, each {self.item}"

    def check(self, value: Value) -> tuple[Any, ...]:
        """As :meth:`ParameterType.check`."""
        if isinstance(value, list | tuple) and self.minimum <= len(value) <= self.maximum:
            try:
                return tuple(self.item.check(entry) for entry in value)
            except InvalidParameter:
                pass
        raise _error(self, value)


@dataclass(frozen=True, slots=True)
class TextType:
    """A short text."""

    def __str__(self) -> str:
        return "text of 1 to 100 characters"

    def check(self, value: Value) -> str:
        """As :meth:`ParameterType.check`."""
        if isinstance(value, str) and 1 <= len(value) <= 100:
            return value
        raise _error(self, value)


@dataclass(frozen=True, slots=True)
class DictType:
    """A dict of known keys, each with its own type; ``refused`` says why others are not among them."""

    types: Mapping[str, ParameterType]
    refused: Mapping[str, str]

    def __str__(self) -> str:
        return f"a dict with any of {', '.join(self.types)}" if self.types else "an empty dict"

    def check(self, value: Value) -> dict[str, Any]:
        """As :meth:`ParameterType.check`."""
        if not isinstance(value, Mapping):
            raise _error(self, value)
        checked = {}
        for key, entry in value.items():
            path = f".{key[:100]}"
            if key in self.refused:
                raise InvalidParameter(self.refused[key], path)
            if key not in self.types:
                raise InvalidParameter(f"unknown; known: {', '.join(self.types) or 'none'}", path)
            try:
                checked[key] = self.types[key].check(entry)
            except InvalidParameter as error:
                raise InvalidParameter(error.rule, path + error.path) from None
        return checked


def _is_positive(text: str) -> bool:
    try:
        return SMALLEST_SIZE <= float(text) <= LARGEST_SIZE
    except ValueError:
        return False


def _has_size(number: float) -> bool:
    """Whether it is neither 0 nor infinite as a 32-bit number, unless it is 0."""
    return number == 0 or SMALLEST_SIZE <= abs(number) <= LARGEST_SIZE


def _error(expected: ParameterType, value: Value) -> InvalidParameter:
    number = value.initial if isinstance(value, LinearSchedule) else value
    size = ""
    if isinstance(number, int | float) and not isinstance(expected, IntType) and not _has_size(number):
        size = f", of a size from {SMALLEST_SIZE:g} to {LARGEST_SIZE:g} (32 bits)"
    return InvalidParameter(f"must be {expected}{size}, got {value_text(value)}")


def value_text(value: Value) -> str:
    """The value in an error message, in the notation in which it was given where it is one of this package's."""
    return str(value)[:100] if isinstance(value, LinearSchedule | ClassName) else short_repr(value)
