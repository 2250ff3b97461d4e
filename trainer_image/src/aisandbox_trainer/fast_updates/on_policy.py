"""PPO and A2C of stable-baselines3 with updates and rollouts that give the same numbers in a fraction of the time.

Owns the losses and their gradients. Must not know networks, distributions or optimizers from within, nor runs.

For the networks policies usually have, stable-baselines3 spends its time on Python and autograd. Here the observations
of a rollout are preprocessed once, a minibatch is a slice, gradients are written down (see :mod:`dense_net`), and Adam
is fused. The random numbers, the loss and the logged values are those of SB3; what is not covered (images, gSDE, custom
policies and buffers, a GPU) goes through SB3's own code. A saved model is a plain SB3 model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.utils import explained_variance

from aisandbox_trainer.fast_updates.optimizer_step import OptimizerStep
from aisandbox_trainer.fast_updates.policy_nets import ActorCriticNets, Pass


@dataclass(frozen=True, slots=True)
class Rollout:
    """A full rollout as tensors, in the order of SB3's flattened buffer: all steps of an environment, then the next."""

    features: th.Tensor
    actions: th.Tensor
    numbers: th.Tensor
    """[4, N]: old values, old log-probabilities, advantages, returns."""

    @classmethod
    def of(cls, buffer: RolloutBuffer, nets: ActorCriticNets) -> Rollout:
        """A copy of the buffer's content."""
        flat = buffer.swap_and_flatten
        seen: Any = buffer.observations
        if isinstance(seen, dict):
            observations: Any = {key: th.from_numpy(flat(value)) for key, value in seen.items()}
        else:
            observations = th.from_numpy(flat(seen))
        columns = [buffer.values, buffer.log_probs, buffer.advantages, buffer.returns]
        return cls(
            features=nets.features(observations).flatten(1),
            actions=th.from_numpy(flat(buffer.actions).astype(np.float32)),
            numbers=th.from_numpy(np.stack([flat(column).ravel() for column in columns])),
        )

    def shuffled(self) -> Rollout:
        """The rows in a new random order; draws as ``RolloutBuffer.get`` does."""
        order = th.from_numpy(np.random.permutation(len(self.features)))
        return Rollout(self.features[order], self.actions[order], self.numbers[:, order])

    def rows(self, start: int, stop: int) -> Rollout:
        """A part of the rows."""
        return Rollout(self.features[start:stop], self.actions[start:stop], self.numbers[:, start:stop])

    def explained_variance(self) -> float:
        """How much of the variance of the returns the values explain."""
        values, _, _, returns = self.numbers.numpy()
        return float(explained_variance(values, returns))


class _FastOnPolicy(OnPolicyAlgorithm):
    """What PPO and A2C share."""

    _nets: ActorCriticNets | None = None
    before_rollout: Callable[[], None] | None = None
    """Called where the learner is whole. SB3's own call at the start of a rollout comes after gSDE has drawn noise."""

    def nets(self) -> ActorCriticNets | None:
        """The policy's networks, or None if SB3's own code has to do."""
        if self._nets is None or self._nets.policy is not self.policy:
            plain = type(self.rollout_buffer) in (RolloutBuffer, DictRolloutBuffer) and not self.use_sde
            self._nets = ActorCriticNets.of(self.policy) if plain else None
        return self._nets

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> bool:
        """As SB3's, with a faster forward pass of the policy while it lasts."""
        if self.before_rollout is not None:
            self.before_rollout()
        nets = self.nets()
        if nets is None:
            return super().collect_rollouts(*args, **kwargs)
        self.policy.forward = _without_autograd(nets.act)  # type: ignore[method-assign, assignment]
        try:
            return super().collect_rollouts(*args, **kwargs)
        finally:
            del self.policy.forward

    def train(self) -> None:
        """One update from the rollout buffer. Raises NonFiniteTraining."""
        nets = self.nets()
        if nets is None:
            super().train()
            return
        self._update_learning_rate(self.policy.optimizer)
        with th.no_grad():
            self._update(nets)

    def _update(self, nets: ActorCriticNets) -> None:
        raise NotImplementedError

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_nets", "before_rollout"]

    def _log_std(self) -> None:
        log_std = getattr(self.policy, "log_std", None)
        if log_std is not None:
            self.logger.record("train/std", float(log_std.exp().mean()))


def _without_autograd(act: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def forward(observations: Any) -> Any:
        with th.inference_mode():
            return act(observations)

    return forward


class FastPPO(_FastOnPolicy, sb3.PPO):
    """PPO (Schulman et al. 2017) as stable-baselines3 has it."""

    def _update(self, nets: ActorCriticNets) -> None:
        rollout = Rollout.of(self.rollout_buffer, nets)
        step = OptimizerStep(self.policy.optimizer, nets.parameters, self.max_grad_norm)
        loss = PPOLoss(
            clip_range=self.clip_range(self._current_progress_remaining),  # type: ignore[operator]
            clip_range_vf=self.clip_range_vf and self.clip_range_vf(self._current_progress_remaining),  # type: ignore[operator]
            normalize_advantage=self.normalize_advantage,
            ent_coef=self.ent_coef,
            vf_coef=self.vf_coef,
        )
        batches: list[PPOBatch] = []
        for epoch in range(self.n_epochs):
            first_of_epoch = len(batches)
            stopped = False
            shuffled = rollout.shuffled()
            for start in range(0, len(rollout.features), self.batch_size):
                batch = loss(nets, shuffled.rows(start, start + self.batch_size))
                batches.append(batch)
                if self.target_kl is not None and batch.approx_kl() > 1.5 * self.target_kl:
                    stopped = True
                    break
                step(nets.gradients(batch.done, batch.of_log_prob, batch.of_entropy, batch.of_values))
            self._n_updates += 1
            if stopped:
                if self.verbose >= 1:
                    print(f"Early stopping at step {epoch} due to reaching max kl: {batches[-1].approx_kl():.2f}")
                break
        self._log(loss, batches, first_of_epoch, rollout.explained_variance())

    def _log(self, loss: PPOLoss, batches: list[PPOBatch], first_of_epoch: int, explained: float) -> None:
        record = self.logger.record
        record("train/entropy_loss", _mean([-batch.entropy for batch in batches]))
        record("train/policy_gradient_loss", _mean([-batch.surrogate for batch in batches]))
        record("train/value_loss", _mean([batch.squared_error for batch in batches]))
        record("train/approx_kl", _mean([batch.kl() for batch in batches[first_of_epoch:]]))
        record("train/clip_fraction", _mean([((b.ratio - 1).abs() > loss.clip_range).float() for b in batches]))
        last = batches[-1]
        total = -last.surrogate.mean() - self.ent_coef * last.entropy.mean() + self.vf_coef * last.squared_error.mean()
        record("train/loss", float(total))
        record("train/explained_variance", explained)
        self._log_std()
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        record("train/clip_range", loss.clip_range)
        if loss.clip_range_vf is not None:
            record("train/clip_range_vf", loss.clip_range_vf)


@dataclass(frozen=True, slots=True)
class PPOBatch:
    """The parts of the loss of one minibatch, [N] each, and their gradients."""

    done: Pass
    surrogate: th.Tensor
    squared_error: th.Tensor
    entropy: th.Tensor
    log_ratio: th.Tensor
    ratio: th.Tensor
    of_log_prob: th.Tensor
    of_entropy: float
    of_values: th.Tensor

    def kl(self) -> th.Tensor:
        """Each row's part of Schulman's estimate of the reverse KL divergence, http://joschu.net/blog/kl-approx.html."""
        return (self.ratio - 1) - self.log_ratio

    def approx_kl(self) -> float:
        """The estimate."""
        return float(self.kl().mean())


@dataclass(frozen=True, slots=True)
class PPOLoss:
    """The clipped surrogate loss, the value loss and the entropy bonus."""

    clip_range: float
    clip_range_vf: float | None
    normalize_advantage: bool
    ent_coef: float
    vf_coef: float

    def __call__(self, nets: ActorCriticNets, rows: Rollout) -> PPOBatch:
        """The loss of a minibatch and its gradients."""
        old_values, old_log_prob, advantages, returns = rows.numbers
        n = len(old_values)
        done = nets.evaluate(rows.features, rows.actions)
        if self.normalize_advantage and n > 1:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        log_ratio = done.evaluation.log_prob - old_log_prob
        ratio = log_ratio.exp()
        plain = advantages * ratio
        clipped = advantages * ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        # Where the clipped surrogate is the smaller one it is constant in the ratio; elsewhere the two are equal.
        weight = (advantages * (-1.0 / n)) * (plain <= clipped)
        values, inside = done.values, None
        if self.clip_range_vf is not None:
            moved = values - old_values
            values = old_values + moved.clamp(-self.clip_range_vf, self.clip_range_vf)
            inside = moved.abs() <= self.clip_range_vf
        error = values - returns
        of_values = error * (2.0 / n * self.vf_coef)
        return PPOBatch(
            done=done,
            surrogate=th.min(plain, clipped),
            squared_error=error * error,
            entropy=done.evaluation.entropy(),
            log_ratio=log_ratio,
            ratio=ratio,
            of_log_prob=weight * ratio,
            of_entropy=-self.ent_coef / n,
            of_values=of_values if inside is None else of_values * inside,
        )


class FastA2C(_FastOnPolicy, sb3.A2C):
    """A2C (Mnih et al. 2016) as stable-baselines3 has it."""

    def _update(self, nets: ActorCriticNets) -> None:
        rollout = Rollout.of(self.rollout_buffer, nets)
        rows = rollout.shuffled()  # as SB3 does: the order is part of the numbers, the draw of the random state
        _, _, advantages, returns = rows.numbers
        n = len(returns)
        done = nets.evaluate(rows.features, rows.actions)
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        error = done.values - returns
        entropy = done.evaluation.entropy()
        step = OptimizerStep(self.policy.optimizer, nets.parameters, self.max_grad_norm)
        of_log_prob, of_values = advantages * (-1.0 / n), error * (2.0 / n * self.vf_coef)
        step(nets.gradients(done, of_log_prob, -self.ent_coef / n, of_values))
        self._n_updates += 1
        record = self.logger.record
        record("train/n_updates", self._n_updates, exclude="tensorboard")
        record("train/explained_variance", rollout.explained_variance())
        record("train/entropy_loss", float(-entropy.mean()))
        record("train/policy_loss", float(-(advantages * done.evaluation.log_prob).mean()))
        record("train/value_loss", float((error * error).mean()))
        self._log_std()


def _mean(parts: list[th.Tensor]) -> float:
    """The mean of the minibatches' means, as SB3 logs it; a last, shorter minibatch counts as much as the others."""
    whole = [part for part in parts if len(part) == len(parts[0])]
    rest = [part.mean(0, keepdim=True) for part in parts if len(part) != len(parts[0])]
    means = th.cat([th.stack(whole).mean(1), *rest])
    return float(means.double().mean())
