"""Kubernetes' probes: 200, or 503 and the reason.

``/healthz``: whether the operator gets lists and watch events. A restart is harmless (everything is read again), so it
is the remedy for anything that is stuck. ``/readyz``: whether everything could be listed once; without the operator's
role or the resource's definition that never happens, and the installation is not complete.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from aisandbox_operator.errors import AddressInUse

GRACE_SECONDS = 60.0


def health_problem(resync_age: float, resync_seconds: float, silent_watches: frozenset[str]) -> str:
    """Why the operator should be restarted; empty if it should not."""
    if resync_age > 3 * resync_seconds + GRACE_SECONDS:
        return f"nothing could be listed for {resync_age:.0f} s"
    if silent_watches:
        return f"the watch of {', '.join(sorted(silent_watches))} delivers nothing"
    return ""


class Probes:
    """Serves both on all interfaces; ``problem`` and ``unready`` return why not, or an empty text."""

    def __init__(self, problem: Callable[[], str], unready: Callable[[], str]) -> None:
        self._problem = problem
        self._unready = unready
        self._runner: web.AppRunner | None = None

    async def serve(self, port: int) -> int:
        """Starts, and returns the port. Raises AddressInUse."""
        app = web.Application()
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, port=port)
        try:
            await site.start()
        except OSError as error:
            raise AddressInUse("PROBE_PORT", port) from error
        addresses = sorted(self._runner.addresses, key=len)  # IPv4's first: a free port differs between the two
        return int(addresses[0][1])

    async def close(self) -> None:
        """Stops serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _request: web.Request) -> web.Response:
        return _answer(self._problem())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._unready() or self._problem())


def _answer(problem: str) -> web.Response:
    return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")
