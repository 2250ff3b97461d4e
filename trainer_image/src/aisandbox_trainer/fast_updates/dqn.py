"""The update of DQN (Mnih et al. 2015, "Human-level control through deep reinforcement learning") as of SB3, faster.

Owns the loss and its gradient; the symbols are those of ``stable_baselines3/dqn/dqn.py``.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from torch.nn.functional import smooth_l1_loss

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.fast_updates.optimizer_step import OptimizerStep
from aisandbox_trainer.fast_updates.policy_nets import QNets
from aisandbox_trainer.fast_updates.self_test import SelfTested, same_forward_pass, same_update

TEST_ROWS = 16


class FastDQN(SelfTested, sb3.DQN):
    """DQN of stable-baselines3."""

    _nets: QNets | None = None
    _nets_found = False

    def nets(self) -> QNets | None:
        """The policy's networks, or None if SB3's own code is to be used."""
        if not self._nets_found or (self._nets is not None and self._nets.policy is not self.policy):
            self._nets = QNets.of(self.policy)
            self._nets_found = True
        return self._nets

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
        """As SB3's, with a faster choice of the greedy action for its duration."""
        nets = self.nets()
        if nets is None or not self.passes("greedy action", lambda: self._acts_the_same(nets)):
            return super().collect_rollouts(*args, **kwargs)
        self.policy.predict = _greedy(nets)  # type: ignore[method-assign]
        try:
            return super().collect_rollouts(*args, **kwargs)
        finally:
            del self.policy.predict

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """As SB3's. Raises NonFiniteTraining."""
        nets = self.nets()
        if nets is None or not self.passes("update", self._updates_the_same):
            self.sb3_train(gradient_steps, batch_size)
        else:
            self.fast_train(nets, gradient_steps, batch_size)

    def sb3_train(self, gradient_steps: int, batch_size: int) -> None:
        """SB3's own update."""
        super().train(gradient_steps, batch_size)

    def fast_train(self, nets: QNets, gradient_steps: int, batch_size: int) -> None:
        """The same update, faster. Raises NonFiniteTraining."""
        _sb3_internals.set_learning_rate(self)
        step = OptimizerStep(self.policy.optimizer, nets.online.parameters, self.max_grad_norm)
        with th.no_grad():
            losses = [self._update(nets, step, batch_size) for _ in range(gradient_steps)]
        self.logger.record("train/n_updates", _sb3_internals.count_updates(self, gradient_steps), exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def _update(self, nets: QNets, step: OptimizerStep, batch_size: int) -> float:
        """One step on the Huber loss of the one-step (or n-step) temporal difference."""
        replay_data = cast(ReplayBuffer, self.replay_buffer).sample(batch_size, env=_sb3_internals.vec_normalize(self))
        discounts = replay_data.discounts if replay_data.discounts is not None else self.gamma
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

    def _acts_the_same(self, nets: QNets) -> bool:
        last = _sb3_internals.last_observation(self)
        if last is None:
            return True
        fast = _greedy(nets)
        return same_forward_pass(
            lambda: self.policy.predict(last.normalized, deterministic=True)[:1], lambda: fast(last.normalized)[:1]
        )

    def _updates_the_same(self) -> bool:
        return same_update(
            self,
            lambda twin: twin.sb3_train(1, TEST_ROWS),
            lambda twin: twin.fast_train(twin.nets(), 1, TEST_ROWS),
            _use_own_networks,
        )


def _use_own_networks(twin: Any) -> None:
    twin.q_net, twin.q_net_target = twin.policy.q_net, twin.policy.q_net_target


def _greedy(nets: QNets) -> Any:
    """``policy.predict`` for batches, which is how it is called during a rollout."""

    def predict(observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False) -> Any:
        with th.inference_mode():
            tensors, _ = nets.policy.obs_to_tensor(observation)
            return nets.online(nets.features(tensors)).argmax(dim=1).numpy(), state

    return predict
