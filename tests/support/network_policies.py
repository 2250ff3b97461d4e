"""What a set of NetworkPolicies lets through, by the rules of networking.k8s.io/v1.

For clusters whose network does not enforce policies, and for machines without a cluster. Owns the part of the rules
that ``deploy/`` uses: numbered ports, label selectors, address blocks.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field

from manifests import Manifest, selects


@dataclass(frozen=True, slots=True)
class Peer:
    """One end of a connection. Outside of the cluster there is an ``address`` and no ``namespace``."""

    namespace: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    namespace_labels: dict[str, str] = field(default_factory=dict)
    address: str = ""


def allows(policies: Sequence[Manifest], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether ``source`` may open a connection to ``port`` of ``target``."""
    return _passes(policies, "Egress", source, target, port, protocol) and _passes(
        policies, "Ingress", target, source, port, protocol
    )


def _passes(policies: Sequence[Manifest], direction: str, pod: Peer, other: Peer, port: int, protocol: str) -> bool:
    """Whether the policies that select ``pod`` let the connection through; without such a policy all do."""
    selecting = [
        policy
        for policy in policies
        if pod.namespace == policy["metadata"]["namespace"]
        and direction in policy["spec"]["policyTypes"]
        and selects(policy["spec"]["podSelector"], pod.labels)
    ]
    rules = [(policy, rule) for policy in selecting for rule in policy["spec"].get(direction.lower(), [])]
    peers = "from" if direction == "Ingress" else "to"
    return not selecting or any(
        _port_matches(rule, port, protocol) and _peer_matches(rule.get(peers), other, policy["metadata"]["namespace"])
        for policy, rule in rules
    )


def _port_matches(rule: Manifest, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    return ports is None or any(
        entry.get("protocol", "TCP") == protocol and entry.get("port", port) == port for entry in ports
    )


def _peer_matches(peers: list[Manifest] | None, other: Peer, namespace: str) -> bool:
    return peers is None or any(_is_peer(peer, other, namespace) for peer in peers)


def _is_peer(peer: Manifest, other: Peer, namespace: str) -> bool:
    if "ipBlock" in peer:
        # Whether blocks hold pods depends on the network, so for pods they count for nothing here.
        return not other.namespace and _is_in(peer["ipBlock"], other.address)
    if not other.namespace:
        return False
    in_namespace = (
        selects(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace, **other.namespace_labels})
        if "namespaceSelector" in peer
        else other.namespace == namespace
    )
    return in_namespace and selects(peer.get("podSelector", {}), other.labels)


def _is_in(block: Manifest, address: str) -> bool:
    ip = ipaddress.ip_address(address)
    return ip in ipaddress.ip_network(block["cidr"]) and not any(
        ip in ipaddress.ip_network(each) for each in block.get("except", [])
    )
