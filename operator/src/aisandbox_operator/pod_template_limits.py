"""What runs may ask for of their pods: serves the setting TRAINER_POD_ALLOWED.

A run is created by whoever may create runs, or call the service; its pod could read what they may not, as another
service account, with another program or from other volumes. So an administrator names what is allowed. Owns the names
of the permissions, their defaults and what of a template each concerns. Must not know how a pod is made.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from aisandbox_crds import (
    FieldError,
    PodTemplate,
    TrainingRunSpec,
    camel_case,
    quantity,
    resource_errors,
    volume_kinds,
)

SETTING = "TRAINER_POD_ALLOWED"
_TEMPLATE = "podTemplate."
_RANGE = re.compile(r"([0-9]{1,10})(?:-([0-9]{1,10}))?")
_NAMED_BY: Mapping[str, str] = {
    "persistentVolumeClaim": "claimName",
    "configMap": "name",
    "secret": "secretName",
    "csi": "driver",
}
"""Kinds of volumes that refer to an object, and the field that names it."""
_OF_NEW_CLAIM = frozenset(("accessModes", "resources", "storageClassName", "volumeMode", "volumeAttributesClassName"))
"""What an ephemeral volume may say; the other fields choose a volume or data that exist, or are a provisioner's."""
EVERY_TAINT = "<every taint>"
_CONTROL_PLANE = tuple(f"node-role.kubernetes.io/{role}" for role in ("control-plane", "master", "etcd"))
RESERVED: Mapping[str, tuple[str, ...]] = {
    "priorityClasses": ("system-", "aisandbox-server"),
    "tolerations": (*_CONTROL_PLANE, "node.kubernetes.io/unschedulable", EVERY_TAINT),
    "nodeLabels": (*_CONTROL_PLANE, "node.kubernetes.io/exclude-"),
}
"""How the names begin that a pattern must name, at least up to their ``/``."""

RESERVED_DOMAINS = (
    "istio.io",
    "linkerd.io",
    "consul.hashicorp.com",
    "kuma.io",
    "openservicemesh.io",
    "cilium.io",
    "projectcalico.org",
    "spiffe.io",
    "azure.workload.identity",
    "aadpodidbinding",
    "iam.gke.io",
    "eks.amazonaws.com",
    "appmesh.k8s.aws",
)
"""Prefixes of labels, with their subdomains, that service meshes and identities go by: a pattern must name them.

A list of what is known, since installations label pods with domains of their own; labels without a prefix, by which
policies may go as well, were never kept out. Who needs more sets ``labels``.
"""
DEFAULT_MAXIMUM: Mapping[str, str] = {"cpu": "256", "memory": "1Ti"}
_POWERLESS = ("fsGroupChangePolicy",)
"""Fields of a securityContext that give nothing."""


@dataclass(frozen=True, slots=True)
class PodTemplateLimits:
    """Patterns as of file names (``*``, ``?``); an empty list allows nothing.

    What Kubernetes keeps for itself (RESERVED) is only covered by a pattern that begins as it does: ``*`` does not. The
    defaults allow what a run could ask for before there was a permission for it, except what gives it power.
    """

    images: tuple[str, ...] = ()
    """Images of the trainer. Who chooses it chooses a program that can write every run's files."""

    service_accounts: tuple[str, ...] = ()
    """Names of ServiceAccounts."""

    user_ids: tuple[str, ...] = ()
    """Users and groups: numbers and ranges, as 1000-1999, or *, which allows null and seLinuxOptions too."""

    volumes: tuple[str, ...] = ("emptyDir", "ephemeral", "persistentVolumeClaim/*", "configMap/*")
    """KIND, or KIND/NAME for a kind that names an object: persistentVolumeClaim/data-*, csi/DRIVER. Never the claim of
    the models: a run has its part of it.

    ``ephemeral`` is a new, empty volume of a class; ephemeral/FIELD is another field of its claim, as dataSource.
    """

    annotations: tuple[str, ...] = ("cluster-autoscaler.kubernetes.io/*", "karpenter.sh/*")
    """Keys of annotations. Others can add containers, secrets, networks or permissions, if a webhook acts on them."""

    image_pull_secrets: tuple[str, ...] = ("*",)
    """Names of Secrets that images are pulled with."""

    runtime_classes: tuple[str, ...] = ("*",)
    """Names of RuntimeClasses."""

    schedulers: tuple[str, ...] = ("*",)
    """Names of schedulers."""

    priority_classes: tuple[str, ...] = ("*",)
    """Names of PriorityClasses; those of the system and that of the servers only if they are named."""

    tolerations: tuple[str, ...] = ("*",)
    """Keys of the taints that may be tolerated, those of control planes only if they are named; every taint (without a
    key) as ``<every taint>``."""

    node_labels: tuple[str, ...] = ("*",)
    """Keys of nodeSelector and of what a node affinity asks for; control planes only if they are named."""

    labels: tuple[str, ...] = ("*",)
    """Keys of labels of the Job and its pods; those of RESERVED_DOMAINS only if they are named."""

    maximum: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_MAXIMUM))
    """The most of each resource that a run may request, or have as its limit; others have no maximum."""


def read_limits(data: object) -> PodTemplateLimits:
    """The default, with the lists of patterns that ``data`` replaces. Raises ValueError saying what is wrong."""
    known = {camel_case(each.name): each.name for each in fields(PodTemplateLimits)}
    if not isinstance(data, Mapping):
        raise ValueError("must be an object")
    chosen: dict[str, Any] = {}
    for key, patterns in data.items():
        if key not in known:
            raise ValueError(f"{key}: unknown; known: {', '.join(known)}")
        if key == "maximum":
            chosen[key] = _read_maximum(patterns)
            continue
        if not isinstance(patterns, list) or not all(isinstance(each, str) and each for each in patterns):
            raise ValueError(f"{key}: must be a list of patterns")
        wrong = [each for each in patterns if known[key] == "user_ids" and each != "*" and not _RANGE.fullmatch(each)]
        if wrong:
            raise ValueError(f"{key}: must be numbers, ranges as 1000-1999, or *, got {wrong[0]!r}")
        chosen[known[key]] = tuple(patterns)
    return replace(PodTemplateLimits(), **chosen)


def _read_maximum(data: object) -> Mapping[str, str]:
    if not isinstance(data, Mapping):
        raise ValueError('maximum: must be an object as {"memory": "64Gi"}')
    for error in resource_errors({"limits": data}):
        raise ValueError(f"maximum{error.field.removeprefix('resources.limits')}: {error.rule}")
    return {str(name): str(text) for name, text in data.items()}


def placement_not_allowed(spec: TrainingRunSpec, limits: PodTemplateLimits) -> Iterator[FieldError]:
    """What of a run's fields about its place the administrator does not allow: all but those of its template."""
    name = spec.priority_class_name
    yield from _check("priorityClassName", name, "priorityClasses", limits.priority_classes)
    for index, toleration in enumerate(spec.tolerations):
        key = str(toleration.get("key") or EVERY_TAINT)
        yield from _check(f"tolerations[{index}]", key, "tolerations", limits.tolerations)
    for key in spec.node_selector:
        yield from _check("nodeSelector", key, "nodeLabels", limits.node_labels)
    yield from _labels("labels", spec.labels, limits)
    for kind, entries in spec.resources.items():
        for resource, text in entries.items() if isinstance(entries, Mapping) else ():
            wanted, most = quantity(text), quantity(limits.maximum.get(resource))
            if wanted is not None and most is not None and wanted > most:
                rule = (
                    f"{text} is more than the administrator allows, {limits.maximum[resource]} (maximum in the "
                    f"operator's {SETTING})"
                )
                yield FieldError(f"resources.{kind}.{resource}", rule)


def not_allowed(
    template: PodTemplate | None, limits: PodTemplateLimits, models_claim: str = ""
) -> Iterator[FieldError]:
    """What of a run's template the administrator does not allow. ``models_claim``: that of all runs' files."""
    metadata, spec = (template.metadata, template.spec) if template is not None else (None, None)
    for key in metadata.annotations if metadata is not None else ():
        yield from _check(f"{_TEMPLATE}metadata.annotations", key, "annotations", limits.annotations)
    yield from _labels(f"{_TEMPLATE}metadata.labels", metadata.labels if metadata is not None else (), limits)
    if spec is None:
        return
    for key in _affinity_keys(spec.affinity):
        yield from _check(f"{_TEMPLATE}spec.affinity.nodeAffinity", key, "nodeLabels", limits.node_labels)
    for container in spec.containers:
        yield from _check(f"{_TEMPLATE}spec.containers[0].image", container.image, "images", limits.images)
    account = spec.service_account_name
    yield from _check(f"{_TEMPLATE}spec.serviceAccountName", account, "serviceAccounts", limits.service_accounts)
    yield from _check(
        f"{_TEMPLATE}spec.runtimeClassName", spec.runtime_class_name, "runtimeClasses", limits.runtime_classes
    )
    yield from _check(f"{_TEMPLATE}spec.schedulerName", spec.scheduler_name, "schedulers", limits.schedulers)
    for secret in spec.image_pull_secrets:
        name = str(secret.get("name"))
        yield from _check(f"{_TEMPLATE}spec.imagePullSecrets", name, "imagePullSecrets", limits.image_pull_secrets)
    for index, volume in enumerate(spec.volumes):
        for source in _sources(volume):
            place = f"{_TEMPLATE}spec.volumes[{index}]"
            if source == f"persistentVolumeClaim/{models_claim}":
                yield FieldError(place, f"{source!r} has the files of every run: a run has its own part of it")
            else:
                yield from _check(place, source, "volumes", limits.volumes)
    for key, value in _identities(spec.security_context):
        if not _is_identity_allowed(value, limits.user_ids):
            shown = "null" if value is None else str(value)
            yield _refusal(f"{_TEMPLATE}spec.securityContext.{key}", shown, "userIds", limits.user_ids)


def _check(place: str, value: str, key: str, patterns: tuple[str, ...]) -> Iterator[FieldError]:
    reserved = next((prefix for prefix in RESERVED.get(key, ()) if value.startswith(prefix)), "")
    start = reserved[: reserved.index("/") + 1] if "/" in reserved else reserved
    if value and not any(fnmatchcase(value, each) for each in patterns if each.startswith(start)):
        yield _refusal(place, value, key, patterns)


def _refusal(place: str, value: str, key: str, patterns: tuple[str, ...]) -> FieldError:
    allowed = ", ".join(patterns) if patterns else "none"
    rule = f"{value[:200]!r} is not allowed; the administrator allows {allowed} ({key} in the operator's {SETTING})"
    return FieldError(place, rule)


def _labels(place: str, keys: Iterable[str], limits: PodTemplateLimits) -> Iterator[FieldError]:
    """Keys of RESERVED_DOMAINS are covered by patterns with the domain only."""
    for key in keys:
        prefix = key.partition("/")[0]
        reserved = next((each for each in RESERVED_DOMAINS if f".{prefix}".endswith(f".{each}")), "")
        patterns = (each for each in limits.labels if each.partition("/")[0].endswith(reserved))
        if not any(fnmatchcase(key, each) for each in patterns):
            yield _refusal(place, key, "labels", limits.labels)


def _affinity_keys(affinity: object) -> Iterator[str]:
    """The keys of node labels that an affinity asks nodes to have, wherever they stand in it."""
    node = affinity.get("nodeAffinity") if isinstance(affinity, Mapping) else None
    pending: list[object] = [node]
    while pending:
        each = pending.pop()
        if isinstance(each, Mapping):
            if isinstance(key := each.get("key"), str) and each.get("operator") not in ("DoesNotExist", "NotIn"):
                yield key
            pending.extend(each.values())
        elif isinstance(each, list | tuple):
            pending.extend(each)


def _sources(volume: Mapping[str, object]) -> Iterator[str]:
    """What a volume gives access to: KIND or KIND/NAME; a projected volume that of each of its sources."""
    for kind in volume_kinds(volume) or ["emptyDir"]:
        source = volume.get(kind)
        inner = source.get("sources") if kind == "projected" and isinstance(source, Mapping) else None
        if isinstance(inner, list):
            for each in inner:
                if isinstance(each, Mapping):
                    yield from (_source_text(name, each[name], projected=True) for name in volume_kinds(each))
        else:
            yield _source_text(kind, source, projected=False)
            if kind == "ephemeral":
                yield from (f"{kind}/{field}" for field in _chosen_of_claim(source))


def _chosen_of_claim(source: object) -> Iterator[str]:
    """The fields of an ephemeral volume's claim beside those that every new volume may have."""
    claim = source.get("volumeClaimTemplate") if isinstance(source, Mapping) else None
    metadata, spec = (claim.get("metadata"), claim.get("spec")) if isinstance(claim, Mapping) else (None, None)
    if isinstance(metadata, Mapping):
        yield from (key for key, value in metadata.items() if key != "labels" and value)
    if isinstance(spec, Mapping):
        yield from (key for key, value in spec.items() if key not in _OF_NEW_CLAIM and value is not None)


def _source_text(kind: str, source: object, *, projected: bool) -> str:
    field = "name" if projected else _NAMED_BY.get(kind)
    name = source.get(field) if field is not None and isinstance(source, Mapping) else None
    return f"{kind}/{name}" if isinstance(name, str) else kind


def _identities(context: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """What says as whom the pod runs; null removes what the administrator's template or the operator says."""
    for key, value in context.items():
        if key not in _POWERLESS or value is None:
            yield from ((key, each) for each in (value if isinstance(value, list | tuple) else (value,)))


def _is_identity_allowed(value: object, ranges: tuple[str, ...]) -> bool:
    if "*" in ranges:
        return True
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    matches = [match for text in ranges if (match := _RANGE.fullmatch(text))]
    return any(int(match[1]) <= value <= int(match[2] or match[1]) for match in matches)
