"""SB3's policies of dense layers, which act and learn here without autograd.

Owns which policies are covered and the order of their parameters. Must not know algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th
from numpy.typing import NDArray
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy, MaskableMultiInputActorCriticPolicy
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import CombinedExtractor, FlattenExtractor, MlpExtractor
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from aisandbox_trainer.fast_updates.dense_net import DenseNet, Tape
from aisandbox_trainer.fast_updates.distributions import ActionDistribution, EvaluatedActions, distribution_of
from aisandbox_trainer.fast_updates.optimizer_step import Gradients

_COVERED = (
    ActorCriticPolicy,
    MultiInputActorCriticPolicy,
    MaskableActorCriticPolicy,
    MaskableMultiInputActorCriticPolicy,
)


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """One forward pass over a batch: the actions under the policy, the values [N], and the records of both networks."""

    actions: EvaluatedActions
    values: th.Tensor
    actor_tape: Tape
    critic_tape: Tape


class ActorCriticNets:
    """The two networks of a policy and its action distribution; they share the policy's parameters."""

    def __init__(
        self, policy: ActorCriticPolicy, actor: DenseNet, critic: DenseNet, distribution: ActionDistribution
    ) -> None:
        self.policy = policy
        self._actor = actor
        self._critic = critic
        self._distribution = distribution
        mine = [*distribution.parameters, *actor.parameters, *critic.parameters]
        self.parameters = list(policy.parameters())
        self._gradients = Gradients.of(self.parameters)
        places = {id(parameter): place for place, parameter in enumerate(self.parameters)}
        parts = [self._gradients.parts[places[id(parameter)]] for parameter in mine]
        first, second = len(distribution.parameters), len(distribution.parameters) + len(actor.parameters)
        self._grad_distribution, self._grad_actor, self._grad_critic = (
            parts[:first],
            parts[first:second],
            parts[second:],
        )

    @classmethod
    def of(cls, policy: Any) -> ActorCriticNets | None:
        """The networks of ``policy``; None if it has parts that are not covered.

        Covered: SB3's MlpPolicy and MultiInputPolicy without images, on the CPU, with Tanh or ReLU, and every action
        distribution but a squashed one.
        """
        if type(policy) not in _COVERED or policy.device.type != "cpu":
            return None
        extractors = {policy.pi_features_extractor, policy.vf_features_extractor}
        if not all(only_reshapes(each) for each in extractors):
            return None
        if type(policy.mlp_extractor) is not MlpExtractor:
            return None
        actor = DenseNet.of([*policy.mlp_extractor.policy_net, policy.action_net])
        critic = DenseNet.of([*policy.mlp_extractor.value_net, policy.value_net])
        distribution = distribution_of(policy.action_dist, getattr(policy, "log_std", None))
        if actor is None or critic is None or distribution is None:
            return None
        known = {id(each) for each in (*distribution.parameters, *actor.parameters, *critic.parameters)}
        if known != {id(each) for each in policy.parameters() if each.requires_grad}:
            return None
        return cls(policy, actor, critic, distribution)

    def features(self, observations: Any) -> th.Tensor:
        """The networks' input [N, features] for a batch of observations (a tensor, or a dict of them)."""
        space = self.policy.observation_space
        preprocessed = preprocess_obs(observations, space, normalize_images=self.policy.normalize_images)
        features: th.Tensor = self.policy.pi_features_extractor(preprocessed)
        return features

    def act(
        self, observations: Any, action_masks: NDArray[np.bool_] | None = None
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """As ``ActorCriticPolicy.forward``: sampled actions [N, *shape], values [N, 1], log-probabilities [N].

        ``action_masks``: bool [N, size], as ``MaskableActorCriticPolicy.forward`` takes them.
        """
        features = self.features(observations)
        values = self._critic(features)
        masks = None if action_masks is None else th.from_numpy(action_masks)
        scores, tape = self._actor.record(features)
        actions, log_prob = self._distribution.sample(scores, tape[-2], masks)
        return actions.reshape((-1, *(self.policy.action_space.shape or ()))), values, log_prob

    def evaluate(self, features: th.Tensor, actions: th.Tensor, masks: th.Tensor | None = None) -> ForwardPass:
        """As ``ActorCriticPolicy.evaluate_actions``, from features; ``values`` are [N]. ``masks``: bool [N, size]."""
        scores, actor_tape = self._actor.record(features)
        values, critic_tape = self._critic.record(features)
        evaluated = self._distribution.evaluate(scores, actor_tape[-2], actions, masks)
        return ForwardPass(evaluated, values.squeeze(-1), actor_tape, critic_tape)

    def gradients(
        self, forward: ForwardPass, grad_log_prob: th.Tensor, grad_entropy: float, grad_values: th.Tensor
    ) -> Gradients:
        """The gradients of :attr:`parameters`, from those of the pass's results ([N], one number, [N]).

        Valid until the next call, which writes into the same memory.
        """
        grad_scores, own = forward.actions.gradient(grad_log_prob, grad_entropy)
        for mine, gradient in zip(self._grad_distribution, own, strict=True):
            mine.copy_(gradient)
        self._actor.gradients(forward.actor_tape, grad_scores, self._grad_actor)
        self._critic.gradients(forward.critic_tape, grad_values.unsqueeze(-1), self._grad_critic)
        return self._gradients


class QNets:
    """The online and the target network of a DQN policy; they share the policy's parameters."""

    def __init__(self, policy: DQNPolicy, online: DenseNet, target: DenseNet) -> None:
        self.policy = policy
        self.online = online
        self.target = target
        self.gradients = Gradients.of(online.parameters)

    @classmethod
    def of(cls, policy: Any) -> QNets | None:
        """The networks of ``policy``; None if it has parts that are not covered (images, a GPU, custom classes)."""
        if not isinstance(policy, DQNPolicy) or policy.device.type != "cpu":
            return None
        nets = []
        for net in (policy.q_net, policy.q_net_target):
            dense = DenseNet.of(net.q_net) if type(net) is QNetwork else None
            if dense is None or not only_reshapes(net.features_extractor):
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

    def act(self, observations: Any) -> th.Tensor:
        """The actions of the greatest values, [N]."""
        return self.online(self.features(observations)).argmax(dim=1)


def only_reshapes(extractor: nn.Module) -> bool:
    """Whether a features extractor of SB3 has no weights, so that one pass serves many updates.

    A CombinedExtractor of images has weights.
    """
    return type(extractor) in (FlattenExtractor, CombinedExtractor) and not any(True for _ in extractor.parameters())
