"""The Job of a run, as a pure function of the run and the settings.

Owns what is retried and counted, what a Job was created from, and the names of labels and annotations. Deterministic,
so a second server-side apply changes nothing. Must not know what a trainer's container needs.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from aisandbox_crds import (
    API_VERSION,
    GROUP,
    KIND,
    RUN_LABEL,
    ExitCode,
    TrainingRunSpec,
    spec_for_trainer,
    spec_to_json,
)

from aisandbox_operator.pod_template import with_template
from aisandbox_operator.settings import Settings
from aisandbox_operator.trainer_pod import CONTAINER, Manifest, trainer_pod

OPERATOR = "aisandbox-operator"
"""The field manager of Jobs and of the operator's part of a status, and a label of Jobs."""
KEY_ENTRY = "key"
"""The entry of a run's Secret with the key that it signs checkpoints with."""
ACCEPT_UNSIGNED_ENTRY = "accept-unsigned"
"""The entry of a run's Secret that says whether it began without a key: its checkpoints may have no digest."""
DEFAULT_CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"
"""On a pod: the container that kubectl means if a person names none."""
FAILURES_BEFORE_ANNOTATION = f"{GROUP}/failures-before"
"""On a Job: the failures that earlier Jobs of the run have spent; written once, when the Job is created."""
ORIGIN_ANNOTATION = f"{GROUP}/created-from"
"""On a Job: digests of what it was created from; written once."""
RESUMED_ANNOTATION = f"{GROUP}/resumed-generation"
"""On a Job: the generation of the run for which the operator has last let it run."""

_ORIGIN = re.compile("template=([0-9a-f]{16}),spec=([0-9a-f]{16})")
KUEUE_PREFIX = "kueue.x-k8s.io/"
"""Labels of Kueue: a run may have them in its metadata too, where Kueue's pages put them for every kind."""


@dataclass(frozen=True, slots=True)
class JobOrigin:
    """Digests of what a Job was created from: ``template`` of its pod template, ``spec`` of the run's wishes for it."""

    template: str
    spec: str


@dataclass(frozen=True, slots=True)
class KeySource:
    """The Secret with the key that a run signs its checkpoints with.

    ``may_be_missing``: nobody knows whether there is one; without it, they are not signed.
    """

    secret: str
    may_be_missing: bool = False


def job_manifest(
    name: str,
    uid: str,
    spec: TrainingRunSpec,
    settings: Settings,
    failures_before: int,
    suspended: bool,
    run_labels: Mapping[str, str] | None = None,
    files_uid: str = "",
    generation: int = 0,
    key: KeySource | None = None,
) -> Manifest:
    """The Job of the run with this name and uid.

    ``failures_before``: what earlier Jobs of the run have spent of its backoff limit; the Job gets the rest.
    ``run_labels``: those of the run's metadata; the Job gets Kueue's of them. ``files_uid``: the uid that the run's
    files belong to, if that is another one. ``generation``: the run's. ``key``: None: checkpoints are not signed.
    """
    labels = {**wanted_labels(spec, run_labels or {}), **own_labels(name)}
    template = _template(name, files_uid or uid, spec, settings)
    origin = _origin(template, spec)  # without the key, which is no wish of the run or the administrator
    if key is not None:
        _add_key(template, key)
    job_spec: Manifest = {
        "parallelism": 1,
        "completions": 1,
        "suspend": suspended,
        "backoffLimit": max(spec.backoff_limit - failures_before, 0),
        "podReplacementPolicy": "Failed",  # the next trainer begins when the last one has ended
        "podFailurePolicy": {"rules": _failure_rules()},
        "template": template,
    }
    if spec.active_deadline_seconds is not None:
        job_spec["activeDeadlineSeconds"] = spec.active_deadline_seconds
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": name,
            "namespace": settings.namespace,
            "labels": labels,
            "annotations": {
                FAILURES_BEFORE_ANNOTATION: str(failures_before),
                ORIGIN_ANNOTATION: encode_origin(origin),
                **({} if suspended else resumed_annotations(generation)),
            },
            "ownerReferences": [_owner(name, uid)],
        },
        "spec": job_spec,
    }


def _add_key(template: Manifest, key: KeySource) -> None:
    def entry(name: str, optional: bool) -> Manifest:
        reference = {"name": key.secret, "key": name, **({"optional": True} if optional else {})}
        return {"valueFrom": {"secretKeyRef": reference}}

    variables = [
        {"name": "CHECKPOINT_KEY", **entry(KEY_ENTRY, key.may_be_missing)},
        {"name": "ACCEPT_UNSIGNED_CHECKPOINTS", **entry(ACCEPT_UNSIGNED_ENTRY, optional=True)},
    ]
    (container,) = (each for each in template["spec"]["containers"] if each["name"] == CONTAINER)
    container["env"] = [*container["env"], *variables]


def wanted_labels(spec: TrainingRunSpec, run_labels: Mapping[str, str]) -> dict[str, str]:
    """The labels that a run gives its Job: those of its spec, and Kueue's of its metadata that the spec lacks."""
    of_kueue = {key: value for key, value in run_labels.items() if key.startswith(KUEUE_PREFIX)}
    return {**of_kueue, **spec.labels}


def _template(name: str, files_uid: str, spec: TrainingRunSpec, settings: Settings) -> Manifest:
    templates = [each for each in (settings.trainer_pod_template, spec.pod_template) if each is not None]
    labels = {key: value for key, value in spec.labels.items() if not key.startswith(KUEUE_PREFIX)}
    metadata = {"labels": {**labels, **own_labels(name)}, "annotations": {DEFAULT_CONTAINER_ANNOTATION: CONTAINER}}
    pod: Manifest = {"metadata": metadata, "spec": trainer_pod(name, files_uid, spec, settings)}
    for template in templates:
        pod = with_template(pod, template)
    pod["metadata"]["labels"] |= own_labels(name)
    return pod


def job_origin(name: str, files_uid: str, spec: TrainingRunSpec, settings: Settings) -> JobOrigin:
    """What a Job that is created now is created from."""
    return _origin(_template(name, files_uid, spec, settings), spec)


def _origin(template: Manifest, spec: TrainingRunSpec) -> JobOrigin:
    whole = spec_to_json(replace(spec, suspend=False, cancel=False, ttl_seconds_after_finished=None))
    of_trainer = spec_to_json(spec_for_trainer(spec))
    of_pod = {key: value for key, value in whole.items() if of_trainer.get(key) != value}
    return JobOrigin(_digest(template), _digest(of_pod))


def encode_origin(origin: JobOrigin) -> str:
    """The value of ORIGIN_ANNOTATION."""
    return f"template={origin.template},spec={origin.spec}"


def decode_origin(text: str) -> JobOrigin | None:
    """What ORIGIN_ANNOTATION says; None if it is absent or says something else."""
    match = _ORIGIN.fullmatch(text)
    return JobOrigin(match.group(1), match.group(2)) if match else None


def resumed_annotations(generation: int) -> dict[str, str]:
    """What a Job gets when it is to run."""
    return {RESUMED_ANNOTATION: str(generation)}


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def own_labels(name: str) -> dict[str, str]:
    """The labels of every Job and pod of the run."""
    return {
        RUN_LABEL: name,
        "app.kubernetes.io/name": "aisandbox-trainer",
        "app.kubernetes.io/part-of": "aisandbox",
        "app.kubernetes.io/managed-by": OPERATOR,
    }


def _owner(name: str, uid: str) -> Manifest:
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": name,
        "uid": uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def _failure_rules() -> list[Manifest]:
    """The first rule that matches counts: disruptions are free, a permanent error fails the Job, a stop is free."""

    def exits(code: ExitCode) -> Manifest:
        return {"containerName": CONTAINER, "operator": "In", "values": [int(code)]}

    return [
        {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
        {"action": "FailJob", "onExitCodes": exits(ExitCode.PERMANENT)},
        {"action": "Ignore", "onExitCodes": exits(ExitCode.CANCELLED)},
    ]
