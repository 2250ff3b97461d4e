"""Which addresses the EndpointSlices of a Service give."""

from __future__ import annotations

import asyncio
from collections.abc import Set
from typing import Any

import pytest
from aisandbox_api.endpoints import EndpointWatcher, ServiceAddress
from aisandbox_api.endpoints import parse_service_address as parsed
from aisandbox_api.errors import ClusterRefused
from aisandbox_api.kubernetes.service_pods import list_service_pods
from aisandbox_kubernetes import Client, Configuration
from aisandbox_process.tls import InvalidChannelSecurity
from fake_kubernetes import NAMESPACE, FakeKubernetes
from structlog.testing import capture_logs

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
        ([{**one(("10.0.0.1", READY)), "ports": None}], "grpc", set()),
        ([{**one(("10.0.0.1", READY)), "ports": [{"name": "grpc"}]}], "grpc", set()),
        ([{**one(("10.0.0.1", READY)), "endpoints": None}], "grpc", set()),
        ([{**one(), "endpoints": [{"addresses": []}]}], "grpc", set()),
    ],
)
async def test_pods_are_those_that_are_ready_or_else_still_serve(
    api: FakeKubernetes, slices: list[Any], port: str, addresses: set[str]
) -> None:
    api.slices = slices
    client = Client(Configuration(host=api.url), name="test")
    found = await list_service_pods(client, NAMESPACE, "a", port)
    assert found == {f"{each}:50051" for each in addresses}
    await client.close()


async def test_refusal_of_the_cluster_is_raised(api: FakeKubernetes) -> None:
    api.fail("GET", "endpointslices", (403, "Forbidden"))
    client = Client(Configuration(host=api.url), name="test")
    with pytest.raises(ClusterRefused):
        await list_service_pods(client, NAMESPACE, "a", "grpc")
    await client.close()


@pytest.mark.parametrize(
    ("address", "meaning"),
    [
        ("kubernetes:///aisandbox-inference:grpc", ServiceAddress("aisandbox-inference", "grpc")),
        ("kubernetes:///a:50051", ServiceAddress("a", "50051")),
        ("kubernetes:///A:50051", None),
        ("kubernetes:///a.b:50051", None),
        ("kubernetes:///a", None),
        ("dns:///a.b.svc:50051", None),
        ("a:50051", None),
    ],
)
def test_address_of_a_service_is_known_by_its_form(address: str, meaning: ServiceAddress | None) -> None:
    assert parsed(address) == meaning


async def test_answer_that_cannot_be_read_or_used_does_not_end_the_following() -> None:
    answers: list[Any] = [ValueError("not an answer"), frozenset({"10.0.0.1:1"})]
    used: list[Set[str]] = []
    refusals = [InvalidChannelSecurity("the CA file is half")]
    known = asyncio.Event()

    async def read() -> Set[str]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, Exception):
            raise answer
        return frozenset(answer)

    def use(addresses: Set[str]) -> None:
        if refusals:
            raise refusals.pop()
        used.append(addresses)
        known.set()

    follower = EndpointWatcher(read, use, seconds=0.01)
    with capture_logs() as logs:
        await follower.start()
        async with asyncio.timeout(30):
            await known.wait()
    await follower.close()
    assert used == [{"10.0.0.1:1"}]
    assert [entry["why"] for entry in logs if entry["log_level"] == "warning"] == [
        "ValueError not an answer",
        "InvalidChannelSecurity the CA file is half",
    ]
