"""The api-server and the operator in a namespace of their own, whose runs are trained by the scripted trainer.

Made from the manifests users install, with images that are in the registry already (REGISTRY, TAG). The resource
definition must be in the cluster. Must not know what is tested.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from kubectl import Kubectl
from provided_image import provide_image

ROOT = Path(__file__).parents[2]
OVERLAY = ROOT / "deploy" / "overlays" / "kind"
TRAINER_SOURCES = ROOT / "tests" / "contract"
OVERLAY_REGISTRY = "localhost:5001"
MODELS = "/var/lib/aisandbox"
API, OPERATOR = "aisandbox-api", "aisandbox-operator"
LEFT_OUT = ("CustomResourceDefinition", "NetworkPolicy", "HorizontalPodAutoscaler", "PodDisruptionBudget")
OPERATOR_SETTINGS = {
    "TRAINER_RESOURCES": '{"requests":{"cpu":"10m","memory":"64Mi"}}',
    "TERMINATION_GRACE_SECONDS": "10",
    "START_DEADLINE_SECONDS": "60",
}
Manifest = dict[str, Any]


@contextmanager
def installed(context: str, replicas: int = 2) -> Iterator[Kubectl]:
    """Installs, waits until all answer, and removes everything at the end.

    Of several api-servers a client reaches one, and trainers any.
    """
    registry, tag = os.environ.get("REGISTRY", OVERLAY_REGISTRY), os.environ.get("TAG", "dev")
    namespace = f"contract-{secrets.token_hex(3)}"
    kubectl = Kubectl(context, namespace)
    trainer = f"{registry}/aisandbox/scripted-trainer:{namespace}"
    provide_image(context, trainer, TRAINER_SOURCES, "--build-arg", f"BASE={registry}/aisandbox/api-server:{tag}")
    objects = [_changed(each, namespace, registry, tag, trainer, replicas) for each in _rendered(kubectl)]
    cluster_wide = [each for each in objects if each["kind"] in ("ClusterRole", "ClusterRoleBinding")]
    try:
        kubectl("apply", "-f", "-", manifest=yaml.safe_dump_all(objects))
        for name in (OPERATOR, API):
            _wait_for(kubectl, name)
        yield kubectl
    finally:
        kubectl.attempt("delete", "-f", "-", "--ignore-not-found", manifest=yaml.safe_dump_all(cluster_wide))
        kubectl.attempt("delete", "namespace", namespace, "--wait=false")


class PodFiles:
    """The volume of models, through an api-server's pod."""

    def __init__(self, kubectl: Kubectl) -> None:
        self._kubectl = kubectl

    def read(self, path: str) -> bytes:
        """Raises FileNotFoundError."""
        done = subprocess.run(self._command(f"cat {shlex.quote(f'{MODELS}/{path}')}"), capture_output=True, check=False)
        if done.returncode:
            raise FileNotFoundError(done.stderr.decode())
        return done.stdout

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        command = self._command(f"test -e {shlex.quote(f'{MODELS}/{path}')}")
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def link(self, path: str, target: str) -> None:
        """Makes a symbolic link."""
        command = f"ln -sfn {shlex.quote(target)} {shlex.quote(f'{MODELS}/{path}')}"
        subprocess.run(self._command(command), capture_output=True, check=True)

    def clear(self) -> None:
        """Removes all there is."""
        subprocess.run(self._command(f"rm -rf {MODELS}/*"), capture_output=True, check=False)

    def _command(self, script: str) -> list[str]:
        return self._kubectl.command("exec", f"deployment/{API}", "--", "sh", "-c", script)


def _wait_for(kubectl: Kubectl, deployment: str) -> None:
    done = kubectl.attempt("rollout", "status", f"deployment/{deployment}", "--timeout=120s", seconds=130)
    if done.returncode:
        pods = kubectl.attempt("get", "pods", "--output=wide").stdout
        logs = kubectl.attempt("logs", f"deployment/{deployment}", "--tail=20").stdout
        raise RuntimeError(f"{deployment} does not become ready: {done.stderr}\n{pods}\n{logs}")


def _rendered(kubectl: Kubectl) -> list[Manifest]:
    objects = yaml.safe_load_all(kubectl("kustomize", str(OVERLAY)))
    return [each for each in objects if each["kind"] not in LEFT_OUT and "inference" not in each["metadata"]["name"]]


def _changed(each: Manifest, namespace: str, registry: str, tag: str, trainer: str, replicas: int) -> Manifest:
    """The object in the other namespace, with a name of its own where names are the cluster's."""
    text = json.dumps(each).replace(f"{OVERLAY_REGISTRY}/aisandbox/trainer:dev", trainer)
    text = text.replace(f"{OVERLAY_REGISTRY}/aisandbox/", f"{registry}/aisandbox/")
    text = text.replace("/api-server:dev", f"/api-server:{tag}").replace("/operator:dev", f"/operator:{tag}")
    changed: Manifest = json.loads(text)
    metadata, kind = changed["metadata"], changed["kind"]
    if kind == "Namespace":
        metadata["name"] = namespace
    if "namespace" in metadata:
        metadata["namespace"] = namespace
    if kind in ("ClusterRole", "ClusterRoleBinding"):
        metadata["name"] += f"-{namespace}"
    if kind == "ClusterRoleBinding":
        changed["roleRef"]["name"] += f"-{namespace}"
    for subject in changed.get("subjects", ()):
        subject["namespace"] = namespace
    if kind == "ConfigMap" and metadata["name"].startswith(OPERATOR):
        changed["data"] |= OPERATOR_SETTINGS
    if kind == "Deployment" and metadata["name"] == API:
        changed["spec"]["replicas"] = replicas
        container = changed["spec"]["template"]["spec"]["containers"][0]
        container["env"] = [each for each in container["env"] if each["name"] != "INFERENCE_ADDRESS"]
    return changed
