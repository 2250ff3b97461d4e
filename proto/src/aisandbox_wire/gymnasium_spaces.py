"""Gymnasium's spaces as spaces of tensor.proto and back, and batches of their values as leaves and back.

The one module of this package that imports Gymnasium; needs the extra ``gymnasium``. Must not know services.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from aisandbox.v1 import tensor_pb2 as pb

from aisandbox_wire.errors import InvalidSpace, InvalidTensor
from aisandbox_wire.spaces import Leaf, leaves
from aisandbox_wire.tensors import Array, data_type

_NAMES_ATTRIBUTE = "aisandbox_names"
"""Gymnasium has no names of elements: a space that has them keeps them in an attribute of its own."""


def names_of(space: gym.Space[Any]) -> tuple[str, ...]:
    """The names of a plain space's elements (of a Discrete, of its numbers); empty if it has none."""
    names: tuple[str, ...] = getattr(space, _NAMES_ATTRIBUTE, ())
    return names


def set_names(space: gym.Space[Any], names: Sequence[str]) -> None:
    """Gives a plain space names, which its form on the wire then has too."""
    if names:
        setattr(space, _NAMES_ATTRIBUTE, tuple(names))


_WIDER: dict[np.dtype[Any], np.dtype[Any]] = {
    np.dtype(np.float16): np.dtype(np.float32),
    np.dtype(np.bool_): np.dtype(np.uint8),
    np.dtype(np.uint32): np.dtype(np.int64),
    np.dtype(np.uint64): np.dtype(np.int64),
}
"""Dtypes of a Box that the wire has no form for -> those that hold all their numbers (uint64 only up to 2^63 - 1)."""


def wire_space(space: gym.Space[Any]) -> gym.Space[Any]:
    """``space`` with the dtypes that travel: a float16 Box becomes float32, bool uint8, uint32 and uint64 int64.

    The same object if nothing changes. Raises InvalidSpace for a uint64 Box with a bound over 2^63 - 1.
    """
    if isinstance(space, gym.spaces.Dict):
        entries = {key: wire_space(inner) for key, inner in space.spaces.items()}
        same = all(entries[key] is inner for key, inner in space.spaces.items())
        return space if same else gym.spaces.Dict(list(entries.items()))
    if not isinstance(space, gym.spaces.Box) or np.dtype(space.dtype) not in _WIDER:
        return space
    dtype = _WIDER[np.dtype(space.dtype)]
    if space.dtype == np.uint64 and (space.high > np.iinfo(np.int64).max).any():
        raise InvalidSpace("space.dtype", "uint64 has no wire format where the upper bound is over 2^63 - 1")
    wider = gym.spaces.Box(space.low.astype(dtype), space.high.astype(dtype), space.shape, dtype.type)
    set_names(wider, names_of(space))
    return wider


def space_to_proto(space: gym.Space[Any]) -> pb.Space:
    """The form on the wire of a Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these, as :func:`wire_space`.

    Raises InvalidSpace, naming the field, for what tensor.proto has no form for.
    """
    if isinstance(space, gym.spaces.Dict):
        entries = []
        for key, inner in space.spaces.items():
            if isinstance(inner, gym.spaces.Dict):
                raise InvalidSpace(f"space[{key!r}]", "a Dict inside a Dict has no wire format; flatten it")
            if not isinstance(key, str):
                raise InvalidSpace(f"space[{key!r}]", f"the keys of a Dict are texts, not {type(key).__name__}")
            entries.append(pb.DictEntry(key=key, space=_plain(inner, f"space[{key!r}]")))
        proto = pb.Space(dict=pb.DictSpace(entries=entries))
    else:
        proto = _plain(space, "space")
    leaves(proto)
    return proto


def space_from_proto(space: pb.Space) -> gym.Space[Any]:
    """The Gymnasium space of a space on the wire; a Dict keeps the order of its entries. Raises InvalidSpace."""
    found = leaves(space)
    if space.WhichOneof("kind") != "dict":
        return _from_leaf(found[0])
    return gym.spaces.Dict([(leaf.key, _from_leaf(leaf)) for leaf in found])


def split(space: gym.Space[Any], value: Any) -> list[Array]:
    """The leaves of a batched value of ``space``, in the order in which they travel; a plain space has one."""
    if isinstance(space, gym.spaces.Dict):
        return [_as_wire(inner, value[key]) for key, inner in space.spaces.items()]
    return [_as_wire(space, value)]


def join(space: gym.Space[Any], arrays: Sequence[Array]) -> Array | dict[str, Array]:
    """The batched value of ``space`` that has these leaves: the inverse of :func:`split`."""
    if isinstance(space, gym.spaces.Dict):
        return dict(zip(space.spaces, arrays, strict=True))
    (array,) = arrays
    return array


def _as_wire(space: gym.Space[Any], value: Any) -> Array:
    if isinstance(space, gym.spaces.Discrete | gym.spaces.MultiDiscrete):
        return np.asarray(value, np.int64)
    return np.asarray(value, _WIDER.get(np.dtype(space.dtype), space.dtype))


def _plain(space: gym.Space[Any], field: str) -> pb.Space:
    if isinstance(space, gym.spaces.Box):
        space = wire_space(space)
        assert isinstance(space, gym.spaces.Box)  # noqa: S101 -- a Box stays one
        try:
            wire = data_type(np.dtype(space.dtype))
        except InvalidTensor as error:
            raise InvalidSpace(f"{field}.dtype", error.rule) from None
        low, high = _numbers(space.low, -np.inf), _numbers(space.high, np.inf)
        return pb.Space(box=pb.Box(dtype=wire, shape=space.shape, low=low, high=high, names=names_of(space)))
    if isinstance(space, gym.spaces.Discrete):
        return pb.Space(discrete=pb.Discrete(n=int(space.n), start=int(space.start), names=names_of(space)))
    if isinstance(space, gym.spaces.MultiDiscrete):
        if space.nvec.ndim != 1:
            raise InvalidSpace(
                field, f"a MultiDiscrete of shape {list(space.nvec.shape)} has no wire format: flatten it"
            )
        if np.any(space.start):
            raise InvalidSpace(field, "a MultiDiscrete that does not start at 0 has no wire format: shift it")
        return pb.Space(multi_discrete=pb.MultiDiscrete(n=space.nvec.tolist(), names=names_of(space)))
    if isinstance(space, gym.spaces.MultiBinary):
        if len(space.shape) != 1:
            raise InvalidSpace(field, f"a MultiBinary of shape {list(space.shape)} has no wire format: flatten it")
        return pb.Space(multi_binary=pb.MultiBinary(n=space.shape[0], names=names_of(space)))
    kinds = "Box, Discrete, MultiDiscrete, MultiBinary, or a Dict of these"
    raise InvalidSpace(field, f"{type(space).__name__} has no wire format; use {kinds}")


def _numbers(bounds: Array, missing: float) -> list[float]:
    flat = bounds.astype(np.float64).ravel()
    if flat.size and (flat == flat[0]).all():
        return [] if flat[0] == missing else [float(flat[0])]
    return [float(value) for value in flat]


def _from_leaf(leaf: Leaf) -> gym.Space[Any]:
    space = _gymnasium_space(leaf)
    set_names(space, leaf.names)
    return space


def _gymnasium_space(leaf: Leaf) -> gym.Space[Any]:
    match leaf.kind:
        case "box":
            low, high = np.array(leaf.low), np.array(leaf.high)
            return gym.spaces.Box(low, high, leaf.shape, leaf.dtype.type)
        case "discrete":
            return gym.spaces.Discrete(leaf.n, start=leaf.start)
        case "multi_discrete":
            return gym.spaces.MultiDiscrete(np.array(leaf.nvec))
        case "multi_binary":
            return gym.spaces.MultiBinary(leaf.n)
