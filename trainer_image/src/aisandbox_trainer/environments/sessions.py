"""The sessions of a run, all at the same time: its environments distributed over the simulators' addresses.

Owns the threads: they live inside a call, and have ended when it returns or raises. Must not know learning or retries.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from functools import partial
from typing import TypeVar

from aisandbox_crds import GrpcEnvironment
from aisandbox_environment import (
    SimulatorError,
    SimulatorSession,
    Timeouts,
    distribute_environments,
    expand_addresses,
    open_session_stream,
)
from aisandbox_process.grpc_direct import ClientStream

T = TypeVar("T")


def open_sessions(
    environment: GrpcEnvironment, environments: int, *, run_id: str, evaluation: bool, timeouts: Timeouts | None = None
) -> Sequence[SimulatorSession]:
    """One session for each address, ``environments`` (at least one) distributed over them.

    Where there are fewer environments than addresses, the first addresses have one each. A host name is resolved again
    each time. All but the first are opened at the same time. Closes what is open when one of them fails, and raises its
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
        partial(open_one, *each)
        for each in zip(addresses, distribute_environments(environments, len(addresses)), strict=True)
    )
    try:
        # If the first cannot be opened, the others are not tried; and it starts the watchdog of all sessions of a
        # process, which two threads must not do at once.
        return [first(), *call_concurrently(others, opening.cancel)]
    except BaseException:
        for session in opening.sessions:
            session.close()
        raise


def settled(sessions: Sequence[SimulatorSession], cancel: Callable[[], None]) -> list[SimulatorSession]:
    """The sessions that answer what is still due, so that they can go on; the others are closed."""
    answers = call_concurrently([partial(_is_settled, session) for session in sessions], cancel)
    kept = [session for session, answer in zip(sessions, answers, strict=True) if answer]
    for session, answer in zip(sessions, answers, strict=True):
        if not answer:
            session.close()
    return kept


def _is_settled(session: SimulatorSession) -> bool:
    try:
        return session.settle()
    except SimulatorError:
        return False


class _Opening:
    """Sessions that are being opened, and a way to cancel that before there is a session to cancel."""

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


def call_concurrently(calls: Sequence[Callable[[], T]], cancel: Callable[[], None]) -> list[T]:
    """The results of ``calls`` in their order, each made in a thread of its own.

    Raises the error of the first call that fails, or what a signal handler raises meanwhile; ``cancel`` is called
    before, from this thread, and must end the calls that are still waiting.
    """
    if len(calls) < 2:
        return [call() for call in calls]
    with ThreadPoolExecutor(len(calls)) as pool:
        try:
            futures = [pool.submit(call) for call in calls]
            finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in finished:
                if (error := future.exception()) is not None:
                    raise error
        except BaseException:
            cancel()
            raise
    return [future.result() for future in futures]
