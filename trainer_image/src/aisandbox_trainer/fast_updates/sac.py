"""The update of SAC (Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications") as of SB3, faster.

Owns the losses and their gradients, and what TQC and CrossQ have in common with it; the symbols are those of
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
from aisandbox_trainer.fast_updates.continuous_nets import (
    Critics,
    EntropyNets,
    StochasticNets,
    mean_of_squares,
    move_targets,
)
from aisandbox_trainer.fast_updates.off_policy import FastOffPolicy
from aisandbox_trainer.fast_updates.optimizer_step import Gradients, OptimizerStep
from aisandbox_trainer.fast_updates.squashed_actors import Sampled


class EntropyRegularized(FastOffPolicy):
    """What SAC, TQC and CrossQ share, and the update of SAC and TQC, which differ in what the critics' values mean."""

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

    def _find_nets(self) -> StochasticNets | None:
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
                ent_coef = entropy.value()
                entropy.learn(pi.log_prob)

                next_values = self._next_values(nets.targets(next_features, next_pi.actions))
                next_values = next_values - ent_coef * next_pi.log_prob
                targets = replay_data.rewards + (1 - replay_data.dones) * discounts * next_values
                recorded = nets.critics.record(nets.critics.inputs(features, replay_data.actions))
                loss, gradients = nets.critics.learn(recorded, partial(self._critic_loss, targets=targets))
                critic_losses.append(loss)
                critic_step(gradients)

                actor_losses.append(self._learn_actor(nets, features, pi, ent_coef, actor_step))

                if gradient_step % self.target_update_interval == 0:
                    move_targets(nets.critics, nets.targets, self.tau)
        _sb3_internals.count_updates(self, gradient_steps)
        self._log_losses(entropy, actor_losses, critic_losses)

    def _learn_actor(
        self, nets: StochasticNets, features: th.Tensor, pi: Sampled, ent_coef: float, step: OptimizerStep
    ) -> float:
        """A step of the actor on the loss of the actions that it has drawn, which is returned."""
        values, grad_actions = self._policy_values(nets.critics, nets.critics.inputs(features, pi.actions))
        step(nets.actor.gradients(pi, grad_actions, ent_coef / len(features)))
        return float((ent_coef * pi.log_prob - values).sum()) / len(values)

    def _log_losses(self, entropy: EntropyCoefficient, actor_losses: list[float], critic_losses: list[float]) -> None:
        self.logger.record("train/n_updates", _sb3_internals.count_updates(self, 0), exclude="tensorboard")
        self.logger.record("train/ent_coef", np.mean(entropy.coefficients))
        if actor_losses:
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

    def value(self) -> float:
        """The coefficient now."""
        self.coefficients.append(self._fixed if self._log is None else float(self._log.exp()))
        return self.coefficients[-1]

    def learn(self, log_prob: th.Tensor) -> None:
        """A step, from the log-probabilities [N, 1] of a batch, if it is learned."""
        if self._log is None:
            return
        # ent_coef_loss = -mean(log_ent_coef * (log_prob + target_entropy))
        distance = log_prob + self._target
        self.losses.append(float(-(self._log * distance).sum()) / len(distance))
        th.sum(distance * (-1.0 / len(distance)), 0, out=self._gradients.flat)
        self._optimizer_step(self._gradients)


class LeastValue(EntropyRegularized):
    """SAC's losses: each critic gives one value, and the least one counts."""

    def _next_values(self, values: Sequence[th.Tensor]) -> th.Tensor:
        return th.cat(list(values), 1).min(1, keepdim=True)[0]

    def _critic_loss(self, values: th.Tensor, targets: th.Tensor) -> tuple[float, th.Tensor]:
        """Half of the mean squared error."""
        error = values - targets
        return 0.5 * mean_of_squares(error), error * (1.0 / len(error))

    def _policy_values(self, critics: Critics, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """The minimum of the critics' values, so that only the critic that has it has a gradient."""
        recorded = list(critics.record(inputs))
        min_qf_pi, chosen = th.cat([values for values, _ in recorded], 1).min(1)
        gradient = inputs.new_full((len(inputs), 1), -1.0 / len(inputs))
        grad_actions = th.empty((len(inputs), critics.actions))
        for place, net in enumerate(critics.nets):
            rows = (chosen == place).nonzero().squeeze(1)
            own = critics.action_gradient(net, recorded[place][1], gradient[: len(rows)], rows)
            grad_actions.index_copy_(0, rows, own)
        return min_qf_pi.unsqueeze(1), grad_actions


class FastSAC(LeastValue, sb3.SAC):
    """SAC of stable-baselines3."""
