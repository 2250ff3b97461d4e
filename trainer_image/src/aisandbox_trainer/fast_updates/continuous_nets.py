"""The networks of off-policy actor-critics with continuous actions, which learn here without autograd.

Owns which policies are covered, and the gradients of critics. Must not know losses or algorithms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch as th
from sb3_contrib.crossq.policies import CrossQCritic
from sb3_contrib.tqc.policies import Critic as TQCCritic
from stable_baselines3.common.policies import ContinuousCritic
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.td3.policies import Actor as TD3Actor

from aisandbox_trainer import _torch_internals
from aisandbox_trainer.fast_updates.dense_net import DenseNet
from aisandbox_trainer.fast_updates.normalized_net import Net, net_of
from aisandbox_trainer.fast_updates.optimizer_step import Gradients
from aisandbox_trainer.fast_updates.policy_nets import only_reshapes
from aisandbox_trainer.fast_updates.squashed_actors import SquashedActor, squashed_actor


def features_of(net: Any, observations: Any) -> th.Tensor:
    """The input [N, features] of a network of SB3 for a batch of observations (a tensor, or a dict of them)."""
    preprocessed = preprocess_obs(observations, net.observation_space, normalize_images=net.normalize_images)
    features: th.Tensor = net.features_extractor(preprocessed)
    return features


def are_covered(*nets: Any) -> bool:
    """Whether the observations of these networks of SB3 become their input without weights, on the CPU."""
    return all(net.device.type == "cpu" and only_reshapes(net.features_extractor) for net in nets)


class Critics:
    """Several networks from observation features and actions to values [N, outputs] each."""

    def __init__(self, nets: Sequence[Net], actions: int) -> None:
        self.nets = nets
        self.actions = actions
        self.parameters = [parameter for net in nets for parameter in net.parameters]
        self.gradients = Gradients.of(self.parameters)
        self._places = [slice(i * len(net.parameters), (i + 1) * len(net.parameters)) for i, net in enumerate(nets)]

    @classmethod
    def of(cls, critic: Any) -> Critics | None:
        """The networks of a critic; None if it has parts that are not covered."""
        if type(critic) not in (ContinuousCritic, TQCCritic, CrossQCritic):
            return None
        nets = [net_of(net) for net in critic.q_networks]
        covered = [net for net in nets if net is not None]
        return cls(covered, math.prod(critic.action_space.shape)) if len(covered) == len(nets) else None

    def __call__(self, features: th.Tensor, actions: th.Tensor) -> list[th.Tensor]:
        """The values of each network."""
        inputs = self.inputs(features, actions)
        return [net(inputs) for net in self.nets]

    def inputs(self, features: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """What each network sees, [N, in]."""
        return th.cat([features, actions], 1)

    def record(self, inputs: th.Tensor) -> Iterator[tuple[th.Tensor, Any]]:
        """The values of each network, and what its gradients need; each when it is asked for."""
        return (net.record(inputs) for net in self.nets)

    def learn(
        self, recorded: Iterable[tuple[th.Tensor, Any]], loss: Callable[[th.Tensor], tuple[float, th.Tensor]]
    ) -> tuple[float, Gradients]:
        """The sum of the networks' losses, and its gradient for :attr:`parameters`, valid until the next call.

        ``recorded``: of :meth:`record`. ``loss``: from a network's values to its loss and the gradient of the values.
        One network after the other, so that its numbers stay in the processor's cache.
        """
        total = 0.0
        for net, place, (values, tape) in zip(self.nets, self._places, recorded, strict=True):
            part, gradient = loss(values)
            net.gradients(tape, gradient, self.gradients.parts[place])
            total += part
        return total, self.gradients

    def action_gradient(self, net: Net, tape: Any, gradient: th.Tensor, rows: th.Tensor | None = None) -> th.Tensor:
        """The gradient of the actions [N, size] from that of the values of a network.

        ``rows``: the indices of those that ``gradient`` has; None: all.
        """
        return net.input_gradient(tape, gradient, self.actions, rows)


@dataclass(frozen=True, slots=True)
class ActorAndCritics:
    """The networks of a policy; they share its parameters."""

    policy: Any

    def features(self, observations: Any) -> th.Tensor:
        """The networks' input [N, features]."""
        return features_of(self.policy.actor, observations)


@dataclass(frozen=True, slots=True)
class StochasticNets(ActorAndCritics):
    """Those of CrossQ."""

    actor: SquashedActor
    critics: Critics

    @classmethod
    def of(cls, policy: Any) -> StochasticNets | None:
        """The networks of ``policy``; None if it has parts that are not covered."""
        if not are_covered(policy.actor, policy.critic):
            return None
        actor, critics = squashed_actor(policy.actor), Critics.of(policy.critic)
        return None if actor is None or critics is None else cls(policy, actor, critics)

    def act(self, observations: Any) -> th.Tensor:
        """Sampled actions [N, size]."""
        return self.actor.act(self.features(observations))


@dataclass(frozen=True, slots=True)
class EntropyNets(StochasticNets):
    """Those of SAC and TQC."""

    targets: Critics

    @classmethod
    def of(cls, policy: Any) -> EntropyNets | None:
        """The networks of ``policy``; None if it has parts that are not covered."""
        learning = StochasticNets.of(policy)
        targets = Critics.of(policy.critic_target) if are_covered(policy.critic_target) else None
        return None if learning is None or targets is None else cls(policy, learning.actor, learning.critics, targets)


@dataclass(frozen=True, slots=True)
class DeterministicNets(ActorAndCritics):
    """Those of TD3."""

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
