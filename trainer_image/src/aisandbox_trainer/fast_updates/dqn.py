"""The update of DQN (Mnih et al. 2015, "Human-level control through deep reinforcement learning") as of SB3, faster.

Owns the loss and its gradient; the symbols are those of ``stable_baselines3/dqn/dqn.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import stable_baselines3 as sb3
import torch as th
from torch.nn.functional import smooth_l1_loss

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.fast_updates.off_policy import FastOffPolicy
from aisandbox_trainer.fast_updates.optimizer_step import OptimizerStep
from aisandbox_trainer.fast_updates.policy_nets import QNets


class FastDQN(FastOffPolicy, sb3.DQN):
    """DQN of stable-baselines3."""

    def _find_nets(self) -> QNets | None:
        return QNets.of(self.policy)

    def _optimizers(self) -> Sequence[th.optim.Optimizer]:
        return [self.policy.optimizer]

    def _update(self, nets: QNets, gradient_steps: int, batch_size: int) -> None:
        step = OptimizerStep(self.policy.optimizer, nets.online.parameters, self.max_grad_norm)
        losses = [self._step(nets, step, batch_size) for _ in range(gradient_steps)]
        self.logger.record("train/n_updates", _sb3_internals.count_updates(self, gradient_steps), exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def _step(self, nets: QNets, step: OptimizerStep, batch_size: int) -> float:
        """One step on the Huber loss of the one-step (or n-step) temporal difference."""
        replay_data, discounts = self._sampled(batch_size)
        next_q_values = nets.target(nets.features(replay_data.next_observations)).max(dim=1)[0].reshape(-1, 1)
        target_q_values = replay_data.rewards + (1 - replay_data.dones) * discounts * next_q_values
        q_values, tape = nets.online.record(nets.features(replay_data.observations))
        actions = replay_data.actions.long()
        current_q_values = q_values.gather(1, actions)
        # The gradient of the Huber loss with beta = 1: the error, clipped to [-1, 1].
        grad_current = (current_q_values - target_q_values).clamp(-1, 1) * (1.0 / len(current_q_values))
        grad_q_values = th.zeros_like(q_values).scatter_(1, actions, grad_current)
        nets.online.gradients(tape, grad_q_values, nets.gradients.parts)
        step(nets.gradients)
        return float(smooth_l1_loss(current_q_values, target_q_values))
