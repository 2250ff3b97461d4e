"""Statuses of streams that the relay passes from one side to the other.

Owns their form in SessionEnded, and how much of a message for people is kept. Must not know simulators.
"""

from __future__ import annotations

import grpc
from aisandbox.v1 import simulator_pool_pb2 as pb
from aisandbox_process.grpc_direct import StreamAborted

_CODES = {code.value[0]: code for code in grpc.StatusCode}
_LONGEST_MESSAGE = 1_000
"""Bytes of UTF-8. A status travels in a header, percent-encoded, and gRPC refuses headers of more than 8 KiB."""

Status = StreamAborted | None
"""How a stream or a session ends; None: OK."""


def aborted(code: grpc.StatusCode, message: str) -> StreamAborted:
    """The status ``code`` with a message for people, shortened if it is long."""
    data = message.encode("utf-8", "replace")
    if len(data) > _LONGEST_MESSAGE:
        message = data[:_LONGEST_MESSAGE].decode("utf-8", "ignore") + "…"
    return StreamAborted(code, message)


def ended_message(status: Status) -> bytes:
    """The SessionEnded with that status."""
    if status is None:
        return b""
    number: int = status.code.value[0]
    return pb.SessionEnded(code=number, message=status.details).SerializeToString()


def ended_status(ended: pb.SessionEnded) -> Status:
    """The status of a SessionEnded; a number that is no code counts as UNKNOWN."""
    code = _CODES.get(ended.code, grpc.StatusCode.UNKNOWN)
    return None if code is grpc.StatusCode.OK else aborted(code, ended.message)
