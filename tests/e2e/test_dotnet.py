"""A simulation in .NET that starts its own training by gRPC, is its environment, follows it and then drives itself.

Its program is in tests/e2e/dotnet: it asks the Service for actions, then has the policy in its own process. It is
killed while it trains. What it says is one JSON document a line.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from cluster import Cluster
from kubectl import Manifest
from provided_image import provide_image
from waiting import wait_until

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).parent / "dotnet"
SOURCES = (
    "clients/dotnet",
    "proto/aisandbox",
    "samples/dotnet/CartPole",
    "tests/dotnet/Directory.Build.props",
    "tests/e2e/dotnet",
)
BASES = ("mcr.microsoft.com/dotnet/sdk:10.0", "mcr.microsoft.com/dotnet/aspnet:10.0")
NAME = "dotnet-cart-pole"
PORT = 50061
SOLVED = 400.0
"""A mean undiscounted return of ten episodes; 500 is the most there is."""

pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Simulation:
    """The Deployment of the simulation."""

    cluster: Cluster

    def pods(self) -> list[Any]:
        """Its pods, those that are being deleted too."""
        return self.cluster.pods_with(f"app.kubernetes.io/name={NAME}")

    def pod(self) -> str:
        """The name of its one pod that stays; empty while there is none."""
        names = [pod.metadata.name for pod in self.pods() if pod.metadata.deletion_timestamp is None]
        return names[0] if len(names) == 1 else ""

    def said(self, pod: str) -> list[dict[str, Any]]:
        """What the pod has said so far; the lines of the host's log are left out."""
        done = self.cluster.kubectl.attempt("logs", pod)
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

    def until_said(self, pod: str, key: str, seconds: float) -> dict[str, Any]:
        """The first document with this key."""
        documents = wait_until(
            lambda: [document for document in self.said(pod) if key in document], seconds=seconds, every=1
        )
        return documents[0]


@pytest.fixture(scope="module")
def image(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program's image, where the cluster finds it."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed, and the program's image is built by it")
    for base in BASES:
        if _docker("image", "inspect", base) and _docker("pull", "--quiet", base):
            pytest.skip(f"the base image {base} is not here, and cannot be pulled")
    folder = tmp_path_factory.mktemp("image")
    for source in SOURCES:
        target = folder / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("tests", "bench", "bin", "obj"))
        else:
            shutil.copy(ROOT / source, target)
    shutil.copy(PROGRAM / "Dockerfile", folder)
    name = f"{os.environ.get('REGISTRY', 'localhost:5001')}/aisandbox/{NAME}:{secrets.token_hex(6)}"
    provide_image(str(pytestconfig.getoption("--kube-context")), name, folder)
    return name


def _docker(*arguments: str) -> int:
    return subprocess.run(["docker", *arguments], capture_output=True, timeout=600, check=False).returncode


@pytest.fixture(scope="module")
def simulation(cluster: Cluster, image: str) -> Iterator[Simulation]:
    request_id = f"dotnet-{secrets.token_hex(6)}"
    for manifest in _manifests(cluster.namespace, image, request_id):
        cluster.kubectl.apply(manifest)
    yield Simulation(cluster)
    cluster.kubectl("delete", "deployment,service", NAME, "--wait=false")


def _manifests(namespace: str, image: str, request_id: str) -> list[Manifest]:
    labels = {"app.kubernetes.io/name": NAME}
    environment = {
        "AISANDBOX_ADDRESS": "http://aisandbox-api:50051",
        "SIMULATOR_ADDRESS": f"{NAME}.{namespace}.svc:{PORT}",
        "REQUEST_ID": request_id,
    }
    container = {
        "name": "simulation",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "ports": [{"name": "grpc", "containerPort": PORT}],
        "readinessProbe": {"grpc": {"port": PORT}, "periodSeconds": 2, "timeoutSeconds": 10},
        "resources": {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}],
    }
    # The label of a simulator lets trainers in, the one of a client lets it out to the service.
    allowed = {"aisandbox.dev/simulator": "true", "aisandbox.dev/client": "true"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": {**labels, **allowed}}, "spec": pod},
        },
    }
    ports = [{"name": "grpc", "port": PORT, "targetPort": "grpc", "appProtocol": "kubernetes.io/h2c"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        # The trainer dials before the pod is ready again, and waits for it.
        "spec": {"selector": labels, "ports": ports},
    }
    return [service, deployment]


def test_simulation_in_dotnet_trains_and_drives_itself_although_it_is_killed(
    simulation: Simulation, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    first = wait_until(simulation.pod, seconds=120)
    run = str(simulation.until_said(first, "run", seconds=300)["run"])
    asked = pb.StatusRequest(run_id=run)
    before = wait_until(
        lambda: service.GetTrainingStatus(asked, timeout=20),
        lambda status: status.timesteps_done >= 8_000,
        seconds=400,
    )
    assert not before.is_done, "the run has ended before the simulation could be killed"

    cluster.kubectl("delete", "pod", first, "--grace-period=0", "--force")

    second = wait_until(simulation.pod, lambda name: name not in ("", first), seconds=120)
    assert simulation.until_said(second, "run", seconds=300)["run"] == run
    done = wait_until(
        lambda: service.GetTrainingStatus(asked, timeout=20), lambda status: status.is_done, seconds=600, every=1
    )
    assert done.phase == pb.PHASE_SUCCEEDED, done.failure
    assert done.restarts == 0, "the trainer waits for its simulation"

    driven = simulation.until_said(second, "inProcess", seconds=300)
    assert driven["model"] == done.best_model.digest
    assert driven["verified"] is True
    assert driven["service"] >= SOLVED, driven
    assert driven["inProcess"] >= SOLVED, driven
    assert driven["sameActions"] is True
    cluster.kubectl("delete", "trainingrun", run, "--wait=false")
