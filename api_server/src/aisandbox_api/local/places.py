"""The bound on how many trainers run at a time.

Owns the queue: who waits gets a place in the order of creation of the runs, so that a run that is started again
does not lose its turn. Must not know what a place is used for.
"""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class Places:
    """``places`` of them; for one event loop."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: list[tuple[str, int, asyncio.Future[None]]] = []
        self._count = count()

    async def take(self, order: str) -> None:
        """Waits for a place; the smallest ``order`` first."""
        place = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (order, next(self._count), place))
        self._hand_out()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # given in the moment its taker left
                self.give_back()
            raise

    def give_back(self) -> None:
        """Frees a place that was taken."""
        self._free += 1
        self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._waiting:
            _, _, place = heapq.heappop(self._waiting)
            if not place.done():
                place.set_result(None)
                self._free -= 1
