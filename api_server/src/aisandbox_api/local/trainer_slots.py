"""The slots for trainers: how many may run at a time.

Owns the queue for a free slot: the owner who has the fewest gets the next one, and of one owner's runs the one that was
created first, so a run that is restarted keeps its position. Must not know what a slot is used for.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Callable
from itertools import count


class TrainerSlots:
    """``slots`` of them; for one event loop."""

    def __init__(self, slots: int) -> None:
        self.number = slots
        self.holders: dict[str, Callable[[], str]] = {}
        """What the holders of slots do now, by their names; kept by those who acquire them, for those who wait."""
        self._free = slots
        self._held: Counter[str] = Counter()
        self._queues: dict[str, list[tuple[str, int, asyncio.Future[None]]]] = {}
        self._count = count()

    async def acquire(self, order: str, owner: str = "") -> None:
        """Waits for a free slot; of one owner the smallest ``order`` is served first."""
        slot = asyncio.get_running_loop().create_future()
        heapq.heappush(self._queues.setdefault(owner, []), (order, next(self._count), slot))
        self._assign()
        try:
            await slot
        except asyncio.CancelledError:
            if slot.done() and not slot.cancelled():  # assigned just before the waiting task was cancelled
                self.release(owner)
            raise

    def release(self, owner: str = "") -> None:
        """Frees a slot that the owner has acquired."""
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._assign()

    def _assign(self) -> None:
        while self._free and (owner := self._next_owner()) is not None:
            _, _, slot = heapq.heappop(self._queues[owner])
            slot.set_result(None)
            self._free -= 1
            self._held[owner] += 1

    def _next_owner(self) -> str | None:
        """The owner whose run is next; None if none waits."""
        for owner, queue in list(self._queues.items()):
            while queue and queue[0][2].done():  # cancelled
                heapq.heappop(queue)
            if not queue:
                del self._queues[owner]
        waiting = ((self._held[owner], queue[0][:2], owner) for owner, queue in self._queues.items())
        return min(waiting, default=(0, ("", 0), None))[2]
