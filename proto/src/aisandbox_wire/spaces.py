"""The spaces of tensor.proto as leaves: what the tensors of a value must look like.

Owns the rules a space and its values keep. Must not know Gymnasium (see :mod:`aisandbox_wire.gymnasium_spaces`) or any
service.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from aisandbox.v1 import tensor_pb2 as pb

from aisandbox_wire.errors import InvalidSpace, InvalidValue
from aisandbox_wire.tensors import WIRE_DTYPES, Array, shape_problem, wire_name

Kind = Literal["box", "discrete", "multi_discrete", "multi_binary"]

_INT64 = WIRE_DTYPES[pb.DATA_TYPE_INT64]
_INT8 = WIRE_DTYPES[pb.DATA_TYPE_INT8]
MOST_SPACE_ELEMENTS = 2**24
"""Numbers in one value of a space, over all leaves: an image of 4096 x 4096, 64 MiB as float32."""
MOST_LEAVES = 1024
"""Entries of a DictSpace."""
NO_BOUND = 1e18
"""From this magnitude on a bound of a box of floating-point numbers counts as none: programs write float.MaxValue,
double.MaxValue or long.MaxValue where they mean infinity."""
_SMALL = 8192
_FEW = 32
"""Up to so many numbers, Python adds and compares its own in less time than NumPy needs to begin."""


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """One leaf of a space: one tensor of every value.

    ``key`` is the entry's key in a Dict and "" for a plain space. ``dtype`` and ``shape`` are those of the tensor of
    one value. ``low`` and ``high`` have that shape and dtype: the bounds of a box (the infinities, or the limits of
    an integer type, where there are none), and None for the other kinds. ``n`` and ``start`` belong to a discrete
    leaf (``n`` also to multi_binary), ``nvec`` (int64, shape [len]) to a multi_discrete one. ``names``: as declared; of
    the elements in C order, and of a discrete leaf of its numbers; empty if there are none.
    """

    key: str
    kind: Kind
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    low: Array | None = None
    high: Array | None = None
    n: int = 0
    start: int = 0
    nvec: Array | None = None
    names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """The number of elements of one value."""
        return math.prod(self.shape)

    def element_name(self, index: int) -> str:
        """The declared name of element ``index`` (in C order) of a value; empty without one."""
        return self.names[index] if self.names and self.kind != "discrete" else ""

    @property
    def bounded(self) -> bool:
        """Whether every element has bounds, each of a magnitude under NO_BOUND; true for all kinds but box."""
        if self.low is None or self.high is None or self.dtype.kind != "f":
            return True
        return has_bounds(self.low, self.high)

    def check_batch(self, array: Array, n: int, field: str) -> None:
        """Raise InvalidValue, naming ``field`` and the rule, unless ``array`` is a batch of ``n`` values.

        Checks shape [n, *shape], dtype, that floating-point elements are finite, and the range of the discrete kinds.
        The bounds of a box are :meth:`check_bounds`'s: an observation a hair outside them is no reason to stop.
        """
        if array.shape != (n, *self.shape):
            raise InvalidValue(field, f"has shape {list(array.shape)}, expected {[n, *self.shape]}")
        if array.dtype != self.dtype:
            raise InvalidValue(field, f"has dtype {array.dtype.name}, expected {self.dtype.name}")
        self.check_elements(array, field)

    def check_elements(self, array: Array, field: str) -> None:
        """The part of :meth:`check_batch` that looks at the elements; the dtype must be right already."""
        if self.kind == "box":
            if self.dtype.kind == "f" and not all_finite(array):
                raise InvalidValue(field, self._place(array, ~np.isfinite(array), "is not finite"))
        elif self.kind == "discrete":
            self._check_range(array, self.start, self.start + self.n - 1, field)
        elif self.kind == "multi_binary":
            self._check_range(array, 0, 1, field)
        else:
            assert self.nvec is not None  # noqa: S101 -- a multi_discrete leaf always has it
            outside = (array < 0) | (array >= self.nvec)
            if outside.any():
                raise InvalidValue(field, self._place(array, outside, f"is outside 0 <= value < {_few(self.nvec)}"))

    def check_bounds(self, array: Array, field: str) -> None:
        """Raise InvalidValue, naming ``field``, if an element of a batch lies outside its box."""
        if self.low is None or self.high is None:
            return
        outside = (array < self.low) | (array > self.high)
        if outside.any():
            raise InvalidValue(field, self._place(array, outside, "is outside the bounds of its box"))

    def _check_range(self, array: Array, low: int, high: int, field: str) -> None:
        if array.size <= _FEW:
            values = array.ravel().tolist()
            inside = not values or (low <= min(values) and max(values) <= high)
        else:
            inside = bool(array.min() >= low and array.max() <= high)
        if not inside:
            outside = (array < low) | (array > high)
            raise InvalidValue(field, self._place(array, outside, f"is outside {low} .. {high}"))

    def _place(self, array: Array, wrong: Array, rule: str) -> str:
        first = int(np.flatnonzero(wrong)[0])
        return _place(array, wrong, rule, self.element_name(first % max(self.size, 1)))


def has_bounds(low: Array, high: Array) -> bool:
    """Whether the bounds of a box are all of a magnitude under NO_BOUND."""
    return bool((np.abs(distinct_bounds(low)) < NO_BOUND).all() and (np.abs(distinct_bounds(high)) < NO_BOUND).all())


def distinct_bounds(bounds: Array) -> Array:
    """The bounds of a box, or only the one of them if all elements share it: a space of any size is looked at for free.

    Of shape [] then.
    """
    return bounds.reshape(-1)[0:1].reshape(()) if bounds.size and not any(bounds.strides) else bounds


def cast_exactly(value: Any, dtype: np.dtype[Any], field: str) -> Array:
    """``value`` as an array of ``dtype``: the same array if it has it.

    Raises InvalidValue, naming ``field``, for an element that an integer ``dtype`` cannot hold (2.5, NaN or 256 as
    uint8), and for what are no numbers. Floating-point numbers may be rounded.
    """
    array = np.asarray(value)
    if array.dtype == dtype:
        return array
    if array.dtype.kind not in "biuf":
        raise InvalidValue(field, f"has dtype {array.dtype}; its space has {dtype.name}")
    with np.errstate(invalid="ignore", over="ignore"):
        cast = array.astype(dtype)
    if dtype.kind != "f":
        # Compared by type too: int64's largest number is rounded up where it is compared with a float64.
        wrong = (cast != array) | ((cast < 0) != (array < 0))
        if wrong.any():
            raise InvalidValue(field, _place(array, wrong, f"is no {dtype.name}, the dtype of its space"))
    return cast


def all_finite(array: Array) -> bool:
    """Whether no element is NaN or infinite.

    The sum of a few numbers, and the dot product of a small array with itself, carry every NaN and infinity in a
    fraction of the time of ``isfinite(array).all()``; only if that is not finite (it may overflow) are the elements
    examined.
    """
    if array.size <= _FEW:
        if math.isfinite(sum(array.ravel().tolist())):
            return True
    elif array.size <= _SMALL and array.flags.c_contiguous:
        flat = array.ravel()
        if math.isfinite(np.vdot(flat, flat)):  # which does not warn of an overflow, as flat.dot does
            return True
    return bool(np.isfinite(array).all())


def leaves(space: pb.Space, field: str = "space") -> tuple[Leaf, ...]:
    """The leaves of a space, in the order in which their tensors travel.

    Raises InvalidSpace, naming the field and the rule, if the space breaks a rule of tensor.proto.
    """
    if space.WhichOneof("kind") != "dict":
        return (_leaf("", space, field),)
    entries = space.dict.entries
    if not 1 <= len(entries) <= MOST_LEAVES:
        rule = f"a DictSpace has at least one entry and at most {MOST_LEAVES:,}; this one has {len(entries):,}"
        raise InvalidSpace(f"{field}.dict.entries", rule)
    found: dict[str, Leaf] = {}
    elements = 0
    for index, entry in enumerate(entries):
        place = f"{field}.dict.entries[{index}]"
        if not entry.key:
            raise InvalidSpace(f"{place}.key", "a key is not empty")
        if entry.key in found:
            raise InvalidSpace(f"{place}.key", f"{entry.key!r} is there twice; keys are unique")
        if entry.space.WhichOneof("kind") == "dict":
            raise InvalidSpace(f"{place}.space", "a DictSpace holds no other DictSpace")
        leaf = found[entry.key] = _leaf(entry.key, entry.space, f"{place}.space")
        elements += leaf.size
        if elements > MOST_SPACE_ELEMENTS:
            raise InvalidSpace(f"{place}.space", f"with it the space has more than {MOST_SPACE_ELEMENTS:,} numbers")
    return tuple(found.values())


def same_form(one: pb.Space, other: pb.Space) -> bool:
    """Whether networks for one of the spaces fit the other: bounds, names and the order of a Dict's entries may differ.

    Raises InvalidSpace.
    """
    return _form(one) == _form(other)


def _form(space: pb.Space) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for leaf in leaves(space):
        counts = () if leaf.nvec is None else tuple(leaf.nvec.tolist())
        found.append((leaf.key, leaf.kind, leaf.dtype.str, leaf.shape, leaf.n, leaf.start, counts))
    return sorted(found, key=lambda form: str(form[0]))


def _leaf(key: str, space: pb.Space, field: str) -> Leaf:
    match space.WhichOneof("kind"):
        case "box":
            return _box(key, space.box, f"{field}.box")
        case "discrete":
            discrete = space.discrete
            _at_least_one(discrete.n, f"{field}.discrete.n")
            _check_names(discrete.names, discrete.n, f"{field}.discrete.names")
            if discrete.start + discrete.n - 1 > 2**63 - 1:
                raise InvalidSpace(f"{field}.discrete", "start + n - 1 does not fit into int64")
            names = tuple(discrete.names)
            return Leaf(key, "discrete", _INT64, (), n=discrete.n, start=discrete.start, names=names)
        case "multi_discrete":
            counts = space.multi_discrete.n
            if not counts:
                raise InvalidSpace(f"{field}.multi_discrete.n", "has at least one dimension")
            nvec = np.array(counts, np.int64)
            if (nvec < 1).any():
                index = int(np.flatnonzero(nvec < 1)[0])
                _at_least_one(counts[index], f"{field}.multi_discrete.n[{index}]")
            _check_names(space.multi_discrete.names, len(counts), f"{field}.multi_discrete.names")
            names = tuple(space.multi_discrete.names)
            return Leaf(key, "multi_discrete", _INT64, (len(counts),), nvec=nvec, names=names)
        case "multi_binary":
            bits = space.multi_binary.n
            _at_least_one(bits, f"{field}.multi_binary.n")
            if bits > MOST_SPACE_ELEMENTS:
                raise InvalidSpace(f"{field}.multi_binary.n", f"{bits} is more than {MOST_SPACE_ELEMENTS:,}")
            _check_names(space.multi_binary.names, bits, f"{field}.multi_binary.names")
            return Leaf(key, "multi_binary", _INT8, (bits,), n=bits, names=tuple(space.multi_binary.names))
        case _:
            raise InvalidSpace(field, "no kind is set; one of box, discrete, multi_discrete, multi_binary or dict is")


def _box(key: str, box: pb.Box, field: str) -> Leaf:
    dtype = WIRE_DTYPES.get(box.dtype)
    if dtype is None or dtype.kind == "b":
        raise InvalidSpace(
            f"{field}.dtype", f"{wire_name(box.dtype)} is not a dtype of a Box: use float32, float64 or an integer type"
        )
    if problem := shape_problem(box.shape, 1):
        raise InvalidSpace(f"{field}.shape", problem)
    shape = tuple(box.shape)
    size = math.prod(shape)
    if size > MOST_SPACE_ELEMENTS:
        raise InvalidSpace(f"{field}.shape", f"{list(shape)} has more than {MOST_SPACE_ELEMENTS:,} elements")
    low = _bounds(box.low, shape, dtype, -math.inf, f"{field}.low")
    high = _bounds(box.high, shape, dtype, math.inf, f"{field}.high")
    if (distinct_bounds(low) > distinct_bounds(high)).any():
        raise InvalidSpace(field, "a lower bound is greater than its upper bound")
    _check_names(box.names, size, f"{field}.names")
    return Leaf(key, "box", dtype, shape, low=low, high=high, names=tuple(box.names))


def _bounds(values: Any, shape: tuple[int, ...], dtype: np.dtype[Any], missing: float, field: str) -> Array:
    size = math.prod(shape)
    if len(values) not in (0, 1, size):
        raise InvalidSpace(field, f"has {len(values)} numbers, expected none, 1 or one for each of the {size} elements")
    bounds = np.array(values if len(values) else [missing], np.float64)
    if np.isnan(bounds).any():
        raise InvalidSpace(field, "a bound must not be NaN")
    if dtype.kind == "f":
        # An overflow to infinity (a float64 bound of a float32 box) means what it should: no bound.
        with np.errstate(over="ignore"):
            cast = bounds.astype(dtype)
    else:
        cast = _integers(bounds, dtype)
    shaped = cast.reshape(shape) if cast.size == size else np.broadcast_to(cast.reshape(()), shape)
    shaped.flags.writeable = False
    return shaped


def _integers(bounds: Array, dtype: np.dtype[Any]) -> Array:
    info = np.iinfo(dtype)
    result = np.empty(bounds.shape, dtype)
    inside = (bounds > float(info.min)) & (bounds < float(info.max))
    result[inside] = bounds[inside].astype(dtype)
    result[bounds <= float(info.min)] = info.min
    result[bounds >= float(info.max)] = info.max
    return result


def _at_least_one(value: int, field: str) -> None:
    if value < 1:
        raise InvalidSpace(field, f"must be at least 1, got {value}")


def _check_names(names: Any, count: int, field: str) -> None:
    if len(names) not in (0, count):
        raise InvalidSpace(field, f"has {len(names)} names, expected none or one for each of {count}")


def _few(numbers: Array) -> str:
    shown = ", ".join(map(str, numbers[:_FEW].tolist()))
    return f"[{shown}{', ...' if numbers.size > _FEW else ''}]"


def _place(array: Array, wrong: Array, rule: str, name: str = "") -> str:
    index = tuple(int(i) for i in np.argwhere(wrong)[0])
    return f"element {list(index)}{f' ({name[:100]!r})' if name else ''} is {array[index]}, which {rule}"
