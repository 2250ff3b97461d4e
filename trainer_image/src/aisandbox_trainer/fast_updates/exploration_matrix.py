"""The matrix of gSDE (Raffin et al. 2021, "Smooth Exploration for Robotic Reinforcement Learning"), as of SB3.

The noise of an action is ``latent @ matrix``; SB3 draws the matrix [L, size] from the standard deviations of its
elements every few steps. Over all matrices the actions are normal, with a variance that depends on the latent. Owns the
gradient of the standard deviations' parameter. Must not know networks or losses.
"""

from __future__ import annotations

import torch as th
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from torch import nn


class ExplorationMatrix:
    """A view on the matrix that a distribution of SB3 has drawn, and on the parameter ``log_std``, [L, size or 1]."""

    def __init__(self, distribution: StateDependentNoiseDistribution, log_std: nn.Parameter) -> None:
        self.log_std = log_std
        self._theirs = distribution

    def noise(self, latent: th.Tensor) -> th.Tensor:
        """Of each row [N, size]: by one matrix, or by one for each environment where there are as many as rows."""
        return self._theirs.get_noise(latent)

    def drawn(self) -> th.Tensor:
        """The one matrix, [L, size]."""
        return self._theirs.exploration_mat

    def std(self) -> th.Tensor:
        """The standard deviations of the elements, [L, size]."""
        return self._theirs.get_std(self.log_std)

    def variance(self, squares: th.Tensor, std: th.Tensor) -> th.Tensor:
        """Of the actions [N, size], from the squares of the latent [N, L]."""
        return th.mm(squares, std**2) + self._theirs.epsilon

    def gradient(self, grad_std: th.Tensor) -> th.Tensor:
        """Of ``log_std``, from that of the standard deviations.

        These are exponentials, or with ``use_expln`` logarithms above 0.
        """
        slope = self.log_std.exp()
        if self._theirs.use_expln:
            slope = th.where(self.log_std <= 0, slope, 1 / (1 + self.log_std + self._theirs.epsilon))
        return (grad_std if self._theirs.full_std else grad_std.sum(1, keepdim=True)) * slope
