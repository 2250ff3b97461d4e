from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import UnsupportedActionSpace, UnsupportedSpace
from gymnasium import spaces

VECTOR = spaces.Box(-1, 1, (3,), np.float32)


def test_space_adapter_box_actions_become_unit_box_and_rescaled() -> None:
    low, high = np.array([0.0, -2.0], np.float32), np.array([10.0, 6.0], np.float32)
    adapter = SpaceAdapter(VECTOR, spaces.Box(low, high, dtype=np.float32))

    assert adapter.action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)
    batch = adapter.action(np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]], np.float32))
    np.testing.assert_array_equal(batch, np.array([[0, -2], [5, 2], [10, 6]], np.float32))
    assert batch.dtype == np.float32


def test_space_adapter_box_actions_never_leave_their_bounds() -> None:
    inner = spaces.Box(np.float32(-0.1), np.float32(0.7), (1,), np.float32)
    adapter = SpaceAdapter(VECTOR, inner)
    for value in np.linspace(-1, 1, 1001, dtype=np.float32):
        assert inner.contains(adapter.action(np.array([value])))


def test_space_adapter_clips_actions_that_rounding_takes_out_of_bounds() -> None:
    """For some bounds the formula in float32 gives a number that is one unit in the last place above the upper one."""
    outside = 0
    for low, high in np.random.default_rng(0).uniform(-3, 3, (400, 2)).astype(np.float32):
        if not low < high:
            continue
        outside += bool(low + np.float32(0.5) * np.float32(2) * (high - low) > high)
        inner = spaces.Box(low, high, (1,), np.float32)
        assert inner.contains(SpaceAdapter(VECTOR, inner).action(np.array([1.0], np.float32)))
    assert outside > 0


def test_space_adapter_clips_actions_beyond_the_policys_bounds() -> None:
    inner = spaces.Box(np.float32(-2), np.float32(6), (2,), np.float32)
    np.testing.assert_array_equal(SpaceAdapter(VECTOR, inner).action(np.array([-1.5, 1.5], np.float32)), [-2, 6])


def test_space_adapter_inverts_its_actions_within_the_policys_bounds() -> None:
    adapter = SpaceAdapter(VECTOR, spaces.Box(np.float32(-2), np.float32(6), (2,), np.float32))
    chosen = np.array([[-1.0, 0.25], [1.0, -0.5]], np.float32)
    np.testing.assert_array_equal(adapter.inverse_action(adapter.action(chosen)), chosen)
    np.testing.assert_array_equal(adapter.inverse_action(np.array([[-3.0, 7.0]], np.float32)), [[-1, 1]])


def test_space_adapter_unit_box_is_not_changed() -> None:
    inner = spaces.Box(-1, 1, (2,), np.float32)
    action = np.zeros((1, 2), np.float32)
    adapter = SpaceAdapter(VECTOR, inner)
    assert adapter.action_space is inner
    assert adapter.action(action) is action


def test_space_adapter_discrete_starts_at_zero_for_sb3() -> None:
    adapter = SpaceAdapter(spaces.Discrete(4, start=3), spaces.Discrete(3, start=-1))
    assert adapter.observation_space == spaces.Discrete(4)
    assert adapter.action_space == spaces.Discrete(3)
    np.testing.assert_array_equal(adapter.action(np.array([0, 2])), [-1, 1])
    np.testing.assert_array_equal(adapter.observation(np.array([3, 6])), [0, 3])


def test_space_adapter_float64_becomes_float32_and_uint8_kept() -> None:
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    inner = spaces.Dict({"camera": image, "speed": spaces.Box(-np.inf, np.inf, (1,), np.float64)})
    adapter = SpaceAdapter(inner, spaces.Discrete(2))
    assert adapter.observation_space["camera"] is image  # type: ignore[index]
    adapted = adapter.observation({"camera": np.zeros((1, 8, 8, 3), np.uint8), "speed": np.ones((1, 1))})
    assert adapted["camera"].dtype == np.uint8
    assert adapted["speed"].dtype == np.float32


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (1,), np.float32),
        spaces.Box(0, 5, (1,), np.int32),
        spaces.Box(-np.finfo(np.float32).max, np.finfo(np.float32).max, (1,), np.float32),
        spaces.Box(0, np.finfo(np.float64).max, (1,), np.float64),
        spaces.Box(0, 2.0**63, (), np.float64),
        spaces.Box(0, 1, (1,), np.bool_),  # type: ignore[arg-type]
        spaces.Tuple((spaces.Discrete(2),)),
        spaces.MultiBinary([2, 2]),
        spaces.Box(-1, 1, (0,), np.float32),
    ],
)
def test_space_adapter_refuses_actions_no_policy_can_choose(space: gym.Space[Any]) -> None:
    with pytest.raises(UnsupportedActionSpace):
        SpaceAdapter(VECTOR, space)


def test_space_adapter_refuses_observations_no_policy_can_take() -> None:
    with pytest.raises(UnsupportedSpace, match="Text"):
        SpaceAdapter(spaces.Text(5), spaces.Discrete(2))


def test_space_adapter_says_which_bounds_of_actions_count_as_none() -> None:
    largest = np.finfo(np.float32).max
    with pytest.raises(UnsupportedActionSpace, match=r"under 1e\+18 \(float\.MaxValue counts as no bound\)"):
        SpaceAdapter(VECTOR, spaces.Box(-largest, largest, (1,), np.float32))
    SpaceAdapter(VECTOR, spaces.Box(-(2.0**31), 2.0**31, (1,), np.float64))


def test_space_adapter_bare_numbers_become_arrays_of_one() -> None:
    number = spaces.Box(-1, 1, (), np.float64)
    adapter = SpaceAdapter(spaces.Dict(speed=number), spaces.Box(0, 10, (), np.float32))
    assert adapter.observation_space["speed"] == spaces.Box(-1, 1, (1,), np.float32)  # type: ignore[index]
    assert adapter.action_space == spaces.Box(-1, 1, (1,), np.float32)
    assert adapter.observation({"speed": np.float64(0.5)})["speed"].tolist() == [0.5]
    assert adapter.observation({"speed": np.array([0.5, 0.25])})["speed"].tolist() == [[0.5], [0.25]]
    assert adapter.action(np.array([[1.0], [0.0]], np.float32)).tolist() == [10.0, 5.0]
    assert adapter.action(np.array([1.0], np.float32)).shape == ()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_space_adapter_keeps_the_order_of_a_dict(dtype: Any) -> None:
    inner = spaces.Dict([("z", spaces.Box(-1, 1, (1,), dtype)), ("a", spaces.Discrete(2, start=5)), ("m", VECTOR)])
    assert list(SpaceAdapter(inner, spaces.Discrete(2)).observation_space) == ["z", "a", "m"]  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("dtype", "travels_as"), [(np.float16, "float32"), (np.uint32, "int64"), (np.bool_, "uint8"), (np.int16, "int16")]
)
def test_space_adapter_takes_dtypes_that_a_wider_one_holds(dtype: Any, travels_as: str) -> None:
    adapter = SpaceAdapter(spaces.Box(0, 1, (2,), dtype), spaces.Discrete(2))
    assert adapter.inner_observation_space.dtype == adapter.observation_space.dtype == travels_as
    assert adapter.observation(np.ones(2, dtype)).dtype == travels_as


@pytest.mark.parametrize(
    ("space", "message"),
    [
        (spaces.Box(0, 2**64 - 1, (1,), np.uint64), "uint64 has no wire format"),
        (spaces.Box(0, 1, (1,), np.longdouble), "use float32"),
        (spaces.Dict([("", VECTOR)]), "a key is not empty"),
        (spaces.Dict([(1, VECTOR)]), "keys of a Dict are texts"),  # type: ignore[list-item]
        (spaces.Dict(a=spaces.Dict(b=VECTOR)), "a Dict inside a Dict"),
        (spaces.Box(0, 1, (0,)), "has a dimension smaller than 1"),
    ],
)
def test_space_adapter_refuses_what_cannot_be_served(space: gym.Space[Any], message: str) -> None:
    with pytest.raises(UnsupportedSpace, match=message):
        SpaceAdapter(space, spaces.Discrete(2))
