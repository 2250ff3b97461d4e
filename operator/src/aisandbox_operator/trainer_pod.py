"""The pod of a run's trainer, as a pure function of the run and the settings.

Owns pod security "restricted", no token of the API server, the run's own part of the volume, and a grace period for a
checkpoint. Must not know of Jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from aisandbox_crds import TrainerStart, TrainingRunSpec, seed_of, spec_for_trainer

from aisandbox_operator.settings import Settings

Manifest = dict[str, Any]

CONTAINER = "trainer"
PREPARE_CONTAINER = "prepare"
"""The init container, which makes the folders that the trainer mounts."""
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

_RESTRICTED: Manifest = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def trainer_pod(name: str, uid: str, spec: TrainingRunSpec, settings: Settings) -> Manifest:
    """The pod's spec, before templates are applied. ``uid``: the one that the run's files belong to."""
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
    """What of the volume the trainer has: its run's folder and, read-only, what the run reads.

    aisandbox_model_store.prepare makes both; a test holds its names and these together.
    """
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
