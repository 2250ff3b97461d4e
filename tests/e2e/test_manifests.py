"""The installation as the cluster sees it: applied again it changes nothing, no account has needless permissions."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from cluster import Cluster
from granted_permissions import CLUSTER, NAMESPACED, PERMISSIONS, REFUSED, GrantedPermission
from kubectl import Kubectl, Manifest

pytestmark = pytest.mark.smoke

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / "build" / "e2e" / "install"
"""Where scripts/e2e.py puts the overlay with its images; without it the overlay itself is what is installed."""

PRIVILEGED: Manifest = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "privileged"},
    "spec": {"containers": [{"name": "any", "image": "any", "securityContext": {"privileged": True}}]},
}


@pytest.fixture(scope="module")
def overlay(kubectl: Kubectl) -> Path:
    """The kustomization that the cluster was installed from."""
    image = "{.spec.template.spec.containers[0].image}"
    running = kubectl("get", "deployment/aisandbox-operator", "-o", f"jsonpath={image}")
    for folder in (INSTALLED, ROOT / "deploy/overlays/kind"):
        if (folder / "kustomization.yaml").exists() and running in kubectl("kustomize", str(folder)):
            return folder
    pytest.fail(f"no overlay here installs the operator's image {running}")


def test_second_apply_changes_nothing(kubectl: Kubectl, overlay: Path) -> None:
    kubectl("apply", "-k", str(overlay))
    lines = kubectl("apply", "-k", str(overlay)).splitlines()
    assert len(lines) > 20
    assert [line for line in lines if not line.endswith(" unchanged")] == []


def test_apply_by_the_server_would_change_nothing(kubectl: Kubectl, overlay: Path) -> None:
    """As GitOps tools do it."""
    done = kubectl.attempt("diff", "-k", str(overlay), "--server-side", "--force-conflicts", "--field-manager=other")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize("permission", PERMISSIONS, ids=GrantedPermission.__str__)
def test_permission_is_given(cluster: Cluster, permission: GrantedPermission) -> None:
    namespace = "" if permission.scope == CLUSTER else cluster.namespace
    for verb in permission.verbs:
        assert _may(cluster, permission.account, verb, permission.resource, permission.group, namespace), verb


@pytest.mark.parametrize(
    "permission",
    [permission for permission in PERMISSIONS if permission.scope == NAMESPACED],
    ids=GrantedPermission.__str__,
)
def test_permission_ends_with_the_namespace(cluster: Cluster, permission: GrantedPermission) -> None:
    for verb in permission.verbs:
        assert not _may(cluster, permission.account, verb, permission.resource, permission.group, "default"), verb


@pytest.mark.parametrize(("account", "resource", "verb", "why"), REFUSED)
def test_permission_is_refused(cluster: Cluster, account: str, resource: str, verb: str, why: str) -> None:
    kind, _, group = resource.partition(".")
    assert not _may(cluster, account, verb, kind, group, cluster.namespace), why


def test_privileged_pod_is_refused(kubectl: Kubectl) -> None:
    said = kubectl.refused("create", "-f", "-", manifest=PRIVILEGED)
    assert 'violates PodSecurity "restricted' in said


def test_deployments_are_ready(kubectl: Kubectl) -> None:
    for name in ("aisandbox-operator", "aisandbox-api", "aisandbox-inference"):
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=180s", seconds=200)


def test_pods_write_nowhere_but_in_their_volumes(kubectl: Kubectl) -> None:
    """Who they are, and that neither the code nor, for inference, the models can be changed."""
    probe = "import os, sys\nprint(os.getuid())\nfor path in sys.argv[1:]:\n    print(os.access(path, os.W_OK))"
    places = {"aisandbox-operator": [False], "aisandbox-api": [True], "aisandbox-inference": [False]}
    for name, (models,) in places.items():
        command = ("exec", f"deployment/{name}", "--", "python", "-c", probe, "/", "/dev/shm", "/var/lib/aisandbox")
        said = kubectl(*command).split()
        assert said == ["65532", "False", "True", str(models)], name


def test_node_can_be_drained(kubectl: Kubectl) -> None:
    """No pod has local storage, at which ``kubectl drain`` stops unless it is told to delete it."""
    (node, *_) = kubectl("get", "nodes", "-o", "name").split()
    selector = "--pod-selector=app.kubernetes.io/part-of=aisandbox"
    done = kubectl.attempt("drain", node, "--dry-run=client", "--ignore-daemonsets", selector)
    assert done.returncode == 0, done.stderr
    assert "aisandbox-api" in done.stdout


def test_production_is_accepted(kubectl: Kubectl, tmp_path: Path) -> None:
    """All of it but the claim, whose class and mode cannot be changed on a cluster that has one."""
    rendered = subprocess.run(
        ["kubectl", "kustomize", ROOT / "deploy/overlays/production"], capture_output=True, text=True, check=True
    ).stdout
    objects = [each for each in yaml.safe_load_all(rendered) if each["kind"] != "PersistentVolumeClaim"]
    file = tmp_path / "production.yaml"
    file.write_text(yaml.safe_dump_all(objects))
    command = "apply --server-side --dry-run=server --force-conflicts --field-manager=test-manifests -f"
    lines = kubectl(*shlex.split(command), str(file)).splitlines()
    assert len(lines) == len(objects)
    assert [line for line in lines if not line.endswith("(server dry run)")] == []


def test_claim_of_production_is_accepted_in_a_fresh_namespace(kubectl: Kubectl, scratch_namespace: str) -> None:
    rendered = subprocess.run(
        ["kubectl", "kustomize", ROOT / "deploy/overlays/production"], capture_output=True, text=True, check=True
    ).stdout
    (claim,) = (each for each in yaml.safe_load_all(rendered) if each["kind"] == "PersistentVolumeClaim")
    claim["metadata"]["namespace"] = scratch_namespace
    kubectl(f"--namespace={scratch_namespace}", "create", "--dry-run=server", "-f", "-", manifest=claim)


@pytest.mark.parametrize("sample", ["simulator", "runs"])
def test_sample_is_accepted(kubectl: Kubectl, sample: str) -> None:
    kubectl("apply", "--dry-run=server", "-k", str(ROOT / "deploy/samples" / sample))


def _may(cluster: Cluster, account: str, verb: str, resource: str, group: str, namespace: str) -> bool:
    """What ``kubectl auth can-i --as`` asks; an empty ``namespace`` means all."""
    user = f"system:serviceaccount:{cluster.namespace}:{account}"
    groups = ["system:serviceaccounts", "system:authenticated"]
    return cluster.may(user, verb, resource, namespace, group, groups)
