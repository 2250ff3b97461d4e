"""DQN of stable-baselines3 with updates and steps that give the same numbers in a fraction of the time.

Owns the loss and its gradient. PPO and A2C are in :mod:`aisandbox_trainer.fast_updates.on_policy`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch.nn.functional import smooth_l1_loss

from aisandbox_trainer.fast_updates.dense_net import DenseNet
from aisandbox_trainer.fast_updates.optimizer_step import Gradients, OptimizerStep
from aisandbox_trainer.fast_updates.plain_features import has_plain_features


class QNets:
    """The online and the target network of a policy; they share the policy's parameters."""

    def __init__(self, policy: DQNPolicy, online: DenseNet, target: DenseNet) -> None:
        self.policy = policy
        self.online = online
        self.target = target
        self.gradients = Gradients.of(online.parameters)

    @classmethod
    def of(cls, policy: Any) -> QNets | None:
        """The networks of ``policy``; None if it has parts not written down here (images, a GPU, own classes)."""
        if not isinstance(policy, DQNPolicy) or policy.device.type != "cpu":
            return None
        nets = []
        for net in (policy.q_net, policy.q_net_target):
            dense = DenseNet.of(net.q_net) if type(net) is QNetwork else None
            if dense is None or not has_plain_features(net.features_extractor):
                return None
            nets.append(dense)
        return cls(policy, *nets)

    def features(self, observations: Any) -> th.Tensor:
        """The networks' input [N, features] for a batch of observations (a tensor, or a dict of them)."""
        net = self.policy.q_net
        features: th.Tensor = net.features_extractor(
            preprocess_obs(observations, net.observation_space, normalize_images=net.normalize_images)
        )
        return features


class FastDQN(sb3.DQN):
    """DQN (Mnih et al. 2015) as stable-baselines3 has it."""

    _nets: QNets | None = None
    before_rollout: Callable[[], None] | None = None
    """Called where the learner is whole."""

    def nets(self) -> QNets | None:
        """The policy's networks, or None if SB3's own code has to do."""
        if self._nets is None or self._nets.policy is not self.policy:
            self._nets = QNets.of(self.policy)
        return self._nets

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> Any:
        """As SB3's, with a faster choice of the greedy action while it lasts."""
        if self.before_rollout is not None:
            self.before_rollout()
        nets = self.nets()
        if nets is None:
            return super().collect_rollouts(*args, **kwargs)
        self.policy.predict = _greedy(nets)  # type: ignore[method-assign]
        try:
            return super().collect_rollouts(*args, **kwargs)
        finally:
            del self.policy.predict

    def train(self, gradient_steps: int, batch_size: int = 100) -> None:
        """As SB3's. Raises NonFiniteTraining."""
        nets = self.nets()
        if nets is None:
            super().train(gradient_steps, batch_size)
            return
        self._update_learning_rate(self.policy.optimizer)
        step = OptimizerStep(self.policy.optimizer, nets.online.parameters, self.max_grad_norm)
        with th.no_grad():
            losses = [self._update(nets, step, batch_size) for _ in range(gradient_steps)]
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", np.mean(losses))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_nets", "before_rollout"]

    def _update(self, nets: QNets, step: OptimizerStep, batch_size: int) -> float:
        """One step on the Huber loss of the one-step (or n-step) temporal difference."""
        rows = cast(ReplayBuffer, self.replay_buffer).sample(batch_size, env=self._vec_normalize_env)
        discounts = rows.discounts if rows.discounts is not None else self.gamma
        best = nets.target(nets.features(rows.next_observations)).max(dim=1)[0].reshape(-1, 1)
        wanted = rows.rewards + (1 - rows.dones) * discounts * best
        values, tape = nets.online.record(nets.features(rows.observations))
        taken = rows.actions.long()
        found = values.gather(1, taken)
        error = (found - wanted).clamp(-1, 1) * (1.0 / len(found))
        of_values = th.zeros_like(values).scatter_(1, taken, error)
        nets.online.gradients(tape, of_values, nets.gradients.parts)
        step(nets.gradients)
        return float(smooth_l1_loss(found, wanted))


def _greedy(nets: QNets) -> Any:
    """``policy.predict`` for batches, which is what it is asked during a rollout."""

    def predict(observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False) -> Any:
        with th.inference_mode():
            seen, _ = nets.policy.obs_to_tensor(observation)
            return nets.online(nets.features(seen)).argmax(dim=1).numpy(), state

    return predict
