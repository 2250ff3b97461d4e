"""What cloning minimises for each algorithm whose policy is not recurrent.

Owns which parameters are trained, and what follows from them at the end (target networks). Must not know files, or how
batches are drawn.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import torch
from sb3_contrib import QRDQN, MaskablePPO
from sb3_contrib.common.utils import quantile_huber_loss
from stable_baselines3 import DQN
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from torch.nn import functional

from aisandbox_trainer.cloning.examples import Batch, Examples

MARGIN = 0.8
"""How much less than the recorded action any other one is worth, in mean absolute rewards; DQfD, Hester et al. 2018."""
_SMALLEST_SQUARE = 1.0
"""What the squared error of the value network is divided by, at least."""


class Loss(Protocol):
    """The loss of one algorithm."""

    def parameters(self) -> list[torch.nn.Parameter]:
        """What is trained."""

    def prepare(self, examples: Examples) -> None:
        """Called before each epoch."""

    def of(self, batch: Batch) -> torch.Tensor:
        """The mean over a batch."""

    def finish(self) -> None:
        """Called when cloning is done."""


def loss_of(model: Any, examples: Examples) -> Loss:
    """The loss for the algorithm of ``model``, which is not recurrent."""
    if isinstance(model, OnPolicyAlgorithm):
        return ActorCriticLoss(model)
    if isinstance(model, DQN | QRDQN):
        return ValuesLoss(model, examples)
    return ActorLoss(model)


class ActorCriticLoss:
    """Of PPO, A2C and MaskablePPO: minus the log-probability of the action, and the error of the value network.

    The standard deviation of Gaussian actions stays as it is: the likeliest one for actions of a program is 0, and the
    policy would explore no more. The error is relative to the returns, whose scale is the simulator's.
    """

    def __init__(self, model: OnPolicyAlgorithm) -> None:
        self._policy: Any = model.policy
        self._masks = isinstance(model, MaskablePPO)
        self._coefficient = model.vf_coef
        self._square = 1.0

    def parameters(self) -> list[torch.nn.Parameter]:
        """All of the policy but the standard deviation."""
        return trained_parameters(self._policy)

    def prepare(self, examples: Examples) -> None:
        """Computes the returns, with the values of now where time ran out."""
        examples.compute_returns(self._policy.predict_values)
        self._square = mean_square_of_returns(examples)

    def of(self, batch: Batch) -> torch.Tensor:
        """See :class:`Loss`."""
        masks = {"action_masks": batch.masks} if self._masks else {}
        values, log_probability, _ = self._policy.evaluate_actions(batch.observations, batch.actions, **masks)
        error = functional.mse_loss(values.flatten(), batch.returns) / self._square
        loss: torch.Tensor = -log_probability.mean() + self._coefficient * error
        return loss

    def finish(self) -> None:
        """Nothing follows."""


class ActorLoss:
    """Of SAC, TQC, CrossQ and TD3: the squared distance of the actor's deterministic action from the recorded one.

    The critics learn from the replay buffer alone, by the algorithm's own update.
    """

    def __init__(self, model: Any) -> None:
        self._policy = model.policy
        self._actor = model.actor

    def parameters(self) -> list[torch.nn.Parameter]:
        """Those of the actor."""
        return list(self._actor.parameters())

    def prepare(self, examples: Examples) -> None:
        """Nothing changes between epochs."""

    def of(self, batch: Batch) -> torch.Tensor:
        """See :class:`Loss`."""
        chosen = self._policy(batch.observations, deterministic=True)
        return functional.mse_loss(chosen.reshape(batch.actions.shape), batch.actions)

    def finish(self) -> None:
        """Target networks follow: of TD3's actor, and of the critics if they share the actor's features."""
        target = getattr(self._policy, "actor_target", None)
        if target is not None:
            target.load_state_dict(self._actor.state_dict())
        critic_target = getattr(self._policy, "critic_target", None)
        if critic_target is not None and self._policy.share_features_extractor:
            critic_target.load_state_dict(self._policy.critic.state_dict())


class ValuesLoss:
    """Of DQN and QR-DQN: the error of the recorded action's value, and the margin by which others must be below it."""

    def __init__(self, model: Any, examples: Examples) -> None:
        quantiles = isinstance(model, QRDQN)
        self._net = model.quantile_net if quantiles else model.q_net
        self._target = model.quantile_net_target if quantiles else model.q_net_target
        self._quantiles = quantiles
        scale = float(abs(examples.seen.scaled_rewards[examples.steps]).mean())
        self._margin = MARGIN * (scale or 1.0)

    def parameters(self) -> list[torch.nn.Parameter]:
        """Those of the network that acts."""
        return list(self._net.parameters())

    def prepare(self, examples: Examples) -> None:
        """Computes the returns, with the values of now where time ran out."""
        examples.compute_returns(lambda observations: self._values(self._net(observations)).max(dim=1).values)

    def of(self, batch: Batch) -> torch.Tensor:
        """See :class:`Loss`."""
        output = self._net(batch.observations)
        values, rows = self._values(output), torch.arange(len(batch.actions), device=batch.actions.device)
        chosen = values[rows, batch.actions]
        margins = torch.full_like(values, self._margin)
        margins[rows, batch.actions] = 0.0
        below = (values + margins).max(dim=1).values - chosen
        if self._quantiles:  # the mean over the quantiles: their sum would leave the margin no weight
            quantiles = output[rows, :, batch.actions]
            error = quantile_huber_loss(quantiles, batch.returns[:, None], sum_over_quantiles=False)
        else:
            error = functional.smooth_l1_loss(chosen, batch.returns)
        return error + below.mean()

    def finish(self) -> None:
        """The target network is the same."""
        self._target.load_state_dict(self._net.state_dict())

    def _values(self, output: torch.Tensor) -> torch.Tensor:
        """[B, actions]; the mean over the quantiles where there are some."""
        return output.mean(dim=1) if self._quantiles else output


def trained_parameters(policy: torch.nn.Module) -> list[torch.nn.Parameter]:
    """All parameters but the standard deviation of Gaussian actions."""
    return [parameter for name, parameter in policy.named_parameters() if name != "log_std"]


def mean_square_of_returns(examples: Examples) -> float:
    """What the squared error of the value network is divided by.

    Not the variance: where all returns are nearly the same, the error would have all the weight in the layers that the
    value shares with the policy.
    """
    returns = examples.returns[examples.steps]
    return max(float(np.square(returns, dtype=np.float64).mean()), _SMALLEST_SQUARE)
