import errno
import socket
import urllib.error
import urllib.request
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from aisandbox_process import metrics_server
from aisandbox_process.metrics_server import MetricsServer
from prometheus_client import CollectorRegistry, Counter


def _answers_and_closes(server: MetricsServer, addresses: Sequence[str]) -> None:
    try:
        for address in addresses:
            with urllib.request.urlopen(f"http://{address}:{server.port}/metrics", timeout=30) as answer:
                assert answer.status == 200
    finally:
        server.close()


def test_metrics_server_serves_its_registry_until_it_is_closed() -> None:
    registry = CollectorRegistry()
    Counter("calls", "Calls.", registry=registry).inc()
    server = MetricsServer(registry, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.port}/metrics"
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            assert "calls_total 1.0" in answer.read().decode()
    finally:
        server.close()
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=60)


def test_metrics_server_answers_probes() -> None:
    answers = {"/livez": True, "/readyz": False}
    probes = {path: partial(answers.__getitem__, path) for path in answers}
    server = MetricsServer(CollectorRegistry(), "127.0.0.1", 0, probes)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/livez", timeout=60) as answer:
            assert (answer.status, answer.read()) == (200, b"ok")
        with pytest.raises(urllib.error.HTTPError, match="503"):
            urllib.request.urlopen(f"http://127.0.0.1:{server.port}/readyz", timeout=60)
    finally:
        server.close()


def test_metrics_server_refuses_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(OSError, match="in use"):
        MetricsServer(CollectorRegistry(), "127.0.0.1", other.getsockname()[1])


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_metrics_server_on_all_addresses_answers_on_both_families(host: str) -> None:
    server = MetricsServer(CollectorRegistry(), host, 0)
    addresses = ["127.0.0.1", *(["[::1]"] if _has_ipv6() else [])]
    _answers_and_closes(server, addresses)


def test_metrics_server_falls_back_to_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    make_server: Any = vars(metrics_server)["make_server"]

    def without_ipv6(host: str, *rest: Any) -> Any:
        if ":" in host:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return make_server(host, *rest)

    monkeypatch.setattr(metrics_server, "make_server", without_ipv6)
    server = MetricsServer(CollectorRegistry(), "::", 0)
    _answers_and_closes(server, ["127.0.0.1"])


def test_metrics_server_takes_ipv4_also_where_ipv6_sockets_do_not_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    if not _has_ipv6():
        pytest.skip("the machine has no IPv6")

    class OnlyIPv6(socket.socket):
        """As with net.ipv6.bindv6only=1."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            if self.family == socket.AF_INET6:
                self.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", OnlyIPv6)
        server = MetricsServer(CollectorRegistry(), "0.0.0.0", 0)
    _answers_and_closes(server, ["127.0.0.1"])


@pytest.mark.parametrize("taken", ["127.0.0.1", "0.0.0.0"])
def test_metrics_server_on_all_addresses_refuses_a_port_in_use(taken: str) -> None:
    with socket.create_server((taken, 0)) as other, pytest.raises(OSError, match="in use"):
        MetricsServer(CollectorRegistry(), "0.0.0.0", other.getsockname()[1])


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
