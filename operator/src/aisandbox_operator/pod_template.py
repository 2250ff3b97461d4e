"""A pod's manifest with what a ``podTemplate`` says: the administrator's first, then the run's.

Owns how the two are joined: texts and objects of the template replace, lists of volumes, mounts and secrets grow, null
in a securityContext removes. Must not know what may be said (:mod:`aisandbox_operator.pod_template_limits`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aisandbox_crds import PodSpec, PodTemplate, TrainerContainer

Manifest = dict[str, Any]


def with_template(pod: Manifest, template: PodTemplate) -> Manifest:
    """The pod, with ``metadata`` and ``spec``, changed as the template says; the argument stays as it is."""
    metadata, spec = dict(pod["metadata"]), dict(pod["spec"])
    if template.metadata is not None:
        metadata["labels"] = {**metadata.get("labels", {}), **template.metadata.labels}
        if template.metadata.annotations:
            metadata["annotations"] = {**metadata.get("annotations", {}), **template.metadata.annotations}
    if template.spec is not None:
        spec = _with_spec(spec, template.spec)
    return {"metadata": metadata, "spec": spec}


def _with_spec(pod: Manifest, spec: PodSpec) -> Manifest:
    replaced = {
        "serviceAccountName": spec.service_account_name,
        "runtimeClassName": spec.runtime_class_name,
        "schedulerName": spec.scheduler_name,
        "affinity": dict(spec.affinity),
        "topologySpreadConstraints": [dict(each) for each in spec.topology_spread_constraints],
    }
    grown = {"imagePullSecrets": spec.image_pull_secrets, "volumes": spec.volumes}
    return {
        **pod,
        **{key: value for key, value in replaced.items() if value},
        **{key: _appended(pod.get(key, []), more) for key, more in grown.items() if more},
        "securityContext": _without_null({**pod["securityContext"], **spec.security_context}),
        "containers": [_with_container(each, spec.containers) for each in pod["containers"]],
    }


def _with_container(container: Manifest, changes: tuple[TrainerContainer, ...]) -> Manifest:
    for change in changes:
        if change.name == container["name"]:
            mounts = _appended(container["volumeMounts"], change.volume_mounts)
            container = {**container, "volumeMounts": mounts, "image": change.image or container["image"]}
    return container


def _appended(before: list[Manifest], more: tuple[Mapping[str, Any], ...]) -> list[Manifest]:
    return [*before, *(dict(each) for each in more if each not in before)]


def _without_null(entries: Mapping[str, Any]) -> Manifest:
    return {key: value for key, value in entries.items() if value is not None}
