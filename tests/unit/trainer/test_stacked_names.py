from __future__ import annotations

import gymnasium as gym
import numpy as np
from aisandbox_trainer.environments.stacked_names import with_stacked_names
from aisandbox_wire.gymnasium_spaces import names_of, set_names
from gymnasium import spaces
from stable_baselines3.common.vec_env.stacked_observations import StackedObservations


def stacked(space: gym.Space[object], frames: int) -> gym.Space[object]:
    return with_stacked_names(StackedObservations(1, frames, space).stacked_observation_space, space, frames)  # type: ignore[arg-type]


def test_stacked_vector_names_the_step_of_each_element_oldest_first() -> None:
    space = spaces.Box(-1, 1, (2,), np.float32)
    set_names(space, ["position", "speed"])
    assert names_of(stacked(space, 3)) == (
        "position t-2", "speed t-2", "position t-1", "speed t-1", "position t", "speed t"
    )  # fmt: skip


def test_stacked_rows_are_named_along_the_axis_that_is_stacked() -> None:
    space = spaces.Box(-1, 1, (2, 1), np.float32)
    set_names(space, ["a", "b"])
    assert names_of(stacked(space, 2)) == ("a t-1", "a t", "b t-1", "b t")


def test_stacked_dict_names_the_entries_that_have_names() -> None:
    named, plain = spaces.Box(-1, 1, (1,), np.float32), spaces.Box(-1, 1, (1,), np.float32)
    set_names(named, ["a"])
    result = stacked(spaces.Dict({"named": named, "plain": plain}), 2)
    assert isinstance(result, spaces.Dict)
    assert names_of(result["named"]) == ("a t-1", "a t")
    assert names_of(result["plain"]) == ()
