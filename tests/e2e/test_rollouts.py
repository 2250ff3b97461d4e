"""A rollout and a scaling of the servers, as a client sees them that acts 20 times a second and tries twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster import Cluster
from kubectl import Kubectl
from steady_client import SteadyClient
from waiting import wait_until

SERVERS = ("aisandbox-api", "aisandbox-inference")
INFERENCE = "app.kubernetes.io/name=aisandbox-inference"
OBSERVATION = 1
"""Numbers of an observation of the built-in environment."""
ANSWERS = """
import urllib.request
lines = urllib.request.urlopen("http://127.0.0.1:9090/metrics").read().decode().splitlines()
print(sum(float(line.split()[1]) for line in lines if line.startswith("aisandbox_inference_observations_total")))
"""


@pytest.fixture
def two_of_each(cluster: Cluster) -> Iterator[None]:
    """Two replicas of both servers."""
    cluster.kubectl("scale", *(f"deployment/{name}" for name in SERVERS), "--replicas=2")
    for name in SERVERS:
        cluster.until_rolled_out(name)
    yield
    cluster.kubectl("scale", *(f"deployment/{name}" for name in SERVERS), "--replicas=1")
    for name in SERVERS:
        cluster.until_rolled_out(name)


def client_of(cluster: Cluster, run: str) -> SteadyClient:
    image = cluster.kubectl.json("get", "deployment", "aisandbox-api")["spec"]["template"]["spec"]["containers"][0]
    address = f"aisandbox-api.{cluster.namespace}.svc:50051"
    return SteadyClient(cluster.kubectl, image["image"], address, run, OBSERVATION, a_second=20)


def answers(kubectl: Kubectl, pod: str) -> float:
    """How many observations an inference-server has answered."""
    done = kubectl.attempt("exec", pod, "--", "python", "-c", ANSWERS)
    return float(done.stdout) if done.returncode == 0 else 0.0


def test_rollout_of_both_servers_fails_no_call(cluster: Cluster, trained_run: str, two_of_each: None) -> None:
    with client_of(cluster, trained_run) as client:
        cluster.kubectl("rollout", "restart", *(f"deployment/{name}" for name in SERVERS))
        for name in SERVERS:
            cluster.until_rolled_out(name)
        gone = [pod.metadata.name for pod in cluster.pods_with(INFERENCE) if pod.metadata.deletion_timestamp]
        if gone:
            cluster.kubectl("wait", "pod", *gone, "--for=delete", "--timeout=120s", seconds=130)
        counts = client.stop()
    print(counts)
    assert counts.calls > 20
    assert counts.failed == 0, counts


def test_new_inference_server_is_used(cluster: Cluster, trained_run: str) -> None:
    before = {pod.metadata.name for pod in cluster.pods_with(INFERENCE)}
    try:
        with client_of(cluster, trained_run) as client:
            cluster.kubectl("scale", "deployment/aisandbox-inference", "--replicas=2")
            cluster.until_rolled_out("aisandbox-inference")
            (new,) = {pod.metadata.name for pod in cluster.pods_with(INFERENCE)} - before
            wait_until(lambda: answers(cluster.kubectl, new), seconds=120)
            counts = client.stop()
        assert counts.failed == 0, counts
    finally:
        cluster.kubectl("scale", "deployment/aisandbox-inference", "--replicas=1")
        cluster.until_rolled_out("aisandbox-inference")
