"""What a kustomization makes of its files, for machines without kubectl.

Owns the part of kustomize that ``deploy/`` uses; anything else in a kustomization is refused, so that nothing is read
as if it were not there. A test holds it against ``kubectl kustomize``. Names of generated ConfigMaps get no hash here.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
Kustomization = dict[str, Any]

KNOWN = {
    "apiVersion",
    "kind",
    "resources",
    "namespace",
    "labels",
    "images",
    "configMapGenerator",
    "patches",
    "configurations",
}
CLUSTER_SCOPED = {"Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding"}
CONTAINER_IMAGES = "spec/template/spec/containers[]/image"


class Unsupported(Exception):
    """A kustomization uses what this reader does not know."""


def render(folder: Path) -> list[Manifest]:
    """The objects of ``folder``/kustomization.yaml. Raises Unsupported."""
    objects, _ = _accumulate(folder)
    return objects


def _accumulate(folder: Path) -> tuple[list[Manifest], list[str]]:
    """The objects, and the fields beyond the containers' in which they name images."""
    path = folder / "kustomization.yaml"
    kustomization: Kustomization = yaml.safe_load(path.read_text(encoding="utf-8"))
    if unknown := kustomization.keys() - KNOWN:
        raise Unsupported(f"{path}: {', '.join(sorted(unknown))}")
    objects: list[Manifest] = []
    image_fields: list[str] = []
    for resource in kustomization.get("resources", []):
        if (folder / resource).is_dir():
            inner, fields = _accumulate((folder / resource).resolve())
            objects += inner
            image_fields += fields
        else:
            objects += read_all(folder / resource)
    for name in kustomization.get("configurations", []):
        image_fields += _image_fields(folder / name)
    _generate(objects, folder, kustomization)
    for patch in kustomization.get("patches", []):
        _patch(objects, folder, patch)
    if "namespace" in kustomization:
        _set_namespace(objects, kustomization["namespace"])
    for labels in kustomization.get("labels", []):
        _set_labels(objects, labels)
    _set_images(objects, kustomization.get("images", []), [CONTAINER_IMAGES, *image_fields])
    return objects, image_fields


def read_all(path: Path) -> list[Manifest]:
    """The objects of one file."""
    return [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]


def _image_fields(path: Path) -> list[str]:
    configuration = yaml.safe_load(path.read_text(encoding="utf-8"))
    if configuration.keys() != {"images"} or any(each["kind"] != "Deployment" for each in configuration["images"]):
        raise Unsupported(str(path))
    return [each["path"] for each in configuration["images"]]


def _generate(objects: list[Manifest], folder: Path, kustomization: Kustomization) -> None:
    for generator in kustomization.get("configMapGenerator", []):
        if generator.keys() - {"name", "behavior", "envs"}:
            raise Unsupported(f"{folder}: configMapGenerator {sorted(generator)}")
        data: dict[str, str] = {}
        for name in generator["envs"]:
            lines = (folder / name).read_text(encoding="utf-8").splitlines()
            data.update({key: value for key, _, value in (line.partition("=") for line in lines if line)})
        if generator.get("behavior") == "merge":
            (found,) = (each for each in objects if _is(each, "ConfigMap", generator["name"]))
            found["data"].update(data)
        else:
            name = generator["name"]
            objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})


def _is(manifest: Manifest, kind: str, name: str) -> bool:
    return bool(manifest["kind"] == kind and manifest["metadata"]["name"] == name)


def _patch(objects: list[Manifest], folder: Path, patch: Manifest) -> None:
    text = patch["patch"] if "patch" in patch else (folder / patch["path"]).read_text(encoding="utf-8")
    change = yaml.safe_load(text)
    target = patch.get("target") or {"kind": change["kind"], "name": change["metadata"]["name"]}
    if target.keys() - {"kind", "name"}:
        raise Unsupported(f"{folder}: target {target}")
    found = [
        each
        for each in objects
        if re.fullmatch(target["kind"], each["kind"])
        and re.fullmatch(target.get("name", ".*"), each["metadata"]["name"])
    ]
    if not found:
        raise Unsupported(f"{folder}: nothing is {target}")
    for each in found:
        if isinstance(change, list):
            for operation in change:
                _operate(each, operation)
        else:
            metadata = {key: value for key, value in change["metadata"].items() if key != "name"}
            rest = {key: value for key, value in change.items() if key not in ("apiVersion", "kind")}
            _merge(each, {**rest, "metadata": metadata})


def _operate(manifest: Manifest, operation: Manifest) -> None:
    """One operation of RFC 6902 on fields that have a parent."""
    *parents, last = operation["path"].removeprefix("/").replace("~1", "/").replace("~0", "~").split("/")
    place: Any = manifest
    for parent in parents:
        place = place[int(parent) if isinstance(place, list) else parent]
    key: Any = int(last) if isinstance(place, list) else last
    if operation["op"] in ("replace", "remove"):
        place[key]  # which must be there
    if operation["op"] == "remove":
        del place[key]
    elif operation["op"] in ("add", "replace") and isinstance(place, dict):
        place[key] = copy.deepcopy(operation["value"])
    else:
        raise Unsupported(f"patch {operation}")


def _merge(place: Manifest, change: Manifest) -> None:
    """A strategic merge of maps; lists of plain values are replaced, others are not known here."""
    for key, value in change.items():
        if isinstance(value, list) and any(isinstance(each, dict | list) for each in value):
            raise Unsupported(f"merge of the list {key}")
        if isinstance(value, dict):
            _merge(place.setdefault(key, {}), value)
        else:
            place[key] = copy.deepcopy(value)


def _set_namespace(objects: list[Manifest], namespace: str) -> None:
    for each in objects:
        if each["kind"] == "Namespace":
            each["metadata"]["name"] = namespace
        elif each["kind"] not in CLUSTER_SCOPED:
            each["metadata"]["namespace"] = namespace
        for subject in each.get("subjects", []):
            subject["namespace"] = namespace


def _set_labels(objects: list[Manifest], labels: Manifest) -> None:
    if labels.keys() != {"pairs", "includeTemplates"}:
        raise Unsupported(f"labels {sorted(labels)}")
    for each in objects:
        each["metadata"].setdefault("labels", {}).update(labels["pairs"])
        if each["kind"] == "Deployment":
            each["spec"]["template"]["metadata"]["labels"].update(labels["pairs"])


def _set_images(objects: list[Manifest], images: list[Manifest], fields: list[str]) -> None:
    for image in images:
        for each in objects:
            if each["kind"] != "Deployment":
                continue
            for path in fields:
                *parents, last = path.replace("[]", "/[]").split("/")
                for place in _places([each], parents):
                    if isinstance(place.get(last), str):
                        place[last] = _renamed(place[last], image)


def _places(places: list[Any], parents: list[str]) -> Iterator[Any]:
    if not parents:
        yield from places
        return
    head, *rest = parents
    for place in places:
        inner = place if head == "[]" else [place[head]] if head in place else []
        yield from _places(inner, rest)


def _renamed(value: str, image: Manifest) -> str:
    name, tag, digest = split_image(value)
    if name != image["name"]:
        return value
    name = image.get("newName", name)
    if "digest" in image:
        return f"{name}@{image['digest']}"
    return f"{name}:{image['newTag']}" if "newTag" in image else name + (f"@{digest}" if digest else tag and f":{tag}")


def split_image(reference: str) -> tuple[str, str, str]:
    """Name, tag and digest of an image; what is not said is empty."""
    reference, _, digest = reference.partition("@")
    name, colon, tag = reference.rpartition(":")
    return (name, tag, digest) if colon and "/" not in tag else (reference, "", digest)
