"""The two messages of a session that repeat thousands of times a second, as stencils; both ends use them.

Whatever does not fit them is parsed: they are a shorter way, never another meaning.
"""

from __future__ import annotations

from collections.abc import Sequence

from aisandbox.v1 import environment_pb2 as pb
from aisandbox_wire.batches import BatchColumn
from aisandbox_wire.stencils import Stencil


def steady_reply(columns: Sequence[BatchColumn], environments: int, mask_width: int) -> Stencil:
    """The reply to a step in which no episode ended: its holes are the observations, the rewards and the masks."""

    def reply(byte: bytes) -> bytes:
        step = pb.StepReply(
            observations=[column.filled(byte) for column in columns],
            rewards=byte * (4 * environments),
            terminated=bytes(environments),
            truncated=bytes(environments),
            action_masks=byte * (environments * mask_width),
        )
        return pb.SimulatorReply(step=step).SerializeToString()

    return Stencil(reply)


def step_request(actions: BatchColumn) -> Stencil:
    """The request for a step: its one hole is the actions."""

    def request(byte: bytes) -> bytes:
        return pb.SimulatorRequest(step=pb.StepRequest(actions=actions.filled(byte))).SerializeToString()

    return Stencil(request)
