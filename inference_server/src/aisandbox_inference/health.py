"""grpc.health.v1 with readiness per model: the service ``model/RUN`` is SERVING if the run's latest policy answers.

Must not know how a policy is loaded.
"""

from __future__ import annotations

import grpc
from aisandbox_access import AccessError, status_of
from aisandbox_model_store import unknown_run
from aisandbox_process.coroutines import run_blocking
from aisandbox_wire import run_of_health_service
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import HealthServicer

from aisandbox_inference.policy_service import PolicyService
from aisandbox_inference.rpc_methods import SERVICE
from aisandbox_inference.run_permissions import RunPermissions

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class ModelHealth(HealthServicer):  # type: ignore[misc]  # grpcio-health-checking has no types
    """Health of the server and of its service, and, only with Check, of each run's latest model."""

    def __init__(self, service: PolicyService) -> None:
        super().__init__()
        self._policies = service
        self.permissions: RunPermissions | None = None

    def ready(self) -> None:
        """Report that the server accepts calls."""
        for name in ("", SERVICE):
            self.set(name, _SERVING)

    def Check(  # noqa: N802 -- the service's name
        self, request: health_pb2.HealthCheckRequest, context: grpc.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        """Return the health of a service; that of a model is found by loading it."""
        run_id = run_of_health_service(request.service)
        if run_id is None:
            return super().Check(request, context)
        if self.permissions is not None:  # the other names are for probes, which have no credentials
            try:
                run_blocking(self.permissions.may_act(context.invocation_metadata(), run_id, context.peer()))
            except AccessError as error:
                context.abort(status_of(error), str(error))
        can_act = run_blocking(self._policies.can_act(run_id))
        if can_act is None:
            context.abort(grpc.StatusCode.NOT_FOUND, unknown_run(run_id))
        return health_pb2.HealthCheckResponse(status=_SERVING if can_act else _NOT_SERVING)
