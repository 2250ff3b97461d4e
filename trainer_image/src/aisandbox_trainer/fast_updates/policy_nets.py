"""An SB3 actor-critic policy of dense layers, acting and learning without autograd.

Owns which policies are plain enough and the order of their parameters. Must not know algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch as th
from stable_baselines3.common.policies import ActorCriticPolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.torch_layers import MlpExtractor

from aisandbox_trainer.fast_updates.dense_net import DenseNet, Tape
from aisandbox_trainer.fast_updates.likelihoods import Evaluation, Likelihood, likelihood_of
from aisandbox_trainer.fast_updates.optimizer_step import Gradients
from aisandbox_trainer.fast_updates.plain_features import has_plain_features


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass over a batch: what it gave, and what leads back."""

    evaluation: Evaluation
    values: th.Tensor
    _actor_tape: Tape
    _critic_tape: Tape


class ActorCriticNets:
    """The two networks of a policy and its likelihood; they share the policy's parameters."""

    def __init__(self, policy: ActorCriticPolicy, actor: DenseNet, critic: DenseNet, likelihood: Likelihood) -> None:
        self.policy = policy
        self._actor = actor
        self._critic = critic
        self._likelihood = likelihood
        mine = [*likelihood.parameters, *actor.parameters, *critic.parameters]
        self.parameters = list(policy.parameters())
        self._gradients = Gradients.of(self.parameters)
        places = {id(parameter): place for place, parameter in enumerate(self.parameters)}
        parts = [self._gradients.parts[places[id(parameter)]] for parameter in mine]
        first, second = len(likelihood.parameters), len(likelihood.parameters) + len(actor.parameters)
        self._of_likelihood, self._of_actor, self._of_critic = parts[:first], parts[first:second], parts[second:]

    @classmethod
    def of(cls, policy: Any) -> ActorCriticNets | None:
        """The networks of ``policy``; None if it has parts that are not written down here.

        Covered: SB3's MlpPolicy and MultiInputPolicy without images, on the CPU, with Tanh or ReLU, and every action
        distribution but state-dependent exploration.
        """
        if type(policy) not in (ActorCriticPolicy, MultiInputActorCriticPolicy) or policy.device.type != "cpu":
            return None
        extractors = {policy.pi_features_extractor, policy.vf_features_extractor}
        if not all(has_plain_features(each) for each in extractors):
            return None
        if type(policy.mlp_extractor) is not MlpExtractor:
            return None
        actor = DenseNet.of([*policy.mlp_extractor.policy_net, policy.action_net])
        critic = DenseNet.of([*policy.mlp_extractor.value_net, policy.value_net])
        likelihood = likelihood_of(policy.action_dist, getattr(policy, "log_std", None))
        if actor is None or critic is None or likelihood is None:
            return None
        known = {id(each) for each in (*likelihood.parameters, *actor.parameters, *critic.parameters)}
        if known != {id(each) for each in policy.parameters() if each.requires_grad}:
            return None
        return cls(policy, actor, critic, likelihood)

    def features(self, observations: Any) -> th.Tensor:
        """The networks' input [N, features] for a batch of observations (a tensor, or a dict of them)."""
        space = self.policy.observation_space
        shown = preprocess_obs(observations, space, normalize_images=self.policy.normalize_images)
        features: th.Tensor = self.policy.pi_features_extractor(shown)
        return features

    def act(self, observations: Any) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """As ``ActorCriticPolicy.forward``: sampled actions [N, *shape], values [N, 1], log-probabilities [N]."""
        features = self.features(observations)
        values = self._critic(features)
        actions, log_prob = self._likelihood.sample(self._actor(features))
        return actions.reshape((-1, *(self.policy.action_space.shape or ()))), values, log_prob

    def evaluate(self, features: th.Tensor, actions: th.Tensor) -> Pass:
        """As ``ActorCriticPolicy.evaluate_actions``, from features; ``values`` are [N]."""
        scores, actor_tape = self._actor.record(features)
        values, critic_tape = self._critic.record(features)
        return Pass(self._likelihood.evaluate(scores, actions), values.squeeze(-1), actor_tape, critic_tape)

    def gradients(self, done: Pass, of_log_prob: th.Tensor, of_entropy: float, of_values: th.Tensor) -> Gradients:
        """The gradients of :attr:`parameters`, from those of the pass's results ([N], one number, [N]).

        Good until the next call: it writes into the same memory.
        """
        of_scores, own = done.evaluation.gradient(of_log_prob, of_entropy)
        for mine, gradient in zip(self._of_likelihood, own, strict=True):
            mine.copy_(gradient)
        self._actor.gradients(done._actor_tape, of_scores, self._of_actor)
        self._critic.gradients(done._critic_tape, of_values.unsqueeze(-1), self._of_critic)
        return self._gradients
