import os
import signal
import time
from collections.abc import Iterator

import pytest
from aisandbox_trainer.errors import StopRequested
from aisandbox_trainer.runtime.stop import Stop


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = Stop()
    stop.install()
    yield stop
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])


def test_stop_is_only_a_flag_while_the_model_is_updated(stop: Stop) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    assert stop.requested
    with pytest.raises(StopRequested):
        stop.check()


def test_stop_interrupts_a_wait_that_blocks(stop: Stop) -> None:
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    began = time.monotonic()
    with pytest.raises(StopRequested):
        stop.sleep(240)
    assert time.monotonic() - began < 120
    assert not stop.interruptible


def test_stop_is_overdue_after_a_while_and_not_before() -> None:
    now = [0.0]
    stop = Stop(clock=lambda: now[0])
    assert not stop.overdue(2.0)
    stop.request()
    assert not stop.overdue(2.0)
    now[0] = 2.1
    stop.request()
    assert stop.overdue(2.0)
