"""The metrics of the Kubernetes backend.

Owns their names. Must not know what the calls are for.
"""

from __future__ import annotations

from collections.abc import Callable

from aisandbox_kubernetes import Call
from prometheus_client import CollectorRegistry, Counter, Gauge


class ClusterMetrics:
    """Registered in ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._calls = Counter(
            "aisandbox_kubernetes_calls",
            "Calls of the Kubernetes API; the code is an HTTP status, or the error where there was no answer.",
            ["verb", "resource", "code"],
            registry=registry,
        )
        self._lists = Counter("aisandbox_watch_lists", "Times all runs were listed.", registry=registry)
        self._streams = Counter("aisandbox_watch_streams", "Watch streams opened.", registry=registry)
        self._age = Gauge(
            "aisandbox_watch_age_seconds", "Seconds since the last contact of the watch.", registry=registry
        )
        self._writes = Counter("aisandbox_progress_writes", "Progress written to statuses.", registry=registry)
        self._permissions = Gauge(
            "aisandbox_permission_missing",
            "1 if the service may not do what it needs to (RBAC), else 0.",
            ["verb", "resource"],
            registry=registry,
        )
        self._removed = Counter("aisandbox_folders_removed", "Folders of deleted runs removed.", registry=registry)

    def observe_call(self, call: Call) -> None:
        """A call has ended."""
        verb = "WATCH" if call.verb == "watch" else call.method
        self._calls.labels(verb, call.resource, call.outcome).inc()

    def observe_list(self) -> None:
        """All runs were listed."""
        self._lists.inc()

    def observe_stream(self) -> None:
        """A watch stream was opened."""
        self._streams.inc()

    def observe_write(self) -> None:
        """A run's progress was written."""
        self._writes.inc()

    def observe_permission(self, verb: str, resource: str, is_missing: bool) -> None:
        """Whether a permission that is needed is missing."""
        self._permissions.labels(verb, resource).set(is_missing)

    def observe_removal(self) -> None:
        """A folder was removed."""
        self._removed.inc()

    def read_age_from(self, age: Callable[[], float]) -> None:
        """Sets the function that returns the watch's age."""
        self._age.set_function(age)
