"""Retries of calls to a simulator, with a growing pause, for a bounded time. Must not know what is called."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import structlog
from aisandbox_crds import Activity
from aisandbox_environment import TransientSimulatorError, WatchdogTimer

from aisandbox_trainer.environments.pool_sessions import TooFewEnvironments
from aisandbox_trainer.errors import SimulatorGone
from aisandbox_trainer.runtime.progress import ProgressTracker
from aisandbox_trainer.runtime.stop import Stop

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
LONGEST_LOOK_SECONDS = 1.0
"""The longest pause between two looks at a pool that has too few environments."""
LOG_EVERY_SECONDS = 10.0
SLOW_SECONDS = 5.0
"""How long a call may take before progress shows a warning."""

log = structlog.get_logger(__name__)
_JITTER = random.Random()  # noqa: S311  (its own generator: waiting must not change what is learned)
T = TypeVar("T")


class SimulatorRetry:
    """Calls a function until it succeeds, at most ``seconds`` long; for simulators of a pool to attach without a limit.

    After a transient error it waits, longer each time; progress shows the waiting with a warning, and a call that takes
    longer than ``slow_seconds`` too: the simulator may be loading a level. Raises SimulatorGone when the time is over,
    StopRequested at once; other errors pass through.
    """

    def __init__(
        self,
        seconds: float,
        progress: ProgressTracker,
        stop: Stop,
        clock: Callable[[], float] = time.monotonic,
        slow_seconds: float = SLOW_SECONDS,
    ) -> None:
        self._seconds = seconds
        self._progress = progress
        self._stop = stop
        self._clock = clock
        self._slow_seconds = slow_seconds
        self._lock = threading.Lock()
        self._calling = False

    def call(self, connect: Callable[[], T]) -> T:
        """The result of ``connect``."""
        began = started = self._clock()
        before = (self._progress.activity, self._progress.warning)
        delay, logged = FIRST_DELAY_SECONDS, float("-inf")
        while True:
            self._stop.check()
            try:
                with self._warning_if_slow():
                    result = self._stop.interruptibly(connect)
            except TooFewEnvironments as error:
                started = self._clock()
                waited = started - began
                if waited - logged >= LOG_EVERY_SECONDS:
                    logged = waited
                    log.warning("waiting for the pool", waited_seconds=round(waited, 1), problem=error.message)
                self._progress.activity = Activity.WAITING_FOR_SIMULATOR
                self._progress.warning = error.message
                self._progress.set_notice("pool", "")  # with how many it trained before
                self._stop.sleep(delay * _JITTER.uniform(0.8, 1.2))
                delay = min(delay * 1.6, LONGEST_LOOK_SECONDS)
            except TransientSimulatorError as error:
                waited = self._clock() - started
                if waited + delay > self._seconds:
                    raise SimulatorGone(f"the simulator was not available for {waited:.0f} s: {error}") from error
                if waited - logged >= LOG_EVERY_SECONDS:
                    logged = waited
                    log.warning("waiting for the simulator", waited_seconds=round(waited, 1), error=str(error))
                self._progress.activity = Activity.WAITING_FOR_SIMULATOR
                self._progress.warning = f"simulator not available for {waited:.0f} s, trying again: {error}"
                self._stop.sleep(delay * _JITTER.uniform(0.8, 1.2))
                delay = min(delay * 1.6, LONGEST_DELAY_SECONDS)
            else:
                self._progress.activity, self._progress.warning = before
                return result

    @contextmanager
    def _warning_if_slow(self) -> Iterator[None]:
        timer = WatchdogTimer(self._warn_that_it_is_slow)
        self._calling = True
        timer.start(self._slow_seconds)
        try:
            yield
        finally:
            timer.stop()
            with self._lock:  # a warning that comes later would stay
                self._calling = False

    def _warn_that_it_is_slow(self) -> None:
        """Called by the watchdog's thread."""
        with self._lock:
            if not self._calling:
                return
            self._progress.activity = Activity.WAITING_FOR_SIMULATOR
            self._progress.warning = (
                f"the simulator has not opened the session after {self._slow_seconds:g} s: it may be loading; it is "
                "waited for as long as SIMULATOR_OPEN_TIMEOUT_SECONDS says"
            )
        log.warning("waiting for the simulator to open", waited_seconds=self._slow_seconds)
