"""Functions that make spaces."""

from __future__ import annotations

import numpy as np
import pytest
from aisandbox.v1 import tensor_pb2 as pb
from aisandbox_wire import InvalidSpace, InvalidTensor, box, dict_space, discrete, leaves, multi_binary, multi_discrete


def test_box_has_its_bounds_for_all_or_for_each_element() -> None:
    (leaf,) = leaves(box([2], low=-1, high=[1, 2], names=["x", "y"]))
    assert (leaf.kind, leaf.shape, leaf.dtype.name) == ("box", (2,), "float32")
    assert leaf.low is not None
    assert leaf.high is not None
    assert leaf.low.tolist() == [-1, -1]
    assert leaf.high.tolist() == [1, 2]


def test_box_without_bounds_is_unbounded() -> None:
    (leaf,) = leaves(box([3, 2], dtype=np.float64))
    assert (leaf.shape, leaf.dtype.name, leaf.bounded) == ((3, 2), "float64", False)


def test_spaces_are_those_of_the_contract() -> None:
    assert discrete(3, start=-1, names=["a", "b", "c"]) == pb.Space(
        discrete=pb.Discrete(n=3, start=-1, names=["a", "b", "c"])
    )
    assert multi_discrete([2, 3]) == pb.Space(multi_discrete=pb.MultiDiscrete(n=[2, 3]))
    assert multi_binary(4) == pb.Space(multi_binary=pb.MultiBinary(n=4))
    assert [leaf.key for leaf in leaves(dict_space({"b": discrete(2), "a": box([1])}))] == ["b", "a"]


def test_space_that_breaks_a_rule_is_refused() -> None:
    with pytest.raises(InvalidSpace, match="names"):
        box([2], names=["x"])
    with pytest.raises(InvalidSpace, match="at least 1"):
        discrete(0)
    with pytest.raises(InvalidSpace, match="no other DictSpace"):
        dict_space({"a": dict_space({"b": discrete(2)})})
    with pytest.raises(InvalidTensor, match="no wire format"):
        box([1], dtype=np.complex64)
