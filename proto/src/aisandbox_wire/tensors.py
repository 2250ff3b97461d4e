"""NumPy arrays as tensors of tensor.proto and back.

Owns the table of element types and the byte order. Must not know spaces, services or who calls: it is on the path of
every step, so it does no more than the bytes need.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb
from numpy.typing import NDArray

from aisandbox_wire.errors import InvalidTensor

Array = NDArray[Any]

WIRE_DTYPES: dict[pb.DataType.ValueType, np.dtype[Any]] = {
    pb.DATA_TYPE_FLOAT32: np.dtype("<f4"),
    pb.DATA_TYPE_FLOAT64: np.dtype("<f8"),
    pb.DATA_TYPE_UINT8: np.dtype("u1"),
    pb.DATA_TYPE_INT8: np.dtype("i1"),
    pb.DATA_TYPE_INT16: np.dtype("<i2"),
    pb.DATA_TYPE_INT32: np.dtype("<i4"),
    pb.DATA_TYPE_INT64: np.dtype("<i8"),
    pb.DATA_TYPE_BOOL: np.dtype("?"),
    pb.DATA_TYPE_UINT16: np.dtype("<u2"),
}
"""The NumPy dtype (little-endian) of each DataType."""

MOST_DIMENSIONS = 32
"""Of a tensor, and so of a box: as many as NumPy had for long; it has 64 now."""
MOST_ELEMENTS = 2**31 - 1
"""Of a tensor, where an extent of 0 counts as 1."""

_DATA_TYPES: dict[np.dtype[Any], pb.DataType.ValueType] = {dtype: wire for wire, dtype in WIRE_DTYPES.items()}


def data_type(dtype: np.dtype[Any]) -> pb.DataType.ValueType:
    """The DataType of a NumPy dtype of either byte order; raises InvalidTensor if the wire has none for it."""
    found = _DATA_TYPES.get(dtype)
    if found is None:
        found = _DATA_TYPES.get(dtype.newbyteorder("<"))
    if found is None:
        raise InvalidTensor("dtype", f"{dtype} has no wire format; use one of {_names()}")
    return found


def numpy_dtype(wire: pb.DataType.ValueType, field: str = "dtype") -> np.dtype[Any]:
    """The NumPy dtype (little-endian) of a DataType; raises InvalidTensor for an unknown one."""
    dtype = WIRE_DTYPES.get(wire)
    if dtype is None:
        known = ", ".join(map(wire_name, WIRE_DTYPES))
        raise InvalidTensor(field, f"{wire_name(wire)} is not a data type of a tensor; use one of {known}")
    return dtype


def wire_name(wire: int) -> str:
    """The name of a DataType as the contract has it, DATA_TYPE_FLOAT32; for an unknown one, its number."""
    return pb.DataType.Name(wire) if wire in pb.DataType.values() else str(wire)  # type: ignore[arg-type]


def encode_tensor(array: Array) -> pb.Tensor:
    """A tensor with a copy of the array's elements in C order, whatever its strides and byte order.

    Raises InvalidTensor for a dtype that the wire has no form for.
    """
    wire = _DATA_TYPES.get(array.dtype)
    if wire is None:
        wire = data_type(array.dtype)
        array = array.astype(WIRE_DTYPES[wire])
    return pb.Tensor(dtype=wire, shape=array.shape, data=array.tobytes())


def decode_tensor(tensor: pb.Tensor, field: str = "tensor") -> Array:
    """A read-only view on the tensor's bytes, with its dtype and shape.

    Raises InvalidTensor, naming ``field``, for an unknown dtype, too many dimensions or elements, a negative extent, a
    number of bytes other than product(shape) * size(dtype), or a bool that is neither 0 nor 1.
    """
    dtype = WIRE_DTYPES.get(tensor.dtype)
    if dtype is None:
        dtype = numpy_dtype(tensor.dtype, f"{field}.dtype")
    if problem := shape_problem(tensor.shape):
        raise InvalidTensor(f"{field}.shape", problem)
    shape = tuple(tensor.shape)
    data = tensor.data
    expected = math.prod(shape) * dtype.itemsize
    if len(data) != expected:
        raise InvalidTensor(
            f"{field}.data", f"has {len(data)} bytes; {dtype.name} of shape {list(shape)} needs {expected}"
        )
    if tensor.dtype == pb.DATA_TYPE_BOOL and data.translate(None, b"\x00\x01"):
        raise InvalidTensor(f"{field}.data", "a bool is 0 or 1")
    return np.frombuffer(data, dtype).reshape(shape)


def shape_problem(shape: Sequence[int], smallest: int = 0) -> str:
    """Why there is no array of this shape, with each extent at least ``smallest``; empty if there is one.

    Takes no longer for a shape of many or of huge extents than for any other.
    """
    if len(shape) > MOST_DIMENSIONS:
        return f"has {len(shape)} dimensions; at most {MOST_DIMENSIONS}"
    size = 1
    for extent in shape:
        if extent < smallest:
            sign = "a negative extent" if smallest == 0 else f"a dimension smaller than {smallest}"
            return f"{list(shape)} has {sign}"
        size *= extent or 1  # NumPy multiplies the others of a shape that has a 0 too
        if size > MOST_ELEMENTS:
            return f"{list(shape)} has more than {MOST_ELEMENTS} elements"
    return ""


def _names() -> str:
    return ", ".join(dtype.name for dtype in WIRE_DTYPES.values())
