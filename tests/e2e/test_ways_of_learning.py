"""Runs that learn by other ways than from scratch, on the cluster.

With masks and lessons, from another run, from demonstrations, and with a recurrent policy.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from aisandbox.v1.policy_trainer_pb2_grpc import PolicyTrainerServiceStub
from aisandbox_environment import GymnasiumSimulation
from cluster import MODELS, Cluster, manifest_of
from demonstration_files import write_demonstrations
from kubectl import Manifest

CORRIDOR = (Path(__file__).parent / "masked_corridor.py").read_text(encoding="utf-8")
QUICK = {"n_steps": "64", "batch_size": "64", "n_epochs": "4"}


@pytest.fixture
def corridor(cluster: Cluster) -> Iterator[str]:
    """The address of a simulator with masks and parameters."""
    name = f"corridor-{secrets.token_hex(3)}"
    labels = {"app.kubernetes.io/name": name, "aisandbox.dev/simulator": "true"}
    container = {
        "name": "simulator",
        "image": cluster.trainer_image(),
        "command": ["python", "-c", CORRIDOR],
        "env": [{"name": "HOME", "value": "/dev/shm"}, {"name": "TMPDIR", "value": "/dev/shm"}],
        "ports": [{"name": "grpc", "containerPort": 50061}],
        "readinessProbe": {"grpc": {"port": 50061}, "periodSeconds": 1, "timeoutSeconds": 5},
        "resources": {"requests": {"cpu": "10m", "memory": "96Mi"}, "limits": {"memory": "512Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
        },
    }  # fmt: skip
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 2,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
    }
    selector = {"app.kubernetes.io/name": name}
    deployment: Manifest = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "selector": {"matchLabels": selector},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    port = {"name": "grpc", "port": 50061, "targetPort": "grpc"}
    service: Manifest = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": selector, "ports": [port]},
    }
    cluster.kubectl.apply(deployment)
    cluster.kubectl.apply(service)
    try:
        cluster.until_rolled_out(name)
        yield f"{name}.{cluster.namespace}.svc:50061"
    finally:
        cluster.kubectl("delete", "--wait=false", f"deployment/{name}", f"service/{name}")


@pytest.fixture
def pole_file(cluster: Cluster, tmp_path: Path) -> Iterator[str]:
    """Three recorded episodes of CartPole-v1 with 36 steps on the volume; their file, relative to MODELS_DIR."""
    file = f"team/pole-{secrets.token_hex(3)}.parquet"
    spec = GymnasiumSimulation("CartPole-v1").spec
    content = write_demonstrations(tmp_path / "pole.parquet", spec, lambda leaves: int(leaves[0][2] > 0)).read_bytes()
    shell = ("exec", "--stdin", "deployment/aisandbox-api", "--", "sh", "-c")
    write = f"mkdir -p {MODELS}/team && base64 -d > {MODELS}/{file}"
    cluster.kubectl(*shell, write, manifest=base64.b64encode(content).decode())
    yield file
    cluster.kubectl(*shell, f"rm -f {MODELS}/{file}")


def _succeeded(cluster: Cluster, name: str, **spec: Any) -> dict[str, Any]:
    """The status of a run that has ended."""
    cluster.kubectl.apply(manifest_of(name, **spec))
    status = cluster.until_phase(name, "Succeeded", "Failed", seconds=300)
    assert status["phase"] == "Succeeded", status
    return status


def test_run_on_masks_and_lessons_ends_when_it_is_good_and_another_starts_from_it(
    cluster: Cluster, inference: PolicyTrainerServiceStub, corridor: str, run_name: Callable[[str], str]
) -> None:
    taught, tuned = run_name("taught"), run_name("tuned")
    task: dict[str, Any] = {
        "algorithm": "PPO",
        "seed": 1,
        "environment": {"grpc": {"address": corridor, "environments": 4}},
        "hyperparameters": {**QUICK, "learning_rate": "3e-3"},
        "stopWhen": {"episodeRewardMean": 0.9},
    }
    lessons = [
        {"name": "near", "parameters": {"distance": {"uniform": [1, 3]}}, "until": {"reward": 0.9, "timesteps": 8192}},
        {"name": "far", "parameters": {"distance": 8}},
    ]

    status = _succeeded(cluster, taught, totalTimesteps=100_000, lessons=lessons, **task)

    assert status["earlyStop"]["reason"] == "RewardReached"
    progress = status["progress"]
    assert (progress["trainedAlgorithm"], progress["lesson"]["name"]) == ("MaskablePPO", "far")
    (heads, row) = cluster.kubectl("get", "trainingrun", taught, "-o", "wide").splitlines()
    assert {"LESSON", "STOPPED"} <= set(heads.split())
    assert {"far", "RewardReached"} <= set(row.split())
    for observation, mask, action in ((0.0, [False, True], 1), (0.0, [True, False], 0), (0.5, [True, False], 0)):
        request = pb.ActRequest(run_id=taught, observation=[observation], action_mask=mask)
        assert inference.Act(request, timeout=30).action == [action]

    status = _succeeded(cluster, tuned, totalTimesteps=100_000, startFrom={"run": taught, "model": "best"}, **task)

    assert status["startedFrom"]["digest"] == cluster.status(taught)["bestModel"]["digest"]
    assert status["earlyStop"]["reason"] == "RewardReached"


def test_run_learns_from_demonstrations_on_the_volume(
    cluster: Cluster, service: PolicyTrainerServiceStub, pole_file: str, run_name: Callable[[str], str]
) -> None:
    request = pb.TrainingRequest(experiment_id=run_name("shown"), total_timesteps=128, hyperparameters=QUICK)
    request.environment.gymnasium.id = "CartPole-v1"
    request.demonstrations.file = f"team/{run_name('absent')}.parquet"
    with pytest.raises(grpc.RpcError) as refused:
        service.StartTrainingPPO(request, timeout=30)
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "demonstrations" in error.details()

    request.demonstrations.file = pole_file
    request.demonstrations.epochs = 3
    name = service.StartTrainingPPO(request, timeout=30).run_id
    try:
        status = cluster.until_phase(name, "Succeeded", "Failed", seconds=300)
    finally:
        cluster.kubectl("delete", "trainingrun", name, "--wait=false")

    assert status["phase"] == "Succeeded", status
    cloning = status["progress"]["cloning"]
    assert (cloning["epoch"], cloning["epochs"]) == (3, 3)
    assert (cloning["episodes"], cloning["steps"]) == (3, 36)
    assert status["progress"]["timesteps"] == 128


@pytest.mark.parametrize(
    ("source", "reason", "message"),
    [
        ({"startFrom": {"run": "nobody"}}, "CannotStartFrom", "spec.startFrom: run 'nobody' does not exist"),
        ({"startFrom": {"zip": "team/gone.zip"}}, "CannotStartFrom", "the file 'team/gone.zip' is not in MODELS_DIR"),
        ({"demonstrations": {"file": "team/gone.parquet"}}, "InvalidDemonstrations", "'team/gone.parquet' is not in"),
    ],
    ids=["run", "zip", "demonstrations"],
)
def test_run_whose_source_is_gone_fails_at_once_and_names_it(
    cluster: Cluster, source: dict[str, Any], reason: str, message: str, run_name: Callable[[str], str]
) -> None:
    name = run_name("gone")
    environment = {"gymnasium": {"id": "CartPole-v1"}}
    cluster.kubectl.apply(
        manifest_of(name, algorithm="PPO", totalTimesteps=128, environment=environment, hyperparameters=QUICK, **source)
    )
    status = cluster.until_phase(name, "Succeeded", "Failed", seconds=300)
    assert status["phase"] == "Failed", status
    failed = cluster.condition(name, "Failed")
    assert failed["reason"] == reason
    assert message in failed["message"]
    assert not status.get("restarts"), "another attempt would not find it either"


def test_policy_with_memory_is_asked_with_its_state(
    inference: PolicyTrainerServiceStub, cluster: Cluster, run_name: Callable[[str], str]
) -> None:
    name = run_name("remembers")
    hidden = {"policy_kwargs": "dict(lstm_hidden_size=8, net_arch=[8])"}
    world = "aisandbox_environment.without_velocities:CartPoleNoVel-v1"
    environment = {"gymnasium": {"id": world}}
    _succeeded(
        cluster, name, algorithm="RecurrentPPO", totalTimesteps=128, environment=environment,
        hyperparameters={**QUICK, **hidden},
    )  # fmt: skip
    question = pb.ActRequest(run_id=name, observation=[0.01, 0, 0.02, 0])
    with pytest.raises(grpc.RpcError) as refused:
        inference.Act(question, timeout=30)
    error: Any = refused.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    question.episode_start = True
    first = inference.Act(question, timeout=30)
    assert first.state
    again = pb.ActRequest(run_id=name, observation=[0.01, 0, 0.02, 0], state=first.state)
    assert inference.Act(again, timeout=30).state != first.state
