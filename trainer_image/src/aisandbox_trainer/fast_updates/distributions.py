"""Action distributions: log-probability and entropy of actions under a policy's scores, and the gradients of both.

Owns one class for each of SB3's plain action distributions, with SB3's formulas in SB3's order, so that samples and
log-probabilities are the same to the last bit. Must not know networks, losses or environments.

Every class has: ``sample(scores, latent)`` -> (actions as SB3's policies return them, log-probabilities [N]), drawing
from torch's generator as SB3 does; ``evaluate(scores, latent, actions)`` -> EvaluatedActions, whose ``gradient`` leads
back to the scores. ``latent``, [N, size], is what the scores were computed from; only gSDE looks at it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch as th
from sb3_contrib.common.maskable.distributions import (
    MaskableBernoulliDistribution,
    MaskableCategoricalDistribution,
    MaskableMultiCategoricalDistribution,
)
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    Distribution,
    MultiCategoricalDistribution,
    StateDependentNoiseDistribution,
)
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, softmax

from aisandbox_trainer.fast_updates.exploration_matrix import ExplorationMatrix

_HALF_LOG_TWO_PI = math.log(math.sqrt(2 * math.pi))
_FORBIDDEN = -1e8
"""The logit of a choice that a mask forbids."""
_ENTROPY_OF_NORMAL = 0.5 + 0.5 * math.log(2 * math.pi)


class EvaluatedActions(Protocol):
    """A batch of actions under the scores of a policy."""

    log_prob: th.Tensor
    """How likely each action is, [N]."""

    def entropy(self) -> th.Tensor:
        """The entropy of each distribution, [N]."""
        ...

    def gradient(self, grad_log_prob: th.Tensor, grad_entropy: float) -> tuple[th.Tensor, list[th.Tensor]]:
        """The gradient of the scores [N, size] and of the distribution's own parameters.

        From those of the log-probabilities [N] and of every single entropy (0: the loss has no entropy term).
        """
        ...


class ActionDistribution(Protocol):
    """The distribution of actions that a policy's scores (its last layer's output) parametrize."""

    parameters: list[nn.Parameter]

    def sample(
        self, scores: th.Tensor, latent: th.Tensor, masks: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        """Actions [N], or [N, dimensions], and their log-probabilities [N].

        ``masks``: bool [N, size] of the scores; only for choices.
        """
        ...

    def evaluate(
        self, scores: th.Tensor, latent: th.Tensor, actions: th.Tensor, masks: th.Tensor | None = None
    ) -> EvaluatedActions:
        """``actions``: as the rollout buffer has them, float32 [N, dimensions]. ``masks``: as of :meth:`sample`."""
        ...


def distribution_of(distribution: Distribution, log_std: nn.Parameter | None) -> ActionDistribution | None:
    """The counterpart of one of SB3's distributions; None for a squashed one."""
    if type(distribution) is CategoricalDistribution:
        return Categorical([distribution.action_dim], flat=True)
    if type(distribution) is MultiCategoricalDistribution:
        return Categorical([int(n) for n in distribution.action_dims], flat=False)
    if type(distribution) is MaskableCategoricalDistribution:
        return Categorical([distribution.action_dim], flat=True)
    if type(distribution) in (MaskableMultiCategoricalDistribution, MaskableBernoulliDistribution):
        return Categorical([int(n) for n in distribution.action_dims], flat=False)  # type: ignore[attr-defined]
    if type(distribution) is BernoulliDistribution:
        return Bernoulli()
    if type(distribution) is DiagGaussianDistribution and log_std is not None:
        return DiagGaussian(log_std)
    if type(distribution) is StateDependentNoiseDistribution and log_std is not None:
        covered = distribution.bijector is None and not distribution.learn_features
        return StateDependentGaussian(ExplorationMatrix(distribution, log_std)) if covered else None
    return None


class Categorical:
    """One categorical choice, or several independent ones; masks make choices impossible, as of sb3-contrib."""

    def __init__(self, counts: Sequence[int], flat: bool) -> None:
        self.parameters: list[nn.Parameter] = []
        self._counts = list(counts)
        self._flat = flat

    def sample(
        self, scores: th.Tensor, latent: th.Tensor, masks: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        """Actions int64 [N] (one choice) or [N, choices], and their log-probabilities [N]."""
        logits = self._logits(scores, masks)
        actions = [th.multinomial(softmax(part, -1), 1, True) for part in logits]
        chosen = [part.gather(-1, action).squeeze(-1) for part, action in zip(logits, actions, strict=True)]
        if self._flat:
            return actions[0].squeeze(-1), chosen[0]
        return th.cat(actions, 1), th.stack(chosen, 1).sum(1)

    def evaluate(
        self, scores: th.Tensor, latent: th.Tensor, actions: th.Tensor, masks: th.Tensor | None = None
    ) -> EvaluatedCategorical:
        """``actions``: [N, choices]."""
        chosen = actions.long()
        logits = self._logits(scores, masks)
        return EvaluatedCategorical(logits, [chosen[:, i : i + 1] for i in range(len(self._counts))])

    def _logits(self, scores: th.Tensor, masks: th.Tensor | None) -> list[th.Tensor]:
        """Normalised twice with masks, as sb3-contrib does: of all choices, then of those that are allowed."""
        logits = [_normalized(part) for part in self._split(scores)]
        if masks is None:
            return logits
        parts = zip(logits, self._split(masks), strict=True)
        return [_normalized(th.where(allowed, part, _FORBIDDEN)) for part, allowed in parts]

    def _split(self, values: th.Tensor) -> Sequence[th.Tensor]:
        return [values] if len(self._counts) == 1 else th.split(values, self._counts, 1)


def _normalized(scores: th.Tensor) -> th.Tensor:
    return scores - scores.logsumexp(-1, keepdim=True)


@dataclass(slots=True)
class EvaluatedCategorical:
    """See EvaluatedActions; ``logits`` are normalised."""

    logits: list[th.Tensor]
    chosen: list[th.Tensor]
    log_prob: th.Tensor = field(init=False)
    _entropies: list[th.Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        found = [part.gather(-1, index).squeeze(-1) for part, index in zip(self.logits, self.chosen, strict=True)]
        self.log_prob = found[0] if len(found) == 1 else th.stack(found, 1).sum(1)

    def entropy(self) -> th.Tensor:
        """The sum of the choices' entropies, [N]."""
        self._entropies = [-(part * softmax(part, -1)).sum(-1) for part in self.logits]
        return self._entropies[0] if len(self._entropies) == 1 else th.stack(self._entropies, 1).sum(1)

    def gradient(self, grad_log_prob: th.Tensor, grad_entropy: float) -> tuple[th.Tensor, list[th.Tensor]]:
        """Of a score: d log p_k / d score_j = [j = k] - p_j; d H / d score_j = -p_j (log p_j + H).

        Of what a mask forbids both are 0, since its p is.
        """
        column = grad_log_prob.unsqueeze(-1)
        gradients = []
        for i, (logits, index) in enumerate(zip(self.logits, self.chosen, strict=True)):
            probabilities = logits.exp()
            gradient = probabilities * -column
            if grad_entropy:
                gradient -= grad_entropy * probabilities * (logits + self._entropies[i].unsqueeze(-1))
            gradients.append(gradient.scatter_add_(-1, index, column))
        return gradients[0] if len(gradients) == 1 else th.cat(gradients, 1), []


class Bernoulli:
    """Independent Bernoulli variables."""

    def __init__(self) -> None:
        self.parameters: list[nn.Parameter] = []

    def sample(
        self, scores: th.Tensor, latent: th.Tensor, masks: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        """Actions float32 [N, bits] of 0 and 1, and their log-probabilities [N]."""
        actions = th.bernoulli(th.sigmoid(scores))
        return actions, EvaluatedBernoulli(scores, actions).log_prob

    def evaluate(
        self, scores: th.Tensor, latent: th.Tensor, actions: th.Tensor, masks: th.Tensor | None = None
    ) -> EvaluatedBernoulli:
        """``actions``: [N, bits]."""
        return EvaluatedBernoulli(scores, actions)


@dataclass(slots=True)
class EvaluatedBernoulli:
    """See EvaluatedActions."""

    logits: th.Tensor
    actions: th.Tensor
    log_prob: th.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.log_prob = -binary_cross_entropy_with_logits(self.logits, self.actions, reduction="none").sum(1)

    def entropy(self) -> th.Tensor:
        """The sum of the bits' entropies, [N]."""
        p = th.sigmoid(self.logits)
        return binary_cross_entropy_with_logits(self.logits, p, reduction="none").sum(1)

    def gradient(self, grad_log_prob: th.Tensor, grad_entropy: float) -> tuple[th.Tensor, list[th.Tensor]]:
        """Of a logit: d log p / d logit = action - p; d H / d logit = -logit p (1 - p)."""
        p = th.sigmoid(self.logits)
        gradient = (self.actions - p) * grad_log_prob.unsqueeze(-1)
        if grad_entropy:
            gradient -= grad_entropy * self.logits * p * (1 - p)
        return gradient, []


class DiagGaussian:
    """Independent normal numbers with a standard deviation that does not depend on the observation."""

    def __init__(self, log_std: nn.Parameter) -> None:
        self.parameters = [log_std]

    def sample(
        self, scores: th.Tensor, latent: th.Tensor, masks: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        """Actions float32 [N, size], and their log-probabilities [N]."""
        std = th.ones_like(scores) * self.parameters[0].exp()
        actions = scores + th.normal(th.zeros_like(scores), th.ones_like(scores)) * std
        return actions, EvaluatedGaussian(scores, actions, std).log_prob

    def evaluate(
        self, scores: th.Tensor, latent: th.Tensor, actions: th.Tensor, masks: th.Tensor | None = None
    ) -> EvaluatedGaussian:
        """``actions``: [N, size]."""
        return EvaluatedGaussian(scores, actions, th.ones_like(scores) * self.parameters[0].exp())


@dataclass(slots=True)
class EvaluatedGaussian:
    """See EvaluatedActions."""

    mean: th.Tensor
    actions: th.Tensor
    std: th.Tensor
    log_prob: th.Tensor = field(init=False)
    _distance: th.Tensor = field(init=False)
    _variance: th.Tensor = field(init=False)

    def __post_init__(self) -> None:
        self._distance = self.actions - self.mean
        self._variance = self.std**2
        exponent = -(self._distance**2) / (2 * self._variance)
        self.log_prob = (exponent - self.std.log() - _HALF_LOG_TWO_PI).sum(1)

    def entropy(self) -> th.Tensor:
        """The sum of the dimensions' entropies, [N]."""
        return (_ENTROPY_OF_NORMAL + self.std.log()).sum(1)

    def gradient(self, grad_log_prob: th.Tensor, grad_entropy: float) -> tuple[th.Tensor, list[th.Tensor]]:
        """Of log p: (a - mean) / std^2 for the mean, ((a - mean) / std)^2 - 1 for log std, for which H has 1."""
        column = grad_log_prob.unsqueeze(-1)
        grad_mean = column / self._variance * self._distance
        grad_log_std = (grad_mean * self._distance - column).sum(0)
        if grad_entropy:
            grad_log_std += grad_entropy * len(column)
        return grad_mean, [grad_log_std]


class StateDependentGaussian:
    """gSDE as of PPO and A2C: the latent has no gradient by way of the noise."""

    def __init__(self, matrix: ExplorationMatrix) -> None:
        self.parameters = [matrix.log_std]
        self._matrix = matrix

    def sample(
        self, scores: th.Tensor, latent: th.Tensor, masks: th.Tensor | None = None
    ) -> tuple[th.Tensor, th.Tensor]:
        """Actions float32 [N, size], and their log-probabilities [N]."""
        actions = scores + self._matrix.noise(latent)
        return actions, self.evaluate(scores, latent, actions).log_prob

    def evaluate(
        self, scores: th.Tensor, latent: th.Tensor, actions: th.Tensor, masks: th.Tensor | None = None
    ) -> EvaluatedStateDependent:
        """``actions``: [N, size]."""
        squares, matrix_std = latent**2, self._matrix.std()
        std = th.sqrt(self._matrix.variance(squares, matrix_std))
        return EvaluatedStateDependent(scores, actions, std, self._matrix, squares, matrix_std)


class EvaluatedStateDependent(EvaluatedGaussian):
    """See EvaluatedActions; ``squares`` of the latent [N, L], ``matrix_std`` [L, size]."""

    def __init__(
        self,
        mean: th.Tensor,
        actions: th.Tensor,
        std: th.Tensor,
        matrix: ExplorationMatrix,
        squares: th.Tensor,
        matrix_std: th.Tensor,
    ) -> None:
        super().__init__(mean, actions, std)
        self._matrix = matrix
        self._squares = squares
        self._matrix_std = matrix_std

    def gradient(self, grad_log_prob: th.Tensor, grad_entropy: float) -> tuple[th.Tensor, list[th.Tensor]]:
        """Of the mean as of any normal, and of ``log_std``, by way of the variance of the actions.

        For the variance log p has ((a - mean)^2 / std^2 - 1) / (2 std^2), and H has 1 / (2 std^2). The variance is the
        sum of squares * matrix_std^2.
        """
        column = grad_log_prob.unsqueeze(-1)
        grad_mean = column / self._variance * self._distance
        grad_variance = (grad_mean * self._distance - column + grad_entropy) / (2 * self._variance)
        grad_matrix_std = th.mm(self._squares.t(), grad_variance) * (2 * self._matrix_std)
        return grad_mean, [self._matrix.gradient(grad_matrix_std)]
