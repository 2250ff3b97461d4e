"""Waiting for several simulators at the same time.

Owns the threads: they live inside a call, and are gone when it is over, whatever ended it. Must not know what is
waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


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
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            for future in done:
                if (error := future.exception()) is not None:
                    raise error
        except BaseException:
            cancel()
            raise
    return [future.result() for future in futures]
