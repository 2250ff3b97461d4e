"""Leaves of batches whose size is known."""

from __future__ import annotations

import numpy as np
import pytest
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_wire.batches import BatchLeaf
from aisandbox_wire.errors import WireError
from aisandbox_wire.spaces import leaves
from aisandbox_wire.tensors import encode_tensor


def batch_leaf(n: int = 2) -> BatchLeaf:
    (leaf,) = leaves(pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_FLOAT32, shape=[3])))
    return BatchLeaf(leaf, n)


def test_batch_leaf_reads_what_it_wrote() -> None:
    for factor in (1, 2):
        array = np.arange(6, dtype=np.float64).reshape(2, 3) * factor
        tensor = batch_leaf().empty()
        tensor.data = batch_leaf().to_bytes(array)
        back = batch_leaf().read(pb.Tensor.FromString(tensor.SerializeToString()), "x")
        assert back.dtype == np.float32
        np.testing.assert_array_equal(back, array)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (encode_tensor(np.zeros((3, 2), np.float32)), r"x: has shape \[3, 2\], expected \[2, 3\]"),
        (encode_tensor(np.zeros((1, 3), np.float32)), r"x: has shape \[1, 3\]"),
        (encode_tensor(np.zeros((2, 3), np.float64)), "x: has dtype float64, expected float32"),
        (encode_tensor(np.zeros((2, 3), np.int32)), "x: has dtype int32"),
        (pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[2, 3], data=b"\0" * 20), "x.data: has 20 bytes"),
        (pb.Tensor(dtype=pb.DATA_TYPE_FLOAT32, shape=[2, 3], data=b"\xff" * 24), "x: element .* is not finite"),
        (pb.Tensor(), "x.dtype: DATA_TYPE_UNSPECIFIED is not a data type"),
    ],
)
def test_batch_leaf_refuses_another_shape_dtype_or_value(tensor: pb.Tensor, message: str) -> None:
    with pytest.raises(WireError, match=message):
        batch_leaf().read(tensor, "x")
