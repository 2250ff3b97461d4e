"""Whether the service may do what it needs: it asks the cluster, instead of finding out when a trainer reports.

Owns the list of what is needed beside reading runs, without which the service does not start, and what does not work
if a permission is missing. Must not know how health is reported.

Source: kubernetes.io, "Authorization Overview", SelfSubjectAccessReview.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import structlog
from aisandbox_crds import GROUP
from aisandbox_kubernetes import Client

from aisandbox_api.background_tasks import RepeatedTask
from aisandbox_api.errors import ApiError
from aisandbox_api.kubernetes.call_errors import api_errors
from aisandbox_api.kubernetes.metrics import ClusterMetrics

log = structlog.get_logger()

PATH = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
CHECK_SECONDS = 60.0
MISSING_CHECK_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class RequiredPermission:
    """A verb on a resource; ``is_clusters``: in no namespace. ``without`` says what fails without it."""

    verb: str
    group: str
    resource: str
    without: str
    is_clusters: bool = False

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{f'.{self.group}' if self.group else ''}"


_REPORTS = "trainers cannot report progress"
NEEDED = (
    RequiredPermission("create", "authentication.k8s.io", "tokenreviews", _REPORTS, is_clusters=True),
    RequiredPermission("get", "", "pods", _REPORTS),
    RequiredPermission("patch", GROUP, "trainingruns/status", "progress cannot be saved"),
    RequiredPermission("create", GROUP, "trainingruns", "runs cannot be started"),
    RequiredPermission("patch", GROUP, "trainingruns", "runs cannot be cancelled, suspended and resumed"),
)

FOR_CALLERS = RequiredPermission(
    "create", "authorization.k8s.io", "subjectaccessreviews", "nobody can be told what they may do", is_clusters=True
)
"""Needed with AUTH=kubernetes."""


class PermissionChecks:
    """Asks between :meth:`start` and :meth:`close`. For one event loop. ``needed``: the permissions."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        metrics: ClusterMetrics,
        check_seconds: float = CHECK_SECONDS,
        missing_check_seconds: float = MISSING_CHECK_SECONDS,
        needed: tuple[RequiredPermission, ...] = NEEDED,
    ) -> None:
        self._needed = needed
        self._client = client
        self._namespace = namespace
        self._metrics = metrics
        self._missing: tuple[RequiredPermission, ...] = ()
        self._checks = RepeatedTask(
            self._check, lambda: missing_check_seconds if self._missing else check_seconds, "check-required-permissions"
        )

    @property
    def problem(self) -> str:
        """What is missing and what follows, in words; empty if nothing is."""
        if not self._missing:
            return ""
        permissions = "; ".join(f"{permission}: {permission.without}" for permission in self._missing)
        return (
            f"this service account lacks permissions ({permissions}). Are the RoleBinding aisandbox-api, and the "
            f"ClusterRoleBinding of the token review, bound to the service account of namespace {self._namespace!r}?"
        )

    async def start(self) -> None:
        """Asks once, then again and again in the background."""
        await self._checks.start()

    async def close(self) -> None:
        """Stops asking."""
        await self._checks.close()

    async def _check(self) -> None:
        """What cannot be asked leaves the answer of before."""
        try:
            missing = tuple([permission for permission in self._needed if not await self._may(permission)])
        except ApiError as error:
            log.info("own permissions cannot be checked", why=str(error)[:300])
            return
        for permission in self._needed:
            self._metrics.observe_permission(permission.verb, permission.resource, permission in missing)
        if missing == self._missing:
            return
        self._missing = missing
        if missing:
            log.error("permissions are missing", problem=self.problem)
        else:
            log.info("permissions are complete")

    async def _may(self, permission: RequiredPermission) -> bool:
        resource, _, subresource = permission.resource.partition("/")
        attributes: Mapping[str, str] = {
            "verb": permission.verb,
            "group": permission.group,
            "resource": resource,
            **({"subresource": subresource} if subresource else {}),
            **({} if permission.is_clusters else {"namespace": self._namespace}),
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        with api_errors():
            answer = await self._client.create(PATH, review)
        return (answer.get("status") or {}).get("allowed") is True
