"""Cloning of a recurrent policy: whole episodes, in parts of which each begins with the state of the one before.

The gradient goes through one part (truncated back-propagation through time). Must not know files.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sb3_contrib import RecurrentPPO
from sb3_contrib.common.recurrent.type_aliases import RNNStates

from aisandbox_trainer.cloning.examples import Examples
from aisandbox_trainer.cloning.losses import mean_square_of_returns, trained_parameters

Array = NDArray[Any]
PART = 64
"""Steps of a part."""


class SequenceCloning:
    """The losses of RecurrentPPO: those of PPO, over the steps of some episodes side by side."""

    def __init__(self, model: RecurrentPPO, examples: Examples, batch_size: int) -> None:
        self._policy: Any = model.policy
        self._examples = examples
        self._together = max(1, batch_size // PART)
        self._coefficient = model.vf_coef
        self._device = model.device

    def parameters(self) -> list[torch.nn.Parameter]:
        """All of the policy but the standard deviation."""
        return trained_parameters(self._policy)

    def losses(self, random: np.random.Generator) -> Iterator[tuple[torch.Tensor, int]]:
        """One epoch: the mean loss of each minibatch, and how many steps it has."""
        episodes = self._examples.episodes
        self._compute_returns(episodes)
        square = mean_square_of_returns(self._examples)
        order = random.permutation(len(episodes))
        for first in range(0, len(order), self._together):
            chosen = [episodes[index] for index in order[first : first + self._together]]
            states = self._empty_state(len(chosen))
            for begin in range(0, max(map(len, chosen)), PART):
                going_on = [index for index, rows in enumerate(chosen) if len(rows) > begin]
                states = _of(states, going_on) if len(going_on) < len(chosen) else states
                chosen = [chosen[index] for index in going_on]
                parts = [rows[begin : begin + PART] for rows in chosen]
                loss, states = self._loss(parts, states, square)
                yield loss, sum(map(len, parts))

    def finish(self) -> None:
        """Nothing follows."""

    def _loss(self, parts: list[Array], states: RNNStates, square: float) -> tuple[torch.Tensor, RNNStates]:
        rows, valid = _padded(parts)
        batch = self._examples.batch(rows)
        starts = torch.zeros(len(rows), device=self._device)
        values, log_probability, _ = self._policy.evaluate_actions(batch.observations, batch.actions, states, starts)
        used = torch.as_tensor(valid, device=self._device)
        errors = (values.flatten() - batch.returns)[used] ** 2
        loss = -log_probability[used].mean() + self._coefficient * errors.mean() / square
        with torch.no_grad():
            *_, following = self._policy.forward(batch.observations, states, starts, deterministic=True)
        return loss, following

    def _compute_returns(self, episodes: list[Array]) -> None:
        """As of other policies; where time ran out, the value of the last observation needs the state before it."""
        expected = iter([self._last_values(rows) for rows in episodes if not self._examples.terminated[rows[-1]]])

        def values(observations: Any) -> torch.Tensor:
            count = len(next(iter(observations.values())) if isinstance(observations, dict) else observations)
            return torch.stack([next(expected) for _ in range(count)])

        self._examples.compute_returns(values)

    def _last_values(self, rows: Array) -> torch.Tensor:
        """The value of the observation after the last step of an episode."""
        states = self._empty_state(1)
        whole = np.append(rows, rows[-1] + 1)
        with torch.no_grad():
            for begin in range(0, len(whole), PART):
                self._examples.check()
                part = whole[begin : begin + PART]
                starts = torch.zeros(len(part), device=self._device)
                _, values, _, states = self._policy.forward(
                    self._examples.observations(part), states, starts, deterministic=True
                )
        last: torch.Tensor = values.flatten()[-1]
        return last

    def _empty_state(self, episodes: int) -> RNNStates:
        layers, _, size = self._policy.lstm_hidden_state_shape
        zeros = torch.zeros((layers, episodes, size), device=self._device)
        return RNNStates((zeros, zeros), (zeros, zeros))


def _padded(parts: list[Array]) -> tuple[Array, Array]:
    """The rows of parts of different lengths, each as long as the longest, one after the other; and which are its own.

    A part is continued with its last row. An episode that ends in it has no part after it.
    """
    longest = max(map(len, parts))
    rows = np.concatenate([np.append(part, np.full(longest - len(part), part[-1])) for part in parts])
    valid = np.concatenate([np.arange(longest) < len(part) for part in parts])
    return rows, valid


def _of(states: RNNStates, episodes: list[int]) -> RNNStates:
    """The state of some of the episodes."""
    policy, value = ((hidden[:, episodes], cell[:, episodes]) for hidden, cell in (states.pi, states.vf))
    return RNNStates(policy, value)
