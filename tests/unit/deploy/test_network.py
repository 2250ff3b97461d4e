"""Who may talk to whom."""

from __future__ import annotations

import pytest
from aisandbox_operator.job_manifest import own_labels
from manifests import Manifest, Manifests, pod_labels, selects
from network_policies import Peer, allows

NAMESPACE = "aisandbox"


def _ours(name: str, **labels: str) -> Peer:
    return Peer(NAMESPACE, {"app.kubernetes.io/name": name, **labels})


OPERATOR = _ours("aisandbox-operator")
API = _ours("aisandbox-api")
INFERENCE = _ours("aisandbox-inference")
TRAINER = Peer(NAMESPACE, own_labels("some-run"))
SIMULATOR = _ours("cart-pole", **{"aisandbox.dev/simulator": "true"})
NEIGHBOUR = _ours("something")
CLIENT_HERE = _ours("game", **{"aisandbox.dev/client": "true"})
CLIENT = Peer("games", namespace_labels={"aisandbox.dev/client": "true"})
STRANGER = Peer("others", {"aisandbox.dev/client": "true"})
PROMETHEUS = Peer("monitoring", namespace_labels={"aisandbox.dev/metrics": "true"})
DNS = Peer("kube-system", {"k8s-app": "kube-dns"})
KUBERNETES = Peer(address="10.96.0.1")
FAR_SIMULATOR = Peer(address="203.0.113.7")
SIMULATOR_ELSEWHERE = Peer("games", {"app": "game"})
CLOUD_CREDENTIALS = Peer(address="169.254.169.254")

OURS = {
    "trainer": TRAINER,
    "client in the namespace": CLIENT_HERE,
    "api-server": API,
    "inference-server": INFERENCE,
    "operator": OPERATOR,
    "simulator": SIMULATOR,
    "neighbour": NEIGHBOUR,
}
"""Who is in the namespace."""
OTHERS = {"client": CLIENT, "Prometheus": PROMETHEUS, "stranger": STRANGER}
CLIENTS = {"client", "client in the namespace"}
DIALLERS = {"api-server", "trainer"}
"""A trainer trains with simulators, and a start asks them what they are."""

PORTS: dict[str, tuple[Peer, int, set[str]]] = {
    "calls of clients, and of replicas": (API, 50051, CLIENTS | {"api-server"}),
    "reports and sessions of trainers": (API, 50052, {"trainer"}),
    "WebSockets and JSON": (API, 8080, CLIENTS),
    "actions": (INFERENCE, 50051, CLIENTS | {"api-server"}),
    "probes of the operator": (OPERATOR, 8080, set()),
    "a server that the code of a run opens": (TRAINER, 50061, set()),
    "a simulator": (SIMULATOR, 50061, DIALLERS),
    "another pod": (NEIGHBOUR, 8000, set()),
    "metrics of the api-server": (API, 9090, {"Prometheus"}),
    "metrics of the inference-server": (INFERENCE, 9090, {"Prometheus"}),
    "metrics of the operator": (OPERATOR, 9090, {"Prometheus"}),
}
"""Each port within the namespace, and everybody who reaches it."""
OUTSIDE: dict[str, tuple[Peer, int, set[str]]] = {
    "a simulator in another namespace": (SIMULATOR_ELSEWHERE, 50061, DIALLERS),
    "a simulator outside": (FAR_SIMULATOR, 9000, DIALLERS),
    "the API server": (KUBERNETES, 443, DIALLERS | {"operator"}),
    "the API server, without a Service before it": (KUBERNETES, 6443, DIALLERS | {"operator"}),
    "the credentials of the cloud": (CLOUD_CREDENTIALS, 80, set()),
}
"""What is not in the namespace, and who of it gets there."""


@pytest.fixture(scope="module", params=["overlays/kind", "overlays/kind-tls-auth", "overlays/production"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return Manifests.of(request.param, "samples/simulator")


@pytest.fixture(scope="module")
def policies(manifests: Manifests) -> list[Manifest]:
    return manifests.all("NetworkPolicy")


@pytest.mark.parametrize("what", PORTS)
def test_port_is_reached_by_these_and_nobody_else(policies: list[Manifest], what: str) -> None:
    target, port, expected = PORTS[what]
    assert {who for who, source in (OURS | OTHERS).items() if allows(policies, source, target, port)} == expected


@pytest.mark.parametrize("what", OUTSIDE)
def test_outside_is_reached_by_these_and_nobody_else(manifests: Manifests, policies: list[Manifest], what: str) -> None:
    target, port, expected = OUTSIDE[what]
    asks_the_cluster = manifests.environ("aisandbox-inference")["AUTH"] == "kubernetes" and target == KUBERNETES
    reached = {who for who, source in OURS.items() if allows(policies, source, target, port)}
    assert reached == expected | ({"inference-server"} if asks_the_cluster else set())


# Where pods of a platform send their questions: (who answers, its port). What a Service translates is the pod's port.
RESOLVERS: dict[str, tuple[Peer, int]] = {
    "kubeadm, kind, EKS, k3s, RKE2: CoreDNS in kube-system": (DNS, 53),
    "NodeLocal DNSCache": (Peer(address="169.254.20.10"), 53),
    "NodeLocal DNSCache of Cilium's local redirect": (Peer("kube-system", {"k8s-app": "node-local-dns"}), 53),
    "GKE, kube-dns": (DNS, 53),
    "GKE, Cloud DNS at the metadata server": (Peer(address="169.254.169.254"), 53),
    "AKS, CoreDNS": (DNS, 53),
    "AKS LocalDNS, as the node": (Peer(address="169.254.10.10"), 53),
    "AKS LocalDNS, as a pod": (Peer(address="169.254.10.11"), 53),
    "OpenShift": (Peer("openshift-dns", {"dns.operator.openshift.io/daemonset-dns": "default"}), 5353),
    "Gardener": (DNS, 8053),
}


@pytest.mark.parametrize("platform", RESOLVERS)
@pytest.mark.parametrize("who", [OPERATOR, API, TRAINER, CLIENT_HERE], ids=["operator", "api", "trainer", "client"])
def test_names_are_resolved_by_those_who_dial(policies: list[Manifest], who: Peer, platform: str) -> None:
    resolver, port = RESOLVERS[platform]
    assert allows(policies, who, resolver, port, "UDP")
    assert allows(policies, who, resolver, port, "TCP")


@pytest.mark.parametrize("who", [OPERATOR, API, TRAINER, CLIENT_HERE], ids=["operator", "api", "trainer", "client"])
@pytest.mark.parametrize("port", [80, 988])
def test_resolver_of_a_cloud_gives_no_credentials(policies: list[Manifest], who: Peer, port: int) -> None:
    """GKE's metadata server answers DNS and hands out credentials, at one address."""
    for protocol in ("TCP", "UDP"):
        assert not allows(policies, who, CLOUD_CREDENTIALS, port, protocol)


def test_no_other_resolver_is_asked(policies: list[Manifest]) -> None:
    for who in (OPERATOR, API, TRAINER, CLIENT_HERE):
        assert not allows(policies, who, Peer(address="8.8.8.8"), 53, "UDP")
        assert not allows(policies, who, Peer("games", {"k8s-app": "kube-dns"}), 53, "UDP")


def test_policies_select_pods_that_there_are(manifests: Manifests, policies: list[Manifest]) -> None:
    there = [pod_labels(each) for each in manifests.all("Deployment")] + [TRAINER.labels, CLIENT_HERE.labels]
    for policy in policies:
        selector = policy["spec"]["podSelector"]
        assert any(selects(selector, labels) for labels in there), policy["metadata"]["name"]
        for expression in selector.get("matchExpressions", []):
            for value in expression["values"]:
                assert any(labels.get(expression["key"]) == value for labels in there), value


def test_ports_of_services_are_open_to_a_client(manifests: Manifests, policies: list[Manifest]) -> None:
    for service in manifests.all("Service"):
        target = Peer(NAMESPACE, service["spec"]["selector"])
        if service["metadata"]["name"] == "cart-pole":
            target = SIMULATOR
        for port in service["spec"]["ports"]:
            visitors = [CLIENT, PROMETHEUS, TRAINER]
            assert any(allows(policies, each, target, port["port"]) for each in visitors), service["metadata"]["name"]
