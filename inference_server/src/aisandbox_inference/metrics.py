"""The server's metrics for Prometheus.

Owns their names. Must not know who updates them.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 1.0, 10.0)


class Metrics:
    """The metrics of one server; runs are not a label, because their number is not bounded."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "aisandbox_inference_answer_seconds",
            "Time from the request to its answer, without the transport.",
            ["call"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.refusals = Counter(
            "aisandbox_inference_refusals", "Requests that ended with an error.", ["call", "code"], registry=registry
        )
        self.observations = Counter("aisandbox_inference_observations", "Observations answered.", registry=registry)
        self.loads = Counter("aisandbox_inference_model_loads", "Models loaded.", registry=registry)
        self.load_failures = Counter(
            "aisandbox_inference_model_load_failures",
            "Models that could not be loaded; the older one continues to serve.",
            registry=registry,
        )
        self.evictions = Counter(
            "aisandbox_inference_model_evictions", "Models evicted from memory.", registry=registry
        )
        self.models = Gauge("aisandbox_inference_models", "Models loaded now.", registry=registry)
        self.model_bytes = Gauge("aisandbox_inference_model_bytes", "Memory of the loaded models.", registry=registry)
