"""Every object of every overlay is what Kubernetes' own schemas take, without unknown fields, in the oldest version.

The schemas are those that kubeconform reads, packaged; no cluster is needed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import kubernetes_validate
import pytest
from aisandbox_crds.trainingrun import KIND
from manifests import DEPLOY, Manifest, Manifests, rendered

OLDEST = "1.31"
"""As docs/kubernetes.md says."""
FOLDERS = (
    "overlays/kind",
    "overlays/kind-tls",
    "overlays/kind-tls-auth",
    "overlays/production",
    "policies",
    "samples/simulator",
    "samples/runs",
)
COMPONENTS = tuple(f"components/{folder.name}" for folder in sorted((DEPLOY / "components").iterdir()))


def problems(objects: list[Manifest]) -> list[str]:
    found = []
    for each in objects:
        if each["kind"] == KIND:  # tests/unit/crds holds the samples to its schema
            continue
        try:
            kubernetes_validate.validate(each, OLDEST, strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(f"{each['kind']} {each['metadata']['name']}: {error.message[:300]}")
    return found


def test_all_folders_are_looked_at() -> None:
    folders = {str(path.parent.relative_to(DEPLOY)) for path in DEPLOY.rglob("kustomization.yaml")}
    assert folders == {*FOLDERS, *COMPONENTS, "base"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_objects_are_what_the_schemas_take(folder: str) -> None:
    assert problems(list(Manifests.of(folder).objects)) == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_component_changes_production_to_what_the_schemas_take(component: str, tmp_path: Path) -> None:
    kustomization = {
        "namespace": "aisandbox",
        "resources": [os.path.relpath(DEPLOY / "overlays/production", tmp_path.resolve())],
        "components": [os.path.relpath(DEPLOY / component, tmp_path.resolve())],
    }
    (tmp_path / "kustomization.yaml").write_text(json.dumps(kustomization))
    before = Manifests.of("overlays/production").objects
    changed = [each for each in rendered(tmp_path) if each not in before]
    assert changed
    assert problems(changed) == []


def test_misspelt_field_is_found() -> None:
    (deployment, *_) = Manifests.of("overlays/kind").all("Deployment")
    wrong = {**deployment, "spec": {**deployment["spec"], "replica": 2}}
    assert len(problems([wrong])) == 1
