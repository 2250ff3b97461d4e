"""Whether the service may do what it needs: it asks the cluster, instead of finding out when a trainer reports.

Owns the list of what is needed beside reading runs, without which the service does not start, and what does not work
if a right is missing. Must not know how health is reported.

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
class Right:
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
    Right("create", "authentication.k8s.io", "tokenreviews", _REPORTS, is_clusters=True),
    Right("get", "", "pods", _REPORTS),
    Right("patch", GROUP, "trainingruns/status", "progress cannot be saved"),
    Right("create", GROUP, "trainingruns", "runs cannot be started"),
    Right("patch", GROUP, "trainingruns", "runs cannot be cancelled, suspended and resumed"),
)

FOR_CALLERS = Right(
    "create", "authorization.k8s.io", "subjectaccessreviews", "nobody can be told what they may do", is_clusters=True
)
"""Needed with AUTH=kubernetes."""


class OwnRights:
    """Asks between :meth:`start` and :meth:`close`. For one event loop. ``needed``: the rights."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        metrics: ClusterMetrics,
        check_seconds: float = CHECK_SECONDS,
        missing_check_seconds: float = MISSING_CHECK_SECONDS,
        needed: tuple[Right, ...] = NEEDED,
    ) -> None:
        self._needed = needed
        self._client = client
        self._namespace = namespace
        self._metrics = metrics
        self._missing: tuple[Right, ...] = ()
        self._checks = RepeatedTask(
            self._check, lambda: missing_check_seconds if self._missing else check_seconds, "check-own-rights"
        )

    @property
    def problem(self) -> str:
        """What is missing and what follows, in words; empty if nothing is."""
        if not self._missing:
            return ""
        rights = "; ".join(f"{right}: {right.without}" for right in self._missing)
        return (
            f"this service account lacks rights ({rights}). Are the RoleBinding aisandbox-api, and the "
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
            missing = tuple([right for right in self._needed if not await self._may(right)])
        except ApiError as error:
            log.info("own rights cannot be checked", why=str(error)[:300])
            return
        for right in self._needed:
            self._metrics.observe_right(right.verb, right.resource, right in missing)
        if missing == self._missing:
            return
        self._missing = missing
        if missing:
            log.error("rights are missing", problem=self.problem)
        else:
            log.info("rights are complete")

    async def _may(self, right: Right) -> bool:
        resource, _, subresource = right.resource.partition("/")
        attributes: Mapping[str, str] = {
            "verb": right.verb,
            "group": right.group,
            "resource": resource,
            **({"subresource": subresource} if subresource else {}),
            **({} if right.is_clusters else {"namespace": self._namespace}),
        }
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        with api_errors():
            answer = await self._client.create(PATH, review)
        return (answer.get("status") or {}).get("allowed") is True
