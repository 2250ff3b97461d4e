"""grpc.health.v1 with readiness per model: ``model/RUN`` is SERVING when that run's latest policy answers.

Owns the names of the health services. Must not know how a policy is loaded.
"""

from __future__ import annotations

import grpc
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import HealthServicer

from aisandbox_inference.answers import Answers
from aisandbox_inference.methods import SERVICE
from aisandbox_inference.waiting import finish

MODEL_PREFIX = "model/"
_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class ModelHealth(HealthServicer):  # type: ignore[misc]  # grpcio-health-checking has no types
    """Health of the server, of its service, and of each run's latest model (Check only; Watch has the first two)."""

    def __init__(self, answers: Answers) -> None:
        super().__init__()
        self._answers = answers

    def ready(self) -> None:
        """Say that calls are answered."""
        for name in ("", SERVICE):
            self.set(name, _SERVING)

    def Check(  # noqa: N802 -- the service's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Answer for a model by loading it."""
        if not request.service.startswith(MODEL_PREFIX):
            return super().Check(request, context)
        run_id = request.service.removeprefix(MODEL_PREFIX)
        answers = finish(self._answers.can_act(run_id))
        if answers is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no run {run_id!r}")
        return health_pb2.HealthCheckResponse(status=_SERVING if answers else _NOT_SERVING)
