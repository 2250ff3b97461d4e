import socket
import urllib.request

import pytest
from aisandbox_process.metrics_server import MetricsServer
from prometheus_client import CollectorRegistry, Counter


def test_metrics_server_serves_its_registry_until_it_is_closed() -> None:
    registry = CollectorRegistry()
    Counter("calls", "Calls.", registry=registry).inc()
    server = MetricsServer(registry, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            assert "calls_total 1.0" in answer.read().decode()
    finally:
        server.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)


def test_metrics_server_refuses_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        MetricsServer(CollectorRegistry(), "127.0.0.1", other.getsockname()[1])
