"""Watches of kopf that survive every answer of the API server: the one place where kopf's private names are used.

Kopf restarts a watch after 410 in the stream, 429 and 5xx. Any other answer, such as "no leader" in the stream, or 410
or 409 as the status of the call, ends kopf as a whole, which can take half a minute, and with it the operator, whose
next start Kubernetes delays by up to five minutes. The patch wraps ``continuous_watch``, which ``infinite_watch``
calls: such an answer ends the watch after a pause, and kopf lists again.

Without the patch kopf works as it is released, and the operator restarts after such an answer. That is what
KOPF_PATCH=off and a failed self-test lead to. ``operator/pyproject.toml`` has the upper bound of kopf's version.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import kopf
import structlog

log = structlog.get_logger(__name__)

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 15.0
RECENT_SECONDS = 60.0
"""A watch that ends again within this time gets a longer pause."""
SELF_TEST_SECONDS = 10.0

Watch = Callable[..., AsyncIterator[Any]]


async def install() -> bool:
    """Patches kopf for all of this process, if the self-test passes; whether kopf is patched."""
    try:
        from kopf._cogs.clients import errors, watching

        failures = (errors.APIError, watching.WatchingError)
        if getattr(watching.continuous_watch, "is_patched", False):
            return True
        await asyncio.wait_for(_self_test(watching, failures), SELF_TEST_SECONDS)
    except Exception as error:
        log.warning(
            "kopf is used without the patch: a watch that the API server ends with an error restarts the operator",
            error=f"{type(error).__name__}: {error}",
        )
        return False
    patched = restarting(watching.continuous_watch, failures)
    patched.is_patched = True  # type: ignore[attr-defined]
    watching.continuous_watch = patched
    return True


def restarting(watch: Watch, failures: tuple[type[Exception], ...], first_pause: float = FIRST_PAUSE_SECONDS) -> Watch:
    """The watch, which ends after a pause where it raised one of ``failures``; kopf then lists again."""
    pauses: dict[object, tuple[float, float]] = {}

    async def restarting_watch(**arguments: Any) -> AsyncIterator[Any]:
        loop, resource = asyncio.get_running_loop(), arguments.get("resource")
        try:
            async for event in watch(**arguments):
                yield event
        except failures as error:
            last, pause = pauses.get(resource, (0.0, 0.0))
            is_first = loop.time() - last > RECENT_SECONDS
            pause = first_pause if is_first else min(2 * pause, LONGEST_PAUSE_SECONDS)
            pauses[resource] = loop.time(), pause
            text = str(error)[:500]
            log.warning("a watch has ended and restarts", kind=str(resource), error=text, retry_after=pause)
            await asyncio.sleep(pause)

    return restarting_watch


async def _self_test(watching: Any, failures: tuple[type[Exception], ...]) -> None:
    """One round through kopf's ``infinite_watch``: a fake watch fails, is restarted, and its event arrives.

    Raises whatever shows that kopf is not as this module expects.
    """
    expected = {"type": "ADDED", "object": {}}
    starts = 0

    async def fake_watch(**_: Any) -> AsyncIterator[Any]:
        nonlocal starts
        starts += 1
        if starts == 1:
            raise watching.WatchingError("self-test")
        yield expected

    original = watching.continuous_watch
    watching.continuous_watch = restarting(fake_watch, failures, first_pause=0.0)
    try:
        settings = kopf.OperatorSettings()
        settings.watching.reconnect_backoff = 0.0
        events = watching.infinite_watch(settings=settings, resource="self-test", namespace=None)
        async with aclosing(events):
            event = await anext(events)
    finally:
        watching.continuous_watch = original
    if event != expected or starts != 2:
        raise RuntimeError("kopf does not restart a watch by calling continuous_watch")
