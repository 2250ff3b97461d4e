"""The update of A2C (Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning") as of SB3, faster.

Owns the loss and its gradient; the symbols are those of ``stable_baselines3/a2c/a2c.py``.
"""

from __future__ import annotations

import stable_baselines3 as sb3

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.fast_updates.optimizer_step import OptimizerStep
from aisandbox_trainer.fast_updates.policy_nets import ActorCriticNets
from aisandbox_trainer.fast_updates.rollout import FastOnPolicy, Rollout


class FastA2C(FastOnPolicy, sb3.A2C):
    """A2C of stable-baselines3."""

    def _update(self, nets: ActorCriticNets) -> None:
        rollout = Rollout.of(self.rollout_buffer, nets)
        rows = rollout.shuffled()  # as SB3: the order affects rounding, and the draw changes the random state
        _, _, advantages, returns = rows.numbers
        n = len(returns)
        forward = nets.evaluate(rows.features, rows.actions)
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        # policy_loss = -mean(advantages * log_prob), value_loss = mean(error^2), entropy_loss = -mean(entropy)
        error = forward.values - returns
        grad_log_prob = advantages * (-1.0 / n)
        grad_values = error * (2.0 / n * self.vf_coef)
        step = OptimizerStep(self.policy.optimizer, nets.parameters, self.max_grad_norm)
        entropy = forward.actions.entropy()
        step(nets.gradients(forward, grad_log_prob, -self.ent_coef / n, grad_values))
        record = self.logger.record
        record("train/n_updates", _sb3_internals.count_updates(self, 1), exclude="tensorboard")
        record("train/explained_variance", rollout.explained_variance())
        record("train/entropy_loss", float(-entropy.mean()))
        record("train/policy_loss", float(-(advantages * forward.actions.log_prob).mean()))
        record("train/value_loss", float((error * error).mean()))
        self._log_std()
