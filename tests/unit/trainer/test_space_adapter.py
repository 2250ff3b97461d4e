from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from aisandbox_trainer.environments.space_adapter import SpaceAdapter
from aisandbox_trainer.errors import UnsupportedActionSpace, UnsupportedSpace
from gymnasium import spaces

VECTOR = spaces.Box(-1, 1, (3,), np.float32)


def test_presentation_box_actions_are_shown_as_unit_box_and_rescaled() -> None:
    low, high = np.array([0.0, -2.0], np.float32), np.array([10.0, 6.0], np.float32)
    presentation = SpaceAdapter(VECTOR, spaces.Box(low, high, dtype=np.float32))

    assert presentation.action_space == spaces.Box(-1.0, 1.0, (2,), np.float32)
    batch = presentation.action(np.array([[-1.0, -1.0], [0.0, 0.0], [1.0, 1.0]], np.float32))
    np.testing.assert_array_equal(batch, np.array([[0, -2], [5, 2], [10, 6]], np.float32))
    assert batch.dtype == np.float32


def test_presentation_box_actions_never_leave_their_bounds() -> None:
    inner = spaces.Box(np.float32(-0.1), np.float32(0.7), (1,), np.float32)
    presentation = SpaceAdapter(VECTOR, inner)
    for value in np.linspace(-1, 1, 1001, dtype=np.float32):
        assert inner.contains(presentation.action(np.array([value])))


def test_presentation_unit_box_is_left_alone() -> None:
    inner = spaces.Box(-1, 1, (2,), np.float32)
    action = np.zeros((1, 2), np.float32)
    presentation = SpaceAdapter(VECTOR, inner)
    assert presentation.action_space is inner
    assert presentation.action(action) is action


def test_presentation_discrete_starts_at_zero_for_the_learner() -> None:
    presentation = SpaceAdapter(spaces.Discrete(4, start=3), spaces.Discrete(3, start=-1))
    assert presentation.observation_space == spaces.Discrete(4)
    assert presentation.action_space == spaces.Discrete(3)
    np.testing.assert_array_equal(presentation.action(np.array([0, 2])), [-1, 1])
    np.testing.assert_array_equal(presentation.observation(np.array([3, 6])), [0, 3])


def test_presentation_float64_is_shown_as_float32_and_uint8_kept() -> None:
    image = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    inner = spaces.Dict({"camera": image, "speed": spaces.Box(-np.inf, np.inf, (1,), np.float64)})
    presentation = SpaceAdapter(inner, spaces.Discrete(2))
    assert presentation.observation_space["camera"] is image  # type: ignore[index]
    shown = presentation.observation({"camera": np.zeros((1, 8, 8, 3), np.uint8), "speed": np.ones((1, 1))})
    assert shown["camera"].dtype == np.uint8
    assert shown["speed"].dtype == np.float32


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-np.inf, np.inf, (1,), np.float32),
        spaces.Box(0, 5, (1,), np.int32),
        spaces.Box(0, 5, (), np.float32),
        spaces.Tuple((spaces.Discrete(2),)),
        spaces.MultiBinary([2, 2]),
    ],
)
def test_presentation_refuses_actions_no_policy_can_choose(space: gym.Space[Any]) -> None:
    with pytest.raises(UnsupportedActionSpace):
        SpaceAdapter(VECTOR, space)


def test_presentation_refuses_observations_no_policy_can_take() -> None:
    with pytest.raises(UnsupportedSpace, match="Text"):
        SpaceAdapter(spaces.Text(5), spaces.Discrete(2))


@pytest.mark.parametrize("inside", [False, True], ids=["plain", "in a Dict"])
def test_presentation_refuses_a_bare_number_and_says_what_to_do(inside: bool) -> None:
    number: gym.Space[Any] = spaces.Box(-1, 1, (), np.float32)
    with pytest.raises(UnsupportedSpace, match=r"give it shape \(1,\)"):
        SpaceAdapter(spaces.Dict({"speed": number}) if inside else number, spaces.Discrete(2))
