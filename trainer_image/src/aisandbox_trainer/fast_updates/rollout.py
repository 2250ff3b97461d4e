"""A full rollout buffer as tensors, and what the on-policy algorithms share to learn from it. Must not know losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import explained_variance, obs_as_tensor

from aisandbox_trainer import _sb3_internals
from aisandbox_trainer.fast_updates.policy_nets import ActorCriticNets
from aisandbox_trainer.fast_updates.self_test import SelfTested, few_rows, same_forward_pass, same_update

_BUFFERS = (RolloutBuffer, DictRolloutBuffer, MaskableRolloutBuffer, MaskableDictRolloutBuffer)


@dataclass(frozen=True, slots=True)
class Rollout:
    """Rows of a rollout, in the order of SB3's flattened buffer: all steps of an environment, then the next one."""

    features: th.Tensor
    actions: th.Tensor
    numbers: th.Tensor
    """[4, N]: old values, old log-probabilities, advantages, returns."""
    masks: th.Tensor | None = None
    """bool [N, size], of an algorithm with action masks."""

    @classmethod
    def of(cls, buffer: RolloutBuffer, nets: ActorCriticNets) -> Rollout:
        """A copy of the buffer's content."""
        flat = buffer.swap_and_flatten
        stored: Any = buffer.observations
        if isinstance(stored, dict):
            observations: Any = {key: th.from_numpy(flat(value)) for key, value in stored.items()}
        else:
            observations = th.from_numpy(flat(stored))
        columns = [buffer.values, buffer.log_probs, buffer.advantages, buffer.returns]
        masks = getattr(buffer, "action_masks", None)
        return cls(
            features=nets.features(observations).flatten(1),
            actions=th.from_numpy(flat(buffer.actions).astype(np.float32)),
            numbers=th.from_numpy(np.stack([flat(column).ravel() for column in columns])),
            masks=None if masks is None else th.from_numpy(flat(masks).astype(np.bool_)),
        )

    def shuffled(self) -> Rollout:
        """The rows in a new random order; draws as ``RolloutBuffer.get`` does."""
        order = th.from_numpy(np.random.permutation(len(self.features)))
        return self._part(order)

    def rows(self, start: int, stop: int) -> Rollout:
        """A part of the rows."""
        return self._part(slice(start, stop))

    def _part(self, rows: Any) -> Rollout:
        masks = None if self.masks is None else self.masks[rows]
        return Rollout(self.features[rows], self.actions[rows], self.numbers[:, rows], masks)

    def explained_variance(self) -> float:
        """How much of the variance of the returns the values explain."""
        values, _, _, returns = self.numbers.numpy()
        return float(explained_variance(values, returns))


class FastOnPolicy(SelfTested, OnPolicyAlgorithm):
    """What the fast PPO, MaskablePPO and A2C share."""

    _nets: ActorCriticNets | None = None
    nets_found = False

    def nets(self) -> ActorCriticNets | None:
        """The policy's networks, or None if SB3's own code is to be used."""
        if not self.nets_found or (self._nets is not None and self._nets.policy is not self.policy):
            covered = type(self.rollout_buffer) in _BUFFERS
            self._nets = ActorCriticNets.of(self.policy) if covered else None
            self.nets_found = True
        return self._nets

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """As SB3's, with a faster forward pass of the policy for its duration."""
        nets = self.nets()
        if nets is None or not self.passes("forward pass", lambda: self._acts_the_same(nets)):
            return super().collect_rollouts(*args, **kwargs)
        self.policy.forward = _without_autograd(nets.act)  # type: ignore[method-assign]
        try:
            return super().collect_rollouts(*args, **kwargs)
        finally:
            del self.policy.forward

    def train(self) -> None:
        """One update from the rollout buffer. Raises NonFiniteTraining."""
        nets = self.nets()
        if nets is None or not self.passes("update", self._updates_the_same):
            self.sb3_train()
        else:
            self.fast_train(nets)

    def sb3_train(self) -> None:
        """SB3's own update."""
        super().train()

    def fast_train(self, nets: ActorCriticNets) -> None:
        """The same update, faster. Raises NonFiniteTraining."""
        _sb3_internals.set_learning_rate(self, [self.policy.optimizer])
        with th.no_grad():
            self._update(nets)

    def _update(self, nets: ActorCriticNets) -> None:
        raise NotImplementedError

    def _acts_the_same(self, nets: ActorCriticNets) -> bool:
        last = _sb3_internals.last_observation(self)
        if last is None:
            return True
        observations: Any = obs_as_tensor(last.normalized, self.device)
        masks = self._masks_now()
        return same_forward_pass(
            lambda: self.policy.forward(observations, **masks), lambda: nets.act(observations, **masks)
        )

    def _masks_now(self) -> dict[str, Any]:
        """What the policy is given beside the observations."""
        return {}

    def _updates_the_same(self) -> bool:
        return same_update(self, lambda twin: twin.sb3_train(), lambda twin: twin.fast_train(twin.nets()), shrink)

    def _log_std(self) -> None:
        log_std = getattr(self.policy, "log_std", None)
        if log_std is not None:
            self.logger.record("train/std", float(log_std.exp().mean()))


def shrink(twin: Any) -> None:
    """Makes the update of a copy short: a few rows, and one minibatch in PPO."""
    twin.rollout_buffer = few_rows(twin.rollout_buffer)
    twin.n_epochs, twin.batch_size = 1, twin.rollout_buffer.buffer_size * twin.rollout_buffer.n_envs


def _without_autograd(act: Callable[..., Any]) -> Callable[..., Any]:
    def forward(observations: Any, **masks: Any) -> Any:
        with th.inference_mode():
            return act(observations, **masks)

    return forward
