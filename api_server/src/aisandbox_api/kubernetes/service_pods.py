"""The pods behind a Service: the addresses that its EndpointSlices say are ready.

A resolver of DNS learns of a new pod when its cache is over, which is 30 seconds or more on many clusters; the
EndpointSlices are what kube-proxy follows. Owns their form. Must not know what is at the addresses.

Source: kubernetes.io, "EndpointSlices", conditions ready, serving and terminating.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aisandbox_kubernetes import Client, Json
from aisandbox_process import join_host_port

from aisandbox_api.kubernetes.call_errors import api_errors

_SERVICE_LABEL = "kubernetes.io/service-name"


async def list_service_pods(client: Client, namespace: str, service: str, port: str) -> frozenset[str]:
    """host:port of every pod of the Service that is ready; of those that end but still serve, if none is.

    ``port``: the name or the number of a port of its pods. Raises BackendUnavailable, ClusterRefused.
    """
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    slices: list[Json] = []
    with api_errors():
        async for page in client.pages(path, f"{_SERVICE_LABEL}={service}"):
            slices.extend(page.get("items") or ())
    # One family, because a pod of a cluster with two has an address in each.
    families = [[each for each in slices if each.get("addressType") == family] for family in ("IPv4", "IPv6")]
    for wanted in (_is_ready, _is_serving):
        for family in families:
            if found := frozenset(_addresses(family, port, wanted)):
                return found
    return frozenset()


def _addresses(slices: Iterable[Json], port: str, wanted: Any) -> Iterator[str]:
    for each in slices:
        named = [(entry.get("name"), entry.get("port")) for entry in each.get("ports") or ()]
        numbers = [number for name, number in named if number and port in (name, str(number))]
        for endpoint in each.get("endpoints") or ():
            hosts = endpoint.get("addresses") or ()  # the first one is the endpoint's; more have no meaning any more
            if hosts and wanted(endpoint.get("conditions") or {}):
                yield from (join_host_port(hosts[0], number) for number in numbers)


def _is_ready(conditions: Json) -> bool:
    return conditions.get("ready") is not False


def _is_serving(conditions: Json) -> bool:
    return conditions.get("serving") is True
