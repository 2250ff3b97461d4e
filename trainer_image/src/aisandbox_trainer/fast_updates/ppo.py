"""The update of PPO (Schulman et al. 2017, "Proximal Policy Optimization Algorithms") as of SB3, faster.

Owns the clipped loss and its gradient; the symbols are those of ``stable_baselines3/ppo/ppo.py``, and of
``sb3_contrib/ppo_mask/ppo_mask.py``, which learns in the same way from rollouts with masks. Must not know
networks, distributions or optimizers from within.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import stable_baselines3 as sb3
import torch as th
from sb3_contrib.common.maskable.utils import get_action_masks

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.fast_updates.optimizer_step import Gradients, OptimizerStep
from aisandbox_trainer.fast_updates.policy_nets import ActorCriticNets, ForwardPass
from aisandbox_trainer.fast_updates.rollout import FastOnPolicy, Rollout
from aisandbox_trainer.fast_updates.single_steps import SingleStepMaskablePPO


class ClippedUpdates(FastOnPolicy):
    """The update that PPO and MaskablePPO share, with or without masks in the rollout."""

    n_epochs: int
    batch_size: Any
    clip_range: Any
    clip_range_vf: Any
    normalize_advantage: bool
    target_kl: float | None

    def _update(self, nets: ActorCriticNets) -> None:
        rollout = Rollout.of(self.rollout_buffer, nets)
        step = OptimizerStep(self.policy.optimizer, nets.parameters, self.max_grad_norm)
        loss = self._loss()
        minibatches: list[PPOMinibatch] = []
        for epoch in range(self.n_epochs):
            first_of_epoch = len(minibatches)
            stopped = False
            shuffled = rollout.shuffled()
            for start in range(0, len(rollout.features), self.batch_size):
                minibatch = loss(nets, shuffled.rows(start, start + self.batch_size))
                minibatches.append(minibatch)
                if self.target_kl is not None and minibatch.approx_kl() > 1.5 * self.target_kl:
                    stopped = True
                    break
                step(minibatch.gradients(nets))
            _sb3_internals.count_updates(self, 1)
            if stopped:
                if self.verbose >= 1:
                    print(f"Early stopping at step {epoch} due to reaching max kl: {minibatches[-1].approx_kl():.2f}")
                break
        self._log(loss, minibatches, first_of_epoch, rollout.explained_variance())

    def _loss(self) -> PPOLoss:
        clip_range_vf = self.clip_range_vf
        return PPOLoss(
            clip_range=_sb3_internals.scheduled(self, self.clip_range),
            clip_range_vf=None if clip_range_vf is None else _sb3_internals.scheduled(self, clip_range_vf),
            normalize_advantage=self.normalize_advantage,
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
        )

    def _log(self, loss: PPOLoss, minibatches: list[PPOMinibatch], first_of_epoch: int, explained: float) -> None:
        record = self.logger.record
        record("train/entropy_loss", _mean([-each.entropy for each in minibatches]))
        record("train/policy_gradient_loss", _mean([-each.surrogate for each in minibatches]))
        record("train/value_loss", _mean([each.squared_error for each in minibatches]))
        record("train/approx_kl", _mean([each.kl() for each in minibatches[first_of_epoch:]]))
        clipped = [((each.ratio - 1).abs() > loss.clip_range).float() for each in minibatches]
        record("train/clip_fraction", _mean(clipped))
        record("train/loss", loss.total(minibatches[-1]))
        record("train/explained_variance", explained)
        self._log_std()
        record("train/n_updates", _sb3_internals.count_updates(self, 0), exclude="tensorboard")
        record("train/clip_range", loss.clip_range)
        if loss.clip_range_vf is not None:
            record("train/clip_range_vf", loss.clip_range_vf)


class FastPPO(ClippedUpdates, sb3.PPO):
    """PPO of stable-baselines3."""


class FastMaskablePPO(ClippedUpdates, SingleStepMaskablePPO):
    """MaskablePPO of sb3-contrib (Huang and Ontanon 2022, "A Closer Look at Invalid Action Masking")."""

    def _masks_now(self) -> dict[str, Any]:
        return {"action_masks": get_action_masks(self.env)} if self.env is not None else {}


@dataclass(frozen=True, slots=True)
class PPOMinibatch:
    """The terms of the loss of one minibatch, [N] each, and the gradients of the loss with respect to its inputs."""

    forward: ForwardPass
    surrogate: th.Tensor
    """min(ratio * advantages, clip(ratio) * advantages), whose negative mean is the policy loss."""
    squared_error: th.Tensor
    """(values_pred - returns)^2, whose mean is the value loss."""
    entropy: th.Tensor
    log_ratio: th.Tensor
    ratio: th.Tensor
    grad_log_prob: th.Tensor
    grad_entropy: float
    grad_values: th.Tensor

    def kl(self) -> th.Tensor:
        """Each row's part of Schulman's estimate of the reverse KL divergence, http://joschu.net/blog/kl-approx.html."""
        return (self.ratio - 1) - self.log_ratio

    def approx_kl(self) -> float:
        """The estimate."""
        return float(self.kl().mean())

    def gradients(self, nets: ActorCriticNets) -> Gradients:
        """The gradients of the policy's parameters."""
        return nets.gradients(self.forward, self.grad_log_prob, self.grad_entropy, self.grad_values)


@dataclass(frozen=True, slots=True)
class PPOLoss:
    """loss = policy_loss + ent_coef * entropy_loss + vf_coef * value_loss (Schulman et al. 2017, equations 7 and 9).

    ``clip_range`` is the paper's epsilon; ``clip_range_vf`` clips how far the values move, as in OpenAI's baselines.
    """

    clip_range: float
    clip_range_vf: float | None
    normalize_advantage: bool
    ent_coef: float
    vf_coef: float

    def __call__(self, nets: ActorCriticNets, rows: Rollout) -> PPOMinibatch:
        """The loss of a minibatch and its gradients."""
        old_values, old_log_prob, advantages, returns = rows.numbers
        n = len(old_values)
        forward = nets.evaluate(rows.features, rows.actions, rows.masks)
        if self.normalize_advantage and n > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = forward.actions.log_prob - old_log_prob
        ratio = log_ratio.exp()
        policy_loss_1 = advantages * ratio
        policy_loss_2 = advantages * ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        # d ratio / d log_prob = ratio. Where policy_loss_2 is the smaller one the ratio is clipped, so the gradient is
        # 0; elsewhere the smaller one is policy_loss_1.
        grad_ratio = (advantages * (-1.0 / n)) * (policy_loss_1 <= policy_loss_2)
        values_pred, not_clipped = forward.values, None
        if self.clip_range_vf is not None:
            moved = values_pred - old_values
            values_pred = old_values + moved.clamp(-self.clip_range_vf, self.clip_range_vf)
            not_clipped = moved.abs() <= self.clip_range_vf
        error = values_pred - returns
        grad_values = error * (2.0 / n * self.vf_coef)
        return PPOMinibatch(
            forward=forward,
            surrogate=th.min(policy_loss_1, policy_loss_2),
            squared_error=error * error,
            entropy=forward.actions.entropy(),
            log_ratio=log_ratio,
            ratio=ratio,
            grad_log_prob=grad_ratio * ratio,
            grad_entropy=-self.ent_coef / n,
            grad_values=grad_values if not_clipped is None else grad_values * not_clipped,
        )

    def total(self, minibatch: PPOMinibatch) -> float:
        """The whole loss of a minibatch."""
        policy_loss, value_loss = -minibatch.surrogate.mean(), minibatch.squared_error.mean()
        entropy_loss = -minibatch.entropy.mean()
        return float(policy_loss + self.ent_coef * entropy_loss + self.vf_coef * value_loss)


def _mean(parts: list[th.Tensor]) -> float:
    """The mean of the minibatches' means, as SB3 logs it; a last, shorter minibatch counts as much as the others."""
    whole = [part for part in parts if len(part) == len(parts[0])]
    rest = [part.mean(0, keepdim=True) for part in parts if len(part) != len(parts[0])]
    means = th.cat([th.stack(whole).mean(1), *rest])
    return float(means.double().mean())
