"""A Tiltfile's calls, recorded by evaluating it with functions that have the names and parameters of Tilt's.

Parameters: https://docs.tilt.dev/api.html. Nothing is built, run or deployed; kustomizations are rendered.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import starlark
from kustomize import Manifest, render

Step = dict[str, Any]
Texts = str | Sequence[str]


@dataclass(frozen=True, slots=True)
class Image:
    """A call of docker_build."""

    ref: str
    context: str
    dockerfile: str
    ignore: list[str]
    build_args: dict[str, str]
    match_in_env_vars: bool
    live_update: list[Step]


@dataclass(frozen=True, slots=True)
class Resource:
    """A call of k8s_resource."""

    workload: str
    port_forwards: list[str]
    resource_deps: list[str]
    extra_pod_selectors: list[dict[str, str]]
    manual: bool


@dataclass
class Tilt:
    """What a Tiltfile has asked for; paths are relative to ``root``. Raises StarlarkError from :meth:`evaluate`."""

    root: Path
    images: list[Image] = field(default_factory=list)
    resources: list[Resource] = field(default_factory=list)
    objects: list[Manifest] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)

    def evaluate(self, text: str) -> Tilt:
        """Runs the text of a Tiltfile, in the dialect of Tilt."""
        dialect = starlark.Dialect.standard()
        dialect.enable_top_level_stmt = True
        module = starlark.Module()
        module["TRIGGER_MODE_MANUAL"], module["TRIGGER_MODE_AUTO"] = "manual", "auto"
        for name in FUNCTIONS:
            module.add_callable(name, getattr(self, name))
        starlark.eval(module, starlark.parse("Tiltfile", text, dialect), starlark.Globals.standard())
        return self

    def version_settings(self, constraint: str) -> None:
        """The oldest version of Tilt; not checked here."""

    def local(self, command: str, quiet: bool = False) -> str:
        """A command on this machine; it says nothing here."""
        self.commands.append(command)
        return ""

    def docker_build(
        self,
        ref: str,
        context: str,
        dockerfile: str = "Dockerfile",
        ignore: Sequence[str] = (),
        build_args: dict[str, str] | None = None,
        match_in_env_vars: bool = False,
        live_update: Sequence[Step] = (),
    ) -> None:
        """Builds an image wherever an object names it."""
        steps = list(live_update)
        kinds = [next(iter(step)) for step in steps]
        assert kinds == sorted(kinds, key=["sync", "run"].index), "Tilt wants run after every sync"
        built = Image(ref, context, dockerfile, list(ignore), build_args or {}, match_in_env_vars, steps)
        self.images.append(built)

    def sync(self, local_path: str, remote_path: str) -> Step:
        """Copies changed files into the container."""
        return {"sync": [local_path, remote_path]}

    def run(self, cmd: str) -> Step:
        """Runs a command in the container."""
        return {"run": cmd}

    def kustomize(self, path_to_dir: str) -> str:
        """What ``kubectl kustomize`` prints."""
        return _rendered((self.root / path_to_dir).resolve())

    def filter_yaml(self, yaml: str, kind: str) -> tuple[str, str]:
        """The objects of a kind, and the others."""
        objects = self.decode_yaml_stream(yaml)
        wanted = [bool(re.search(kind, each["kind"], re.IGNORECASE)) for each in objects]
        parts = [[each for each, it in zip(objects, wanted, strict=True) if it == side] for side in (True, False)]
        return _dumped(parts[0]), _dumped(parts[1])

    def decode_yaml_stream(self, yaml: str) -> list[Manifest]:
        """The objects in a text."""
        return _loaded(yaml)

    def encode_yaml_stream(self, objs: list[Manifest]) -> str:
        """The text of objects; Tilt knows only maps with text as keys, lists, text, whole numbers and booleans."""
        _check_encodable(objs)
        return _dumped(objs)

    def k8s_yaml(self, yaml: str) -> None:
        """Installs objects."""
        self.objects += _loaded(yaml)

    def k8s_kind(self, kind: str, api_version: str = "", pod_readiness: str = "") -> None:
        """Objects of this kind are resources of their own."""
        self.kinds.append(kind)

    def k8s_resource(
        self,
        workload: str,
        port_forwards: Sequence[str] = (),
        resource_deps: Sequence[str] = (),
        extra_pod_selectors: Sequence[dict[str, str]] = (),
        trigger_mode: str = "auto",
        auto_init: bool = True,
        labels: Sequence[str] = (),
    ) -> None:
        """Says more of a resource."""
        manual = trigger_mode == "manual" and not auto_init
        self.resources.append(
            Resource(workload, list(port_forwards), list(resource_deps), list(extra_pod_selectors), manual)
        )


FUNCTIONS = [
    name for name in vars(Tilt) if not name.startswith("_") and name != "evaluate" and callable(vars(Tilt)[name])
]


@cache
def _rendered(folder: Path) -> str:
    return _dumped(render(folder))


def _loaded(text: str) -> list[Manifest]:
    return [each for each in json.loads(text) if each]


def _dumped(objects: list[Manifest]) -> str:
    """JSON is YAML, and quick; as one list, because nobody but these functions reads it."""
    return json.dumps(objects)


def _check_encodable(value: object) -> None:
    if isinstance(value, dict):
        assert all(isinstance(key, str) for key in value), value
        for each in value.values():
            _check_encodable(each)
    elif isinstance(value, list):
        for each in value:
            _check_encodable(each)
    else:
        assert isinstance(value, str | int | bool), f"Tilt cannot encode {value!r}"
