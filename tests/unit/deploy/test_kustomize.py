"""The reader of kustomizations makes of them what kubectl makes of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from kustomize import Manifest, Unsupported, render, split_image
from manifests import DEPLOY

FOLDERS = ("overlays/kind", "overlays/production", "samples/simulator", "samples/runs")
HASH = re.compile(r"-[a-z0-9]{10}$")


def _keyed(objects: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    keyed = {(each["kind"], each["metadata"]["name"]): each for each in objects}
    assert len(keyed) == len(objects)
    return keyed


def _without_hashes(value: Any) -> Any:
    """The objects with the names that ConfigMaps had before kustomize appended what they hold."""
    if isinstance(value, list):
        return [_without_hashes(each) for each in value]
    if not isinstance(value, dict):
        return value
    value = {key: _without_hashes(each) for key, each in value.items()}
    named = [value["metadata"]] if value.get("kind") == "ConfigMap" else []
    for each in [*named, value.get("configMapRef", {})]:
        if "name" in each:
            assert HASH.search(each["name"]), f"{each['name']} does not change with what it holds"
            each["name"] = HASH.sub("", each["name"])
    return value


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize("folder", FOLDERS)
def test_reader_agrees_with_kubectl(folder: str) -> None:
    done = subprocess.run(["kubectl", "kustomize", DEPLOY / folder], capture_output=True, text=True, check=True)
    theirs = _keyed(_without_hashes(list(yaml.safe_load_all(done.stdout))))
    assert _keyed(render(DEPLOY / folder)) == theirs


def test_reader_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("namePrefix: other-\n")
    with pytest.raises(Unsupported, match="namePrefix"):
        render(tmp_path)


@pytest.mark.parametrize(
    ("reference", "parts"),
    [
        ("aisandbox/operator", ("aisandbox/operator", "", "")),
        ("host:5001/a/b", ("host:5001/a/b", "", "")),
        ("host:5001/a/b:c", ("host:5001/a/b", "c", "")),
        ("a/b@sha256:00", ("a/b", "", "sha256:00")),
    ],
)
def test_image_reference_is_split(reference: str, parts: tuple[str, str, str]) -> None:
    assert split_image(reference) == parts
