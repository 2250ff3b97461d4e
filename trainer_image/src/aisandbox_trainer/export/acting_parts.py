"""Which modules of an SB3 policy choose its actions; critics and target networks are left out.

Owns one function for each family of policies. Must not know spaces of simulators, ONNX or training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from sb3_contrib.common.recurrent.policies import RecurrentActorCriticPolicy
from sb3_contrib.crossq.policies import CrossQPolicy
from sb3_contrib.qrdqn.policies import QRDQNPolicy
from sb3_contrib.tqc.policies import TQCPolicy
from stable_baselines3.common.distributions import StateDependentNoiseDistribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.dqn.policies import DQNPolicy
from stable_baselines3.sac.policies import LOG_STD_MAX, LOG_STD_MIN, SACPolicy
from stable_baselines3.td3.policies import TD3Policy
from torch import nn

from aisandbox_trainer.errors import CannotExport


@dataclass(frozen=True, slots=True)
class ActingParts:
    """The modules from preprocessed observations to scores, and the distribution of Box actions around them.

    ``extractor``, ``lstm`` (if there is one), ``body`` and ``last`` follow each other; ``last`` gives logits, means
    or, if ``values``, the values of the actions. ``std`` is a tensor [actions], a module from the latent features to
    [N, actions], or with ``by_state`` (gSDE) [latent, actions]. ``squashed``: tanh is applied to the action.
    ``masked``: it chooses of the actions that a mask allows.
    """

    extractor: nn.Module
    body: nn.Module
    last: nn.Module
    std: th.Tensor | nn.Module | None = None
    by_state: bool = False
    squashed: bool = False
    values: bool = False
    masked: bool = False
    lstm: nn.LSTM | None = None


class StandardDeviation(nn.Module):
    """The standard deviation [N, actions] of SAC's policy, from its latent features."""

    def __init__(self, log_std: nn.Module) -> None:
        super().__init__()
        self.log_std = log_std

    def forward(self, latent: th.Tensor) -> th.Tensor:
        """As ``Actor.get_action_dist_params`` bounds it."""
        return th.exp(th.clamp(self.log_std(latent), LOG_STD_MIN, LOG_STD_MAX))


def acting_parts(policy: BasePolicy) -> ActingParts:
    """The parts of ``policy``, which share its tensors. Raises CannotExport for one of another family."""
    for kind, parts in _FAMILIES.items():
        if isinstance(policy, kind):
            return parts(policy)
    known = ", ".join(kind.__name__ for kind in _FAMILIES)
    raise CannotExport(f"policy: {type(policy).__name__} is none of {known}")


def _on_policy(policy: Any) -> ActingParts:
    std, by_state = getattr(policy, "log_std", None), False
    if isinstance(policy.action_dist, StateDependentNoiseDistribution):
        std, by_state = policy.action_dist.get_std(policy.log_std.detach()), True
    elif std is not None:
        std = std.detach().exp()
    extractor, body = policy.pi_features_extractor, policy.mlp_extractor.policy_net
    return ActingParts(extractor, body, policy.action_net, std, by_state, policy.squash_output)


def _masked(policy: Any) -> ActingParts:
    last = policy.action_net
    if isinstance(policy.action_space, spaces.MultiBinary):
        last = _difference(last)
    return ActingParts(policy.pi_features_extractor, policy.mlp_extractor.policy_net, last, masked=True)


def _difference(choices: nn.Linear) -> nn.Linear:
    """The logits of bits, from the layer that gives for each bit the score of 0, then that of 1."""
    with th.no_grad():
        bits = nn.Linear(choices.in_features, choices.out_features // 2)
        bits.weight.copy_(choices.weight[1::2].double() - choices.weight[::2].double())
        bits.bias.copy_(choices.bias[1::2].double() - choices.bias[::2].double())
    return bits


def _recurrent(policy: Any) -> ActingParts:
    return replace(_on_policy(policy), lstm=policy.lstm_actor)


def _values(policy: Any) -> ActingParts:
    net = policy.q_net
    return ActingParts(net.features_extractor, net.q_net[:-1], net.q_net[-1], values=True)


def _quantiles(policy: Any) -> ActingParts:
    """The mean over quantiles of a linear layer is a linear layer: that of the mean weights."""
    net = policy.quantile_net
    last, count = net.quantile_net[-1], net.n_quantiles
    with th.no_grad():
        mean = nn.Linear(last.in_features, last.out_features // count)
        mean.weight.copy_(last.weight.double().view(count, -1, last.in_features).mean(dim=0))
        mean.bias.copy_(last.bias.double().view(count, -1).mean(dim=0))
    return ActingParts(net.features_extractor, net.quantile_net[:-1], mean, values=True)


def _squashed_gaussian(policy: Any) -> ActingParts:
    actor = policy.actor
    by_state = isinstance(actor.action_dist, StateDependentNoiseDistribution)
    std = actor.get_std().detach() if by_state else StandardDeviation(actor.log_std)
    return ActingParts(actor.features_extractor, actor.latent_pi, actor.mu, std, by_state, squashed=True)


def _deterministic(policy: Any) -> ActingParts:
    """TD3's policy is no distribution: the standard deviation is 0, so that noise has no effect."""
    actor = policy.actor
    last = actor.mu[-2]  # tanh follows
    return ActingParts(actor.features_extractor, actor.mu[:-2], last, th.zeros(last.out_features), squashed=True)


_FAMILIES: Mapping[type[BasePolicy], Callable[[Any], ActingParts]] = {
    RecurrentActorCriticPolicy: _recurrent,
    ActorCriticPolicy: _on_policy,
    MaskableActorCriticPolicy: _masked,
    DQNPolicy: _values,
    QRDQNPolicy: _quantiles,
    SACPolicy: _squashed_gaussian,
    TQCPolicy: _squashed_gaussian,
    CrossQPolicy: _squashed_gaussian,
    TD3Policy: _deterministic,
}
"""By the class of the policy, or of one that it is derived from: the first that fits."""
