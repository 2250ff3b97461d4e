"""What runs may ask for in their ``podTemplate``: serves the setting TRAINER_POD_ALLOWED.

A run is created by whoever may create runs, or call the service; its pod could read what they may not, as another
service account, with another program or from other volumes. So an administrator names what is allowed. Owns the names
of the permissions, their defaults and what of a template each concerns. Must not know how a pod is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase

from aisandbox_crds import FieldError, PodTemplate, camel_case, volume_kinds

SETTING = "TRAINER_POD_ALLOWED"
_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
_NAMED_BY: Mapping[str, str] = {
    "persistentVolumeClaim": "claimName",
    "configMap": "name",
    "secret": "secretName",
    "csi": "driver",
}
"""Kinds of volumes that refer to an object, and the field that names it."""


@dataclass(frozen=True, slots=True)
class PodAllowance:
    """Patterns as of file names (``*``, ``?``); an empty list allows nothing."""

    images: tuple[str, ...] = ()
    """Images of the trainer. Who chooses it chooses a program that can write every run's files."""

    service_accounts: tuple[str, ...] = ()
    """Names of ServiceAccounts."""

    user_ids: tuple[str, ...] = ()
    """Users and groups: numbers and ranges, as 1000-1999, or *."""

    volumes: tuple[str, ...] = ("emptyDir", "ephemeral", "persistentVolumeClaim/*", "configMap/*")
    """KIND, or KIND/NAME for a kind that names an object: persistentVolumeClaim/data-*, csi/DRIVER."""

    annotations: tuple[str, ...] = ("*",)
    """Keys of annotations."""

    image_pull_secrets: tuple[str, ...] = ("*",)
    """Names of Secrets that images are pulled with."""

    runtime_classes: tuple[str, ...] = ("*",)
    """Names of RuntimeClasses."""

    schedulers: tuple[str, ...] = ("*",)
    """Names of schedulers."""


def read_allowance(data: object) -> PodAllowance:
    """The default, with the lists of patterns that ``data`` replaces. Raises ValueError saying what is wrong."""
    known = {camel_case(field.name): field.name for field in fields(PodAllowance)}
    if not isinstance(data, Mapping):
        raise ValueError("must be an object")
    chosen: dict[str, tuple[str, ...]] = {}
    for key, patterns in data.items():
        if key not in known:
            raise ValueError(f"{key}: unknown; known: {', '.join(known)}")
        if not isinstance(patterns, list) or not all(isinstance(each, str) and each for each in patterns):
            raise ValueError(f"{key}: must be a list of patterns")
        wrong = [each for each in patterns if known[key] == "user_ids" and each != "*" and not _RANGE.fullmatch(each)]
        if wrong:
            raise ValueError(f"{key}: must be numbers, ranges as 1000-1999, or *, got {wrong[0]!r}")
        chosen[known[key]] = tuple(patterns)
    return replace(PodAllowance(), **chosen)


def not_allowed(template: PodTemplate | None, allowance: PodAllowance) -> Iterator[FieldError]:
    """What of a run's template the administrator does not allow."""
    metadata, spec = (template.metadata, template.spec) if template is not None else (None, None)
    for key in metadata.annotations if metadata is not None else ():
        yield from _check("metadata.annotations", key, "annotations", allowance.annotations)
    if spec is None:
        return
    for container in spec.containers:
        yield from _check("spec.containers[0].image", container.image, "images", allowance.images)
    account = spec.service_account_name
    yield from _check("spec.serviceAccountName", account, "serviceAccounts", allowance.service_accounts)
    yield from _check("spec.runtimeClassName", spec.runtime_class_name, "runtimeClasses", allowance.runtime_classes)
    yield from _check("spec.schedulerName", spec.scheduler_name, "schedulers", allowance.schedulers)
    for secret in spec.image_pull_secrets:
        name = str(secret.get("name"))
        yield from _check("spec.imagePullSecrets", name, "imagePullSecrets", allowance.image_pull_secrets)
    for index, volume in enumerate(spec.volumes):
        for source in _sources(volume):
            yield from _check(f"spec.volumes[{index}]", source, "volumes", allowance.volumes)
    for key, number in _ids(spec.security_context):
        if not _is_id_allowed(number, allowance.user_ids):
            yield _refusal(f"spec.securityContext.{key}", str(number), "userIds", allowance.user_ids)


def _check(field: str, value: str, key: str, patterns: tuple[str, ...]) -> Iterator[FieldError]:
    if value and not any(fnmatchcase(value, pattern) for pattern in patterns):
        yield _refusal(field, value, key, patterns)


def _refusal(field: str, value: str, key: str, patterns: tuple[str, ...]) -> FieldError:
    allowed = ", ".join(patterns) if patterns else "none"
    rule = f"{value[:200]!r} is not allowed; the administrator allows {allowed} ({key} in the operator's {SETTING})"
    return FieldError(f"podTemplate.{field}", rule)


def _sources(volume: Mapping[str, object]) -> Iterator[str]:
    """What a volume gives access to: KIND or KIND/NAME; a projected volume that of each of its sources."""
    for kind in volume_kinds(volume) or ["emptyDir"]:
        source = volume.get(kind)
        inner = source.get("sources") if kind == "projected" and isinstance(source, Mapping) else None
        if isinstance(inner, list):
            for each in inner:
                if isinstance(each, Mapping):
                    yield from (_named(name, each[name], projected=True) for name in volume_kinds(each))
        else:
            yield _named(kind, source, projected=False)


def _named(kind: str, source: object, *, projected: bool) -> str:
    field = "name" if projected else _NAMED_BY.get(kind)
    name = source.get(field) if field is not None and isinstance(source, Mapping) else None
    return f"{kind}/{name}" if isinstance(name, str) else kind


def _ids(context: Mapping[str, object]) -> Iterator[tuple[str, int]]:
    for key, value in context.items():
        for number in value if isinstance(value, list | tuple) else (value,):
            if isinstance(number, int) and not isinstance(number, bool):
                yield key, number


def _is_id_allowed(number: int, ranges: tuple[str, ...]) -> bool:
    for text in ranges:
        match = _RANGE.fullmatch(text)
        if text == "*" or (match and int(match[1]) <= number <= int(match[2] or match[1])):
            return True
    return False
