"""Whether the episodes in progress are captured between two updates, so that a stop can return to that point.

A stop in the middle of a rollout either returns to the rollback point before it, episodes included, or waits for the
end of the update after it. Capturing the episodes of every rollback point costs time. It is done where rollouts are
long; where they are short, the next point is near. Owns that choice. Must not know when to stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from stable_baselines3.common.base_class import BaseAlgorithm

from aisandbox_trainer.checkpoints.episodes import Episodes, in_this_process
from aisandbox_trainer.errors import NotStorable

SHARE_OF_TIME = 0.01
"""What capturing the episodes may take of the time of a rollout."""
POINTS_BETWEEN_MEASUREMENTS = 1000

SHORT_ROLLOUT_GRACE_SECONDS = 10.0
"""How long a stop waits for the next rollback point where rollouts are known to be short."""
FIRST_ROLLOUT_GRACE_SECONDS = 2.0
"""The same in the first rollout, of which nothing could be saved otherwise."""

log = structlog.get_logger(__name__)


class EpisodeCapture:
    """Captures episodes where that is cheap.

    ``stop_grace``: the seconds a stop should wait for the next rollback point before it returns to the last one.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self.stop_grace = 0.0
        self._clock = clock
        self._rollout_started: float | None = None
        self._cost = 0.0
        self._skipped = 0
        self._not_storable = False

    def rollout_starts(self) -> None:
        """To be called when a rollout starts: the time from here to the next capture is that of the rollout."""
        self._rollout_started = self._clock()

    def capture(self, model: BaseAlgorithm) -> Episodes | None:
        """The episodes now, or None where capturing them is too expensive.

        Never those of the first rollback point, before which there is nothing to save.
        """
        self.stop_grace = 0.0
        if self._not_storable or not in_this_process(model.get_env()):
            return None
        if self._rollout_started is None:
            self.stop_grace = FIRST_ROLLOUT_GRACE_SECONDS
            return None
        now = self._clock()
        too_expensive = self._cost > SHARE_OF_TIME * (now - self._rollout_started)
        if too_expensive and self._skipped < POINTS_BETWEEN_MEASUREMENTS:
            self._skipped += 1
            self.stop_grace = SHORT_ROLLOUT_GRACE_SECONDS
            return None
        self._skipped = 0
        try:
            episodes = Episodes.capture(model)
        except NotStorable as error:
            self._not_storable = True
            log.info("a resumed run will start new episodes", reason=str(error))
            return None
        self._cost = self._clock() - now
        return episodes
