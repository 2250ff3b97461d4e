"""The operator's settings, read once from environment variables.

Owns their names, defaults and rules. Must not know what they are used for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from aisandbox_crds.scheduling import resource_errors
from aisandbox_process.environ import InvalidSetting, choice, log_level, port, required, shown, whole_number

PULL_POLICIES = ("IfNotPresent", "Always", "Never")
DEFAULT_RESOURCES: Mapping[str, Any] = {
    "requests": {"cpu": "1", "memory": "2Gi"},
    "limits": {"memory": "4Gi"},
}
"""No limit of processor time: a trainer that is throttled trains more slowly and nobody is better off."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the operator is told; the variables have the same names in capitals.

    ``namespace`` (POD_NAMESPACE): the one whose runs it has trained. ``trainer_image`` and ``models_claim`` are what
    trainers run and write to. ``progress_address``: host:port trainers report to, with a token for
    ``progress_audience``; None: nobody is told. ``trainer_resources``: for runs that name none.
    ``termination_grace_seconds``: for a trainer's checkpoint. ``start_deadline_seconds``: how long a pod may fail to
    start for a reason that does not cure itself. ``stall_seconds``: without progress, until ProgressStalled.
    ``resync_seconds``: between two looks at everything. ``workers``: reconciles at the same time. Port 0 picks a free
    one. ``kube_context``: of the kubeconfig, outside a cluster; empty: the current one.
    """

    namespace: str
    trainer_image: str
    trainer_image_pull_policy: str = "IfNotPresent"
    trainer_service_account: str = "aisandbox-trainer"
    models_claim: str = "aisandbox-models"
    progress_address: str | None = None
    progress_audience: str = "aisandbox-progress"
    trainer_resources: Mapping[str, Any] = field(default_factory=lambda: dict(DEFAULT_RESOURCES))
    termination_grace_seconds: int = 120
    start_deadline_seconds: int = 600
    stall_seconds: int = 600
    resync_seconds: int = 300
    workers: int = 8
    metrics_port: int = 9090
    probe_port: int = 8080
    log_level: str = "info"
    kube_context: str = ""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Settings:
        """Reads the variables; an empty one counts as unset. Raises InvalidSetting naming the variable."""
        default = cls(required(environ, "POD_NAMESPACE"), required(environ, "TRAINER_IMAGE"))
        return replace(
            default,
            trainer_image_pull_policy=choice(
                environ, "TRAINER_IMAGE_PULL_POLICY", default.trainer_image_pull_policy, PULL_POLICIES
            ),
            trainer_service_account=environ.get("TRAINER_SERVICE_ACCOUNT") or default.trainer_service_account,
            models_claim=environ.get("MODELS_CLAIM") or default.models_claim,
            progress_address=environ.get("PROGRESS_ADDRESS") or default.progress_address,
            progress_audience=environ.get("PROGRESS_AUDIENCE") or default.progress_audience,
            trainer_resources=_resources(environ, default.trainer_resources),
            termination_grace_seconds=whole_number(
                environ, "TERMINATION_GRACE_SECONDS", default.termination_grace_seconds, 0, 86_400
            ),
            start_deadline_seconds=whole_number(
                environ, "START_DEADLINE_SECONDS", default.start_deadline_seconds, 1, 604_800
            ),
            stall_seconds=whole_number(environ, "STALL_SECONDS", default.stall_seconds, 1, 604_800),
            resync_seconds=whole_number(environ, "RESYNC_SECONDS", default.resync_seconds, 1, 86_400),
            workers=whole_number(environ, "WORKERS", default.workers, 1, 256),
            metrics_port=port(environ, "METRICS_PORT", default.metrics_port),
            probe_port=port(environ, "PROBE_PORT", default.probe_port),
            log_level=log_level(environ, default.log_level),
            kube_context=environ.get("KUBE_CONTEXT") or default.kube_context,
        )


def _resources(environ: Mapping[str, str], default: Mapping[str, Any]) -> Mapping[str, Any]:
    text = environ.get("TRAINER_RESOURCES") or ""
    if not text:
        return default
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        example = json.dumps(DEFAULT_RESOURCES)
        raise InvalidSetting("TRAINER_RESOURCES", f"must be JSON such as {example}, got {shown(text)}")
    for error in resource_errors(data):
        raise InvalidSetting("TRAINER_RESOURCES", f"{error.field.removeprefix('resources.')}: {error.rule}")
    return data
