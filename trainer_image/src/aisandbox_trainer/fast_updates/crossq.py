"""The update of CrossQ (Bhatt et al. 2024, "Batch Normalization in Deep Reinforcement Learning") as of sb3-contrib.

Owns its order of steps, and the one pass of the critics over states and next states; the symbols are those of
``sb3_contrib/crossq/crossq.py``, the losses are SAC's. Must not know networks, distributions or optimizers from within.
"""

from __future__ import annotations

import math
from typing import Any

import torch as th
from sb3_contrib import CrossQ
from sb3_contrib.common.torch_layers import BatchRenorm1d

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.fast_updates.continuous_nets import StochasticNets
from aisandbox_trainer.fast_updates.optimizer_step import Gradients, OptimizerStep
from aisandbox_trainer.fast_updates.sac import EntropyCoefficient, LeastValue

LARGE_EPSILON = 1e-4
"""Of Adam in the test of an update."""


class FastCrossQ(LeastValue, CrossQ):
    """CrossQ of sb3-contrib. As there, layers take a batch's statistics only where their mode is set to training."""

    policy_delay: int

    def _find_nets(self) -> StochasticNets | None:
        return StochasticNets.of(self.policy)

    def prepare_test(self) -> None:
        """Also lets the critics be beyond their warm-up, unlike the actor: so both ways to normalize are tested.

        A bias whose unit is active in all rows has no gradient, since its mean is taken away again; Adam would divide
        its rounding by itself.
        """
        super().prepare_test()
        layers: Any = [module for module in self.critic.modules() if isinstance(module, BatchRenorm1d)]
        for layer in layers:
            layer.steps.fill_(layer.warmup_steps + 1)
        for group in (*self.actor.optimizer.param_groups, *self.critic.optimizer.param_groups):
            group.update({"eps": LARGE_EPSILON} if "eps" in group else {})

    def _update(self, nets: StochasticNets, gradient_steps: int, batch_size: int) -> None:
        entropy = EntropyCoefficient(self)
        actor_step = OptimizerStep(self.actor.optimizer, nets.actor.parameters, math.inf)
        critic_step = OptimizerStep(self.critic.optimizer, nets.critics.parameters, math.inf)
        actor_losses, critic_losses = [], []
        with th.inference_mode():
            for _ in range(gradient_steps):
                n_updates = _sb3_internals.count_updates(self, 1)
                replay_data, discounts = self._sampled(batch_size)
                features = nets.features(replay_data.observations)
                if self.use_sde:
                    self.actor.reset_noise()
                ent_coef = entropy.value()
                loss, gradients = self._critic_gradients(nets, features, replay_data, discounts, ent_coef)
                critic_losses.append(loss)
                critic_step(gradients)

                if n_updates % self.policy_delay == 0:
                    self.actor.set_bn_training_mode(True)
                    (pi,) = nets.actor.sample(features)
                    self.actor.set_bn_training_mode(False)
                    entropy.learn(pi.log_prob)
                    actor_losses.append(self._learn_actor(nets, features, pi, ent_coef, actor_step))
        self._log_losses(entropy, actor_losses, critic_losses)

    def _critic_gradients(
        self, nets: StochasticNets, features: th.Tensor, replay_data: Any, discounts: Any, ent_coef: float
    ) -> tuple[float, Gradients]:
        """The critics' loss and its gradient; one pass over both halves, so that they are normalized together."""
        next_features, n = nets.features(replay_data.next_observations), len(features)
        self.actor.set_bn_training_mode(False)
        (next_pi,) = nets.actor.sample(next_features)
        actions = th.cat([replay_data.actions, next_pi.actions])
        self.critic.set_bn_training_mode(True)
        recorded = list(nets.critics.record(nets.critics.inputs(th.cat([features, next_features]), actions)))
        self.critic.set_bn_training_mode(False)

        next_values = self._next_values([values[n:] for values, _ in recorded]) - ent_coef * next_pi.log_prob
        targets = replay_data.rewards + (1 - replay_data.dones) * discounts * next_values

        def loss(values: th.Tensor) -> tuple[float, th.Tensor]:
            found, gradient = self._critic_loss(values[:n], targets)
            return found, th.cat([gradient, th.zeros_like(gradient)])

        return nets.critics.learn(recorded, loss)
