"""Stencils write what Protobuf writes, and recognise nothing else."""

from __future__ import annotations

import pytest
from aisandbox.v1 import environment_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_wire.stencils import Stencil
from hypothesis import given
from hypothesis import strategies as st


def reply(observations: list[bytes], rewards: bytes, ends: bytes) -> bytes:
    step = pb.StepReply(rewards=rewards, terminated=ends, truncated=ends)
    for data in observations:
        step.observations.append(tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=[len(data)], data=data))
    return pb.SimulatorReply(step=step).SerializeToString()


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=3), st.binary(min_size=1, max_size=40))
def test_a_stencil_writes_what_protobuf_writes(observations: list[bytes], rewards: bytes) -> None:
    ends = bytes(5)
    stencil = Stencil(lambda byte: reply([byte * len(data) for data in observations], byte * len(rewards), ends))
    message = stencil.fill(*observations, rewards)
    assert message == reply(observations, rewards, ends)
    assert stencil.fits(message)
    parts = [message[offset : offset + length] for offset, length in stencil.holes]
    assert parts == [*observations, rewards]


def test_a_message_with_one_hole_at_its_end() -> None:
    def request(data: bytes) -> bytes:
        return pb.SimulatorRequest(step=pb.StepRequest(actions=tensor_pb2.Tensor(data=data))).SerializeToString()

    stencil = Stencil(lambda byte: request(byte * 8))
    assert stencil.fill(b"12345678") == request(b"12345678")
    assert stencil.fits(request(b"abcdefgh"))
    assert not stencil.fits(request(b"abcdefghi"))
    for parts in ([b"1234567"], [b"123456789"], [], [b"1234", b"5678"]):
        with pytest.raises(ValueError, match="the holes have"):
            stencil.fill(*parts)


@pytest.mark.parametrize(
    "other",
    [
        reply([b"abcd", b"ef"], b"12", b"\0\1"),
        reply([b"abcd", b"ef"], b"123", b"\0\0"),
        reply([b"abc", b"def"], b"12", b"\0\0"),
        reply([b"abcd"], b"12", b"\0\0"),
        b"",
        bytes(len(reply([b"abcd", b"ef"], b"12", b"\0\0"))),
    ],
)
def test_another_message_does_not_fit(other: bytes) -> None:
    stencil = Stencil(lambda byte: reply([byte * 4, byte * 2], byte * 2, b"\0\0"))
    assert stencil.fits(reply([b"abcd", b"ef"], b"12", b"\0\0"))
    assert not stencil.fits(other)


def test_a_change_of_any_byte_outside_the_holes_does_not_fit() -> None:
    stencil = Stencil(lambda byte: reply([byte * 4, byte * 2], byte * 2, b"\0\0"))
    message = reply([b"abcd", b"ef"], b"12", b"\0\0")
    inside = {i for offset, length in stencil.holes for i in range(offset, offset + length)}
    for i in range(len(message)):
        changed = message[:i] + bytes([message[i] ^ 4]) + message[i + 1 :]
        assert stencil.fits(changed) == (i in inside)
