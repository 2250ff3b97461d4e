"""The name under which the health service (grpc.health.v1) reports whether a run's latest model answers.

The service of the run ``walker-1`` is ``model/walker-1``, at the api-server and at the inference-server. Must not know
how health is found.
"""

from __future__ import annotations

_PREFIX = "model/"


def model_health_service(run_id: str) -> str:
    """Return the name of the health service of a run's latest model."""
    return f"{_PREFIX}{run_id}"


def run_of_health_service(service: str) -> str | None:
    """Return the run of a health service of a model, None for the name of another service."""
    return service.removeprefix(_PREFIX) if service.startswith(_PREFIX) else None
