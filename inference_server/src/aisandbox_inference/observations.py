"""Observations of requests as the inputs of an ONNX policy.

Owns their checks: count, shape, finite numbers, ranges. Every error names the field and the rule. Must not know the
runtime or where a policy comes from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from aisandbox.v1 import tensor_pb2
from aisandbox_model_store.served_model import observation_input
from aisandbox_wire import Leaf, all_finite, decode_tensor
from numpy.typing import NDArray

from aisandbox_inference.errors import InvalidField, TooManyObservations

Array = NDArray[Any]
Feed = dict[str, Array]

_FLOAT32 = np.dtype(np.float32)
_UINT8 = np.dtype(np.uint8)
_FEW = 24
"""Up to this many numbers, `fromiter` reads a repeated field the fastest, and a sum is the fastest check that all are
finite (in float64 it cannot overflow); for more, `np.array` is faster (measured)."""


@dataclass(frozen=True, slots=True, eq=False)
class _Input:
    """An input of the policy: its leaf, name and dtype, and the range of its whole numbers (None: any number)."""

    leaf: Leaf
    name: str
    dtype: np.dtype[Any]
    low: Any = None
    high: Any = None


class Observations:
    """The observation space of one policy."""

    def __init__(self, leaves: Sequence[Leaf]) -> None:
        self._inputs = tuple(_input(leaf) for leaf in leaves)
        self._size = sum(leaf.size for leaf in leaves)
        first = self._inputs[0]
        self._only_input = (first.name, (1, *first.leaf.shape)) if len(leaves) == 1 and first.low is None else None

    @property
    def input_types(self) -> dict[str, np.dtype[Any]]:
        """The dtype of every input, by the names of DescribeModelResponse."""
        return {entry.name: entry.dtype for entry in self._inputs}

    def from_numbers(self, numbers: Sequence[float]) -> Feed:
        """Return the inputs for ActRequest.observation, each [1, *shape]. Raises InvalidField."""
        count = len(numbers)
        if count != self._size:
            raise InvalidField("observation", f"has {count} numbers, and the observation space has {self._size}")
        if count <= _FEW:
            flat, finite = np.fromiter(numbers, _FLOAT32, count), math.isfinite(sum(numbers))
        else:
            flat = np.array(numbers, _FLOAT32)
            finite = all_finite(flat)
        if not finite:
            index = int(np.flatnonzero(~np.isfinite(flat))[0])
            name = self._name(index)
            raise InvalidField("observation", f"number {index}{name} is {flat[index]}, and every number must be finite")
        if self._only_input is not None:  # as with most policies; the loop below costs a fifth of such a call
            name, shape = self._only_input
            return {name: flat.reshape(shape)}
        feed, offset = {}, 0
        for entry in self._inputs:
            part = flat[offset : offset + entry.leaf.size].reshape((1, *entry.leaf.shape))
            feed[entry.name] = _whole(entry, part, "observation", offset)
            offset += entry.leaf.size
        return feed

    def _name(self, index: int) -> str:
        """What number ``index`` of an observation is, as the simulator has named it: " (...)", or empty."""
        for entry in self._inputs:
            if index < entry.leaf.size:
                return _element_text(entry.leaf, index)
            index -= entry.leaf.size
        return ""

    def stated_numbers(self, tensors: Sequence[tensor_pb2.Tensor], beside: int = 0) -> int:
        """Return how many numbers the observations of an ActBatchRequest have, if its first tensor is valid.

        With each are ``beside`` more, of its state.
        """
        return (self._size + beside) * int(tensors[0].shape[0]) if len(tensors) and len(tensors[0].shape) else 0

    def from_tensors(self, tensors: Sequence[tensor_pb2.Tensor], limit: int) -> tuple[Feed, int]:
        """Return the inputs for ActBatchRequest.observations, each [N, *shape], and N.

        Raises InvalidField, aisandbox_wire's InvalidTensor and InvalidValue, TooManyObservations (N over ``limit``).
        """
        if len(tensors) != len(self._inputs):
            names = ", ".join(entry.name for entry in self._inputs)
            rule = f"has {len(tensors)} tensors, and the observation space has {len(self._inputs)} leaves: {names}"
            raise InvalidField("observations", rule)
        count = tensors[0].shape[0] if len(tensors[0].shape) else 0
        if count < 1:
            raise InvalidField("observations[0]", "must have the shape [N, ...] with at least one observation")
        if count > limit:
            raise TooManyObservations(count, limit)
        if self._only_input is not None and tensors[0].dtype == tensor_pb2.DATA_TYPE_FLOAT32:  # as in from_numbers
            name, shape = self._only_input
            array = decode_tensor(tensors[0], "observations[0]")
            if array.shape[1:] == shape[1:] and all_finite(array):
                return {name: array}, count
        feed = {}
        for index, (entry, tensor) in enumerate(zip(self._inputs, tensors, strict=True)):
            field = f"observations[{index}]"
            feed[entry.name] = _convert(entry, decode_tensor(tensor, field), count, field)
        return feed, count


def _input(leaf: Leaf) -> _Input:
    name = observation_input(leaf.key)
    if leaf.kind == "discrete":
        return _Input(leaf, name, _FLOAT32, leaf.start, leaf.start + leaf.n - 1)
    if leaf.kind == "multi_discrete":
        assert leaf.nvec is not None  # noqa: S101 -- a multi_discrete leaf always has it
        return _Input(leaf, name, _FLOAT32, 0, leaf.nvec - 1)
    if leaf.kind == "multi_binary":
        return _Input(leaf, name, _FLOAT32, 0, 1)
    if leaf.dtype.kind == "f":
        return _Input(leaf, name, _FLOAT32)
    limits = np.iinfo(leaf.dtype)
    return _Input(leaf, name, _UINT8 if leaf.dtype == _UINT8 else _FLOAT32, limits.min, limits.max)


def _convert(entry: _Input, array: Array, count: int, field: str) -> Array:
    """Return a batch, in the leaf's own dtype or float32, in the dtype of the input."""
    leaf = entry.leaf
    if array.dtype != _FLOAT32 or leaf.dtype == _FLOAT32:
        leaf.check_batch(array, count, field)
        with np.errstate(over="ignore"):
            converted = array.astype(entry.dtype, copy=False)
        if leaf.dtype.itemsize > 4 and leaf.dtype.kind == "f" and not all_finite(converted):
            raise InvalidField(field, "has a number that float32 cannot hold")
        return converted
    if array.shape != (count, *leaf.shape):
        raise InvalidField(field, f"has shape {list(array.shape)}, expected {[count, *leaf.shape]}")
    if not all_finite(array):
        raise InvalidField(field, "has a number that is not finite")
    return _whole(entry, array, field, 0)


def _element_text(leaf: Leaf, index: int) -> str:
    known = [f"of {leaf.key!r}"] if leaf.key else []
    known += [repr(name)] if (name := leaf.element_name(index)) else []
    return f" ({', '.join(known)})" if known else ""


def _whole(entry: _Input, values: Array, field: str, offset: int) -> Array:
    """Return ``values`` (float32, [N, *shape]) in the dtype of the input; checks those that must be whole numbers."""
    if entry.low is None:
        return values
    wrong = (values != np.rint(values)) | (values < entry.low) | (values > entry.high)
    if wrong.any():
        place = int(np.flatnonzero(wrong)[0])
        low, high = (np.broadcast_to(bound, values.shape).flat[place] for bound in (entry.low, entry.high))
        of = _element_text(entry.leaf, place % max(entry.leaf.size, 1))
        rule = f"number {offset + place}{of} is {values.flat[place]:g}, and must be a whole number from {low} to {high}"
        raise InvalidField(field, rule)
    return values.astype(entry.dtype, copy=False)
