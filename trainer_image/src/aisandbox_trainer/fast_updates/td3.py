"""The update of TD3 (Fujimoto et al. 2018, "Addressing Function Approximation Error") as of SB3, faster.

Owns the losses and their gradients; the symbols are those of ``stable_baselines3/td3/td3.py``. Must not know networks
or optimizers from within.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import stable_baselines3 as sb3
import torch as th

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.fast_updates.continuous_nets import DeterministicNets, mean_of_squares, move_targets
from aisandbox_trainer.fast_updates.off_policy import FastOffPolicy
from aisandbox_trainer.fast_updates.optimizer_step import OptimizerStep


class FastTD3(FastOffPolicy, sb3.TD3):
    """TD3 of stable-baselines3."""

    def _find_nets(self) -> DeterministicNets | None:
        return DeterministicNets.of(self.policy)

    def _optimizers(self) -> Sequence[th.optim.Optimizer]:
        return [self.actor.optimizer, self.critic.optimizer]

    def _update(self, nets: DeterministicNets, gradient_steps: int, batch_size: int) -> None:
        actor_step = OptimizerStep(self.actor.optimizer, nets.actor.parameters, math.inf)
        critic_step = OptimizerStep(self.critic.optimizer, nets.critics.parameters, math.inf)
        actor_losses, critic_losses = [], []
        n_updates = 0
        with th.inference_mode():
            for _ in range(gradient_steps):
                n_updates = _sb3_internals.count_updates(self, 1)
                replay_data, discounts = self._sampled(batch_size)
                features = nets.features(replay_data.observations)
                next_q_values = self._next_values(nets, replay_data)
                targets = replay_data.rewards + (1 - replay_data.dones) * discounts * next_q_values
                recorded = nets.critics.record(nets.critics.inputs(features, replay_data.actions))
                loss, gradients = nets.critics.learn(recorded, partial(_squared_error, targets=targets))
                critic_losses.append(loss)
                critic_step(gradients)

                if n_updates % self.policy_delay == 0:
                    actor_losses.append(self._actor_step(nets, features, actor_step))
                    move_targets(nets.critics, nets.critic_targets, self.tau)
                    move_targets(nets.actor, nets.actor_target, self.tau)
        self.logger.record("train/n_updates", n_updates, exclude="tensorboard")
        if actor_losses:
            self.logger.record("train/actor_loss", np.mean(actor_losses))
        self.logger.record("train/critic_loss", np.mean(critic_losses))

    def _next_values(self, nets: DeterministicNets, replay_data: Any) -> th.Tensor:
        """The least value of the target actor's actions, with noise, in the next states: [N, 1]."""
        next_features = nets.features(replay_data.next_observations)
        noise = th.empty_like(replay_data.actions).normal_(0, self.target_policy_noise)
        noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
        next_actions = (nets.actor_target(next_features) + noise).clamp(-1, 1)
        return th.cat(nets.critic_targets(next_features, next_actions), 1).min(1, keepdim=True)[0]

    def _actor_step(self, nets: DeterministicNets, features: th.Tensor, step: OptimizerStep) -> float:
        """A step on the negative mean of the first critic's values of the actor's actions, which is returned."""
        actions, tape = nets.actor.record(features)
        q1 = nets.critics.nets[0]
        q_values, q_tape = q1.record(nets.critics.inputs(features, actions))
        grad_q_values = th.full_like(q_values, -1.0 / len(q_values))
        grad_actions = nets.critics.action_gradient(q1, q_tape, grad_q_values)
        nets.actor.gradients(tape, grad_actions, nets.gradients.parts)
        step(nets.gradients)
        return float(-q_values.mean())


def _squared_error(values: th.Tensor, targets: th.Tensor) -> tuple[float, th.Tensor]:
    """Its mean, and the gradient."""
    error = values - targets
    return mean_of_squares(error), error * (2.0 / len(error))
