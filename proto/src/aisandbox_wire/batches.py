"""One leaf of a batch whose size is known beforehand, read from the wire and written to it.

For what is done thousands of times a second: all that does not change from batch to batch is computed once. Must not
know services.
"""

from __future__ import annotations

import math

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb

from aisandbox_wire.errors import InvalidValue
from aisandbox_wire.spaces import Leaf
from aisandbox_wire.tensors import Array, data_type, decode_tensor


class BatchColumn:
    """A leaf of a batch of ``n`` values."""

    __slots__ = ("_bytes", "_checked", "_count", "_dtype", "_floats", "_n", "_shape", "_wire", "leaf")

    def __init__(self, leaf: Leaf, n: int) -> None:
        self.leaf = leaf
        self._n = n
        self._dtype = leaf.dtype
        self._wire = data_type(leaf.dtype)
        self._shape = [n, *leaf.shape]
        self._count = math.prod(self._shape)
        self._bytes = self._count * leaf.dtype.itemsize
        self._floats = leaf.dtype.kind == "f"
        self._checked = leaf.kind != "box"

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

    def tensor(self, data: bytes) -> pb.Tensor:
        """A batch with these elements."""
        return pb.Tensor(dtype=self._wire, shape=self._shape, data=data)

    def to_bytes(self, array: Array) -> bytes:
        """The elements of a batch. The array has the right shape; its dtype is converted if need be."""
        if array.dtype != self._dtype:
            array = array.astype(self._dtype)
        return array.tobytes()

    def filled(self, byte: bytes) -> pb.Tensor:
        """A batch of which every byte is ``byte``; see :class:`aisandbox_wire.stencils.Stencil`."""
        return self.tensor(byte * self._bytes)

    def view(self, message: bytes, offset: int) -> Array | None:
        """A read-only view on the elements that begin at ``offset``; None if one of them breaks a rule of the leaf.

        Faster than :meth:`read`, which says what is wrong.
        """
        array = np.frombuffer(message, self._dtype, self._count, offset)
        if self._floats:
            # See all_finite; squares that overflow are left to the slow way as well.
            if not math.isfinite(np.vdot(array, array)):
                return None
        elif self._checked:
            try:
                self.leaf.check_elements(array.reshape(self._shape), "")
            except InvalidValue:
                return None
        return array.reshape(self._shape)
