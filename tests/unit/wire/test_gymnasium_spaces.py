"""Gymnasium's spaces on the wire."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from aisandbox_wire.errors import InvalidSpace
from aisandbox_wire.gymnasium_spaces import join, names_of, space_from_proto, space_to_proto, split
from aisandbox_wire.space_builders import box, dict_space, discrete, multi_binary, multi_discrete
from aisandbox_wire.spaces import leaves, same_form
from gymnasium import spaces

SPACES: list[gym.Space[Any]] = [
    spaces.Box(-1, 1, (3,), np.float32),
    spaces.Box(-np.inf, np.inf, (2, 2), np.float64),
    spaces.Box(np.array([-1.5, -np.inf], np.float32), np.array([np.inf, 2.5], np.float32)),
    spaces.Box(0, 255, (4, 4, 3), np.uint8),
    spaces.Box(-3, 3, (), np.int32),
    spaces.Box(-(2**63), 2**63 - 1, (2,), np.int64),
    spaces.Discrete(5),
    spaces.Discrete(3, start=-1),
    spaces.MultiDiscrete([2, 5]),
    spaces.MultiBinary(4),
    spaces.Dict([("z", spaces.Box(0, 1, (2,), np.float32)), ("a", spaces.Discrete(2))]),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_space_survives_the_wire(space: gym.Space[Any]) -> None:
    back = space_from_proto(space_to_proto(space))
    assert back == space
    assert same_form(space_to_proto(back), space_to_proto(space))
    if isinstance(space, spaces.Dict):
        assert isinstance(back, spaces.Dict)
        assert list(back.spaces) == list(space.spaces)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_leaves_of_samples_keep_the_rules(space: gym.Space[Any]) -> None:
    batch = gym.vector.utils.batch_space(space, 3)
    value = batch.sample()
    arrays = split(space, value)
    found = leaves(space_to_proto(space))
    assert len(arrays) == len(found)
    for leaf, array in zip(found, arrays, strict=True):
        leaf.check_batch(array, 3, "x")
        leaf.check_bounds(array, "x")
    back = join(space, arrays)
    assert batch.contains(back)


def test_bounds_that_are_all_the_same_travel_as_one_number() -> None:
    box = space_to_proto(spaces.Box(-2, np.inf, (100, 100), np.float32)).box
    assert list(box.low) == [-2.0]
    assert list(box.high) == []


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Text(3), "Text has no wire format"),
        (spaces.Tuple([spaces.Discrete(2)]), "Tuple has no wire format"),
        (spaces.Dict(a=spaces.Dict(b=spaces.Discrete(2))), r"space\['a'\]: a Dict inside a Dict"),
        (spaces.Dict(a=spaces.Text(3)), r"space\['a'\]: Text"),
        (spaces.MultiDiscrete([2, 2], start=[1, 0]), "does not start at 0"),
        (spaces.MultiDiscrete(np.array([[2, 2]])), "flatten it"),
        (spaces.MultiBinary([2, 2]), "flatten it"),
        (spaces.Box(0, 2**64 - 1, (1,), np.uint64), "uint64 has no wire format"),
        (spaces.Dict([(1, spaces.Discrete(2))]), "keys of a Dict are texts"),  # type: ignore[list-item]
        (spaces.Dict([("", spaces.Discrete(2))]), "a key is not empty"),
        (spaces.Dict(), "at least one entry"),
    ],
)
def test_space_without_a_form_on_the_wire_is_refused(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(InvalidSpace, match=message):
        space_to_proto(space)


NAMED = [
    box([2], names=["position", "speed"]),
    discrete(3, start=1, names=["left", "stay", "right"]),
    multi_discrete([2, 3], names=["door", "room"]),
    multi_binary(2, names=["lamp", "horn"]),
]


@pytest.mark.parametrize("space", [*NAMED, dict_space({f"k{i}": space for i, space in enumerate(NAMED)})])
def test_names_of_elements_survive_gymnasium(space: Any) -> None:
    assert space_to_proto(space_from_proto(space)) == space
    assert space_to_proto(pickle.loads(pickle.dumps(space_from_proto(space)))) == space
    assert space_to_proto(copy.deepcopy(space_from_proto(space))) == space


def test_space_without_names_has_none() -> None:
    assert list(space_to_proto(spaces.Box(0, 1, (2,), np.float32)).box.names) == []
    assert names_of(spaces.Discrete(3)) == ()
