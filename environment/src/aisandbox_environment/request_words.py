"""A request in words, for messages about what a simulator answered to it. Must not know sessions."""

from __future__ import annotations

from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire import decode_tensor

_SHOWN = 8
"""How many numbers of a request a message shows."""


def words_of(request: pb.SimulatorRequest) -> str:
    """A request as a message shows it: with the beginning of its numbers."""
    kind = request.WhichOneof("request")
    if kind == "step":
        actions = decode_tensor(request.step.actions, "actions")
        numbers = ", ".join(f"{number:g}" for number in actions.ravel()[:_SHOWN].tolist())
        more = ", ..." if actions.size > _SHOWN else ""
        return f"`step` with actions {actions.dtype.name} {list(actions.shape)}: {numbers}{more}"
    if kind == "reset":
        seeds = list(request.reset.seeds)
        return f"`reset` with seeds {seeds[:_SHOWN]}{' ...' if len(seeds) > _SHOWN else ''}" if seeds else "`reset`"
    return f"`open` of {request.open.environments} environments" if kind == "open" else "an empty request"
