"""Golden rows of a published model: observations, noise, and the actions the trainer's own policy chose for them.

Owns their JSON form and the comparison. A model that answers otherwise is not served: the runtime, the machine or
the file is not what the trainer tested. Must not know sessions.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

_RELATIVE, _ABSOLUTE = 1e-3, 1e-4
"""For Box actions, the second as a share of the largest in that dimension: float32 sums in another order differ by
about 1e-6 of what is summed. The exporter keeps whole actions off ties."""


@dataclass(frozen=True, slots=True, eq=False)
class Golden:
    """N rows: ``observations``, an array [N, *shape] a leaf; ``noise`` float32 [N, size]; ``actions`` [N, ...]."""

    observations: tuple[Array, ...]
    noise: Array
    actions: Array

    def rows(self, chosen: Array) -> Golden:
        """Return the rows with these indices."""
        return Golden(tuple(leaf[chosen] for leaf in self.observations), self.noise[chosen], self.actions[chosen])

    def difference(self, actions: Array) -> str:
        """Say how ``actions`` differ from the golden ones; empty if they do not."""
        if actions.shape != self.actions.shape or actions.dtype != self.actions.dtype:
            return (
                f"actions {actions.dtype.name} {list(actions.shape)} instead of "
                f"{self.actions.dtype.name} {list(self.actions.shape)}"
            )
        if actions.dtype.kind == "f":
            largest = np.maximum(1.0, np.abs(self.actions).max(axis=0))
            same = np.isclose(actions, self.actions, rtol=_RELATIVE, atol=_ABSOLUTE * largest)
        else:
            same = actions == self.actions
        if same.all():
            return ""
        row = int(np.argwhere(~same)[0][0])
        return (
            f"for golden observation {row} the action {actions[row].tolist()} instead of {self.actions[row].tolist()}"
        )


def parse_golden(data: bytes) -> Golden:
    """Return the rows of golden.json. Raises ValueError for anything else."""
    try:
        document = json.loads(data)
        observations = tuple(_array(tensor) for tensor in document["observations"])
        golden = Golden(observations, _array(document["noise"]), _array(document["actions"]))
        lengths = {len(array) for array in (*golden.observations, golden.noise, golden.actions)}
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not golden rows ({error!r})") from error
    if len(lengths) != 1 or lengths == {0}:
        raise ValueError(f"golden rows of different numbers {sorted(lengths)}")
    return golden


def _array(tensor: Any) -> Array:
    dtype = np.dtype(tensor["dtype"]).newbyteorder("<")
    if dtype.hasobject:
        raise ValueError(f"dtype {dtype}")
    return np.frombuffer(base64.b64decode(tensor["data"], validate=True), dtype).reshape(tensor["shape"])
