"""The loop between a simulator and a policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from aisandbox_cli.episodes import play_episodes
from aisandbox_environment.simulation import ResetResult, StepResult
from numpy.typing import NDArray


class Countdown:
    """Environment i has episodes of i + 1 steps; each step is worth its action; observes (its number, steps left)."""

    def __init__(self, environments: int) -> None:
        self.lengths = np.arange(environments) + 1
        self.left = self.lengths.copy()
        self.seeds: Sequence[int] | None = None
        self.actions: NDArray[Any] | None = None

    def _observe(self) -> list[NDArray[Any]]:
        return [np.arange(len(self.left))[:, None], self.left[:, None].astype(np.float32)]

    def reset(self, seeds: Sequence[int] | None = None) -> ResetResult:
        self.seeds = seeds
        return ResetResult(self._observe())

    def send_step(self, actions: NDArray[Any]) -> None:
        self.actions = actions.copy()

    def receive_step(self) -> StepResult:
        assert self.actions is not None
        rewards, self.actions = self.actions.astype(np.float32), None
        self.left -= 1
        over = self.left == 0
        self.left[over] = self.lengths[over]
        even = np.arange(len(over)) % 2 == 0
        return StepResult(self._observe(), rewards, over & even, over & ~even)


def test_play_episodes_counts_the_first_episode_of_each_environment() -> None:
    session = Countdown(4)
    asked: list[list[float]] = []

    def act(observation: list[float]) -> float:
        asked.append(observation)
        return 10.0 if observation[1] == 1 else 1.0

    assert play_episodes(session, act, [5, 6, 7, 8]) == [10, 11, 12, 13]
    assert session.seeds == [5, 6, 7, 8]
    assert len(asked) == 1 + 2 + 3 + 4
    assert asked[:4] == [[0, 1], [1, 2], [2, 3], [3, 4]]


def test_play_episodes_stops_at_the_first_refusal() -> None:
    def act(observation: list[float]) -> float:
        raise LookupError

    with pytest.raises(LookupError):
        play_episodes(Countdown(1), act, [0])
