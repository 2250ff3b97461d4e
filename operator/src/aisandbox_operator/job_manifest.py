"""The Job of a run, as a pure function of the run and the settings.

Owns what a trainer's pod looks like: pod security "restricted", no token of the API server, the run's own part of the
volume, a grace period for a checkpoint, and the names of labels and annotations. Deterministic, so a second server-side
apply changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from aisandbox_crds import (
    API_VERSION,
    GROUP,
    KIND,
    RUN_LABEL,
    ExitCode,
    TrainerStart,
    TrainingRunSpec,
    seed_of,
    spec_for_trainer,
    spec_to_json,
)

from aisandbox_operator.pod_template import with_template
from aisandbox_operator.settings import Settings

OPERATOR = "aisandbox-operator"
"""The field manager of Jobs and of the operator's part of a status, and a label of Jobs."""
CONTAINER = "trainer"
PREPARE_CONTAINER = "prepare"
"""The init container, which makes the folders that the trainer mounts."""
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

USER = 65532
MODELS_PATH = Path("/var/lib/aisandbox")
SECRETS_PATH = PurePosixPath("/var/run/secrets/aisandbox")
_CA_FILE = "service-ca.crt"
SCRATCH_PATH = "/dev/shm"  # noqa: S108 - of the pod's own
"""Where the trainer may write beside the volume: every pod has it, in memory. (A pod with a volume emptyDir would keep
``kubectl drain`` and the cluster autoscaler from emptying its node.)"""
TERMINATION_LOG = Path("/dev/termination-log")
TOKEN_SECONDS = 3600
_MEMORY = "TRAINER_MEMORY_BYTES"
_PLAIN_RESOURCES = frozenset(("cpu", "memory", "ephemeral-storage"))
_ORIGIN = re.compile("template=([0-9a-f]{16}),spec=([0-9a-f]{16})")
KUEUE_PREFIX = "kueue.x-k8s.io/"
"""Labels of Kueue: a run may have them in its metadata too, where Kueue's pages put them for every kind."""

Manifest = dict[str, Any]

_RESTRICTED: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


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
    pod: Manifest = {"metadata": metadata, "spec": _pod(name, files_uid, spec, settings)}
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


def _pod(name: str, uid: str, spec: TrainingRunSpec, settings: Settings) -> Manifest:
    pod: Manifest = {
        "restartPolicy": "Never",
        "serviceAccountName": settings.trainer_service_account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": settings.termination_grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_prepare_container(name, uid, spec, settings)],
        "containers": [_container(name, uid, spec, settings)],
        "volumes": _volumes(settings),
    }
    if spec.node_selector:
        pod["nodeSelector"] = dict(spec.node_selector)
    if spec.tolerations:
        pod["tolerations"] = [dict(toleration) for toleration in spec.tolerations]
    if spec.priority_class_name:
        pod["priorityClassName"] = spec.priority_class_name
    return pod


def _container(name: str, uid: str, spec: TrainingRunSpec, settings: Settings) -> Manifest:
    resources = dict(spec.resources or settings.trainer_resources)
    return {
        "name": CONTAINER,
        "image": settings.trainer_image,
        "imagePullPolicy": settings.trainer_image_pull_policy,
        "env": [
            *(
                {"name": variable, "value": value.replace("$", "$$")}  # the kubelet would expand $(NAME)
                for variable, value in _environment(name, uid, spec, settings).items()
            ),
            *_memory_bound(resources, settings),
        ],
        "resources": resources,
        "securityContext": dict(_RESTRICTED),
        "terminationMessagePath": str(TERMINATION_LOG),
        # The last lines of a trainer that crashed, if it could leave no termination message.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            *_run_mounts(name, spec),
            {"name": "progress-token", "mountPath": str(SECRETS_PATH), "readOnly": True},
        ],
    }


def _prepare_container(name: str, uid: str, spec: TrainingRunSpec, settings: Settings) -> Manifest:
    """Has the whole volume, and makes the folders that the trainer mounts. It runs no code of the run."""
    start, patience = spec.start_from, settings.trainer_numbers.get("EARLIER_RUN_PATIENCE_SECONDS")
    variables = {
        "RUN_ID": name,
        "RUN_UID": uid,
        "MODELS_DIR": str(MODELS_PATH),
        "EARLIER_RUN_PATIENCE_SECONDS": patience,
        "START_FROM_RUN": start.run if start is not None else "",
        "START_FROM_ZIP": start.zip.replace("$", "$$") if start is not None else "",
        "DEMONSTRATIONS": spec.demonstrations.file.replace("$", "$$") if spec.demonstrations is not None else "",
    }
    # No more than the trainer has, which begins when this has ended: the pod needs nothing beside.
    resources = {
        kind: {key: value for key, value in entries.items() if key in ("cpu", "memory")}
        for kind, entries in (spec.resources or settings.trainer_resources).items()
    }
    return {
        "name": PREPARE_CONTAINER,
        "image": _administrators_image(settings),
        "imagePullPolicy": settings.trainer_image_pull_policy,
        "command": ["python", "-P", "-m", "aisandbox_model_store.prepare"],
        "env": [{"name": key, "value": value} for key, value in variables.items() if value],
        "resources": resources,
        "securityContext": dict(_RESTRICTED),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "models", "mountPath": str(MODELS_PATH)}],
    }


def _administrators_image(settings: Settings) -> str:
    """The trainer's image, without what the run says: one that the run names would have the whole volume."""
    template = settings.trainer_pod_template
    containers = template.spec.containers if template is not None and template.spec is not None else ()
    named = [each.image for each in containers if each.name == CONTAINER and each.image]
    return named[-1] if named else settings.trainer_image


def _run_mounts(name: str, spec: TrainingRunSpec) -> list[Manifest]:
    """What of the volume the trainer has: its run's folder and, read-only, what the run reads."""
    mounts: list[Manifest] = [
        {"name": "models", "mountPath": str(MODELS_PATH / "runs" / name), "subPath": f"runs/{name}"}
    ]
    if (start := spec.start_from) is not None:
        source = MODELS_PATH / "runs" / start.run if start.run else MODELS_PATH / PurePosixPath(start.zip)
        mounts.append(_read_only(source, name))
    if (demonstrations := spec.demonstrations) is not None:
        mounts.append(_read_only(MODELS_PATH / PurePosixPath(demonstrations.file), f"{name}.demonstrations"))
    return mounts


def _read_only(path: Path, link: str) -> Manifest:
    return {"name": "models", "mountPath": str(path), "subPath": f"runs/.sources/{link}", "readOnly": True}


def _environment(name: str, uid: str, spec: TrainingRunSpec, settings: Settings) -> Mapping[str, str]:
    seed = seed_of(uid) if spec.seed is None else spec.seed
    start = TrainerStart(
        run_id=name,
        run_uid=uid,
        attempt=None,
        spec=replace(spec_for_trainer(spec), seed=seed),
        models_dir=MODELS_PATH,
        checkpoint_dir=MODELS_PATH,
        progress_address=settings.progress_address,
        progress_token_file=Path(SECRETS_PATH / "progress-token"),
        progress_ca_file=Path(SECRETS_PATH / _CA_FILE) if settings.progress_ca_secret else None,
        termination_message_path=TERMINATION_LOG,
        log_level=settings.log_level,
    )
    bounds = {"STOP_GRACE_SECONDS": str(settings.termination_grace_seconds)}
    if settings.trainer_memory_bytes is not None:
        bounds[_MEMORY] = str(settings.trainer_memory_bytes)
    switches = {"GRPC_DIRECT": settings.grpc_direct, "FAST_UPDATE": settings.fast_update}
    simulators = {"SIMULATOR_DIAGNOSTICS": settings.simulator_diagnostics}
    if settings.simulator_networks:
        simulators["SIMULATOR_NETWORKS"] = settings.simulator_networks
    return {
        **start.to_environ(),
        **bounds,
        **simulators,
        **settings.trainer_numbers,
        **{variable: value for variable, value in switches.items() if value != "on"},
        "HOME": SCRATCH_PATH,
        "TMPDIR": SCRATCH_PATH,
    }


def _memory_bound(resources: Mapping[str, Any], settings: Settings) -> list[Manifest]:
    """The trainer's bound is the memory limit of its container, as the kubelet reads it, if nothing else is set.

    Not with a GPU: its driver reserves private memory that counts towards the trainer's bound and is never used.
    """
    limits = resources.get("limits") or {}
    if settings.trainer_memory_bytes is not None or "memory" not in limits or not _PLAIN_RESOURCES.issuperset(limits):
        return []
    source = {"containerName": CONTAINER, "resource": "limits.memory", "divisor": "1"}
    return [{"name": _MEMORY, "valueFrom": {"resourceFieldRef": source}}]


def _volumes(settings: Settings) -> list[Manifest]:
    token = {"path": "progress-token", "audience": settings.progress_audience, "expirationSeconds": TOKEN_SECONDS}
    sources: list[Manifest] = [{"serviceAccountToken": token}]
    if settings.progress_ca_secret:  # and not the key beside it
        items = [{"key": "ca.crt", "path": _CA_FILE}]
        sources.append({"secret": {"name": settings.progress_ca_secret, "items": items}})
    return [
        {"name": "models", "persistentVolumeClaim": {"claimName": settings.models_claim}},
        {"name": "progress-token", "projected": {"sources": sources}},
    ]
