from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
from aisandbox_environment import SimulatorHung
from aisandbox_trainer.environments.sessions import call_concurrently, settled
from aisandbox_trainer.errors import StopRequested

BOUND = 20.0


def test_calls_wait_at_the_same_time_and_keep_their_order() -> None:
    together = threading.Barrier(3)

    def call(number: int) -> Callable[[], int]:
        def wait() -> int:
            together.wait(BOUND)
            return number

        return wait

    before = threading.active_count()
    assert call_concurrently([call(i) for i in range(3)], lambda: None) == [0, 1, 2]
    assert threading.active_count() == before


def test_sessions_that_answer_are_kept_and_waited_for_at_the_same_time() -> None:
    together = threading.Barrier(3)

    class Session:
        def __init__(self, answer: bool | None) -> None:
            self.answer = answer
            self.closed = False

        def settle(self) -> bool:
            together.wait(BOUND)
            if self.answer is None:
                raise SimulatorHung("a:1", "no reply")
            return self.answer

        def close(self) -> None:
            self.closed = True

    sessions: Any = [Session(None), Session(True), Session(False)]
    assert settled(sessions, lambda: None) == [sessions[1]]
    assert [session.closed for session in sessions] == [True, False, True]


def test_error_of_one_call_ends_the_others() -> None:
    cancelled = threading.Event()

    def hang() -> None:
        assert cancelled.wait(BOUND)
        raise RuntimeError("cancelled")

    def fail() -> None:
        raise ValueError("this one")

    before = threading.active_count()
    with pytest.raises(ValueError, match="this one"):
        call_concurrently([hang, fail], cancelled.set)
    assert threading.active_count() == before


def test_signal_ends_all_calls() -> None:
    cancelled, waiting = threading.Event(), threading.Barrier(3)

    def hang() -> None:
        waiting.wait(BOUND)
        assert cancelled.wait(BOUND)

    def stop(*_: object) -> None:
        raise StopRequested

    def ask() -> None:
        waiting.wait(BOUND)
        signal.pthread_kill(main, signal.SIGUSR1)

    main = threading.main_thread().ident or 0
    old = signal.signal(signal.SIGUSR1, stop)
    asking = threading.Thread(target=ask)
    try:
        asking.start()
        with pytest.raises(StopRequested):
            call_concurrently([hang, hang], cancelled.set)
        assert cancelled.is_set()
    finally:
        asking.join()
        signal.signal(signal.SIGUSR1, old)
