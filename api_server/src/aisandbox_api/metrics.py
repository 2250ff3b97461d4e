"""The service's numbers for Prometheus.

Owns their names and the port they are read from. Must not know backends: it is told of changes. With several replicas
on one cluster each of them counts all runs: take the maximum of aisandbox_runs, not the sum.
"""

from __future__ import annotations

from typing import Any

from aisandbox_crds.status import Phase
from aisandbox_crds.trainingrun import TrainingRun
from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from aisandbox_api.errors import AddressInUse


class Metrics:
    """Numbers of one service, in ``registry``; default, one of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._runs = Gauge("aisandbox_runs", "Runs in each phase.", ["phase"], registry=self.registry)
        self._attempts = Counter("aisandbox_attempts", "Trainers started.", registry=self.registry)
        self._restarts = Counter("aisandbox_restarts", "Trainers started again.", registry=self.registry)
        self._timesteps = Counter("aisandbox_timesteps", "Environment steps reported.", registry=self.registry)
        self._reports = Counter("aisandbox_reports", "Progress reports taken.", registry=self.registry)
        self._refused = Counter(
            "aisandbox_reports_refused", "Progress reports not taken.", ["status"], registry=self.registry
        )
        self._server: Any = None
        for phase in Phase:
            self._runs.labels(phase.value).set(0)

    def observe_run(self, before: TrainingRun | None, after: TrainingRun | None) -> None:
        """A run has appeared (``before`` None), changed, or gone (``after`` None)."""
        if before is None or after is None:
            for run, change in ((before, -1), (after, 1)):
                if run is not None:
                    self._runs.labels(run.status.phase.value).inc(change)
            return
        if before.status.phase is not after.status.phase:
            self._runs.labels(before.status.phase.value).dec()
            self._runs.labels(after.status.phase.value).inc()
        self._attempts.inc(max(after.status.attempt - before.status.attempt, 0))
        self._restarts.inc(max(after.status.restarts - before.status.restarts, 0))
        self._timesteps.inc(max(after.status.progress.timesteps - before.status.progress.timesteps, 0))

    def observe_report(self) -> None:
        """A report was taken."""
        self._reports.inc()

    def observe_refusal(self, status: str) -> None:
        """A report ended with another gRPC status than OK."""
        self._refused.labels(status).inc()

    def serve(self, host: str, port: int) -> None:
        """Serves /metrics from a thread. Raises AddressInUse."""
        try:
            self._server, _ = start_http_server(port, addr=host, registry=self.registry)
        except OSError as error:
            raise AddressInUse(f"{host}:{port} (METRICS_PORT)") from error

    @property
    def port(self) -> int | None:
        """Where it is served."""
        return int(self._server.server_port) if self._server is not None else None

    def close(self) -> None:
        """Stops serving."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None
