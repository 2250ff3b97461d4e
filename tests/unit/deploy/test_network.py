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

ALLOWED = {
    "a client starts and follows runs": (CLIENT, API, 50051),
    "a client gets actions": (CLIENT, INFERENCE, 50051),
    "a client in the namespace starts runs": (CLIENT_HERE, API, 50051),
    "a client in the namespace gets actions": (CLIENT_HERE, INFERENCE, 50051),
    "the api-server passes Act on": (API, INFERENCE, 50051),
    "an api-server asks another for attached simulators": (API, API, 50051),
    "a client attaches by a WebSocket": (CLIENT, API, 8080),
    "a client in the namespace attaches by a WebSocket": (CLIENT_HERE, API, 8080),
    "a trainer reports": (TRAINER, API, 50052),
    "a trainer dials a simulator in the namespace": (TRAINER, SIMULATOR, 50061),
    "a trainer dials a simulator in another": (TRAINER, SIMULATOR_ELSEWHERE, 50061),
    "a trainer dials a simulator outside": (TRAINER, FAR_SIMULATOR, 9000),
    "a start asks the simulator": (API, SIMULATOR, 50061),
    "a start asks a simulator outside": (API, FAR_SIMULATOR, 9000),
    "the operator watches": (OPERATOR, KUBERNETES, 443),
    "the operator watches where there is no Service before the API server": (OPERATOR, KUBERNETES, 6443),
    "the api-server watches": (API, KUBERNETES, 443),
    "operator's metrics": (PROMETHEUS, OPERATOR, 9090),
    "api-server's metrics": (PROMETHEUS, API, 9090),
    "inference-server's metrics": (PROMETHEUS, INFERENCE, 9090),
}
REFUSED = {
    "strangers start nothing": (STRANGER, API, 50051),
    "strangers get no actions": (STRANGER, INFERENCE, 50051),
    "neighbours start nothing": (NEIGHBOUR, API, 50051),
    "strangers attach no simulators": (STRANGER, API, 8080),
    "trainers are not clients": (TRAINER, API, 50051),
    "clients are not trainers": (CLIENT, API, 50052),
    "clients in the namespace are not trainers": (CLIENT_HERE, API, 50052),
    "trainers do not use HTTP": (TRAINER, API, 8080),
    "clients read no metrics": (CLIENT, API, 9090),
    "Prometheus starts nothing": (PROMETHEUS, API, 50051),
    "no other node probes the operator": (CLIENT, OPERATOR, 8080),
    "trainers are not dialled": (API, TRAINER, 50051),
    "trainers do not dial each other": (TRAINER, TRAINER, 50061),
    "trainers get no actions": (TRAINER, INFERENCE, 50051),
    "trainers leave the operator alone": (TRAINER, OPERATOR, 8080),
    "trainers get no credentials of the cloud": (TRAINER, CLOUD_CREDENTIALS, 80),
    "the api-server gets no credentials of the cloud": (API, CLOUD_CREDENTIALS, 80),
    "the inference-server connects to nothing": (INFERENCE, FAR_SIMULATOR, 443),
    "the inference-server does not ask Kubernetes": (INFERENCE, KUBERNETES, 443),
    "the operator dials no simulators": (OPERATOR, SIMULATOR, 50061),
    "a simulator is dialled by trainers only": (NEIGHBOUR, SIMULATOR, 50061),
    "a neighbour connects to nothing": (NEIGHBOUR, FAR_SIMULATOR, 443),
}


@pytest.fixture(scope="module", params=["overlays/kind", "overlays/production"])
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return Manifests.of(request.param, "samples/simulator")


@pytest.fixture(scope="module")
def policies(manifests: Manifests) -> list[Manifest]:
    return manifests.all("NetworkPolicy")


@pytest.mark.parametrize("flow", ALLOWED)
def test_flow_is_allowed(policies: list[Manifest], flow: str) -> None:
    source, target, port = ALLOWED[flow]
    assert allows(policies, source, target, port)


@pytest.mark.parametrize("flow", REFUSED)
def test_flow_is_refused(policies: list[Manifest], flow: str) -> None:
    source, target, port = REFUSED[flow]
    assert not allows(policies, source, target, port)


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
