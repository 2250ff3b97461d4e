"""A request in words, for messages about what a simulator answered to it. Must not know sessions."""

from __future__ import annotations

from collections.abc import Mapping

from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire import decode_tensor
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

_SHOWN = 8
"""How many numbers of a request a message shows."""
_LONGEST_VALUE = 100


def words_of(request: pb.SimulatorRequest) -> str:
    """A request as a message shows it: with the beginning of its numbers."""
    kind = request.WhichOneof("request")
    if kind == "step":
        actions = decode_tensor(request.step.actions, "actions")
        numbers = ", ".join(f"{number:g}" for number in actions.ravel()[:_SHOWN].tolist())
        more = ", ..." if actions.size > _SHOWN else ""
        given = _parameters(request.step.next_parameters, " and next parameters")
        return f"`step` with actions {actions.dtype.name} {list(actions.shape)}: {numbers}{more}{given}"
    if kind == "reset":
        seeds = list(request.reset.seeds)
        words = f"`reset` with seeds {seeds[:_SHOWN]}{' ...' if len(seeds) > _SHOWN else ''}" if seeds else "`reset`"
        return words + _parameters(request.reset.environment_parameters, " with parameters")
    return f"`open` of {request.open.environments} environments" if kind == "open" else "an empty request"


def _parameters(by_environment: Mapping[int, Struct], words: str) -> str:
    """The parameters of the first environment that has some."""
    if not by_environment:
        return ""
    first = min(by_environment)
    values = MessageToDict(by_environment[first])
    shown = ", ".join(f"{name}={value!r}"[:_LONGEST_VALUE] for name, value in list(values.items())[:_SHOWN])
    return f"{words} of environment {first}: {shown or 'the defaults'}"
