"""The JSON form of a TrainingRun: camelCase keys, as in the Kubernetes resource and in ``trainingrun.json``.

Translates between that form and the dataclasses of this package, by the types of their fields. Checks types and names
only; whether values make sense is for :mod:`aisandbox_crds.validation`. A spec with unknown keys is refused (a
misspelt field would be ignored without notice); unknown keys of a status or of the metadata, and conditions of an
unknown type, are ignored, since their writer may be newer than their reader.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from aisandbox_crds.conditions import Condition, ConditionType
from aisandbox_crds.errors import FieldError, InvalidRun, short_repr
from aisandbox_crds.pod_template import PodTemplate
from aisandbox_crds.spec import (
    Environment,
    FakeEnvironment,
    GrpcEnvironment,
    GymnasiumEnvironment,
    PoolEnvironment,
    TrainingRunSpec,
)
from aisandbox_crds.status import TrainingRunStatus
from aisandbox_crds.trainingrun import API_VERSION, KIND, TrainingRun

ENVIRONMENT_KINDS: Mapping[str, type[Environment]] = {
    "grpc": GrpcEnvironment,
    "pool": PoolEnvironment,
    "gymnasium": GymnasiumEnvironment,
    "fake": FakeEnvironment,
}
MAX_DEPTH = 16
"""How deep kwargs and options may be nested."""

T = TypeVar("T")


def spec_to_json(spec: TrainingRunSpec) -> dict[str, Any]:
    """The spec as JSON values, without fields that have their default; the environment is always written."""
    return to_json(spec)


def spec_from_json(data: object) -> TrainingRunSpec:
    """The inverse of :func:`spec_to_json`. Raises InvalidRun naming every unknown, missing or mistyped field."""
    return from_json(TrainingRunSpec, data, "spec")


def pod_template_from_json(data: object, path: str) -> PodTemplate:
    """A template as Kubernetes writes it; ``path`` begins the fields in errors. Raises InvalidRun."""
    return from_json(PodTemplate, data, path)


def status_to_json(status: TrainingRunStatus) -> dict[str, Any]:
    """The status as JSON values, without defaults and numbers that are not finite; the phase is always written."""
    return {"phase": status.phase.value, **to_json(status)}


def status_from_json(data: object) -> TrainingRunStatus:
    """The inverse of :func:`status_to_json`; ignores unknown keys and types of conditions. Raises InvalidRun."""
    return from_json(TrainingRunStatus, data, "status", ignore_unknown=True)


def run_to_json(run: TrainingRun) -> dict[str, Any]:
    """The whole resource: apiVersion, kind, metadata, spec, status."""
    metadata: dict[str, Any] = {"name": run.name}
    if run.uid:
        metadata["uid"] = run.uid
    if run.creation_time:
        metadata["creationTimestamp"] = run.creation_time
    if run.annotations:
        metadata["annotations"] = dict(run.annotations)
    if run.generation:
        metadata["generation"] = run.generation
    if run.resource_version:
        metadata["resourceVersion"] = run.resource_version
    if run.deletion_time:
        metadata["deletionTimestamp"] = run.deletion_time
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": metadata,
        "spec": spec_to_json(run.spec),
        "status": status_to_json(run.status),
    }


def run_from_json(data: object) -> TrainingRun:
    """The inverse of :func:`run_to_json`; an absent status is a new run's. Raises InvalidRun."""
    reader = _Reader(ignore_unknown=True)
    resource = reader.mapping(data, "")
    reader.expect(resource.get("apiVersion") == API_VERSION, "apiVersion", f"must be {API_VERSION}")
    reader.expect(resource.get("kind") == KIND, "kind", f"must be {KIND}")
    metadata = reader.mapping(resource.get("metadata", {}), "metadata")
    name = reader.value(str, metadata.get("name"), "metadata.name")
    uid = reader.value(str, metadata.get("uid") or "", "metadata.uid")
    created = reader.value(str, metadata.get("creationTimestamp") or "", "metadata.creationTimestamp")
    annotations = reader.value(Mapping[str, str], metadata.get("annotations") or {}, "metadata.annotations")
    generation = reader.value(int, metadata.get("generation") or 0, "metadata.generation")
    version = reader.value(str, metadata.get("resourceVersion") or "", "metadata.resourceVersion")
    deleted = reader.value(str, metadata.get("deletionTimestamp") or "", "metadata.deletionTimestamp")
    status = reader.value(TrainingRunStatus, resource.get("status") or {}, "status")
    reader.ignore_unknown = False
    spec = reader.value(TrainingRunSpec, resource.get("spec"), "spec")
    reader.finish()
    return TrainingRun(name, spec, status, uid, created, annotations, generation, version, deleted)


def to_json(value: Any) -> dict[str, Any]:
    """A dataclass of this package as JSON values, without None, defaults and numbers that are not finite."""
    result: dict[str, Any] = {}
    for field in fields(value):
        item = getattr(value, field.name)
        if field.name == "environment":
            result["environment"] = _environment_to_json(item)
        elif item is not None and not _is_default(field, item) and _is_finite(item):
            result[camel_case(field.name)] = _item_to_json(item)
    return result


def from_json(cls: type[T], data: object, path: str, *, ignore_unknown: bool = False) -> T:
    """A dataclass of this package from JSON values; ``path`` begins the fields in errors. Raises InvalidRun."""
    reader = _Reader(ignore_unknown)
    result = reader.value(cls, data, path)
    reader.finish()
    return result  # type: ignore[no-any-return]


def camel_case(name: str) -> str:
    """``total_timesteps`` -> ``totalTimesteps``."""
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def json_problem(value: object, depth: int = 0) -> str:
    """Why the value cannot be sent as JSON within the bounds, as a phrase; empty if it can."""
    if depth > MAX_DEPTH:
        return f"is nested more than {MAX_DEPTH} levels deep"
    if value is None or isinstance(value, bool | int | str):
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"has {value}, which cannot be written as JSON"
    if isinstance(value, list | tuple):
        return next(filter(None, (json_problem(item, depth + 1) for item in value)), "")
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            return "has a key that is not text"
        return next(filter(None, (json_problem(item, depth + 1) for item in value.values())), "")
    return f"has {short_repr(value)}, which cannot be written as JSON"


def _is_default(field: Field[Any], item: object) -> bool:
    if field.default is not MISSING:
        return bool(item == field.default)
    return field.default_factory is not MISSING and bool(item == field.default_factory())


def _is_finite(item: object) -> bool:
    return not isinstance(item, float) or math.isfinite(item)


def _item_to_json(item: Any) -> Any:
    if is_dataclass(item):
        return to_json(item)
    if isinstance(item, StrEnum):
        return item.value
    if isinstance(item, tuple):
        return [_item_to_json(entry) for entry in item]
    return _plain(item)


def _plain(item: Any) -> Any:
    """A copy in dicts and lists, so that a record does not change with its source and compares equal after a trip."""
    if isinstance(item, Mapping):
        return {key: _plain(entry) for key, entry in item.items()}
    if isinstance(item, list | tuple):
        return [_plain(entry) for entry in item]
    return item


def _environment_to_json(environment: Environment) -> dict[str, Any]:
    kind = next(kind for kind, cls in ENVIRONMENT_KINDS.items() if isinstance(environment, cls))
    return {kind: to_json(environment)}


def _is_of_unknown_type(condition: object) -> bool:
    kind = condition.get("type") if isinstance(condition, Mapping) else None
    return isinstance(kind, str) and kind not in [known.value for known in ConditionType]


@cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls)


class _Reader:
    """Reads values by type and collects errors; a value that is returned after an error does not reach a caller."""

    def __init__(self, ignore_unknown: bool) -> None:
        self.ignore_unknown = ignore_unknown
        self.errors: list[FieldError] = []

    def finish(self) -> None:
        if self.errors:
            raise InvalidRun(self.errors)

    def expect(self, holds: bool, path: str, rule: str) -> None:
        if not holds:
            self.errors.append(FieldError(path, rule))

    def mapping(self, data: object, path: str) -> Mapping[str, Any]:
        if isinstance(data, Mapping) and all(isinstance(key, str) for key in data):
            return data
        self.expect(False, path or "run", f"must be an object, got {short_repr(data)}")
        return {}

    def value(self, kind: Any, data: object, path: str) -> Any:
        if kind == Environment:
            return self._environment(data, path)
        if get_origin(kind) in (Union, types.UnionType):
            (kind,) = (option for option in get_args(kind) if option is not types.NoneType)
        if get_origin(kind) is Mapping:
            return self._map(get_args(kind)[1], data, path)
        if get_origin(kind) is tuple:
            return self._sequence(get_args(kind)[0], data, path)
        if is_dataclass(kind):
            return self._object(kind, data, path)  # type: ignore[arg-type]
        if issubclass(kind, StrEnum):
            allowed = [member.value for member in kind]
            self.expect(data in allowed, path, f"must be one of {', '.join(allowed)}, got {short_repr(data)}")
            return kind(data) if data in allowed else None
        return self._scalar(kind, data, path)

    def _scalar(self, kind: type, data: object, path: str) -> Any:
        if kind is float and isinstance(data, int) and not isinstance(data, bool) and abs(data) < 2**1023:
            data = float(data)
        name = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}[kind]
        fits = isinstance(data, kind) and isinstance(data, bool) == (kind is bool) and _is_finite(data)
        self.expect(fits, path, f"must be {name}, got {short_repr(data)}")
        return data

    def _map(self, kind: Any, data: object, path: str) -> Mapping[str, Any]:
        entries = self.mapping(data, path)
        if kind is str:
            return {key: self.value(str, entry, f"{path}.{key}") for key, entry in entries.items()}
        problem = json_problem(entries)
        self.expect(not problem, path, problem)
        return {} if problem else _plain(entries)

    def _sequence(self, kind: Any, data: object, path: str) -> tuple[Any, ...]:
        self.expect(isinstance(data, list | tuple), path, f"must be a list, got {short_repr(data)}")
        entries = data if isinstance(data, list | tuple) else ()
        if kind is Condition and self.ignore_unknown:
            entries = [entry for entry in entries if not _is_of_unknown_type(entry)]
        return tuple(self.value(kind, entry, f"{path}[{index}]") for index, entry in enumerate(entries))

    def _object(self, cls: type, data: object, path: str) -> Any:
        entries = {key: entry for key, entry in self.mapping(data, path).items() if entry is not None}
        known = {camel_case(field.name): field for field in fields(cls)}
        if not self.ignore_unknown:
            for key in entries.keys() - known.keys():
                self.expect(False, f"{path}.{key}", f"unknown field; known: {', '.join(known) or 'none'}")
        arguments = {}
        for key, field in known.items():
            if key in entries:
                arguments[field.name] = self.value(_hints(cls)[field.name], entries[key], f"{path}.{key}")
            elif field.default is MISSING and field.default_factory is MISSING:
                self.expect(False, f"{path}.{key}", "is required")
        return None if self.errors else cls(**arguments)

    def _environment(self, data: object, path: str) -> Any:
        entries = {key: entry for key, entry in self.mapping(data, path).items() if entry is not None}
        if len(entries) == 1 and entries.keys() <= ENVIRONMENT_KINDS.keys():
            ((kind, entry),) = entries.items()
            return self.value(ENVIRONMENT_KINDS[kind], entry, f"{path}.{kind}")
        self.expect(
            False, path, f"must have exactly one of {', '.join(ENVIRONMENT_KINDS)}, got {short_repr(list(entries))}"
        )
        return None
