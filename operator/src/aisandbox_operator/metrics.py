"""The operator's metrics for Prometheus.

Owns their names. Must not know where the numbers come from.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from aisandbox_crds import Phase
from aisandbox_kubernetes import Call
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The metrics of one operator, in a registry of its own; ``clock`` is monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)  # memory and processor time
        self._phases: dict[str, Phase] = {}
        self._clock = clock
        self._resynced: float | None = None
        self._runs = Gauge("aisandbox_operator_runs", "Runs in each phase.", ["phase"], registry=registry)
        self._duration = Histogram(
            "aisandbox_operator_reconcile_seconds", "Time of one reconcile.", buckets=_SECONDS, registry=registry
        )
        self._errors = Counter(
            "aisandbox_operator_reconcile_errors", "Reconciles that failed.", ["error"], registry=registry
        )
        self._requests = Counter(
            "aisandbox_operator_api_requests", "Calls of the API server.", ["verb", "status"], registry=registry
        )
        self._jobs = Counter("aisandbox_operator_jobs_created", "Jobs created.", registry=registry)
        self.queue_depth = Gauge("aisandbox_operator_queue_depth", "Runs waiting for a worker.", registry=registry)
        self._age = Gauge("aisandbox_operator_resync_age_seconds", "Seconds since the last resync.", registry=registry)
        self._age.set_function(self._resync_age)
        for phase in Phase:
            self._runs.labels(phase.value).set(0)

    def observe_phase(self, run: str, phase: Phase | None) -> None:
        """The run is in that phase; None: it no longer exists."""
        before = self._phases.pop(run, None)
        if before is not None:
            self._runs.labels(before.value).dec()
        if phase is not None:
            self._phases[run] = phase
            self._runs.labels(phase.value).inc()

    def observe_runs(self, phases: dict[str, Phase]) -> None:
        """The phases of all runs that exist."""
        for run in self._phases.keys() - phases.keys():
            self.observe_phase(run, None)
        for run, phase in phases.items():
            self.observe_phase(run, phase)

    def observe_reconcile(self, seconds: float, error: str = "") -> None:
        """A reconcile took so many seconds; ``error`` is the type of error it ended with."""
        self._duration.observe(seconds)
        if error:
            self._errors.labels(error).inc()

    def observe_call(self, call: Call) -> None:
        """A call of the API server has ended; the status is "none" if there was no answer."""
        verb = call.verb if call.verb in ("list", "apply") else call.method.lower()
        self._requests.labels(verb, call.outcome if call.is_answered else "none").inc()

    def observe_job(self) -> None:
        """A Job was created."""
        self._jobs.inc()

    def observe_resync(self) -> None:
        """A resync has succeeded."""
        self._resynced = self._clock()

    def _resync_age(self) -> float:
        return float("inf") if self._resynced is None else self._clock() - self._resynced
