"""MaskablePPO and RecurrentPPO of sb3-contrib, for minibatches that its own classes cannot learn from.

The deviation of one advantage is not a number, and sb3-contrib divides by it. Here the advantage of a minibatch of a
single step is left as it is, as in PPO of stable-baselines3. Which rollouts have such a minibatch depends on the number
of environments, which may change during a run. And RecurrentPPO leaves MultiBinary actions as the integers that they
are stored as, of which PyTorch computes no loss. Must not know how an update is computed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from gymnasium import spaces
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm


class SingleSteps(OnPolicyAlgorithm):
    """Comes before a class of sb3-contrib, whose ``train`` asks ``normalize_advantage`` at each minibatch."""

    normalize_advantage: bool

    def train(self) -> None:
        """One update from the rollout buffer."""
        with _learnable_minibatches(self, self.rollout_buffer):
            super().train()


class SingleStepMaskablePPO(SingleSteps, MaskablePPO):
    """MaskablePPO without a fast update."""


class SingleStepRecurrentPPO(SingleSteps, RecurrentPPO):
    """RecurrentPPO without a fast update."""


@contextlib.contextmanager
def _learnable_minibatches(model: SingleSteps, buffer: Any) -> Iterator[None]:
    """Turns the normalisation off while ``model`` learns from a minibatch of ``buffer`` that is a single step.

    MultiBinary actions become floating-point numbers.
    """
    normalize, get = model.normalize_advantage, buffer.get

    def minibatches(*arguments: Any) -> Iterator[Any]:
        for minibatch in get(*arguments):
            model.normalize_advantage = normalize and len(minibatch.advantages) > 1  # padded only beside a longer one
            is_binary = isinstance(model.action_space, spaces.MultiBinary)
            yield minibatch._replace(actions=minibatch.actions.float()) if is_binary else minibatch

    buffer.get = minibatches
    try:
        yield
    finally:
        del buffer.get
        model.normalize_advantage = normalize
