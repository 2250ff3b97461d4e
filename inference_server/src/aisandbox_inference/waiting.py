"""Work that may have to wait, written once for servers of every kind.

Work is a generator that yields each future it needs before it reads that future's result, so that whoever runs it
decides how to wait: the thread itself, an event loop, or nobody until the future is done. What needs no wait runs
through like a function. Must not know what the work is about.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from concurrent.futures import Future, wait
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

Work: TypeAlias = Generator[Future[Any], None, T]
"""``future.cancel()`` on what it yielded tells that nobody waits any longer; it has to be run on all the same."""


def result_of(future: Future[T]) -> Work[T]:
    """Wait for ``future``; returns its result or raises its exception."""
    if not future.done():
        yield future
    return future.result()


def finish(work: Work[T]) -> T:
    """Run ``work`` in this thread."""
    while True:
        try:
            future = next(work)
        except StopIteration as end:
            value: T = end.value
            return value
        wait((future,))


async def awaited(work: Work[T]) -> T:
    """Run ``work`` in this event loop."""
    while True:
        try:
            future = next(work)
        except StopIteration as end:
            value: T = end.value
            return value
        with contextlib.suppress(Exception):  # the work reads the result itself
            await asyncio.wrap_future(future)


def pursue(work: Work[T], outcome: Future[T]) -> None:
    """Run ``work`` beside the caller, from one future to the next in the thread that completes it.

    ``outcome`` is told how it ends; it is running already, so that nobody who waits for it can cancel it.
    """
    try:
        future = next(work)
    except StopIteration as end:
        outcome.set_result(end.value)
    except BaseException as error:  # whatever it is, nobody may wait for ever
        outcome.set_exception(error)
    else:
        future.add_done_callback(lambda _: pursue(work, outcome))


def running() -> Future[Any]:
    """Return a future that is not done and that cannot be cancelled."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
