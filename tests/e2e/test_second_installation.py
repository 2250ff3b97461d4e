"""A second installation by the book, with another namespace. Both train; one without permissions says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster import SHORT, Cluster, manifest_of
from installed_images import replacements
from kubectl import Kubectl
from waiting import wait_until

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "build" / "e2e" / "second"
NAMESPACE = "aisandbox-second"
SERVERS = ("aisandbox-operator", "aisandbox-api", "aisandbox-inference")
READ_METRICS = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9090/metrics").read().decode())
"""


@pytest.fixture(scope="module")
def second(cluster: Cluster) -> Iterator[Cluster]:
    """The kind overlay in another namespace, with the images that are installed."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    overlay = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": ["../../../deploy/overlays/kind"],
        "images": replacements(cluster, SERVERS),
    }
    (FOLDER / "kustomization.yaml").write_text(json.dumps(overlay))
    place = Cluster(cluster.kubectl.context, NAMESPACE)
    place.kubectl("apply", "-k", str(FOLDER))
    try:
        for name in SERVERS:
            place.until_rolled_out(name)
        yield place
    finally:  # not the definition, which is the first one's too
        cluster.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
        cluster.kubectl("delete", "clusterrolebinding", NAMESPACE, "--ignore-not-found")


def train(place: Cluster, name: str) -> dict[str, Any]:
    place.kubectl.apply(manifest_of(name, **{**SHORT, "totalTimesteps": 4096}))
    return place.until_phase(name, "Succeeded", "Failed", seconds=240)


def log_of(kubectl: Kubectl) -> str:
    return kubectl("logs", "deployment/aisandbox-api", "--all-pods=true", "--tail=-1")


def test_both_installations_have_progress_from_their_trainers(cluster: Cluster, second: Cluster) -> None:
    for place in (second, cluster):
        status = train(place, "by-the-book")
        assert status["phase"] == "Succeeded", status
        assert "permissions are missing" not in log_of(place.kubectl)
        # Only an api-server that may review tokens logs this.
        wait_until(lambda place=place: log_of(place.kubectl), lambda log: '"trainer reports"' in log)  # type: ignore[misc]
        place.kubectl("delete", "trainingrun", "by-the-book", "--wait=false")


def test_api_server_that_may_not_review_tokens_says_so_and_is_not_ready(second: Cluster) -> None:
    kubectl = second.kubectl
    kubectl("delete", "clusterrolebinding", NAMESPACE)
    wait_until(lambda: log_of(kubectl), lambda log: "create tokenreviews.authentication.k8s.io" in log, seconds=180)
    metrics = kubectl("exec", "deployment/aisandbox-api", "--", "python", "-c", READ_METRICS)
    assert 'aisandbox_permission_missing{resource="tokenreviews",verb="create"} 1.0' in metrics
    wait_until(lambda: _ready_pods(kubectl), lambda ready: ready == 0, seconds=120)
    kubectl("apply", "-k", str(FOLDER))
    wait_until(lambda: _ready_pods(kubectl), lambda ready: ready == 1, seconds=180)


def _ready_pods(kubectl: Kubectl) -> int:
    return int(kubectl.json("get", "deployment", "aisandbox-api")["status"].get("readyReplicas", 0))
