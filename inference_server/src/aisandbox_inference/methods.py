"""The five calls as methods of a gRPC server: names, and bytes in and out.

Owns their serialization. Must not know which server calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from aisandbox.v1 import policy_trainer_pb2 as pb
from google.rpc import status_pb2

from aisandbox_inference.answers import Answers
from aisandbox_inference.waiting import Work

SERVICE = pb.DESCRIPTOR.services_by_name["PolicyTrainerService"].full_name

Unary: TypeAlias = Callable[[bytes], Work[bytes]]
Parts: TypeAlias = Callable[[bytes], Work[Iterator[bytes]]]
Stream: TypeAlias = Callable[[], Unary]
"""Called once for each stream; the result answers its messages, one after the other."""


@dataclass(frozen=True, slots=True)
class Methods:
    """Methods by their names within SERVICE, and what an exception of theirs means."""

    unary: Mapping[str, Unary]
    parts: Mapping[str, Parts]
    streams: Mapping[str, Stream]
    refusal: Callable[[str, Exception], status_pb2.Status]


def policy_methods(answers: Answers) -> Methods:
    """Return the methods that give ``answers``."""
    return Methods(
        unary={
            "Act": _unary(pb.ActRequest, answers.act),
            "ActBatch": _unary(pb.ActBatchRequest, answers.act_batch),
            "DescribeModel": _unary(pb.DescribeModelRequest, answers.describe_model),
        },
        parts={"GetModel": _parts(answers)},
        streams={"ActStream": lambda: _unary(pb.ActStreamRequest, answers.conversation().reply)},
        refusal=answers.refusal,
    )


def _unary(request: Any, answer: Callable[[Any], Work[Any]]) -> Unary:
    parse = request.FromString

    def method(message: bytes) -> Work[bytes]:
        reply = yield from answer(parse(message))
        serialized: bytes = reply.SerializeToString()
        return serialized

    return method


def _parts(answers: Answers) -> Parts:
    def method(message: bytes) -> Work[Iterator[bytes]]:
        parts = yield from answers.get_model(pb.GetModelRequest.FromString(message))
        return (part.SerializeToString() for part in parts)

    return method
