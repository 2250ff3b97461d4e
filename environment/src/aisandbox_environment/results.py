"""What a batch of environments answers to a reset and to a step, in NumPy's terms.

The same values on both ends: a simulation makes them, the session's client hands them out. Must not know the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from aisandbox_wire.tensors import Array

NONE_ENDED: Array = np.zeros(0, np.intp)
NONE_ENDED.flags.writeable = False


@dataclass(frozen=True, slots=True)
class EpisodeMetrics:
    """Named finite numbers about the episode that environment number ``environment`` has just ended."""

    environment: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ResetResult:
    """The first observations: one array [N, *shape] a leaf of the observation space, in its order.

    ``action_masks`` is bool [N, mask_width], or None without masks.
    """

    observations: Sequence[Array]
    action_masks: Array | None = None


@dataclass(frozen=True, slots=True)
class StepResult:
    """One step of N environments, with same-step autoreset; see StepReply in environment.proto.

    ``observations``: one array [N, *shape] a leaf; for an environment whose episode ended, the first one of its next
    episode. ``rewards``: float32 [N]. ``terminated``, ``truncated``: bool [N]. ``ended``: the K numbers of the
    environments whose episode ended, rising. ``final_observations``: one array [K, *shape] a leaf, the last
    observations of those episodes; empty when K is 0. ``action_masks``: bool [N, mask_width] or None.
    """

    observations: Sequence[Array]
    rewards: Array
    terminated: Array
    truncated: Array
    ended: Array = field(default_factory=lambda: NONE_ENDED)
    final_observations: Sequence[Array] = ()
    action_masks: Array | None = None
    episode_metrics: Sequence[EpisodeMetrics] = ()
