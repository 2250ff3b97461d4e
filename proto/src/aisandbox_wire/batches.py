"""One leaf of a batch whose size is known beforehand, read from the wire and written to it.

For what is done thousands of times a second: all that does not change from batch to batch is computed once. Must not
know services.
"""

from __future__ import annotations

import math

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb

from aisandbox_wire.spaces import Leaf
from aisandbox_wire.tensors import Array, data_type, decode_tensor


class BatchColumn:
    """A leaf of a batch of ``n`` values."""

    __slots__ = ("_bytes", "_dtype", "_n", "_shape", "_wire", "leaf")

    def __init__(self, leaf: Leaf, n: int) -> None:
        self.leaf = leaf
        self._n = n
        self._dtype = leaf.dtype
        self._wire = data_type(leaf.dtype)
        self._shape = [n, *leaf.shape]
        self._bytes = math.prod(self._shape) * leaf.dtype.itemsize

    def read(self, tensor: pb.Tensor, field: str) -> Array:
        """A read-only view on the tensor's bytes: an array [n, *shape] of the leaf's dtype.

        Raises InvalidTensor or InvalidValue, naming ``field``, as :meth:`Leaf.check_batch` does.
        """
        data = tensor.data
        if tensor.dtype != self._wire or len(data) != self._bytes or tensor.shape != self._shape:
            self.leaf.check_batch(decode_tensor(tensor, field), self._n, field)
        array = np.frombuffer(data, self._dtype).reshape(self._shape)
        self.leaf.check_elements(array, field)
        return array

    def prepare(self, tensor: pb.Tensor) -> None:
        """Give a message that is used again and again the dtype and the shape of this column."""
        tensor.dtype = self._wire
        tensor.shape[:] = self._shape

    def write(self, array: Array, tensor: pb.Tensor) -> None:
        """Put a batch into a prepared message. The array has the right shape; its dtype is converted if need be."""
        if array.dtype != self._dtype:
            array = array.astype(self._dtype)
        tensor.data = array.tobytes()
