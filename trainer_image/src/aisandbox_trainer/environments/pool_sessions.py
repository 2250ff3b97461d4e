"""The sessions of a run with simulators of a pool: which free simulators are taken, and when there are too few.

Simulators are taken whole, the largest first, so that a run comes near to its most environments with few of them. A
thread opens sessions with simulators that attach later: one that loads a level, or hangs, holds up nobody. Must not
know learning or retries.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import structlog
from aisandbox.v1 import simulator_pool_pb2 as pb
from aisandbox_crds import PoolEnvironment
from aisandbox_environment import (
    AtCapacity,
    SimulatorError,
    SimulatorSession,
    SimulatorUnreachable,
    Timeouts,
    TransientSimulatorError,
    list_simulators,
    open_session_stream,
)
from aisandbox_process.grpc_direct import ClientStream
from aisandbox_process.tls import ChannelSecurity, InvalidChannelSecurity

from aisandbox_trainer.runtime.service import Metadata, Service
from aisandbox_trainer.runtime.stop import Stop

LOOK_SECONDS = 1.0
"""How often the thread looks for simulators that have attached."""
LONGEST_LOOK_SECONDS = 30.0
"""The same after sessions that could not be opened."""
EVALUATION_PATIENCE = 5.0
"""Seconds that an evaluation waits for a free simulator; training waits with it."""
MAX_SIZE = 4096
"""The most environments that a simulator may have."""
MOST_AT_ONCE = 32
"""How many sessions are opened at the same time."""

log = structlog.get_logger(__name__)


class TooFewEnvironments(TransientSimulatorError):
    """The pool has too few free environments now; a run waits for them without a limit."""


@dataclass(frozen=True, slots=True)
class PoolTarget:
    """A pool of the service, and how a run opens sessions with its simulators.

    ``fewest`` and ``most`` are the environments of the run. ``leave_one``: one simulator stays free, for evaluation,
    as long as there are ``fewest`` environments without it.
    """

    service: Service
    pool: PoolEnvironment
    fewest: int
    most: int
    timeouts: Callable[[], Timeouts]
    leave_one: bool = False

    def simulators(self) -> list[pb.Simulator]:
        """Those that are attached now. Raises SimulatorError."""
        service = self.service
        return list_simulators(service.address, self.pool.name, security=service.security, metadata=self._metadata())

    def stream(self, address: str, *, pool: str, security: ChannelSecurity) -> ClientStream:
        """The stream of a session; see ``aisandbox_environment.open_session_stream``."""
        return open_session_stream(
            address, pool=pool, security=security, metadata=self._metadata(), socket=self.service.socket
        )

    def _metadata(self) -> Metadata:
        try:
            return self.service.metadata()
        except InvalidChannelSecurity as error:  # a volume may mend it
            raise SimulatorUnreachable(self.service.address, str(error)) from None

    def open(
        self, environments: int, *, evaluation: bool, stream: Callable[..., ClientStream] | None = None
    ) -> SimulatorSession:
        """A session with the largest free simulator of at most so many environments. Raises SimulatorError."""
        return SimulatorSession.connect(
            self.service.address,
            environments,
            options=self.pool.options,
            run_id=self.service.run_id,
            evaluation=evaluation,
            timeouts=self.timeouts(),
            pool=self.pool.name,
            security=self.service.security,
            stream=stream or self.stream,
        )

    def too_few(
        self, simulators: Sequence[pb.Simulator], held: int, opened: Sequence[int], last: SimulatorError | None
    ) -> TooFewEnvironments:
        """The error of a run that held ``held`` environments, has found these and needs more.

        ``opened``: the sizes of those that it could take. ``last``: a session that failed.
        """
        own = {one.instance for one in simulators if one.in_session and one.run_id == self.service.run_id}
        free = [one.environments for one in simulators if not one.in_session]
        there = max(held, sum(one.environments for one in simulators if one.instance in own)) + sum(free)
        says = f"{there} of {self.fewest} environments are there, waiting for simulators of pool {self.pool.name!r}"
        if others := sum(one.environments for one in simulators if one.in_session and one.instance not in own):
            says += f"; {others} more are in other sessions"
        missing = self.most - held - sum(opened)
        if too_large := [size for size in (Counter(free) - Counter(opened)).elements() if size > missing]:
            says += f"; a free simulator has {min(too_large)} environments, and the run takes {missing} more"
        if last is not None:
            says += f"; a session could not be opened: {last.message}"
        return TooFewEnvironments(self.service.address, says)


@dataclass(slots=True)
class _Openings:
    """Sessions that are being opened, and a way to cancel them; those that are open already stay open."""

    streams: list[ClientStream] = field(default_factory=list)
    cancelled: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open(self, target: PoolTarget, environments: int) -> SimulatorSession:
        """A session for training, of at most so many environments. Raises SimulatorError."""
        made: list[ClientStream] = []

        def stream(address: str, *, pool: str, security: ChannelSecurity) -> ClientStream:
            made.append(target.stream(address, pool=pool, security=security))
            with self.lock:
                self.streams += made
                cancelled = self.cancelled
            if cancelled:
                made[0].cancel()
            return made[0]

        try:
            session = target.open(environments, evaluation=False, stream=stream)
        finally:
            with self.lock:
                self.streams = [each for each in self.streams if each not in made]
                cancelled = self.cancelled
        if cancelled:
            session.close()
            raise SimulatorUnreachable(target.service.address, "the session was cancelled while it was opened")
        return session

    def cancel(self) -> None:
        with self.lock:
            self.cancelled = True
            streams = list(self.streams)
        for stream in streams:
            stream.cancel()


class PoolSessions:
    """The sessions of one run, for training. The caller owns those that a method returns."""

    def __init__(self, target: PoolTarget, look_seconds: float | None = None) -> None:
        self.target = target
        self._look_seconds = LOOK_SECONDS if look_seconds is None else look_seconds
        self._joining: _Joining | None = None

    def connect(self, held: Sequence[SimulatorSession] = ()) -> list[SimulatorSession]:
        """``held`` and sessions with free simulators, ``fewest`` to ``most`` environments in all.

        Where there are too few, every session is closed, so that another run may have them. Raises TooFewEnvironments,
        SimulatorError.
        """
        sessions = [*held, *self.stop_joining()]
        openings = _Openings()
        try:
            number = _number(sessions)
            simulators = self.target.simulators()
            opened, failed = self.open_free(simulators, number, openings)
            sessions += opened
            if _number(sessions) < self.target.fewest:
                raise self.target.too_few(simulators, number, [each.environments for each in opened], failed)
        except BaseException:
            openings.cancel()
            for session in sessions:
                session.close()
            raise
        return sessions

    def joined(self, number: int) -> list[SimulatorSession]:
        """Sessions with simulators that have attached since, for a run of ``number`` environments; never waits."""
        if self._joining is None:
            if number < self.target.most:
                self._joining = _Joining(self, number, self._look_seconds)
                self._joining.start()
            return []
        return [] if self._joining.is_alive() else self.stop_joining()

    def stop_joining(self) -> list[SimulatorSession]:
        """Ends the thread; returns the sessions that it has opened."""
        joining, self._joining = self._joining, None
        return [] if joining is None else joining.stop()

    def close(self) -> None:
        """Ends the thread and its sessions."""
        for session in self.stop_joining():
            session.close()

    def open_free(
        self, simulators: Sequence[pb.Simulator], number: int, openings: _Openings
    ) -> tuple[list[SimulatorSession], SimulatorError | None]:
        """Sessions with free simulators for a run that has ``number`` environments, and why one could not be opened.

        Raises the permanent errors of simulators; then no session stays open.
        """
        sizes = self._sizes_to_take([one.environments for one in simulators if not one.in_session], number)
        opened: list[SimulatorSession] = []
        transient: list[SimulatorError] = []
        permanent: list[SimulatorError] = []

        def open_one(size: int) -> None:
            try:
                opened.append(openings.open(self.target, size))
            except TransientSimulatorError as error:
                transient.append(error)
            except SimulatorError as error:
                permanent.append(error)

        try:
            for size in sizes[:1]:  # it starts the watchdog of all sessions, which two threads must not do at once
                open_one(size)
            if len(sizes) > 1 and not permanent:
                with ThreadPoolExecutor(min(len(sizes) - 1, MOST_AT_ONCE)) as threads:
                    try:
                        list(threads.map(open_one, sizes[1:]))
                    except BaseException:
                        openings.cancel()
                        raise
            if permanent:
                raise permanent[0]
        except BaseException:
            for session in opened:
                session.close()
            raise
        return opened, transient[0] if transient else None

    def _sizes_to_take(self, free: Sequence[int], number: int) -> list[int]:
        sizes: list[int] = []
        for size in sorted(free, reverse=True):
            if number + sum(sizes) + size <= self.target.most:
                sizes.append(size)
        spared = bool(sizes) and self.target.leave_one and len(sizes) == len(free)
        if spared and number + sum(sizes[:-1]) >= max(self.target.fewest, 1):
            sizes.pop()
        return sizes


def evaluation_session(target: PoolTarget, stop: Stop, patience: float | None = None) -> list[SimulatorSession]:
    """A session with one free simulator, for evaluation: it is waited for a few seconds.

    Raises TooFewEnvironments if none is free, SimulatorError, StopRequested.
    """
    waited, patience = 0.0, EVALUATION_PATIENCE if patience is None else patience
    while True:
        try:
            return [stop.interruptibly(partial(target.open, MAX_SIZE, evaluation=True))]
        except (AtCapacity, SimulatorUnreachable) as error:
            if waited >= patience:
                says = f"no simulator of pool {target.pool.name!r} was free for evaluation within {patience:g} s"
                raise TooFewEnvironments(target.service.address, f"{says} ({error.message})") from error
        stop.sleep(LOOK_SECONDS)
        waited += LOOK_SECONDS


class _Joining(threading.Thread):
    """Looks for free simulators until it has opened sessions with some, or is stopped."""

    def __init__(self, sessions: PoolSessions, number: int, look_seconds: float) -> None:
        super().__init__(name="pool", daemon=True)
        self._sessions = sessions
        self._number = number
        self._seconds = look_seconds
        self._stopped = threading.Event()
        self._openings = _Openings()
        self._opened: list[SimulatorSession] = []

    def run(self) -> None:
        pause = self._seconds
        while not self._opened and not self._stopped.wait(pause):
            try:
                look = partial(self._sessions.open_free, self._sessions.target.simulators(), self._number)
                self._opened, failed = look(self._openings)
            except SimulatorError as error:
                failed = error
            pause = self._seconds if failed is None else min(2 * pause, LONGEST_LOOK_SECONDS)
            if failed is not None and not self._stopped.is_set():
                log.warning("a simulator of the pool could not be taken", error=str(failed))

    def stop(self) -> list[SimulatorSession]:
        """Ends the thread; returns what it has opened."""
        self._stopped.set()
        if self.is_alive():
            self._openings.cancel()
            self.join()
        return self._opened


def _number(sessions: Sequence[SimulatorSession]) -> int:
    return sum(session.environments for session in sessions)
