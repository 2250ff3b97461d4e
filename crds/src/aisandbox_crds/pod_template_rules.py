"""The rules of ``podTemplate`` that the table of fields cannot state.

Owns what would take from the trainer what it needs (its volumes and paths, a user that is not root), and what is easily
mistyped. The rest of what is Kubernetes' own (affinity, a volume's source) is for the API server to check. Must not
know what an administrator allows.

Source: kubernetes.io, "Volumes", "Configure a Security Context for a Pod or Container", "Pod Security Standards".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from aisandbox_crds.errors import FieldError, short_repr
from aisandbox_crds.field_rules import object_errors, rule_of, value_errors
from aisandbox_crds.label_rules import reserved_label_errors
from aisandbox_crds.pod_template import LocalObject, PodSpec, PodTemplate, TrainerContainer

OWN_VOLUMES = ("models", "progress-token")
"""Volumes of every trainer's pod."""
OWN_PATHS = (
    *("/var/lib/aisandbox", "/var/run/secrets", "/run/secrets"),
    *("/app", "/opt/venv", "/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/etc"),
    *("/dev", "/proc", "/sys"),
)
"""Where the trainer finds its files and its token (``/var/run`` is a link), its program with all that this loads, and
the system. Nothing may hide them: a file in one of them, as ``/etc/ld.so.preload``, is another program."""

LARGEST_ID = 2**31 - 1
_IDS: Mapping[str, int] = {"runAsUser": 1, "runAsGroup": 0, "fsGroup": 0}
"""Fields of a securityContext that are ids, with the smallest: root is refused where it is the user."""
_OTHER_SECURITY = ("fsGroupChangePolicy", "supplementalGroups", "seLinuxOptions")
_VOLUME_NAME = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def pod_template_errors(template: PodTemplate, field: str) -> Iterator[FieldError]:
    """Every rule that the template breaks; ``field`` begins the names of its fields."""
    if template.metadata is not None:
        prefix = f"{field}.metadata."
        yield from object_errors(template.metadata, prefix)
        yield from reserved_label_errors(f"{prefix}labels", template.metadata.labels)
    if template.spec is not None:
        yield from object_errors(template.spec, f"{field}.spec.")
        yield from _spec_errors(template.spec, f"{field}.spec")


def volume_kinds(volume: Mapping[str, Any]) -> list[str]:
    """The sources of a volume; a valid one has one, or none, which means emptyDir."""
    return [key for key, value in volume.items() if key != "name" and value is not None]


def _spec_errors(spec: PodSpec, field: str) -> Iterator[FieldError]:
    (rule,) = (rule_of(each) for each in fields(LocalObject))
    for index, secret in enumerate(spec.image_pull_secrets):
        path = f"{field}.image_pull_secrets[{index}]"
        if secret.keys() != {"name"} or not secret["name"]:
            yield FieldError(path, f"must be {{name: SECRET}}, got {short_repr(secret)}")
        else:
            yield from value_errors(secret["name"], rule, f"{path}.name")
    yield from _security_errors(spec.security_context, f"{field}.security_context")
    yield from _volume_errors(spec.volumes, f"{field}.volumes")
    names = [volume.get("name") for volume in spec.volumes]
    for index, container in enumerate(spec.containers):
        path = f"{field}.containers[{index}]"
        yield from object_errors(container, f"{path}.")
        yield from _mount_errors(container, names, f"{path}.volume_mounts")


def _security_errors(context: Mapping[str, Any], field: str) -> Iterator[FieldError]:
    known = (*_IDS, *_OTHER_SECURITY)
    for name, value in context.items():
        if name not in known:
            yield FieldError(f"{field}.{name}"[:110], f"unknown field; known: {', '.join(known)}")
        elif name in _IDS and value is not None and not _is_id(value, _IDS[name]):
            rule = f"must be a whole number from {_IDS[name]} to {LARGEST_ID:,}, got {short_repr(value)}"
            yield FieldError(f"{field}.{name}", rule)
    groups = context.get("supplementalGroups")
    if groups is not None and not (isinstance(groups, list | tuple) and all(_is_id(group, 0) for group in groups)):
        yield FieldError(f"{field}.supplementalGroups", f"must be a list of ids of groups, got {short_repr(groups)}")


def _is_id(value: object, smallest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and smallest <= value <= LARGEST_ID


def _volume_errors(volumes: Sequence[Mapping[str, Any]], field: str) -> Iterator[FieldError]:
    counts = Counter(str(volume.get("name")) for volume in volumes)
    for index, volume in enumerate(volumes):
        name = volume.get("name")
        if not isinstance(name, str) or not _VOLUME_NAME.fullmatch(name):
            yield FieldError(f"{field}[{index}].name", f"must be a DNS label, got {short_repr(name)}")
        elif name in OWN_VOLUMES:
            yield FieldError(f"{field}[{index}].name", f"must not be {name!r}, a volume that every trainer has")
        elif counts[name] > 1:
            yield FieldError(f"{field}[{index}].name", f"{name!r} is the name of another volume too")
        if len(kinds := volume_kinds(volume)) > 1:
            yield FieldError(f"{field}[{index}]", f"must have one source, got {', '.join(kinds)[:80]}")


def _mount_errors(container: TrainerContainer, names: Sequence[object], field: str) -> Iterator[FieldError]:
    paths = Counter(str(mount.get("mountPath")).rstrip("/") for mount in container.volume_mounts)
    for index, mount in enumerate(container.volume_mounts):
        name, path = mount.get("name"), mount.get("mountPath")
        if not isinstance(name, str) or name not in names:
            yield FieldError(f"{field}[{index}].name", f"must be one of the template's volumes, got {short_repr(name)}")
        if not isinstance(path, str) or not path.startswith("/") or ".." in path.split("/") or ":" in path:
            rule = f"must be an absolute path without '..' and ':', got {short_repr(path)}"
            yield FieldError(f"{field}[{index}].mountPath", rule)
            continue
        if paths[path.rstrip("/")] > 1:
            yield FieldError(f"{field}[{index}].mountPath", f"{path!r} is where another volume is mounted")
        taken = _hidden(path)
        if taken:
            yield FieldError(f"{field}[{index}].mountPath", f"{path!r} would hide {taken}, which the trainer needs")


def _hidden(path: str) -> str:
    """The part of a trainer's files that a volume at the path would hide or lie in; empty: none."""
    plain = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    inside = plain.rstrip("/") + "/"
    return next((own for own in OWN_PATHS if f"{own}/".startswith(inside) or inside.startswith(f"{own}/")), "")
