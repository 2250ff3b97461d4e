"""One recorded episode. Must not know files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aisandbox_wire import Array


@dataclass(frozen=True, slots=True)
class Episode:
    """T steps, at least one, and the observation after the last of them.

    ``seed``: of its reset. ``observations``: one array [T + 1, *shape] for each leaf of the observation space.
    ``actions``: [T, *shape] of the action space. ``rewards``: float32 [T]. ``terminated``, ``truncated``: how it ended,
    at least one of them. ``action_masks``: bool [T, mask_width]; None if the environment has none.
    """

    seed: int
    observations: Sequence[Array]
    actions: Array
    rewards: Array
    terminated: bool
    truncated: bool
    action_masks: Array | None = None

    @property
    def steps(self) -> int:
        """T."""
        return len(self.actions)
