"""Which addresses the EndpointSlices of a Service give."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from aisandbox_api.errors import ClusterRefused
from aisandbox_api.kubernetes.service_pods import pods_of_service
from aisandbox_api.policy_targets import PodsOfService
from aisandbox_api.policy_targets import pods_of_service as parsed
from aisandbox_kubernetes import Client, Configuration
from fake_kubernetes import NAMESPACE, FakeKubernetes

READY = {"ready": True, "serving": True, "terminating": False}
ENDING = {"ready": False, "serving": True, "terminating": True}
ENDED = {"ready": False, "serving": False, "terminating": True}


def one(*endpoints: tuple[str, dict[str, bool]], service: str = "a", family: str = "IPv4", port: int = 50051) -> Any:
    return {
        "metadata": {"name": "x", "labels": {"kubernetes.io/service-name": service}},
        "addressType": family,
        "ports": [{"name": "grpc", "port": port}, {"name": "metrics", "port": 9090}],
        "endpoints": [{"addresses": [address], "conditions": conditions} for address, conditions in endpoints],
    }


@pytest.fixture
async def api() -> AsyncIterator[FakeKubernetes]:
    api = FakeKubernetes()
    await api.start()
    yield api
    await api.stop()


@pytest.mark.parametrize(
    ("slices", "port", "addresses"),
    [
        ([], "grpc", set()),
        ([one(("10.0.0.1", READY), ("10.0.0.2", ENDING)), one(("10.0.0.3", {}))], "grpc", {"10.0.0.1", "10.0.0.3"}),
        ([one(("10.0.0.1", ENDING), ("10.0.0.2", ENDED))], "grpc", {"10.0.0.1"}),
        ([one(("10.0.0.1", ENDED))], "grpc", set()),
        ([one(("10.0.0.1", READY))], "50051", {"10.0.0.1"}),
        ([one(("10.0.0.1", READY))], "http", set()),
        ([one(("10.0.0.1", READY), service="b")], "grpc", set()),
        ([one(("10.0.0.1", READY)), one(("fd00::1", READY), family="IPv6")], "grpc", {"10.0.0.1"}),
        ([one(("fd00::1", READY), family="IPv6")], "grpc", {"[fd00::1]"}),
        ([one(("10.0.0.1", ENDING)), one(("fd00::2", READY), family="IPv6")], "grpc", {"[fd00::2]"}),
        ([one(("a.example.com", READY), family="FQDN")], "grpc", set()),
    ],
)
async def test_pods_are_those_that_are_ready_or_else_still_serve(
    api: FakeKubernetes, slices: list[Any], port: str, addresses: set[str]
) -> None:
    api.slices = slices
    client = Client(Configuration(host=api.url), name="test")
    found = await pods_of_service(client, NAMESPACE, "a", port)
    assert found == {f"{each}:50051" for each in addresses}
    await client.close()


async def test_refusal_of_the_cluster_is_raised(api: FakeKubernetes) -> None:
    api.fail("GET", "endpointslices", (403, "Forbidden"))
    client = Client(Configuration(host=api.url), name="test")
    with pytest.raises(ClusterRefused):
        await pods_of_service(client, NAMESPACE, "a", "grpc")
    await client.close()


@pytest.mark.parametrize(
    ("address", "meaning"),
    [
        ("kubernetes:///aisandbox-inference:grpc", PodsOfService("aisandbox-inference", "grpc")),
        ("kubernetes:///a:50051", PodsOfService("a", "50051")),
        ("kubernetes:///A:50051", None),
        ("kubernetes:///a.b:50051", None),
        ("kubernetes:///a", None),
        ("dns:///a.b.svc:50051", None),
        ("a:50051", None),
    ],
)
def test_address_of_a_service_is_known_by_its_form(address: str, meaning: PodsOfService | None) -> None:
    assert parsed(address) == meaning
