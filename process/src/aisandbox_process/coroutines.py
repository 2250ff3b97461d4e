"""Coroutines that wait for concurrent futures: one implementation for threads, event loops and callbacks.

Such a coroutine is a generator that yields each future it needs before it reads that future's result. Whoever runs it
decides how to wait: by blocking the thread, in an event loop, or with a callback of the future. A coroutine that need
not wait runs like a function. Must not know what a coroutine computes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Generator
from concurrent.futures import Future, wait
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

FutureCoroutine: TypeAlias = Generator[Future[Any], None, T]
"""``future.cancel()`` on a future it yielded means that its result is no longer wanted; it is resumed all the same."""


def wait_for(future: Future[T]) -> FutureCoroutine[T]:
    """Wait for ``future``; returns its result or raises its exception."""
    if not future.done():
        yield future
    return future.result()


def run_blocking(coroutine: FutureCoroutine[T]) -> T:
    """Run ``coroutine`` in this thread."""
    while True:
        try:
            future = next(coroutine)
        except StopIteration as end:
            value: T = end.value
            return value
        wait((future,))


async def run_in_event_loop(coroutine: FutureCoroutine[T]) -> T:
    """Run ``coroutine`` in the running event loop."""
    while True:
        try:
            future = next(coroutine)
        except StopIteration as end:
            value: T = end.value
            return value
        with contextlib.suppress(Exception):  # the coroutine reads the result itself
            await asyncio.wrap_future(future)


def run_with_callbacks(coroutine: FutureCoroutine[T], outcome: Future[T]) -> None:
    """Run ``coroutine`` up to its first future here, and on in the threads that complete its futures.

    ``outcome`` gets its result or exception; it is a :func:`running_future`, so that no waiter can cancel it.
    """
    try:
        future = next(coroutine)
    except StopIteration as end:
        outcome.set_result(end.value)
    except BaseException as error:  # of any type, or waiters would never return
        outcome.set_exception(error)
    else:
        future.add_done_callback(lambda _: run_with_callbacks(coroutine, outcome))


def running_future() -> Future[Any]:
    """Return a future that is not done and that cannot be cancelled."""
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()
    return future
