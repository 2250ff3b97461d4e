"""Spaces as leaves, and the rules their values keep."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_wire.errors import InvalidSpace, InvalidValue
from aisandbox_wire.space_builders import box, discrete, multi_binary, multi_discrete
from aisandbox_wire.space_words import form_of
from aisandbox_wire.spaces import all_finite, leaves, same_form

F32 = pb.DATA_TYPE_FLOAT32
BOX = pb.Space(box=pb.Box(dtype=F32, shape=[2], low=[-1], high=[1, 2]))
DISCRETE = pb.Space(discrete=pb.Discrete(n=3, start=-1))
MULTI = pb.Space(multi_discrete=pb.MultiDiscrete(n=[2, 3]))
BITS = pb.Space(multi_binary=pb.MultiBinary(n=2))


def named(**spaces: pb.Space) -> pb.Space:
    return pb.Space(dict=pb.DictSpace(entries=[pb.DictEntry(key=key, space=space) for key, space in spaces.items()]))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (BOX, box([2], -9, 9, names=["x", "y"]), True),
        (BOX, box([3]), False),
        (BOX, box([2], dtype="float64"), False),
        (DISCRETE, discrete(3, start=-1, names=["a", "b", "c"]), True),
        (DISCRETE, discrete(3), False),
        (DISCRETE, MULTI, False),
        (MULTI, multi_discrete([3, 2]), False),
        (BITS, multi_binary(2), True),
        (BITS, multi_binary(3), False),
        (named(a=BOX, b=BITS), named(b=BITS, a=BOX), True),
        (named(a=BOX, b=BITS), named(a=BOX, c=BITS), False),
        (named(a=BOX), BOX, False),
    ],
)
def test_spaces_of_the_same_form_differ_in_bounds_and_names_at_most(one: pb.Space, other: pb.Space, same: bool) -> None:
    assert same_form(one, other) == same


@pytest.mark.parametrize(
    ("space", "text"),
    [
        (named(a=BOX, b=BITS), "'a': Box float32 [2], 'b': MultiBinary int8 [2]"),
        (DISCRETE, "Discrete with 3 values from -1"),
        (MULTI, "MultiDiscrete [2, 3]"),
    ],
)
def test_form_of_a_space_has_kind_dtype_and_shape(space: pb.Space, text: str) -> None:
    assert form_of(space) == text


def test_box_has_one_leaf_with_its_bounds() -> None:
    (leaf,) = leaves(BOX)
    assert (leaf.key, leaf.kind, leaf.dtype.name, leaf.shape, leaf.size) == ("", "box", "float32", (2,), 2)
    assert leaf.low is not None
    assert leaf.high is not None
    assert leaf.low.tolist() == [-1, -1]
    assert leaf.high.tolist() == [1, 2]
    assert leaf.bounded


def test_box_without_bounds_is_unbounded() -> None:
    (leaf,) = leaves(pb.Space(box=pb.Box(dtype=F32, shape=[3])))
    assert leaf.low is not None
    assert leaf.low.tolist() == [-math.inf] * 3
    assert not leaf.bounded


def test_bounds_of_an_integer_box_stay_in_its_type() -> None:
    (wide,) = leaves(pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_INT64, low=[-math.inf], high=[2.0**63])))
    assert (int(wide.low), int(wide.high)) == (-(2**63), 2**63 - 1)  # type: ignore[arg-type]
    (pixels,) = leaves(pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_UINT8, shape=[2], low=[0], high=[7, 255])))
    assert pixels.high.tolist() == [7, 255]  # type: ignore[union-attr]


def test_dict_has_the_leaves_of_its_entries_in_their_order() -> None:
    found = leaves(named(z=BOX, a=DISCRETE, m=MULTI, b=BITS))
    assert [(leaf.key, leaf.kind, leaf.dtype.name, leaf.shape) for leaf in found] == [
        ("z", "box", "float32", (2,)),
        ("a", "discrete", "int64", ()),
        ("m", "multi_discrete", "int64", (2,)),
        ("b", "multi_binary", "int8", (2,)),
    ]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (pb.Space(), "space: no kind is set"),
        (pb.Space(box=pb.Box(shape=[1])), "space.box.dtype: "),
        (pb.Space(box=pb.Box(dtype=pb.DATA_TYPE_BOOL, shape=[1])), "space.box.dtype: "),
        (pb.Space(box=pb.Box(dtype=F32, shape=[0])), "space.box.shape: "),
        (pb.Space(box=pb.Box(dtype=F32, shape=[2**40, 2**40])), "space.box.shape: "),
        (pb.Space(box=pb.Box(dtype=F32, shape=[3], low=[0, 0])), "space.box.low: has 2 numbers"),
        (pb.Space(box=pb.Box(dtype=F32, shape=[3], high=[math.nan])), "space.box.high: .* must not be NaN"),
        (pb.Space(box=pb.Box(dtype=F32, shape=[1], low=[2], high=[1])), "space.box: a lower bound"),
        (pb.Space(box=pb.Box(dtype=F32, shape=[2], names=["x"])), "space.box.names: has 1 names"),
        (pb.Space(discrete=pb.Discrete()), "space.discrete.n: must be at least 1, got 0"),
        (pb.Space(discrete=pb.Discrete(n=2**63 - 1, start=2)), "space.discrete: start"),
        (pb.Space(multi_discrete=pb.MultiDiscrete()), "space.multi_discrete.n: has at least one"),
        (
            pb.Space(multi_discrete=pb.MultiDiscrete(n=[2, 0])),
            r"space.multi_discrete.n\[1\]: must be at least 1, got 0",
        ),
        (pb.Space(multi_binary=pb.MultiBinary(n=-1)), "space.multi_binary.n: must be at least 1, got -1"),
        (named(), "space.dict.entries: .* at least one"),
        (named(a=named(b=BOX)), r"space.dict.entries\[0\].space: .* no other DictSpace"),
        (
            pb.Space(dict=pb.DictSpace(entries=[pb.DictEntry(key="a", space=BOX)] * 2)),
            r"space.dict.entries\[1\].key: 'a' is there twice",
        ),
        (pb.Space(dict=pb.DictSpace(entries=[pb.DictEntry(space=BOX)])), r"entries\[0\].key: a key is not empty"),
        (
            named(a=pb.Space(discrete=pb.Discrete(n=0))),
            r"space.dict.entries\[0\].space.discrete.n: must be at least 1, got 0",
        ),
    ],
)
def test_space_that_breaks_a_rule_is_refused(space: pb.Space, message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        leaves(space)


@pytest.mark.parametrize(
    ("space", "batch", "message"),
    [
        (BOX, np.zeros((3, 2), np.float32), r"x: has shape \[3, 2\], expected \[2, 2\]"),
        (BOX, np.zeros((2, 2), np.float64), "x: has dtype float64, expected float32"),
        (BOX, np.array([[0, 0], [math.nan, 0]], np.float32), r"x: element \[1, 0\] is nan, which is not finite"),
        (BOX, np.array([[0, math.inf], [0, 0]], np.float32), r"x: element \[0, 1\] is inf"),
        (DISCRETE, np.array([0, 2]), r"x: element \[1\] is 2, which is outside -1 .. 1"),
        (DISCRETE, np.array([-2, 0]), r"x: element \[0\] is -2"),
        (MULTI, np.array([[1, 2], [2, 0]]), r"x: element \[1, 0\] is 2, which is outside 0 <= value < \[2, 3\]"),
        (MULTI, np.array([[1, 2], [0, -1]]), r"x: element \[1, 1\] is -1"),
        (BITS, np.array([[0, 1], [2, 0]], np.int8), r"x: element \[1, 0\] is 2"),
    ],
)
def test_batch_outside_its_space_is_refused(space: pb.Space, batch: np.ndarray, message: str) -> None:
    (leaf,) = leaves(space)
    with pytest.raises(InvalidValue, match=message):
        leaf.check_batch(batch, 2, "x")


@pytest.mark.parametrize(
    ("space", "batch"),
    [
        (BOX, np.array([[-5, 9], [0, 0]], np.float32)),
        (DISCRETE, np.array([-1, 1])),
        (MULTI, np.array([[0, 0], [1, 2]])),
        (BITS, np.array([[0, 1], [1, 0]], np.int8)),
    ],
)
def test_batch_of_the_space_is_accepted(space: pb.Space, batch: np.ndarray) -> None:
    (leaf,) = leaves(space)
    leaf.check_batch(batch, 2, "x")


@pytest.mark.parametrize(
    ("space", "batch", "element"),
    [
        (
            box([2], -1, 1, names=["position", "speed"]),
            np.array([[0, 0], [0, math.nan]], np.float32),
            "[1, 1] ('speed')",
        ),
        (box([2, 1], names=["a", "b"]), np.array([[[0], [math.inf]]], np.float32), "[0, 1, 0] ('b')"),
        (multi_discrete([2, 3], names=["door", "room"]), np.array([[2, 0]]), "[0, 0] ('door')"),
        (multi_binary(2, names=["lamp", "horn"]), np.array([[0, 3]], np.int8), "[0, 1] ('horn')"),
        (discrete(2, names=["left", "right"]), np.array([2]), "[0] is 2"),
    ],
)
def test_refusal_names_the_element_as_it_was_declared(space: pb.Space, batch: np.ndarray, element: str) -> None:
    (leaf,) = leaves(space)
    with pytest.raises(InvalidValue, match=re.escape(f"element {element}")):
        leaf.check_batch(batch, len(batch), "x")


def test_action_outside_its_bounds_is_named() -> None:
    (leaf,) = leaves(box([2], -1, 1, names=["throttle", "steering"]))
    with pytest.raises(InvalidValue, match=r"element \[0, 1\] \('steering'\) is 2.0, which is outside the bounds"):
        leaf.check_bounds(np.array([[0, 2]], np.float32), "step.actions")


def test_bounds_of_a_box_are_checked_separately() -> None:
    (leaf,) = leaves(BOX)
    leaf.check_bounds(np.array([[-1, 2]], np.float32), "x")
    with pytest.raises(InvalidValue, match=r"x: element \[0, 0\] is 1.5, which is outside the bounds"):
        leaf.check_bounds(np.array([[1.5, 2]], np.float32), "x")


@pytest.mark.parametrize(("dtype", "number"), [(np.float32, 3e38), (np.float64, 1e308)])
@pytest.mark.parametrize("size", [1, 30, 100, 20_000])
def test_finite_numbers_are_recognised_even_where_sums_and_squares_overflow(
    size: int, dtype: type[np.floating[Any]], number: float
) -> None:
    array = np.full(size, number, dtype)
    assert all_finite(array)
    for bad in (math.nan, math.inf, -math.inf):
        array[size // 2] = bad
        assert not all_finite(array)
    array[:2] = [math.inf, -math.inf][:size]
    assert not all_finite(array)
    assert not all_finite(array.reshape(1, -1).T)
