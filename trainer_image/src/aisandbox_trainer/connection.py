"""Reaching simulators, and trying again for a bounded time.

Owns the spreading of environments over addresses and the patience. Must not know learning.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog
from aisandbox_crds.spec import GrpcEnvironment
from aisandbox_environment.addresses import expand_addresses, spread
from aisandbox_environment.errors import TransientSimulatorError
from aisandbox_environment.session import SimulatorSession, Timeouts

from aisandbox_trainer import progress as activity
from aisandbox_trainer.errors import SimulatorGone
from aisandbox_trainer.progress import Progress
from aisandbox_trainer.stopping import Stop

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
LOG_EVERY_SECONDS = 10.0

log = structlog.get_logger(__name__)
_JITTER = random.Random()  # noqa: S311  (its own: waiting must not change what is learned)
T = TypeVar("T")


class Patience:
    """Calls what reaches for a simulator until it succeeds, at most ``seconds`` long.

    Transient errors are met with a growing pause; progress shows the waiting with a warning. Raises SimulatorGone at
    the end of the patience, StopRequested at once; other errors pass through.
    """

    def __init__(
        self, seconds: float, progress: Progress, stop: Stop, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._seconds = seconds
        self._progress = progress
        self._stop = stop
        self._clock = clock

    def call(self, reach: Callable[[], T]) -> T:
        """The result of ``reach``."""
        began = self._clock()
        before = (self._progress.activity, self._progress.warning)
        delay, logged = FIRST_DELAY_SECONDS, float("-inf")
        while True:
            self._stop.check()
            try:
                result = self._reach(reach)
            except TransientSimulatorError as error:
                waited = self._clock() - began
                if waited + delay > self._seconds:
                    raise SimulatorGone(f"gave the simulator up after {waited:.0f} s: {error}") from error
                if waited - logged >= LOG_EVERY_SECONDS:
                    logged = waited
                    log.warning("waiting for the simulator", waited_seconds=round(waited, 1), error=str(error))
                self._progress.activity = activity.WAITING
                self._progress.warning = f"simulator not available for {waited:.0f} s, trying again: {error}"
                self._stop.sleep(delay * _JITTER.uniform(0.8, 1.2))
                delay = min(delay * 1.6, LONGEST_DELAY_SECONDS)
            else:
                self._progress.activity, self._progress.warning = before
                return result

    def _reach(self, reach: Callable[[], T]) -> T:
        self._stop.interruptible = True
        try:
            self._stop.check()
            return reach()
        finally:
            self._stop.interruptible = False


def open_sessions(
    environment: GrpcEnvironment, environments: int, *, run_id: str, evaluation: bool, timeouts: Timeouts | None = None
) -> Sequence[SimulatorSession]:
    """One session for each address, ``environments`` (at least one) spread over them.

    Where there are fewer environments than addresses, the first addresses have one each. A name is looked up anew each
    time. Closes what is open when one of them fails, and raises its error.
    """
    addresses = expand_addresses(environment.address)
    addresses = addresses[:environments]
    counts = spread(environments, len(addresses))
    sessions: list[SimulatorSession] = []
    try:
        for address, count in zip(addresses, counts, strict=True):
            sessions.append(
                SimulatorSession.connect(
                    address,
                    count,
                    options=environment.options,
                    run_id=run_id,
                    evaluation=evaluation,
                    timeouts=timeouts,
                )
            )
    except BaseException:
        for session in sessions:
            session.close()
        raise
    return sessions
