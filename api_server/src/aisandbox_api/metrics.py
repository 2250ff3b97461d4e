"""The service's metrics for Prometheus.

Owns their names. Must not know backends, which report changes to it. With several replicas
on one cluster each of them counts all runs, and only its own simulators: take the maximum of aisandbox_runs, and
the sum of aisandbox_simulators.
"""

from __future__ import annotations

from typing import Protocol

from aisandbox_crds import Phase, TrainingRun
from prometheus_client import CollectorRegistry, Counter, Gauge


class SimulatorCounter(Protocol):
    """What knows the simulators that are attached to this process; asked in any thread."""

    @property
    def attached(self) -> int:
        """All of them."""
        ...

    @property
    def in_session(self) -> int:
        """Those that serve a session now."""
        ...


class Metrics:
    """The metrics of one service, in ``registry``; default, one of its own."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._runs = Gauge("aisandbox_runs", "Runs in each phase.", ["phase"], registry=self.registry)
        self._attempts = Counter("aisandbox_attempts", "Trainers started.", registry=self.registry)
        self._restarts = Counter("aisandbox_restarts", "Trainers started again.", registry=self.registry)
        self._timesteps = Counter("aisandbox_timesteps", "Environment steps reported.", registry=self.registry)
        self._reports = Counter("aisandbox_reports", "Progress reports accepted.", registry=self.registry)
        self._refused = Counter(
            "aisandbox_reports_refused", "Progress reports refused.", ["status"], registry=self.registry
        )
        # By pool would be a series for each name that a simulator thinks of.
        self._simulators = Gauge(
            "aisandbox_simulators", "Simulators attached to this process.", ["state"], registry=self.registry
        )
        for phase in Phase:
            self._runs.labels(phase.value).set(0)

    def observe_run(self, before: TrainingRun | None, after: TrainingRun | None) -> None:
        """A run was created (``before`` None), changed, or removed (``after`` None)."""
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

    def follow_simulators(self, simulators: SimulatorCounter) -> None:
        """Reads the numbers of simulators from there whenever the metrics are read."""
        self._simulators.labels("in_session").set_function(lambda: simulators.in_session)
        self._simulators.labels("free").set_function(lambda: max(simulators.attached - simulators.in_session, 0))

    def observe_report(self) -> None:
        """A report was accepted."""
        self._reports.inc()

    def observe_refusal(self, status: str) -> None:
        """A report was refused with the gRPC status ``status``."""
        self._refused.labels(status).inc()
