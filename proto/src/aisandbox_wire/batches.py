"""One leaf of a batch whose size is known beforehand, read from the wire and written to it.

On the path of every step: all that does not change from batch to batch is computed once. Must not know services.
"""

from __future__ import annotations

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb

from aisandbox_wire.spaces import Leaf, all_finite, cast_exactly
from aisandbox_wire.tensors import Array, data_type, decode_tensor


class BatchLeaf:
    """A leaf of a batch of ``n`` values: arrays [n, *shape] of the leaf's dtype."""

    __slots__ = ("_dtype", "_is_float", "_n", "_shape", "_size_in_bytes", "_wire_dtype", "leaf")

    def __init__(self, leaf: Leaf, n: int) -> None:
        self.leaf = leaf
        self._n = n
        self._dtype = leaf.dtype
        self._is_float = leaf.dtype.kind == "f"
        self._wire_dtype = data_type(leaf.dtype)
        self._shape = [n, *leaf.shape]
        self._size_in_bytes = n * leaf.size * leaf.dtype.itemsize

    def read(self, tensor: pb.Tensor, field: str) -> Array:
        """A read-only view on the tensor's bytes: an array [n, *shape] of the leaf's dtype.

        Raises InvalidTensor or InvalidValue, naming ``field``, as :meth:`Leaf.check_batch` does.
        """
        data = tensor.data
        if tensor.dtype != self._wire_dtype or len(data) != self._size_in_bytes or tensor.shape != self._shape:
            self.leaf.check_batch(decode_tensor(tensor, field), self._n, field)
        elements = np.frombuffer(data, self._dtype)
        array = elements.reshape(self._shape)
        if not self._is_float or not all_finite(elements):
            self.leaf.check_elements(array, field)
        return array

    def empty(self) -> pb.Tensor:
        """A tensor of this dtype and shape; ``data`` is to be set to :meth:`to_bytes`."""
        return pb.Tensor(dtype=self._wire_dtype, shape=self._shape)

    def to_bytes(self, array: Array, field: str = "tensor") -> bytes:
        """The elements of ``array``, whose shape is [n, *shape], for the ``data`` of a tensor.

        The shape is not checked here: a tensor with too few or too many bytes is found by who reads it. Another dtype
        is converted; raises InvalidValue, naming ``field``, for what does not fit.
        """
        if array.dtype != self._dtype:
            array = cast_exactly(array, self._dtype, field)
        return array.tobytes()
