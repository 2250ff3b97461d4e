"""MaskablePPO and RecurrentPPO of sb3-contrib, which may have a minibatch of a single step.

The deviation of one advantage is not a number, and sb3-contrib divides by it. Here such an advantage is left as it is,
as in PPO of stable-baselines3. Which rollouts have such a minibatch depends on the number of environments, which may
change during a run. Must not know how an update is computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm


class SingleSteps(OnPolicyAlgorithm):
    """Comes before a class of sb3-contrib, whose ``train`` asks ``normalize_advantage`` at each minibatch."""

    normalize_advantage: bool

    def train(self) -> None:
        """One update from the rollout buffer."""
        with _not_normalized(self, self.rollout_buffer):
            super().train()


class SingleStepMaskablePPO(SingleSteps, MaskablePPO):
    """MaskablePPO without a fast update."""


class SingleStepRecurrentPPO(SingleSteps, RecurrentPPO):
    """RecurrentPPO without a fast update."""


@contextlib.contextmanager
def _not_normalized(model: SingleSteps, buffer: Any) -> Iterator[None]:
    """Turns the normalisation off while ``model`` learns from a minibatch of ``buffer`` that is a single step."""
    normalize, get = model.normalize_advantage, buffer.get

    def minibatches(*arguments: Any) -> Iterator[Any]:
        for minibatch in get(*arguments):
            model.normalize_advantage = normalize and len(minibatch.advantages) > 1  # padded only beside a longer one
            yield minibatch

    buffer.get = minibatches
    try:
        yield
    finally:
        del buffer.get
        model.normalize_advantage = normalize
