"""The update of TQC (Kuznetsov et al. 2020, "Controlling Overestimation Bias") as of sb3-contrib, faster.

Owns the quantile loss and its gradient; the symbols are those of ``sb3_contrib/tqc/tqc.py``, the rest of the update is
SAC's. Must not know networks, distributions or optimizers from within.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch as th
from sb3_contrib import TQC

from aisandbox_trainer.fast_updates.continuous_nets import Critics
from aisandbox_trainer.fast_updates.sac import EntropyRegularized


class FastTQC(EntropyRegularized, TQC):
    """TQC of sb3-contrib."""

    def _next_values(self, values: Sequence[th.Tensor]) -> th.Tensor:
        """The quantiles of all critics in order, without the greatest."""
        kept = self.critic.quantiles_total - self.top_quantiles_to_drop_per_net * self.critic.n_critics
        return th.cat(list(values), 1).sort(1)[0][:, :kept]

    def _critic_loss(self, values: th.Tensor, targets: th.Tensor) -> tuple[float, th.Tensor]:
        """The mean of |cum_prob - [delta < 0]| * huber(delta) over all pairs of a quantile and a target.

        With c = delta, clipped to [-1, 1]: huber(delta) = c * (delta - c / 2), and c is its derivative.
        """
        quantiles = values.shape[1]
        cum_prob = ((th.arange(quantiles, dtype=th.float) + 0.5) / quantiles).view(1, -1, 1)
        delta = targets.unsqueeze(1) - values.unsqueeze(2)
        clipped = delta.clamp(-1, 1)
        weighted = th.where(delta < 0, 1 - cum_prob, cum_prob).mul_(clipped)
        pairs = delta.numel() * self.critic.n_critics
        loss = float(weighted.mul(delta.sub_(clipped, alpha=0.5)).sum()) / pairs
        return loss, weighted.sum(2) * (-1.0 / pairs)

    def _policy_values(self, critics: Critics, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """The mean of all quantiles of all critics."""
        means, grad_actions = [], []
        for net in critics.nets:
            quantiles, tape = net.record(inputs)
            means.append(quantiles.mean(1, keepdim=True))
            gradient = th.full_like(quantiles, -1.0 / (quantiles.numel() * len(critics.nets)))
            grad_actions.append(critics.action_gradient(net, tape, gradient))
        return th.cat(means, 1).mean(1, keepdim=True), th.stack(grad_actions).sum(0)
