"""The parameters of episodes that a simulation declares, and the check of values for them.

Both ends of a session, the compliance suite and a run's lessons use it. Must not know sessions or who chooses values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire import InvalidSpace, InvalidValue
from google.protobuf import struct_pb2
from google.protobuf.json_format import MessageToDict

MOST_PARAMETERS = 64
LONGEST_NAME = 64
LONGEST_TEXT = 1024
MOST_WHOLE = 2**53
"""Numbers travel as double: larger whole numbers would be rounded."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)

ParameterValue = float | int | str | bool
"""What a parameter may be; a number of a parameter that is ``whole`` is an int, of others a float."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of episodes; see EpisodeParameter in environment.proto.

    ``default`` decides the type: a number, a text, or True and False. ``minimum`` and ``maximum`` bound a number, None
    is no bound. ``whole``: only whole numbers. ``choices``: the texts that are allowed, none for any.
    """

    name: str
    default: ParameterValue
    minimum: float | None = None
    maximum: float | None = None
    whole: bool = False
    choices: tuple[str, ...] = ()
    description: str = ""

    def problem(self, value: object) -> str:
        """Why the parameter cannot have this value, as "must be ..."; empty if it can."""
        if isinstance(self.default, bool):
            return "" if isinstance(value, bool) else f"must be true or false, got {_short_repr(value)}"
        if isinstance(self.default, str):
            return self._problem_of_text(value)
        return self._problem_of_number(value)

    def converted(self, value: ParameterValue) -> ParameterValue:
        """A value that :meth:`problem` accepts, in the type that a simulation gets."""
        if isinstance(value, bool | str):
            return value
        return int(value) if self.whole else float(value)

    def _problem_of_text(self, value: object) -> str:
        if not isinstance(value, str) or len(value) > LONGEST_TEXT:
            return f"must be a text of at most {LONGEST_TEXT:,} characters, got {_short_repr(value)}"
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)[:300]}, got {_short_repr(value)}"
        return ""

    def _problem_of_number(self, value: object) -> str:
        low = -math.inf if self.minimum is None else self.minimum
        high = math.inf if self.maximum is None else self.maximum
        if self.whole:
            low, high = max(low, -MOST_WHOLE), min(high, MOST_WHOLE)
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if fits and low <= value <= high and (not self.whole or float(value).is_integer()):  # type: ignore[operator,arg-type]
            return ""
        kind = "a whole number" if self.whole else "a finite number"
        bounds = [f"at least {self.minimum:g}"] if self.minimum is not None else []
        bounds += [f"at most {self.maximum:g}"] if self.maximum is not None else []
        return f"must be {' of '.join([kind, *[' and '.join(bounds)] * bool(bounds)])}, got {_short_repr(value)}"

    def to_proto(self) -> pb.EpisodeParameter:
        """The form on the wire."""
        message = pb.EpisodeParameter(
            name=self.name,
            description=self.description,
            whole=self.whole,
            choices=self.choices,
            minimum=self.minimum,
            maximum=self.maximum,
        )
        if isinstance(self.default, bool):
            message.default.bool_value = self.default
        elif isinstance(self.default, str):
            message.default.string_value = self.default
        else:
            message.default.number_value = self.default
        return message


def read_parameters(messages: Sequence[pb.EpisodeParameter], field: str) -> tuple[Parameter, ...]:
    """The parameters of a spec. Raises InvalidSpace, naming the field, if they break a rule."""
    if len(messages) > MOST_PARAMETERS:
        raise InvalidSpace(field, f"has {len(messages)} entries; at most {MOST_PARAMETERS}")
    found: dict[str, Parameter] = {}
    for i, message in enumerate(messages):
        where = f"{field}[{i}]"
        parameter = _read(message, where)
        if parameter.name in found:
            raise InvalidSpace(f"{where}.name", f"is {parameter.name!r}, which an earlier parameter has too")
        found[parameter.name] = parameter
    return tuple(found.values())


def parameters_from_metadata(declared: object) -> tuple[Parameter, ...]:
    """The parameters that an environment of Gymnasium declares as ``metadata["parameters"]``.

    A mapping of names to mappings with the fields of :class:`Parameter` ("default" is required), or to the default
    itself. Raises InvalidSpace.
    """
    field = 'metadata["parameters"]'
    if not isinstance(declared, Mapping):
        raise InvalidSpace(field, f"must be a mapping of names to declarations, got {type(declared).__name__}")
    found = []
    for name, entry in declared.items():
        keywords = dict(entry) if isinstance(entry, Mapping) else {"default": entry}
        try:
            found.append(Parameter(name, **{key: _plain(value) for key, value in keywords.items()}))
        except TypeError as error:
            raise InvalidSpace(f"{field}[{name!r}]", f"has wrong fields: {error}") from None
    return checked_parameters(found, field)


def checked_parameters(parameters: Iterable[Parameter], field: str = "parameters") -> tuple[Parameter, ...]:
    """Parameters as they travel. Raises InvalidSpace, naming the field, for what breaks a rule or has a wrong type."""
    messages = []
    for i, parameter in enumerate(parameters):
        try:
            messages.append(parameter.to_proto())
        except (TypeError, ValueError) as error:
            raise InvalidSpace(f"{field}[{i}]", f"has a value of a wrong type: {error}") from None
    return read_parameters(messages, field)


def read_values(parameters: Sequence[Parameter], struct: struct_pb2.Struct, field: str) -> dict[str, ParameterValue]:
    """All parameters by name: the values of ``struct``, and defaults for the others.

    Raises InvalidValue, naming the entry, for one that is not declared or a value that it cannot have.
    """
    known = {parameter.name: parameter for parameter in parameters}
    values = default_values(parameters)
    for name, value in MessageToDict(struct).items():
        where = f"{field}.{name}"[:200]
        if name not in known:
            says = f"declared are {', '.join(known)}" if known else "the simulator declares no parameters"
            raise InvalidValue(where, f"is unknown; {says}")
        if problem := known[name].problem(value):
            raise InvalidValue(where, problem)
        values[name] = known[name].converted(value)
    return values


def default_values(parameters: Sequence[Parameter]) -> dict[str, ParameterValue]:
    """The defaults by name."""
    return {parameter.name: parameter.converted(parameter.default) for parameter in parameters}


def to_struct(values: Mapping[str, ParameterValue]) -> struct_pb2.Struct:
    """Values as they travel."""
    struct = struct_pb2.Struct()
    struct.update(dict(values))
    return struct


def _read(message: pb.EpisodeParameter, where: str) -> Parameter:
    if not _NAME.fullmatch(message.name) or len(message.name) > LONGEST_NAME:
        rule = "must be 1 to 64 letters, digits, '_', '-' and '.', beginning with a letter"
        raise InvalidSpace(f"{where}.name", f"{rule}, got {_short_repr(message.name)}")
    kind = message.default.WhichOneof("kind")
    if kind not in ("number_value", "string_value", "bool_value"):
        raise InvalidSpace(f"{where}.default", f"must be a number, a text, true or false, got {kind or 'nothing'}")
    parameter = Parameter(
        name=message.name,
        default=getattr(message.default, kind),
        minimum=message.minimum if message.HasField("minimum") else None,
        maximum=message.maximum if message.HasField("maximum") else None,
        whole=message.whole,
        choices=tuple(message.choices),
        description=message.description,
    )
    for name, bound in (("minimum", parameter.minimum), ("maximum", parameter.maximum)):
        if bound is not None and not math.isfinite(bound):
            raise InvalidSpace(f"{where}.{name}", f"must be finite, got {bound}; leave it out for no bound")
    if problem := parameter.problem(parameter.default):
        raise InvalidSpace(f"{where}.default", problem)
    return parameter


def _plain(value: Any) -> Any:
    """A number of NumPy as Python's, a list as a tuple."""
    if isinstance(value, list):
        return tuple(value)
    return value.item() if hasattr(value, "item") else value


def _short_repr(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."
