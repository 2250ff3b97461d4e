"""Tasks of the event loop that run beside the calls, until the service stops.

Owns how such a task is ended, and the task that does the same thing again and again. Must not know what a task does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any


async def cancel(task: asyncio.Task[Any] | None) -> None:
    """Cancels the task and waits until it has ended; nothing for None. Raises what the task has raised."""
    if task is not None:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class RepeatedTask:
    """Does ``work`` at :meth:`start`, and again ``pause()`` seconds after each time until :meth:`close`."""

    def __init__(self, work: Callable[[], Awaitable[None]], pause: Callable[[], float], name: str) -> None:
        self._work = work
        self._pause = pause
        self._name = name
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Returns after the first time; the others follow in the background."""
        await self._work()
        self._task = asyncio.create_task(self._repeat(), name=self._name)

    async def close(self) -> None:
        """Ends it."""
        await cancel(self._task)

    async def _repeat(self) -> None:
        while True:
            await asyncio.sleep(self._pause())
            await self._work()
