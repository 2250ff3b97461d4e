"""Whether a policy's weights are finite numbers. Must not know what follows if they are not."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from aisandbox_trainer.errors import NonFiniteTraining

CHECK_SECONDS = 0.2
"""How often weights are checked: after each rollout of PPO, not after each of the many short ones of A2C."""


def check_finite(model: BaseAlgorithm) -> None:
    """Raises NonFiniteTraining if a weight or a statistic of a layer is NaN or infinite (or their sum is)."""
    with torch.no_grad():
        policy = model.policy
        floats = [*policy.parameters(), *(each for each in policy.buffers() if each.is_floating_point())]
        total = torch.stack([each.detach().sum() for each in floats]).sum()
    if not torch.isfinite(total):
        bound = " or max_grad_norm" if hasattr(model, "max_grad_norm") else ""  # those of continuous actions have none
        raise NonFiniteTraining(
            f"the policy's weights became NaN or infinite after {model.num_timesteps} steps; try a lower learning_rate"
            f"{bound}, normalize=True, or rewards of a smaller scale"
        )


class FiniteCheck:
    """:func:`check_finite`, at most once in CHECK_SECONDS."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._checked_at = float("-inf")

    def __call__(self, model: BaseAlgorithm) -> None:
        """Raises NonFiniteTraining."""
        now = self._clock()
        if now - self._checked_at > CHECK_SECONDS:
            self._checked_at = now
            check_finite(model)
