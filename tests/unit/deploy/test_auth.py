"""What the component with the cluster's tokens installs fits together: audiences, files, and who asks the cluster."""

from __future__ import annotations

import pytest
from manifests import Manifest, Manifests
from network_policies import Peer, allows

SERVERS = ("aisandbox-api", "aisandbox-inference")
KUBERNETES = Peer(address="10.96.0.1")


@pytest.fixture(scope="module")
def manifests() -> Manifests:
    return Manifests.of("overlays/kind-tls-auth")


def _pod(manifests: Manifests, name: str) -> tuple[Manifest, Manifest]:
    ((pod, container),) = ((pod, container) for each, pod, container in manifests.containers() if each == name)
    return pod, container


@pytest.mark.parametrize("name", SERVERS)
def test_callers_are_asked_and_nothing_is_sent_in_plain_text(manifests: Manifests, name: str) -> None:
    environ = manifests.environ(name)
    assert (environ["AUTH"], environ["INSECURE"]) == ("kubernetes", "false")
    assert "TLS_CERT_FILE" in environ


def test_own_token_is_of_the_audience_that_the_others_ask_for(manifests: Manifests) -> None:
    pod, container = _pod(manifests, "aisandbox-api")
    folder, _, name = manifests.environ("aisandbox-api")["SERVICE_TOKEN_FILE"].rpartition("/")
    (volume,) = (each["name"] for each in container["volumeMounts"] if each["mountPath"] == folder)
    (source,) = next(each for each in pod["volumes"] if each["name"] == volume)["projected"]["sources"]
    token = source["serviceAccountToken"]
    assert token["path"] == name
    assert {manifests.environ(server)["AUTH_AUDIENCE"] for server in SERVERS} == {token["audience"]}


@pytest.mark.parametrize("name", SERVERS)
def test_servers_reach_the_cluster_that_they_ask(manifests: Manifests, name: str) -> None:
    server = Peer("aisandbox", {"app.kubernetes.io/name": name})
    for port in (443, 6443):
        assert allows(manifests.all("NetworkPolicy"), server, KUBERNETES, port)
