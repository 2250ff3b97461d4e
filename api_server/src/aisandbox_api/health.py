"""grpc.health.v1 of the service: of its services by name, and ``model/RUN`` for each run's latest policy.

Owns how a model's health is answered (Check only; Watch has the names that are set). Must not know who answers for
policies.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2

MODEL_PREFIX = "model/"
CanAct = Callable[[str], Awaitable[bool | None]]


class RunHealth(health.aio.HealthServicer):  # type: ignore[misc]  # grpcio-health-checking has no types
    """``can_act`` tells whether the policy of a run answers, None for a run that is not known."""

    def __init__(self) -> None:
        super().__init__()
        self.can_act: CanAct | None = None

    async def Check(  # noqa: N802 -- the service's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """See https://grpc.io/docs/guides/health-checking/."""
        if self.can_act is None or not request.service.startswith(MODEL_PREFIX):
            return await super().Check(request, context)
        run_id = request.service.removeprefix(MODEL_PREFIX)
        answers = await self.can_act(run_id)
        if answers is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no run {run_id!r}, or nobody answers for it")
        response = health_pb2.HealthCheckResponse
        return response(status=response.SERVING if answers else response.NOT_SERVING)
