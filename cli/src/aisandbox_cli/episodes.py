"""Plays episodes: each observation of a simulator goes to a policy, each action of the policy to the simulator.

Owns the loop and the sum of rewards. Must not know how the policy was trained, or how the simulator is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from aisandbox_environment import ResetResult, StepResult
from aisandbox_wire import Array


class Session(Protocol):
    """The methods that are used of a SimulatorSession."""

    def reset(self, seeds: Sequence[int] | None = None) -> ResetResult:
        """Starts an episode in every environment."""

    def send_step(self, actions: Array) -> None:
        """Sends one action to every environment."""

    def receive_step(self) -> StepResult:
        """Waits for the results of :meth:`send_step`."""


def play_episodes(session: Session, act: Callable[[list[float]], float], seeds: Sequence[int]) -> list[float]:
    """Plays one episode in each environment of the session, one for each seed.

    ``act`` maps an observation (the elements of its leaves in C order) to a Discrete action. Returns the undiscounted
    return of the first episode of each environment: taking the episodes that end first would prefer short ones.
    """
    observations = session.reset(seeds).observations
    returns, unfinished = np.zeros(len(seeds)), np.ones(len(seeds), dtype=bool)
    actions = np.zeros(len(seeds), dtype=np.int64)
    while unfinished.any():
        for index in np.flatnonzero(unfinished):
            flat = np.concatenate([leaf[index].ravel() for leaf in observations])
            actions[index] = round(act(flat.tolist()))
        session.send_step(actions)
        step = session.receive_step()
        returns[unfinished] += step.rewards[unfinished]
        unfinished &= ~(step.terminated | step.truncated)
        observations = step.observations
    return [float(value) for value in returns]
