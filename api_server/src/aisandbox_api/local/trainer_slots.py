"""The slots for trainers: how many may run at a time.

Owns the queue for a free slot: runs get one in the order of their creation, so a run that is restarted keeps its
position. Must not know what a slot is used for.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count


class TrainerSlots:
    """``slots`` of them; for one event loop."""

    def __init__(self, slots: int) -> None:
        self.number = slots
        self.holders: dict[str, Callable[[], str]] = {}
        """What the holders of slots do now, by their names; kept by those who acquire them, for those who wait."""
        self._free = slots
        self._queue: list[tuple[str, int, asyncio.Future[None]]] = []
        self._count = count()

    async def acquire(self, order: str) -> None:
        """Waits for a free slot; the smallest ``order`` is served first."""
        slot = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queue, (order, next(self._count), slot))
        self._assign()
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():  # assigned just before the waiting task was cancelled
                self.release()
            raise

    def release(self) -> None:
        """Frees a slot that was acquired."""
        self._free += 1
        self._assign()

    def _assign(self) -> None:
        while self._free and self._queue:
            _, _, slot = heapq.heappop(self._queue)
            if not slot.done():
                slot.set_result(None)
                self._free -= 1
