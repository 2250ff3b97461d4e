"""The stochastic actors of SAC, TQC and CrossQ, squashed Gaussians with gSDE or not, which learn here without autograd.

Owns the density of squashed actions and its gradient. Must not know critics, losses or algorithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch as th
from sb3_contrib.crossq.policies import Actor as CrossQActor
from sb3_contrib.tqc.policies import Actor as TQCActor
from stable_baselines3.common.distributions import TanhBijector
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor
from torch import nn

from aisandbox_trainer import _torch_internals
from aisandbox_trainer.fast_updates.dense_net import DenseNet, Tape
from aisandbox_trainer.fast_updates.exploration_matrix import ExplorationMatrix
from aisandbox_trainer.fast_updates.normalized_net import Net, net_of
from aisandbox_trainer.fast_updates.optimizer_step import Gradients

_LOG_SQRT_TWO_PI = math.log(math.sqrt(2 * math.pi))
_EPSILON = 1e-6
"""Of SB3's squashed distributions, against log(0)."""


class Sampled(Protocol):
    """A batch of actions that an actor has drawn."""

    @property
    def actions(self) -> th.Tensor:
        """[N, size], in [-1, 1]."""
        ...

    @property
    def log_prob(self) -> th.Tensor:
        """[N, 1]."""
        ...


class SquashedActor(Protocol):
    """A network from observation features to distributions of actions."""

    parameters: list[nn.Parameter]

    def act(self, features: th.Tensor) -> th.Tensor:
        """Actions [N, size] for a batch of inputs [N, in], as in a rollout."""
        ...

    def sample(self, *batches: th.Tensor) -> Sequence[Sampled]:
        """Actions for each batch of inputs [N, in], drawn as SB3 does."""
        ...

    def gradients(self, sampled: Any, grad_actions: th.Tensor, grad_log_prob: float) -> Gradients:
        """Of :attr:`parameters`, from those of the actions and of each log_prob.

        Valid until the next call, which writes into the same memory.
        """
        ...


def squashed_actor(actor: Any) -> SquashedActor | None:
    """The networks of an actor of SB3; None if it has parts that are not covered."""
    if type(actor) not in (Actor, TQCActor, CrossQActor):
        return None
    return StateDependentActor.of(actor) if actor.use_sde else GaussianActor.of(actor)


def _log_density(distance: th.Tensor, std: th.Tensor) -> th.Tensor:
    """Of normally distributed rows, [N], from their distances from the means and the deviations, [N, size] each."""
    return (-(distance**2) / (2 * std**2) - std.log() - _LOG_SQRT_TWO_PI).sum(1)


@dataclass(frozen=True, slots=True)
class SampledActions:
    """Actions that an actor has drawn, [N, size] in (-1, 1), and what their gradient needs, [N, size] each."""

    latent: th.Tensor
    """[N, L]."""
    tape: Any
    """Of the latent."""
    actions: th.Tensor
    log_prob: th.Tensor
    """[N, 1]."""
    shift: th.Tensor
    """How far the numbers drawn, before tanh, are from their mean."""
    inside: th.Tensor
    """1 - actions^2, and a little."""
    free: th.Tensor
    """Whether the logarithm of the standard deviation is within its bounds."""

    @classmethod
    def of(
        cls, mean: th.Tensor, log_std: th.Tensor, noise: th.Tensor, recorded: Sequence[tuple[th.Tensor, Any]]
    ) -> list[SampledActions]:
        """tanh(mean + std * noise), where the actor's scores are ``mean`` and ``log_std`` before its bounds.

        The rows are those of several batches, for each of which ``recorded`` has the latent and its tape.
        """
        bounded = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        std = bounded.exp()
        gaussian = mean + noise * std
        actions, shift = th.tanh(gaussian), gaussian - mean
        inside = 1 - actions**2 + _EPSILON
        log_prob = _log_density(shift, std) - inside.log().sum(1)
        parts = (actions, log_prob.unsqueeze(1), shift, inside, log_std == bounded)
        sizes = [len(latent) for latent, _ in recorded]
        split = zip(*(th.split(part, sizes) for part in parts), strict=True)
        return [cls(latent, tape, *own) for (latent, tape), own in zip(recorded, split, strict=True)]

    def gradient(self, grad_actions: th.Tensor, grad_log_prob: float) -> tuple[th.Tensor, th.Tensor]:
        """Of the mean and of the logarithm of the standard deviation, from those of the actions and of each log_prob.

        With a = tanh(g), g = mean + std * noise: the logarithm of g's density does not change with the mean, and by -1
        with log_std; the correction -log(1 - a^2) has the gradient 2a / (1 - a^2).
        """
        gradient = grad_actions + (2 * grad_log_prob) * self.actions / self.inside
        gradient = _torch_internals.tanh_backward(gradient, self.actions)
        return gradient, (gradient * self.shift - grad_log_prob) * self.free


class GaussianActor:
    """Mean and standard deviation of a squashed Gaussian."""

    def __init__(self, latent: Net, mean: DenseNet, log_std: DenseNet) -> None:
        self._nets = (latent, mean, log_std)
        self.parameters = [*latent.parameters, *mean.parameters, *log_std.parameters]
        self._gradients = Gradients.of(self.parameters)
        first, second = len(latent.parameters), len(latent.parameters) + len(mean.parameters)
        parts = self._gradients.parts
        self._parts = (parts[:first], parts[first:second], parts[second:])

    @classmethod
    def of(cls, actor: Any) -> GaussianActor | None:
        """The networks of an actor without gSDE; None if it has parts that are not covered."""
        latent, mean, log_std = net_of(actor.latent_pi), DenseNet.of([actor.mu]), DenseNet.of([actor.log_std])
        return None if latent is None or mean is None or log_std is None else cls(latent, mean, log_std)

    def act(self, features: th.Tensor) -> th.Tensor:
        """See SquashedActor."""
        return self.sample(features)[0].actions

    def sample(self, *batches: th.Tensor) -> list[SampledActions]:
        """See SquashedActor; draws for one batch after the other."""
        latent_net, mean_net, log_std_net = self._nets
        recorded = [latent_net.record(batch) for batch in batches]
        mean = th.cat([mean_net(latent) for latent, _ in recorded])
        log_std = th.cat([log_std_net(latent) for latent, _ in recorded])
        noise = th.empty_like(mean)
        for own in th.split(noise, [len(batch) for batch in batches]):
            own.normal_()
        return SampledActions.of(mean, log_std, noise, recorded)

    def gradients(self, sampled: SampledActions, grad_actions: th.Tensor, grad_log_prob: float) -> Gradients:
        """See SquashedActor."""
        latent_net, mean_net, log_std_net = self._nets
        grad_mean, grad_log_std = sampled.gradient(grad_actions, grad_log_prob)
        head = [sampled.latent, grad_mean]  # both are linear: their output is not looked at
        gradient = mean_net.gradients(head, grad_mean, self._parts[1], of_input=True)
        gradient = gradient + log_std_net.gradients(head, grad_log_std, self._parts[2], of_input=True)
        latent_net.gradients(sampled.tape, gradient, self._parts[0])
        return self._gradients


@dataclass(frozen=True, slots=True)
class ExploredActions:
    """Actions by gSDE, [N, size] in [-1, 1], and what their gradient needs, [N, size] each."""

    latent: th.Tensor
    """[N, L]."""
    tape: Any
    """Of the latent."""
    mean_tape: Tape
    actions: th.Tensor
    log_prob: th.Tensor
    """[N, 1]."""
    distance: th.Tensor
    """From the mean to the actions before tanh, of which SB3 takes the density: atanh of the actions."""
    squashed: th.Tensor
    """tanh of these: the actions, but for rounding and those at -1 and 1."""
    variance: th.Tensor

    @classmethod
    def of(
        cls, latent: th.Tensor, tape: Any, mean: th.Tensor, mean_tape: Tape, noise: th.Tensor, variance: th.Tensor
    ) -> ExploredActions:
        """tanh(mean + noise), and its density over all matrices: a normal one with this variance, squashed."""
        actions = th.tanh(mean + noise)
        gaussian = TanhBijector.inverse(actions)
        distance, squashed, std = gaussian - mean, th.tanh(gaussian), th.sqrt(variance)
        log_prob = _log_density(distance, std) - th.log(1 - squashed**2 + _EPSILON).sum(1)
        return cls(latent, tape, mean_tape, actions, log_prob.unsqueeze(1), distance, squashed, std**2)

    def gradient(self, grad_actions: th.Tensor, grad_log_prob: float) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Of mean + noise, of the mean beside it, and of the variance, from those of actions and of each log_prob.

        With x = atanh(a): log p has (mean - x) / variance and the correction's 2 tanh(x) for x, the first with the
        other sign for the mean, and ((x - mean)^2 / variance - 1) / (2 variance) for the variance. For a, x has
        1 / (1 - a^2), and 0 where SB3 clips a: there the gradients for x and for the mean do not cancel.
        """
        pull = self.distance / self.variance
        of_tanh = (2 * grad_log_prob) * self.squashed / (1 - self.squashed**2 + _EPSILON)
        grad_gaussian = _torch_internals.tanh_backward(of_tanh, self.squashed) - grad_log_prob * pull
        bound = 1 - th.finfo(self.actions.dtype).eps
        clipped = self.actions.clamp(-bound, bound)
        half = 0.5 * grad_gaussian
        grad_clipped = half / (1 + clipped) + half / (1 - clipped)
        gradient = grad_actions + grad_clipped * (self.actions.abs() < bound)
        gradient = _torch_internals.tanh_backward(gradient, self.actions)
        grad_variance = grad_log_prob * (pull * self.distance - 1) / (2 * self.variance)
        return gradient, grad_log_prob * pull, grad_variance


class StateDependentActor:
    """Mean and exploration matrix of a squashed Gaussian with gSDE, whose latent learns by way of the noise too."""

    def __init__(self, latent: Net, mean: DenseNet, matrix: ExplorationMatrix) -> None:
        self._latent, self._mean, self._matrix = latent, mean, matrix
        self.parameters = [*latent.parameters, *mean.parameters, matrix.log_std]
        self._gradients = Gradients.of(self.parameters)
        first, parts = len(latent.parameters), self._gradients.parts
        self._of_latent, self._of_mean, self._of_log_std = parts[:first], parts[first:-1], parts[-1]

    @classmethod
    def of(cls, actor: Any) -> StateDependentActor | None:
        """The networks of an actor with gSDE; None if it has parts that are not covered."""
        mu = actor.mu if isinstance(actor.mu, nn.Sequential) else [actor.mu]  # bounded with clip_mean
        latent, mean = net_of(actor.latent_pi), DenseNet.of(mu)
        if latent is None or mean is None:
            return None
        return cls(latent, mean, ExplorationMatrix(actor.action_dist, actor.log_std))

    def act(self, features: th.Tensor) -> th.Tensor:
        """See SquashedActor; the matrix is kept, or there is one for each environment."""
        latent = self._latent(features)
        return th.tanh(self._mean(latent) + self._matrix.noise(latent))

    def sample(self, *batches: th.Tensor) -> list[ExploredActions]:
        """See SquashedActor; by the one matrix that was drawn last."""
        std = self._matrix.std()
        return [self._explored(batch, std) for batch in batches]

    def _explored(self, features: th.Tensor, std: th.Tensor) -> ExploredActions:
        latent, tape = self._latent.record(features)
        mean, mean_tape = self._mean.record(latent)
        noise, variance = th.mm(latent, self._matrix.drawn()), self._matrix.variance(latent**2, std)
        return ExploredActions.of(latent, tape, mean, mean_tape, noise, variance)

    def gradients(self, sampled: ExploredActions, grad_actions: th.Tensor, grad_log_prob: float) -> Gradients:
        """See SquashedActor."""
        latent, matrix, std = sampled.latent, self._matrix.drawn(), self._matrix.std()
        grad_sum, grad_mean, grad_variance = sampled.gradient(grad_actions, grad_log_prob)
        gradient = self._mean.gradients(sampled.mean_tape, grad_sum + grad_mean, self._of_mean, of_input=True)
        gradient = gradient + grad_sum.mm(matrix.t()) + grad_variance.mm(std.t() ** 2) * (2 * latent)
        self._latent.gradients(sampled.tape, gradient, self._of_latent)
        # An element of the matrix is its standard deviation times the number drawn.
        grad_std = latent.t().mm(grad_sum) * (matrix / std) + (latent**2).t().mm(grad_variance) * (2 * std)
        self._of_log_std.copy_(self._matrix.gradient(grad_std))
        return self._gradients
