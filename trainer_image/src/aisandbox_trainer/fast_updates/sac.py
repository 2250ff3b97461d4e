"""The update of SAC (Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications") as of SB3, faster.

Owns the losses and their gradients, and what TQC has in common with it; the symbols are those of
``stable_baselines3/sac/sac.py``. Must not know networks, distributions or optimizers from within.
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
from aisandbox_trainer.fast_updates.continuous_nets import Critics, EntropyNets, mean_of_squares, move_targets
from aisandbox_trainer.fast_updates.off_policy import FastOffPolicy
from aisandbox_trainer.fast_updates.optimizer_step import Gradients, OptimizerStep


class EntropyRegularized(FastOffPolicy):
    """The update that SAC and TQC share; they differ in what the critics' values mean."""

    actor: Any
    critic: Any
    ent_coef_optimizer: th.optim.Adam | None
    log_ent_coef: th.Tensor | None
    ent_coef_tensor: th.Tensor
    target_entropy: Any
    target_update_interval: int

    def _next_values(self, values: Sequence[th.Tensor]) -> th.Tensor:
        """What the target critics' values [N, outputs] of the next states say together, [N, targets]."""
        raise NotImplementedError

    def _critic_loss(self, values: th.Tensor, targets: th.Tensor) -> tuple[float, th.Tensor]:
        """The part of one critic in the critics' loss, and the gradient of its values."""
        raise NotImplementedError

    def _policy_values(self, critics: Critics, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """The value [N, 1] of the policy's actions, and the gradient of its negative mean for the actions [N, size]."""
        raise NotImplementedError

    def _find_nets(self) -> EntropyNets | None:
        return EntropyNets.of(self.policy)

    def _optimizers(self) -> Sequence[th.optim.Optimizer]:
        entropy = self.ent_coef_optimizer
        return [self.actor.optimizer, self.critic.optimizer, *([] if entropy is None else [entropy])]

    def _update(self, nets: EntropyNets, gradient_steps: int, batch_size: int) -> None:
        entropy = EntropyCoefficient(self)
        actor_step = OptimizerStep(self.actor.optimizer, nets.actor.parameters, math.inf)
        critic_step = OptimizerStep(self.critic.optimizer, nets.critics.parameters, math.inf)
        actor_losses, critic_losses = [], []
        with th.inference_mode():
            for gradient_step in range(gradient_steps):
                replay_data, discounts = self._sampled(batch_size)
                features = nets.features(replay_data.observations)
                next_features = nets.features(replay_data.next_observations)
                if self.use_sde:
                    self.actor.reset_noise()
                pi, next_pi = nets.actor.sample(features, next_features)
                ent_coef = entropy.step(pi.log_prob)

                next_values = self._next_values(nets.targets(next_features, next_pi.actions))
                next_values = next_values - ent_coef * next_pi.log_prob
                targets = replay_data.rewards + (1 - replay_data.dones) * discounts * next_values
                inputs = nets.critics.inputs(features, replay_data.actions)
                loss, gradients = nets.critics.learn(inputs, partial(self._critic_loss, targets=targets))
                critic_losses.append(loss)
                critic_step(gradients)

                values, grad_actions = self._policy_values(nets.critics, nets.critics.inputs(features, pi.actions))
                actor_losses.append(float((ent_coef * pi.log_prob - values).sum()) / len(values))
                actor_step(nets.actor.gradients(pi, grad_actions, ent_coef / len(features)))

                if gradient_step % self.target_update_interval == 0:
                    move_targets(nets.critics, nets.targets, self.tau)
        n_updates = _sb3_internals.count_updates(self, gradient_steps)
        self.logger.record("train/n_updates", n_updates, exclude="tensorboard")
        self.logger.record("train/ent_coef", np.mean(entropy.coefficients))
        self.logger.record("train/actor_loss", np.mean(actor_losses))
        self.logger.record("train/critic_loss", np.mean(critic_losses))
        if entropy.losses:
            self.logger.record("train/ent_coef_loss", np.mean(entropy.losses))


class EntropyCoefficient:
    """The entropy coefficient during an update: fixed, or learned so that the entropy becomes the target's."""

    def __init__(self, model: EntropyRegularized) -> None:
        self.coefficients: list[float] = []
        self.losses: list[float] = []
        self._target = float(model.target_entropy)
        self._log: th.Tensor | None = None
        if model.ent_coef_optimizer is None or model.log_ent_coef is None:
            self._fixed = float(model.ent_coef_tensor)
            return
        self._log = model.log_ent_coef
        self._gradients = Gradients.of([self._log])
        self._optimizer_step = OptimizerStep(model.ent_coef_optimizer, [self._log], math.inf)

    def step(self, log_prob: th.Tensor) -> float:
        """The coefficient before this step, which is learned from the log-probabilities [N, 1] of a batch."""
        if self._log is None:
            self.coefficients.append(self._fixed)
            return self._fixed
        coefficient = float(self._log.exp())
        # ent_coef_loss = -mean(log_ent_coef * (log_prob + target_entropy))
        distance = log_prob + self._target
        self.losses.append(float(-(self._log * distance).sum()) / len(distance))
        th.sum(distance * (-1.0 / len(distance)), 0, out=self._gradients.flat)
        self._optimizer_step(self._gradients)
        self.coefficients.append(coefficient)
        return coefficient


class FastSAC(EntropyRegularized, sb3.SAC):
    """SAC of stable-baselines3."""

    def _next_values(self, values: Sequence[th.Tensor]) -> th.Tensor:
        return th.cat(list(values), 1).min(1, keepdim=True)[0]

    def _critic_loss(self, values: th.Tensor, targets: th.Tensor) -> tuple[float, th.Tensor]:
        """Half of the mean squared error."""
        error = values - targets
        return 0.5 * mean_of_squares(error), error * (1.0 / len(error))

    def _policy_values(self, critics: Critics, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """The minimum of the critics' values, so that only the critic that has it has a gradient."""
        recorded = [net.record(inputs) for net in critics.nets]
        min_qf_pi, chosen = th.cat([values for values, _ in recorded], 1).min(1)
        gradient = inputs.new_full((len(inputs), 1), -1.0 / len(inputs))
        total: Any = 0.0
        for place, net in enumerate(critics.nets):
            rows = (chosen == place).nonzero().squeeze(1)
            total = total + critics.action_gradient(net, recorded[place][1], gradient[: len(rows)], rows)
        return min_qf_pi.unsqueeze(1), total
