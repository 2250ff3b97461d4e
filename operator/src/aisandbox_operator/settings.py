"""The operator's settings, read once from environment variables.

Owns their names, defaults and ranges. Must not know what they are used for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aisandbox_crds import (
    MOST_BYTES,
    TRAINER_NUMBERS,
    InvalidRun,
    PodTemplate,
    pod_template_errors,
    pod_template_from_json,
    resource_errors,
)
from aisandbox_process import (
    InvalidSetting,
    choice,
    log_level,
    networks,
    port,
    positive_number,
    quoted,
    required,
    whole_number,
)

from aisandbox_operator.pod_template_limits import SETTING as POD_ALLOWED
from aisandbox_operator.pod_template_limits import PodTemplateLimits, read_limits

PULL_POLICIES = ("IfNotPresent", "Always", "Never")
ON_OFF = ("on", "off")
DEFAULT_RESOURCES: Mapping[str, Any] = {
    "requests": {"cpu": "1", "memory": "2Gi"},
    "limits": {"memory": "4Gi"},
}
"""No limit of processor time: a trainer that is throttled only trains more slowly."""
SECONDS: Mapping[str, tuple[int, int]] = {
    "termination_grace_seconds": (0, 86_400),
    "start_deadline_seconds": (1, 604_800),
    "stall_seconds": (1, 604_800),
    "resync_seconds": (1, 86_400),
}
"""The smallest and the largest value of each setting in seconds."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The operator's settings; each variable has the name of its field in capitals, but for POD_NAMESPACE."""

    namespace: str
    """POD_NAMESPACE: the namespace whose runs are trained. Required."""

    trainer_image: str
    """The image of trainers. Required."""

    trainer_image_pull_policy: str = "IfNotPresent"
    """When nodes pull it: one of PULL_POLICIES."""

    trainer_service_account: str = "aisandbox-trainer"
    """The service account of trainers' pods; it needs no permission."""

    models_claim: str = "aisandbox-models"
    """The PersistentVolumeClaim of checkpoints and models, which trainers mount."""

    progress_address: str | None = None
    """host:port of the TrainingProgressService that trainers report to. None: they report to no service."""

    progress_ca_secret: str = ""
    """The Secret whose ``ca.crt`` signed the certificate of ``progress_address``. Empty: that has no TLS."""

    progress_audience: str = "aisandbox-progress"
    """The audience of the token that trainers report with; the api-server has the same setting."""

    trainer_resources: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_RESOURCES))
    """Requests and limits of trainers, for runs without ``spec.resources``: JSON, as of a container."""

    trainer_pod_template: PodTemplate | None = None
    """What every trainer's pod has, for runs without it in ``spec.podTemplate``: JSON, in the form of that field."""

    trainer_pod_allowed: PodTemplateLimits = field(default_factory=PodTemplateLimits)
    """What a run may ask for in ``spec.podTemplate``: JSON, lists of patterns by the names of PodTemplateLimits."""

    termination_grace_seconds: int = 120
    """How long a trainer may take to write a checkpoint after SIGTERM, before Kubernetes kills it. 0 to a day."""

    start_deadline_seconds: int = 600
    """How long a pod may fail to start for a reason that only a person can remove, before the run fails. 1 s to a week.

    Ten minutes are enough to correct a name or to install a claim.
    """

    stall_seconds: int = 600
    """How long a running trainer may report no progress before the condition ProgressStalled is True. 1 s to a week."""

    resync_seconds: int = 300
    """Seconds between two resyncs. 1 s to a day."""

    workers: int = 8
    """How many runs are reconciled at the same time. 1 to 256."""

    metrics_port: int = 9090
    """The port of /metrics. 0 picks a free one."""

    probe_port: int = 8080
    """The port of /healthz and /readyz. 0 picks a free one."""

    log_level: str = "info"
    """debug, info, warning or error, for the operator and its trainers."""

    kube_context: str = ""
    """The context of the kubeconfig, outside a cluster. Empty: the current one."""

    grpc_direct: str = "on"
    """on or off, for trainers: whether they may use gRPC's private functions, which are faster."""

    trainer_numbers: Mapping[str, str] = field(default_factory=dict)
    """The variables of TRAINER_NUMBERS that are set, as they are passed to trainers; numbers above 0."""

    trainer_memory_bytes: int | None = None
    """The most memory that a trainer may take. None: the memory limit of its container, if it has one."""

    fast_update: str = "on"
    """on or off, for trainers: whether they may use updates that are faster than Stable-Baselines3's own."""

    simulator_diagnostics: str = "off"
    """on or off, for trainers: whether a run's status says what is at an address where no simulator answers."""

    simulator_networks: str = ""
    """The networks in which a trainer may reach simulators, as 10.0.0.0/8,fd00::/8. Empty: any."""

    kopf_patch: str = "on"
    """on or off: whether kopf is patched so that its watches survive every answer of the API server."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the variables; an empty one counts as unset. Raises InvalidSetting naming the variable."""
        default = cls(required(environ, "POD_NAMESPACE"), required(environ, "TRAINER_IMAGE"))

        def seconds(name: str) -> int:
            return whole_number(environ, name.upper(), getattr(default, name), *SECONDS[name])

        return replace(
            default,
            trainer_image_pull_policy=choice(
                environ, "TRAINER_IMAGE_PULL_POLICY", default.trainer_image_pull_policy, PULL_POLICIES
            ),
            trainer_service_account=environ.get("TRAINER_SERVICE_ACCOUNT") or default.trainer_service_account,
            models_claim=environ.get("MODELS_CLAIM") or default.models_claim,
            progress_address=environ.get("PROGRESS_ADDRESS") or default.progress_address,
            progress_ca_secret=environ.get("PROGRESS_CA_SECRET") or default.progress_ca_secret,
            progress_audience=environ.get("PROGRESS_AUDIENCE") or default.progress_audience,
            trainer_resources=_resources(environ, default.trainer_resources),
            trainer_pod_template=_pod_template(environ),
            trainer_pod_allowed=_pod_allowed(environ),
            termination_grace_seconds=seconds("termination_grace_seconds"),
            start_deadline_seconds=seconds("start_deadline_seconds"),
            stall_seconds=seconds("stall_seconds"),
            resync_seconds=seconds("resync_seconds"),
            workers=whole_number(environ, "WORKERS", default.workers, 1, 256),
            metrics_port=port(environ, "METRICS_PORT", default.metrics_port),
            probe_port=port(environ, "PROBE_PORT", default.probe_port),
            log_level=log_level(environ, default.log_level),
            kube_context=environ.get("KUBE_CONTEXT") or default.kube_context,
            grpc_direct=choice(environ, "GRPC_DIRECT", default.grpc_direct, ON_OFF),
            trainer_numbers=_trainer_numbers(environ),
            trainer_memory_bytes=_memory_bytes(environ),
            fast_update=choice(environ, "FAST_UPDATE", default.fast_update, ON_OFF),
            simulator_diagnostics=choice(environ, "SIMULATOR_DIAGNOSTICS", default.simulator_diagnostics, ON_OFF),
            simulator_networks=_networks(environ),
            kopf_patch=choice(environ, "KOPF_PATCH", default.kopf_patch, ON_OFF),
        )


def _networks(environ: Mapping[str, str]) -> str:
    networks(environ, "SIMULATOR_NETWORKS")
    return environ.get("SIMULATOR_NETWORKS") or ""


def _trainer_numbers(environ: Mapping[str, str]) -> Mapping[str, str]:
    given = {name: environ[name] for name in TRAINER_NUMBERS if environ.get(name)}
    for name in given:
        positive_number(given, name, 1)
    return given


def _memory_bytes(environ: Mapping[str, str]) -> int | None:
    given = environ.get("TRAINER_MEMORY_BYTES")
    return whole_number(environ, "TRAINER_MEMORY_BYTES", 1, 1, MOST_BYTES) if given else None


def _resources(environ: Mapping[str, str], default: Mapping[str, Any]) -> Mapping[str, Any]:
    data = _json_object(environ, "TRAINER_RESOURCES", json.dumps(DEFAULT_RESOURCES))
    if data is None:
        return default
    for error in resource_errors(data):
        raise InvalidSetting("TRAINER_RESOURCES", f"{error.field.removeprefix('resources.')}: {error.rule}")
    return data


def _pod_template(environ: Mapping[str, str]) -> PodTemplate | None:
    name = "TRAINER_POD_TEMPLATE"
    data = _json_object(environ, name, '{"metadata": {"annotations": {"team": "games"}}}')
    if data is None:
        return None
    try:
        template = pod_template_from_json(data, "template")
    except InvalidRun as error:
        raise InvalidSetting(name, str(error)) from error
    for problem in pod_template_errors(template, "template"):
        raise InvalidSetting(name, f"{problem.field.removeprefix('template.')}: {problem.rule}")
    return template


def _pod_allowed(environ: Mapping[str, str]) -> PodTemplateLimits:
    data = _json_object(environ, POD_ALLOWED, '{"images": ["registry.example.com/team/*"]}')
    try:
        return PodTemplateLimits() if data is None else read_limits(data)
    except ValueError as error:
        raise InvalidSetting(POD_ALLOWED, str(error)) from error


def _json_object(environ: Mapping[str, str], name: str, example: str) -> Mapping[str, Any] | None:
    """The variable as a JSON object; None if it is not set."""
    text = environ.get(name) or ""
    if not text:
        return None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise InvalidSetting(name, f"must be JSON such as {example}, got {quoted(text)}")
    return data
