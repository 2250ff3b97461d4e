"""The quotas of production: what they count, what they fill in, and what a run says that does not fit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from aisandbox.v1 import policy_trainer_pb2 as pb
from cluster import SHORT, manifest_of
from guarded_installation import Guarded
from kubectl import Manifest
from waiting import wait_until

PRODUCTION = Path(__file__).parents[2] / "deploy/overlays/production"
TRAINERS, OBJECTS, SERVER = "aisandbox-trainers", "aisandbox-objects", "aisandbox-server"
DRY = ("create", "--dry-run=server", "-o", "json", "-f", "-")
POD: Manifest = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "any"},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "any",
                "image": "any",
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}


SetHard = Callable[..., None]


@pytest.fixture(scope="module")
def set_hard(guarded: Guarded) -> Iterator[SetHard]:
    """The quotas of production are there; the fixture sets a limit of one: ``set_hard(name, resource, amount)``."""
    place = guarded.place
    command = ["kubectl", "kustomize", str(PRODUCTION)]
    objects = list(yaml.safe_load_all(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    chosen = [each for each in objects if each["kind"] in ("ResourceQuota", "LimitRange", "PriorityClass")]
    for each in chosen:
        if each["kind"] != "PriorityClass":
            each["metadata"]["namespace"] = place.namespace
    text = yaml.safe_dump_all(chosen)

    def set_hard(name: str, resource: str, amount: str) -> None:
        patch = json.dumps({"spec": {"hard": {resource: amount}}})
        place.kubectl("patch", "resourcequota", name, "--type=merge", f"--patch={patch}")
        wait_until(lambda: hard_of(name).get(resource), lambda seen: seen == amount, seconds=60)

    def hard_of(name: str) -> dict[str, str]:
        found: dict[str, str] = place.kubectl.json("get", "resourcequota", name).get("status", {}).get("hard", {})
        return found

    place.kubectl.apply(text)
    try:
        for name in (TRAINERS, OBJECTS):
            wait_until(lambda name=name: hard_of(name), seconds=60)  # type: ignore[misc]
        yield set_hard
    finally:
        place.kubectl("delete", "-f", "-", "--ignore-not-found", manifest=text)


def test_quota_of_pods_is_for_all_but_servers(guarded: Guarded, set_hard: SetHard) -> None:
    kubectl = guarded.place.kubectl
    made = json.loads(kubectl(*DRY, manifest=POD))
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}
    set_hard(TRAINERS, "pods", "0")
    assert f"exceeded quota: {TRAINERS}" in kubectl.refused(*DRY, manifest=POD)
    server = {**POD, "spec": {**POD["spec"], "priorityClassName": SERVER}}
    kubectl(*DRY, manifest=server)


def test_run_whose_pod_does_not_fit_waits_and_names_the_quota(guarded: Guarded, set_hard: SetHard) -> None:
    set_hard(TRAINERS, "pods", "0")
    guarded.place.kubectl.apply(manifest_of("too-many", **SHORT))
    said = wait_until(
        lambda: str(guarded.place.condition("too-many", "Running")), lambda seen: "exceeded quota" in seen, seconds=180
    )
    assert f"exceeded quota: {TRAINERS}" in said
    assert "NoPod" in said
    with guarded.calling(guarded.token("viewer")) as stub:
        status = stub.GetTrainingStatus(pb.StatusRequest(run_id="too-many"), timeout=60)
    assert status.phase == pb.PHASE_STARTING
    assert f"exceeded quota: {TRAINERS}" in str(status)
    guarded.place.kubectl("delete", "trainingrun", "too-many", "--wait=false")


def test_start_beyond_the_number_of_runs_is_refused(guarded: Guarded, set_hard: SetHard) -> None:
    set_hard(OBJECTS, "count/trainingruns.aisandbox.dev", "0")
    with guarded.calling(guarded.token("trainer")) as stub, pytest.raises(grpc.RpcError) as caught:
        stub.StartTrainingPPO(pb.TrainingRequest(experiment_id="one-more", total_timesteps=512), timeout=60)
    found: Any = caught.value
    assert found.code() is grpc.StatusCode.RESOURCE_EXHAUSTED, found.details()
    assert f"exceeded quota: {OBJECTS}" in found.details()
