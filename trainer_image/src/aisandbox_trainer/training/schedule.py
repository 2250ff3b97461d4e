"""When checkpoints are due, and when one that is due has to wait because the last one took long.

Must not know what a checkpoint holds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import structlog

SHARE_OF_TIME = 0.05
"""What large checkpoints may take of the time; they are made less often than they are due if they take longer."""
LARGE_BYTES = 10_000_000
"""Smaller ones are saved whenever they are due, however busy the machine: a crash loses no more than was asked for."""

log = structlog.get_logger(__name__)


def is_due(timesteps: int, last: int, interval: int) -> bool:
    """Whether a multiple of ``interval`` is in (last, timesteps]; all are timesteps of the run."""
    return timesteps // interval > last // interval


class CheckpointSchedule:
    """The schedule of one attempt; ``saved_at`` are the timesteps when a checkpoint was last due."""

    def __init__(self, interval: int, saved_at: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        self.saved_at = saved_at
        self._interval = interval
        self._clock = clock
        self._not_before = -math.inf
        self._postponed = False

    def becomes_due(self, timesteps: int) -> bool:
        """Whether a checkpoint is due now; answers True once, also when saving it fails afterwards."""
        due = is_due(timesteps, self.saved_at, self._interval)
        if due:
            self.saved_at = timesteps
        return due

    def allows_checkpoint(self, due: bool) -> bool:
        """Whether to save now: one is ``due`` or postponed, and the last one was long enough ago."""
        if not (due or self._postponed):
            return False
        wait = self._not_before - self._clock()
        if wait > 0 and not self._postponed:
            log.info("checkpoint postponed", seconds=round(wait, 1))
        self._postponed = wait > 0
        return not self._postponed

    def saved(self, seconds: float, size: int) -> None:
        """Takes note that a checkpoint of ``size`` bytes was saved just now in ``seconds``."""
        if size >= LARGE_BYTES:
            self._not_before = self._clock() - seconds + seconds / SHARE_OF_TIME
