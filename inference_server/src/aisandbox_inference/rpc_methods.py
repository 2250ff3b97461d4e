"""The five calls as methods on bytes, for aisandbox_process.grpc_direct.

Owns their names and serialization. Must not know which server calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_process.grpc_direct import Methods, StreamingMethod, UnaryMethod
from aisandbox_wire import parse_bounded
from grpc_status import rpc_status

from aisandbox_inference.coroutines import FutureCoroutine
from aisandbox_inference.errors import Stopping
from aisandbox_inference.policy_service import PolicyService
from aisandbox_inference.status_codes import status_of

SERVICE = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"].full_name


def policy_methods(service: PolicyService) -> Methods:
    """Return the methods of ``service``."""
    return Methods(
        service=SERVICE,
        unary={
            "Act": _unary(pb.ActRequest, service.act),
            "ActBatch": _unary(pb.ActBatchRequest, service.act_batch),
            "DescribeModel": _unary(pb.DescribeModelRequest, service.describe_model),
        },
        streaming={"GetModel": _get_model(service)},
        bidirectional={"ActStream": lambda: _unary(pb.ActStreamRequest, service.act_stream().reply)},
        status_of=lambda call, error: rpc_status.to_status(service.error_status(call, error)),
        stopping=rpc_status.to_status(status_of(Stopping())),
    )


def _unary(request: Any, answer: Callable[[Any], FutureCoroutine[Any]]) -> UnaryMethod:
    def method(message: bytes) -> FutureCoroutine[bytes]:
        reply = yield from answer(parse_bounded(request, message))
        serialized: bytes = reply.SerializeToString()
        return serialized

    return method


def _get_model(service: PolicyService) -> StreamingMethod:
    def method(message: bytes) -> FutureCoroutine[Iterator[bytes]]:
        parts = yield from service.get_model(parse_bounded(pb.GetModelRequest, message))
        return (part.SerializeToString() for part in parts)

    return method
