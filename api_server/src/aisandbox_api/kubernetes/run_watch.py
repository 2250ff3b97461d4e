"""The watch that fills the cache: list, then watch; again after every error.

Owns the order of calls, the pauses and the age of the cache. Must not know what a run means.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from contextlib import aclosing

import structlog

from aisandbox_api.background_tasks import cancel
from aisandbox_api.errors import ApiError, ClusterRefused
from aisandbox_api.kubernetes.metrics import ClusterMetrics
from aisandbox_api.kubernetes.run_cache import RunCache
from aisandbox_api.kubernetes.run_resources import RunResources

log = structlog.get_logger()

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 15.0
STREAM_SECONDS = (240, 300)
_GONE = 410


class RunWatch:
    """Feeds ``cache`` from ``resources`` between :meth:`start` and :meth:`close`. For one event loop."""

    def __init__(
        self,
        resources: RunResources,
        cache: RunCache,
        metrics: ClusterMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._resources = resources
        self._cache = cache
        self._metrics = metrics
        self._clock = clock
        self._version = ""
        self._contact = clock()
        self._synced = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.last_error = ""

    @property
    def is_synced(self) -> bool:
        """Whether all runs have been listed at least once."""
        return self._synced.is_set()

    def age(self) -> float:
        """Seconds since the cache was last known to be up to date."""
        return self._clock() - self._contact

    def start(self) -> None:
        """Starts in the background."""
        self._task = asyncio.create_task(self._run(), name="watch-runs")

    async def synced(self, seconds: float) -> bool:
        """Waits for the first list; whether it came in time."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._synced.wait(), seconds)
        return self.is_synced

    async def close(self) -> None:
        """Stops it."""
        await cancel(self._task)

    async def _run(self) -> None:
        pause = FIRST_PAUSE_SECONDS
        while True:
            began = self._clock()
            try:
                await self._follow()
                self.last_error = ""
            except ApiError as error:
                self._note(error)
            except Exception as error:
                log.exception("watch of the runs has failed")
                self._note(error)
            if self._clock() - began > LONGEST_PAUSE_SECONDS:
                pause = FIRST_PAUSE_SECONDS  # it worked before
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS) if self.last_error else FIRST_PAUSE_SECONDS

    async def _follow(self) -> None:
        """Lists, unless a version to continue from is known, and applies events until the stream ends."""
        if not self._version:
            listed = await self._resources.list()
            self._metrics.observe_list()
            self._cache.replace(listed)
            self._version, self._contact = listed.version, self._clock()
            log.info("runs listed", runs=len(self._cache.runs), version=listed.version)
            self._synced.set()
        self._metrics.observe_stream()
        seconds = random.randint(*STREAM_SECONDS)  # noqa: S311
        async with aclosing(self._resources.watch(self._version, seconds)) as events:
            async for event in events:
                self._cache.apply(event)
                self._version, self._contact = event.version or self._version, self._clock()
        self._contact = self._clock()

    def _note(self, error: Exception) -> None:
        self.last_error = str(error)
        if (isinstance(error, ClusterRefused) and error.code == _GONE) or not isinstance(error, ApiError):
            self._version = ""
        log.info("watch of the runs is restarted", why=str(error)[:300], lists_again=not self._version)
