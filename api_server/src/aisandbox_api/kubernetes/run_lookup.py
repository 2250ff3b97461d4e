"""Looking up a run that the cache does not have: another replica may have created it a moment ago.

Owns the rate limit for clients that ask for unknown runs all the time. Must not know why a run is needed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aisandbox_crds import is_run_name
from aisandbox_process import TokenBucket

from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_api.kubernetes.run_resources import RunResources

LOOKUPS_A_SECOND = 10.0
LOOKUPS_AT_ONCE = 20.0


class RunLookup:
    """At most 10 look-ups a second, and one at a time for a name. For one event loop."""

    def __init__(self, resources: RunResources, cache: RunCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._resources = resources
        self._cache = cache
        self._bucket = TokenBucket(LOOKUPS_A_SECOND, LOOKUPS_AT_ONCE, clock)
        self._pending: dict[str, asyncio.Task[None]] = {}

    async def look_up(self, name: str) -> None:
        """Puts the run into the cache if it exists and the rate limit allows a look-up. Raises ApiError."""
        pending = self._pending.get(name)
        if pending is None:
            if not is_run_name(name) or not self._bucket.take():
                return
            pending = self._pending[name] = asyncio.create_task(self._read(name))
            pending.add_done_callback(lambda task: self._pending.pop(name))
        await asyncio.shield(pending)

    async def _read(self, name: str) -> None:
        run = await self._resources.get(name)
        if run is not None:
            self._cache.put(run)
