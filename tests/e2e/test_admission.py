"""What the admission policies refuse when a run is created or changed, and what they admit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from aisandbox.v1 import policy_trainer_pb2 as pb
from cluster import SHORT, Cluster, manifest_of
from guarded_installation import Guarded
from kubectl import Kubectl, Manifest
from waiting import wait_until

OWNER = "aisandbox.dev/owner"
LIMITS = "limits.aisandbox.dev"
DRY = ("create", "--dry-run=server", "-f", "-")
POOL = {"pool": {"name": "arena"}}
SIMULATOR = {"address": "sim.games.svc:50061"}
ADMITTED: dict[str, Manifest] = {
    "without anything": {},
    "with a place": {
        "priorityClassName": "batch",
        "tolerations": [{"key": "gpu", "operator": "Exists"}],
        "labels": {"team": "games", "kueue.x-k8s.io/queue-name": "gpus"},
        "resources": {"requests": {"cpu": 2, "memory": "8Gi"}, "limits": {"memory": "256Gi", "nvidia.com/gpu": 8}},
    },
    "with environments": {"hyperparameters": {"n_envs": "1024"}},
    "with simulators": {"environment": {"grpc": {**SIMULATOR, "environments": 64}}},
    "in a pool": {"environment": {"pool": {"name": "arena", "environments": 64}}},
    "in a pool, by n_envs": {"environment": POOL, "hyperparameters": {"n_envs": "8"}},
    "for long": {"totalTimesteps": 10**10},
}
REFUSED: dict[str, tuple[Manifest, str, str]] = {
    "priority of the system": (
        {"priorityClassName": "system-node-critical"},
        "spec.priorityClassName: system-node-critical is not allowed; the administrator allows all but those of",
        "priority-classes",
    ),
    "priority of the servers": (
        {"priorityClassName": "aisandbox-server"},
        "spec.priorityClassName: aisandbox-server is not allowed",
        "priority-classes",
    ),
    "every taint": (
        {"tolerations": [{"key": "gpu", "operator": "Exists"}, {"operator": "Exists"}]},
        "spec.tolerations: <every taint> is not allowed",
        "tolerations",
    ),
    "control planes": (
        {"tolerations": [{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]},
        "spec.tolerations: node-role.kubernetes.io/control-plane is not allowed",
        "tolerations",
    ),
    "no mesh": (
        {"labels": {"team": "games", "sidecar.istio.io/inject": "false"}},
        "spec.labels: sidecar.istio.io/inject is not allowed",
        "refused-labels",
    ),
    "an identity": (
        {"podTemplate": {"metadata": {"labels": {"azure.workload.identity/use": "true"}}}},
        "spec.podTemplate.metadata.labels: azure.workload.identity/use is not allowed",
        "refused-labels",
    ),
    "cpu": ({"resources": {"requests": {"cpu": "64001m"}}}, "spec.resources.requests.cpu: 64001m is more", "max-cpu"),
    "memory": (
        {"resources": {"limits": {"memory": "10Ti"}}},
        "spec.resources.limits.memory: 10Ti is more",
        "max-memory",
    ),
    "devices": (
        {"resources": {"limits": {"nvidia.com/gpu": 9}}},
        "spec.resources.limits.nvidia.com/gpu: 9 is more",
        "max-devices",
    ),
    "n_envs": (
        {"hyperparameters": {"n_envs": "1025"}},
        "spec.hyperparameters.n_envs: 1025 is more",
        "max-environments",
    ),
    "environments of simulators": (
        {"environment": {"grpc": {**SIMULATOR, "environments": 4096}}},
        "spec.environment.grpc.environments: 4096 is more",
        "max-environments",
    ),
    "environments of a pool": (
        {"environment": {"pool": {"name": "arena", "environments": 4096}}},
        "spec.environment.pool.environments: 4096 is more",
        "max-environments",
    ),
    "all environments of a pool": (
        {"environment": POOL},
        "spec.environment.pool.environments: without a number this is more",
        "max-environments",
    ),
    "any number of simulators": (
        {"environment": {"grpc": {"address": "dns:///sim.games.svc:50061"}}},
        "spec.environment.grpc.environments: without a number this is more",
        "max-environments",
    ),
    "one for each of many addresses": (
        {"environment": {"grpc": {"address": ",".join(["s:1"] * 1025)}}},
        "spec.environment.grpc.environments: 1025 is more",
        "max-environments",
    ),
    "environments in another notation": (
        {"hyperparameters": {"n_envs": "2_000"}},
        "spec.hyperparameters.n_envs: without a number this is more",
        "max-environments",
    ),
    "timesteps": ({"totalTimesteps": 10**10 + 1}, "spec.totalTimesteps: 10000000001 is more", "max-timesteps"),
}
"""What is in the spec; how the message begins; and the limit that it names."""


@pytest.fixture
def run(guarded: Guarded) -> Iterator[str]:
    """A run that waits: suspended from the beginning."""
    name = "waits"
    guarded.place.kubectl.apply(manifest_of(name, **SHORT, suspend=True))
    yield name
    guarded.place.kubectl("delete", "trainingrun", name, "--wait=false")


def owned_by(owner: str) -> Manifest:
    manifest = manifest_of("owned", **SHORT)
    return {**manifest, "metadata": {**manifest["metadata"], "annotations": {OWNER: owner}}}


@pytest.mark.parametrize("what", ADMITTED)
def test_run_is_admitted(guarded: Guarded, what: str) -> None:
    kubectl = guarded.place.kubectl
    kubectl(*DRY, manifest=manifest_of("admitted", **{**SHORT, **ADMITTED[what]}))


@pytest.mark.parametrize("what", REFUSED)
def test_run_is_refused_with_its_field_and_the_limit(guarded: Guarded, what: str) -> None:
    kubectl = guarded.place.kubectl
    spec, begins, limit = REFUSED[what]
    said = kubectl.refused(*DRY, manifest=manifest_of("refused", **{**SHORT, **spec}))
    message = said.partition("denied request: ")[2]
    assert message.startswith(begins), said
    assert f"({LIMITS}/{limit} of the namespace)" in message, said


def test_owner_is_written_by_the_service_only(guarded: Guarded, run: str) -> None:
    kubectl = guarded.place.kubectl
    for account in ("trainer", "admin"):
        said = kubectl.refused(*DRY, f"--as={guarded.user(account)}", manifest=owned_by("alice"))
        assert f"{OWNER} is set by the service only" in said
        assert f"{guarded.user(account)} may not create trainingruns/owner" in said
    kubectl(*DRY, f"--as={guarded.user('aisandbox-api')}", manifest=owned_by("alice"))
    kubectl(*DRY, manifest=owned_by("alice"))  # an administrator of the cluster, who restores a backup
    assert f"{OWNER} cannot be changed" in kubectl.refused("annotate", "trainingrun", run, f"{OWNER}=alice")
    kubectl("annotate", "trainingrun", run, "note=mine", f"--as={guarded.user('trainer')}")


def test_owner_cannot_be_taken_away(guarded: Guarded) -> None:
    kubectl = guarded.place.kubectl
    kubectl("create", "-f", "-", manifest={**owned_by("alice"), "spec": {**SHORT, "suspend": True}})
    for change in (f"{OWNER}=bob", f"{OWNER}-"):
        assert f"{OWNER} cannot be changed" in kubectl.refused(
            "annotate", "trainingrun", "owned", change, "--overwrite"
        )
    patch = json.dumps({"spec": {"cancel": True}})
    kubectl("patch", "trainingrun", "owned", "--type=merge", f"--patch={patch}", f"--as={guarded.user('trainer')}")
    kubectl("delete", "trainingrun", "owned", "--wait=false")


def test_limits_of_an_administrator_hold_for_what_is_changed(guarded: Guarded, run: str) -> None:
    kubectl = guarded.place.kubectl

    def patched(spec: Manifest) -> tuple[str, ...]:
        patch = json.dumps({"spec": spec})
        return "patch", "trainingrun", run, "--type=merge", "--dry-run=server", f"--patch={patch}"

    def limit(**data: str) -> None:
        annotations = [f"{LIMITS}/{name.replace('_', '-')}={value}" for name, value in data.items()]
        kubectl("annotate", "namespace", guarded.place.namespace, "--overwrite", *annotations)

    wanted = {"resources": {"limits": {"memory": "8Gi"}}}
    kubectl("patch", "trainingrun", run, "--type=merge", f"--patch={json.dumps({'spec': wanted})}")
    limit(max_memory="4Gi", max_timesteps="100", priority_classes="batch, low")
    try:
        more = {"resources": {"limits": {"memory": "6Gi"}}}
        said = wait_until(lambda: kubectl.attempt(*patched(more)).stderr, seconds=60)
        assert "spec.resources.limits.memory: 6Gi is more than the administrator allows, 4Gi" in said
        kubectl(*patched({"suspend": False}))
        kubectl(*patched({"cancel": True}))
        kubectl(*patched({"priorityClassName": "low"}))
        said = kubectl.refused(*patched({"priorityClassName": "high"}))
        assert "spec.priorityClassName: high is not allowed; the administrator allows batch, low" in said
    finally:
        limit(max_memory="256Gi", max_timesteps="10000000000", priority_classes="*")


def test_policies_hold_where_a_namespace_says_so_and_limits_where_it_has_them(
    cluster: Cluster, guarded: Guarded, scratch_namespace: str
) -> None:
    place = Kubectl(cluster.kubectl.context, scratch_namespace)
    run = manifest_of("any", **SHORT, resources={"limits": {"cpu": 128}}, priorityClassName="system-node-critical")
    place(*DRY, manifest=run)
    cluster.kubectl("label", "namespace", scratch_namespace, "aisandbox.dev/run-policies=enforced")
    said = wait_until(lambda: place.attempt(*DRY, manifest=run).stderr, seconds=60)
    assert "spec.priorityClassName: system-node-critical is not allowed" in said
    del run["spec"]["priorityClassName"]
    place(*DRY, manifest=run)
    cluster.kubectl("annotate", "namespace", scratch_namespace, f"{LIMITS}/max-cpu=64")
    said = wait_until(lambda: place.attempt(*DRY, manifest=run).stderr, seconds=60)
    assert "spec.resources.limits.cpu: 128 is more than the administrator allows, 64" in said


def test_roles_within_the_namespace_change_no_limits(guarded: Guarded) -> None:
    for role in ("edit", "admin"):
        guarded.place.kubectl("create", "rolebinding", f"{role}s", f"--clusterrole={role}", f"--user={role}")
        change = ("annotate", "namespace", guarded.place.namespace, f"{LIMITS}/max-cpu-", f"--as={role}")
        assert "cannot patch resource" in guarded.place.kubectl.refused(*change)


STARTS: dict[str, tuple[dict[str, Any], str]] = {
    "placement.priority_class_name": (
        {"placement": pb.Placement(priority_class_name="system-node-critical")},
        "system-node-critical is not allowed",
    ),
    "placement.limits.memory": ({"placement": pb.Placement(limits={"memory": "10Ti"})}, "10Ti is more"),
    "placement.labels": ({"placement": pb.Placement(labels={"sidecar.istio.io/inject": "false"})}, "sidecar.istio.io"),
    "hyperparameters.n_envs": ({"hyperparameters": {"n_envs": "2000"}}, "2000 is more"),
    "total_timesteps": ({"total_timesteps": 10**11}, "100000000000 is more"),
}


def test_start_call_ends_with_the_field_and_the_limit(guarded: Guarded) -> None:
    with guarded.calling(guarded.token("trainer")) as stub:
        for field, (fields, rule) in STARTS.items():
            request = pb.TrainingRequest(**{"experiment_id": "refused", "total_timesteps": 512, **fields})
            with pytest.raises(grpc.RpcError) as caught:
                stub.StartTrainingPPO(request, timeout=60)
            found: Any = caught.value
            assert found.code() is grpc.StatusCode.INVALID_ARGUMENT, (field, found.details())
            assert f"{field}: {rule}" in found.details(), field
            assert LIMITS in found.details(), field
