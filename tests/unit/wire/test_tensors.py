"""The codec of tensors."""

from __future__ import annotations

import numpy as np
import pytest
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_wire.errors import InvalidTensor
from aisandbox_wire.tensors import WIRE_DTYPES, decode_tensor, encode_tensor
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp


@given(
    st.sampled_from(list(WIRE_DTYPES.values())).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
    )
)
def test_tensor_survives_the_wire(array: np.ndarray) -> None:
    back = decode_tensor(pb.Tensor.FromString(encode_tensor(array).SerializeToString()))
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == array.tobytes()


def test_tensor_is_little_endian_and_in_c_order() -> None:
    big_endian_and_transposed = np.array([[1, 2], [3, 4]], ">i2").T
    tensor = encode_tensor(big_endian_and_transposed)
    assert tensor.dtype == pb.DATA_TYPE_INT16
    assert tensor.data == bytes([1, 0, 3, 0, 2, 0, 4, 0])
    assert list(tensor.shape) == [2, 2]


def test_decoded_array_is_a_view_that_cannot_be_written() -> None:
    array = decode_tensor(encode_tensor(np.zeros(3, np.float32)))
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            pb.Tensor(dtype=pb.DATA_TYPE_UNSPECIFIED, data=b""),
            "tensor.dtype: DATA_TYPE_UNSPECIFIED is not a data type .* DATA_TYPE_FLOAT32, DATA_TYPE_FLOAT64",
        ),
        (pb.Tensor(dtype=99, data=b""), "tensor.dtype: 99 is not a data type"),  # type: ignore[arg-type]
        (pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[-1], data=b"a"), "tensor.shape: .* negative"),
        (pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[-1, -1], data=b"a"), "tensor.shape: .* negative"),
        (pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[2], data=b"1234567"), "tensor.data: has 7 bytes; .* needs 8"),
        (
            pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[], data=b""),
            "tensor.data: has 0 bytes; .* needs 4",
        ),
        (
            pb.Tensor(dtype=pb.DATA_TYPE_UINT8, shape=[2**62, 4], data=b""),
            "tensor.shape: .* more than 2147483647",
        ),
        (pb.Tensor(dtype=pb.DATA_TYPE_BOOL, shape=[2], data=b"\x01\x02"), "tensor.data: a bool is 0 or 1"),
    ],
)
def test_tensor_that_does_not_fit_together_is_refused(tensor: pb.Tensor, message: str) -> None:
    with pytest.raises(InvalidTensor, match=message):
        decode_tensor(tensor)


def test_field_is_named_in_the_error() -> None:
    with pytest.raises(InvalidTensor, match=r"^observations\[1\]\.data: ") as caught:
        decode_tensor(pb.Tensor(dtype=pb.DATA_TYPE_INT8, shape=[1]), "observations[1]")
    assert caught.value.field == "observations[1].data"


@pytest.mark.parametrize("dtype", [np.float16, np.complex64, np.uint64, "U3", object])
def test_dtype_without_a_form_on_the_wire_is_refused(dtype: str) -> None:
    with pytest.raises(InvalidTensor, match="has no wire format"):
        encode_tensor(np.zeros(1, dtype))
