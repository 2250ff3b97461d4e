"""Lets a policy drive a simulator: an observation goes to the service, its answer to the simulator.

Owns the loop and the count of returns. Must not know how the policy was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Observation = NDArray[np.generic]


class Step(Protocol):
    """What a simulator answers to a step of N environments."""

    @property
    def observations(self) -> Sequence[Observation]:
        """One array [N, *shape] for each leaf of the observation space."""

    @property
    def rewards(self) -> NDArray[np.float32]:
        """float32 [N]."""

    @property
    def terminated(self) -> NDArray[np.bool_]:
        """Whether the episode reached a terminal state: bool [N]."""

    @property
    def truncated(self) -> NDArray[np.bool_]:
        """Whether the episode was cut: bool [N]."""


class Session(Protocol):
    """A session with a simulator of N environments."""

    def reset(self, seeds: Sequence[int] | None = None) -> Sequence[Observation]:
        """The first observations, one array for each leaf."""

    def send_step(self, actions: NDArray[np.generic]) -> None:
        """Asks for one step of every environment."""

    def receive_step(self) -> Step:
        """Waits for it."""


def drive(
    session: Session,
    act: Callable[[list[float]], float],
    episodes: int,
    seeds: Sequence[int],
) -> list[float]:
    """Plays one episode in each of the session's ``episodes`` environments; returns their undiscounted returns.

    ``act`` maps an observation (the leaves' elements in C order) to a Discrete action. Only the first episode of each
    environment counts: counting whichever ends first would favour short ones.
    """
    observations = session.reset(seeds)
    returns, open_ = np.zeros(episodes), np.ones(episodes, dtype=bool)
    actions = np.zeros(episodes, dtype=np.int64)
    while open_.any():
        for index in np.flatnonzero(open_):
            flat = np.concatenate([leaf[index].ravel() for leaf in observations])
            actions[index] = round(act(flat.tolist()))
        session.send_step(actions)
        step = session.receive_step()
        returns[open_] += step.rewards[open_]
        open_ &= ~(step.terminated | step.truncated)
        observations = step.observations
    return [float(value) for value in returns]
