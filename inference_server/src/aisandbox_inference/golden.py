"""The golden examples of a published model as arrays, and the comparison with what a session gives.

Owns the comparison. A model that gives other actions is not served: the runtime, the machine or the file is not what
the trainer tested. Must not know sessions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from aisandbox_model_store.served_model import (
    GOLDEN_ABSOLUTE_TOLERANCE,
    GOLDEN_RELATIVE_TOLERANCE,
    GoldenExamples,
    StoredTensor,
)
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """N examples: ``observations``, an array [N, *shape] a leaf; ``noise`` float32 [N, size]; ``actions`` [N, ...].

    ``action_mask``: uint8 [N, size], None for a policy without masks. ``episode_start``: float32 [N], for a recurrent
    policy; the examples are then those of episodes, in order.
    """

    observations: tuple[Array, ...]
    noise: Array
    actions: Array
    action_mask: Array | None = None
    episode_start: Array | None = None

    def select(self, indices: Array) -> Golden:
        """Return the examples with these indices."""
        observations = tuple(leaf[indices] for leaf in self.observations)
        mask = None if self.action_mask is None else self.action_mask[indices]
        starts = None if self.episode_start is None else self.episode_start[indices]
        return Golden(observations, self.noise[indices], self.actions[indices], mask, starts)

    def without_defaults(self) -> Golden:
        """Return the examples without noise that allow every action: those that need no input with a default."""
        plain = ~self.noise.any(axis=1)
        if self.action_mask is not None:
            plain &= self.action_mask.all(axis=1)
        return self.select(np.flatnonzero(plain))

    def difference(self, actions: Array) -> str:
        """Describe how ``actions`` differ from the golden ones; empty if they are equal within the tolerances."""
        if actions.shape != self.actions.shape or actions.dtype != self.actions.dtype:
            return (
                f"actions {actions.dtype.name} {list(actions.shape)} instead of "
                f"{self.actions.dtype.name} {list(self.actions.shape)}"
            )
        if actions.dtype.kind == "f":
            absolute = GOLDEN_ABSOLUTE_TOLERANCE * np.maximum(1.0, np.abs(self.actions).max(axis=0))
            same = np.isclose(actions, self.actions, rtol=GOLDEN_RELATIVE_TOLERANCE, atol=absolute)
        else:
            same = actions == self.actions
        if same.all():
            return ""
        row = int(np.argwhere(~same)[0][0])
        return f"for golden example {row} the action {actions[row].tolist()} instead of {self.actions[row].tolist()}"


def parse_golden(data: bytes) -> Golden:
    """Return the examples of golden.json. Raises ValueError for anything else."""
    stored = GoldenExamples.from_bytes(data)
    mask = None if stored.action_mask is None else _array(stored.action_mask)
    starts = None if stored.episode_start is None else _array(stored.episode_start)
    observations = tuple(_array(leaf) for leaf in stored.observations)
    return Golden(observations, _array(stored.noise), _array(stored.actions), mask, starts)


def _array(tensor: StoredTensor) -> Array:
    try:
        dtype = np.dtype(tensor.dtype).newbyteorder("<")
    except TypeError as error:
        raise ValueError(f"dtype {tensor.dtype!r}") from error
    if dtype.hasobject:
        raise ValueError(f"dtype {dtype}")
    return np.frombuffer(tensor.data, dtype).reshape(tensor.shape)
