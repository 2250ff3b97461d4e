"""Files of demonstrations for tests: episodes of synthetic observations, with the actions of a function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from aisandbox_environment import DemonstrationWriter, Episode, Spec


def write_demonstrations(
    path: Path,
    spec: Spec,
    act: Callable[[list[Any]], Any],
    lengths: Sequence[int] = (12, 9, 15),
    *,
    terminated: bool = True,
    reward: float = 1.0,
) -> Path:
    """Episodes of these lengths: ``act`` gets the leaves of each observation, which are normal numbers or choices."""
    random = np.random.default_rng(0)
    writer = DemonstrationWriter(path, spec, {"policy": "test"})
    for steps in lengths:
        observations = [
            random.integers(0, 4, (steps + 1, *leaf.shape)).astype(leaf.dtype)
            if leaf.dtype.kind in "iu"
            else random.standard_normal((steps + 1, *leaf.shape)).astype(leaf.dtype)
            for leaf in spec.observation_leaves
        ]
        actions = [act([leaf[step] for leaf in observations]) for step in range(steps)]
        writer.add(
            Episode(
                seed=0,
                observations=observations,
                actions=np.array(actions, spec.action_leaf.dtype).reshape(steps, *spec.action_leaf.shape),
                rewards=np.full(steps, reward, np.float32),
                terminated=terminated,
                truncated=not terminated,
                action_masks=np.ones((steps, spec.mask_width), bool) if spec.action_masks else None,
            )
        )
    writer.close()
    return path
