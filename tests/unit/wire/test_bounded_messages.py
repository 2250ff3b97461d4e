import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1 import tensor_pb2
from aisandbox_wire import OversizedMessage, bounded_parser, parse_bounded
from aisandbox_wire.bounded_messages import LARGEST_STRUCTURE, MOST_FIELDS
from google.protobuf.message import DecodeError

OBSERVATIONS = pb.ActBatchRequest.OBSERVATIONS_FIELD_NUMBER << 3 | 2


def varint(number: int) -> bytes:
    low, rest = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(rest) if rest else bytes([low])


def field(tag: int, content: bytes) -> bytes:
    return bytes([tag]) + varint(len(content)) + content


def test_elements_of_any_size_are_parsed() -> None:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_UINT8, shape=[3 << 20], data=bytes(3 << 20))
    batch = pb.ActBatchRequest(run_id="r", observations=[tensor, tensor])
    assert parse_bounded(pb.ActBatchRequest, batch.SerializeToString()) == batch
    one = pb.ActRequest(run_id="r", observation=[0.5] * (1 << 20))
    assert bounded_parser(pb.ActRequest)(one.SerializeToString()) == one


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (bytes([OBSERVATIONS, 0]) * (1 << 20), f"more than {MOST_FIELDS:,} fields"),
        (field(OBSERVATIONS, field(2 << 3 | 2, b"\x7f" * (2 << 20))), "bytes beside the elements"),
        (field(OBSERVATIONS, field(2 << 3 | 2, b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 300_000)), "beside the elem"),
        (field(1 << 3 | 2, b"r" * (2 << 20)), "beside the elements"),
        (field(100 << 3 & 0x7F | 2, b"r" * (2 << 20)), "beside the elements"),
        (bytes([15 << 3, 1]) * (1 << 20), f"more than {MOST_FIELDS:,} fields"),
    ],
    ids=["empty tensors", "shape", "huge extents", "text", "other field", "unknown numbers"],
)
def test_message_of_much_structure_is_refused_before_it_is_parsed(data: bytes, message: str) -> None:
    with pytest.raises(OversizedMessage, match=message):
        parse_bounded(pb.ActBatchRequest, data)


def test_structure_up_to_the_limit_is_parsed() -> None:
    text = "r" * (LARGEST_STRUCTURE - 10)
    assert parse_bounded(pb.ActRequest, pb.ActRequest(run_id=text).SerializeToString()).run_id == text


@pytest.mark.parametrize(
    "end",
    [b"\x0a\x7f", b"\x0a", b"\xff" * 11, b"\x0b", b"\x0a" + b"\xff" * 9],
    ids=["short", "no length", "long", "group", "wide"],
)
def test_large_message_that_does_not_end_is_no_message(end: bytes) -> None:
    data = field(OBSERVATIONS, field(3 << 3 | 2, bytes(LARGEST_STRUCTURE)))
    with pytest.raises(DecodeError):
        parse_bounded(pb.ActBatchRequest, data + end)
