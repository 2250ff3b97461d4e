from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from aisandbox.v1 import tensor_pb2
from aisandbox_inference.errors import InvalidField, TooManyObservations
from aisandbox_inference.observations import Observations
from aisandbox_wire.errors import WireError
from aisandbox_wire.spaces import leaves
from aisandbox_wire.tensors import encode_tensor
from onnx_policies import box, dictionary, discrete, image, multi_binary, multi_discrete

FLOAT64, INT32 = tensor_pb2.DATA_TYPE_FLOAT64, tensor_pb2.DATA_TYPE_INT32
EVERYTHING = dictionary(
    position=box(2), camera=image(1, 2, 1), room=discrete(3, start=5), knobs=multi_discrete(2, 4), bits=multi_binary(2)
)
GOOD = [0.5, -0.5, 0, 255, 7, 1, 3, 0, 1]


def observations(space: tensor_pb2.Space) -> Observations:
    return Observations(leaves(space))


@pytest.mark.parametrize("count", [4, 24, 25, 1000])
def test_numbers_of_a_plain_box_become_one_float32_row(count: int) -> None:
    numbers = [i / 8 for i in range(count)]
    feed = observations(box(count)).from_numbers(numbers)
    assert feed["observation"].dtype == np.float32
    np.testing.assert_array_equal(feed["observation"], [numbers])


def test_numbers_are_taken_leaf_after_leaf_in_c_order() -> None:
    feed = observations(EVERYTHING).from_numbers(GOOD)
    expected: dict[str, Any] = {
        "observation.position": [[0.5, -0.5]],
        "observation.camera": [[[[0], [255]]]],
        "observation.room": [7],
        "observation.knobs": [[1, 3]],
        "observation.bits": [[0, 1]],
    }
    assert list(feed) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(feed[name], value)
        assert feed[name].dtype == (np.uint8 if name.endswith("camera") else np.float32)


def test_image_alone_is_fed_as_uint8() -> None:
    feed = observations(image(2, 2, 1)).from_numbers([0, 1, 2, 255])
    assert feed["observation"].dtype == np.uint8
    assert feed["observation"].shape == (1, 2, 2, 1)


@pytest.mark.parametrize("count", [0, 3, 5, 100])
def test_numbers_of_another_length_are_refused(count: int) -> None:
    with pytest.raises(InvalidField, match=f"observation: has {count} numbers, and the observation space has 4"):
        observations(box(4)).from_numbers([0.0] * count)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("size", [3, 100])
def test_numbers_that_are_not_finite_are_refused(bad: float, size: int) -> None:
    with pytest.raises(InvalidField, match=r"number 1 is .*, and every number must be finite"):
        observations(box(size)).from_numbers([0.0, bad, *[0.0] * (size - 2)])


def test_numbers_outside_a_box_are_accepted() -> None:
    large = 3e38  # its square is not finite, which must not be mistaken for it
    assert observations(box(2)).from_numbers([large, -5.0])["observation"].max() == np.float32(large)


@pytest.mark.parametrize(
    ("place", "value", "rule"),
    [
        (3, 256, "number 3 .of 'camera'. is 256, and must be a whole number from 0 to 255"),
        (2, -1, "number 2 .of 'camera'. is -1, and must be a whole number from 0 to 255"),
        (2, 0.5, "number 2 .of 'camera'. is 0.5, and must be a whole number from 0 to 255"),
        (4, 4, "number 4 .of 'room'. is 4, and must be a whole number from 5 to 7"),
        (4, 8, "number 4 .of 'room'. is 8, and must be a whole number from 5 to 7"),
        (4, 5.5, "must be a whole number from 5 to 7"),
        (6, 4, "number 6 .of 'knobs'. is 4, and must be a whole number from 0 to 3"),
        (5, -1, "number 5 .of 'knobs'. is -1, and must be a whole number from 0 to 1"),
        (8, 2, "number 8 .of 'bits'. is 2, and must be a whole number from 0 to 1"),
    ],
)
def test_numbers_out_of_range_are_refused(place: int, value: float, rule: str) -> None:
    numbers = [float(number) for number in GOOD]
    numbers[place] = value
    with pytest.raises(InvalidField, match=rule) as caught:
        observations(EVERYTHING).from_numbers(numbers)
    assert caught.value.field == "observation"


def test_numbers_of_an_integer_box_must_fit_its_type() -> None:
    space = box(1, low=-10, high=10, dtype=tensor_pb2.DATA_TYPE_INT8)
    assert observations(space).from_numbers([-128.0])["observation"].dtype == np.float32
    with pytest.raises(InvalidField, match="whole number from -128 to 127"):
        observations(space).from_numbers([128.0])


def tensors(*arrays: np.ndarray[Any, Any]) -> list[tensor_pb2.Tensor]:
    return [encode_tensor(array) for array in arrays]


def everything(count: int, dtype: type | None = None) -> list[np.ndarray[Any, Any]]:
    own = [np.float32, np.uint8, np.int64, np.int64, np.int8]
    shapes: list[tuple[int, ...]] = [(2,), (1, 2, 1), (), (2,), (2,)]
    fills = [0.5, 200, 6, 1, 1]
    return [np.full((count, *shape), fill, dtype or kind) for shape, fill, kind in zip(shapes, fills, own, strict=True)]


@pytest.mark.parametrize("dtype", [None, np.float32])
def test_tensors_may_have_their_own_dtype_or_float32(dtype: type | None) -> None:
    feed, count = observations(EVERYTHING).from_tensors(tensors(*everything(3, dtype)), 10)
    assert count == 3
    for array, (name, value) in zip(everything(3), feed.items(), strict=True):
        np.testing.assert_array_equal(value, array)
        assert value.dtype == (np.uint8 if name.endswith("camera") else np.float32)


@pytest.mark.parametrize("wrong", [0, 1, 2, 3, 4])
def test_tensor_of_another_dtype_is_refused_by_index(wrong: int) -> None:
    arrays = everything(2)
    arrays[wrong] = arrays[wrong].astype(np.uint16)
    with pytest.raises(WireError, match=rf"observations\[{wrong}\]: has dtype uint16"):
        observations(EVERYTHING).from_tensors(tensors(*arrays), 10)


@pytest.mark.parametrize("dtype", [None, np.float32])
@pytest.mark.parametrize("wrong", [0, 1, 2, 3, 4])
def test_tensor_of_another_shape_is_refused_by_index(wrong: int, dtype: type | None) -> None:
    arrays = everything(2, dtype)
    arrays[wrong] = np.concatenate([arrays[wrong], arrays[wrong]])
    with pytest.raises((WireError, InvalidField), match=r"observations\[\d\]: has shape"):
        observations(EVERYTHING).from_tensors(tensors(*arrays), 10)


@pytest.mark.parametrize("dtype", [None, np.float32])
@pytest.mark.parametrize(("leaf", "value"), [(2, 8), (3, 9), (4, 2)])
def test_tensor_out_of_range_is_refused_by_index(leaf: int, value: int, dtype: type | None) -> None:
    arrays = everything(2, dtype)
    arrays[leaf][-1] = value
    with pytest.raises((WireError, InvalidField), match=rf"observations\[{leaf}\]"):
        observations(EVERYTHING).from_tensors(tensors(*arrays), 10)


@pytest.mark.parametrize("leaf", [0, 2])
def test_tensor_that_is_not_finite_is_refused(leaf: int) -> None:
    arrays = everything(2, np.float32)
    arrays[leaf][-1] = np.nan
    with pytest.raises((WireError, InvalidField), match=rf"observations\[{leaf}\].*finite"):
        observations(EVERYTHING).from_tensors(tensors(*arrays), 10)


def test_float64_tensors_become_float32_if_they_fit() -> None:
    taker = observations(box(1, dtype=FLOAT64))
    feed, _ = taker.from_tensors(tensors(np.array([[0.1]])), 10)
    assert feed["observation"].dtype == np.float32
    with pytest.raises(InvalidField, match="float32 cannot hold"):
        taker.from_tensors(tensors(np.array([[1e300]])), 10)


def test_tensors_of_another_number_are_refused() -> None:
    with pytest.raises(InvalidField, match=r"has 1 tensors, and the observation space has 5 leaves: observation\.pos"):
        observations(EVERYTHING).from_tensors(tensors(np.zeros((1, 2), np.float32)), 10)
    with pytest.raises(InvalidField, match="has 0 tensors"):
        observations(box(1)).from_tensors([], 10)


def test_batch_limits_are_named() -> None:
    taker = observations(box(1))
    with pytest.raises(TooManyObservations, match=r"4 in one call, at most 3 .MAX_BATCH_OBSERVATIONS."):
        taker.from_tensors(tensors(np.zeros((4, 1), np.float32)), 3)
    with pytest.raises(InvalidField, match="at least one observation"):
        taker.from_tensors(tensors(np.zeros((0, 1), np.float32)), 3)
    with pytest.raises(InvalidField, match="at least one observation"):
        taker.from_tensors(tensors(np.zeros((), np.float32)), 3)


def test_tensor_whose_bytes_do_not_fit_is_refused_by_index() -> None:
    tensor = tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_FLOAT32, shape=[2, 1], data=b"1234")
    with pytest.raises(WireError, match=r"observations\[0\]"):
        observations(box(1)).from_tensors([tensor], 10)


def test_refusal_names_the_element_as_the_simulator_does() -> None:
    position, knobs = box(2), multi_discrete(2, 4)
    position.box.names.extend(["x", "y"])
    knobs.multi_discrete.names.extend(["volume", "tone"])
    named = observations(dictionary(position=position, room=discrete(3), knobs=knobs))
    with pytest.raises(InvalidField, match=r"number 1 \(of 'position', 'y'\) is nan"):
        named.from_numbers([0, math.nan, 0, 0, 0])
    with pytest.raises(InvalidField, match=r"number 4 \(of 'knobs', 'tone'\) is 9, and must be a whole number"):
        named.from_numbers([0, 0, 0, 0, 9])
    with pytest.raises(InvalidField, match=r"number 0 \('x'\) is inf"):
        observations(position).from_numbers([math.inf, 0])
