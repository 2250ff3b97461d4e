"""Asking the API for a run that the cache does not have: another replica may have created it a moment ago.

Owns the bound on clients that ask for unknown runs all the time. Must not know why a run is wanted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from aisandbox_crds.naming import is_run_name

from aisandbox_api.kubernetes.allowance import Allowance
from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_api.kubernetes.run_resources import RunResources

A_SECOND = 10.0
AT_ONCE = 20.0


class Lookups:
    """At most 10 a second, and one at a time for a name. For one event loop."""

    def __init__(self, resources: RunResources, cache: RunCache, clock: Callable[[], float] = time.monotonic) -> None:
        self._resources = resources
        self._cache = cache
        self._allowance = Allowance(A_SECOND, AT_ONCE, clock)
        self._asking: dict[str, asyncio.Task[None]] = {}

    async def look_up(self, name: str) -> None:
        """Puts the run into the cache if there is one and the bound allows to ask. Raises ApiError."""
        asking = self._asking.get(name)
        if asking is None:
            if not is_run_name(name) or not self._allowance.take():
                return
            asking = self._asking[name] = asyncio.create_task(self._ask(name))
            asking.add_done_callback(lambda task: self._asking.pop(name))
        await asyncio.shield(asking)

    async def _ask(self, name: str) -> None:
        run = await self._resources.get(name)
        if run is not None:
            self._cache.put(run)
