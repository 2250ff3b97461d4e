"""The update of TQC (Kuznetsov et al. 2020, "Controlling Overestimation Bias") as of sb3-contrib, faster.

Owns the quantile loss and its gradient; the symbols are those of ``sb3_contrib/tqc/tqc.py``, the rest of the update is
SAC's. Must not know networks, distributions or optimizers from within.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch as th
from sb3_contrib import TQC
from torch.nn.functional import prelu

from aisandbox_trainer.fast_updates.continuous_nets import Critics
from aisandbox_trainer.fast_updates.sac import EntropyRegularized


class FastTQC(EntropyRegularized, TQC):
    """TQC of sb3-contrib."""

    def _next_values(self, values: Sequence[th.Tensor]) -> th.Tensor:
        """The quantiles of all critics without the greatest, in any order: the loss is a mean over them."""
        kept = self.critic.quantiles_total - self.top_quantiles_to_drop_per_net * self.critic.n_critics
        return th.cat(list(values), 1).topk(kept, 1, largest=False, sorted=False)[0]

    def _critic_loss(self, values: th.Tensor, targets: th.Tensor) -> tuple[float, th.Tensor]:
        """The mean of |cum_prob - [delta < 0]| * huber(delta) over all pairs of a quantile and a target.

        With c = delta, clipped to [-1, 1]: huber(delta) = c * (delta - c / 2), and c is its derivative. The weight of a
        pair is cum_prob, and where delta is negative (1 - cum_prob) / cum_prob times that.
        """
        quantiles = values.shape[1]
        cum_prob = (th.arange(quantiles, dtype=th.float) + 0.5) / quantiles
        delta = targets.unsqueeze(1) - values.unsqueeze(2)
        pairs = delta.numel() * self.critic.n_critics
        clipped = delta.clamp(-1, 1)
        weighted = prelu(clipped, (1 - cum_prob) / cum_prob)
        gradient = weighted.sum(2) * (cum_prob * (-1.0 / pairs))
        losses = weighted.mul_(delta.sub_(clipped, alpha=0.5)).sum(2)
        return float((losses * cum_prob).sum()) / pairs, gradient

    def _policy_values(self, critics: Critics, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """The mean of all quantiles of all critics."""
        means, grad_actions = [], []
        for net, (quantiles, tape) in zip(critics.nets, critics.record(inputs), strict=True):
            means.append(quantiles.mean(1, keepdim=True))
            gradient = th.full_like(quantiles, -1.0 / (quantiles.numel() * len(critics.nets)))
            grad_actions.append(critics.action_gradient(net, tape, gradient))
        return th.cat(means, 1).mean(1, keepdim=True), th.stack(grad_actions).sum(0)
