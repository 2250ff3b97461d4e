"""The five calls as methods of a gRPC server: names, and bytes in and out.

Owns their serialization. Must not know which server calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_process.grpc_direct import Methods, StreamingMethod, UnaryMethod
from grpc_status import rpc_status

from aisandbox_inference.answers import Answers
from aisandbox_inference.errors import Stopping
from aisandbox_inference.statuses import status_of
from aisandbox_inference.waiting import Work

SERVICE = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"].full_name


def policy_methods(answers: Answers) -> Methods:
    """Return the methods that give ``answers``."""
    return Methods(
        service=SERVICE,
        unary={
            "Act": _unary(pb.ActRequest, answers.act),
            "ActBatch": _unary(pb.ActBatchRequest, answers.act_batch),
            "DescribeModel": _unary(pb.DescribeModelRequest, answers.describe_model),
        },
        streaming={"GetModel": _parts(answers)},
        bidirectional={"ActStream": lambda: _unary(pb.ActStreamRequest, answers.conversation().reply)},
        status_of=lambda call, error: rpc_status.to_status(answers.refusal(call, error)),
        stopping=rpc_status.to_status(status_of(Stopping())),
    )


def _unary(request: Any, answer: Callable[[Any], Work[Any]]) -> UnaryMethod:
    parse = request.FromString

    def method(message: bytes) -> Work[bytes]:
        reply = yield from answer(parse(message))
        serialized: bytes = reply.SerializeToString()
        return serialized

    return method


def _parts(answers: Answers) -> StreamingMethod:
    def method(message: bytes) -> Work[Iterator[bytes]]:
        parts = yield from answers.get_model(pb.GetModelRequest.FromString(message))
        return (part.SerializeToString() for part in parts)

    return method
