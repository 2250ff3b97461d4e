"""Reaching simulators, and trying again for a bounded time.

Owns the spreading of environments over addresses and the patience. Must not know learning.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import structlog
from aisandbox_crds.spec import GrpcEnvironment
from aisandbox_crds.status import Activity
from aisandbox_environment.addresses import expand_addresses, spread
from aisandbox_environment.calls import open_session_stream
from aisandbox_environment.errors import TransientSimulatorError
from aisandbox_environment.session import SimulatorSession, Timeouts
from aisandbox_process.grpc_direct import ClientStream

from aisandbox_trainer.environments.concurrency import call_concurrently
from aisandbox_trainer.errors import SimulatorGone
from aisandbox_trainer.runtime.progress import Progress
from aisandbox_trainer.runtime.stop import Stop

FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
LOG_EVERY_SECONDS = 10.0

log = structlog.get_logger(__name__)
_JITTER = random.Random()  # noqa: S311  (its own: waiting must not change what is learned)
T = TypeVar("T")


class SimulatorRetry:
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
                self._progress.activity = Activity.WAITING_FOR_SIMULATOR
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
    time. All but the first are opened at the same time. Closes what is open when one of them fails, and raises its
    error.
    """
    addresses = expand_addresses(environment.address)
    addresses = addresses[:environments]
    opening = _Opening()

    def open_one(address: str, count: int) -> SimulatorSession:
        session = SimulatorSession.connect(
            address,
            count,
            options=environment.options,
            run_id=run_id,
            evaluation=evaluation,
            timeouts=timeouts,
            stream=opening.stream,
        )
        opening.sessions.append(session)
        return session

    first, *others = (
        partial(open_one, *each) for each in zip(addresses, spread(environments, len(addresses)), strict=True)
    )
    try:
        # Where the first cannot be opened, the others are not bothered; and it starts what watches over all sessions
        # of a process, which is not for two threads at once.
        return [first(), *call_concurrently(others, opening.cancel)]
    except BaseException:
        for session in opening.sessions:
            session.close()
        raise


class _Opening:
    """Sessions that are being opened, with a way to break it off before there is a session to cancel."""

    def __init__(self) -> None:
        self.sessions: list[SimulatorSession] = []
        self._streams: list[ClientStream] = []
        self._cancelled = False

    def stream(self, address: str) -> ClientStream:
        stream = open_session_stream(address)
        self._streams.append(stream)
        if self._cancelled:
            stream.cancel()
        return stream

    def cancel(self) -> None:
        self._cancelled = True
        for stream in list(self._streams):
            stream.cancel()
