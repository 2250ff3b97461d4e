"""Action masks in the served graph: the scores of what a mask forbids become so low that no noise makes up for it.

Owns one module for each kind of action space; each takes (scores, mask) and gives scores. A mask is uint8
[N or 1, size], 0 or 1, in the layout of StepReply.action_masks. Must not know policies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch as th
from numpy.typing import NDArray
from torch import nn

LARGEST_NOISE = 1e30
"""The noise of a masked choice is bounded to this: an infinite one would make up for any score."""
_LOWEST = th.finfo(th.float32).min


class ChoicesMask(nn.Module):
    """Discrete and MultiDiscrete: a score for each choice; ``counts`` are the choices of each dimension."""

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__()
        self.counts = list(counts)

    def forward(self, scores: th.Tensor, mask: th.Tensor) -> th.Tensor:
        """The scores [N, size]."""
        return th.where(mask.bool(), scores, _LOWEST)


class BitsMask(nn.Module):
    """MultiBinary: a logit for each of ``bits``; a mask says of each whether it may be 0, then whether it may be 1."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.counts = [2] * bits

    def forward(self, scores: th.Tensor, mask: th.Tensor) -> th.Tensor:
        """The logits [N, bits]."""
        allowed = mask.bool()
        return th.where(allowed[:, 1::2], th.where(allowed[:, ::2], scores, -_LOWEST), _LOWEST)


def sample_masks(counts: Sequence[int], count: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """``count`` random masks that allow at least one choice in each dimension, uint8 [count, sum(counts)]."""
    parts = []
    for choices in counts:
        part = random.integers(0, 2, (count, choices)).astype(np.uint8)
        part[np.arange(count), random.integers(0, choices, count)] = 1
        parts.append(part)
    return np.concatenate(parts, axis=1)
