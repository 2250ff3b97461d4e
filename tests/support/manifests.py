"""The objects that an overlay installs, as ``kubectl kustomize`` prints them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Manifest = dict[str, Any]
DEPLOY = Path(__file__).parents[2] / "deploy"
CLUSTER_SCOPED = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding", "PriorityClass"}


def rendered(folder: Path) -> list[Manifest]:
    """The objects of a kustomization. Skips the test without kubectl, unless REQUIRE_KUBECTL is set, as CI does."""
    if shutil.which("kubectl") is None and not os.environ.get("REQUIRE_KUBECTL"):
        pytest.skip("kubectl is not installed: https://kubernetes.io/docs/tasks/tools/")
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=True)
    return [each for each in yaml.load_all(done.stdout, Loader=LOADER) if each]


LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Manifests:
    """All objects of one overlay, found by kind and name."""

    objects: tuple[Manifest, ...]

    @classmethod
    @cache
    def of(cls, *folders: str) -> Manifests:
        """What these folders of ``deploy/`` render to."""
        return cls(tuple(each for folder in folders for each in rendered(DEPLOY / folder)))

    def all(self, kind: str) -> list[Manifest]:
        """The objects of a kind."""
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind: str, name: str) -> Manifest:
        """The object of this kind and name."""
        (found,) = (each for each in self.all(kind) if each["metadata"]["name"] == name)
        return found

    def names(self, kind: str) -> set[str]:
        """The names of the objects of a kind."""
        return {each["metadata"]["name"] for each in self.all(kind)}

    def containers(self) -> Iterator[tuple[str, Manifest, Manifest]]:
        """For each container of a Deployment: the Deployment's name, the pod's spec, the container."""
        for deployment in self.all("Deployment"):
            pod = deployment["spec"]["template"]["spec"]
            for container in pod["containers"]:
                yield deployment["metadata"]["name"], pod, container

    def environ(self, deployment: str) -> dict[str, str]:
        """The environment variables of the Deployment's container, as the kubelet sets them."""
        (container,) = (each for name, _, each in self.containers() if name == deployment)
        values: dict[str, str] = {}
        for source in container.get("envFrom", []):
            values |= self.one("ConfigMap", source["configMapRef"]["name"])["data"]
        for entry in container.get("env", []):
            values[entry["name"]] = self._value(deployment, entry, values)
        return values

    def _value(self, deployment: str, entry: Manifest, before: dict[str, str]) -> str:
        if "valueFrom" in entry:
            assert entry["valueFrom"] == {"fieldRef": {"fieldPath": "metadata.namespace"}}
            return str(self.one("Deployment", deployment)["metadata"]["namespace"])
        # $(NAME) means a variable that was set before; others stay as they are.
        return re.sub(r"\$\((\w+)\)", lambda found: before.get(found[1], found[0]), entry["value"])


def without_hash(name: str) -> str:
    """The name of a generated ConfigMap as the kustomization has it."""
    return re.sub(r"-[a-z0-9]{10}$", "", name)


def split_image(reference: str) -> tuple[str, str, str]:
    """Name, tag and digest of an image; what is absent is empty."""
    reference, _, digest = reference.partition("@")
    name, colon, tag = reference.rpartition(":")
    return (name, tag, digest) if colon and "/" not in tag else (reference, "", digest)


def pod_labels(deployment: Manifest) -> dict[str, str]:
    """The labels of its pods."""
    labels: dict[str, str] = deployment["spec"]["template"]["metadata"]["labels"]
    return labels


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector (matchLabels and ``In`` expressions) selects these labels; an empty one selects all."""
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert all(each["operator"] == "In" for each in expressions)
    return all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items()) and all(
        labels.get(each["key"]) in each["values"] for each in expressions
    )


def quantity(text: str | float) -> float:
    """A Kubernetes quantity as a number."""
    for suffix, factor in {"m": 1e-3, "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}.items():
        if str(text).endswith(suffix):
            return float(str(text).removesuffix(suffix)) * factor
    return float(text)
