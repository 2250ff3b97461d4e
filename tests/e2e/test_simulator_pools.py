"""Simulators in pods that attach through the Service, and a run that trains on their pool, with two api-servers."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from aisandbox.v1 import simulator_pool_pb2 as pool_pb
from aisandbox.v1.simulator_pool_pb2_grpc import SimulatorPoolServiceStub
from cluster import Cluster, manifest_of
from kubectl import Manifest
from waiting import wait_until

SIMULATORS = 4
TOTAL = 30_000
A_REPLICA = (("aisandbox-replica", "e2e"),)
"""Metadata of a call that is answered from what is attached to the replica itself."""


def _deployment(name: str, pool: str, image: str) -> Manifest:
    attach = ["--attach", "aisandbox-api:50051", "--pool", pool]
    container = {
        "name": "simulator",
        "image": image,
        "command": ["python", "-m", "aisandbox_environment", "host-gymnasium", "CartPole-v1", *attach],
        "env": [{"name": "HOME", "value": "/dev/shm"}, {"name": "TMPDIR", "value": "/dev/shm"}],
        "resources": {"requests": {"cpu": "10m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
        },
    }  # fmt: skip
    labels = {"app.kubernetes.io/name": name, "aisandbox.dev/client": "true"}
    user = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    pod = {
        "metadata": {"labels": labels},
        "spec": {
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 2,
            "securityContext": user,
            "containers": [container],
        },
    }
    selector = {"matchLabels": {"app.kubernetes.io/name": name}}
    spec = {"replicas": SIMULATORS, "selector": selector, "template": pod}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture
def pool(cluster: Cluster) -> Iterator[str]:
    """A pool with SIMULATORS cart-poles, each in a pod of its own."""
    name = f"arena-{secrets.token_hex(3)}"
    cluster.kubectl.apply(_deployment(name, name, cluster.trainer_image()))
    yield name
    cluster.kubectl("delete", "deployment", name, "--wait=false")


def _attached(address: str, pool: str, *, here: bool) -> list[Any]:
    """Those of a pool, by instance; ``here``: at this replica alone."""
    with grpc.insecure_channel(address) as channel:
        stub: Any = SimulatorPoolServiceStub(channel)
        request = pool_pb.ListSimulatorsRequest(pool=pool)
        metadata = A_REPLICA if here else ()
        return list(stub.ListSimulators(request, metadata=metadata, timeout=30, wait_for_ready=True).simulators)


def _until_each_has_one(cluster: Cluster, pool: str, addresses: dict[str, str]) -> None:
    """Replaces simulators until both replicas have some: which one a connection reaches is the Service's choice."""

    def spread() -> bool:
        here = [_attached(address, pool, here=True) for address in addresses.values()]
        if sum(len(found) for found in here) == SIMULATORS and not all(here):
            instance = str(next(found for found in here if found)[0].instance)
            cluster.kubectl("delete", "pod", instance.rsplit("-", 2)[0], "--ignore-not-found", "--wait=false")
        return sum(len(found) for found in here) == SIMULATORS and all(here)

    wait_until(spread, seconds=180, every=2)


def test_run_trains_on_a_pool_and_outlives_the_replica_that_is_killed(
    cluster: Cluster, pool: str, replica_addresses: dict[str, str], run_name: Callable[[str], str]
) -> None:
    _until_each_has_one(cluster, pool, replica_addresses)
    name = run_name("pooled")
    spec: Manifest = {
        "algorithm": "PPO",
        "totalTimesteps": TOTAL,
        "checkpointEveryTimesteps": 4_096,
        "hyperparameters": {"n_steps": "64", "batch_size": "64", "n_epochs": "1"},
        "environment": {"pool": {"name": pool, "environments": SIMULATORS, "minimum": 1}},
    }
    cluster.kubectl.apply(manifest_of(name, **spec))
    killed, kept = replica_addresses
    serving = wait_until(
        lambda: _attached(replica_addresses[killed], pool, here=False),
        lambda found: len(found) == SIMULATORS and all(each.run_id == name and each.steps for each in found),
        seconds=240,
    )
    assert {each.name.partition(" ")[0] for each in serving} == {"CartPole-v1"}
    before = {each.instance: each.attach_time.seconds for each in _attached(replica_addresses[kept], pool, here=True)}
    cluster.kubectl("delete", "pod", killed, "--grace-period=0", "--force")
    wait_until(
        lambda: _attached(replica_addresses[kept], pool, here=False),
        lambda found: len(found) == SIMULATORS and all(each.run_id == name for each in found),
        seconds=120,
    )
    after = {each.instance: each.attach_time.seconds for each in _attached(replica_addresses[kept], pool, here=True)}
    assert before.items() <= after.items(), "simulators at the other replica have kept their places"
    status = cluster.until_phase(name, "Succeeded", "Failed", seconds=300)
    assert status["phase"] == "Succeeded", status
    assert status["progress"]["timesteps"] >= TOTAL
    assert (status.get("restarts", 0), len(cluster.pods(name))) == (0, 1)
