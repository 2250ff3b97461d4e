"""The five calls as methods on bytes, for aisandbox_process.grpc_direct.

Owns their names, serialization, and when a caller's permission for a run is checked. Must not know which server calls.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox_access import PeerStreams
from aisandbox_process.coroutines import FutureCoroutine
from aisandbox_process.grpc_direct import Methods, StreamingMethod, UnaryMethod
from aisandbox_wire import parse_bounded
from grpc_status import rpc_status

from aisandbox_inference.errors import Stopping
from aisandbox_inference.policy_service import PolicyService
from aisandbox_inference.run_permissions import RunPermissions
from aisandbox_inference.status_codes import status_of

SERVICE = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"].full_name


def policy_methods(
    service: PolicyService, permissions: RunPermissions | None = None, streams: PeerStreams | None = None
) -> Methods:
    """Return the methods of ``service``. ``permissions``: who may call, and how many streams they may have; None: all.

    ``streams``: how many streams an address may have where callers are not authenticated; None: any number.
    """
    unary = partial(_unary, permissions=permissions)
    methods = Methods(
        service=SERVICE,
        unary={
            "Act": unary(pb.ActRequest, service.act),
            "ActBatch": unary(pb.ActBatchRequest, service.act_batch),
            "DescribeModel": unary(pb.DescribeModelRequest, service.describe_model),
        },
        streaming={"GetModel": _get_model(service, permissions)},
        bidirectional={"ActStream": lambda: _act_stream(service, permissions)},
        status_of=lambda call, error: rpc_status.to_status(service.error_status(call, error)),
        stopping=rpc_status.to_status(status_of(Stopping())),
    )
    if permissions is not None:
        return replace(methods, admit=permissions.admit, stream=permissions.stream)
    return methods if streams is None else replace(methods, stream=lambda peer, _caller: streams.stream(peer))


def _unary(
    request: Any, answer: Callable[[Any], FutureCoroutine[Any]], permissions: RunPermissions | None
) -> UnaryMethod:
    def method(message: bytes, caller: Any) -> FutureCoroutine[bytes]:
        parsed = parse_bounded(request, message)
        if permissions is not None:
            yield from permissions.check(caller, parsed.run_id)
        reply = yield from answer(parsed)
        serialized: bytes = reply.SerializeToString()
        return serialized

    return method


def _act_stream(service: PolicyService, permissions: RunPermissions | None) -> UnaryMethod:
    """The method of one stream: a request for a run that the caller may not use ends it."""
    stream = service.act_stream()

    def method(message: bytes, caller: Any) -> FutureCoroutine[bytes]:
        parsed = parse_bounded(pb.ActStreamRequest, message)
        if permissions is not None:  # also without a new run: the permission may have been taken away
            yield from permissions.check(caller, parsed.request.run_id or stream.run_id)
        reply = yield from stream.reply(parsed)
        serialized: bytes = reply.SerializeToString()
        return serialized

    return method


def _get_model(service: PolicyService, permissions: RunPermissions | None) -> StreamingMethod:
    def method(message: bytes, caller: Any) -> FutureCoroutine[Iterator[bytes]]:
        parsed = parse_bounded(pb.GetModelRequest, message)
        if permissions is not None:
            yield from permissions.check(caller, parsed.run_id)
        parts = yield from service.get_model(parsed)
        return (part.SerializeToString() for part in parts)

    return method
