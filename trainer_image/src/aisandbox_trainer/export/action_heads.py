"""From a policy's scores and noise to actions in the simulator's space: the last part of the served graph.

Owns one module for each kind of action space; each takes (latent, scores, noise) and gives actions. Noise is
reparametrised, so that sampling is a pure function: Gumbel-max for choices (Gumbel 1954; Maddison et al. 2014), the
logistic for bits, the standard normal for boxes. Must not know observations or SB3's policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from torch import nn


class ChoiceHead(nn.Module):
    """Discrete: the best of the noisy scores [N, n], int64 [N], counted from ``start``."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start = start

    def forward(self, latent: th.Tensor, scores: th.Tensor, noise: th.Tensor) -> th.Tensor:
        """The actions; the latent features are ignored."""
        best = th.argmax(scores + noise, dim=1)
        return best + self.start if self.start else best


class ChoicesHead(nn.Module):
    """MultiDiscrete: the best of each group of noisy scores, int64 [N, len(counts)]."""

    def __init__(self, counts: Sequence[int]) -> None:
        super().__init__()
        self.counts = list(counts)

    def forward(self, latent: th.Tensor, scores: th.Tensor, noise: th.Tensor) -> th.Tensor:
        """The actions; the latent features are ignored."""
        groups = th.split(scores + noise, self.counts, dim=1)
        return th.stack([th.argmax(group, dim=1) for group in groups], dim=1)


class BitsHead(nn.Module):
    """MultiBinary: which noisy logits are positive, int64 [N, n]."""

    def forward(self, latent: th.Tensor, scores: th.Tensor, noise: th.Tensor) -> th.Tensor:
        """The actions; the latent features are ignored."""
        return (scores + noise > 0).long()


class BoxHead(nn.Module):
    """Box: mean plus standard deviation times noise, in the simulator's bounds, float32 [N, *shape].

    ``std`` is a tensor [actions], or a module that gives [N, actions] of the latent features. As SB3's ``predict``
    does: squashed policies are squashed and unscaled, others clipped to the policy's bounds. Then, as the trainer's
    SpaceAdapter does, the policy's bounds are mapped linearly to the simulator's. With state-dependent
    exploration (gSDE, Raffin et al. 2020) ``std`` is [latent, actions] and the noise of an action has
    the standard deviation sqrt(latent^2 @ std^2): what SB3 draws, with fresh exploration weights for every observation
    instead of one set for several steps.
    """

    spread: nn.Module | None
    std: th.Tensor
    inner_low: th.Tensor
    inner_high: th.Tensor
    low: th.Tensor
    high: th.Tensor

    def __init__(
        self,
        space: spaces.Box,
        policy_space: spaces.Box,
        std: th.Tensor | nn.Module,
        by_state: bool,
        squashed: bool,
    ) -> None:
        super().__init__()
        self.shape = space.shape
        self.size = int(np.prod(space.shape))
        self.by_state = by_state
        self.squashed = squashed
        self.rescaled = not (
            np.array_equal(space.low, policy_space.low) and np.array_equal(space.high, policy_space.high)
        )
        self.spread = std if isinstance(std, nn.Module) else None
        if isinstance(std, th.Tensor):
            self.register_buffer("std", std**2 if by_state else std)
        for name, bound in (("inner_low", policy_space.low), ("inner_high", policy_space.high)):
            self.register_buffer(name, _row(bound))
        for name, bound in (("low", space.low), ("high", space.high)):
            self.register_buffer(name, _row(bound))

    def forward(self, latent: th.Tensor, scores: th.Tensor, noise: th.Tensor) -> th.Tensor:
        """The actions; the latent features count only where they scale the noise."""
        if self.spread is not None:
            std = self.spread(latent)
        else:
            std = th.sqrt(th.mm(latent**2, self.std)) if self.by_state else self.std
        action = scores + std * noise
        if self.squashed:
            action = self.inner_low + 0.5 * (th.tanh(action) + 1.0) * (self.inner_high - self.inner_low)
        else:
            action = th.max(th.min(action, self.inner_high), self.inner_low)
        if self.rescaled:
            share = (action - self.inner_low) / (self.inner_high - self.inner_low)
            action = th.max(th.min(self.low + share * (self.high - self.low), self.high), self.low)
        return action.reshape(-1, *self.shape)


def _row(bound: Any) -> th.Tensor:
    return th.as_tensor(np.asarray(bound, np.float32).reshape(1, -1))
