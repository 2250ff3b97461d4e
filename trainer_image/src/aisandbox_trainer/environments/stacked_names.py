"""The names of the elements of stacked observations: those of one observation, with the step that each is of.

Must not know how observations are stacked.
"""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from aisandbox_wire import names_of, set_names
from gymnasium import spaces

Space = gym.Space[Any]


def with_stacked_names(stacked: Space, space: Space, frames: int) -> Space:
    """``stacked``, which has ``frames`` observations of ``space``, oldest first, with names: "speed t-1", "speed t"."""
    if isinstance(stacked, spaces.Dict) and isinstance(space, spaces.Dict):
        for key, inner in space.spaces.items():
            with_stacked_names(stacked[key], inner, frames)
    elif names := names_of(space):
        shape = space.shape or (1,)
        axis = next((i for i, n in enumerate(stacked.shape or ()) if n != shape[i]), 0)
        one = np.array(names, object).reshape(shape)
        steps = [f" t-{frames - 1 - i}" if i < frames - 1 else " t" for i in range(frames)]
        set_names(stacked, np.concatenate([one + step for step in steps], axis).ravel().tolist())
    return stacked
