"""grpc.health.v1 of the service: of its services by name, and ``model/RUN`` for each run's latest policy.

Owns the names, how a model's health is answered (Check only; Watch knows the names that are set), and the task that
follows the backend's availability. Must not know what answers for policies.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import structlog
from aisandbox_model_store import unknown_run
from aisandbox_wire import run_of_health_service
from grpc_health.v1 import health, health_pb2

from aisandbox_api.backend import Backend
from aisandbox_api.background_tasks import cancel
from aisandbox_api.status_codes import abort_on_error

log = structlog.get_logger()

LIVENESS = "liveness"
"""Serving as long as the process answers at all; the other names also depend on the backend."""

CHECK_SECONDS = 1.0
"""How often the backend is asked whether it is available."""

Context = grpc.aio.ServicerContext[Any, Any]
CanAct = Callable[[str, Context], Awaitable[bool | None]]
MayAsk = Callable[[str, Context], Awaitable[None]]
_Response = health_pb2.HealthCheckResponse


class RunHealth(health.aio.HealthServicer):  # type: ignore[misc]  # grpcio-health-checking has no types
    """``can_act`` returns whether the policy of a run can act for this call's client, None for an unknown run.

    ``may_ask`` returns if the caller may know that; it raises AccessError or RunUnknown. The names of services are
    for probes, which have no credentials.
    """

    def __init__(self) -> None:
        super().__init__()
        self.can_act: CanAct | None = None
        self.may_ask: MayAsk | None = None
        self._statuses: dict[str, Any] = {}

    async def set(self, service: str, status: Any) -> None:
        """Sets the status of a name."""
        self._statuses[service] = status
        await super().set(service, status)

    async def List(  # noqa: N802 -- the service's name; the base has none
        self, request: health_pb2.HealthListRequest, context: Context
    ) -> health_pb2.HealthListResponse:
        """The names that are set; not those of models."""
        return health_pb2.HealthListResponse(
            statuses={name: _Response(status=status) for name, status in self._statuses.items()}
        )

    async def Check(  # noqa: N802 -- the service's name
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        """See https://grpc.io/docs/guides/health-checking/."""
        run_id = run_of_health_service(request.service)
        if self.can_act is None or run_id is None:
            return await super().Check(request, context)
        if self.may_ask is not None:
            async with abort_on_error(context):
                await self.may_ask(run_id, context)
        can_act = await self.can_act(run_id, context)
        if can_act is None:
            await context.abort(
                grpc.StatusCode.NOT_FOUND, f"{unknown_run(run_id)}, or this service has no inference-server"
            )
        return _Response(status=_Response.SERVING if can_act else _Response.NOT_SERVING)


class HealthMonitor:
    """Sets NOT_SERVING for ``names`` while ``backend`` is unavailable, so that clients use another replica."""

    def __init__(self, servicer: RunHealth, names: Sequence[str], backend: Backend) -> None:
        self._servicer = servicer
        self._names = tuple(names)
        self._backend = backend
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Sets the names and begins to follow the backend."""
        await self._servicer.set(LIVENESS, _Response.SERVING)
        serving = await self._update(None)
        self._task = asyncio.create_task(self._follow(serving))

    async def stop(self) -> None:
        """Sets NOT_SERVING for every name, permanently."""
        await cancel(self._task)
        await self._servicer.enter_graceful_shutdown()

    async def _follow(self, serving: bool) -> None:
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            serving = await self._update(serving)

    async def _update(self, before: bool | None) -> bool:
        serving = not self._backend.unready
        if serving is before:
            return serving
        if before is not None:
            log.warning("health changed", serving=serving, reason=self._backend.unready)
        for name in self._names:
            await self._servicer.set(name, _Response.SERVING if serving else _Response.NOT_SERVING)
        return serving
