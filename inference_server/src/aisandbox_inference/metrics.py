"""What the server counts, for Prometheus.

Owns the metrics' names. Must not know who calls.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_BUCKETS = (5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 1e-1, 1.0, 10.0)


class Metrics:
    """The metrics of one server; runs are no label, because there is no bound on them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.seconds = Histogram(
            "aisandbox_inference_answer_seconds",
            "From a request read to its answer ready.",
            ["call"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.refusals = Counter(
            "aisandbox_inference_refusals", "Requests that were refused.", ["call", "code"], registry=registry
        )
        self.observations = Counter("aisandbox_inference_observations", "Observations acted on.", registry=registry)
        self.loads = Counter("aisandbox_inference_model_loads", "Models loaded.", registry=registry)
        self.load_failures = Counter(
            "aisandbox_inference_model_load_failures",
            "Models that could not be loaded; the one before goes on serving.",
            registry=registry,
        )
        self.evictions = Counter(
            "aisandbox_inference_model_evictions", "Models dropped to make room.", registry=registry
        )
        self.models = Gauge("aisandbox_inference_models", "Models loaded now.", registry=registry)
        self.model_bytes = Gauge("aisandbox_inference_model_bytes", "Memory of the loaded models.", registry=registry)
