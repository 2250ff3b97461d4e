"""Whether a boundary keeps the episodes in progress, so that a stop can go back to it.

A stop in the middle of a rollout either goes back to the boundary before, episodes and all, or on to the one after.
Keeping the episodes of every boundary costs time. It is done where rollouts are long; where they are short, the next
boundary is near. Owns that choice. Must not know when to stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from stable_baselines3.common.base_class import BaseAlgorithm

from aisandbox_trainer.checkpoints.episodes import Episodes, NotStorable, are_ours

SHARE_OF_TIME = 0.01
"""What keeping the episodes may take of the time of a rollout."""
BOUNDARIES_BETWEEN_MEASUREMENTS = 1000

NEAR_SECONDS = 10.0
"""How long a stop waits for the next boundary where rollouts are known to be short."""
UNKNOWN_SECONDS = 2.0
"""The same in the first rollout, of which nothing could be saved otherwise."""

log = structlog.get_logger(__name__)


class EpisodeKeeper:
    """Keeps episodes where that is cheap.

    ``patience``: the seconds a stop should wait for the next boundary, before it goes back to the last one.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.patience = 0.0
        self._clock = clock
        self._began: float | None = None
        self._cost = 0.0
        self._skipped = 0
        self._refused = False

    def rollout_begins(self) -> None:
        """Called when all that is done at a boundary is done."""
        self._began = self._clock()

    def keep(self, model: BaseAlgorithm) -> Episodes | None:
        """The episodes now, if they are to be kept; never those of the first boundary, which nobody has to save."""
        self.patience = 0.0
        if self._refused or not are_ours(model.get_env()):
            return None
        if self._began is None:
            self.patience = UNKNOWN_SECONDS
            return None
        now = self._clock()
        if self._cost > SHARE_OF_TIME * (now - self._began) and self._skipped < BOUNDARIES_BETWEEN_MEASUREMENTS:
            self._skipped += 1
            self.patience = NEAR_SECONDS
            return None
        self._skipped = 0
        try:
            episodes = Episodes.capture(model)
        except NotStorable as error:
            self._refused = True
            log.info("episodes begin anew after a stop", reason=str(error))
            return None
        self._cost = self._clock() - now
        return episodes
