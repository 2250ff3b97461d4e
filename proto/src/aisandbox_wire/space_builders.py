"""Functions that make the spaces of tensor.proto, with names and rules checked. Must not know Gymnasium or services."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb
from numpy.typing import DTypeLike

from aisandbox_wire.spaces import leaves
from aisandbox_wire.tensors import data_type

Bounds = float | Sequence[float]
"""One number for all elements, or one for each element in C order."""


def box(
    shape: Sequence[int],
    low: Bounds | None = None,
    high: Bounds | None = None,
    dtype: DTypeLike = np.float32,
    names: Sequence[str] = (),
) -> pb.Space:
    """Arrays of ``shape``, each element from ``low`` to ``high``; None: no bound.

    ``names``: one for each element in C order, or none. Raises InvalidSpace, and InvalidTensor for a dtype without a
    form on the wire.
    """
    return _checked(
        pb.Space(
            box=pb.Box(
                dtype=data_type(np.dtype(dtype)), shape=shape, low=_numbers(low), high=_numbers(high), names=names
            )
        )
    )


def discrete(n: int, start: int = 0, names: Sequence[str] = ()) -> pb.Space:
    """Whole numbers from ``start`` to ``start + n - 1``. Raises InvalidSpace."""
    return _checked(pb.Space(discrete=pb.Discrete(n=n, start=start, names=names)))


def multi_discrete(n: Sequence[int], names: Sequence[str] = ()) -> pb.Space:
    """One whole number from 0 to ``n[i] - 1`` for each dimension i. Raises InvalidSpace."""
    return _checked(pb.Space(multi_discrete=pb.MultiDiscrete(n=n, names=names)))


def multi_binary(n: int, names: Sequence[str] = ()) -> pb.Space:
    """``n`` bits. Raises InvalidSpace."""
    return _checked(pb.Space(multi_binary=pb.MultiBinary(n=n, names=names)))


def dict_space(entries: Mapping[str, pb.Space]) -> pb.Space:
    """A value for each key, in this order; an entry is no dict itself. Raises InvalidSpace."""
    found = [pb.DictEntry(key=key, space=space) for key, space in entries.items()]
    return _checked(pb.Space(dict=pb.DictSpace(entries=found)))


def _numbers(bounds: Any) -> list[float]:
    if bounds is None:
        return []
    return [float(bound) for bound in np.asarray(bounds, np.float64).ravel()]


def _checked(space: pb.Space) -> pb.Space:
    leaves(space)
    return space
