"""Lets a policy drive a simulator: an observation goes to the service, its answer to the simulator.

Owns the loop and the count of returns. Must not know how the policy was trained, or how the simulator is reached.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from aisandbox_environment.results import ResetResult, StepResult
from aisandbox_wire.tensors import Array


class Session(Protocol):
    """What is needed of a SimulatorSession."""

    def reset(self, seeds: Sequence[int] | None = None) -> ResetResult:
        """Starts an episode in every environment."""

    def send_step(self, actions: Array) -> None:
        """Asks for one step of every environment."""

    def receive_step(self) -> StepResult:
        """Waits for it."""


def drive(session: Session, act: Callable[[list[float]], float], seeds: Sequence[int]) -> list[float]:
    """Plays one episode in each environment of the session, one a seed; returns their undiscounted returns.

    ``act`` maps an observation (the leaves' elements in C order) to a Discrete action. Only the first episode of each
    environment counts: counting whichever ends first would favour short ones.
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
