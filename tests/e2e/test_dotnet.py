"""The C# samples in the cluster, from their own Dockerfiles and manifests.

CartPole starts its own training by gRPC, is its simulator, follows it, and then drives itself by the Service and in its
own process; it is killed while it trains. Rover is a simulator that a TrainingRun finds.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from cluster import Cluster
from kubectl import Manifest
from provided_image import provide_image
from waiting import wait_until

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "samples" / "dotnet"
SDK, ASPNET = "mcr.microsoft.com/dotnet/sdk:10.0", "mcr.microsoft.com/dotnet/aspnet:10.0"
PACK = 'for each in src/*/; do dotnet pack "$each" -o /packages -p:ArtifactsPath=/tmp/artifacts -v:quiet; done'
TIMESTEPS = 60_000

pytestmark = pytest.mark.timeout(1200)


@dataclass(frozen=True)
class Program:
    """The pods of a sample."""

    cluster: Cluster
    name: str

    def pod(self) -> str:
        """The name of its one pod that stays; empty while there is none."""
        names = self.cluster.staying_pods(f"app.kubernetes.io/name={self.name}")
        return names[0] if len(names) == 1 else ""

    def said(self, pod: str) -> str:
        """What the pod has written so far."""
        return str(self.cluster.kubectl.attempt("logs", pod).stdout)

    def until_said(self, pod: str, pattern: str, seconds: float) -> re.Match[str]:
        """What the pod has written that matches; the pattern is of one line."""
        found = wait_until(lambda: re.search(pattern, self.said(pod), re.MULTILINE), seconds=seconds, every=1)
        assert found
        return found


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C# packages: those of AISANDBOX_PACKAGES, otherwise made in the image that the samples are built in."""
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed, and the samples' images are built by it")
    for base in (SDK, ASPNET):
        if _docker("image", "inspect", base).returncode and _docker("pull", "--quiet", base).returncode:
            pytest.skip(f"the base image {base} is not here, and cannot be pulled")
    if made := os.environ.get("AISANDBOX_PACKAGES"):
        return Path(made)
    folder = tmp_path_factory.mktemp("packages")
    volumes = [f"--volume={ROOT}/{each}:/source/{each}:ro" for each in ("clients/dotnet", "proto")]
    done = _docker(
        "run",
        "--rm",
        *volumes,
        f"--volume={folder}:/packages",
        "--workdir=/source/clients/dotnet",
        SDK,
        "sh",
        "-ec",
        PACK,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=900, check=False)


@pytest.fixture(scope="module")
def sample(
    packages: Path, cluster: Cluster, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], list[Manifest]]:
    """The manifests of a sample with an image built by its Dockerfile, which is where the cluster finds it."""

    def manifests(name: str) -> list[Manifest]:
        folder = tmp_path_factory.mktemp(name) / name
        shutil.copytree(SAMPLES / name, folder, ignore=shutil.ignore_patterns("bin", "obj"))
        shutil.copytree(packages, folder / "packages")
        registry = os.environ.get("REGISTRY", "localhost:5001")
        image = f"{registry}/aisandbox/{name.lower()}:{secrets.token_hex(6)}"
        provide_image(str(pytestconfig.getoption("--kube-context")), image, folder)
        objects = cluster.kubectl("kustomize", str(folder))
        objects = objects.replace(f"localhost:5001/aisandbox/{name.lower()}:dev", image)
        objects = objects.replace("namespace: aisandbox\n", f"namespace: {cluster.namespace}\n")
        return list(yaml.safe_load_all(objects))

    return manifests


def _is(kind: str) -> Callable[[Manifest], bool]:
    return lambda manifest: manifest["kind"] == kind


@pytest.fixture
def cart_pole(cluster: Cluster, sample: Callable[[str], list[Manifest]]) -> Iterator[Program]:
    """CartPole, with a run of its own."""
    manifests = sample("CartPole")
    (job,) = filter(_is("Job"), manifests)
    (container,) = job["spec"]["template"]["spec"]["containers"]
    container["args"] = ["train", str(TIMESTEPS)]
    (request_id,) = (each for each in container["env"] if each["name"] == "REQUEST_ID")
    request_id["value"] = f"dotnet-{secrets.token_hex(6)}"
    for manifest in manifests:
        cluster.kubectl.apply(manifest)
    yield Program(cluster, "cartpole")
    cluster.kubectl("delete", "job,service", "cartpole", "--wait=false")


def test_csharp_sample_trains_and_drives_itself_although_it_is_killed(
    cart_pole: Program, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    first = wait_until(cart_pole.pod, seconds=120)
    run = cart_pole.until_said(first, r"^run (\S+)$", seconds=300)[1]
    asked = pb.StatusRequest(run_id=run)
    before = wait_until(
        lambda: service.GetTrainingStatus(asked, timeout=20),
        lambda status: status.timesteps_done >= 8_000,
        seconds=400,
    )
    assert not before.is_done, "the run has ended before the simulation could be killed"

    cluster.kubectl("delete", "pod", first, "--grace-period=0", "--force")

    second = wait_until(cart_pole.pod, lambda name: name not in ("", first), seconds=120)
    assert cart_pole.until_said(second, r"^run (\S+)$", seconds=300)[1] == run
    done = wait_until(
        lambda: service.GetTrainingStatus(asked, timeout=20), lambda status: status.is_done, seconds=600, every=1
    )
    assert done.phase == pb.PHASE_SUCCEEDED, done.failure
    assert done.restarts == 0, "the trainer waits for its simulation"

    assert cart_pole.until_said(second, r"^model (\S+) of", seconds=300)[1] == done.best_model.digest
    by_both = cart_pole.until_said(second, r"^seed 1: reward (\S+) in this process, (\S+) by the service", seconds=60)
    assert by_both[1] == by_both[2]
    mean = cart_pole.until_said(second, r"^mean reward of the policy in \d+ episodes: (\S+)$", seconds=60)[1]
    assert float(mean) >= 400
    cluster.kubectl("delete", "trainingrun", run, "--wait=false")


@pytest.fixture
def rover(cluster: Cluster, sample: Callable[[str], list[Manifest]]) -> Iterator[str]:
    """The run of Rover's manifests, made short."""
    manifests = sample("Rover")
    (run,) = filter(_is("TrainingRun"), manifests)
    run["metadata"]["name"] = f"rover-{secrets.token_hex(3)}"
    run["spec"]["totalTimesteps"] = 8192
    for manifest in manifests:
        cluster.kubectl.apply(manifest)
    yield str(run["metadata"]["name"])
    cluster.kubectl("delete", "deployment,service", "rover", "--wait=false")
    cluster.kubectl("delete", "trainingrun", run["metadata"]["name"], "--wait=false")


def test_csharp_sample_is_trained_by_the_run_of_its_manifests(
    rover: str, cluster: Cluster, service: PolicyTrainerServiceStub
) -> None:
    cluster.until_phase(rover, "Succeeded", "Failed", seconds=400)
    description = service.DescribeModel(pb.DescribeModelRequest(run_id=rover, model="best"), timeout=30)
    assert [entry.key for entry in description.observation_space.dict.entries] == ["motion", "sample", "lidar"]
