"""The networks of off-policy actor-critics with continuous actions, which learn here without autograd.

Owns which policies are covered, the squashed Gaussian of SAC and TQC, and the gradients of both kinds of networks. Must
not know losses or algorithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch as th
from sb3_contrib.tqc.policies import Actor as TQCActor
from sb3_contrib.tqc.policies import Critic as TQCCritic
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, Actor
from stable_baselines3.td3.policies import Actor as TD3Actor

from aisandbox_trainer import _torch_internals
from aisandbox_trainer.fast_updates.dense_net import DenseNet, Tape
from aisandbox_trainer.fast_updates.optimizer_step import Gradients
from aisandbox_trainer.fast_updates.policy_nets import only_reshapes

_LOG_SQRT_TWO_PI = math.log(math.sqrt(2 * math.pi))
_EPSILON = 1e-6
"""Of SquashedDiagGaussianDistribution, against log(0)."""


def features_of(net: Any, observations: Any) -> th.Tensor:
    """The input [N, features] of a network of SB3 for a batch of observations (a tensor, or a dict of them)."""
    preprocessed = preprocess_obs(observations, net.observation_space, normalize_images=net.normalize_images)
    features: th.Tensor = net.features_extractor(preprocessed)
    return features


def are_covered(*nets: Any) -> bool:
    """Whether the observations of these networks of SB3 become their input without weights, on the CPU."""
    return all(net.device.type == "cpu" and only_reshapes(net.features_extractor) for net in nets)


@dataclass(frozen=True, slots=True)
class SampledActions:
    """Actions that an actor has drawn, [N, size] in (-1, 1), and what their gradient needs, [N, size] each."""

    tape: Tape
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
        cls, mean: th.Tensor, log_std: th.Tensor, noise: th.Tensor, places: Sequence[slice], tapes: Sequence[Tape]
    ) -> list[SampledActions]:
        """tanh(mean + std * noise), where the actor's scores are ``mean`` and ``log_std`` before its bounds.

        The rows are those of several batches; ``places`` says of which, and each has a tape.
        """
        bounded = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        std = bounded.exp()
        gaussian = mean + noise * std
        actions, shift = th.tanh(gaussian), gaussian - mean
        inside = 1 - actions**2 + _EPSILON
        log_prob = (-(shift**2) / (2 * std**2) - std.log() - _LOG_SQRT_TWO_PI).sum(1) - inside.log().sum(1)
        parts = (actions, log_prob.unsqueeze(1), shift, inside, log_std == bounded)
        return [cls(tape, *(part[place] for part in parts)) for tape, place in zip(tapes, places, strict=True)]

    def gradient(self, grad_actions: th.Tensor, grad_log_prob: float) -> tuple[th.Tensor, th.Tensor]:
        """Of the mean and of the logarithm of the standard deviation, from those of the actions and of each log_prob.

        With a = tanh(g), g = mean + std * noise: the logarithm of g's density does not change with the mean, and by -1
        with log_std; the correction -log(1 - a^2) has the gradient 2a / (1 - a^2).
        """
        gradient = grad_actions + (2 * grad_log_prob) * self.actions / self.inside
        gradient = _torch_internals.tanh_backward(gradient, self.actions)
        return gradient, (gradient * self.shift - grad_log_prob) * self.free


class GaussianActor:
    """The actor of SAC and TQC: mean and standard deviation of a squashed Gaussian."""

    def __init__(self, latent: DenseNet, mean: DenseNet, log_std: DenseNet) -> None:
        self._nets = (latent, mean, log_std)
        self.parameters = [parameter for net in self._nets for parameter in net.parameters]
        self._gradients = Gradients.of(self.parameters)
        first, second = len(latent.parameters), len(latent.parameters) + len(mean.parameters)
        parts = self._gradients.parts
        self._parts = (parts[:first], parts[first:second], parts[second:])

    @classmethod
    def of(cls, actor: Any) -> GaussianActor | None:
        """The networks of an actor; None if it has parts that are not covered (gSDE among them)."""
        if type(actor) not in (Actor, TQCActor) or actor.use_sde:
            return None
        nets = [DenseNet.of(modules) for modules in (actor.latent_pi, [actor.mu], [actor.log_std])]
        latent, mean, log_std = nets
        return None if latent is None or mean is None or log_std is None else cls(latent, mean, log_std)

    def sample(self, *batches: th.Tensor) -> list[SampledActions]:
        """Actions for each batch of inputs [N, in]; draws for one after the other, as SB3 does."""
        latent_net, mean_net, log_std_net = self._nets
        recorded = [latent_net.record(batch) for batch in batches]
        mean = th.cat([mean_net(latent) for latent, _ in recorded])
        log_std = th.cat([log_std_net(latent) for latent, _ in recorded])
        ends = list(accumulate(map(len, batches)))
        places = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
        noise = th.empty_like(mean)
        for place in places:
            noise[place].normal_()
        tapes = [tape for _, tape in recorded]
        return SampledActions.of(mean, log_std, noise, places, tapes)

    def gradients(self, sampled: SampledActions, grad_actions: th.Tensor, grad_log_prob: float) -> Gradients:
        """Of :attr:`parameters`. Valid until the next call, which writes into the same memory."""
        latent_net, mean_net, log_std_net = self._nets
        grad_mean, grad_log_std = sampled.gradient(grad_actions, grad_log_prob)
        head = [sampled.tape[-1], grad_mean]  # both are linear: their output is not looked at
        gradient = mean_net.gradients(head, grad_mean, self._parts[1], of_input=True)
        gradient = gradient + log_std_net.gradients(head, grad_log_std, self._parts[2], of_input=True)
        latent_net.gradients(sampled.tape, gradient, self._parts[0])
        return self._gradients


class Critics:
    """Several networks from observation features and actions to values [N, outputs] each."""

    def __init__(self, nets: Sequence[DenseNet], actions: int) -> None:
        self.nets = nets
        self._actions = actions
        self.parameters = [parameter for net in nets for parameter in net.parameters]
        self.gradients = Gradients.of(self.parameters)
        self._places = [slice(i * len(net.parameters), (i + 1) * len(net.parameters)) for i, net in enumerate(nets)]

    @classmethod
    def of(cls, critic: Any) -> Critics | None:
        """The networks of a critic; None if it has parts that are not covered."""
        if type(critic) not in (ContinuousCritic, TQCCritic):
            return None
        nets = [DenseNet.of(net) for net in critic.q_networks]
        covered = [net for net in nets if net is not None]
        return cls(covered, math.prod(critic.action_space.shape)) if len(covered) == len(nets) else None

    def __call__(self, features: th.Tensor, actions: th.Tensor) -> list[th.Tensor]:
        """The values of each network."""
        inputs = self.inputs(features, actions)
        return [net(inputs) for net in self.nets]

    def inputs(self, features: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """What each network sees, [N, in]."""
        return th.cat([features, actions], 1)

    def learn(self, inputs: th.Tensor, loss: Callable[[th.Tensor], tuple[float, th.Tensor]]) -> tuple[float, Gradients]:
        """The sum of the networks' losses, and its gradient for :attr:`parameters`, valid until the next call.

        ``loss``: from a network's values to its loss and the gradient of the values. One network after the other, so
        that its numbers stay in the processor's cache.
        """
        total = 0.0
        for net, place in zip(self.nets, self._places, strict=True):
            values, tape = net.record(inputs)
            part, gradient = loss(values)
            net.gradients(tape, gradient, self.gradients.parts[place])
            total += part
        return total, self.gradients

    def action_gradient(
        self, net: DenseNet, tape: Tape, gradient: th.Tensor, rows: th.Tensor | None = None
    ) -> th.Tensor:
        """The gradient of the actions [N, size] from that of the values of a network.

        ``rows``: those whose values have a gradient, the given one; None: all.
        """
        found = net.input_gradient(tape, gradient, self._actions, rows)
        if rows is None:
            return found
        return found.new_zeros((len(tape[0]), self._actions)).index_copy_(0, rows, found)


@dataclass(frozen=True, slots=True)
class EntropyNets:
    """The networks of a policy of SAC or TQC; they share its parameters."""

    policy: Any
    actor: GaussianActor
    critics: Critics
    targets: Critics

    @classmethod
    def of(cls, policy: Any) -> EntropyNets | None:
        """The networks of ``policy``; None if it has parts that are not covered."""
        if not are_covered(policy.actor, policy.critic, policy.critic_target):
            return None
        actor, critics, targets = (
            GaussianActor.of(policy.actor),
            Critics.of(policy.critic),
            Critics.of(policy.critic_target),
        )
        if actor is None or critics is None or targets is None:
            return None
        return cls(policy, actor, critics, targets)

    def features(self, observations: Any) -> th.Tensor:
        """The networks' input [N, features]."""
        return features_of(self.policy.actor, observations)

    def act(self, observations: Any) -> th.Tensor:
        """Sampled actions [N, size]."""
        return self.actor.sample(self.features(observations))[0].actions


@dataclass(frozen=True, slots=True)
class DeterministicNets:
    """The networks of a policy of TD3; they share its parameters."""

    policy: Any
    actor: DenseNet
    actor_target: DenseNet
    critics: Critics
    critic_targets: Critics
    gradients: Gradients
    """Of the actor's parameters."""

    @classmethod
    def of(cls, policy: Any) -> DeterministicNets | None:
        """The networks of ``policy``; None if it has parts that are not covered."""
        if not are_covered(policy.actor, policy.actor_target, policy.critic, policy.critic_target):
            return None
        actors = [DenseNet.of(net.mu) for net in (policy.actor, policy.actor_target) if type(net) is TD3Actor]
        critics, targets = Critics.of(policy.critic), Critics.of(policy.critic_target)
        actor, actor_target = actors if len(actors) == 2 else (None, None)
        if actor is None or actor_target is None or critics is None or targets is None:
            return None
        return cls(policy, actor, actor_target, critics, targets, Gradients.of(actor.parameters))

    def features(self, observations: Any) -> th.Tensor:
        """The networks' input [N, features]."""
        return features_of(self.policy.actor, observations)

    def act(self, observations: Any) -> th.Tensor:
        """The actor's actions [N, size]."""
        return self.actor(self.features(observations))


def mean_of_squares(error: th.Tensor) -> float:
    """Of an error [N, 1]; ``mean`` takes several times as long."""
    flat = error.flatten()
    return float(th.dot(flat, flat)) / len(flat)


def move_targets(sources: Critics | DenseNet, targets: Critics | DenseNet, tau: float) -> None:
    """SB3's ``polyak_update``, of all parameters in two calls."""
    _torch_internals.move_towards(targets.parameters, sources.parameters, tau)
