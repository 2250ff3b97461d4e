"""Watches of kopf that outlive whatever the API server answers.

Kopf takes an answer to a watch for its end that is none of 410 in the stream, 429 and 5xx: "no leader" in the stream,
410 or 409 as the status of the call. It ends as a whole then, which can take half a minute, and with it the operator,
whose next start Kubernetes puts off for up to five minutes. Owns the place in kopf where that is decided.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import structlog
from kopf._cogs.clients import watching
from kopf._cogs.clients.errors import APIError

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
LONG_SECONDS = 60.0

Watch = Callable[..., AsyncIterator[Any]]


def patient(watch: Watch, first_pause: float = FIRST_PAUSE_SECONDS) -> Watch:
    """The watch, which ends instead of raising what the API server said, after a pause; kopf then lists anew."""
    pauses: dict[object, tuple[float, float]] = {}

    async def watch_patiently(**told: Any) -> AsyncIterator[Any]:
        loop, kind = asyncio.get_running_loop(), told.get("resource")
        try:
            async for event in watch(**told):
                yield event
        except (APIError, watching.WatchingError) as error:
            last, pause = pauses.get(kind, (0.0, 0.0))
            is_new = loop.time() - last > LONG_SECONDS
            pause = first_pause if is_new else min(2 * pause, LONGEST_PAUSE_SECONDS)
            pauses[kind] = loop.time(), pause
            log.warning("a watch has ended and begins anew", kind=str(kind), error=str(error)[:500], again_in=pause)
            await asyncio.sleep(pause)

    return watch_patiently


def make_kopf_patient() -> None:
    """From now on, for all of this process."""
    if not getattr(watching.continuous_watch, "is_patient", False):
        watch = patient(watching.continuous_watch)
        watch.is_patient = True  # type: ignore[attr-defined]
        watching.continuous_watch = watch
